"""features + labels → Examples in memory → Batch: text [B,T,Dt], audio [B,A,Da], masks, label [B].

Masks are True where a token is real. A side that is absent has no tokens and no width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from multimodal_ser.errors import FeatureError


class Batch(NamedTuple):
    """What a model's forward takes, and the labels [batch]."""

    text: Tensor
    text_mask: Tensor
    audio: Tensor
    audio_mask: Tensor
    label: Tensor


@dataclass(frozen=True)
class Side:
    """One modality of N utterances: tokens [N, T, D] in the store's precision, mask [N, T]."""

    tokens: Tensor
    mask: Tensor

    @classmethod
    def stack(cls, arrays: Sequence[np.ndarray | None]) -> Side:
        """Pads arrays [T_i, D] to the longest; None is a missing modality, all masked.

        Raises:
            FeatureError: widths differ, or there is no array at all.
        """
        widths = {array.shape[1] for array in arrays if array is not None}
        if len(widths) != 1:
            raise FeatureError(f"features of one width are needed, these have {sorted(widths)}")
        longest = max(len(array) for array in arrays if array is not None)
        tokens = torch.zeros(len(arrays), longest, widths.pop(), dtype=torch.float32)
        mask = torch.zeros(len(arrays), longest, dtype=torch.bool)
        for row, array in enumerate(arrays):
            if array is not None:
                tokens[row, : len(array)] = torch.from_numpy(np.asarray(array, np.float32))
                mask[row, : len(array)] = True
        return cls(tokens, mask)

    @classmethod
    def absent(cls, rows: int) -> Side:
        """A modality that no utterance has."""
        return cls(torch.zeros(rows, 0, 0), torch.zeros(rows, 0, dtype=torch.bool))

    @property
    def dim(self) -> int:
        """Width of a token; 0 where the modality is absent."""
        return self.tokens.shape[2]

    def pooled(self) -> np.ndarray:
        """Mean over real tokens, float32 [N, D]; zeros for a missing item."""
        count = self.mask.sum(1, keepdim=True).clamp(min=1)
        pooled: np.ndarray = (self.tokens.float().sum(1) / count).numpy()
        return pooled


@dataclass(frozen=True)
class Examples:
    """N utterances ready for a model: both sides and the class ids [N]."""

    ids: tuple[str, ...]
    text: Side
    audio: Side
    label: Tensor

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: Sequence[int] | np.ndarray | Tensor) -> Examples:
        """The examples at these rows, in this order."""
        index = torch.as_tensor(np.asarray(rows), dtype=torch.long)
        text, audio = (Side(s.tokens[index], s.mask[index]) for s in (self.text, self.audio))
        return Examples(tuple(self.ids[row] for row in index), text, audio, self.label[index])

    def batch(self, index: Tensor) -> Batch:
        """One batch by row numbers [B], in float32."""
        return Batch(
            self.text.tokens[index].float(),
            self.text.mask[index],
            self.audio.tokens[index].float(),
            self.audio.mask[index],
            self.label[index],
        )

    def batches(self, size: int, generator: torch.Generator | None = None) -> Iterator[Batch]:
        """All rows once, shuffled where a generator is given."""
        order = torch.arange(len(self))
        if generator is not None:
            order = torch.randperm(len(self), generator=generator)
        for start in range(0, len(self), size):
            yield self.batch(order[start : start + size])

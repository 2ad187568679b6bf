"""features + labels → Examples in memory → Batch: text [B,T,Dt], audio [B,A,Da], masks, label [B].

Masks are True where a token is real. A modality that is absent has no tokens and a width of 0.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from multimodal_ser.config.record import FeatureSpec
from multimodal_ser.encoders.base import Encoder
from multimodal_ser.errors import FeatureError
from multimodal_ser.features.pool import as_stored

MODALITIES = ("text", "audio")
Modalities: TypeAlias = tuple[Tensor, Tensor, Tensor, Tensor]  # text, its mask, audio, its mask


class Batch(NamedTuple):
    """The inputs of a model's `forward`, and the truth: labels [batch], or `Examples.target`."""

    text: Tensor
    text_mask: Tensor
    audio: Tensor
    audio_mask: Tensor
    truth: Tensor

    def to(self, device: torch.device) -> Batch:
        """The same batch on a device."""
        return Batch(*(part.to(device) for part in self))


@dataclass(frozen=True)
class Modality:
    """One modality of N utterances: tokens [N, T, D] and mask [N, T]."""

    tokens: Tensor
    mask: Tensor

    @classmethod
    def encoded(cls, encoder: Encoder | None, items: Sequence[Any], spec: FeatureSpec) -> Modality:
        """Waveforms or words → the tokens that a run on features of this specification reads.

        Args:
            encoder: that made the features; None where the modality is not read.
            items: None where one is missing.
            spec: of the features.
        """
        frames = of_present(encoder, items) if encoder else [None] * len(items)
        kind: Any = encoder and encoder.info.modality
        return cls.stack(
            [None if x is None else as_stored(x, kind, spec) for x in frames], spec.dim
        )

    @classmethod
    def stack(cls, arrays: Sequence[np.ndarray | None], dim: int | None = None) -> Modality:
        """Pads arrays [T_i, D] to the longest; None stands for a missing modality, which is masked.

        Where all are missing and the width `dim` is given, each has one masked token: networks and
        ONNX need a token axis that is not empty.

        Raises:
            FeatureError: the widths differ, or there is neither an array nor `dim`.
        """
        widths = {array.shape[1] for array in arrays if array is not None}
        widths |= set() if dim is None else {dim}
        if len(widths) != 1:
            raise FeatureError(f"features of one width are needed, these have {sorted(widths)}")
        longest = max((len(array) for array in arrays if array is not None), default=1)
        tokens = torch.zeros(len(arrays), longest, widths.pop(), dtype=torch.float32)
        mask = torch.zeros(len(arrays), longest, dtype=torch.bool)
        for row, array in enumerate(arrays):
            if array is not None:
                tokens[row, : len(array)] = torch.from_numpy(np.asarray(array, np.float32))
                mask[row, : len(array)] = True
        return cls(tokens, mask)

    @classmethod
    def joined(cls, parts: Sequence[Modality]) -> Modality:
        """The rows of several parts, concatenated and padded to the longest."""
        longest = max(part.mask.shape[1] for part in parts)
        padded = [(part, longest - part.mask.shape[1]) for part in parts]
        return cls(
            # pads axis T
            torch.cat([F.pad(part.tokens, (0, 0, 0, more)) for part, more in padded]),
            torch.cat([F.pad(part.mask, (0, more)) for part, more in padded]),
        )

    @classmethod
    def absent(cls, rows: int) -> Modality:
        """A modality that no utterance has."""
        return cls(torch.zeros(rows, 0, 0), torch.zeros(rows, 0, dtype=torch.bool))

    def to(self, device: str) -> Modality:
        """The same on a device."""
        return Modality(self.tokens.to(device), self.mask.to(device))

    @property
    def dim(self) -> int:
        """Width of a token; 0 where the modality is absent."""
        return self.tokens.shape[2]

    def hashes(self, ids: Sequence[str]) -> dict[str, str]:
        """Id → hash of its tokens; utterances without any are left out."""
        rows = zip(ids, self.tokens, self.mask, strict=True)
        return {
            key: hashlib.sha256(tokens[mask].numpy().tobytes()).hexdigest()
            for key, tokens, mask in rows
            if mask.any()
        }

    def pooled(self) -> np.ndarray:
        """Mean over real tokens, float32 [N, D]; zeros for an utterance without any."""
        count = self.mask.sum(1, keepdim=True).clamp(min=1)
        # Padding is zero, so a plain sum over all tokens is the sum over the real ones.
        return (self.tokens.float().sum(1) / count).numpy()


def of_present(function: Callable[[list[Any]], Any], items: Sequence[Any]) -> list[Any]:
    """What a function gives for the items that are not None, and None in the places of the others.

    >>> of_present(lambda numbers: [2 * one for one in numbers], [1, None, 3])
    [2, None, 6]
    """
    present = [one for one in items if one is not None]
    made = iter(function(present) if present else ())
    return [None if one is None else next(made) for one in items]


@dataclass(frozen=True)
class Unlabelled:
    """N utterances without labels: everything that an adaptation may know about its target.

    The type is what prevents target labels from being read: there are none in it.
    """

    text: Modality
    audio: Modality

    def __len__(self) -> int:
        return len(self.text.mask)

    def to(self, device: str) -> Unlabelled:
        """The same on a device."""
        return Unlabelled(self.text.to(device), self.audio.to(device))

    def stream(self, size: int, generator: torch.Generator) -> Iterator[Modalities]:
        """Yields batches without end; every row comes once before any comes again."""
        waiting = torch.empty(0, dtype=torch.long)
        while True:
            while len(waiting) < size:
                waiting = torch.cat([waiting, torch.randperm(len(self), generator=generator)])
            yield modalities(self.text, self.audio, waiting[:size])
            waiting = waiting[size:]


def modalities(text: Modality, audio: Modality, index: Tensor) -> Modalities:
    """The inputs of a model's `forward` for the rows `index` [B], in float32."""
    return (
        text.tokens[index].float(),
        text.mask[index],
        audio.tokens[index].float(),
        audio.mask[index],
    )


@dataclass(frozen=True)
class Examples:
    """N utterances as a model needs them: both modalities and the truth.

    Attributes:
        ids: of the utterances.
        text: one modality.
        audio: the other.
        label: class ids [N]; -1 for an utterance without a class.
        target: shares of the raters' votes, or attributes on 0 … 1, float32 [N, C]; None if classes
            are the task.
    """

    ids: tuple[str, ...]
    text: Modality
    audio: Modality
    label: Tensor
    target: Tensor | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def joined(cls, parts: Sequence[Examples]) -> Examples:
        """The rows of several parts, concatenated; modalities are padded to the longest."""
        return cls(
            tuple(key for part in parts for key in part.ids),
            Modality.joined([part.text for part in parts]),
            Modality.joined([part.audio for part in parts]),
            torch.cat([part.label for part in parts]),
            None if parts[0].target is None else torch.cat([part.truth for part in parts]),
        )

    @property
    def truth(self) -> Tensor:
        """What a model learns: the target [N, C] if there is one, else the labels [N]."""
        return self.label if self.target is None else self.target

    @cached_property
    def places(self) -> dict[str, int]:
        """Id → row."""
        return {key: row for row, key in enumerate(self.ids)}

    def take(self, rows: Sequence[int] | np.ndarray | Tensor) -> Examples:
        """The examples at these rows, in this order."""
        index = torch.as_tensor(np.asarray(rows), dtype=torch.long)
        text, audio = (Modality(s.tokens[index], s.mask[index]) for s in (self.text, self.audio))
        target = None if self.target is None else self.target[index]
        ids = tuple(self.ids[row] for row in index)
        return Examples(ids, text, audio, self.label[index], target)

    def of(self, ids: Iterable[str]) -> Examples:
        """The examples of these utterances, in this order."""
        return self.take([self.places[key] for key in ids])

    def to(self, device: str) -> Examples:
        """The same with both modalities on a device; labels stay on the CPU."""
        return replace(self, text=self.text.to(device), audio=self.audio.to(device))

    def batch(self, index: Tensor) -> Batch:
        """The batch of the rows `index` [B], in float32."""
        return Batch(*modalities(self.text, self.audio, index), self.truth[index])

    def unlabelled(self) -> Unlabelled:
        """The same utterances without their labels."""
        return Unlabelled(self.text, self.audio)

    def batches(self, size: int) -> Iterator[Batch]:
        """All rows in their order, in batches."""
        return map(self.batch, torch.split(torch.arange(len(self)), size))

    def order(self, generator: torch.Generator, groups: Tensor | None = None) -> Tensor:
        """The rows of an epoch [N], shuffled.

        With groups [N] there are as many rows in all, but equally many of every group: large groups
        are sampled without replacement, small ones are repeated.
        """
        order = torch.randperm(len(self), generator=generator)
        return order if groups is None else _balanced(order, groups)


def _balanced(order: Tensor, groups: Tensor) -> Tensor:
    """Takes rows from the groups in turn, each in the given order, repeating small groups."""
    # The shuffled order is kept within each group.
    rows = [order[groups[order] == name] for name in torch.unique(groups)]
    each = math.ceil(len(order) / len(rows))
    dealt = [group.repeat(math.ceil(each / len(group)))[:each] for group in rows]
    # [each, groups] flattened: neighbouring rows are of different groups, so every batch is
    # balanced.
    return torch.stack(dealt, 1).flatten()[: len(order)]


def with_label(outputs: Tensor, truth: Tensor, columns: slice) -> tuple[Tensor, Tensor]:
    """The outputs and the truth of one task, of the utterances that have a label for it.

    Args:
        outputs: of a model, [..., N, C].
        truth: class ids [N], of which nothing is taken away; or targets [N, C], nan where an
            utterance has none.
        columns: of the task.
    """
    if truth.ndim == 1:
        return outputs, truth
    own = truth[:, columns]
    # nan stands where an utterance has no label of this task: it takes no part in its loss or score
    rows = ~own.isnan().any(1)
    return outputs[..., rows, columns], own[rows]

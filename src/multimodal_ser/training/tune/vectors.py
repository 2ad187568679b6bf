"""Vectors: means of a frozen encoder's layers, with everything that a linear probe learns from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from multimodal_ser.common.arrays import Samples
from multimodal_ser.encoders.whisper import WhisperEncoder
from multimodal_ser.training.tune.tuned import log_mels, real_frames


def layer_means(network: WhisperEncoder, waves: Sequence[Samples]) -> Tensor:
    """The means over time of every layer, [N, layers, dim], for canonical waveforms."""
    device = network.positions.device
    mel, lengths = (part.to(device) for part in log_mels(waves, network.conv1.in_channels))
    outputs = network(mel, lengths)
    mask = real_frames(outputs[0], lengths).float()
    return torch.stack([(x.float() * mask).sum(1) / mask.sum(1) for x in outputs], 1).cpu()


@dataclass(frozen=True)
class Vectors:
    """Layer means with everything that a probe learns from.

    Attributes:
        mean: [N, layers, dim] float32.
        label: class ids [N].
        corpus: names [N].
        speaker: names [N], unique over corpora.
        change: how each recording was altered, ``none`` if it was not, [N].
    """

    mean: NDArray[np.float32]
    label: NDArray[np.int64]
    corpus: NDArray[np.str_]
    speaker: NDArray[np.str_]
    change: NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.label)

    def where(self, keep: NDArray[np.bool_]) -> Vectors:
        """The rows where `keep` is True."""
        return Vectors(*(getattr(self, name)[keep] for name in self.__dataclass_fields__))

    @staticmethod
    def joined(parts: Sequence[Vectors]) -> Vectors:
        """Concatenates parts."""
        names = Vectors.__dataclass_fields__
        return Vectors(*(np.concatenate([getattr(p, name) for p in parts]) for name in names))

"""The contract of every encoder, and what each declares about its training data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

Saw = Literal["labels", "unlabelled", "no", "unknown"]


@dataclass(frozen=True)
class Exposure:
    """What an encoder's training saw of one corpus, and who says so.

    Attributes:
        saw: ``labels`` (emotions too), ``unlabelled`` (sound or words only), ``no``, ``unknown``.
        source: where that claim comes from, in words that a reader can follow up.
    """

    saw: Saw
    source: str


@dataclass(frozen=True)
class EncoderInfo:
    """What features remember of the encoder that made them.

    Attributes:
        name: key in ENCODERS.
        modality: ``audio`` (16 kHz mono float32 waveforms in) or ``text`` (sentences in).
        dim: width of a frame or token.
        rate: frames a second; 0 for text.
        weights: sha256 of the weights file, hexadecimal.
        layers: which layers stand side by side, such as ``"2,3,4"``.
        exposure: corpus name → what the training saw of it; absent means unknown.
    """

    name: str
    modality: Literal["audio", "text"]
    dim: int
    rate: float
    weights: str
    layers: str
    exposure: Mapping[str, Exposure]


class Encoder(Protocol):
    """A list of waveforms (or sentences) in, a list of float32 arrays [frames, dim] out."""

    info: EncoderInfo

    def __call__(self, items: Sequence[np.ndarray] | Sequence[str]) -> list[np.ndarray]:
        """Encodes a batch; each result equals that of encoding its item alone."""
        ...

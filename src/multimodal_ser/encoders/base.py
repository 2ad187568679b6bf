"""The contract of every encoder, and what each declares about its training data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, Protocol

import numpy as np

from multimodal_ser.errors import EncoderError

# Called between two passes of a network over one long recording: a server then lets others compute.
between_passes: ContextVar[Callable[[], None]] = ContextVar("between_passes", default=lambda: None)

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
        rate: frames a second; 0 for text, and where a recording gives one frame.
        weights: sha256 of the weights file, hexadecimal.
        layers: which layers stand side by side, such as ``"2,3,4"``.
        exposure: corpus name → what the training saw of it; absent means unknown.
        pool: how one vector is made of all frames: their ``mean``, or the ``first`` ([CLS]).
    """

    name: str
    modality: Literal["audio", "text"]
    dim: int
    rate: float
    weights: str
    layers: str
    exposure: Mapping[str, Exposure]
    pool: Literal["mean", "first"] = "mean"


class Encoder(Protocol):
    """A list of waveforms (or sentences) in, a list of float32 arrays [frames, dim] out."""

    info: EncoderInfo

    def __call__(self, items: Sequence[np.ndarray] | Sequence[str]) -> list[np.ndarray]:
        """Encodes a batch; each result equals that of encoding its item alone."""
        ...


def checked_waves(name: str, items: Sequence[object], least: int) -> list[np.ndarray]:
    """The batch as float32 waveforms that an encoder can take.

    Args:
        name: the encoder, for messages.
        items: arrays [samples] of finite floats at 16 kHz.
        least: samples that the encoder needs.

    Raises:
        EncoderError: an item is no such array; the message says which.
    """
    waves = []
    for place, item in enumerate(items):
        wave = np.asarray(item)
        if wave.ndim != 1 or wave.dtype.kind != "f":
            raise EncoderError(
                f"{name}: item {place} is {wave.dtype} of shape {wave.shape}; allowed: float "
                "waveforms [samples] at 16 kHz, as read_audio() gives them"
            )
        if len(wave) < least:
            raise EncoderError(
                f"{name}: item {place} has {len(wave)} samples; it needs at least {least} "
                f"({least / 16:g} ms at 16 kHz); leave the recording out"
            )
        if not np.isfinite(wave).all():
            raise EncoderError(f"{name}: item {place} holds NaN or infinite samples")
        waves.append(np.ascontiguousarray(wave, dtype=np.float32))
    return waves


def checked_texts(name: str, items: Sequence[object]) -> list[str]:
    """The batch as sentences.

    Raises:
        EncoderError: an item is no string; the message says which.
    """
    for place, item in enumerate(items):
        if not isinstance(item, str):
            raise EncoderError(
                f"{name}: item {place} is {type(item).__name__}; allowed: strings "
                "(an utterance without words is the empty string)"
            )
    return [str(item) for item in items]


def windows(samples: int, most: int, step: int) -> list[slice]:
    """Cuts a long recording into the fewest windows that fit, all about equally long.

    Equal windows leave no short rest at the end, which would be encoded without context.

    Args:
        samples: length of the recording.
        most: length of the longest allowed window; a multiple of `step`.
        step: every window but the last is a multiple of it, so that frames follow on.

    >>> windows(70, most=40, step=10)
    [slice(0, 40, None), slice(40, 70, None)]
    """
    count = -(-samples // most)
    edges = [-(-samples * i // (count * step)) * step for i in range(count)] + [samples]
    return [slice(start, end) for start, end in pairwise(edges)]


def chosen_layers(name: str, layers: Sequence[int], depth: int) -> tuple[int, ...]:
    """The layers to take, checked: whole numbers, each once, 1 (first block) to `depth`.

    Raises:
        EncoderError: no layer, a repeated one, or one that the network lacks.
    """
    wanted = tuple(layers)
    if not wanted or len(set(wanted)) < len(wanted) or not set(wanted) <= set(range(1, depth + 1)):
        raise EncoderError(
            f"{name}: layers {list(layers)}; allowed: one or more of 1 to {depth}, each once"
        )
    return wanted

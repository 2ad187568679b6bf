"""The contract of every encoder, and what each declares about its training data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np

from multimodal_ser.errors import EncoderError, one_of

if TYPE_CHECKING:  # listing encoders imports no torch
    import torch

COMPUTE_DTYPES = ("float32", "bfloat16", "float16")  # what networks can compute in

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


UNDECLARED = Exposure("unknown", "nothing is declared")


@dataclass(frozen=True)
class EncoderInfo:
    """What features remember of the encoder that made them.

    Attributes:
        name: key in ENCODERS, or what a hub id or folder makes of it, see `file_name`.
        modality: ``audio`` (16 kHz mono float32 waveforms in) or ``text`` (sentences in).
        dim: width of a frame or token.
        rate: frames a second; 0 for text, and where a recording gives one frame.
        weights: sha256 of the weights file, hexadecimal.
        layers: which layers stand side by side, such as ``"2,3,4"``.
        exposure: corpus name → what the training saw of it; ``*`` is every corpus that is not
            named, and without it they are unknown.
        emotion_labels: whether the training saw emotion labels, of whatever corpus: ``labels``,
            ``no`` or ``unknown``.
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
    emotion_labels: Exposure = UNDECLARED


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


class InContext(str):
    """An utterance's words between what was said before and after them.

    Attributes:
        own: where the utterance's own words begin and end in it.
    """

    own: tuple[int, int]

    def __new__(cls, before: str, words: str, after: str) -> InContext:
        """Joins the three."""
        made = super().__new__(cls, before + words + after)
        made.own = len(before), len(before) + len(words)
        return made

    def __reduce__(self) -> tuple[type[InContext], tuple[str, str, str]]:
        """What a copy in another process is made of."""
        start, end = self.own
        return InContext, (self[:start], self[start:end], self[end:])


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
    return [item for item in items if isinstance(item, str)]


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


@dataclass(frozen=True)
class Piece:
    """A recording, or one window of it.

    Attributes:
        item: its place in the batch.
        start: first of the recording's frames that this piece gives.
        cut: the rows of the input (samples, or filter banks) that pass the network.
        keep: frames of the piece that are given; the others lend context.
    """

    item: int
    start: int
    cut: slice
    keep: slice


def pieces(
    lengths: Sequence[int], whole: int, context: int, stride: int, field: int
) -> list[Piece]:
    """Recordings, the long ones in equal windows that overlap so that each frame has context.

    Args:
        lengths: rows of the input that each recording has.
        whole: frames that pass the network at once.
        context: frames at either inner end of a window that are given by its neighbour.
        stride: rows of the input from one frame to the next.
        field: rows of the input that a frame stands for.

    >>> [(piece.start, piece.cut) for piece in pieces([3, 8], 6, 1, stride=1, field=1)]
    [(0, slice(0, 3, None)), (0, slice(0, 5, None)), (4, slice(3, 8, None))]
    """
    found = []
    for item, length in enumerate(lengths):
        count = (length - field) // stride + 1
        cores = [slice(0, count)] if count <= whole else windows(count, whole - 2 * context, 1)
        for core in cores:
            first, last = max(0, core.start - context), min(count, core.stop + context)
            # Rows after the last frame make none, but count in a norm over the whole recording.
            stop = length if last == count else (last - 1) * stride + field
            keep = slice(core.start - first, core.stop - first)
            found.append(Piece(item, core.start, slice(first * stride, stop), keep))
    return found


def chosen_layers(
    name: str, layers: Sequence[int] | Literal["all"], depth: int, first: int = 1
) -> tuple[int, ...]:
    """The layers to take, checked: whole numbers, each once, 1 (first block) to `depth`.

    Args:
        name: the encoder, for messages.
        layers: those asked for, or ``all``.
        depth: blocks of the network.
        first: 0 where what enters the first block can be taken too.

    Raises:
        EncoderError: no layer, a repeated one, or one that the network lacks.
    """
    allowed = range(first, depth + 1)
    wanted = tuple(allowed if layers == "all" else layers)
    if not wanted or len(set(wanted)) < len(wanted) or not set(wanted) <= set(allowed):
        raise EncoderError(
            f"{name}: layers {list(layers)}; allowed: all, or one or more of {first} to {depth}, "
            "each once"
        )
    return wanted


def torch_dtype(name: str, dtype: str, device: str) -> torch.dtype:
    """What a network computes in.

    Raises:
        EncoderError: an unknown type, or float16 on a CPU, where it is neither fast nor exact.
    """
    import torch

    if dtype not in COMPUTE_DTYPES:
        raise EncoderError(f"{name}: {one_of('dtype', dtype, COMPUTE_DTYPES)}")
    if dtype == "float16" and torch.device(device).type == "cpu":
        raise EncoderError(f"{name}: float16 is for GPUs; on a CPU take bfloat16 or float32")
    found: torch.dtype = getattr(torch, dtype)
    return found


def check_finite(name: str, rows: torch.Tensor, dtype: torch.dtype) -> None:
    """Raises EncoderError where frames overflowed, or the weights are damaged."""
    if not bool(rows.isfinite().all()):
        raise EncoderError(
            f"{name}: frames are not finite in {str(dtype).split('.')[-1]}; the weights are "
            "damaged, or need dtype='float32' or 'bfloat16'"
        )

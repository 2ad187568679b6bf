"""The interface of every encoder, and what each declares about its training data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

import numpy as np

from multimodal_ser.common.arrays import Samples
from multimodal_ser.common.devices import native_bfloat16
from multimodal_ser.errors import EncoderError, counted, one_of

if TYPE_CHECKING:  # listing encoders imports no torch
    import torch

COMPUTE_DTYPES = ("float32", "bfloat16", "float16")  # what networks can compute in
BATCH_SECONDS = 32.0  # of a batch: more gains nothing on a CPU, and takes memory on a small GPU

# Called between two passes of a network over one long recording: a server lets other requests take
# their turn there. A context variable reaches the network without an argument in every signature.
between_passes: ContextVar[Callable[[], None]] = ContextVar("between_passes", default=lambda: None)

_Item = TypeVar("_Item")
Saw = Literal["labels", "unlabelled", "no", "unknown"]


@dataclass(frozen=True)
class Exposure:
    """What an encoder's training saw of one corpus, and the source of that claim.

    Attributes:
        saw: ``labels`` (with emotions), ``unlabelled`` (sound or words only), ``no``, ``unknown``.
        source: where the claim comes from, so that a reader can check it.
    """

    saw: Saw
    source: str


UNDECLARED = Exposure("unknown", "nothing is declared")


@dataclass(frozen=True)
class EncoderInfo:
    """The description of an encoder that feature files store.

    Attributes:
        name: key in ENCODERS, or a name made from hub id or folder, see `file_name`.
        modality: ``audio`` (16 kHz mono float32 waveforms in) or ``text`` (sentences in).
        dim: width of a frame or token.
        rate: frames per second; 0 for text, and for encoders with one frame per recording.
        weights: sha256 of the weights file, hexadecimal.
        layers: the layers that are concatenated, such as ``"2,3,4"``.
        exposure: corpus name → what the training saw of it; ``*`` is every corpus that is not
            named. Without ``*`` it is unknown for those.
        emotion_labels: whether the training saw emotion labels of any corpus: ``labels``, ``no``
            or ``unknown``.
        pool: how all frames become one vector: their ``mean``, or the ``first`` ([CLS]).
        code: a hash of the source of a user's encoder; empty for those of this package.
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
    code: str = ""


class Encoder(Protocol):
    """A list of waveforms (or sentences) in, a list of float32 arrays [frames, dim] out."""

    info: EncoderInfo

    def __call__(self, items: Sequence[np.ndarray] | Sequence[str]) -> list[np.ndarray]:
        """Encodes a batch; an item's result does not depend on the others in the batch."""
        ...


class Placed:
    """An encoder that computes where its network is, which may be moved with a fine-tuned model.

    Attributes:
        network: has parameters.
    """

    network: Any

    @property
    def device(self) -> torch.device:
        """The device of the network."""
        return next(self.network.parameters()).device


def computed_in(encoder: Encoder) -> str:
    """The number format that a loaded encoder's products are in, such as ``float32``."""
    dtype = str(getattr(encoder, "dtype", "float32")).removeprefix("torch.")
    return str(getattr(encoder, "computes", dtype))


def default_dtype(encoder: str, device: str) -> str | None:
    """The default number format of an encoder; None leaves it to the encoder.

    bfloat16 if the CPU has instructions for it, for encoders whose bfloat16 is tested to agree with
    float32 (emotion2vec: cosine of frames ≥ 0.9999).
    """
    tested = encoder.startswith("emotion2vec")
    return "bfloat16" if tested and device == "cpu" and native_bfloat16() else None


def checked_waves(name: str, items: Sequence[object], least: int) -> list[np.ndarray]:
    """Checks a batch and returns it as float32 waveforms.

    Args:
        name: the encoder, for messages.
        items: arrays [samples] of finite floats at 16 kHz.
        least: smallest number of samples that the encoder accepts.

    Raises:
        EncoderError: an item is not such an array; the message says which.
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
            what = f"item {place}" if len(items) > 1 else "the recording"
            raise EncoderError(
                f"{name}: {what} has {counted(len(wave), 'sample')}; it needs at least {least} "
                f"({least / 16:g} ms at 16 kHz); leave it out"
            )
        if not np.isfinite(wave).all():
            raise EncoderError(f"{name}: item {place} holds NaN or infinite samples")
        # A contiguous copy: slices and other types would be copied by torch at every use.
        waves.append(np.ascontiguousarray(wave, dtype=np.float32))
    return waves


class InContext(str):
    """The words of an utterance between the words that were said before and after it.

    Attributes:
        own: positions in the string where the utterance's own words begin and end.
    """

    own: tuple[int, int]

    def __new__(cls, before: str, words: str, after: str) -> InContext:
        """Joins the three parts."""
        made = super().__new__(cls, before + words + after)
        made.own = len(before), len(before) + len(words)
        return made

    def __reduce__(self) -> tuple[type[InContext], tuple[str, str, str]]:
        """Pickles the parts: a plain string's pickle would lose `own` in another process."""
        start, end = self.own
        return InContext, (self[:start], self[start:end], self[end:])


def checked_texts(name: str, items: Sequence[object]) -> list[str]:
    """Checks a batch of sentences and returns it as a list.

    Raises:
        EncoderError: an item is not a string; the message says which.
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

    With equal windows there is no short rest at the end that would be encoded without context.

    Args:
        samples: length of the recording.
        most: length of the longest allowed window; a multiple of `step`.
        step: every window but the last is a multiple of it, so that their frames are contiguous.

    >>> windows(70, most=40, step=10)
    [slice(0, 40, None), slice(40, 70, None)]
    """
    count = -(-samples // most)  # -(-a // b) is a / b rounded up, in whole numbers
    # Edges are rounded up to multiples of `step`, so that every window starts at a whole frame.
    edges = [-(-samples * i // (count * step)) * step for i in range(count)] + [samples]
    return [slice(start, end) for start, end in pairwise(edges)]


def window_shares(lengths: Sequence[int], cuts: Sequence[tuple[int, slice]]) -> Samples:
    """Shares of each recording's length that windows have: [recordings, windows].

    Multiplied with the predictions of the windows, they give those of the recordings.

    Args:
        lengths: of the recordings, in samples.
        cuts: each window's recording, counted from 0, and its samples.
    """
    shares = np.zeros((len(lengths), len(cuts)), np.float32)
    for place, (row, cut) in enumerate(cuts):
        shares[row, place] = (cut.stop - cut.start) / lengths[row]
    return shares


def packed(
    ordered: Iterable[_Item], full: Callable[[list[_Item], _Item], bool]
) -> Iterator[list[_Item]]:
    """Cuts items into batches, in their order: one ends where `full` says so of it and the next.

    >>> list(packed([3, 1, 4], lambda batch, item: sum(batch) + item > 4))
    [[3, 1], [4]]
    """
    batch: list[_Item] = []
    for item in ordered:
        if batch and full(batch, item):
            yield batch
            batch = []
        batch.append(item)
    if batch:
        yield batch


@dataclass(frozen=True)
class Piece:
    """A recording, or one window of it.

    Attributes:
        item: index of the recording in the batch.
        start: index of the first frame of the recording that this piece provides.
        cut: the rows of the input (samples, or filter banks) that go through the network.
        keep: the frames of the piece that are used; the others are context.
    """

    item: int
    start: int
    cut: slice
    keep: slice


def pieces(
    lengths: Sequence[int], whole: int, context: int, stride: int, field: int
) -> list[Piece]:
    """Cuts long recordings into equal windows that overlap, so that each frame has context.

    Args:
        lengths: number of input rows (samples, or filter banks) of each recording.
        whole: largest number of frames that go through the network at once.
        context: number of frames that serve only as context at an end of a window where another
            window follows or precedes.
        stride: input rows from one frame to the next.
        field: input rows that one frame depends on.

    >>> [(piece.start, piece.cut) for piece in pieces([3, 8], 6, 1, stride=1, field=1)]
    [(0, slice(0, 3, None)), (0, slice(0, 5, None)), (4, slice(3, 8, None))]
    """
    found = []
    for item, length in enumerate(lengths):
        count = (length - field) // stride + 1
        cores = [slice(0, count)] if count <= whole else windows(count, whole - 2 * context, 1)
        for core in cores:
            # The first window has no context before it, and the last one none after it.
            first, last = max(0, core.start - context), min(count, core.stop + context)
            # Rows after the last frame make no frame, but norms over the whole recording use them.
            stop = length if last == count else (last - 1) * stride + field
            keep = slice(core.start - first, core.stop - first)
            found.append(Piece(item, core.start, slice(first * stride, stop), keep))
    return found


def chosen_layers(
    name: str, layers: Sequence[int] | Literal["all"], depth: int, first: int = 1
) -> tuple[int, ...]:
    """Checks the layers to take: numbers from 1 (the first block) to `depth`, each once.

    Args:
        name: the encoder, for messages.
        layers: the layers, or ``all``.
        depth: number of blocks of the network.
        first: 0 if the input of the first block can be taken as layer 0.

    Raises:
        EncoderError: no layer is given, one is repeated, or the network lacks one.
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
    """The number type that a network computes in.

    Raises:
        EncoderError: the type is unknown, or float16 on a CPU, where it is slow and inexact.
    """
    import torch

    if dtype not in COMPUTE_DTYPES:
        raise EncoderError(f"{name}: {one_of('dtype', dtype, COMPUTE_DTYPES)}")
    if dtype == "float16" and torch.device(device).type == "cpu":
        raise EncoderError(f"{name}: float16 is for GPUs; on a CPU take bfloat16 or float32")
    return getattr(torch, dtype)


def check_finite(name: str, finite: torch.Tensor, dtype: torch.dtype) -> None:
    """Raises EncoderError if not all frames are finite: they overflowed or weights are damaged."""
    if not bool(finite):
        raise EncoderError(
            f"{name}: frames are not finite in {str(dtype).split('.')[-1]}; the weights are "
            "damaged, or need dtype='float32' or 'bfloat16'"
        )

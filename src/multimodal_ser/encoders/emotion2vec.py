"""audio → frames: emotion2vec and emotion2vec+ (Ma et al., 2023, arXiv:2312.15185).

A frame depends on 400 samples, and there is one every 320 samples (20 ms), 49 in the first second.
The mean over frames is the vector of an utterance. Every recording is normalised as a whole.
Recordings longer than 40 s go through the network in windows of at most 40 s, of which 5 s at
either inner end serve only as context. Attention sees no further than a window, so frames differ
from those of a single pass, by at most 0.7 % on 120 s of speech with random weights
(docs/emotion2vec.md). `emotion2vec_net` is the network, `emotion2vec_files` reads the weights.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from multimodal_ser.common.devices import native_bfloat16
from multimodal_ser.config.settings import SAMPLE_RATE
from multimodal_ser.encoders.base import (
    BATCH_SECONDS,
    COMPUTE_DTYPES,
    EncoderInfo,
    Piece,
    Placed,
    between_passes,
    check_finite,
    checked_waves,
    chosen_layers,
    packed,
    pieces,
    torch_dtype,
)
from multimodal_ser.encoders.emotion2vec_files import (
    UNUSED,
    convert_weights,
    network_from,
    read_checkpoint,
)
from multimodal_ser.encoders.emotion2vec_net import FIELD, STRIDE, Emotion2VecNet, frame_count
from multimodal_ser.encoders.exposure import info_of
from multimodal_ser.encoders.int8 import with_int8
from multimodal_ser.encoders.weights import resolve
from multimodal_ser.errors import EncoderError, one_of

__all__ = ["Emotion2Vec", "convert_weights", "frame_times", "load_emotion2vec"]

_BASE = "emotion2vec-base"
WHOLE, CONTEXT = 40 * 50, 5 * 50  # frames per pass at most; frames of context at an inner end
_GPU_BATCH_SECONDS = 240.0


def frame_times(frames: int) -> np.ndarray:
    """The middle of each frame in seconds from the recording's start, shape [frames].

    >>> frame_times(3).tolist()
    [0.0125, 0.0325, 0.0525]
    """
    return (np.arange(frames) * STRIDE + FIELD / 2) / SAMPLE_RATE


class Emotion2Vec(Placed):
    """emotion2vec with the interface of `Encoder`: waveforms → frames.

    Attributes:
        info: the description that feature files store.
        computes: the number format of its products, such as ``int8 beside bfloat16``.
        labels: classes of the head in order, including ``unuse…``; None without a head.
        whole: largest number of frames in one pass; longer recordings are cut into windows.
    """

    def __init__(
        self,
        network: Emotion2VecNet,
        info: EncoderInfo,
        layers: Sequence[int],
        labels: tuple[str, ...] | None,
        device: str,
        dtype: torch.dtype,
    ) -> None:
        self.network = network.to(device=device, dtype=dtype)
        self.info, self.layers, self.labels = info, tuple(layers), labels
        self.dtype, self.whole = dtype, WHOLE
        self.computes = str(dtype).removeprefix("torch.")

    @property
    def batch_seconds(self) -> float:
        """Seconds of sound that it takes at once; a GPU needs minutes to be busy."""
        return _GPU_BATCH_SECONDS if self.device.type == "cuda" else BATCH_SECONDS

    def in_int8(self) -> None:
        """Quantises the products of the transformer blocks to 8 bits, but not the convolutions.

        Raises:
            EncoderError: the encoder is not on a CPU.
        """
        if self.device.type != "cpu":
            raise EncoderError(f"{self.info.name}: int8 is for CPUs; on a GPU take bfloat16")
        with_int8(self.network.blocks)
        self.computes = f"int8 beside {self.computes}"

    def __call__(self, items: Sequence[np.ndarray] | Sequence[str]) -> list[np.ndarray]:
        """Encodes 16 kHz waveforms into float32 arrays [frames, dim]; see `frame_times`."""
        waves = checked_waves(self.info.name, items, FIELD)
        encoded = [np.empty((frame_count(len(w)), self.info.dim), np.float32) for w in waves]
        for pack, rows in self._encoded(waves, self.layers, lambda pack, rows: rows):
            for piece, frames in zip(pack, _kept(pack, rows), strict=True):
                encoded[piece.item][piece.start : piece.start + len(frames)] = frames.numpy()
        return encoded

    def inputs(self, items: Sequence[np.ndarray]) -> list[Tensor]:
        """The network's input for each waveform: its normalised samples."""
        waves = checked_waves(self.info.name, items, FIELD)
        return [_normalised(wave, *_scale(wave)) for wave in waves]

    def states(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Frames [T, dim] of each input, with gradients if the network is being fine-tuned."""
        rows = torch.cat(self.network(inputs, self.layers), dim=-1)
        return list(rows.split_with_sizes([frame_count(len(x)) for x in inputs]))

    def means(self, items: Sequence[np.ndarray]) -> np.ndarray:
        """Utterance vectors of shape [items, dim], float32: the mean over frames.

        Frames are summed window by window, so that a long recording's frames are never all kept.
        """
        means = self._means(checked_waves(self.info.name, items, FIELD), self.layers)
        return means.float().numpy()

    def classify(self, items: Sequence[np.ndarray]) -> list[dict[str, float]]:
        """Class probabilities from the model's own head: a dict label → probability for each item.

        The head reads the mean over frames. Classes named ``unuse…`` were never trained; they are
        left out, and the others sum to 1.

        Raises:
            EncoderError: the checkpoint has no head, or an item is not a usable waveform.
        """
        head = self.network.head
        if head is None or self.labels is None:
            raise EncoderError(
                f"{self.info.name}: these weights have no head for classes; emotion2vec-plus-seed, "
                "-plus-base and -plus-large have one"
            )
        waves = checked_waves(self.info.name, items, FIELD)
        means = self._means(waves, (len(self.network.blocks),))
        # Softmax in double precision on the CPU, so that probabilities do not depend on the device.
        weight, bias = head.weight.double().cpu(), head.bias.double().cpu()
        used = [i for i, label in enumerate(self.labels) if not label.startswith(UNUSED)]
        rows = (means @ weight.T + bias)[:, used].softmax(-1).tolist()
        return [dict(zip((self.labels[i] for i in used), row, strict=True)) for row in rows]

    def _means(self, waves: list[np.ndarray], layers: Sequence[int]) -> Tensor:
        sums = torch.zeros(len(waves), len(layers) * self.network.sizes.dim, dtype=torch.float64)
        for pack, totals in self._encoded(waves, layers, _sums):
            for piece, total in zip(pack, totals, strict=True):
                sums[piece.item] += total
        return sums / torch.tensor([[frame_count(len(wave))] for wave in waves]).view(-1, 1)

    def _encoded(
        self,
        waves: list[np.ndarray],
        layers: Sequence[int],
        reduce: Callable[[list[Piece], Tensor], Tensor],
    ) -> Iterator[tuple[list[Piece], Tensor]]:
        """Yields packs of pieces, each with what `reduce` makes of its frames, on the CPU.

        The frames are float32 rows [frames, layers × dim] on the device, those of every piece's
        context included; see `_kept`.
        """
        # Mean and deviation are those of the whole recording, not of a window.
        scale = cache(lambda item: _scale(waves[item]))
        windows = pieces([len(wave) for wave in waves], self.whole, CONTEXT, STRIDE, FIELD)
        ahead = int(self.device.type == "cuda")  # it computes while the CPU prepares the next pack
        begun: deque[_Begun] = deque()
        for place, pack in enumerate(_packs(windows, round(self.batch_seconds * SAMPLE_RATE))):
            if place:
                between_passes.get()()
            inputs = [_normalised(waves[p.item][p.cut], *scale(p.item)) for p in pack]
            begun.append(self._begin(pack, inputs, layers, reduce))
            if len(begun) > ahead:
                yield self._finish(begun.popleft())
        yield from map(self._finish, begun)

    def _begin(
        self,
        pack: list[Piece],
        inputs: list[Tensor],
        layers: Sequence[int],
        reduce: Callable[[list[Piece], Tensor], Tensor],
    ) -> _Begun:
        """Encodes a pack; a GPU only has the work in its queue then."""
        with torch.inference_mode():
            rows = torch.cat(self.network(inputs, layers), dim=-1).float()
            finite = rows.isfinite().all()
            if self.device.type != "cuda":  # on the CPU: Apple's GPUs have no double precision
                return _Begun(pack, finite, reduce(pack, rows.cpu()))
            outputs = finite, reduce(pack, rows)
            finite, result = (x.to("cpu", non_blocking=True) for x in outputs)
        done = torch.cuda.current_stream(self.device).record_event()
        return _Begun(pack, finite, result, done)

    def _finish(self, begun: _Begun) -> tuple[list[Piece], Tensor]:
        if begun.done is not None:
            begun.done.synchronize()
        check_finite(self.info.name, begun.finite, self.dtype)
        return begun.pack, begun.result


@dataclass(frozen=True)
class _Begun:
    """A pack that is computed, or that a GPU will have computed once `done` has happened."""

    pack: list[Piece]
    finite: Tensor
    result: Tensor
    done: torch.cuda.Event | None = None


def _kept(pack: Sequence[Piece], rows: Tensor) -> list[Tensor]:
    """The rows of each piece, without those of its context."""
    counts = [frame_count(p.cut.stop - p.cut.start) for p in pack]
    return [x[p.keep] for p, x in zip(pack, rows.split_with_sizes(counts), strict=True)]


def _sums(pack: Sequence[Piece], rows: Tensor) -> Tensor:
    """The sums over each piece's frames, shape [pieces, dim].

    Double precision: a million frames in float32 would lose digits of the mean.
    """
    return torch.stack([frames.sum(0, dtype=torch.float64) for frames in _kept(pack, rows)])


def _scale(wave: np.ndarray) -> tuple[float, float]:
    """Mean and standard deviation of a whole recording, with the epsilon of layer norm in it."""
    mean = float(wave.mean(dtype=np.float64))
    # In blocks of a million samples: a double-precision copy of an hour would take 460 MB.
    step = 1 << 20
    blocks = (wave[i : i + step].astype(np.float64) - mean for i in range(0, len(wave), step))
    # Not a dot product: the threads of numpy's BLAS would then spin on the cores that torch needs.
    squares = sum(float(np.square(block).sum()) for block in blocks)
    return mean, float(np.sqrt(squares / len(wave) + 1e-5))


def _normalised(samples: np.ndarray, mean: float, deviation: float) -> Tensor:
    return torch.from_numpy((samples - np.float32(mean)) / np.float32(deviation))


def _packs(windows: Sequence[Piece], most: int) -> Iterator[list[Piece]]:
    """Pieces sorted by length, in packs of at most `most` samples but at least one piece."""

    def length(piece: Piece) -> int:
        return int(piece.cut.stop - piece.cut.start)

    ordered = sorted(windows, key=length)
    return packed(ordered, lambda pack, piece: sum(map(length, (*pack, piece))) > most)


def load_emotion2vec(
    source: str | Path | None = None,
    device: str = "cpu",
    layers: Sequence[int] | Literal["all"] | None = None,
    revision: str | None = None,
    dtype: str = "float32",
    *,
    known_as: str = _BASE,
) -> Emotion2Vec:
    """Loads emotion2vec; its sizes are read from the weights.

    The options are those of `load_encoder`; no package carries weights.

    Raises:
        EncoderError: the weights are missing, damaged or of another variant, or a layer or type
            is not allowed.
    """
    name = known_as
    if dtype not in (*COMPUTE_DTYPES, "int8"):
        raise EncoderError(f"{name}: {one_of('dtype', dtype, (*COMPUTE_DTYPES, 'int8'))}")
    # For what is not in int8; bfloat16 without instructions for it is slower than float32.
    beside = "bfloat16" if native_bfloat16() else "float32"
    computed = torch_dtype(name, beside if dtype == "int8" else dtype, device)
    weights = resolve(name, source, revision)
    tensors, labels = read_checkpoint(name, weights)
    network = network_from(name, weights.file, tensors)
    _check_variant(name, weights.file, labels)
    depth = len(network.blocks)
    chosen = chosen_layers(name, (depth,) if layers is None else layers, depth)
    rate = SAMPLE_RATE / STRIDE
    info = info_of(name, "audio", weights, chosen, width=network.sizes.dim, rate=rate)
    encoder = Emotion2Vec(network, info, chosen, labels, device, computed)
    if dtype == "int8":
        encoder.in_int8()
    return encoder


def _check_variant(variant: str, file: Path, labels: tuple[str, ...] | None) -> None:
    """Refuses the weights of another variant, whose training data is declared separately."""
    if (labels is None) != (variant == _BASE):
        what = "a head for classes" if labels else "no head for classes"
        raise EncoderError(
            f"{variant}: {file} has {what}; emotion2vec-base has none and the plus models have "
            "one: load it by the name that it was published under"
        )

"""The file of a linear probe → vectors and predictions in numpy, as `tuned.Tuned` computes them.

The starter model runs on it, since torch takes seconds to import and hundreds of megabytes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeAlias

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from multimodal_ser.common.arrays import Singles
from multimodal_ser.common.files import tensors_header
from multimodal_ser.encoders.mel import log_mel, mel_filters
from multimodal_ser.errors import SerError

LAYERS = 3  # the last layers of the encoder, which are concatenated
# Samples, 1.6 s: shorter canonical recordings are repeated, since a frozen encoder's first
# positions give other frames and single words would look like another corpus (docs/design.md).
SHORTEST = 25_600
NEAREST = 0.5  # smallest distance that logits are divided by: bounds the confidence
LOUDEST = 1.3  # level of the loudest bin, in Whisper's log-mel of speech that peaks near 0.5
_NORM = 1e-5  # the epsilon of torch's layer norm
_CACHED = 16_384  # numbers, 64 KiB: several arrays of so many fit into a core's second-level cache


Shared: TypeAlias = Callable[[Callable[[slice], Singles], int], Singles]
"""``shared(step, size)`` sums ``step(slice)`` over slices that together are ``range(size)``.

The slices are of attention heads or of hidden features, and may be divided among cores."""


def whole(step: Callable[[slice], Singles], size: int) -> Singles:
    """The `Shared` of one core: a single slice."""
    return step(slice(0, size))


class NumpyProbe:
    """Whisper's first blocks and a linear probe of their means over time.

    Attributes:
        classes: class names in order.
        card: the model card, in Markdown.
        threshold: confidence below which a prediction is ``uncertain``.
        references: mean vector of each class in training, [C, V].
        shares: assumed frequencies of the classes, [C].
        steps: largest number of frames of 20 ms.
    """

    def __init__(self, file: Path) -> None:
        """Reads what `tuned.save_tuned` wrote of a linear probe.

        Raises:
            SerError: the file is not of that kind.
        """
        try:
            header = tensors_header(file, "tuned")
            state = {key: np.asarray(v, np.float32) for key, v in load_file(file).items()}
            self.classes = tuple(header["classes"])
            self.card, self.heads = header["card"], header["heads"]
            self.threshold = float(state["least_confidence"])
            self.references, self.shares = state["centres"], state["shares"]
            self.steps = len(state["encoder.positions"])
            self.depth = len({key.split(".")[2] for key in state if ".blocks." in key})
            self.filters = mel_filters(state["encoder.conv1.weight"].shape[1]).astype(np.float32)
        except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
            raise SerError(f"{file}: not a linear probe of this project ({error!r})") from error
        # Transposed once, to a layout that numpy's matrix products read without a copy.
        self._state = {
            key: np.ascontiguousarray(_transposed(value)) for key, value in state.items()
        }

    def pooled(self, wave: Singles, shared: Shared = whole) -> Singles:
        """The input of the head, [V], for a waveform [samples] of up to 30 s.

        Args:
            wave: [samples].
            shared: divides the work of its blocks among cores; one core by default.
        """
        mel = log_mel(wave, self.filters)  # [T, mels]
        mel += np.float32(LOUDEST) - mel.max()
        x = gelu(self._linear("encoder.conv1", _taps(mel, 1)))
        x = gelu(self._linear("encoder.conv2", _taps(x, 2)))  # [T / 2, D]
        x += self._state["encoder.positions"].T[: len(x)]
        means = []
        for block in range(self.depth):
            x = self._block(f"encoder.blocks.{block}.", x, shared)
            means.append(x.mean(0))
        if "encoder.norm.weight" in self._state:
            means[-1] = self._normed("encoder.norm", x).mean(0)
        return self._linear("head", np.concatenate(means[-LAYERS:]))

    def predict_from(self, vectors: Singles) -> tuple[Singles, Singles]:
        """Vectors [N, V] → logits [N, C] and embeddings [N, H]."""
        embeddings = self._linear("span", vectors)
        distance = np.maximum(np.square(vectors).mean(1), NEAREST)
        # Divided by the distance from the training data, see `probe.Probe.logits`.
        factor = self._state["temperature"] / distance[:, None]
        return self._linear("out", embeddings) * factor + np.log(self.shares), embeddings

    def _linear(self, name: str, x: Singles) -> Singles:
        product = x @ self._state[f"{name}.weight"]
        product += self._state[f"{name}.bias"]
        return product

    def _normed(self, name: str, x: Singles) -> Singles:
        unit = x - x.mean(1, keepdims=True)
        unit /= np.sqrt(np.square(unit).mean(1, keepdims=True) + np.float32(_NORM))
        unit *= self._state[f"{name}.weight"]
        unit += self._state[f"{name}.bias"]
        return unit

    def _block(self, name: str, x: Singles, shared: Shared) -> Singles:
        """One pre-norm transformer block, [T, D] → [T, D]; see `encoders.whisper`.

        Attention heads add to the result independently of each other, and so do hidden features of
        the feed-forward layers: cores have to wait for each other only twice in a block. Each core
        reads only its part of the weights; if the frames were divided instead, each would read all
        (Shoeybi et al., 2019, arXiv:1909.08053, section 3).
        """
        heads = partial(self._attended, name, self._normed(f"{name}norm1", x))
        x = x + shared(heads, self.heads)
        x += self._state[f"{name}out.bias"]
        features = partial(self._widened, name, self._normed(f"{name}norm2", x))
        x += shared(features, len(self._state[f"{name}down.weight"]))
        x += self._state[f"{name}down.bias"]
        return x

    def _attended(self, name: str, x: Singles, heads: slice) -> Singles:
        """What some attention heads add to the frames, [T, D] → [T, D].

        One head after the other: the scores of one, [T, T], are still in the cache when they are
        used, and those of all would be 72 MB for 30 s.
        """
        dim = x.shape[1]
        width = dim // self.heads
        rows = slice(heads.start * width, heads.stop * width)
        weight, bias = (self._state[f"{name}qkv.{part}"] for part in ("weight", "bias"))
        queries, keys, values = (
            x @ weight[:, at + rows.start : at + rows.stop] + bias[at + rows.start : at + rows.stop]
            for at in (0, dim, 2 * dim)
        )
        context = np.empty_like(values)
        for head in range(0, context.shape[1], width):
            own = slice(head, head + width)
            scores = queries[:, own] @ keys[:, own].T
            scores /= np.float32(np.sqrt(width))
            scores -= scores.max(1, keepdims=True)  # so that exp cannot overflow
            np.exp(scores, out=scores)
            scores /= scores.sum(1, keepdims=True)
            context[:, own] = scores @ values[:, own]
        return context @ self._state[f"{name}out.weight"][rows]

    def _widened(self, name: str, x: Singles, features: slice) -> Singles:
        """What some hidden features of the feed-forward layers add to the frames, [T, D]."""
        wide = x @ self._state[f"{name}up.weight"][:, features]
        wide += self._state[f"{name}up.bias"][features]
        return gelu(wide) @ self._state[f"{name}down.weight"][features]


def _transposed(value: Singles) -> Singles:
    """A weight of torch, [E, D] or [E, D, taps] of a convolution, as the W of `x @ W`."""
    return value.T.reshape(-1, len(value)) if value.ndim > 1 else value


def _taps(x: Singles, stride: int) -> Singles:
    """The three taps of a convolution padded by one, side by side: [T, D] → [T / stride, 3 · D].

    The convolution of them is one matrix product.
    """
    wide = np.pad(x, ((1, 1), (0, 0)))
    return np.concatenate([wide[tap : tap + len(x) : stride] for tap in range(3)], 1)


def gelu(x: Singles) -> Singles:
    """X · Φ(x), with the error function of Abramowitz & Stegun (1964), 7.1.26; error below 2e-7.

    >>> [round(float(y), 3) for y in gelu(np.array([-1.0, 0.0, 1.0], np.float32))]
    [-0.159, 0.0, 0.841]
    """
    made = np.empty_like(x)
    given, out = x.reshape(-1), made.reshape(-1)
    # In pieces that stay in the processor's cache during all steps, and in place: five times faster
    # than one step after the other over the whole array, which waits for memory.
    for start in range(0, len(given), _CACHED):
        piece = slice(start, start + _CACHED)
        size = np.abs(given[piece])
        z = size * np.float32(0.5**0.5)
        t = 1 / (1 + np.float32(0.3275911) * z)
        # The polynomial of 7.1.26 in t, by Horner's rule.
        tail = np.float32(1.061405429) * t
        for number in (-1.453152027, 1.421413741, -0.284496736, 0.254829592):
            tail += np.float32(number)
            tail *= t
        tail *= np.exp(-z * z)
        tail *= np.float32(0.5)  # Φ(-|x|)
        np.subtract(np.maximum(given[piece], 0), size * tail, out=out[piece])
    return made

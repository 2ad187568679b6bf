"""16 kHz sound → the probability of speech, 31.25 times per second: silero-vad's network in numpy.

The package `silero-vad` (MIT; Silero Team, 2024) brings the weights. It is not imported, because
importing it sets torch to one thread. Numpy is fast enough for a network of 0.3 M parameters, and
predicting then needs no torch.
"""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from multimodal_ser.audio.speech.finder import FRAME
from multimodal_ser.common.arrays import Samples
from multimodal_ser.common.devices import numpy_threads
from multimodal_ser.errors import SerError

_BEFORE = 64  # samples before a frame that are part of its input
_SIZE, _HOP = 256, 128  # samples of a spectrum, and from one spectrum to the next
_WIDTH = 128  # of the recurrent state


class VadNetwork:
    """Scores several recordings at once, piece by piece; its state is kept between calls."""

    def __init__(self, count: int = 1) -> None:
        """Starts `count` recordings."""
        self._tail = np.zeros((count, _BEFORE), np.float32)
        self._hidden = np.zeros((count, _WIDTH), np.float32)
        self._cell = np.zeros((count, _WIDTH), np.float32)

    def __call__(self, frames: Samples) -> Samples:
        """Frames [count, n, 512] → probabilities of speech [count, n]."""
        if not frames.shape[1]:
            return np.zeros((len(frames), 0), np.float32)
        with numpy_threads()[0].limit(limits=1):
            return self._scores(frames)

    def _scores(self, frames: Samples) -> Samples:
        count, steps, _ = frames.shape
        weights = _weights()
        # [count, n, 64]: the samples before each frame
        tails = np.concatenate([self._tail[:, None], frames[:, :-1, -_BEFORE:]], 1)
        self._tail = frames[:, -1, -_BEFORE:].copy()
        x = _features(np.concatenate([tails, frames], 2).reshape(-1, _BEFORE + FRAME))
        x = (x @ weights["input"] + weights["bias"]).reshape(count, steps, 4 * _WIDTH)
        outputs = np.empty((count, steps, _WIDTH), np.float32)
        # the LSTM, whose gates are in the order input, forget, output, cell. sigmoid(x) =
        # (1 + tanh(x / 2)) / 2, where the halving is in the weights: one tanh for all gates.
        for step in range(steps):
            gates = np.tanh(x[:, step] + self._hidden @ weights["hidden"])
            enter, keep, leave = np.split(0.5 + 0.5 * gates[:, : 3 * _WIDTH], 3, axis=1)
            self._cell = np.asarray(keep * self._cell + enter * gates[:, 3 * _WIDTH :], np.float32)
            self._hidden = np.asarray(leave * np.tanh(self._cell), np.float32)
            outputs[:, step] = self._hidden
        out = np.maximum(outputs, 0) @ weights["output"] + weights["output_bias"]
        return np.asarray(1 / (1 + np.exp(-out[..., 0])), np.float32)


def _features(sound: Samples) -> Samples:
    """Frames with the samples before them [N, 576] → the input of the LSTM [N, 128]."""
    weights = _weights()
    mirrored = np.concatenate([sound, sound[:, -2 : -_BEFORE - 2 : -1]], 1)
    cuts = np.stack([mirrored[:, at : at + _SIZE] for at in range(0, 512, _HOP)], 1)
    waves = cuts @ weights["stft"]
    half = waves.shape[2] // 2
    # The STFT is a matrix of cosines and sines; the magnitude joins the two halves.
    x = np.sqrt(waves[..., :half] ** 2 + waves[..., half:] ** 2)
    for number, stride in ((1, 1), (2, 2), (3, 2), (4, 1)):
        x = _convolved(x, weights[f"conv{number}"], weights[f"bias{number}"], stride)
    return x[:, 0]


def _convolved(x: Samples, kernel: Samples, bias: Samples, stride: int) -> Samples:
    """X [N, T, D], kernel [3 · D, E] → relu of the convolution, padded by one: [N, T / stride, E].

    With a single step only the middle tap meets data, so the taps on the padding are skipped.
    """
    count, steps, dim = x.shape
    if steps == 1:
        return np.maximum(x @ kernel[dim : 2 * dim] + bias, 0)
    wide = np.zeros((count, steps + 2, dim), np.float32)
    wide[:, 1:-1] = x
    cuts = [wide[:, tap : tap + steps : stride] for tap in range(3)]
    return np.maximum(np.concatenate(cuts, 2) @ kernel + bias, 0)


@cache
def _weights() -> dict[str, Any]:
    """The tensors of the network, transposed for numpy's products; read once."""
    file = weights_file()
    try:
        given = load_file(file)
        tensors = {"stft": given["stft_conv.weight"][:, 0].T}
        for number in range(1, 5):
            kernel = given[f"conv{number}.weight"]  # [E, D, 3]
            tensors[f"conv{number}"] = kernel.transpose(2, 1, 0).reshape(-1, len(kernel))
            tensors[f"bias{number}"] = given[f"conv{number}.bias"]
        # torch's order of gates is input, forget, cell, output; three of them are halved for the
        # tanh.
        order = np.concatenate([np.r_[:256], np.r_[384:512], np.r_[256:384]])
        half = np.repeat(np.array([0.5, 1.0], np.float32), (3 * _WIDTH, _WIDTH))
        tensors["input"] = given["lstm_cell.weight_ih"][order].T * half
        tensors["hidden"] = given["lstm_cell.weight_hh"][order].T * half
        bias = given["lstm_cell.bias_ih"] + given["lstm_cell.bias_hh"]
        tensors["bias"] = bias[order] * half
        tensors["output"] = given["final_conv.weight"][:, :, 0].T
        tensors["output_bias"] = given["final_conv.bias"]
    except (KeyError, ValueError, IndexError, OSError, SafetensorError) as error:
        raise SerError(f"{file}: not the weights of silero-vad 6 ({error!r})") from error
    return {name: np.ascontiguousarray(value, np.float32) for name, value in tensors.items()}


def weights_file() -> Path:
    """The weights of the installed package `silero-vad`.

    Raises:
        SerError: it is not installed, or is older than 6.2.3.
    """
    spec = importlib.util.find_spec("silero_vad")
    for folder in (spec and spec.submodule_search_locations) or ():
        file = Path(folder) / "data" / "silero_vad_16k.safetensors"
        if file.is_file():
            return file
    raise SerError(
        "silero-vad, which finds speech, is not installed or is older than 6.2.3; "
        "`pip install --no-deps 'silero-vad>=6.2.3'` brings its weights (11 MB; the torch that "
        "it asks for is not needed here), and `--vad energy` goes by the level alone"
    )

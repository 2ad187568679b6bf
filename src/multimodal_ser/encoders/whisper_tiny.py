"""audio → frames: the encoder of whisper-tiny.en (Radford et al., 2022), 50 frames a second.

Read from CTranslate2's float16 file, which the offline package carries, or from the hub's
safetensors. Recordings are not padded to 30 s: a batch is masked instead, so the cost is that
of the sound. Longer recordings are encoded in windows of 30 s, the length of its positions.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from multimodal_ser.errors import EncoderError

SAMPLE_RATE = 16_000
N_FFT, HOP, N_MELS = 400, 160, 80
MAX_FRAMES = 3_000  # mel frames in 30 s
_DTYPES = {0: "<f4", 1: "<i1", 2: "<i2", 3: "<i4", 4: "<f2"}


def mel_filters() -> np.ndarray:
    """Slaney's mel filter bank of shape [201, 80] for 16 kHz, area-normalised, as Whisper uses."""
    freqs = np.linspace(0, SAMPLE_RATE / 2, N_FFT // 2 + 1)
    step, knee = 200.0 / 3, 1000.0
    log_step = np.log(6.4) / 27

    def to_mel(hz: float) -> float:
        return hz / step if hz < knee else knee / step + np.log(hz / knee) / log_step

    mels = np.linspace(to_mel(0.0), to_mel(SAMPLE_RATE / 2), N_MELS + 2)
    linear = mels * step
    edges = np.where(mels < knee / step, linear, knee * np.exp(log_step * (mels - knee / step)))
    rise = (freqs[:, None] - edges[None, :-2]) / np.diff(edges)[:-1]
    fall = (edges[None, 2:] - freqs[:, None]) / np.diff(edges)[1:]
    return np.maximum(0, np.minimum(rise, fall)) * (2.0 / (edges[2:] - edges[:-2]))


class Block(nn.Module):
    """One pre-norm transformer block of width `dim`; x is [batch, frames, dim]."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)
        self.norm2 = nn.LayerNorm(dim)
        self.up = nn.Linear(dim, 4 * dim)
        self.down = nn.Linear(4 * dim, dim)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        b, t, d = x.shape
        qkv = self.qkv(self.norm1(x)).view(b, t, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(*qkv.unbind(0), attn_mask=mask)  # (b, h, t, d/h)
        x = x + self.out(attended.transpose(1, 2).reshape(b, t, d))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class WhisperEncoder(nn.Module):
    """The network alone: log-mel of shape [batch, 80, frames] to a list of layer outputs."""

    def __init__(self, dim: int = 384, heads: int = 6, depth: int = 4) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(N_MELS, dim, 3, padding=1)
        self.conv2 = nn.Conv1d(dim, dim, 3, stride=2, padding=1)
        self.positions = nn.Parameter(torch.zeros(MAX_FRAMES // 2, dim), requires_grad=False)
        self.blocks = nn.ModuleList(Block(dim, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(dim)

    def forward(self, mel: Tensor, lengths: Tensor) -> list[Tensor]:
        """Encodes a padded batch.

        Args:
            mel: log-mel of shape [batch, 80, frames], zero beyond each item's end.
            lengths: mel frames of each item, shape [batch].

        Returns:
            The output of every block, each [batch, (frames + 1) // 2, dim]; the last one has the
            final layer norm. Steps beyond (length + 1) // 2 are undefined.
        """
        steps = torch.arange(mel.shape[-1], device=mel.device)
        x = F.gelu(self.conv1(mel))
        # The bias fills the padding; a single item would see the convolution's zeros here.
        x = x * (steps < lengths[:, None])[:, None]
        x = F.gelu(self.conv2(x)).transpose(1, 2)  # (b, t, d)
        x = x + self.positions[: x.shape[1]]
        real = steps[: x.shape[1]] < ((lengths + 1) // 2)[:, None]
        mask = None if bool(real.all()) else real[:, None, None]
        outputs = []
        for block in self.blocks:
            x = block(x, mask)
            outputs.append(x)
        outputs[-1] = self.norm(x)
        return outputs

"""audio → frames: Whisper's encoder of any size (Radford et al., 2022), 50 frames a second.

Unlike in Whisper itself, recordings are not padded to 30 s. Attention is masked instead, so that
the cost depends on the length of the sound. Longer recordings are encoded in windows of at most
30 s, the length of the network's positions. `whisper_files` reads the weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from multimodal_ser.config.settings import SAMPLE_RATE
from multimodal_ser.encoders.base import (
    EncoderInfo,
    Placed,
    between_passes,
    checked_waves,
    chosen_layers,
    windows,
)
from multimodal_ser.encoders.exposure import info_of
from multimodal_ser.encoders.mel import HOP, LEAST_SAMPLES, MAX_FRAMES, N_FFT, N_MELS, mel_filters
from multimodal_ser.encoders.weights import resolve
from multimodal_ser.encoders.whisper_files import read_encoder
from multimodal_ser.errors import EncoderError

WHISPER_SIZES = {  # (width, blocks) → the name of the encoder of this size
    (384, 4): "whisper-tiny",
    (512, 6): "whisper-base",
    (768, 12): "whisper-small",
    (1024, 24): "whisper-medium",
    (1280, 32): "whisper-large",
}
# Where other blocks than the last three are better: whisper-base's last blocks generalise worse to
# other corpora (docs/design.md).
_LAYERS = {"whisper-base": (2, 3, 4)}
_GROUP = 16  # windows per batch


def log_mel_tensor(wave: Tensor, filters: Tensor, window: Tensor) -> Tensor:
    """Whisper's log-mel spectrogram, without its padding to 30 s.

    Args:
        wave: shape [samples], 16 kHz.
        filters: shape [201, mels], see `mel_filters`.
        window: Hann window of shape [400].

    Returns:
        Shape [mels, samples // 160]: log10 power, at most 8 below the loudest bin, mapped by
        (x + 4) / 4.
    """
    # The last frame is dropped and the constants are Whisper's own: its weights expect them.
    spectrum = torch.stft(wave, N_FFT, HOP, window=window, return_complex=True)[:, :-1]
    power = (filters.T @ spectrum.abs().square()).clamp(min=1e-10).log10()
    return (torch.maximum(power, power.max() - 8.0) + 4.0) / 4.0


def padded_mels(mels: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Log-mels [mels, T_i] → one batch [B, mels, T], zero beyond each one's end; lengths [B]."""
    lengths = torch.tensor([mel.shape[1] for mel in mels], device=mels[0].device)
    batch = mels[0].new_zeros(len(mels), len(mels[0]), int(lengths.max()))
    for row, mel in zip(batch, mels, strict=True):
        row[:, : mel.shape[1]] = mel
    return batch, lengths


class _Block(nn.Module):
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
        """Lets frames attend where `mask`, broadcast to [batch, heads, query, key], is True."""
        b, t, d = x.shape
        split = self.qkv(self.norm1(x)).view(b, t, 3, self.heads, -1)  # (b, t, 3, h, d/h)
        q, k, v = split.permute(2, 0, 3, 1, 4).unbind(0)  # each (b, h, t, d/h)
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)  # (b, h, t, d/h)
        x = x + self.out(attended.transpose(1, 2).reshape(b, t, d))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class WhisperEncoder(nn.Module):
    """The network: log-mel of shape [batch, mels, frames] → the outputs of all layers."""

    def __init__(
        self,
        dim: int = 384,
        heads: int = 6,
        depth: int = 4,
        mels: int = N_MELS,
        steps: int = MAX_FRAMES // 2,
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(mels, dim, 3, padding=1)
        self.conv2 = nn.Conv1d(dim, dim, 3, stride=2, padding=1)
        # Whisper's positions are fixed sinusoids, stored in its weights; fine-tuning leaves them
        # alone.
        self.positions = nn.Parameter(torch.zeros(steps, dim), requires_grad=False)
        self.blocks = nn.ModuleList(_Block(dim, heads) for _ in range(depth))
        self.norm: nn.Module = nn.LayerNorm(dim)

    def cut(self, depth: int) -> WhisperEncoder:
        """Keeps only the first `depth` blocks, in place.

        The final layer norm belongs to the last block of the whole network and is removed with it.
        """
        if depth < len(self.blocks):
            self.blocks, self.norm = self.blocks[:depth], nn.Identity()
        return self

    def forward(self, mel: Tensor, lengths: Tensor) -> list[Tensor]:
        """Encodes a padded batch.

        Args:
            mel: log-mel of shape [batch, mels, frames], zero beyond each item's end.
            lengths: mel frames of each item, shape [batch].

        Returns:
            The output of every block, each [batch, (frames + 1) // 2, dim]; the final layer norm is
            applied to the last. Steps beyond (length + 1) // 2 of an item are undefined.
        """
        steps = torch.arange(mel.shape[-1], device=mel.device)
        x = F.gelu(self.conv1(mel))  # (b, d, frames)
        # The bias of conv1 made the padding non-zero. An item alone would have conv2's zero padding
        # here, so it is set to zero again: results must not depend on the batch.
        x = x * (steps < lengths[:, None])[:, None]
        x = F.gelu(self.conv2(x)).transpose(1, 2)  # (b, t, d)
        x = x + self.positions[: x.shape[1]]
        real = steps[: x.shape[1]] < ((lengths + 1) // 2)[:, None]
        # Without a mask torch can take its faster attention kernels.
        mask = None if bool(real.all()) else real[:, None, None]  # (b, 1, 1, keys)
        return block_outputs(self.blocks, self.norm, x, mask)


def block_outputs(
    blocks: nn.ModuleList, norm: nn.Module, x: Tensor, mask: Tensor | None
) -> list[Tensor]:
    """The output of each block for x (b, t, d), that of the last one after the final norm."""
    outputs = []
    for block in blocks:
        x = block(x, mask)
        outputs.append(x)
    outputs[-1] = norm(x)
    return outputs


class Whisper(Placed):
    """Whisper's encoder with the interface of `Encoder`: waveforms → frames."""

    def __init__(
        self, network: WhisperEncoder, info: EncoderInfo, layers: Sequence[int], device: str
    ) -> None:
        self.network = network.to(device).eval().requires_grad_(False)
        self.info, self.layers = info, layers
        self.filters = torch.from_numpy(mel_filters(network.conv1.in_channels)).float().to(device)
        self.window = torch.hann_window(N_FFT, device=device)
        self.most = len(network.positions) * 2 * HOP  # samples: conv2 halves the mel frames

    @torch.inference_mode()
    def __call__(self, items: Sequence[np.ndarray] | Sequence[str]) -> list[np.ndarray]:
        """Encodes 16 kHz waveforms into arrays [frames, dim]."""
        waves = checked_waves(self.info.name, items, LEAST_SAMPLES)
        cuts = [
            (i, cut)
            for i, wave in enumerate(waves)
            for cut in windows(len(wave), self.most, 2 * HOP)
        ]
        # Windows of like lengths share a batch, so that little of it is padding.
        order = sorted(cuts, key=lambda item: item[1].stop - item[1].start)
        frames: dict[tuple[int, int], np.ndarray] = {}
        for start in range(0, len(order), _GROUP):
            if start:
                between_passes.get()()
            group = order[start : start + _GROUP]
            encoded = self.states(self.inputs([waves[i][cut] for i, cut in group]))
            for (i, cut), states in zip(group, encoded, strict=True):
                frames[i, cut.start] = states.cpu().numpy()
        # Back in the order of the recordings, with the windows of each in order.
        joined: list[list[np.ndarray]] = [[] for _ in waves]
        for i, cut in cuts:
            joined[i].append(frames[i, cut.start])
        return [np.concatenate(parts) for parts in joined]

    def inputs(self, items: Sequence[np.ndarray]) -> list[Tensor]:
        """The network's input for each waveform of at most 30 s: its log-mel [mels, T]."""
        device = self.device
        self.filters, self.window = self.filters.to(device), self.window.to(device)
        return [
            log_mel_tensor(torch.from_numpy(item).to(device), self.filters, self.window)
            for item in checked_waves(self.info.name, items, LEAST_SAMPLES)
        ]

    def states(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Frames [T, dim] of each input, with gradients if the network is being fine-tuned."""
        batch, lengths = padded_mels(inputs)
        outputs = self.network(batch, lengths)
        # [B, T, layers · D]
        joined = torch.cat([outputs[layer - 1] for layer in self.layers], dim=-1)
        steps = ((lengths + 1) // 2).tolist()
        return [frames[:count] for frames, count in zip(joined, steps, strict=True)]


def load_whisper(
    source: str | Path | None = None,
    device: str = "cpu",
    layers: Sequence[int] | Literal["all"] | None = None,
    revision: str | None = None,
    *,
    known_as: str = "whisper-tiny",
) -> Whisper:
    """Loads Whisper's encoder.

    The options are those of `load_encoder`. By default the last three blocks are read, or 2, 3 and
    4 of whisper-base, whose last blocks generalise worse to other corpora.

    Raises:
        EncoderError: the weights are missing, damaged or of another size, or a layer does not
            exist.
    """
    name = known_as
    weights = resolve(name, source, revision)
    state, heads = read_encoder(name, weights.file)
    network = _network(name, weights.file, state, heads)
    depth, dim = len(network.blocks), network.positions.shape[1]
    # What the training saw is declared by name, so weights of another size must not have this name.
    size = WHISPER_SIZES.get((dim, depth), name)
    if name in WHISPER_SIZES.values() and size != name:
        raise EncoderError(
            f"{name}: {weights.file} holds {size} ({dim} wide, {depth} blocks); "
            f"ask for {size}, or give weights of {name}"
        )
    default = _LAYERS.get(name, range(max(1, depth - 2), depth + 1))
    chosen = chosen_layers(name, default if layers is None else layers, depth)
    info = info_of(name, "audio", weights, chosen, width=dim, rate=SAMPLE_RATE / (2 * HOP))
    return Whisper(network, info, chosen, device)


def _network(name: str, file: Path, state: dict[str, Tensor], heads: int) -> WhisperEncoder:
    try:
        dim, mels, _ = state["conv1.weight"].shape
        depth = len({key.split(".")[1] for key in state if key.startswith("blocks.")})
        if heads < 1 or dim % heads or not depth:
            raise ValueError(f"{heads} heads, {dim} wide, {depth} blocks")
        network = WhisperEncoder(dim, heads, depth, mels, len(state["positions"]))
        network.load_state_dict(state)
    except (KeyError, ValueError, RuntimeError) as error:
        raise EncoderError(
            f"{name}: {file} does not hold a whole Whisper encoder ({error}); fetch it again"
        ) from error
    return network

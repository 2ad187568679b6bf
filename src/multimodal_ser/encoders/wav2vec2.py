"""audio → frames: wav2vec 2.0 (Baevski et al., 2020), 50 frames a second.

The base network normalises its first convolution over the whole time axis (group norm), so zeros
beside a recording would change it: only recordings of the same length share a batch there.
Recordings beyond 30 s are normalised whole and encoded in windows of at most 30 s.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch

from multimodal_ser.encoders.base import (
    EncoderInfo,
    between_passes,
    checked_waves,
    chosen_layers,
    windows,
)
from multimodal_ser.encoders.exposure import exposure_of
from multimodal_ser.encoders.weights import pretrained, resolve

NAME = "wav2vec2"
SAMPLE_RATE = 16_000
MOST = 30 * SAMPLE_RATE
GROUP = 16  # windows that are encoded at a time


class Wav2Vec2:
    """A wav2vec 2.0 network as an encoder of waveforms."""

    def __init__(self, model: Any, info: EncoderInfo, layers: Sequence[int], device: str) -> None:
        self.model, self.info, self.layers = model.to(device), info, layers
        self.device = device
        self.pads = model.config.feat_extract_norm != "group"
        self.stride = int(np.prod(model.config.conv_stride))
        self.least = _receptive_field(model.config)

    @torch.inference_mode()
    def __call__(self, items: Sequence[np.ndarray] | Sequence[str]) -> list[np.ndarray]:
        """Encodes 16 kHz waveforms into arrays [frames, dim]."""
        waves = [_normalised(wave) for wave in checked_waves(NAME, items, self.least)]
        pieces = [(i, wave[cut]) for i, wave in enumerate(waves) for cut in self._cuts(len(wave))]
        frames: dict[int, np.ndarray] = {}
        for places in self._groups([len(piece) for _, piece in pieces]):
            if frames:
                between_passes.get()()
            frames |= zip(places, self._encode([pieces[k][1] for k in places]), strict=True)
        joined: list[list[np.ndarray]] = [[] for _ in waves]
        for place, (i, _) in enumerate(pieces):
            joined[i].append(frames[place])
        return [np.concatenate(parts) for parts in joined]

    def _cuts(self, samples: int) -> list[slice]:
        return windows(samples, MOST // self.stride * self.stride, self.stride)

    def _groups(self, lengths: list[int]) -> Iterator[list[int]]:
        """Places of the pieces that may share a batch."""
        order = sorted(range(len(lengths)), key=lengths.__getitem__)
        for _, same in groupby(order, key=lambda place: 0 if self.pads else lengths[place]):
            places = list(same)
            for start in range(0, len(places), GROUP):
                yield places[start : start + GROUP]

    def _encode(self, pieces: list[np.ndarray]) -> list[np.ndarray]:
        lengths = torch.tensor([len(piece) for piece in pieces])
        batch = torch.zeros(len(pieces), int(lengths.max()))
        for row, piece in zip(batch, pieces, strict=True):
            row[: len(piece)] = torch.from_numpy(piece)
        mask = None if bool((lengths == lengths[0]).all()) else self._mask(lengths)
        states: tuple[torch.Tensor, ...] = self.model(
            batch.to(self.device), attention_mask=mask, output_hidden_states=True
        ).hidden_states
        joined: np.ndarray = (
            torch.cat([states[layer] for layer in self.layers], dim=-1).cpu().numpy()
        )
        counts: list[int] = self.model._get_feat_extract_output_lengths(lengths).tolist()
        return [frames[:count] for frames, count in zip(joined, counts, strict=True)]

    def _mask(self, lengths: torch.Tensor) -> torch.Tensor:
        return (torch.arange(int(lengths.max())) < lengths[:, None]).long().to(self.device)


def _normalised(wave: np.ndarray) -> np.ndarray:
    """Zero mean and unit variance over the utterance, as the network was trained."""
    centred = wave - wave.mean(dtype=np.float64)
    scaled: np.ndarray = centred / np.sqrt(np.mean(centred**2) + 1e-7)
    return scaled.astype(np.float32)


def _receptive_field(config: Any) -> int:
    samples = 1
    for kernel, stride in zip(config.conv_kernel[::-1], config.conv_stride[::-1], strict=True):
        samples = (samples - 1) * stride + kernel
    return samples


def load(
    source: str | Path | None = None,
    device: str = "cpu",
    layers: Sequence[int] | None = None,
    revision: str | None = None,
) -> Wav2Vec2:
    """Loads wav2vec 2.0.

    Args:
        source: local folder or hub id; no package carries its weights.
        device: where torch computes.
        layers: transformer blocks from 1 on that stand side by side; None is the last.
        revision: branch, tag or commit on the hub.

    Raises:
        EncoderError: the weights are missing or damaged, or a layer does not exist.
    """
    from transformers import Wav2Vec2Model

    weights = resolve(NAME, source, revision)
    # Only training draws masks, so their embedding may be missing.
    model = pretrained(NAME, Wav2Vec2Model, weights, optional=("masked_spec_embed",))
    depth = model.config.num_hidden_layers
    chosen = chosen_layers(NAME, (depth,) if layers is None else layers, depth)
    info = EncoderInfo(
        name=NAME,
        modality="audio",
        dim=len(chosen) * model.config.hidden_size,
        rate=SAMPLE_RATE / float(np.prod(model.config.conv_stride)),
        weights=weights.sha256,
        layers=",".join(map(str, chosen)),
        exposure=exposure_of(NAME, weights),
    )
    return Wav2Vec2(model, info, chosen, device)

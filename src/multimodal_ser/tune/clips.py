"""recordings → Clips in memory → batches of log-mel, of like lengths, augmented in training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from multimodal_ser.audio import audio_hash, read_audio
from multimodal_ser.augment import augmented
from multimodal_ser.config import TuneConfig
from multimodal_ser.corpora import Utterance
from multimodal_ser.errors import SerError
from multimodal_ser.tune.tuned import LONGEST, log_mels

MEGABATCH = 20  # batches that are sorted by length together


@dataclass(frozen=True)
class Clips:
    """Recordings in memory: 16 kHz waveforms as int16, and class ids [N]."""

    ids: tuple[str, ...]
    waves: Sequence[NDArray[np.int16]]
    label: Tensor

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def decode(
        cls, rows: Sequence[Utterance], label: Tensor, hashes: Mapping[str, str] | None = None
    ) -> Clips:
        """Decodes recordings; one that cannot be read is an error.

        Args:
            rows: the utterances.
            label: their class ids [N].
            hashes: id → `audio_hash` of what is expected there, as features remember it.

        Raises:
            SerError: an utterance names no recording, it cannot be read, or it is not the one that
                features were made of.
        """
        waves = []
        for row in rows:
            if row.audio is None:
                raise SerError(f"{row.id} names no recording, so an encoder cannot learn from it")
            wave = read_audio(Path(row.audio), start=row.start, end=row.end)
            if hashes and hashes.get(row.id, "") not in ("", audio_hash(wave)):
                raise SerError(
                    f"{row.audio} has changed since the features of {row.id} were made; extract "
                    "them again, so that every model of a table learns from the same recordings"
                )
            waves.append(np.clip(np.round(wave * 32_767), -32_768, 32_767).astype(np.int16))
        return cls(tuple(row.id for row in rows), waves, label)

    def wave(self, row: int) -> NDArray[np.float32]:
        """One recording [samples] as floats from -1 to 1."""
        return self.waves[row].astype(np.float32) / np.float32(32_768)


def batches(
    clips: Clips, config: TuneConfig, seed: int, epoch: int
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """One epoch's batches, of like lengths; the next is made while the present one is used."""
    rng = np.random.default_rng([seed, epoch])
    order = rng.permutation(len(clips))
    size, mega = config.batch_size, config.batch_size * MEGABATCH
    rows: list[NDArray[np.int64]] = []
    for start in range(0, len(order), mega):
        part = sorted(order[start : start + mega], key=lambda row: len(clips.waves[row]))
        rows += [np.asarray(part[k : k + size]) for k in range(0, len(part), size)]
    rng.shuffle(rows)

    def make(place: int) -> tuple[Tensor, Tensor, Tensor]:
        draw = np.random.default_rng([seed, epoch, place])
        waves = [clips.wave(row) for row in rows[place]]
        if not config.augment:
            return *log_mels(waves), clips.label[rows[place]]
        mel, lengths = log_mels([augmented(wave, draw)[:LONGEST] for wave in waves])
        return _masked(mel, lengths, draw), lengths, clips.label[rows[place]]

    with ThreadPoolExecutor(1) as ahead:
        yield from ahead.map(make, range(len(rows)))


def _masked(mel: Tensor, lengths: Tensor, rng: np.random.Generator) -> Tensor:
    """SpecAugment (Park et al., 2019): hides two bands and two stretches of each item."""
    for item, length in zip(mel, lengths.tolist(), strict=True):
        rest = item[:, :length].mean()
        for _ in range(2):
            start, width = rng.integers(0, 70), rng.integers(0, 11)
            item[start : start + width, :length] = rest
            width = rng.integers(0, max(2, length // 10))
            start = rng.integers(0, length - width + 1)
            item[:, start : start + width] = rest
    return mel

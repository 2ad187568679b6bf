"""recordings → Clips in memory → batches of log-mel of similar lengths, augmented in training."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from multimodal_ser.audio import audio_hash, read_audio
from multimodal_ser.audio.augment import augmented
from multimodal_ser.common.arrays import Ints, Singles
from multimodal_ser.config.settings import TuneConfig
from multimodal_ser.corpora import Utterance
from multimodal_ser.encoders.mel import LONGEST_SAMPLES
from multimodal_ser.errors import SerError
from multimodal_ser.features.chunks import has_material

# Batches whose recordings are sorted by length together: enough for little padding, and few enough
# that batches stay random.
MEGABATCH = 20


@dataclass(frozen=True)
class Clips:
    """Recordings in memory.

    Attributes:
        ids: of the utterances [N].
        waves: waveforms at 16 kHz, int16 [samples] each.
        label: class ids [N].
        texts: the words of each utterance, None if it has none; empty if no encoder reads them.
    """

    ids: tuple[str, ...]
    waves: Sequence[NDArray[np.int16]]
    label: Tensor
    texts: Sequence[str | None] = ()

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def decode(
        cls, rows: Sequence[Utterance], label: Tensor, hashes: Mapping[str, str] | None = None
    ) -> Clips:
        """Decodes recordings; any that cannot be read is an error.

        Args:
            rows: the utterances.
            label: their class ids [N].
            hashes: id → `audio_hash` of the recording that its features were made from.

        Raises:
            SerError: an utterance has no recording, it cannot be read, or it is not the one that
                the features were made from.
        """
        waves = []
        for row in rows:
            if row.audio is None:
                raise SerError(
                    f"{row.id} names no recording, so an encoder of audio cannot be trained on it; "
                    "leave such utterances out, or tune that of the words: --tune.modality text"
                )
            wave = read_audio(Path(row.audio), start=row.start, end=row.end)
            if hashes and hashes.get(row.id, "") not in ("", audio_hash(wave)):
                raise SerError(
                    f"{row.audio} has changed since the features of {row.id} were made; extract "
                    "them again, so that every model of a table learns from the same recordings"
                )
            # 16 bits: half the memory of float32, and as exact as the files of most corpora.
            waves.append(np.clip(np.round(wave * 32_768), -32_768, 32_767).astype(np.int16))
        return cls(tuple(row.id for row in rows), waves, label, [_words(row) for row in rows])

    @classmethod
    def words(cls, rows: Sequence[Utterance], label: Tensor) -> Clips:
        """Takes only the words of utterances; no recording is read."""
        # `batch_rows` sorts by the length of `waves`: silence as long as the text, in characters.
        texts = [_words(row) for row in rows]
        silence = [np.zeros(len(text or ""), np.int16) for text in texts]
        return cls(tuple(row.id for row in rows), silence, label, texts)

    def items(
        self, rows: Sequence[int], draw: np.random.Generator | None = None, *, whole: bool = True
    ) -> dict[str, list[Any]]:
        """Waveforms and words of rows.

        Args:
            rows: which recordings.
            draw: augments the waveforms.
            whole: False cuts them to 30 s, which an encoder is trained on at most.
        """
        waves = [self.wave(row) for row in rows]
        if draw is not None:
            waves = [augmented(wave, draw) for wave in waves]
        if not whole:
            waves = [wave[:LONGEST_SAMPLES] for wave in waves]
        return {"audio": waves, "text": [self.texts[row] for row in rows] if self.texts else []}

    def wave(self, row: int) -> Singles:
        """One recording [samples] as floats from -1 to 1."""
        return self.waves[row].astype(np.float32) / np.float32(32_768)


def _words(row: Utterance) -> str | None:
    """The words of an utterance; None where extraction says that it has none."""
    return row.text if has_material(row, "text") else None


Collate: TypeAlias = Callable[[Sequence[int], np.random.Generator | None], tuple[Any, ...]]


def batch_rows(clips: Clips, config: TuneConfig, seed: int, epoch: int) -> list[Ints]:
    """The rows of each batch of one epoch, of similar lengths, in the order of training.

    Args:
        clips: the training part.
        config: the schedule.
        seed: of the order.
        epoch: number of the epoch.
    """
    rng = np.random.default_rng([seed, epoch])
    order = rng.permutation(len(clips))
    size, mega = config.batch_size, config.batch_size * MEGABATCH
    rows: list[Ints] = []
    for start in range(0, len(order), mega):
        part = sorted(order[start : start + mega], key=lambda row: len(clips.waves[row]))
        rows += [np.asarray(part[k : k + size]) for k in range(0, len(part), size)]
    # Batches were formed from short to long; they are used in random order.
    rng.shuffle(rows)
    return rows


def clip_batches(
    clips: Clips,
    rows: Sequence[Ints],
    config: TuneConfig,
    seed: int,
    epoch: int,
    collate: Collate,
) -> Iterator[tuple[tuple[Any, ...], Tensor]]:
    """Yields the batches of one epoch: the model's input, and class ids [B].

    The next batch is prepared while one is used.

    Args:
        clips: the training part.
        rows: of each batch, see `batch_rows`.
        config: the schedule.
        seed: of the augmentation.
        epoch: number of the epoch.
        collate: numbers of rows, and a generator if they are augmented → the model's input.
    """

    def prepare(number: int) -> tuple[tuple[Any, ...], Tensor]:
        # A generator for each batch: what a batch draws does not depend on thread timing or on
        # resuming.
        draw = np.random.default_rng([seed, epoch, number]) if config.augment else None
        return collate(rows[number].tolist(), draw), clips.label[rows[number]]

    with ThreadPoolExecutor(1) as ahead:
        yield from ahead.map(prepare, range(len(rows)))

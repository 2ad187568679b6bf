"""recordings → Vectors: means of a frozen encoder's layers, with and without alterations."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor

from multimodal_ser.audio import read_audio
from multimodal_ser.audio.augment import augmented, over_the_line
from multimodal_ser.audio.speech import canonical, lengthened
from multimodal_ser.common.arrays import Samples
from multimodal_ser.common.files import written_aside
from multimodal_ser.corpora import Utterance
from multimodal_ser.encoders.mel import LONGEST_SAMPLES
from multimodal_ser.encoders.whisper import WhisperEncoder
from multimodal_ser.errors import SerError
from multimodal_ser.training.tune.numpy_probe import SHORTEST
from multimodal_ser.training.tune.tuned import log_mels, real_frames

_CHANGES: dict[str, Callable[[Samples, np.random.Generator, float], Samples]] = {
    "none": lambda wave, draw, rebuild: wave,
    "any": lambda wave, draw, rebuild: augmented(
        wave, draw, codecs=True, rebuild=rebuild, silence=0.5
    ),
    "line": lambda wave, draw, rebuild: over_the_line(wave, draw),
}
_BATCH = 16  # recordings
_HELD = 480  # recordings that are held in memory, and sorted by length, at a time


def layer_means(network: WhisperEncoder, waves: Sequence[Samples]) -> Tensor:
    """The means over time of every layer, [N, layers, dim], for canonical waveforms."""
    device = network.positions.device
    mel, lengths = (part.to(device) for part in log_mels(waves, network.conv1.in_channels))
    outputs = network(mel, lengths)
    mask = real_frames(outputs[0], lengths).float()
    return torch.stack([(x.float() * mask).sum(1) / mask.sum(1) for x in outputs], 1).cpu()


@torch.inference_mode()
def vectors(
    network: WhisperEncoder,
    rows: Sequence[Utterance],
    *,
    change: str = "none",
    rebuild: float = 0.0,
    precision: str = "float32",
) -> Tensor:
    """Layer means [N, layers, dim] of recordings, unchanged or altered.

    Args:
        network: the encoder, cut after the last layer that is wanted.
        rows: their recordings are read, altered and brought to their canonical form.
        change: how recordings are altered: ``none``, ``line`` (a telephone line), or ``any``
            (drawn at random, see `augmented`).
        rebuild: share of recordings that ``any`` rebuilds from spectrograms.
        precision: number format of the encoder's products, float32 or bfloat16.
    """
    result: Tensor | None = None
    for start in range(0, len(rows), _HELD):
        part = list(enumerate(rows[start : start + _HELD], start))
        waves = {place: _prepared(row, change, rebuild) for place, row in part}
        order = sorted(waves, key=lambda place: len(waves[place]))
        for batch in (order[k : k + _BATCH] for k in range(0, len(order), _BATCH)):
            with torch.autocast(
                network.positions.device.type, torch.bfloat16, enabled=precision == "bfloat16"
            ):
                means = layer_means(network, [waves[place] for place in batch])
            if result is None:
                result = torch.zeros(len(rows), *means.shape[1:])
            result[batch] = means
    if result is None:
        raise SerError("there are no recordings to train on")
    return result


def _prepared(row: Utterance, change: str, rebuild: float) -> Samples:
    """Reads and alters a recording; its random alterations depend only on its id."""
    if row.audio is None:
        raise SerError(f"{row.id} names no recording, so nothing can be learnt from it")
    wave = read_audio(Path(row.audio), start=row.start, end=row.end)
    draw = np.random.default_rng([zlib.crc32(change.encode()), zlib.crc32(row.id.encode())])
    wave = _CHANGES[change](wave, draw, rebuild)
    return lengthened(canonical(wave), SHORTEST)[:LONGEST_SAMPLES]


@dataclass(frozen=True)
class Vectors:
    """Layer means with everything that a probe learns from.

    Attributes:
        mean: [N, layers, dim] float32.
        label: class ids [N].
        corpus: names [N].
        speaker: names [N], unique over corpora.
        change: how each recording was altered, see `vectors`, [N].
    """

    mean: NDArray[np.float32]
    label: NDArray[np.int64]
    corpus: NDArray[np.str_]
    speaker: NDArray[np.str_]
    change: NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.label)

    def where(self, keep: NDArray[np.bool_]) -> Vectors:
        """The rows where `keep` is True."""
        return Vectors(*(getattr(self, name)[keep] for name in self.__dataclass_fields__))

    @staticmethod
    def joined(parts: Sequence[Vectors]) -> Vectors:
        """Concatenates parts."""
        names = Vectors.__dataclass_fields__
        return Vectors(*(np.concatenate([getattr(p, name) for p in parts]) for name in names))


def kept_vectors(
    file: Path,
    network: WhisperEncoder,
    rows: Sequence[Utterance],
    label: Sequence[int],
    *,
    change: str = "none",
    rebuild: float = 0.0,
    precision: str = "float32",
) -> Vectors:
    """Reads the vectors from a file that an earlier call wrote, or computes and writes them."""
    if not file.is_file():
        made = vectors(network, rows, change=change, rebuild=rebuild, precision=precision)
        with written_aside(file) as partial:
            save_file({"mean": made}, partial)
    mean = load_file(file)["mean"].numpy()
    if len(mean) != len(rows):
        raise SerError(
            f"{file} holds {len(mean)} vectors, and there are {len(rows)} recordings; remove the "
            "file, and rerun to compute it again"
        )
    return Vectors(
        mean,
        np.asarray(label, np.int64),
        np.array([row.corpus for row in rows]),
        np.array([f"{row.corpus}/{row.speaker}" for row in rows]),
        np.full(len(rows), change),
    )

"""Fits the starter model that the package ships: a linear probe of whisper-base's first layers.

    python scripts/train_starter.py --cremad cremad.jsonl --emodb emodb.jsonl \
        --speakers audeering_speaker_splits.json --out runs/starter

The manifests come from `ser manifest`. CREMA-D's speakers are split as audEERING publishes them, of
which the 74 training and development ones are learnt from and the 17 test ones tested on; of
EmoDB's ten, two are tested on. An interrupted run goes on after the last file of vectors that it
wrote.
"""

from __future__ import annotations

import json
import logging
import sys
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import tyro
from safetensors.torch import load_file, save_file
from torch import Tensor

from multimodal_ser.audio import read_audio
from multimodal_ser.audio.augment import augmented, over_the_line
from multimodal_ser.audio.speech import canonical, lengthened
from multimodal_ser.common.arrays import Samples
from multimodal_ser.common.files import written_aside
from multimodal_ser.corpora import Utterance, read_manifest
from multimodal_ser.corpora.labels import CLASS_SETS
from multimodal_ser.encoders import load_encoder
from multimodal_ser.encoders.mel import LONGEST_SAMPLES
from multimodal_ser.encoders.whisper import Whisper, WhisperEncoder
from multimodal_ser.errors import SerError
from multimodal_ser.predict.unseen import calibrate_on, leave_one_out
from multimodal_ser.training.tune.numpy_probe import SHORTEST
from multimodal_ser.training.tune.probe import (
    ProbeConfig,
    Vectors,
    fit_probe,
    layer_means,
    model_of,
)
from multimodal_ser.training.tune.tuned import save_tuned

LABELS = CLASS_SETS["common6"]
LEARNT = ("train", "dev")  # parts
ENCODER, DEPTH = "whisper-base", 4
EMODB_TEST = ("03", "08")
CALM = {"calm": "neutral"}  # how TurEV-DB's word is read
COPIES = {  # corpus → how its training recordings are changed too → of every which one
    "cremad": {"any": 4, "line": 4},
    "emodb": {"any": 1, "line": 1},
}
# beside one of each of the other four; MELD has 17 joyful, 12 angry and 7 sad utterances to 3
# fearful and 3 disgusted ones (Poria et al., 2019)
RARE = {"disgust": 0.5, "fear": 0.5}
PROBE = ProbeConfig(odds=tuple(RARE.get(name, 1.0) for name in LABELS.classes))
REBUILT = {"cremad": 0.0, "emodb": 0.5}  # CREMA-D is rebuilt already
CHANGES: dict[str, Callable[[Samples, np.random.Generator, float], Samples]] = {
    "none": lambda wave, draw, rebuild: wave,
    "any": lambda wave, draw, rebuild: augmented(
        wave, draw, codecs=True, rebuild=rebuild, silence=0.5
    ),
    "line": lambda wave, draw, rebuild: over_the_line(wave, draw),
}
BATCH = 16  # recordings
HELD = 480  # recordings that are held in memory, and sorted by length, at a time


@dataclass(frozen=True)
class Arguments:
    """The arguments of the script."""

    cremad: Path
    emodb: Path
    speakers: Path
    out: Path
    source: str | None = None
    precision: Literal["float32", "bfloat16"] = "float32"
    probe: ProbeConfig = PROBE


def rows_of(manifest: Path) -> list[Utterance]:
    """The utterances that have one of the classes."""
    return [row for row in read_manifest(manifest) if class_of(row) is not None]


def class_of(row: Utterance) -> int | None:
    """The class id of an utterance."""
    name = LABELS.class_of(row.corpus, CALM.get(row.emotion, row.emotion))
    return None if name is None else LABELS.classes.index(name)


def network(source: str | None, name: str = ENCODER) -> tuple[WhisperEncoder, str]:
    """The encoder's blocks that are read, and the hash of its weights."""
    encoder = load_encoder(name, source)
    assert isinstance(encoder, Whisper)  # noqa: S101 - what ENCODER is
    return encoder.network.cut(DEPTH), encoder.info.weights


def collect(
    out: Path, encoder: WhisperEncoder, rows: Sequence[Utterance], part: str, precision: str
) -> Vectors:
    """Vectors of recordings as they are, and of their changed copies where they are learnt from."""
    corpus = rows[0].corpus
    copies = {"none": 1} | (COPIES.get(corpus, {}) if part in LEARNT else {})
    found = []
    for change, every in copies.items():
        some = rows[::every]
        file = out / "vectors" / f"{corpus}-{part}-{change}.safetensors"
        label = [int(str(class_of(row))) for row in some]
        found.append(
            kept_vectors(
                file, encoder, some, label,
                change=change, rebuild=REBUILT.get(corpus, 0.0), precision=precision,
            )
        )  # fmt: skip
        logging.info("%s, %s, %s: %d vectors", corpus, part, change, len(found[-1]))
    return Vectors.joined(found)


@torch.inference_mode()
def vectors(
    network: WhisperEncoder,
    rows: Sequence[Utterance],
    *,
    change: str,
    rebuild: float,
    precision: str,
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
    for start in range(0, len(rows), HELD):
        part = list(enumerate(rows[start : start + HELD], start))
        waves = {place: prepared(row, change, rebuild) for place, row in part}
        order = sorted(waves, key=lambda place: len(waves[place]))
        for batch in (order[k : k + BATCH] for k in range(0, len(order), BATCH)):
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


def prepared(row: Utterance, change: str, rebuild: float) -> Samples:
    """Reads and alters a recording; its random alterations depend only on its id."""
    if row.audio is None:
        raise SerError(f"{row.id} names no recording, so nothing can be learnt from it")
    wave = read_audio(Path(row.audio), start=row.start, end=row.end)
    draw = np.random.default_rng([zlib.crc32(change.encode()), zlib.crc32(row.id.encode())])
    wave = CHANGES[change](wave, draw, rebuild)
    return lengthened(canonical(wave), SHORTEST)[:LONGEST_SAMPLES]


def kept_vectors(
    file: Path,
    network: WhisperEncoder,
    rows: Sequence[Utterance],
    label: Sequence[int],
    *,
    change: str,
    rebuild: float,
    precision: str,
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


def parts(arguments: Arguments) -> dict[tuple[str, str], list[Utterance]]:
    """Corpus and part → its recordings."""
    lists = json.loads(arguments.speakers.read_text())
    cremad, emodb = rows_of(arguments.cremad), rows_of(arguments.emodb)
    speakers = {part: set(map(str, lists[part])) for part in (*LEARNT, "test")}
    found = {
        ("cremad", part): [row for row in cremad if str(row.speaker) in names]
        for part, names in speakers.items()
    }
    found["emodb", "train"] = [row for row in emodb if row.speaker not in EMODB_TEST]
    found["emodb", "test"] = [row for row in emodb if row.speaker in EMODB_TEST]
    return found


def main(arguments: Arguments) -> None:
    """Makes the vectors, fits the probe, and sets what keeps it honest by corpora left out."""
    out = arguments.out
    encoder, weights = network(arguments.source)
    given = {
        key: collect(out, encoder, rows, key[1], arguments.precision)
        for key, rows in parts(arguments).items()
    }
    train = Vectors.joined([one for (_, part), one in given.items() if part in LEARNT])
    count = len(LABELS.classes)
    calibration = calibrate_on(leave_one_out(train, ("cremad", "emodb"), arguments.probe, count))
    probe = fit_probe(train, arguments.probe, count)
    about = {
        "encoder": ENCODER,
        "weights": weights,
        "canonical": True,
        "learnt": int((train.change == "none").sum()),
        "changed": int((train.change != "none").sum()),
    }
    model = model_of(
        probe, encoder, LABELS.classes, calibration.temperature, calibration.threshold, about=about
    )
    save_tuned(model, out / "model.safetensors")
    logging.info("threshold %.3f, temperature %.3f", calibration.threshold, calibration.temperature)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        main(tyro.cli(Arguments, config=(tyro.conf.OmitArgPrefixes,)))
    except SerError as error:
        sys.exit(f"error: {error}")

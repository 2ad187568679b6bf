"""Fine-tunes whisper-tiny on CREMA-D and EmoDB: the starter model that the package ships.

    python scripts/train_starter.py --cremad cremad.jsonl --emodb emodb.jsonl \
        --speakers audeering_speaker_splits.json --out runs/starter

The manifests come from `ser manifest`. CREMA-D's speakers are split as audEERING publishes them
(56 training, 18 validation, 17 test); of EmoDB's ten, two are tested on and two validate. An
interrupted training goes on where it was.
"""

from __future__ import annotations

import json
import logging
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
import tyro
from rich.progress import Progress

from multimodal_ser.config import TuneConfig
from multimodal_ser.corpora import Utterance, read_manifest
from multimodal_ser.encoders import load_encoder
from multimodal_ser.errors import SerError
from multimodal_ser.folds import Fold, Split, write_split
from multimodal_ser.labels import CLASS_SETS
from multimodal_ser.tune import Clips, Tuned, choose_threshold, predict, save_tuned, tune

LABELS = CLASS_SETS["common6"]
EMODB_SPEAKERS = {"03": "test", "08": "test", "09": "validation", "10": "validation"}
RIGHT = 0.8  # of the answers above the threshold, on the validation part


@dataclass(frozen=True)
class Arguments:
    """What the script is told."""

    cremad: Path
    emodb: Path
    speakers: Path
    out: Path
    seed: int = 0
    tune: TuneConfig = TuneConfig()  # noqa: RUF009 - frozen


def split(rows: list[Utterance], speakers: Path) -> Split:
    """One fold, by the published speaker lists."""
    lists = json.loads(speakers.read_text())
    part = {f"{name}": side for side, names in lists.items() for name in names}
    part = {name: {"dev": "validation"}.get(side, side) for name, side in part.items()}
    sides: dict[str, list[str]] = {"train": [], "validation": [], "test": []}
    for row in rows:
        known = part if row.corpus == "cremad" else EMODB_SPEAKERS
        sides[known.get(str(row.speaker), "train")].append(row.id)
    return Split("audeering+emodb", (Fold("0", *(tuple(ids) for ids in sides.values())),))


def clips(rows: list[Utterance], ids: tuple[str, ...]) -> Clips:
    """Decodes the recordings; one that cannot be read is an error, since counts are published."""
    known = {row.id: row for row in rows}
    mine = [known[key] for key in ids]
    label = [LABELS.index(LABELS.class_of(row.corpus, row.emotion) or "") for row in mine]
    return Clips.decode(mine, torch.tensor(label))


def main(arguments: Arguments) -> None:
    """Trains, calibrates, and writes model.safetensors, history.jsonl and the splits."""
    rows = [
        row
        for path in (arguments.cremad, arguments.emodb)
        for row in read_manifest(path)
        if LABELS.class_of(row.corpus, row.emotion)
    ]
    out = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    made = split(rows, arguments.speakers)
    write_split(made, out / "split.json")
    cremad = [row for row in rows if row.corpus == "cremad"]
    write_split(split(cremad, arguments.speakers), out / "split-cremad.json")
    fold = made.folds[0]
    train, validation = clips(rows, fold.train), clips(rows, fold.validation)
    logging.info("%d training, %d validation recordings", len(train), len(validation))
    torch.manual_seed(arguments.seed)
    encoder = load_encoder("whisper-tiny", arguments.tune.source)
    network = encoder.network.requires_grad_(True)  # type: ignore[attr-defined]
    about = {"encoder": encoder.info.name, "weights": encoder.info.weights}
    config = arguments.tune
    model = Tuned(network, LABELS.classes, config.hidden_dim, config.dropout, about=about)
    with Progress() as bar:
        task = bar.add_task("steps")
        fitted = tune(
            model,
            train,
            validation,
            config,
            arguments.seed,
            checkpoint=out / "checkpoint.safetensors",
            on_step=lambda step, total: bar.update(task, completed=step, total=total),
        )
    (out / "history.jsonl").write_text("".join(json.dumps(row) + "\n" for row in fitted.history))
    probabilities = predict(model, validation).softmax(1).numpy()
    threshold = choose_threshold(probabilities, validation.label.numpy(), RIGHT)
    model.least_confidence.fill_(threshold)
    save_tuned(model, out / "model.safetensors")
    logging.info("threshold %.3f, temperature %.3f", threshold, float(model.temperature))


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        main(tyro.cli(Arguments, config=(tyro.conf.OmitArgPrefixes,)))
    except SerError as error:
        sys.exit(f"error: {error}")

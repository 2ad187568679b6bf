"""Feature files → a finished table: what `ser train` and `ser demo` do."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

import numpy as np

from multimodal_ser.cautions import cautions, cautions_of_folds
from multimodal_ser.config import ModelConfig, TrainConfig, TuneConfig
from multimodal_ser.devices import CPU
from multimodal_ser.errors import SerError, one_of
from multimodal_ser.experiments.protocols import TOKENS, plan_in_domain
from multimodal_ser.experiments.running import make
from multimodal_ser.folds import Split
from multimodal_ser.labels import class_set
from multimodal_ser.material import Material, load_material, pooled, sounds_of
from multimodal_ser.report import report, summarise, text_table
from multimodal_ser.splits import make_split

log = logging.getLogger(__name__)


def train_table(
    *,
    features: Path,
    labels: str,
    split: str,
    out: Path,
    models: Sequence[str],
    seeds: int,
    folds: int | None = None,
    allow: Sequence[str] = (),
    audio: str | None = None,
    text: str | None = None,
    network: ModelConfig,
    schedule: TrainConfig,
    jobs: int | None = None,
    device: str = CPU,
    tune: TuneConfig | None = None,
) -> str:
    """Runs an in-domain experiment from feature files to its table.

    The split is written beside the runs as `split.json`. See `ser train --help` for the arguments.

    Returns:
        The table as plain text.
    """
    material, made = load_domain(
        features, labels, split, folds=folds, allow=allow, audio=audio, text=text
    )
    experiment = plan_in_domain(
        material, made, models, seeds=seeds, network=network, schedule=schedule, tune=tune
    )
    say_what(material, made)
    log.info("%d runs", len(experiment.plans))
    make(experiment, out, jobs=jobs, device=device)
    return text_table(summarise(out))


def load_domain(
    features: Path,
    labels: str,
    split: str,
    *,
    folds: int | None = None,
    allow: Sequence[str] = (),
    audio: str | None = None,
    text: str | None = None,
    tokens: str = "tokens",
) -> tuple[Material, Split]:
    """Reads a corpus's features and makes its split; see `ser train --help` for the arguments.

    Args:
        features: folder of one corpus's features.
        labels: class set.
        split: scheme, split file or folder.
        folds: of the schemes by group.
        allow: overlaps to accept.
        audio: which audio features.
        text: which text features.
        tokens: ``tokens`` as they are, or ``pooled``: the mean of each side.

    Raises:
        SerError: whatever does not fit, with the remedy.
    """
    if tokens not in TOKENS:
        raise SerError(one_of("kind of tokens", tokens, TOKENS))
    material = load_material(features, class_set(labels), audio, text)
    if tokens == "pooled":
        material = pooled(material)
    sounds = sounds_of(material)
    made = make_split(material.utterances, split, folds=folds, allow=allow, sounds=sounds)
    return material, made


def say_what(material: Material, split: Split) -> None:
    """Logs what a material holds, what was left out of it, and what leaks in its split."""
    counts = np.bincount(material.examples.label.numpy(), minlength=len(material.labels.classes))
    named = zip(material.labels.classes, counts, strict=True)
    log.info("%d utterances: %s", counts.sum(), ", ".join(f"{name} {n}" for name, n in named))
    for reason, count in material.dropped.items():
        log.info("left out: %d, %s", count, reason)
    for leak in split.leaks:
        log.warning("LEAK: %s", leak)
    names = material.labels.classes
    ids, label = material.examples.ids, material.examples.label.tolist()
    class_of = {key: names[place] for key, place in zip(ids, label, strict=True)}
    warned = cautions(material.utterances, lambda row: class_of[row.id])
    for note in [*split.notes, *warned, *cautions_of_folds(split.folds, class_of, names)]:
        log.warning("%s", note)
    log.info("%d folds, split %s", len(split.folds), split.name)


def demo(out: Path, seeds: int = 1) -> tuple[Path, str]:
    """Runs the main job on the features that are shipped and writes its report.

    Args:
        out: the experiment's folder.
        seeds: of the network.

    Returns:
        The report's page, and the table as plain text.
    """
    table = train_table(
        features=Path(str(files("multimodal_ser") / "demo")),
        labels="emodb7",
        split="speaker",
        out=out,
        models=("stacked", "linear", "svm"),
        seeds=seeds,
        network=ModelConfig(),
        schedule=TrainConfig(),
    )
    return report(out), table

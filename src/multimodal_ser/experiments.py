"""Material + split + models → run folders: the lists of runs that make a table.

A run that is complete is not made again, so an interrupted experiment goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch
import torch.multiprocessing
from rich.console import Console
from rich.progress import Progress
from threadpoolctl import threadpool_limits

from multimodal_ser.baselines import BASELINES, fit_baseline
from multimodal_ser.config import ModelConfig, TrainConfig
from multimodal_ser.data import Examples
from multimodal_ser.errors import SerError, one_of
from multimodal_ser.folds import Fold, Split, write_split
from multimodal_ser.labels import class_set
from multimodal_ser.material import Material, load_material
from multimodal_ser.models import MODELS, Dims
from multimodal_ser.report import report, summarise, text_table
from multimodal_ser.runs import Answers, RunConfig, build, is_complete, train_settings, write_run
from multimodal_ser.splits import make_split
from multimodal_ser.train import Fitted, fit, predict

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """One run to make: its config and the fold it uses."""

    config: RunConfig
    fold: Fold


def plan(
    material: Material,
    split: Split,
    models: Sequence[str],
    seeds: int,
    network: ModelConfig,
    schedule: TrainConfig,
) -> list[Plan]:
    """Lists the runs of an in-domain experiment: models × folds × seeds.

    The baselines draw nothing at random, so they run once a fold.

    Raises:
        SerError: an unknown model, or one whose side has no features.
    """
    known = (*MODELS, *BASELINES)
    for name in models:
        if name not in known:
            raise SerError(one_of("model", name, known))
        _check_sides(name, material)
    labels = {
        "name": material.labels.name,
        "classes": list(material.labels.classes),
        "hash": _labels_hash(material),
    }
    described = {"name": split.name, "hash": split.hash, "folds": len(split.folds)}
    return [
        Plan(
            RunConfig(
                model=name,
                seed=seed,
                fold=fold.name,
                labels=labels,
                corpora=sorted({row.corpus for row in material.utterances}),
                features=material.features,
                split={**described, "leaks": list(split.leaks)},
                marks=list(material.marks),
                train=train_settings(name, network, schedule),
            ),
            fold,
        )
        for name in models
        for seed in range(1 if name in BASELINES else seeds)
        for fold in split.folds
    ]


def _labels_hash(material: Material) -> str:
    """Which utterance has which class: corrected labels must not meet runs of the old ones."""
    rows = zip(material.examples.ids, material.examples.label.tolist(), strict=True)
    return hashlib.sha256(json.dumps(list(rows)).encode()).hexdigest()[:12]


def _check_sides(name: str, material: Material) -> None:
    if name in BASELINES:
        return
    for side in MODELS[name].sides:
        if material.features[side] is None:
            raise SerError(
                f"model {name!r} needs {side} features and there are none; extract them with "
                f"ser extract --{side} ENCODER, or choose another model: {', '.join(MODELS)}"
            )


def run_all(
    plans: Sequence[Plan],
    material: Material,
    out: Path,
    *,
    jobs: int | None = None,
    on_run: Callable[[Path], None] = lambda folder: None,
) -> list[Path]:
    """Makes every run that is not complete yet.

    A run computes on one thread, so its result does not depend on how many are made at a time.

    Args:
        plans: from `plan`.
        material: what they were planned from.
        out: the experiment's folder.
        jobs: processes that make runs side by side; None for one a processor.
        on_run: called with each run's folder, also when it was complete already.

    Returns:
        The run folders, in the plans' order.
    """
    out.mkdir(parents=True, exist_ok=True)
    folders = [out / item.config.folder for item in plans]
    todo = [item for item, folder in zip(plans, folders, strict=True) if not is_complete(folder)]
    for folder in filter(is_complete, folders):
        on_run(folder)
    for folder in _made(todo, material, out, min(jobs or os.cpu_count() or 1, len(todo))):
        on_run(folder)
    return folders


def _made(todo: Sequence[Plan], material: Material, out: Path, jobs: int) -> Iterator[Path]:
    if jobs <= 1:
        yield from (run_one(item, material, out) for item in todo)
        return
    # torch's reducer shares the features between the processes instead of copying them
    context = torch.multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, context, _work_on, (material, out)) as pool:
        yield from pool.map(_run_in_worker, todo)


_worker: dict[str, tuple[Material, Path]] = {}  # what a worker process works on


def _work_on(material: Material, out: Path) -> None:
    _worker["these"] = material, out


def _run_in_worker(item: Plan) -> Path:
    return run_one(item, *_worker["these"])


@contextmanager
def one_thread() -> Iterator[None]:
    """Computes on one thread inside, and as before outside."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(before)


@one_thread()
def run_one(item: Plan, material: Material, out: Path) -> Path:
    """Fits one model on a fold's training and validation parts, then asks about the test part."""
    examples = material.examples
    place = {key: row for row, key in enumerate(examples.ids)}
    train, validation = (
        examples.take([place[key] for key in keys])
        for keys in (item.fold.train, item.fold.validation)
    )
    dims = Dims(examples.text.dim, examples.audio.dim, len(material.labels.classes))
    fitted = _fit(item.config, dims, train, validation)
    test = examples.take([place[key] for key in item.fold.test])
    answers = list(_ask(fitted, material, validation=validation, test=test))
    return write_run(out, item.config, dims, fitted, answers)


def _fit(config: RunConfig, dims: Dims, train: Examples, validation: Examples) -> Fitted:
    settings = dict(config.train)
    network = ModelConfig(**settings.pop("network", {}))
    schedule = TrainConfig(**settings)
    if config.model in BASELINES:
        return fit_baseline(config.model, dims, train, validation, schedule)
    torch.manual_seed(config.seed)
    model = build(config.model, dims, network)
    return fit(model, train, validation, schedule, config.seed)  # type: ignore[arg-type]


def _ask(fitted: Fitted, material: Material, **parts: Examples) -> Iterator[Answers]:
    speakers = {row.id: row.speaker or "" for row in material.utterances}
    names = np.asarray(material.labels.classes)
    for part, examples in parts.items():
        probabilities = predict(fitted.model, examples).softmax(1).numpy()
        yield Answers(
            part,
            examples.ids,
            [speakers[key] for key in examples.ids],
            names[examples.label.numpy()].tolist(),
            probabilities,
        )


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
) -> str:
    """Runs an in-domain experiment from feature files to its table.

    The split is written beside the runs as `split.json`. See `ser train --help` for the arguments.

    Returns:
        The table as plain text.
    """
    material = load_material(features, class_set(labels), audio, text)
    made = make_split(material.utterances, split, folds=folds, allow=allow, hashes=material.hashes)
    plans = plan(material, made, models, seeds, network, schedule)
    _say_what(material, made, plans)
    write_split(made, out / "split.json")
    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("runs", total=len(plans))
        run_all(plans, material, out, jobs=jobs, on_run=lambda folder: bar.advance(task))
    return text_table(summarise(out))


def _say_what(material: Material, split: Split, plans: Sequence[Plan]) -> None:
    counts = np.bincount(material.examples.label.numpy(), minlength=len(material.labels.classes))
    named = zip(material.labels.classes, counts, strict=True)
    log.info("%d utterances: %s", counts.sum(), ", ".join(f"{name} {n}" for name, n in named))
    for reason, count in material.dropped.items():
        log.info("left out: %d, %s", count, reason)
    for leak in split.leaks:
        log.warning("LEAK: %s", leak)
    log.info("%d runs over %d folds, split %s", len(plans), len(split.folds), split.name)


def demo(out: Path, seeds: int = 5) -> tuple[Path, str]:
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
        models=("audio", "linear", "svm"),
        seeds=seeds,
        network=ModelConfig(),
        schedule=TrainConfig(),
    )
    return report(out), table

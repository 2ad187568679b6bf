"""Plans → run folders, several at a time.

A run that is complete is not made again, so an interrupted experiment goes on where it was.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.multiprocessing
from rich.console import Console
from rich.progress import Progress
from threadpoolctl import threadpool_limits
from torch import Tensor

from multimodal_ser.baselines import BASELINES, fit_baseline
from multimodal_ser.config import AdaptConfig, ModelConfig, TrainConfig
from multimodal_ser.data import Examples, Unlabelled
from multimodal_ser.errors import SerError
from multimodal_ser.experiments.encoder import run_tuned
from multimodal_ser.experiments.plans import TUNED, Experiment, Plan
from multimodal_ser.folds import write_split
from multimodal_ser.material import Material
from multimodal_ser.models import Dims, Ensemble
from multimodal_ser.runs import Answers, RunConfig, build, is_complete, load_model, write_run
from multimodal_ser.train import Adaptation, Fitted, fit, predict


def make(
    experiment: Experiment, out: Path, *, jobs: int | None = None, command: str | None = None
) -> list[Path]:
    """Makes an experiment's runs that are not complete yet, with one progress display.

    Args:
        experiment: what to make.
        out: its folder; `experiment.json` is written there first.
        jobs: processes that make runs side by side; None for one a processor.
        command: the command that asked for it, for the report.

    Returns:
        The protocol's run folders; models that they only start from lie beside them.

    Raises:
        SerError: the folder holds another protocol's runs.
    """
    _write_description(experiment, out, command)
    for name, split in experiment.splits.items():
        write_split(split, out / f"{name}.json")
    folders = []
    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(experiment.protocol, total=len(experiment.plans))
        for stage in experiment.stages:
            made = run_all(
                stage.plans,
                stage.material,
                out,
                source=stage.source,
                jobs=jobs,
                on_run=lambda folder: bar.advance(task),
            )
            wanted = [item.config.protocol == experiment.protocol for item in stage.plans]
            folders += [folder for folder, own in zip(made, wanted, strict=True) if own]
    return folders


def _write_description(experiment: Experiment, out: Path, command: str | None) -> None:
    path = out / "experiment.json"
    if path.is_file():
        other = json.loads(path.read_text(encoding="utf-8")).get("protocol")
        if other != experiment.protocol:
            raise SerError(
                f"{out} holds the runs of {other!r}, and one table cannot show them beside those "
                f"of {experiment.protocol!r}; give another --out"
            )
    out.mkdir(parents=True, exist_ok=True)
    described = {"protocol": experiment.protocol, "arguments": dict(experiment.arguments)}
    if command:
        described["command"] = command
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(described, indent=1, ensure_ascii=False) + "\n", "utf-8")
    partial.replace(path)


def run_all(
    plans: Sequence[Plan],
    material: Material,
    out: Path,
    *,
    source: Material | None = None,
    jobs: int | None = None,
    on_run: Callable[[Path], None] = lambda folder: None,
) -> list[Path]:
    """Makes every run that is not complete yet.

    A run computes on one thread, so its result does not depend on how many are made at a time.

    Args:
        plans: from `plan` or an experiment.
        material: what they were planned from; the target, where there is a source.
        out: the experiment's folder.
        source: what plans with a source fold learn from.
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
    bench = _Bench(material, source, out)
    for folder in _made(todo, bench, min(jobs or os.cpu_count() or 1, len(todo))):
        on_run(folder)
    return folders


@dataclass(frozen=True)
class _Bench:
    """What runs are made from, and where."""

    material: Material
    source: Material | None
    out: Path


def _made(todo: Sequence[Plan], bench: _Bench, jobs: int) -> Iterator[Path]:
    if jobs <= 1:
        yield from (run_one(item, bench.material, bench.out, bench.source) for item in todo)
        return
    # torch's reducer shares the features between the processes instead of copying them
    context = torch.multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, context, _work_on, (bench,)) as pool:
        yield from pool.map(_run_in_worker, todo)


_worker: dict[str, _Bench] = {}  # what a worker process works on


def _work_on(bench: _Bench) -> None:
    _worker["this"] = bench


def _run_in_worker(item: Plan) -> Path:
    bench = _worker["this"]
    return run_one(item, bench.material, bench.out, bench.source)


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
def run_one(item: Plan, material: Material, out: Path, source: Material | None = None) -> Path:
    """Fits one model, then asks it about the fold's validation and test parts.

    It learns from the fold's training part and chooses by its validation part. Where the plan
    has a source's fold, it learns and chooses there instead, and of the target's training part
    it is given the tokens without their labels.
    """
    if item.config.model == TUNED:
        return run_tuned(item, material, out)
    learnt, fold = material, item.fold
    target = None
    if item.source_fold is not None and source is not None:
        learnt, fold = source, item.source_fold
        target = _take(material, item.fold.train).unlabelled()
    train, validation = (_take(learnt, keys) for keys in (fold.train, fold.validation))
    examples = material.examples
    dims = Dims(examples.text.dim, examples.audio.dim, len(material.labels.classes))
    start = out / item.start / "model.safetensors" if item.start else None
    groups = _corpus_of_each(learnt, fold.train) if item.config.train.get("balanced") else None
    fitted = _fit(item.config, dims, train, validation, target, start, groups)
    asked = {part: _take(material, getattr(item.fold, part)) for part in ("validation", "test")}
    answers = list(_ask(fitted, material, **asked))
    return write_run(out, item.config, dims, fitted, answers)


def _take(material: Material, keys: Sequence[str]) -> Examples:
    place = {key: row for row, key in enumerate(material.examples.ids)}
    return material.examples.take([place[key] for key in keys])


def _corpus_of_each(material: Material, keys: Sequence[str]) -> Tensor:
    corpus = {row.id: row.corpus for row in material.utterances}
    names = sorted(set(corpus.values()))
    return torch.tensor([names.index(corpus[key]) for key in keys])


def _fit(
    config: RunConfig,
    dims: Dims,
    train: Examples,
    validation: Examples,
    target: Unlabelled | None,
    start: Path | None,
    groups: Tensor | None,
) -> Fitted:
    settings = dict(config.train)
    network = ModelConfig(**settings.pop("network", {}))
    adaptation = AdaptConfig(**settings.pop("adaptation", {}))
    parts = settings.pop("parts", None)
    for said in ("few", "balanced"):  # the plan's fold, or the caller, has done what they say
        settings.pop(said, None)
    schedule = TrainConfig(**settings)
    if config.model in BASELINES:
        fitted = fit_baseline(config.model, dims, train, validation, schedule)
        if target is not None and adaptation.method == "standardize":
            fitted.model.pooled.fit(target)  # type: ignore[union-attr, operator]
        return fitted
    model = _begin(config, dims, network, start)
    if parts == "none":
        return Fitted(model, [])
    if parts == "head":
        freeze_body(model)
    toward = Adaptation(adaptation, target) if target is not None else None
    return fit(model, train, validation, schedule, config.seed, adaptation=toward, groups=groups)


def _begin(config: RunConfig, dims: Dims, network: ModelConfig, start: Path | None) -> Ensemble:
    """A fresh network, or another run's."""
    torch.manual_seed(config.seed)
    model = build(config.model, dims, network) if start is None else load_model(start)
    if not isinstance(model, Ensemble):
        raise SerError(f"{config.model!r} is no network that could be trained further")
    return model


def freeze_body(model: Ensemble) -> None:
    """Lets nothing but the members' classifiers learn."""
    model.requires_grad_(False)
    model.network.classify.requires_grad_(True)


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

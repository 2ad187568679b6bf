"""A bundle of plans → run folders: runs that are trained as one computation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from multimodal_ser.alignment import Adaptation
from multimodal_ser.baselines import BASELINES, fit_baseline
from multimodal_ser.config import AdaptConfig, ModelConfig, TrainConfig
from multimodal_ser.data import Examples
from multimodal_ser.devices import CPU, is_gpu
from multimodal_ser.errors import SerError
from multimodal_ser.experiments.encoder import run_tuned
from multimodal_ser.experiments.plans import TUNED, Plan
from multimodal_ser.folds import Fold
from multimodal_ser.material import Material
from multimodal_ser.models import MODELS, Dims, Ensemble
from multimodal_ser.runs import Answers, build, load_model, write_run
from multimodal_ser.train import Fitted, Task, fit_all, predict


@dataclass(frozen=True)
class Bench:
    """What runs are made from, and where.

    Attributes:
        material: the corpus; the target, where there is a source.
        source: what plans with a source's fold learn from.
        out: the experiment's folder.
        device: where the networks are trained; the baselines are fitted on the CPU.
    """

    material: Material
    source: Material | None
    out: Path
    device: str = CPU

    @property
    def dims(self) -> Dims:
        """The sizes of a network for the material."""
        examples = self.material.examples
        return Dims(examples.text.dim, examples.audio.dim, len(self.material.labels.classes))


@dataclass(frozen=True)
class Settings:
    """What `RunConfig.train` says, by purpose."""

    network: ModelConfig
    schedule: TrainConfig
    adaptation: AdaptConfig
    parts: str | None
    balanced: bool

    @classmethod
    def of(cls, train: Mapping[str, Any]) -> Settings:
        """Parses a run's settings; ``few`` says what the plan's fold already is."""
        rest = {key: value for key, value in train.items() if key != "few"}
        return cls(
            network=ModelConfig(**rest.pop("network", {})),
            adaptation=AdaptConfig(**rest.pop("adaptation", {})),
            parts=rest.pop("parts", None),
            balanced=rest.pop("balanced", False),
            schedule=TrainConfig(**rest),
        )


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
def make_bundle(bench: Bench, plans: Sequence[Plan]) -> list[Path]:
    """Fits the runs of a bundle, then asks each about its fold's validation and test parts.

    A run learns from its fold's training part and chooses by its validation part. Where its plan
    has a source's fold, it learns and chooses there instead, and of the target's training part
    it is given the tokens without their labels.

    Args:
        bench: what they are made from, and where.
        plans: one, or networks that `running.bundles` put together.

    Returns:
        The run folders, in the plans' order.

    Raises:
        SerError: the device has too little memory for one run.
    """
    try:
        return _make(bench, plans)
    except torch.OutOfMemoryError as error:
        if len(plans) == 1:
            raise SerError(
                f"{bench.device} has too little memory for {plans[0].config.folder} ({error}); "
                "take a smaller --schedule.batch-size or --network.hidden-dim, or --device cpu"
            ) from error
    if is_gpu(bench.device):
        torch.cuda.empty_cache()
    middle = len(plans) // 2
    return [
        folder for half in (plans[:middle], plans[middle:]) for folder in make_bundle(bench, half)
    ]


def _make(bench: Bench, plans: Sequence[Plan]) -> list[Path]:
    material = bench.material
    if plans[0].config.model == TUNED:
        return [run_tuned(item, material, bench.out, bench.device) for item in plans]
    take, folders = _Parts(bench.device if plans[0].config.model in MODELS else CPU), []
    for item, fitted in zip(plans, _fit(bench, plans, take), strict=True):
        asked = {part: take(material, getattr(item.fold, part)) for part in ("validation", "test")}
        answers = list(_ask(fitted, material, **asked))
        folders.append(write_run(bench.out, item.config, bench.dims, fitted, answers))
    return folders


class _Parts:
    """Takes each part of a corpus to a device once, whichever runs of a bundle ask for it."""

    def __init__(self, device: str) -> None:
        self.device = device
        self._taken: dict[tuple[int, Sequence[str]], Examples] = {}

    def __call__(self, material: Material, keys: tuple[str, ...]) -> Examples:
        known = (id(material), keys)
        if known not in self._taken:
            examples = material.examples
            mine = examples.take([examples.places[key] for key in keys])
            self._taken[known] = mine.to(self.device)
        return self._taken[known]


def _fit(bench: Bench, plans: Sequence[Plan], take: _Parts) -> list[Fitted]:
    settings = Settings.of(plans[0].config.train)  # a bundle has one
    if plans[0].config.model in BASELINES:
        return [_baseline(bench, item, settings, take) for item in plans]
    tasks = [_task(bench, item, settings, take) for item in plans]
    if settings.parts == "none":
        return [Fitted(task.model, []) for task in tasks]
    return fit_all(tasks, settings.schedule)


def _baseline(bench: Bench, item: Plan, settings: Settings, take: _Parts) -> Fitted:
    learnt, fold = _learnt(bench, item)
    train, validation = take(learnt, fold.train), take(learnt, fold.validation)
    fitted = fit_baseline(item.config.model, bench.dims, train, validation, settings.schedule)
    if learnt is bench.source and settings.adaptation.method == "standardize":
        target = take(bench.material, item.fold.train).unlabelled()
        fitted.model.pooled.fit(target)  # type: ignore[union-attr, operator]
    return fitted


def _learnt(bench: Bench, item: Plan) -> tuple[Material, Fold]:
    """What a run learns from: the source where it adapts, else the corpus itself."""
    if item.source_fold is not None and bench.source is not None:
        return bench.source, item.source_fold
    return bench.material, item.fold


def _task(bench: Bench, item: Plan, settings: Settings, take: _Parts) -> Task:
    learnt, fold = _learnt(bench, item)
    model = _begin(bench, item, settings.network)
    if settings.parts == "head":
        freeze_body(model)
    target = None
    if learnt is bench.source:
        unlabelled = take(bench.material, item.fold.train).unlabelled()
        target = Adaptation(settings.adaptation, unlabelled)
    return Task(
        model,
        take(learnt, fold.train),
        take(learnt, fold.validation),
        item.config.seed,
        target,
        _corpus_of_each(learnt, fold.train) if settings.balanced else None,
    )


def _corpus_of_each(material: Material, keys: Sequence[str]) -> Tensor:
    corpus = {row.id: row.corpus for row in material.utterances}
    names = sorted(set(corpus.values()))
    return torch.tensor([names.index(corpus[key]) for key in keys])


def _begin(bench: Bench, item: Plan, network: ModelConfig) -> Ensemble:
    """A fresh network, or another run's."""
    config = item.config
    torch.manual_seed(config.seed)
    start = bench.out / item.start / "model.safetensors" if item.start else None
    model = build(config.model, bench.dims, network) if start is None else load_model(start)
    if not isinstance(model, Ensemble):
        raise SerError(f"{config.model!r} is no network that could be trained further")
    return model.to(bench.device)


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

"""Source + a target with labels → the experiments `finetune` and `fewshot`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from multimodal_ser.config import ModelConfig, TrainConfig
from multimodal_ser.errors import SerError, one_of
from multimodal_ser.experiments.pairs import Pair, check_network, said_of_pair
from multimodal_ser.experiments.plans import Experiment, Plan, Stage, plan, seeds_of
from multimodal_ser.folds import Few, Fold, Split, few_fold
from multimodal_ser.material import Material
from multimodal_ser.runs import train_settings

PARTS = ("all", "head")
PERCENTAGES = (10.0, 20.0, 50.0, 100.0)


def plan_finetune(
    source: Material,
    source_split: Split,
    target: Material,
    target_split: Split,
    *,
    parts: Sequence[str] = PARTS,
    model: str,
    seeds: int,
    network: ModelConfig,
    schedule: TrainConfig,
) -> Experiment:
    """Plans to train a source's model further on every fold of a target.

    In the same table: the source's model as it is (``none``), the same network from scratch,
    and logistic regression on the target. A source model is made once a seed, on the source's
    first fold, and lies beside the runs. The target's inputs are standardised by what the model
    learns from there.

    Args:
        source: the corpus of the first model.
        source_split: whose first fold is used.
        target: the corpus to tune to and test on.
        target_split: all its folds are used.
        parts: ``all`` of the network, or its ``head``: the classifier after the last attention.
        model: key in MODELS.
        seeds: of the network.
        network: its knobs.
        schedule: the training's knobs.

    Raises:
        SerError: other class orders or features, an unknown part or model.
    """
    pair = Pair(source, source_split, target, target_split)
    _check_parts(parts)
    starts = _starts(pair, model, seeds, network, schedule)
    systems = [*((model, part) for part in ("none", *parts, "scratch")), ("linear", "scratch")]
    plans = [
        _tuned(pair, "finetune", name, part, fold, starts, seed, network, schedule)
        for name, part in systems
        for seed in seeds_of(name, seeds)
        for fold in target_split.folds
    ]
    said = {"parts": list(parts), **said_of_pair(pair, model, seeds, network, schedule)}
    return _after(pair, "finetune", said, starts, plans)


def plan_fewshot(
    source: Material,
    source_split: Split,
    target: Material,
    target_split: Split,
    *,
    percentages: Sequence[float] = PERCENTAGES,
    shots: Sequence[int] | None = None,
    draws: int = 3,
    parts: Sequence[str] = ("all",),
    model: str,
    seeds: int,
    network: ModelConfig,
    schedule: TrainConfig,
) -> Experiment:
    """Plans to train a source's model further on a few utterances of a target, drawn repeatedly.

    Beside it the same network from scratch and logistic regression, on the same few. A fifth of
    the few validates: the target's validation part is not touched.

    Args:
        source: the corpus of the first model.
        source_split: whose first fold is used.
        target: the corpus to tune to and test on.
        target_split: all its folds are used.
        percentages: of every class of a fold's training part.
        shots: utterances of every class instead.
        draws: how often the few are drawn.
        parts: ``all`` or ``head``.
        model: key in MODELS.
        seeds: of the network.
        network: its knobs.
        schedule: the training's knobs.

    Raises:
        SerError: other class orders or features, an unknown part or model, or too few utterances
            of a class.
    """
    pair = Pair(source, source_split, target, target_split)
    _check_parts(parts)
    starts = _starts(pair, model, seeds, network, schedule)
    amounts = percentages if shots is None else shots
    unit = "percent" if shots is None else "shots"
    names = target.labels.classes
    labels = target.examples.label.tolist()
    classes = {key: names[n] for key, n in zip(target.examples.ids, labels, strict=True)}
    systems = [*((model, part) for part in (*parts, "scratch")), ("linear", "scratch")]
    plans = []
    for amount in amounts:
        for few in (Few(unit, amount, draw) for draw in range(draws)):
            folds = [few_fold(fold, classes, few) for fold in target_split.folds]
            plans += [
                _few(
                    _tuned(pair, "fewshot", name, part, fold, starts, seed, network, schedule), few
                )
                for name, part in systems
                for seed in seeds_of(name, seeds)
                for fold in folds
            ]
    said = {unit: list(amounts), "draws": draws, "parts": list(parts)}
    said |= said_of_pair(pair, model, seeds, network, schedule)
    return _after(pair, "fewshot", said, starts, plans)


def _few(item: Plan, few: Few) -> Plan:
    """Says in a run's settings which few it was given, and how many."""
    count = len(item.fold.train) + len(item.fold.validation)
    said = {few.unit: few.amount, "draw": few.draw, "count": count}
    return replace(item, config=replace(item.config, train={**item.config.train, "few": said}))


def _check_parts(parts: Sequence[str]) -> None:
    for name in parts:
        if name not in PARTS:
            raise SerError(one_of("part to tune", name, PARTS))


def _starts(
    pair: Pair, model: str, seeds: int, network: ModelConfig, schedule: TrainConfig
) -> dict[int, Plan]:
    """Seed → the run that makes the source's model; once a seed, whatever is made of it."""
    check_network(model, pair.source)
    first = replace(pair.source_split, folds=(pair.source_fold,))
    made = plan(pair.source, first, (model,), seeds, network, schedule, protocol="source")
    return {item.config.seed: item for item in made}


def _tuned(
    pair: Pair,
    protocol: str,
    model: str,
    part: str,
    fold: Fold,
    starts: Mapping[int, Plan],
    seed: int,
    network: ModelConfig,
    schedule: TrainConfig,
) -> Plan:
    start = None if part == "scratch" else starts[seed].config.folder
    train = {**train_settings(model, network, schedule), "parts": part}
    return Plan(pair.config(protocol, model, fold, seed, train, run=start), fold, start=start)


def _after(
    pair: Pair,
    protocol: str,
    said: Mapping[str, Any],
    starts: Mapping[int, Plan],
    plans: Sequence[Plan],
) -> Experiment:
    """An experiment whose source models are made first."""
    stages = Stage(tuple(starts.values()), pair.source), Stage(tuple(plans), pair.target)
    splits = {"split": pair.target_split, "source-split": pair.source_split}
    return Experiment(protocol, said, stages, splits)

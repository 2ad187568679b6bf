"""Source with labels + target without → the experiment `adaptation`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from multimodal_ser.adapt import ADAPTERS
from multimodal_ser.config import AdaptConfig, ModelConfig, TrainConfig
from multimodal_ser.errors import SerError, one_of
from multimodal_ser.experiments.pairs import Pair, check_network, said_of_pair
from multimodal_ser.experiments.plans import Experiment, Plan, Stage, seeds_of
from multimodal_ser.folds import Split
from multimodal_ser.material import Material
from multimodal_ser.runs import train_settings


def plan_adaptation(
    source: Material,
    source_split: Split,
    target: Material,
    target_split: Split,
    *,
    methods: Sequence[str] = tuple(ADAPTERS),
    weight: float | None = None,
    standardize: bool = True,
    model: str,
    seeds: int,
    network: ModelConfig,
    schedule: TrainConfig,
) -> Experiment:
    """Plans to learn from a source with labels and a target without, and to test on the target.

    The source's first fold is learnt from and picks the epoch; of the target's training part
    only the features are used. Logistic regression on the source stands beside, with and
    without the target's statistics.

    Args:
        source: the corpus with labels.
        source_split: whose first fold is used.
        target: the corpus without.
        target_split: all its folds are tested.
        methods: keys in ADAPTERS.
        weight: of every alignment; None for each method's own.
        standardize: standardise each corpus by itself before aligning.
        model: key in MODELS.
        seeds: of the network.
        network: its knobs.
        schedule: the training's knobs.

    Raises:
        SerError: other class orders or features, an unknown method or model.
    """
    pair = Pair(source, source_split, target, target_split)
    check_network(model, target)
    for name in methods:
        if name not in ADAPTERS:
            raise SerError(one_of("adaptation", name, ADAPTERS))
    systems = [(model, name) for name in methods]
    systems += [("linear", name) for name in methods if not ADAPTERS[name].aligns]
    plans = [
        Plan(
            pair.config(
                "adaptation",
                name,
                fold,
                seed,
                {
                    **train_settings(name, network, schedule),
                    "adaptation": _resolved(method, weight, standardize),
                },
            ),
            fold,
            source_fold=pair.source_fold,
        )
        for name, method in systems
        for seed in seeds_of(name, seeds)
        for fold in target_split.folds
    ]
    said = {"methods": list(methods), "weight": weight, "standardize": standardize}
    return Experiment(
        "adaptation",
        {**said, **said_of_pair(pair, model, seeds, network, schedule)},
        (Stage(tuple(plans), target, source),),
        {"split": target_split, "source-split": source_split},
    )


def _resolved(method: str, weight: float | None, standardize: bool) -> dict[str, Any]:
    """An adaptation's settings as they act: what a method does not use reads as not used."""
    kind = ADAPTERS[method]
    own = kind.weight if weight is None else weight
    config = AdaptConfig(
        method=method,
        weight=own if kind.aligns else 0.0,
        standardize=kind.standardizes or (kind.aligns and standardize),
    )
    return asdict(config)

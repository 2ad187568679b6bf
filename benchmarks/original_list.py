"""The original's complete set of experiments, planned with the library's experiment functions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from made_up import Domain

from multimodal_ser.experiments import (
    Experiment,
    plan_ablation,
    plan_adaptation,
    plan_combined,
    plan_fewshot,
    plan_finetune,
    plan_in_domain,
)

MODEL = "cross_attention"


@dataclass(frozen=True)
class Listed:
    """One of the experiments.

    Attributes:
        experiment: its plans; models that are only begun with, and the controls that stand in
            every table of the library (linear, from scratch, none), are among them.
        runs: how many the original makes for it.
    """

    experiment: Experiment
    runs: int


Plan = Callable[[Domain, Domain, dict[str, Any]], Listed]


def in_domain(source: Domain, target: Domain, settings: dict[str, Any]) -> Listed:
    """The one network on the source, 5 seeds."""
    return Listed(plan_in_domain(source.material, source.split, (MODEL,), seeds=5, **settings), 5)


def ablation(source: Domain, target: Domain, settings: dict[str, Any]) -> Listed:
    """Text, audio, concatenation and cross-attention, 3 seeds."""
    return Listed(plan_ablation(source.material, source.split, seeds=3, **settings), 4 * 3)


def adaptation(source: Domain, target: Domain, settings: dict[str, Any]) -> Listed:
    """Three methods, 3 seeds."""
    methods = ("dann", "mmd", "coral")
    more = {"methods": methods, "model": MODEL, "seeds": 3, **settings}
    return Listed(plan_adaptation(*_pair(source, target), **more), len(methods) * 3)


def combined(source: Domain, target: Domain, settings: dict[str, Any]) -> Listed:
    """One network for both corpora, 3 seeds."""
    both = [(one.material, one.split) for one in (source, target)]
    return Listed(plan_combined(both, model=MODEL, seeds=3, **settings), 3)


def finetune(source: Domain, target: Domain, settings: dict[str, Any]) -> Listed:
    """The whole of the source's network trained further, 3 seeds."""
    more = {"parts": ("all",), "model": MODEL, "seeds": 3, **settings}
    return Listed(plan_finetune(*_pair(source, target), **more), 3)


def fewshot(source: Domain, target: Domain, settings: dict[str, Any]) -> Listed:
    """10, 20, 50 and 100 % of the target's labels, 3 seeds."""
    amounts = (10.0, 20.0, 50.0, 100.0)
    more = {"percentages": amounts, "draws": 1, "model": MODEL, "seeds": 3, **settings}
    return Listed(plan_fewshot(*_pair(source, target), **more), len(amounts) * 3)


def cross_validation(source: Domain, target: Domain, settings: dict[str, Any]) -> Listed:
    """Five folds by session, 5 seeds; not one of the original's."""
    planned = plan_in_domain(source.material, source.folds, (MODEL,), seeds=5, **settings)
    return Listed(planned, len(planned.plans))


def one_run(source: Domain, target: Domain, settings: dict[str, Any]) -> Listed:
    """One network, one seed, on the original's one fold."""
    return Listed(plan_in_domain(source.material, source.split, (MODEL,), seeds=1, **settings), 1)


def _pair(source: Domain, target: Domain) -> tuple[Any, ...]:
    return source.material, source.split, target.material, target.split


LIST: dict[str, Plan] = {
    "in-domain": in_domain,
    "ablation": ablation,
    "adaptation": adaptation,
    "combined": combined,
    "finetune": finetune,
    "fewshot": fewshot,
}
ALL: dict[str, Plan] = {**LIST, "cross-validation": cross_validation, "one run": one_run}

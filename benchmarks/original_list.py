"""The complete list of the original's experiments, planned with the library's experiments."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from made_up import Domain

from multimodal_ser.experiments import protocols, transfer
from multimodal_ser.experiments.plans import Experiment

MODEL = "cross_attention"
NETWORKS = ("text", "audio", "concat", MODEL)


@dataclass(frozen=True)
class Listed:
    """One of the experiments.

    Attributes:
        experiment: its plans, including source models to start from and the controls that are in
            every table of the library (linear, from scratch, none).
        runs: number of runs that the original makes for it.
    """

    experiment: Experiment
    runs: int

    def without_controls(self) -> Listed:
        """The original's runs, and the source models that some of them start from."""
        stages = []
        for stage in self.experiment.stages:
            plans = [
                plan
                for plan in stage.plans
                if plan.config.model in NETWORKS
                and plan.config.train.parts not in ("none", "scratch")
            ]
            stages.append(replace(stage, plans=tuple(plans)))
        return replace(self, experiment=replace(self.experiment, stages=tuple(stages)))


Plan = Callable[[Domain, Domain, dict[str, Any]], Listed]


def in_domain(source: Domain, target: Domain, settings: dict[str, Any]) -> Listed:
    """One network on the source, 5 seeds."""
    return Listed(
        protocols.InDomain(models=(MODEL,), seeds=5, **settings).plan(
            source.material, source.split
        ),
        5,
    )


def ablation(source: Domain, target: Domain, settings: dict[str, Any]) -> Listed:
    """Text, audio, concatenation and cross-attention, 3 seeds."""
    return Listed(
        protocols.Ablation(seeds=3, **settings).plan(source.material, source.split), 4 * 3
    )


def adaptation(source: Domain, target: Domain, settings: dict[str, Any]) -> Listed:
    """Three methods, 3 seeds."""
    methods = ("dann", "mmd", "coral")
    more = {"methods": methods, "model": MODEL, "seeds": 3, **settings}
    return Listed(transfer.Adaptation(**more).plan(*_pair(source, target)), len(methods) * 3)


def combined(source: Domain, target: Domain, settings: dict[str, Any]) -> Listed:
    """One network for both corpora, 3 seeds."""
    both = [(one.material, one.split) for one in (source, target)]
    return Listed(protocols.Combined(model=MODEL, seeds=3, **settings).plan(both), 3)


def finetune(source: Domain, target: Domain, settings: dict[str, Any]) -> Listed:
    """The source's network, all of it fine-tuned, 3 seeds."""
    more = {"parts": ("all",), "model": MODEL, "seeds": 3, **settings}
    return Listed(transfer.Finetune(**more).plan(*_pair(source, target)), 3)


def fewshot(source: Domain, target: Domain, settings: dict[str, Any]) -> Listed:
    """10, 20, 50 and 100 % of the target's labels, 3 seeds."""
    amounts = (10.0, 20.0, 50.0, 100.0)
    more = {"percentages": amounts, "draws": 1, "model": MODEL, "seeds": 3, **settings}
    return Listed(transfer.Fewshot(**more).plan(*_pair(source, target)), len(amounts) * 3)


def cross_validation(source: Domain, target: Domain, settings: dict[str, Any]) -> Listed:
    """Five folds by session, 5 seeds; not among the original's experiments."""
    planned = protocols.InDomain(models=(MODEL,), seeds=5, **settings).plan(
        source.material, source.folds
    )
    return Listed(planned, len(planned.plans))


def one_run(source: Domain, target: Domain, settings: dict[str, Any]) -> Listed:
    """One network, one seed, on the original's single fold."""
    return Listed(
        protocols.InDomain(models=(MODEL,), seeds=1, **settings).plan(
            source.material, source.split
        ),
        1,
    )


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

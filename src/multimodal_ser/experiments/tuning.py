"""material + split + budget → hyper-parameters chosen by Optuna on each fold's validation part.

The search is nested: the hyper-parameters of a fold are chosen on its own validation part, which
shares no row with its test part, and are then tested once. Their validation score is the best of
many and therefore too good; only the test rows show how good they are.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from multimodal_ser.common.devices import CPU, check_device
from multimodal_ser.common.files import is_of_system, write_file
from multimodal_ser.config.settings import ModelConfig, TrainConfig
from multimodal_ser.dataset.material import Material
from multimodal_ser.errors import import_extra
from multimodal_ser.experiments.outdated import set_aside
from multimodal_ser.experiments.pairs import check_network
from multimodal_ser.experiments.plans import Plan, network_for, plan_runs
from multimodal_ser.experiments.running import run_all
from multimodal_ser.report.compute import summary_of
from multimodal_ser.report.summary import Summary
from multimodal_ser.report.versus import CHOSEN
from multimodal_ser.runs.folder import Run, read_runs
from multimodal_ser.splits.folds import Fold, Split

if TYPE_CHECKING:
    import optuna

_log = logging.getLogger(__name__)
_Knobs = dict[str, Any]


@dataclass(frozen=True)
class TuningBudget:
    """The budget of a search, and where it is spent.

    Attributes:
        trials: settings per fold; the first of them is the recommended one.
        minutes: time after which no further setting is begun; None for no limit.
        seeds: number of seeds of the networks that are tested, chosen and recommended.
        jobs: number of processes; None for one per processor, or one on a GPU.
        device: where torch trains.
        began: when the budget began to be spent, in seconds of a monotonic clock.
    """

    trials: int = 20
    minutes: float | None = None
    seeds: int = 3
    jobs: int | None = None
    device: str = CPU
    began: float = field(default_factory=time.monotonic)

    @property
    def spent(self) -> bool:
        """Whether the time limit has passed."""
        return self.minutes is not None and time.monotonic() - self.began > 60 * self.minutes


def _suggested(trial: optuna.Trial) -> _Knobs:
    """Draws one setting of the hyper-parameters that `ser train --help` explains."""
    # Ranges around the recommended values. Learning rate and weight decay act by their magnitude,
    # so they are drawn on a logarithmic scale.
    return {
        "network.hidden_dim": trial.suggest_categorical("network.hidden_dim", [32, 64, 96, 192]),
        "network.num_layers": trial.suggest_int("network.num_layers", 0, 2),
        "network.dropout": trial.suggest_float("network.dropout", 0.1, 0.6),
        "network.input_dropout": trial.suggest_float("network.input_dropout", 0.0, 0.7),
        "schedule.learning_rate": trial.suggest_float(
            "schedule.learning_rate", 3e-4, 6e-3, log=True
        ),
        "schedule.weight_decay": trial.suggest_float("schedule.weight_decay", 1e-4, 0.1, log=True),
        "schedule.label_smoothing": trial.suggest_float("schedule.label_smoothing", 0.0, 0.2),
        "schedule.batch_size": trial.suggest_categorical("schedule.batch_size", [32, 64, 128]),
    }


def with_settings(
    network: ModelConfig, schedule: TrainConfig, knobs: Mapping[str, Any]
) -> tuple[ModelConfig, TrainConfig]:
    """The two configurations with some of their fields replaced."""
    parts = {"network": network, "schedule": schedule}
    for name, value in knobs.items():
        part, _, key = name.partition(".")
        parts[part] = replace(parts[part], **{key: value})  # type: ignore[type-var]
    return parts["network"], parts["schedule"]  # type: ignore[return-value]


def tune_hyperparameters(
    material: Material,
    split: Split,
    out: Path,
    budget: TuningBudget,
    model: str | None = None,
    network: ModelConfig | None = None,
    schedule: TrainConfig | None = None,
) -> Summary:
    """Chooses hyper-parameters in every fold and tests them beside the recommended ones.

    Finished runs are not made again, so rerunning the same call resumes an interrupted search.

    Args:
        material: the corpus.
        split: its folds.
        out: folder for the runs; ``chosen.json`` there records what was chosen.
        budget: how much is tried.
        model: a network; None for the one that the features allow.
        network: settings of the first trial, and of everything that is not searched.
        schedule: the same for the training.

    Raises:
        SerError: Optuna is missing, or there is no such network or device.
    """
    check_device(budget.device)
    name = model or network_for(material)
    check_network(name, material)
    start = network or ModelConfig(), schedule or TrainConfig()
    search = _Search(material, split, name, start, out, budget)
    chosen = {fold.name: search.best(fold) for fold in split.folds}
    write_file(out / "chosen.json", json.dumps(chosen, indent=1) + "\n")
    return summary_of(search.tested(chosen), "tune", out.resolve().name, "test")


@dataclass(frozen=True)
class _Search:
    """Makes the runs of `tune_hyperparameters`."""

    material: Material
    split: Split
    model: str
    start: tuple[ModelConfig, TrainConfig]
    out: Path
    budget: TuningBudget

    def best(self, fold: Fold) -> dict[str, Any]:
        """The hyper-parameters with the lowest validation loss of a fold, and their search.

        A setting whose training fails, as by diverging, is passed over, unless it is the
        recommended one.
        """
        optuna = import_extra("optuna", "ser tune needs an extra", "tune")
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        # The sampler is seeded and the trials run one by one: a rerun draws the same settings and
        # finds their runs finished, which is how an interrupted search resumes.
        study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=0))
        recommended = self._loss(fold, {})
        while len(study.trials) + 1 < self.budget.trials and not self.budget.spent:
            trial = study.ask()
            knobs = _suggested(trial)
            try:
                study.tell(trial, self._loss(fold, knobs))
            except Exception as error:
                if is_of_system(error):
                    raise
                # a rerun would meet the setting's own error again, and never end
                study.tell(trial, state=optuna.trial.TrialState.FAIL)
                _log.warning("fold %s: the setting %s fails: %s", fold.name, knobs, error)
        done = [one for one in study.trials if one.value is not None]
        tried = [({}, recommended), *((one.params, one.value) for one in done)]
        knobs, loss = min(tried, key=lambda one: one[1])  # of equal ones, the recommended setting
        losses = f"validation loss {loss:.4f}, recommended {recommended:.4f}"
        _log.info("fold %s: %d settings; %s", fold.name, len(tried), losses)
        return {
            "knobs": knobs,
            "settings": len(tried),
            "failed": len(study.trials) - len(done),
            "validation loss": loss,
            "recommended": recommended,
        }

    def tested(self, chosen: Mapping[str, Mapping[str, Any]]) -> list[Run]:
        """The runs of all folds: with chosen settings, with recommended ones, and linear."""
        runs: list[Run] = []
        for kind, knobs in {"recommended": {}, CHOSEN: chosen}.items():
            made = []
            for fold in self.split.folds:
                own = knobs.get(fold.name, {}).get("knobs", {})
                made += self._plans(fold, own, self.budget.seeds)
            if kind == "recommended":
                made += plan_runs(self.material, self.split, ("linear",), 1, *self.start)
            folder = self.out / kind
            set_aside(folder, [item.config for item in made])
            run_all(made, self.material, folder, jobs=self.budget.jobs, device=self.budget.device)
            wanted = {item.config.folder for item in made}
            found = [run for run in read_runs(folder) if run.folder.name in wanted]
            runs += [self._named(run) for run in found] if kind == CHOSEN else found
        return runs

    def _named(self, run: Run) -> Run:
        """The same run under one name for all folds, although each fold has settings of its own."""
        train = replace(run.config.train, network=self.start[0], schedule=self.start[1])
        config = replace(run.config, model=f"{self.model}, {CHOSEN}", train=train)
        return replace(run, record=replace(run.record, config=config))

    def _plans(self, fold: Fold, knobs: Mapping[str, Any], seeds: int) -> list[Plan]:
        knobs_of = with_settings(*self.start, knobs)
        made = plan_runs(self.material, self.split, (self.model,), seeds, *knobs_of)
        return [item for item in made if item.fold.name == fold.name]

    def _loss(self, fold: Fold, knobs: Mapping[str, Any]) -> float:
        """Mean of -log p(true class) over the fold's validation rows; test rows are not read."""
        # named by number: a fold may be called by a speaker, whose name a folder cannot always have
        folder = self.out / "trials" / str(self.split.folds.index(fold))
        (made,) = self._plans(fold, knobs, 1)
        run_all([made], self.material, folder, jobs=1, device=self.budget.device)
        runs = read_runs(folder, "validation")
        run = next(one for one in runs if one.folder.name == made.config.folder)
        right = run.probabilities[np.arange(len(run.truth)), run.truth]
        return float(-np.log(np.maximum(right, 1e-9)).mean())  # a file may have rounded p to 0

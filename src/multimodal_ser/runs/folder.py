"""One fitted model and its predictions ↔ a run folder, which is complete or absent.

A folder is written under another name and renamed. Its name has a hash of its config, so a run that
exists need not be made again. Scores are always derived from the predictions.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from multimodal_ser.common.files import parse_json, sha256_of, written_aside
from multimodal_ser.config.record import ClassNames, Record, RunConfig, as_json
from multimodal_ser.errors import SerError, one_of, some_of
from multimodal_ser.evaluation import metrics
from multimodal_ser.evaluation.agreement import ccc
from multimodal_ser.runs.config_file import read_record
from multimodal_ser.runs.predictions import (
    Predicted,
    PredictionRows,
    read_predictions,
    write_predictions,
)

if TYPE_CHECKING:
    from multimodal_ser.models.fusion import Dims
    from multimodal_ser.training.loop import Fitted

_VERSIONED = ("multimodal-ser", "torch", "scikit-learn", "numpy")
CONFIG, PREDICTIONS, MODEL = "config.json", "predictions.csv", "model.safetensors"
RUN_FILES = (CONFIG, "history.jsonl", PREDICTIONS, "metrics.json", MODEL)
_SCORED = ("test", "validation")
SET_ASIDE = "set-aside"  # folder beside the runs, for runs that were made with other content
Repeat = tuple[int, int]  # seed and draw


@dataclass(frozen=True, eq=False, kw_only=True)
class Run(PredictionRows):
    """One complete run folder, with the rows of one part.

    Attributes:
        folder: the run folder.
        record: its `config.json`.
        tasks: that its model learnt; two of a run that is read as one of a single task.
    """

    folder: Path
    record: Record
    tasks: tuple[str, ...] = ()

    @property
    def config(self) -> RunConfig:
        """Everything that decided its result."""
        return self.record.config

    @property
    def repeat(self) -> Repeat:
        """The seed, and the number of the few-shot draw (0 without one)."""
        few = self.config.train.few
        return self.config.seed, few.draw if few else 0

    @property
    def source(self) -> tuple[str, ...]:
        """The source corpora of the model; empty if it learns from the tested corpora."""
        return tuple(sorted(self.config.source.corpora)) if self.config.source else ()


def is_complete(folder: Path) -> bool:
    """Whether a run folder has all its files."""
    return all((folder / name).is_file() for name in RUN_FILES)


def write_run(
    experiment: Path, config: RunConfig, dims: Dims, fitted: Fitted, parts: Sequence[Predicted]
) -> Path:
    """Writes a run folder, complete or not at all.

    Args:
        experiment: the folder that holds the runs.
        config: of the run.
        dims: of the model's inputs.
        fitted: the model and its history.
        parts: predictions of the validation and the test part.
    """
    # Imported here: these need torch, and reading runs does not.
    from multimodal_ser.runs.model_file import learnt_layers, save_model

    folder = experiment / config.folder
    parameters = sum(p.numel() for p in fitted.model.parameters())
    versions = {name: version(name) for name in _VERSIONED}
    layers = learnt_layers(fitted.model, config.features)
    record = Record(config, parameters, versions, layer_weights=layers)
    rows = "".join(json.dumps(row) + "\n" for row in fitted.history)
    with written_aside(folder) as partial:
        partial.mkdir()
        (partial / "history.jsonl").write_text(rows)
        write_predictions(partial / PREDICTIONS, config.labels.classes, parts)
        digest = sha256_of(partial / PREDICTIONS)
        _write_json(partial / CONFIG, as_json(replace(record, predictions=digest)))
        _write_json(partial / "metrics.json", _scores(config.labels, parts))
        save_model(fitted.model, partial / MODEL, config, dims)
    return folder


def changed_predictions(runs: Iterable[Run]) -> list[Path]:
    """The files of predictions that are not as they were when their runs were made."""
    files = {run.folder / PREDICTIONS: run.record.predictions for run in runs}
    return [path for path, digest in files.items() if digest and sha256_of(path) != digest]


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _scores(labels: ClassNames, parts: Iterable[Predicted]) -> dict[str, dict[str, float]]:
    """Scores for people who look into the folder; reports compute theirs from the predictions."""
    scores: dict[str, dict[str, float]] = {}
    cut = labels.count
    for one in parts:
        of_part = scores.setdefault(one.part, {})
        if cut:
            known = np.array([label != "" for label in one.labels])
            truth = [labels.classes.index(label) for label in one.labels if label]
            matrix = metrics.confusion(truth, one.probabilities[known, :cut].argmax(1), cut)
            of_part |= {name: float(of(matrix)) for name, of in metrics.METRICS.items()}
        if labels.values and one.targets is not None:
            rated = ~np.isnan(one.targets[:, cut:]).any(1)
            found = ccc(one.targets[rated, cut:], one.probabilities[rated, cut:])
            named = zip(labels.classes[cut:], found.tolist(), strict=True)
            of_part |= {f"CCC {name}": value for name, value in named}
    # What is not defined, such as the CCC where nothing varies, is left out: NaN is no JSON.
    return {part: {k: v for k, v in row.items() if v == v} for part, row in scores.items()}


def read_runs(experiment: Path, part: str = "test", task: str | None = None) -> list[Run]:
    """Reads every complete run of an experiment, in the order of folder names.

    Folders whose name starts with a dot, or without a `config.json`, are not finished runs. Models
    that others only start from (protocol ``source``) are not results. A run of two tasks is read as
    one of a single task: with its columns, and the utterances that have a label for it.

    Of an experiment of two tasks, the first one is the default.

    Raises:
        SerError: there is no such folder or no complete run, or a file is damaged (it is named).
    """
    if part not in _SCORED:
        raise SerError(one_of("part", part, _SCORED))
    records = _records(experiment)
    tasks = _tasks(records.values())
    if task is not None and task not in tasks:
        raise SerError(one_of(f"task of {experiment}", task, tasks))
    task = (task or tasks[0]) if len(tasks) > 1 else None
    runs = []
    for folder, record in records.items():
        config = record.config
        for own in config.labels.parts:
            if config.protocol != "source" and task in (None, own.task):
                among = config.labels.classes
                rows = read_predictions(folder / PREDICTIONS, own.classes, part, own.task, among)
                read_as = replace(record, config=replace(config, labels=own))
                learnt = tuple(one.task for one in config.labels.parts)
                runs.append(Run(folder=folder, record=read_as, tasks=learnt, **vars(rows)))
    if not runs:
        # `ser tune`, and experiments on every pair of corpora, keep theirs a folder deeper
        deeper = [path.name for path in sorted(experiment.glob("*")) if config_files(path)]
        give = (
            f"one of its folders that hold runs: {some_of(deeper)}"
            if deeper
            else ("the --out folder of a `ser train` that has finished at least one fold")
        )
        raise SerError(
            f"{experiment}: no complete run in it (a run folder has a config.json); give {give}"
        )
    return runs


def tasks_of(experiment: Path) -> tuple[str, ...]:
    """The tasks of an experiment: one, or those of runs that have two."""
    return _tasks(_records(experiment).values())


def _records(experiment: Path) -> dict[Path, Record]:
    if not experiment.is_dir():
        raise SerError(f"{experiment}: no such folder; give the --out folder of `ser train`")
    return {path.parent: read_record(path) for path in config_files(experiment)}


def _tasks(records: Iterable[Record]) -> tuple[str, ...]:
    found = [tuple(one.task for one in record.config.labels.parts) for record in records]
    return max(found, key=len, default=())


def config_files(experiment: Path) -> list[Path]:
    """The config.json of every finished run of an experiment, sorted by folder name."""
    found = sorted(experiment.glob(f"*/{CONFIG}"))
    return [path for path in found if not path.parent.name.startswith(".")]


def read_description(experiment: Path) -> dict[str, object]:
    """The `experiment.json` of an experiment: protocol, arguments, command; empty if it has none.

    Raises:
        SerError: the file is damaged.
    """
    path = experiment / "experiment.json"
    if not path.is_file():
        return {}
    try:
        return dict(parse_json(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise SerError(
            f"{path}: is not a JSON object ({error}); run the same experiment again"
        ) from error

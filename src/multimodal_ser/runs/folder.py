"""One fitted model and its predictions ↔ a run folder, which is complete or absent.

A folder is written aside and renamed. Its name holds a hash of its config, so a run that is there
already need not be made again. Scores are always derived from the predictions.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from multimodal_ser import metrics
from multimodal_ser.errors import SerError, one_of
from multimodal_ser.files import parse_json, written_aside
from multimodal_ser.record import Record, RunConfig, as_json, read_record
from multimodal_ser.spelling import alike

if TYPE_CHECKING:
    from multimodal_ser.models import Dims
    from multimodal_ser.train import Fitted

VERSIONED = ("multimodal-ser", "torch", "scikit-learn", "numpy")
CONFIG, PREDICTIONS, MODEL = "config.json", "predictions.csv", "model.safetensors"
FILES = (CONFIG, "history.jsonl", PREDICTIONS, "metrics.json", MODEL)
SCORED = ("test", "validation")
SET_ASIDE = "set-aside"  # the folder, beside the runs, of those made with other content
_COLUMNS = ("id", "part", "speaker", "label")

Repeat = tuple[int, int]  # seed and draw


@dataclass(frozen=True)
class Predicted:
    """What a model predicts for one part of a fold.

    Attributes:
        part: ``validation`` or ``test``.
        ids: utterance ids.
        speakers: who speaks; empty where unknown.
        labels: true class names.
        probabilities: float array [N, C].
    """

    part: str
    ids: Sequence[str]
    speakers: Sequence[str]
    labels: Sequence[str]
    probabilities: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Run:
    """One complete run folder, its rows sorted by utterance id.

    Attributes:
        folder: where it lies.
        record: its `config.json`.
        ids: utterance ids of the part that was read, [N].
        speakers: who speaks, unique over corpora; empty where unknown, [N].
        truth: class ids, [N].
        probabilities: [N, C].
    """

    folder: Path
    record: Record
    ids: tuple[str, ...]
    speakers: tuple[str, ...]
    truth: NDArray[np.int64]
    probabilities: NDArray[np.float64]

    @property
    def config(self) -> RunConfig:
        """What decided its result."""
        return self.record.config

    @property
    def model(self) -> str:
        """The model's name."""
        return self.config.model

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names; a class's id is its place."""
        return self.config.labels.classes

    @property
    def repeat(self) -> Repeat:
        """The seed and the draw of the few; draw 0 where nothing was drawn."""
        few = self.config.train.few
        return self.config.seed, few.draw if few else 0

    @property
    def source(self) -> tuple[str, ...]:
        """The corpora that a model comes from; empty where it is the tested ones."""
        return tuple(sorted(self.config.source.corpora)) if self.config.source else ()


def is_complete(folder: Path) -> bool:
    """Whether a run folder has all its files."""
    return all((folder / name).is_file() for name in FILES)


def write_run(
    experiment: Path, config: RunConfig, dims: Dims, fitted: Fitted, parts: Sequence[Predicted]
) -> Path:
    """Writes a run folder aside and renames it.

    Args:
        experiment: the folder that holds the runs.
        config: what was run.
        dims: of the model's inputs.
        fitted: the model and its history.
        parts: predictions of the validation and the test part.
    """
    from multimodal_ser.runs.layers import learnt_layers  # torch, which reading does without
    from multimodal_ser.runs.model_file import save_model

    folder = experiment / config.folder
    parameters = sum(p.numel() for p in fitted.model.parameters())
    versions = {name: version(name) for name in VERSIONED}
    layers = learnt_layers(fitted.model, config.features)
    record = Record(config, parameters, versions, layer_weights=layers)
    rows = "".join(json.dumps(row) + "\n" for row in fitted.history)
    with written_aside(folder) as partial:
        partial.mkdir()
        _write_json(partial / CONFIG, as_json(record))
        (partial / "history.jsonl").write_text(rows)
        _write_predictions(partial / PREDICTIONS, config.labels.classes, parts)
        _write_json(partial / "metrics.json", _scores(config.labels.classes, parts))
        save_model(fitted.model, partial / MODEL, config, dims)
    return folder


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _write_predictions(path: Path, classes: Sequence[str], parts: Iterable[Predicted]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*_COLUMNS, *(f"p_{name}" for name in classes)])
        for one in parts:
            columns = (one.ids, one.speakers, one.labels, one.probabilities)
            for key, speaker, label, row in zip(*columns, strict=True):
                writer.writerow([key, one.part, speaker, label, *(f"{p:.7f}" for p in row)])


def _scores(classes: Sequence[str], parts: Iterable[Predicted]) -> dict[str, dict[str, float]]:
    """A copy for people who look into the folder; reports work from the predictions."""
    scores = {}
    for one in parts:
        truth = [classes.index(label) for label in one.labels]
        matrix = metrics.confusion(truth, one.probabilities.argmax(1), len(classes))
        scores[one.part] = {name: float(of(matrix)) for name, of in metrics.METRICS.items()}
    return scores


def read_runs(experiment: Path, part: str = "test") -> list[Run]:
    """Reads every complete run of an experiment, in the order of folder names.

    A folder whose name starts with a dot, or that has no `config.json`, is not a finished run;
    models that others only start from (protocol ``source``) are no result.

    Args:
        experiment: the folder that holds the run folders.
        part: which rows to read, ``test`` or ``validation``.

    Raises:
        SerError: no such folder, no complete run, or a damaged file (named).
    """
    if part not in SCORED:
        raise SerError(one_of("part", part, SCORED))
    if not experiment.is_dir():
        raise SerError(f"{experiment}: no such folder; give the --out folder of `ser train`")
    records = {path.parent: read_record(path) for path in config_files(experiment)}
    runs = [
        _run(folder, record, part)
        for folder, record in records.items()
        if record.config.protocol != "source"
    ]
    if not runs:
        raise SerError(
            f"{experiment}: no complete run in it (a run folder has a config.json); give the --out "
            "folder of a `ser train` that has finished at least one fold"
        )
    return runs


def config_files(experiment: Path) -> list[Path]:
    """The config.json of every finished run of an experiment, by folder name."""
    found = sorted(experiment.glob(f"*/{CONFIG}"))
    return [path for path in found if not path.parent.name.startswith(".")]


def read_description(experiment: Path) -> dict[str, object]:
    """An experiment's `experiment.json`: protocol, arguments and command; empty where it has none.

    Raises:
        SerError: it is damaged.
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


def _run(folder: Path, record: Record, part: str) -> Run:
    path, classes = folder / PREDICTIONS, record.config.labels.classes
    rows = _read_rows(path, classes, part)
    ids = tuple(row["id"] for row in rows)
    if len(set(ids)) != len(ids):
        twice = next(name for name in ids if ids.count(name) > 1)
        raise _damaged(path, f"it has two rows of utterance {twice!r}")
    return Run(
        folder=folder,
        record=record,
        ids=ids,
        speakers=tuple(_speaker(row) for row in rows),
        truth=np.array([_class_id(path, row, classes) for row in rows], dtype=np.int64),
        probabilities=_probabilities(path, rows, classes),
    )


def _damaged(path: Path, what: str) -> SerError:
    return SerError(
        f"{path}: {what}; delete the folder {path.parent} and run the same `ser train` again: it "
        "makes only that run"
    )


def _read_rows(path: Path, classes: Sequence[str], part: str) -> list[dict[str, str]]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            header = list(reader.fieldnames or ())
            rows = [row for row in reader if row.get("part") == part]
    except FileNotFoundError as error:
        raise _damaged(path, "is missing although the run is marked complete") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise _damaged(path, f"is not a readable CSV ({error})") from error
    _check_header(path, header, classes)
    if not rows:
        raise _damaged(path, f"has no {part} rows")
    short = next((row for row in rows if None in row or None in row.values()), None)
    if short is not None:
        raise _damaged(path, f"the row of {short.get('id')!r} has another length than the header")
    return sorted(rows, key=lambda row: row["id"])


def _check_header(path: Path, header: Sequence[str], classes: Sequence[str]) -> None:
    if lacking := [name for name in _COLUMNS if name not in header]:
        raise _damaged(path, f"lacks the column {', '.join(lacking)}")
    found = [name for name in header if name.startswith("p_")]
    wanted = [f"p_{name}" for name in classes]
    if found != wanted:
        raise _damaged(
            path, f"its probability columns are {found}, its config.json's class order {wanted}"
        )


def _speaker(row: Mapping[str, str]) -> str:
    """Two corpora may both have a speaker "03"; one corpus may spell one speaker in two ways."""
    return f"{corpus_of(row['id'])}/{alike(row['speaker'])}" if row["speaker"] else ""


def corpus_of(key: str) -> str:
    """The corpus that an utterance's id begins with; empty where it names none.

    >>> corpus_of("emodb/03a01Fa"), corpus_of("03a01Fa")
    ('emodb', '')
    """
    corpus, slash, _ = key.partition("/")
    return corpus if slash else ""


def _class_id(path: Path, row: Mapping[str, str], classes: Sequence[str]) -> int:
    if row["label"] not in classes:
        raise _damaged(path, one_of(f"class (of {row['id']!r})", row["label"], classes))
    return classes.index(row["label"])


def _probabilities(
    path: Path, rows: Sequence[Mapping[str, str]], classes: Sequence[str]
) -> NDArray[np.float64]:
    try:
        values = np.array([[float(row[f"p_{name}"]) for name in classes] for row in rows])
    except ValueError as error:
        raise _damaged(path, f"has a probability that is no number ({error})") from error
    good = np.isfinite(values).all(1) & (values >= 0).all(1) & (np.abs(values.sum(1) - 1) < 1e-2)
    if not good.all():
        place = int(np.argmin(good))
        raise _damaged(
            path,
            f"the probabilities of {rows[place]['id']!r} are {values[place].tolist()}, no "
            "distribution over the classes",
        )
    return values

"""runs/<experiment>/<run>/ → Run: what one model said on one fold with one seed."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multimodal_ser.errors import SerError, one_of
from multimodal_ser.files import parse_json

Repeat = tuple[int, int]  # seed and draw
PARTS = ("test", "validation")
SET_ASIDE = "set-aside"  # the folder, beside the runs, of those made with other content
SOURCE = "source"  # the protocol of runs that only prepare others
_REMEDY = "delete the folder {folder} and run the same `ser train` again: it makes only that run"


@dataclass(frozen=True, eq=False)
class Run:
    """One complete run folder, its rows sorted by utterance id.

    Attributes:
        folder: where it lies.
        config: its `config.json`.
        ids: utterance ids of the part that was read, [N].
        speakers: who speaks, unique over corpora; empty where unknown, [N].
        truth: class ids, [N].
        probabilities: [N, C].
    """

    folder: Path
    config: Mapping[str, Any]
    ids: tuple[str, ...]
    speakers: tuple[str, ...]
    truth: NDArray[np.int64]
    probabilities: NDArray[np.float64]

    @property
    def model(self) -> str:
        """The model's name."""
        return str(self.config["model"])

    @property
    def fold(self) -> str:
        """The fold's name."""
        return str(self.config["fold"])

    @property
    def repeat(self) -> Repeat:
        """The seed and the draw of the few; draw 0 where nothing was drawn."""
        return int(self.config["seed"]), int(self.few.get("draw") or 0)

    @property
    def protocol(self) -> str:
        """The kind of experiment."""
        return str(self.config.get("protocol") or "in-domain")

    @property
    def source(self) -> tuple[str, ...]:
        """The corpora that a model comes from; empty where it is the tested ones."""
        found = (self.config.get("source") or {}).get("corpora") or ()
        return tuple(sorted(str(name) for name in found))

    @property
    def adaptation(self) -> Mapping[str, Any]:
        """The adaptation's method and weight; empty where there is none."""
        return self._trained("adaptation") or {}

    @property
    def parts(self) -> str | None:
        """What of a source model was tuned: ``all``, ``head``, ``scratch``; None elsewhere."""
        found = self._trained("parts")
        return None if found is None else str(found)

    @property
    def few(self) -> Mapping[str, Any]:
        """Which few of the target's rows were used; empty where all."""
        return self._trained("few") or {}

    def _trained(self, key: str) -> Any:
        return (self.config.get("train") or {}).get(key)

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names; a class's id is its place."""
        return tuple(self.config["labels"]["classes"])


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
    if part not in PARTS:
        raise SerError(one_of("part", part, PARTS))
    if not experiment.is_dir():
        raise SerError(f"{experiment}: no such folder; give the --out folder of `ser train`")
    folders = [path.parent for path in sorted(experiment.glob("*/config.json"))]
    folders = [folder for folder in folders if not folder.name.startswith(".")]
    runs = [read_run(folder, part) for folder in folders if not _is_source(folder)]
    if not runs:
        raise SerError(
            f"{experiment}: no complete run in it (a run folder has a config.json); give the --out "
            "folder of a `ser train` that has finished at least one fold"
        )
    return runs


def read_command(experiment: Path) -> str | None:
    """The command that made an experiment, where `experiment.json` holds it.

    Raises:
        SerError: `experiment.json` is damaged.
    """
    path = experiment / "experiment.json"
    if not path.is_file():
        return None
    try:
        found = parse_json(path.read_text(encoding="utf-8")).get("command")
    except (ValueError, AttributeError) as error:
        raise SerError(
            f"{path}: is not a JSON object ({error}); run the same experiment again"
        ) from error
    return None if found is None else str(found)


def read_set_aside(experiment: Path) -> list[str]:
    """One sentence where runs of other content were set aside, which no table counts."""
    count = sum(path.is_file() for path in (experiment / SET_ASIDE).glob("*/config.json"))
    if not count:
        return []
    return [
        f"{count} runs made with other labels, features or splits are set aside in {SET_ASIDE} and "
        "not counted"
    ]


def _is_source(folder: Path) -> bool:
    config = _read_config(folder / "config.json")
    return SOURCE in (config.get("protocol"), config.get("role"))


def read_run(folder: Path, part: str = "test") -> Run:
    """Reads one run folder.

    Raises:
        SerError: `config.json` or `predictions.csv` is missing, damaged or lacks something.
    """
    config = _read_config(folder / "config.json")
    classes = [str(name) for name in config["labels"]["classes"]]
    path = folder / "predictions.csv"
    rows = _read_rows(path, classes, part)
    ids = tuple(row["id"] for row in rows)
    if len(set(ids)) != len(ids):
        twice = next(name for name in ids if ids.count(name) > 1)
        raise _damaged(path, f"utterance {twice!r} stands in it twice")
    return Run(
        folder=folder,
        config=config,
        ids=ids,
        speakers=tuple(_speaker(row) for row in rows),
        truth=np.array([_class_id(path, row, classes) for row in rows], dtype=np.int64),
        probabilities=_probabilities(path, rows, classes),
    )


def _damaged(path: Path, what: str) -> SerError:
    return SerError(f"{path}: {what}; {_REMEDY.format(folder=path.parent)}")


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = parse_json(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise _damaged(path, f"is not JSON ({error})") from error
    missing = [
        name
        for name, known in {
            "model": ("model",),
            "seed": ("seed",),
            "fold": ("fold",),
            "labels.classes": ("labels", "classes"),
            "split.hash": ("split", "hash"),
        }.items()
        if _dig(config, known) is None
    ]
    if missing:
        raise _damaged(path, f"lacks {', '.join(missing)}")
    return dict(config)


def _dig(config: object, keys: Sequence[str]) -> object:
    for key in keys:
        config = config.get(key) if isinstance(config, Mapping) else None
    return config


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
    lacking = [name for name in ("id", "part", "speaker", "label") if name not in header]
    if lacking:
        raise _damaged(path, f"lacks the column {', '.join(lacking)}")
    found = [name for name in header if name.startswith("p_")]
    wanted = [f"p_{name}" for name in classes]
    if found != wanted:
        raise _damaged(
            path, f"its probability columns are {found}, its config.json's class order {wanted}"
        )


def _speaker(row: Mapping[str, str]) -> str:
    """Two corpora may both have a speaker "03"; ids begin with the corpus."""
    if not row["speaker"]:
        return ""
    corpus = row["id"].split("/")[0] if "/" in row["id"] else ""
    return f"{corpus}/{row['speaker']}"


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

"""predictions.csv of a run: one row per utterance, with its true class and all probabilities."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from multimodal_ser.common.arrays import Floats, Ints, Singles
from multimodal_ser.common.spelling import alike
from multimodal_ser.errors import SerError, one_of

if TYPE_CHECKING:
    from multimodal_ser.dataset.material import Material

_COLUMNS = ("id", "part", "speaker", "label")


@dataclass(frozen=True)
class Predicted:
    """The predictions of a model for one part of a fold.

    Attributes:
        part: ``validation`` or ``test``.
        ids: utterance ids.
        speakers: of the utterances; empty if unknown.
        labels: true class names; empty for an utterance without one.
        probabilities: float array [N, C]; for attributes, their values.
        targets: votes by class, or true values of attributes, [N, C]; None if classes are
            predicted. Of two tasks both, with a 1 at the class, and nan where there is no label.
    """

    part: str
    ids: Sequence[str]
    speakers: Sequence[str]
    labels: Sequence[str]
    probabilities: Singles
    targets: Floats | None = None

    @classmethod
    def of(
        cls,
        part: str,
        material: Material,
        ids: Sequence[str],
        probabilities: Singles,
        targets: Floats | None = None,
    ) -> Predicted:
        """The predictions for these utterances of a material, with their speakers and classes."""
        examples, names = material.examples, material.labels.classes
        rows = [examples.places[key] for key in ids]
        speakers = [material.utterances[row].speaker or "" for row in rows]
        labels = ["" if place < 0 else names[place] for place in examples.label[rows].tolist()]
        return cls(part, ids, speakers, labels, probabilities, targets)


@dataclass(frozen=True, eq=False, kw_only=True)
class PredictionRows:
    """The rows of one part, sorted by utterance id.

    Attributes:
        ids: utterance ids, [N].
        speakers: of the utterances, unique over corpora; empty if unknown, [N].
        truth: class ids, [N]; -1 for an utterance without one.
        probabilities: [N, C]; for attributes, their values.
        targets: votes by class, or true values of attributes, [N, C]; None if classes are
            predicted.
    """

    ids: tuple[str, ...]
    speakers: tuple[str, ...]
    truth: Ints
    probabilities: Floats
    targets: Floats | None = None


def write_predictions(path: Path, classes: Sequence[str], parts: Iterable[Predicted]) -> None:
    """Writes the rows of all parts, with seven decimals.

    Raises:
        SerError: a probability or value is not finite.
    """
    parts = list(parts)
    for one in parts:
        finite = np.isfinite(one.probabilities).all(1)
        if not finite.all():
            raise SerError(
                f"the model's outputs for {one.ids[int(np.argmin(finite))]!r} are "
                f"{one.probabilities[np.argmin(finite)].tolist()}: the training diverged; take a "
                "lower --schedule.learning-rate, or correct the model if it is your own"
            )
    with_targets = any(one.targets is not None for one in parts)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        names = [f"{kind}_{name}" for kind in ("tp" if with_targets else "p") for name in classes]
        writer.writerow([*_COLUMNS, *names])
        for one in parts:
            # No columns for the truth in a task of classes: the label says it.
            true = np.zeros((len(one.ids), 0)) if one.targets is None else one.targets
            columns = (one.ids, one.speakers, one.labels, true, one.probabilities)
            for key, speaker, label, target, row in zip(*columns, strict=True):
                shown = ["" if np.isnan(t) else f"{t:.7g}" for t in target]
                shown += [f"{p:.7f}" for p in row]
                writer.writerow([key, one.part, speaker, label, *shown])


def read_predictions(
    path: Path,
    classes: Sequence[str],
    part: str,
    task: str = "classes",
    among: Sequence[str] | None = None,
) -> PredictionRows:
    """Reads the rows of one part.

    Args:
        path: the file.
        classes: names of the columns, in order.
        part: ``validation`` or ``test``.
        task: ``classes``, ``distributions`` or ``attributes``; it decides what the columns mean.
        among: all columns of a file of two tasks; rows without a label for `task` are left out.

    Raises:
        SerError: the file is missing or damaged, or its classes are not these in this order.
    """
    rows = _read_rows(path, among or classes, part)
    if among is not None and tuple(among) != tuple(classes):
        needed = "label" if task == "classes" else f"t_{classes[0]}"
        rows = [row for row in rows if row.get(needed)]
    ids = tuple(row["id"] for row in rows)
    if len(set(ids)) != len(ids):
        twice = next(name for name in ids if ids.count(name) > 1)
        raise _damaged(path, f"it has two rows of utterance {twice!r}")
    values = _numbers(path, rows, [f"p_{name}" for name in classes])
    targets = None
    if task != "classes":
        targets = _numbers(path, rows, [f"t_{name}" for name in classes])
    if targets is not None and not np.isfinite(np.hstack([values, targets])).all():
        raise _damaged(path, "has a number that is not finite")
    if task == "attributes":
        truth = np.full(len(rows), -1, dtype=np.int64)
    else:
        _check_distributions(path, rows, values)
        unknown = task == "distributions"
        truth = np.array([_class_id(path, row, classes, unknown) for row in rows], dtype=np.int64)
    # distinguished by corpus, and with the spellings of one name unified
    speakers = tuple(
        f"{corpus_of(row['id'])}/{alike(row['speaker'])}" if row["speaker"] else "" for row in rows
    )
    return PredictionRows(
        ids=ids, speakers=speakers, truth=truth, probabilities=values, targets=targets
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
    if lacking := [name for name in _COLUMNS if name not in header]:
        raise _damaged(path, f"lacks the column {', '.join(lacking)}")
    shown, wanted = [n for n in header if n.startswith("p_")], [f"p_{name}" for name in classes]
    if shown != wanted:
        raise _damaged(
            path, f"its probability columns are {shown}, its config.json's class order {wanted}"
        )
    if not rows:
        raise _damaged(path, f"has no {part} rows")
    short = next((row for row in rows if None in row or None in row.values()), None)
    if short is not None:
        raise _damaged(path, f"the row of {short.get('id')!r} has another length than the header")
    return sorted(rows, key=lambda row: row["id"])


def corpus_of(key: str) -> str:
    """The corpus at the beginning of an utterance's id; empty if there is none.

    >>> corpus_of("emodb/03a01Fa"), corpus_of("03a01Fa")
    ('emodb', '')
    """
    corpus, slash, _ = key.partition("/")
    return corpus if slash else ""


def _class_id(path: Path, row: Mapping[str, str], classes: Sequence[str], unknown: bool) -> int:
    if unknown and not row["label"]:
        return -1
    if row["label"] not in classes:
        raise _damaged(path, one_of(f"class (of {row['id']!r})", row["label"], classes))
    return classes.index(row["label"])


def _numbers(path: Path, rows: Sequence[Mapping[str, str]], columns: Sequence[str]) -> Floats:
    try:
        values = np.array([[float(row[name]) for name in columns] for row in rows])
    except KeyError as error:
        raise _damaged(path, f"lacks the column {error}") from error
    except ValueError as error:
        what = "probability" if columns[0].startswith("p_") else "target"
        raise _damaged(path, f"has a {what} that is no number ({error})") from error
    return values


def _check_distributions(path: Path, rows: Sequence[Mapping[str, str]], values: Floats) -> None:
    # A tolerance of 0.01 in the sum: files written by hand or by other programs are rounded.
    good = np.isfinite(values).all(1) & (values >= 0).all(1) & (np.abs(values.sum(1) - 1) < 1e-2)
    if not good.all():
        place = int(np.argmin(good))
        raise _damaged(
            path,
            f"the probabilities of {rows[place]['id']!r} are {values[place].tolist()}, no "
            "distribution over the classes",
        )

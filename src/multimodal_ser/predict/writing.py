"""Predictions by file → a readable table, JSON, JSON lines or CSV."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TextIO, TypeAlias

from multimodal_ser.common.files import one_line, readable_json, spelt_out
from multimodal_ser.errors import SerError
from multimodal_ser.predict.prediction import FAILED, NO_SPEECH, UNCERTAIN, Prediction, flat_record

# The name of each recording, and its prediction or the reason why it failed.
_Rows: TypeAlias = "Iterable[tuple[str, Prediction | SerError]]"
_UNKNOWN = dict.fromkeys(
    ("confidence", "start", "end", "text", "language", "threshold", "adapted", "distance")
)
_SHOWN = 3  # classes per row of the table
_FAR = 2.0  # the table shows greater distances from the training data: the logits are halved there


def write_table(rows: _Rows, labels: Sequence[str], file: TextIO) -> None:
    """Writes one aligned line per recording: the label and the most probable classes."""
    kept = [(one_line(name), item) for name, item in rows]
    wide = max((len(name) for name, _ in kept), default=0)
    longest = max(len(label) for label in (*labels, UNCERTAIN, NO_SPEECH))
    for name, item in kept:
        if isinstance(item, SerError):
            file.write(f"{name:{wide}}  {FAILED}\n")
            continue
        if item.reason is not None:
            file.write(f"{name:{wide}}  {item.label:{longest}}  {item.reason}\n")
            continue
        # of equal ones the first, which is the label
        best = (-item.probabilities).argsort(kind="stable")[:_SHOWN]
        shares = "  ".join(f"{labels[n]} {item.probabilities[n]:.2f}" for n in best)
        if rated := item if item.scale else item.also:
            low, high = rated.scale or (0, 1)
            values = "  ".join(f"{one} {value:.2f}" for one, value in rated.attributes.items())
            values = f"{values}  (of {low:g} to {high:g})"
            shares = values if item.scale else f"{shares}  {values}"
        words = f"  “{item.text}”" if item.text else ""
        words += f" [{item.language}]" if item.language else ""
        if item.distance is not None and item.distance > _FAR:
            words = f"  unlike the training data of the model ({item.distance:.1f}){words}"
        label = f"  {item.label:{longest}}" if item.scale is None else ""
        file.write(f"{name:{wide}}{label}  {shares}{words}\n")


def write_json(rows: _Rows, labels: Sequence[str], file: TextIO) -> None:
    """Writes one JSON list."""
    found = [_record(name, item) for name, item in rows]
    file.write(readable_json(found, indent=1) + "\n")


def write_jsonl(rows: _Rows, labels: Sequence[str], file: TextIO) -> None:
    """Writes one JSON object per line, as soon as each prediction is there."""
    for name, item in rows:
        file.write(readable_json(_record(name, item)) + "\n")
        file.flush()  # a program that reads along gets each line at once


def write_csv(rows: _Rows, labels: Sequence[str], file: TextIO) -> None:
    """Writes one row per recording at once; columns for each class's probability or attribute."""
    waiting: list[dict[str, Any]] = []
    writer: csv.DictWriter[str] | None = None
    for name, item in rows:
        waiting.append({"file": spelt_out(name), **flat_record(item)})
        if writer is None and isinstance(item, Prediction):  # the first one decides the columns
            writer = _csv_writer(labels, item, file)
        if writer is not None:
            writer.writerows(waiting)
            waiting.clear()
            file.flush()
    if writer is None:
        _csv_writer(labels, None, file).writerows(waiting)


def _csv_writer(
    labels: Sequence[str], first: Prediction | None, file: TextIO
) -> csv.DictWriter[str]:
    rest = ("start", "end", "text", "language", "reason", "adapted", "distance")
    columns = ["file", "label", "confidence", *rest, *(f"p_{label}" for label in labels)]
    if first is not None and first.scale is not None:
        columns = ["file", *rest, *labels]
    elif first is not None and first.also is not None:
        columns += first.also.labels
    columns.append("warnings")
    writer = csv.DictWriter(file, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    return writer


def _record(name: str, item: Prediction | SerError) -> dict[str, Any]:
    if isinstance(item, SerError):
        return {"file": name, **flat_record(item), **_UNKNOWN, "probabilities": {}, "warnings": []}
    return {"file": name, **item.as_dict()}


FORMATS: dict[str, Callable[[_Rows, Sequence[str], TextIO], None]] = {
    "table": write_table,
    "json": write_json,
    "jsonl": write_jsonl,
    "csv": write_csv,
}

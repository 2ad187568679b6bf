"""Rows of many recordings → a table of recordings and a table of all their segments."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeAlias

from multimodal_ser.corpora.utterance import ATTRIBUTES
from multimodal_ser.predict.prediction import UNCERTAIN
from multimodal_ser.timeline.track import Scale

_Row: TypeAlias = Mapping[str, Any]
_PARQUET = find_spec("pyarrow") is not None  # the extra ``parquet``
SEGMENTS = "segments.parquet" if _PARQUET else "segments.csv"
_GROUP = 20_000  # rows in memory before they are written


def columns_of(labels: Sequence[str], scale: Scale) -> dict[str, str]:
    """Class or attribute → the name of its column: ``p_…`` for probabilities."""
    return {
        name: name if scale is not None or name in ATTRIBUTES else f"p_{name}" for name in labels
    }


def index_row(row: _Row | None, labels: Sequence[str], scale: Scale = None) -> list[Any]:
    """The line of a recording in the index; without a row, the names of the columns."""
    if row is None:
        columns = ["source", "name", "status", "reason", "duration", "speech", "speakers"]
        return [*columns, "mostly", *columns_of(labels, scale).values(), "segments", "notes"]
    if row["reason"]:
        empty = [""] * (5 + len(labels))
        return [row["source"], row["name"], "failed", row["reason"], *empty, ""]
    timeline = row["timeline"]
    spoken = sum(end - start for start, end in timeline["speech"])
    overall = {**timeline["overall"], **timeline.get("attributes", {}).get("overall", {})}
    return [
        row["source"], row["name"], "done", "", timeline["duration"], round(spoken, 3),
        ";".join(one["name"] for one in timeline["speakers"]), mostly(timeline["segments"]) or "",
        *(overall.get(name, "") for name in labels), len(timeline["segments"]),
        "; ".join(timeline["notes"]),
    ]  # fmt: skip


def seconds_of(segments: Sequence[_Row]) -> dict[str, float]:
    """Label → seconds."""
    found: dict[str, float] = defaultdict(float)
    for s in segments:
        found[s["label"]] += s["end"] - s["start"]
    return dict(found)


def mostly(segments: Sequence[_Row]) -> str | None:
    """The label with most seconds; ``uncertain`` only if there is no other, None without speech."""
    found = seconds_of(segments)
    sure = {name: seconds for name, seconds in found.items() if name != UNCERTAIN} or found
    return max(sure, key=lambda name: sure[name], default=None)


def segment_rows(row: _Row, labels: Sequence[str], scale: Scale = None) -> list[dict[str, Any]]:
    """The segments of a recording, each with the recording's name."""
    if row["reason"]:
        return []
    return [
        {
            "source": row["source"], "start": s["start"], "end": s["end"],
            "speaker": s["speaker"], "label": s["label"], "confidence": s.get("confidence"),
            **{column: {**s.get("probabilities", {}), **s.get("attributes", {})}[name]
               for name, column in columns_of(labels, scale).items()},
            "text": s["text"],
        }
        for s in row["timeline"]["segments"]
    ]  # fmt: skip


@contextmanager
def writer_of(
    file: Path, labels: Sequence[str], scale: Scale = None
) -> Iterator[Callable[[Sequence[dict[str, Any]]], None]]:
    """Yields a function that adds rows to a file of segments: Parquet, or CSV without pyarrow."""
    numbers = ["start", "end", "confidence", *columns_of(labels, scale).values()]
    columns = ["source", "start", "end", "speaker", "label", "confidence", *numbers[3:], "text"]
    if not _PARQUET:
        with file.open("w", encoding="utf-8", newline="") as text:
            rows = csv.DictWriter(text, columns, lineterminator="\n")
            rows.writeheader()
            yield rows.writerows
        return
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = {name: pa.float64() if name in numbers else pa.string() for name in columns}
    schema = pa.schema(list(kinds.items()))
    held: list[dict[str, Any]] = []
    with pq.ParquetWriter(file, schema) as whole:

        def add(rows: Sequence[dict[str, Any]]) -> None:
            held.extend(rows)
            if len(held) >= _GROUP:
                whole.write_table(pa.Table.from_pylist(held, schema))
                held.clear()

        yield add
        if held:
            whole.write_table(pa.Table.from_pylist(held, schema))

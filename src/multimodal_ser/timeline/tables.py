"""Rows of many recordings → a table of recordings, one of all their segments, and a page."""

from __future__ import annotations

import csv
import heapq
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import quote

import numpy as np

from multimodal_ser.corpora.utterance import ATTRIBUTES
from multimodal_ser.predict.prediction import UNCERTAIN, label_colours, regions
from multimodal_ser.timeline.page import page_templates
from multimodal_ser.timeline.track import Scale, attributes_text, clock, remarks

_Row: TypeAlias = Mapping[str, Any]
_PARQUET = find_spec("pyarrow") is not None  # the extra ``parquet``
SEGMENTS = "segments.parquet" if _PARQUET else "segments.csv"
_GROUP = 20_000  # rows in memory before they are written
_PARTS = 10  # equal parts of a recording, over which the trend is shown
_SHOWN = 10  # of outliers, strongest moments and reasons
_MOST = 1_000  # recordings in the page's table; the index has all of them


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
        ";".join(one["name"] for one in timeline["speakers"]),
        most_of(seconds_of(timeline["segments"])) or "",
        *(overall.get(name, "") for name in labels), len(timeline["segments"]),
        "; ".join(remarks(timeline)),
    ]  # fmt: skip


def seconds_of(segments: Sequence[_Row]) -> dict[str, float]:
    """Label → seconds."""
    found: dict[str, float] = defaultdict(float)
    for s in segments:
        found[s["label"]] += s["end"] - s["start"]
    return dict(found)


def most_of(found: Mapping[str, float]) -> str | None:
    """The label with most seconds; ``uncertain`` only if there is no other, None without speech."""
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


def segment_columns(labels: Sequence[str], scale: Scale = None) -> list[str]:
    """The names of the columns of `segment_rows`."""
    values = columns_of(labels, scale).values()
    return ["source", "start", "end", "speaker", "label", "confidence", *values, "text"]


@contextmanager
def writer_of(
    file: Path, labels: Sequence[str], scale: Scale = None
) -> Iterator[Callable[[Sequence[dict[str, Any]]], None]]:
    """Yields a function that adds rows to a file of segments: Parquet, or CSV without pyarrow."""
    numbers = {"start", "end", "confidence", *columns_of(labels, scale).values()}
    columns = segment_columns(labels, scale)
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


class Overview:
    """Sums over recordings, in memory that does not grow with their number.

    Args:
        labels: the model's classes, or attributes.
        scale: for attributes, the values that 0 and 1 stand for; None for classes.

    Attributes:
        rows: the rows of the page's table, which has the first recordings alone.
    """

    def __init__(self, labels: Sequence[str], scale: Scale = None) -> None:
        self.labels = [*labels, UNCERTAIN] if scale is None else list(regions(labels))
        self.scale, self.colours = scale, label_colours(labels, scale)
        self.count, self.duration, self.spoken = 0, 0.0, 0.0
        self.seconds: dict[str, float] = defaultdict(float)
        self.speakers: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
        self.trend = np.zeros((_PARTS, len(self.labels)))
        self.failed = 0
        self.failures: list[tuple[str, str]] = []
        self.strongest: list[tuple[float, str, dict[str, Any]]] = []
        self.rows: list[dict[str, Any]] = []

    def add(self, row: Mapping[str, Any]) -> None:
        """Adds a row of the journal."""
        if row["reason"]:
            self.failed += 1
            if len(self.failures) < _SHOWN:
                self.failures.append((row["source"], row["reason"]))
            return
        timeline = row["timeline"]
        segments, duration = timeline["segments"], timeline["duration"]
        spoken = sum(end - start for start, end in timeline["speech"])
        self.count, self.duration = self.count + 1, self.duration + duration
        self.spoken += spoken
        found = seconds_of(segments)
        for label, seconds in found.items():
            self.seconds[label] += seconds
        for s in segments:
            self._segment(row["source"], s, duration)
        if len(self.rows) < _MOST:
            names = ", ".join(one["name"] for one in timeline["speakers"])
            every = max(sum(found.values()), 1e-9)  # more than is spoken where speakers overlap
            self.rows.append(
                {"source": row["source"], "page": quote(f"{row['name']}.html"), "speakers": names,
                 "duration": duration, "spoken": spoken, "mostly": most_of(found) or "–",
                 "shares": [found.get(name, 0) / every for name in self.labels]}
            )  # fmt: skip

    def _segment(self, source: str, s: Mapping[str, Any], duration: float) -> None:
        seconds, label = s["end"] - s["start"], s["label"]
        place = min(int(_PARTS * (s["start"] + s["end"]) / 2 / max(duration, 1e-9)), _PARTS - 1)
        self.trend[place, self.labels.index(label)] += seconds
        if s["speaker"] is not None:
            self.speakers[s["speaker"]][label] += seconds
        if label not in (UNCERTAIN, "neutral"):
            summary, force = self._summary(s)
            where = f"{source}\0{s['start']:012.3f}\0{s['speaker']}"
            segment = {**s, "summary": summary}
            # A heap of the ten strongest moments: the weakest is dropped as soon as there are
            # eleven. No two have the same place, since dicts cannot be compared.
            heapq.heappush(self.strongest, (force * min(seconds, 10.0), where, segment))
            if len(self.strongest) > _SHOWN:
                heapq.heappop(self.strongest)

    def _summary(self, s: Mapping[str, Any]) -> tuple[str, float]:
        """A segment in words, and its strength 0 to 1: confidence, or distance from the middle."""
        if self.scale is None:
            return f"{s['label']} {100 * s['confidence']:.0f} %", s["confidence"]
        low, high = self.scale
        unit = {name: (value - low) / (high - low) for name, value in s["attributes"].items()}
        far = max(abs(2 * value - 1) for value in unit.values())
        return f"{s['label']} ({attributes_text(unit, self.scale)})", far

    def outliers(self) -> list[tuple[float, dict[str, Any]]]:
        """Those of `rows` whose shares of emotions differ most from the mean, from 0 to 1."""
        total = max(sum(self.seconds.values()), 1e-9)
        mean = np.array([self.seconds.get(name, 0) / total for name in self.labels])
        off = [(float(np.abs(np.array(row["shares"]) - mean).sum() / 2), row)
               for row in self.rows if row["spoken"] > 0]  # fmt: skip
        return sorted(off, key=lambda pair: (-pair[0], pair[1]["source"]))[:_SHOWN]


def summary_page(overview: Overview, pages: bool) -> str:
    """Writes the page; `pages` says whether each recording has its own, to link to."""
    moments = [(key.split("\0")[0], s) for _, key, s in sorted(overview.strongest, reverse=True)]
    kept = {row["source"]: row["page"] for row in overview.rows} if pages else {}
    return page_templates().get_template("summary.html").render(
        all=overview, clock=clock, moments=moments, pages=kept, most=_MOST, most_of=most_of,
        colours=overview.colours,
    )  # fmt: skip

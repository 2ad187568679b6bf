"""Rows of many recordings → one page about all: speakers, durations, emotions and outliers."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import numpy as np

from multimodal_ser.predict.prediction import UNCERTAIN, label_colours, regions
from multimodal_ser.timeline.page import page_templates
from multimodal_ser.timeline.tables import mostly, seconds_of
from multimodal_ser.timeline.track import Scale, attributes_text, clock

_PARTS = 10  # equal parts of a recording, over which the trend is shown
_SHOWN = 10  # of outliers, strongest moments and reasons
_MOST = 1_000  # recordings in the page's table; the index has all of them


class Overview:
    """Sums over recordings, in memory that does not grow with their number.

    Args:
        labels: the model's classes, or attributes.
        scale: for attributes, the values that 0 and 1 stand for; None for classes.
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
            self.rows.append(
                {"source": row["source"], "page": quote(f"{row['name']}.html"), "speakers": names,
                 "duration": duration, "spoken": spoken, "mostly": mostly(segments) or "–",
                 "shares": [found.get(name, 0) / max(spoken, 1e-9) for name in self.labels]}
            )  # fmt: skip

    def _segment(self, source: str, s: Mapping[str, Any], duration: float) -> None:
        seconds, label = s["end"] - s["start"], s["label"]
        place = min(int(_PARTS * (s["start"] + s["end"]) / 2 / max(duration, 1e-9)), _PARTS - 1)
        self.trend[place, self.labels.index(label)] += seconds
        if s["speaker"] is not None:
            self.speakers[s["speaker"]][label] += seconds
        if label not in (UNCERTAIN, "neutral"):
            said, force = self._said(s)
            where, segment = f"{source}\0{s['start']:012.3f}", {**s, "said": said}
            # A heap of the ten strongest moments: the weakest is dropped as soon as there are
            # eleven.
            heapq.heappush(self.strongest, (force * min(seconds, 10.0), where, segment))
            if len(self.strongest) > _SHOWN:
                heapq.heappop(self.strongest)

    def _said(self, s: Mapping[str, Any]) -> tuple[str, float]:
        """A segment in words, and its strength 0 to 1: confidence, or distance from the middle."""
        if self.scale is None:
            return f"{s['label']} {100 * s['confidence']:.0f} %", s["confidence"]
        low, high = self.scale
        unit = {name: (value - low) / (high - low) for name, value in s["attributes"].items()}
        far = max(abs(2 * value - 1) for value in unit.values())
        return f"{s['label']} ({attributes_text(unit, self.scale)})", far

    def outliers(self) -> list[tuple[float, dict[str, Any]]]:
        """The recordings whose shares of emotions differ most from the mean, from 0 to 1."""
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
        all=overview, clock=clock, moments=moments, pages=kept, most=_MOST,
        colours=overview.colours,
    )  # fmt: skip

"""The original document's own numbers, to stand beside ours: published, not ours.

They are data, `published.json`, copied from its README and, where a row says so, from its public
result files. None was measured here, and the doubts that its code raises stand beneath each table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from cattrs import structure

from multimodal_ser.common.files import parse_json
from multimodal_ser.report.summary import Row, Summary

MARK = "published, not ours"
_FOUR = frozenset({"anger", "happiness", "neutral", "sadness"})


@dataclass(frozen=True)
class Published:
    """One published row.

    Attributes:
        name: what the original calls it.
        scores: shares between 0 and 1, by the names of our scores.
        ours: the kind of our system that does the same; empty: the best network.
        percent: of the target's labels; None where that was not varied.
        corpora: it was tested on.
        classes: of the task.
    """

    name: str
    scores: Mapping[str, float]
    ours: str
    percent: float | None = None
    corpora: tuple[str, ...] = ("cremad",)
    classes: frozenset[str] = _FOUR


@dataclass(frozen=True)
class PublishedTable:
    """One of the original's tables.

    Attributes:
        title: what it shows.
        protocols: the kinds of experiment that it belongs to.
        part: which rows it scores, ``test`` or ``validation``.
        source: the corpora that models came from.
        rows: its lines.
        doubts: what a reader has to know before comparing.
    """

    title: str
    protocols: tuple[str, ...]
    part: str
    source: tuple[str, ...]
    rows: tuple[Published, ...]
    doubts: tuple[str, ...]


@dataclass(frozen=True)
class Document:
    """Where the numbers are from, the model that it proposes, and its tables."""

    source: str
    model: str
    tables: tuple[PublishedTable, ...]


@cache
def original() -> Document:
    """Reads the original's numbers."""
    text = (files("multimodal_ser.report") / "published.json").read_text("utf-8")
    return structure(parse_json(text), Document)


def tables_for(summary: Summary) -> list[PublishedTable]:
    """The original's tables to show: its context pages always, the others where they fit."""
    found = [table for table in original().tables if summary.protocol in table.protocols]
    always = summary.protocol in ("ablation", "fewshot")
    return [
        table for table in found if always or any(fits(row, table, summary) for row in table.rows)
    ]


def fits(row: Published, table: PublishedTable, summary: Summary) -> bool:
    """Whether a published row is of the same corpora, source and classes as an experiment."""
    return (
        tuple(sorted(summary.corpora)) == row.corpora
        and summary.source == table.source
        and frozenset(summary.classes) == row.classes
    )


def beside(row: Published, table: PublishedTable, summary: Summary) -> Row | None:
    """Our row that belongs beside a published one; None where experiment or system differ."""
    shown = summary.validation if table.part == "validation" else summary
    if shown is None or not fits(row, table, summary):
        return None
    return next((own for own in shown.rows if _same(own, row)), None)


def _same(own: Row, row: Published) -> bool:
    if not row.ours:
        return not own.baseline
    percent = own.share.amount if own.share and own.share.unit == "percent" else None
    return own.kind.split(", ")[0] == row.ours and percent == row.percent

"""The original document's published numbers, shown next to ours and marked as not ours.

The data is in `published.json`, copied from the original's README and, where a row says so, from
its public result files. None of it was measured here. Doubts about the original's code are shown
below each table.
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
        name: the original's name for it.
        scores: shares between 0 and 1, by the names of our scores.
        ours: the kind of our corresponding system; empty: our best network.
        percent: of the target's labels; None if that was not varied.
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
        doubts: caveats that a reader must know before comparing.
    """

    title: str
    protocols: tuple[str, ...]
    part: str
    source: tuple[str, ...]
    rows: tuple[Published, ...]
    doubts: tuple[str, ...]


@dataclass(frozen=True)
class Document:
    """The numbers' source, the model it proposes, and its tables."""

    source: str
    model: str
    tables: tuple[PublishedTable, ...]


@cache
def original() -> Document:
    """Reads the original's numbers."""
    text = (files("multimodal_ser.report") / "published.json").read_text("utf-8")
    return structure(parse_json(text), Document)


def tables_for(summary: Summary) -> list[PublishedTable]:
    """Returns the original's tables that have a row of the same task."""
    return [
        table
        for table in original().tables
        if summary.protocol in table.protocols
        and any(fits(row, table, summary) for row in table.rows)
    ]


def fits(row: Published, table: PublishedTable, summary: Summary) -> bool:
    """Whether a published row has the same corpora, source and classes as an experiment.

    The model may differ: this only says that the task is the same.
    """
    return (
        summary.task == "classes"
        and tuple(sorted(summary.corpora)) == row.corpora
        and summary.source == table.source
        and frozenset(summary.classes) == row.classes
    )


def counterpart(row: Published, table: PublishedTable, summary: Summary) -> Row | None:
    """Returns our counterpart of a published row; None if the experiment or system differs."""
    shown = summary.validation if table.part == "validation" else summary
    if shown is None or not fits(row, table, summary):
        return None
    return next((own for own in shown.rows if _same(own, row)), None)


def _same(own: Row, row: Published) -> bool:
    if not row.ours:
        return not own.baseline
    percent = own.share.amount if own.share and own.share.unit == "percent" else None
    return own.kind.split(", ")[0] == row.ours and percent == row.percent

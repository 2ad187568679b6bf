"""Summary → the cells of its tables, as every format shows them."""

from __future__ import annotations

from multimodal_ser.report import words
from multimodal_ser.report.published import MARK, PublishedTable, beside
from multimodal_ser.report.summary import Group, Row, Summary

SCORES = ("UA", "WA", "WF1", "macro-F1")
HEAD = ("model", "parameters", "seeds", *SCORES, "ECE")
GROUP_HEAD = ("group", "model", "utterances", "speakers", "UA", "WA", "against all others")


def lead(row: Row) -> list[str]:
    """A row's cells before its scores, without its notes' letters."""
    parameters = "–" if row.parameters is None else f"{row.parameters:,}"
    return [row.name, parameters, words.repeats(row)]


def group_cells(group: Group) -> list[str]:
    """A group's cells, in the order of GROUP_HEAD."""
    scores = [group.scores[name] for name in ("UA", "WA")]
    return [
        f"{group.by}: {group.name}",
        group.system,
        f"{group.utterances:,}",
        f"{group.clusters:,}",
        *(f"{words.spread(one)} {words.interval(one)}".strip() for one in scores),
        words.group_line(group),
    ]


def published_head(summary: Summary) -> list[str]:
    """The head of a table of the original beside ours."""
    return [f"{MARK}", "UA", "WA", "WF1", f"ours: {summary.name}", "our UA"]


def published_grid(table: PublishedTable, summary: Summary) -> list[list[str]]:
    """Head and rows of one of the original's tables, ours beside where it is the same task."""
    lines = [published_head(summary)]
    for row in table.rows:
        own = beside(row, table, summary)
        score = own.scores["UA"] if own else None
        ours = f"{words.spread(score)} {words.interval(score)}" if score else "–"
        values = [row.scores.get(name) for name in ("UA", "WA", "WF1")]
        shown = ["–" if value is None else f"{100 * value:.2f}" for value in values]
        lines.append([row.name, *shown, own.name if own else "–", ours.strip()])
    return lines

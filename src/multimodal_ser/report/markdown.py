"""Summary → Markdown: the tables of docs/results.md."""

from __future__ import annotations

from collections.abc import Sequence

from multimodal_ser.report import words
from multimodal_ser.report.cells import (
    GROUP_HEAD,
    HEAD,
    SCORES,
    group_cells,
    lead,
    published_grid,
)
from multimodal_ser.report.published import tables_for
from multimodal_ser.report.summary import Row, Summary


def markdown_table(summary: Summary) -> str:
    """Writes the tables with all that qualifies them beneath."""
    lines = [words.subject(summary) + ".", ""]
    lines += [*_grid(HEAD, [_row(row, summary) for row in summary.rows]), ""]
    lines += [escape(" ".join(words.how_to_read(summary))), "", *_beneath(summary)]
    if groups := words.shown_groups(summary):
        lines += ["", *_grid(GROUP_HEAD, list(map(group_cells, groups))), ""]
        lines += [escape(words.groups_read(summary))]
    for table in tables_for(summary):
        head, *rows = published_grid(table, summary)
        lines += ["", escape(words.published_read(table)), "", *_grid(head, rows), ""]
        lines += [f"- doubt: {escape(line)}" for line in table.doubts]
    text = "\n".join(lines).rstrip("\n") + "\n"
    return text if summary.validation is None else f"{text}\n{markdown_table(summary.validation)}"


def _row(row: Row, summary: Summary) -> list[str]:
    first, *rest = lead(row)
    marks = f" ({', '.join(row.notes)})" if row.notes else ""
    cells = []
    for name in SCORES:
        score = row.scores[name]
        mean = words.spread(score)
        strong = row is summary.best and name == SCORES[0]
        cells.append(f"**{mean}**" if strong else mean)
        cells[-1] = f"{cells[-1]} {words.interval(score)}".strip()
    return [first + marks, *rest, *cells, words.spread(row.scores["ECE"])]


def _beneath(summary: Summary) -> list[str]:
    lines = [f"- {note.letter}: {escape(words.noted(note))}" for note in summary.notes]
    lines += [f"- missing: {escape(line)}" for line in summary.missing]
    lines += [f"- caution: {escape(line)}" for line in summary.cautions]
    return lines + [f"- {escape(line)}" for line in words.verdicts(summary)]


def _grid(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [_line(head), "|" + "---|" + "---:|" * (len(head) - 1)]
    return lines + [_line(row) for row in rows]


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(escape(cell) for cell in cells) + " |"


def escape(text: str) -> str:
    r"""Escapes what Markdown would take for its own, but for the asterisks of bold numbers.

    >>> print(escape("cross_attention <a|b>"))
    cross\_attention \<a\|b\>
    """
    return "".join("\\" + sign if sign in "_<>|`" else sign for sign in text)

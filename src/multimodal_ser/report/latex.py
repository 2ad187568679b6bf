"""Summary → table.tex: booktabs tables with their notes, ready for a paper."""

from __future__ import annotations

from collections.abc import Sequence

from multimodal_ser.report import words
from multimodal_ser.report.cells import GROUP_HEAD, HEAD, SCORES, group_cells, lead, published_grid
from multimodal_ser.report.published import PublishedTable, tables_for
from multimodal_ser.report.summary import Row, Summary


def latex_table(summary: Summary) -> str:
    r"""Writes booktabs tables with their notes.

    The preamble needs ``\usepackage{booktabs,threeparttable}``.
    """
    tables = [_main(summary)]
    if groups := words.shown_groups(summary):
        rows = [[latex(cell) for cell in group_cells(group)] for group in groups]
        caption = f"Groups. {words.subject(summary)}"
        tables.append(_table(caption, GROUP_HEAD, rows, [("", words.groups_read(summary))]))
    tables += [_published(table, summary) for table in tables_for(summary)]
    text = "% preamble: \\usepackage{booktabs,threeparttable}\n" + "\n".join(tables)
    return text if summary.validation is None else f"{text}\n{latex_table(summary.validation)}"


def _main(summary: Summary) -> str:
    rows = [line for row in summary.rows for line in _rows(row, summary)]
    notes = [("", " ".join(words.how_to_read(summary)))]
    notes += [(note.letter, words.noted(note)) for note in summary.notes]
    notes += [("", f"missing: {line}") for line in summary.missing]
    notes += [("", f"caution: {line}") for line in summary.cautions]
    notes += [("", line) for line in words.verdicts(summary)]
    return _table(words.subject(summary), HEAD, rows, notes)


def _published(table: PublishedTable, summary: Summary) -> str:
    head, *rows = published_grid(table, summary)
    escaped = [[latex(cell) for cell in row] for row in rows]
    doubts = [("", f"doubt: {line}") for line in table.doubts]
    return _table(words.published_read(table), head, escaped, doubts)


def _table(
    caption: str,
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    notes: Sequence[tuple[str, str]],
) -> str:
    """Lays out a table; its rows are LaTeX already, everything else is escaped here."""
    lines = [
        r"\begin{table}",
        r"\centering",
        r"\begin{threeparttable}",
        rf"\caption{{{latex(caption)}}}",
        r"\begin{tabular}{l" + "r" * (len(head) - 1) + "}",
        r"\toprule",
        " & ".join(latex(name[:1].upper() + name[1:]) for name in head) + r" \\",
        r"\midrule",
        *(" & ".join(row) + r" \\" for row in rows),
        r"\bottomrule",
        r"\end{tabular}",
        r"\begin{tablenotes}\footnotesize",
        *(rf"\item[{letter}] {latex(text)}" for letter, text in notes),
        r"\end{tablenotes}",
        r"\end{threeparttable}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _rows(row: Row, summary: Summary) -> list[list[str]]:
    scores = [row.scores[name] for name in SCORES]
    values = [latex(words.spread(score)) for score in (*scores, row.scores["ECE"])]
    if row is summary.best:
        values[0] = rf"\textbf{{{values[0]}}}"
    marks = rf"\tnote{{{','.join(row.notes)}}}" if row.notes else ""
    first, *rest = (latex(cell) for cell in lead(row))
    intervals = [latex(words.interval(score)) for score in scores]
    return [[first + marks, *rest, *values], ["", "", "", *intervals, ""]]


_LATEX = {
    "\\": r"\textbackslash{}",
    "±": r"$\pm$",
    "×": r"$\times$",
    "·": r"$\cdot$",
    "→": r"$\rightarrow$",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
    "…": r"\ldots{}",
    "–": "--",
    "—": "---",
    words.MINUS: "$-$",
    "[": "{[}",  # after a line break or \item, a bare one would open an option
    "]": "{]}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "`": r"\textasciigrave{}",
    **{sign: "\\" + sign for sign in "&%$#_{}"},
}


def latex(text: str) -> str:
    r"""Escapes text for LaTeX.

    >>> print(latex("cross_attention 91 % ± 2"))
    cross\_attention 91 \% $\pm$ 2
    """
    return "".join(_LATEX.get(sign, sign) for sign in text)

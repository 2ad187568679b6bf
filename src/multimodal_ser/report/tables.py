"""Summary → table.txt, table.csv, table.tex."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence

from multimodal_ser.report import words
from multimodal_ser.report.summary import Row, Score, Summary

SCORES = ("UA", "WA", "WF1", "macro-F1")


def text_table(summary: Summary) -> str:
    """Lays the table out for a terminal, with everything beneath it that qualifies it."""
    lines = [words.subject(summary), "", *_text_grid(summary), *words.how_to_read(summary)]
    lines += [f"  {note.letter}  {words.noted(note)}" for note in summary.notes]
    lines += [f"  missing: {line}" for line in summary.missing]
    lines += [f"  caution: {line}" for line in summary.cautions]
    if summary.versus:
        lines += ["", *words.verdicts(summary)]
    return "\n".join(lines) + "\n"


def _text_grid(summary: Summary) -> list[str]:
    head = ["model", "parameters", "seeds", *SCORES, "ECE"]
    cells = [head]
    for row in summary.rows:
        scores = [row.scores[name] for name in SCORES]
        cells.append([*_lead(row), *map(words.spread, scores), words.spread(row.scores["ECE"])])
        if scores[0].low is not None:
            cells.append(["", "", "", *(words.bounds(s.low, s.high) for s in scores), ""])
    widths = [max(len(line[place]) for line in cells) for place in range(len(head))]
    rule = "─" * (sum(widths) + 2 * (len(widths) - 1))
    lines = [_text_line(line, widths) for line in cells]
    return [lines[0], rule, *lines[1:], rule]


def _lead(row: Row) -> list[str]:
    marks = f" ({', '.join(row.notes)})" if row.notes else ""
    return [row.name + marks, _parameters(row), str(len(row.seeds))]


def _parameters(row: Row) -> str:
    return "–" if row.parameters is None else f"{row.parameters:,}"


def _text_line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first = cells[0].ljust(widths[0])
    rest = (cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True))
    return "  ".join([first, *rest]).rstrip()


def csv_table(summary: Summary) -> str:
    """Writes one line per system for other programs: shares between 0 and 1, marks as columns."""
    file = io.StringIO()
    lines = [_csv_cells(row, summary) for row in summary.rows]
    writer = csv.DictWriter(file, list(lines[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return file.getvalue()


def _csv_cells(row: Row, summary: Summary) -> dict[str, str]:
    cells = {
        "model": row.name,
        "parameters": "" if row.parameters is None else str(row.parameters),
        "seeds": " ".join(str(seed) for seed in row.seeds),
        "folds": str(len(summary.folds)),
        "utterances": str(summary.utterances),
        "clusters": str(summary.clusters),
        "clustered_by": summary.by,
    }
    for name in (*SCORES, "ECE"):
        cells |= _csv_score(name, row.scores[name])
    for name, recall in zip(summary.classes, row.recalls, strict=True):
        cells |= _csv_score(f"recall_{name}", recall)
    versus = next((one for one in summary.versus if one.name == row.name), None)
    cells["baseline"] = versus.baseline if versus else ""
    cells["UA_difference"] = _share(versus.difference) if versus else ""
    cells["UA_difference_low"] = _share(versus.low) if versus else ""
    cells["UA_difference_high"] = _share(versus.high) if versus else ""
    cells["p_holm"] = _share(versus.p) if versus else ""
    own = [note for note in summary.notes if note.letter in row.notes]
    cells["leaks"] = "; ".join(note.text for note in own if note.leak)
    cells["marks"] = "; ".join(note.text for note in own if not note.leak)
    cells["missing"] = "; ".join(summary.missing)
    cells["cautions"] = "; ".join(summary.cautions)
    return cells


def _csv_score(name: str, score: Score) -> dict[str, str]:
    cells = {name: _share(score.mean), f"{name}_sd": _share(score.sd)}
    if name != "ECE":
        cells |= {f"{name}_low": _share(score.low), f"{name}_high": _share(score.high)}
    return cells


def _share(value: float | None) -> str:
    return "" if value is None or math.isnan(value) else f"{value:.6f}"


def latex_table(summary: Summary) -> str:
    r"""Writes a booktabs table with its notes, ready for a paper.

    The preamble needs ``\usepackage{booktabs,threeparttable}``.
    """
    columns = ["Model", "Parameters", "Seeds", *SCORES, "ECE"]
    body = [line for row in summary.rows for line in _latex_rows(row, summary)]
    notes = [_latex_item(note.letter, words.noted(note)) for note in summary.notes]
    notes += [_latex_item("", f"missing: {line}") for line in summary.missing]
    notes += [_latex_item("", f"caution: {line}") for line in summary.cautions]
    notes += [_latex_item("", line) for line in words.verdicts(summary)]
    lines = [
        r"% preamble: \usepackage{booktabs,threeparttable}",
        r"\begin{table}",
        r"\centering",
        r"\begin{threeparttable}",
        rf"\caption{{{latex(words.subject(summary))}}}",
        r"\begin{tabular}{l" + "r" * (len(columns) - 1) + "}",
        r"\toprule",
        " & ".join(columns) + r" \\",
        r"\midrule",
        *body,
        r"\bottomrule",
        r"\end{tabular}",
        r"\begin{tablenotes}\footnotesize",
        _latex_item("", " ".join(words.how_to_read(summary))),
        *notes,
        r"\end{tablenotes}",
        r"\end{threeparttable}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _latex_rows(row: Row, summary: Summary) -> list[str]:
    scores = [row.scores[name] for name in SCORES]
    values = [latex(words.spread(score)) for score in (*scores, row.scores["ECE"])]
    if row is summary.best:
        values[0] = rf"\textbf{{{values[0]}}}"
    marks = rf"\tnote{{{','.join(row.notes)}}}" if row.notes else ""
    lead = [latex(row.name) + marks, latex(_parameters(row)), str(len(row.seeds))]
    lines = [" & ".join([*lead, *values]) + r" \\"]
    if scores[0].low is not None:
        bounds = [latex(words.bounds(score.low, score.high)) for score in scores]
        lines.append(" & ".join(["", "", "", *bounds, ""]).strip() + r" \\")
    return lines


def _latex_item(letter: str, text: str) -> str:
    return rf"\item[{letter}] {latex(text)}"


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

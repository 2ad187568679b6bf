"""Lays a report out as text, LaTeX, Markdown and a page: Jinja templates over the same cells."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from multimodal_ser.report import words
from multimodal_ser.report.compute import summarise
from multimodal_ser.report.published import MARK, PublishedTable, counterpart, original, tables_for
from multimodal_ser.report.scores import score_names
from multimodal_ser.report.summary import Group, Summary
from multimodal_ser.runs.folder import tasks_of

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
    **{sign: f"${sign}$" for sign in "<>|"},  # other characters in LaTeX's usual fonts
    "[": "{[}",  # after a line break or \item, a bare one would open an option
    "]": "{]}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "`": r"\textasciigrave{}",
    **{sign: "\\" + sign for sign in "&%$#_{}"},
    "λ": r"$\lambda$",  # of an adaptation, and κ of Cohen's score: pdflatex stops at the letters
    "κ": r"$\kappa$",
}


def text_table(summary: Summary) -> str:
    """Lays the tables out for a terminal, with all caveats below them."""
    return _rendered("table.txt", summary)


def text_tables(experiment: Path) -> str:
    """The table of an experiment; of two tasks, that of each."""
    tasks = tasks_of(experiment)
    return "\n\n".join(text_table(summarise(experiment, task=task)) for task in tasks)


def latex_table(summary: Summary) -> str:
    r"""Writes booktabs tables with their notes.

    The preamble needs ``\usepackage{booktabs,threeparttable}``.
    """
    return _rendered("table.tex", summary)


def markdown_table(summary: Summary) -> str:
    """Writes the tables of docs/results.md, with all caveats below them."""
    return _rendered("table.md", summary)


def report_page(summary: Summary, drawn: Mapping[str, tuple[str, str]]) -> str:
    """Writes report.html, one page that loads nothing from outside itself.

    Args:
        summary: of the experiment.
        drawn: each figure as SVG and in words.
    """
    best, unit = summary.best, "" if summary.task == "attributes" else " %"
    facts = [(f"{words.percent(s.mean)}{unit}", name) for name, s in list(best.scores.items())[:3]]
    facts.append((f"{summary.utterances:,}", f"{summary.part} utterances"))
    if summary.by == "speaker":
        facts.append((f"{summary.clusters:,}", "speakers"))
    seeds = {seed for row in summary.rows for seed in row.seeds}
    made = {"folds": summary.folds, "draws": summary.draws, "seeds": seeds}
    if len(summary.draws) < 2:
        del made["draws"]
    facts.append((" × ".join(str(len(one)) for one in made.values()), " × ".join(made)))
    names = sorted({key for row in summary.rows for key in row.settings} - {"model"})
    return (
        report_templates()
        .get_template("report.html")
        .render(
            **template_values(summary),
            summary=summary,
            facts=facts,
            against=summary.baseline if summary.baseline is not best else None,
            # drawn here from escaped text, never taken from a run's files as markup
            drawings={name: Markup(svg) for name, (svg, _) in drawn.items()},  # noqa: S704
            source=original().source,
            seen=drawn.get("projection", ("", ""))[1],
            validation=_score_cells(summary.validation) if summary.validation else [],
            differing={
                name: [row.settings.get(name, "–") for row in summary.rows]
                for name in names
                if name not in summary.settings
            },
        )
    )


def _rendered(name: str, summary: Summary) -> str:
    """Renders one part's tables; an ablation's validation tables follow after an empty line."""
    shown = (summary,) if summary.validation is None else (summary, summary.validation)
    template = report_templates(latex=name.endswith(".tex")).get_template(name)
    return "\n".join(template.render(summary=one, **template_values(one)) for one in shown)


@cache
def report_templates(latex: bool = False) -> Environment:
    """Returns the templates; LaTeX is full of braces, so its templates write ``<<`` and ``<%``."""
    braces: dict[str, Any] = {
        "variable_start_string": "<<",
        "variable_end_string": ">>",
        "block_start_string": "<%",
        "block_end_string": "%>",
        "comment_start_string": "<#",
        "comment_end_string": "#>",
    }
    made = Environment(
        loader=PackageLoader("multimodal_ser.report", "templates"),
        autoescape=select_autoescape(("html",)),
        # a misspelt name in a template must fail; Jinja's default prints nothing
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        **(braces if latex else {}),
    )
    made.filters |= {
        "grid": grid,
        "pipes": pipes,
        "md": _markdown_escaped,
        "tex": _latex_escaped,
        "capital": lambda name: name[:1].upper() + name[1:],
    }
    return made


def template_values(summary: Summary) -> dict[str, Any]:
    """Returns the values that every template gets in addition to the summary."""
    main, other = score_names(summary)
    # groups of every system by corpus, of the best one by sex and age
    groups = [g for g in summary.groups if g.by == "corpus" or g.system == summary.best.name]
    return {
        "words": words,
        "head": ["model", "parameters", "seeds", *main, *other],
        "main": _score_cells(summary),
        "groups": [_group_cells(group) for group in groups],
        "group_head": ("group", "model", "utterances", "speakers", *main[:2], "against all others"),
        "published": [(table, _published_grid(table, summary)) for table in tables_for(summary)],
    }


@dataclass(frozen=True)
class ScoreCells:
    """The cells of a system in the main table.

    Attributes:
        name: of the system.
        notes: letters of its notes.
        lead: parameters and seeds.
        scores: of every score, the mean with its spread over seeds, and the interval, which is
            empty if it cannot have one.
        best: whether no other system has a higher mean of the first score.
    """

    name: str
    notes: tuple[str, ...]
    lead: tuple[str, str]
    scores: tuple[tuple[str, str], ...]
    best: bool

    @property
    def lines(self) -> list[list[str]]:
        """Returns two lines of a table: the means, and the intervals below them."""
        marked = f"{self.name} ({', '.join(self.notes)})" if self.notes else self.name
        means, intervals = zip(*self.scores, strict=True)
        return [[marked, *self.lead, *means], ["", "", "", *intervals]]

    @property
    def line(self) -> list[str]:
        """Returns one line of a table: means with intervals, the best first mean in bold."""
        (first, interval), *rest = self.scores
        bold = (f"**{first}**" if self.best else first), interval
        return [*self.lines[0][:3], *(" ".join(pair).strip() for pair in (bold, *rest))]

    @property
    def latex_lines(self) -> list[list[str]]:
        """Returns the two lines as LaTeX, the best system's first mean in bold."""
        (_, *means), intervals = ([_latex_escaped(cell) for cell in line] for line in self.lines)
        if self.best:
            place = len(self.lead)
            means[place] = rf"\textbf{{{means[place]}}}"
        marks = rf"\tnote{{{','.join(self.notes)}}}" if self.notes else ""
        return [[_latex_escaped(self.name) + marks, *means], intervals]


def _score_cells(summary: Summary) -> list[ScoreCells]:
    """Formats the numbers of the main table, row by row."""
    main, other = score_names(summary)
    rows = []
    for row in summary.rows:
        means = [words.with_sd(row.score(name)) for name in (*main, *other)]
        # what never has an interval, such as ECE, has an empty cell instead of "cannot be known"
        intervals = [words.interval(row.score(name)) for name in main]
        intervals += [words.interval(row.score(name), "") for name in other]
        parameters = "–" if row.parameters is None else f"{row.parameters:,}"
        lead, scores = (parameters, words.repeats(row)), tuple(zip(means, intervals, strict=True))
        rows.append(ScoreCells(row.name, row.notes, lead, scores, row is summary.best))
    return rows


def _group_cells(group: Group) -> list[str]:
    """Returns a group's cells in the order of the table's head."""
    scores = list(group.scores.values())[:2]
    return [
        f"{group.by}: {group.name}",
        group.system,
        f"{group.utterances:,}",
        f"{group.clusters:,}",
        *(f"{words.with_sd(one)} {words.interval(one)}".strip() for one in scores),
        words.group_line(group),
    ]


def _published_grid(table: PublishedTable, summary: Summary) -> list[list[str]]:
    """Returns a published table's head and rows, with our result where the task is the same."""
    names = ("UA", "WA", "WF1")
    lines = [[MARK, *names, f"ours: {summary.name}", "our UA"]]
    for row in table.rows:
        own = counterpart(row, table, summary)
        score = own.scores["UA"] if own else None
        ours = f"{words.with_sd(score)} {words.interval(score)}" if score else "–"
        values = [row.scores.get(name) for name in names]
        shown = ["–" if value is None else f"{100 * value:.2f}" for value in values]
        lines.append([row.name, *shown, own.name if own else "–", ours.strip()])
    return lines


def grid(cells: Sequence[Sequence[str]]) -> str:
    """Aligns cells for a terminal, with a rule below the head and at the end."""
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    rule = "─" * (sum(widths) + 2 * (len(widths) - 1))
    lines = []
    for first, *rest in cells:
        right = (cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True))
        lines.append("  ".join([first.ljust(widths[0]), *right]).rstrip())
    return "\n".join([lines[0], rule, *lines[1:], rule])


def pipes(cells: Sequence[Sequence[str]]) -> str:
    """Writes cells as a Markdown table."""
    lines = ["| " + " | ".join(map(_markdown_escaped, row)) + " |" for row in cells]
    return "\n".join([lines[0], "|---|" + "---:|" * (len(cells[0]) - 1), *lines[1:]])


def _latex_escaped(text: str) -> str:
    r"""Escapes text for LaTeX.

    >>> print(_latex_escaped("cross_attention 91 % ± 2, p < 0.001"))
    cross\_attention 91 \% $\pm$ 2, p $<$ 0.001
    >>> print(_latex_escaped("20 – 30: --seeds, λ"))
    20 -- 30: -{}-seeds, $\lambda$
    """
    parts = re.split("(?<=-)(?=-)", text)  # two hyphens in a row would be drawn as a dash
    return "{}".join("".join(_LATEX.get(sign, sign) for sign in part) for part in parts)


def _markdown_escaped(text: str) -> str:
    r"""Escapes Markdown's special characters, except the asterisks of bold numbers.

    >>> print(_markdown_escaped("cross_attention <a|b>"))
    cross\_attention \<a\|b\>
    """
    return "".join("\\" + sign if sign in "_<>|`" else sign for sign in text)

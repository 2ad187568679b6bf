"""Turns runs/<experiment>/ into a table, figures and one page: the results and their uncertainty.

`summarise` computes every number once, and all formats show the same ones, with leaks and
contamination directly beneath the table.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING

import numpy as np

from multimodal_ser.common.files import write_file
from multimodal_ser.evaluation.metrics import OF_PROBABILITIES
from multimodal_ser.report import words
from multimodal_ser.report.compute import summarise, summarise_all
from multimodal_ser.report.layout import latex_table, report_page, text_table, text_tables
from multimodal_ser.report.published import PublishedTable, counterpart, tables_for
from multimodal_ser.report.scores import score_names
from multimodal_ser.report.summary import Cloud, Group, Note, Row, Score, Summary, Versus

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "Group",
    "Note",
    "Row",
    "Score",
    "Summary",
    "Versus",
    "csv_tables",
    "latex_table",
    "report",
    "summarise",
    "summarise_all",
    "text_table",
    "text_tables",
    "write_report",
]

# The figures that are also written to files of their own; the others belong to their page.
_ALONE = ("confusion", "reliability", "learning_curve", "adaptation", "projection")


def report(
    experiment: Path,
    out: Path | None = None,
    *,
    manifests: Sequence[Path] = (),
    task: str | None = None,
) -> Path:
    """Summarises an experiment and writes its report, see `summarise` and `write_report`."""
    summary = summarise(experiment, manifests=manifests, task=task)
    return write_report(summary, experiment / "report" if out is None else out)


def write_report(summary: Summary, out: Path, clouds: Sequence[Cloud] = ()) -> Path:
    """Writes an experiment's report: page, tables and pictures.

    Args:
        summary: of the experiment.
        out: the folder to write to.
        clouds: embeddings before and after adaptation, to be drawn.

    Returns:
        The path of `report.html`. In the same folder are the tables as text, CSV and LaTeX and
        the pictures as PNG. No file is written for what the experiment does not have
        (groups, comparisons).
    """
    from multimodal_ser.common.drawing import png, svg

    figures = _pictures(summary, clouds)
    drawn = {name: (svg(figure, alt), alt) for name, (figure, alt) in figures.items()}
    made: dict[str, str | bytes] = {
        "table.txt": text_table(summary),
        "table.tex": latex_table(summary),
        **csv_tables(summary),
        "report.html": report_page(summary, drawn),
    }
    # titled only now: the page's figures have their headings there
    for name in _ALONE:
        drawing = figures.get(name)
        made[f"{name}.png"] = png(drawing[0], _title(summary, name)) if drawing else ""
    for name, content in made.items():
        # an experiment without groups or comparisons yields empty texts: no file for those, and
        # none of an earlier report, which would not belong to the others
        if not content:
            (out / name).unlink(missing_ok=True)
            continue
        write_file(out / name, content)
    return out / "report.html"


def _pictures(summary: Summary, clouds: Sequence[Cloud] = ()) -> dict[str, tuple[Figure, str]]:
    """Draws a report's figures, each with its content in words, for readers who cannot see it."""
    # importing matplotlib takes long, and a text table on the terminal does not need it
    from multimodal_ser.report import figures

    best, rows = summary.best, summary.rows
    listed = _listed([row.name for row in rows], [next(iter(row.scores.values())) for row in rows])
    found = {
        "comparison": (figures.comparison(summary), f"{summary.headline} of each model. {listed}")
    }
    if summary.task != "attributes":
        # without the diagonal, which holds the correct predictions
        matrix = best.confusion * (1 - np.eye(len(best.confusion)))
        true, predicted = divmod(int(matrix.argmax()), len(matrix))
        found["recalls"] = (
            figures.draw_recalls(summary),
            f"Recall of {best.name} per class. {_listed(summary.classes, best.recalls)}",
        )
        found["confusion"] = (
            figures.draw_confusion(summary),
            f"Confusion matrix of {best.name}, in % of each true class. Most frequent mistake: "
            f"{summary.classes[true]} taken for {summary.classes[predicted]}, "
            f"{matrix[true, predicted]:.0f} times.",
        )
        found["reliability"] = (
            figures.draw_reliability(summary),
            f"Share of correct predictions against top probability for {best.name}; expected "
            f"calibration error {words.percent(best.scores['ECE'].mean)} %.",
        )
    if len(summary.shares) > 1:
        alt = f"UA over the share of the target's labels. {listed}"
        found["learning_curve"] = figures.learning_curve(summary), alt
    if summary.protocol == "adaptation":
        found["adaptation"] = figures.adaptation(summary), f"UA by method. {listed}"
    if clouds:
        found["projection"] = figures.projection(clouds), figures.clouds_text(clouds)
    return found


def _listed(names: Sequence[str], scores: Sequence[Score]) -> str:
    return "; ".join(
        f"{name} {words.percent(score.mean)} {words.interval(score)}".strip()
        for name, score in zip(names, scores, strict=True)
    )


def _title(summary: Summary, name: str) -> str:
    """Returns a title for a figure outside the report: what it shows, and its numbers' leaks."""
    best = [summary.best.name] if name in ("confusion", "reliability") else []
    where = " + ".join(summary.corpora) or summary.name
    if summary.source:
        where = f"{' + '.join(summary.source)} → {where}"
    lines = [" · ".join([*best, where, summary.split])]
    if name in ("learning_curve", "adaptation"):
        lines.append(words.whiskers(summary))
    # a figure gets copied into slides without its report; the leaks must travel with it
    lines += [
        line for note in summary.notes if note.leak for line in wrap(words.note_line(note), 60)
    ]
    return "\n".join(lines)


def csv_tables(summary: Summary) -> dict[str, str]:
    """Writes the tables for other programs, by file name; a table without lines is empty.

    Shares are from 0 to 1, marks are columns, an ablation's validation rows follow its test rows.
    """
    parts = [summary] if summary.validation is None else [summary, summary.validation]
    tables = {
        "table.csv": [_csv_cells(row, part) for part in parts for row in part.rows],
        "comparisons.csv": [_csv_versus(one, part) for part in parts for one in part.versus],
        "groups.csv": [_csv_group(one) for one in summary.groups],
        "published.csv": [
            line for table in tables_for(summary) for line in _csv_published(table, summary)
        ],
    }
    made = {}
    for name, lines in tables.items():
        file = io.StringIO()
        if lines:
            writer = csv.DictWriter(file, list(lines[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(lines)
        made[name] = file.getvalue()
    return made


def _csv_cells(row: Row, summary: Summary) -> dict[str, str]:
    cells = {
        "model": row.name,
        "part": summary.part,
        "parameters": "" if row.parameters is None else str(row.parameters),
        "seeds": " ".join(str(seed) for seed in row.seeds),
        "draws": " ".join(str(draw) for draw in row.draws),
        "folds": str(len(summary.folds)),
        "utterances": str(summary.utterances),
        "clusters": str(summary.clusters),
        "effective_clusters": f"{summary.effective:.2f}",
        "clustered_by": summary.by,
    }
    main, other = score_names(summary)
    for name in (*main, *other):
        cells |= _csv_score(name, row.score(name))
    # a row without recalls (attributes) writes no columns; any other number of them must match
    for name, recall in zip(summary.classes, row.recalls, strict=bool(row.recalls)):
        cells |= _csv_score(f"recall_{name}", recall)
    own = [note for note in summary.notes if note.letter in row.notes]
    cells["leaks"] = "; ".join(note.text for note in own if note.leak)
    cells["marks"] = "; ".join(note.text for note in own if not note.leak)
    cells["missing"] = "; ".join(summary.missing)
    cells["cautions"] = "; ".join(summary.cautions)
    return cells


def _csv_versus(versus: Versus, summary: Summary) -> dict[str, str]:
    numbers = {
        "difference_low": versus.low,
        "difference_high": versus.high,
        "p_holm": versus.p,
        "p_mcnemar_holm": versus.mcnemar,
    }
    return {
        "part": summary.part,
        "family": versus.family,
        "model": versus.name,
        "against": versus.against,
        "score": versus.score or summary.headline,
        "difference": _share(versus.difference),
        **{key: words.UNKNOWN if versus.unknown else _share(one) for key, one in numbers.items()},
        "why_unknown": versus.unknown,
    }


def _csv_group(group: Group) -> dict[str, str]:
    cells = {
        "by": group.by,
        "group": group.name,
        "model": group.system,
        "utterances": str(group.utterances),
        "clusters": str(group.clusters),
    }
    for name, one in group.scores.items():
        cells |= _csv_score(name, one)
    gap, score = group.difference, next(iter(group.scores))
    cells[f"{score}_difference"] = _share(gap.mean if gap else None)
    cells[f"{score}_difference_low"] = _share(gap.low if gap else None)
    cells[f"{score}_difference_high"] = _share(gap.high if gap else None)
    return cells | {"p_holm": _share(group.p), "note": group.note}


def _csv_published(table: PublishedTable, summary: Summary) -> list[dict[str, str]]:
    lines = []
    for row in table.rows:
        own = counterpart(row, table, summary)
        cells = {"table": table.title, "part": table.part, "published": row.name}
        cells |= {f"published_{key}": _share(row.scores.get(key)) for key in ("UA", "WA", "WF1")}
        cells["ours"] = own.name if own else ""
        empty = Score((), math.nan, None)
        lines.append(cells | _csv_score("ours_UA", own.scores["UA"] if own else empty))
    return lines


def _csv_score(name: str, score: Score) -> dict[str, str]:
    cells = {name: _share(score.mean), f"{name}_sd": _share(score.sd)}
    # ECE and its like have no interval at all, so they get no columns for one
    if name not in OF_PROBABILITIES:
        for end, value in (("low", score.low), ("high", score.high)):
            unknown = value is None and not math.isnan(score.mean)
            cells[f"{name}_{end}"] = words.UNKNOWN if unknown else _share(value)
    return cells


def _share(value: float | None) -> str:
    return "" if value is None or math.isnan(value) else f"{value:.6f}"

"""runs/<experiment>/ → table, figures, one page: what was found and how far it can be believed.

The numbers are worked out once, in `summarise`; every format shows the same ones, with leaks and
contamination directly beneath the table.
"""

from __future__ import annotations

from pathlib import Path

from multimodal_ser.report.compute import summarise
from multimodal_ser.report.summary import Note, Row, Score, Summary, Versus
from multimodal_ser.report.tables import csv_table, latex_table, text_table

__all__ = [
    "Note",
    "Row",
    "Score",
    "Summary",
    "Versus",
    "csv_table",
    "latex_table",
    "report",
    "summarise",
    "text_table",
]


def report(experiment: Path, out: Path | None = None) -> Path:
    """Writes an experiment's report: page, tables and pictures.

    Args:
        experiment: the folder that holds the run folders.
        out: where to write; ``<experiment>/report`` where not given.

    Returns:
        The path of `report.html`; beside it lie `table.txt`, `table.csv`, `table.tex`,
        `confusion.png` and `reliability.png`.

    Raises:
        SerError: a damaged run, or runs that cannot stand in one table.
    """
    # drawing takes long to import, and a text table on the terminal does without
    from multimodal_ser.report import figures, page

    summary = summarise(experiment)
    out = experiment / "report" if out is None else out
    out.mkdir(parents=True, exist_ok=True)
    (out / "table.txt").write_text(text_table(summary), encoding="utf-8")
    (out / "table.csv").write_text(csv_table(summary), encoding="utf-8")
    (out / "table.tex").write_text(latex_table(summary), encoding="utf-8")
    for draw in (figures.confusion, figures.reliability):
        picture = figures.png(draw(summary), figures.title(summary))
        (out / f"{draw.__name__}.png").write_bytes(picture)
    html = out / "report.html"
    html.write_text(page.html(summary), encoding="utf-8")
    return html

"""Turns runs/<experiment>/ into a table, figures and one page: the results and their uncertainty.

`summarise` computes every number once, and all formats show the same ones, with leaks and
contamination directly beneath the table.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from multimodal_ser.common.files import written_aside
from multimodal_ser.report.compute import summarise, summarise_all
from multimodal_ser.report.layout import latex_table, text_table
from multimodal_ser.report.summary import Cloud, Group, Note, Row, Score, Summary, Versus
from multimodal_ser.report.tables import comparisons_csv, csv_table, groups_csv, published_csv

__all__ = [
    "Group",
    "Note",
    "Row",
    "Score",
    "Summary",
    "Versus",
    "csv_table",
    "latex_table",
    "report",
    "summarise",
    "summarise_all",
    "text_table",
    "write_report",
]

TABLES: dict[str, Callable[[Summary], str]] = {
    "table.txt": text_table,
    "table.csv": csv_table,
    "table.tex": latex_table,
    "comparisons.csv": comparisons_csv,
    "groups.csv": groups_csv,
    "published.csv": published_csv,
}


def report(experiment: Path, out: Path | None = None, *, manifests: Sequence[Path] = ()) -> Path:
    """Summarises an experiment and writes its report, see `summarise` and `write_report`."""
    summary = summarise(experiment, manifests=manifests)
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
    # importing matplotlib takes long, and a text table on the terminal does not need it
    from multimodal_ser.report import figures, page

    made: dict[str, str | bytes] = {name: write(summary) for name, write in TABLES.items()}
    for name, figure in figures.alone(summary, clouds).items():
        made[f"{name}.png"] = figures.png(figure, figures.title(summary, name))
    made["report.html"] = page.report_page(summary, clouds)
    for name, content in made.items():
        # an experiment without groups or comparisons yields empty texts: no file for those
        if content:
            with written_aside(out / name) as partial:
                partial.write_bytes(content if isinstance(content, bytes) else content.encode())
    return out / "report.html"

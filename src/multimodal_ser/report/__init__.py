"""runs/<experiment>/ → table, figures, one page: what was found and how far it can be believed.

The numbers are worked out once, in `summarise`; every format shows the same ones, with leaks and
contamination directly beneath the table.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from multimodal_ser.files import written_aside
from multimodal_ser.report.compute import summarise
from multimodal_ser.report.layout import latex_table, text_table
from multimodal_ser.report.summary import Group, Note, Row, Score, Summary, Versus
from multimodal_ser.report.tables import (
    comparisons_csv,
    csv_table,
    groups_csv,
    published_csv,
)

if TYPE_CHECKING:
    from multimodal_ser.report.projection import Cloud

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
    "text_table",
]

TABLES: dict[str, Callable[[Summary], str]] = {
    "table.txt": text_table,
    "table.csv": csv_table,
    "table.tex": latex_table,
    "comparisons.csv": comparisons_csv,
    "groups.csv": groups_csv,
    "published.csv": published_csv,
}


def report(
    experiment: Path,
    out: Path | None = None,
    *,
    manifests: Sequence[Path] = (),
    features: tuple[Path, Path] | None = None,
) -> Path:
    """Writes an experiment's report: page, tables and pictures.

    Args:
        experiment: the folder that holds the run folders.
        out: where to write; ``<experiment>/report`` where not given.
        manifests: of the tested corpora, for scores by sex and age.
        features: folders of the source's and the target's features, for a picture of the
            embeddings before and after adaptation.

    Returns:
        The path of `report.html`; beside it lie the tables as text, CSV and LaTeX and the
        pictures as PNG. What an experiment has nothing of (groups, comparisons) has no file.

    Raises:
        SerError: a damaged run, or runs that cannot stand in one table.
    """
    # drawing takes long to import, and a text table on the terminal does without
    from multimodal_ser.report import figures, page

    summary = summarise(experiment, manifests=manifests)
    clouds = _clouds(experiment, summary, features) if features else ()
    out = experiment / "report" if out is None else out
    made: dict[str, str | bytes] = {name: write(summary) for name, write in TABLES.items()}
    for name, figure in figures.alone(summary, clouds).items():
        made[f"{name}.png"] = figures.png(figure, figures.title(summary, name))
    made["report.html"] = page.html(summary, clouds)
    for name, content in made.items():
        if content:
            with written_aside(out / name) as partial:
                partial.write_bytes(content if isinstance(content, bytes) else content.encode())
    return out / "report.html"


def _clouds(experiment: Path, summary: Summary, features: tuple[Path, Path]) -> tuple[Cloud, Cloud]:
    from multimodal_ser.report.align import align
    from multimodal_ser.report.projection import clouds
    from multimodal_ser.runs.folder import read_runs

    systems = {system.name: system for system in align(read_runs(experiment)).systems}
    return clouds([systems[row.name] for row in summary.rows], features)

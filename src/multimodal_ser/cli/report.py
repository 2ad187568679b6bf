"""Subcommands about results: demo, report, compare, results."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from multimodal_ser.cli.app import File, app, say
from multimodal_ser.cli.experiment import Train, make_experiments
from multimodal_ser.errors import SerError

if TYPE_CHECKING:
    from multimodal_ser.report.summary import Cloud


@app.command(name="report")
def report_command(
    experiment: File,
    /,
    out: Path | None = None,
    manifest: tuple[Path, ...] = (),
    features: tuple[Path, Path] | None = None,
    task: str | None = None,
) -> None:
    """Writes tables, figures and one page about an experiment, and prints the table.

    Args:
        experiment: a folder of runs, from `ser train` or `ser experiment`.
        out: folder to write to; default: EXPERIMENT/report.
        manifest: manifests of the tested corpora, for scores by sex and age.
        features: features of the source and of the target, for a figure of the embeddings
            before and after adaptation.
        task: classes, distributions or attributes, in an experiment of two tasks; default: the
            first.
    """
    from multimodal_ser.report import summarise, text_table, write_report

    summary = summarise(experiment, manifests=manifest, task=task)
    clouds: Sequence[Cloud] = ()
    if features is not None:
        from multimodal_ser.experiments.projection import clouds_of

        clouds = clouds_of(experiment, summary, features)
    page = write_report(summary, out or experiment / "report", clouds)
    say(text_table(summary))
    say(f"page: {page}")


@app.command(name="compare")
def compare_command(
    experiments: Annotated[tuple[Path, ...], tyro.conf.Positional],
    /,
    out: Path | None = None,
    manifest: tuple[Path, ...] = (),
    task: str | None = None,
) -> None:
    """Puts several experiments over the same split into one table, the best against each other.

    Features, models and settings may differ; classes, folds and test rows may not. Comparisons are
    paired, and corrected for their number.

    Args:
        experiments: two or more folders of runs.
        out: folder to write the page to; default: no page is written.
        manifest: manifests of the tested corpora, for scores by sex and age.
        task: as in `ser report`.
    """
    from multimodal_ser.report import summarise_all, text_table, write_report

    if len(experiments) < 2:
        raise SerError("one experiment: give two or more to compare, or see `ser report`")
    summary = summarise_all(experiments, manifest, task)
    say(text_table(summary))
    if out is not None:
        say(f"page: {write_report(summary, out)}")


@app.command(name="results")
def results_command(
    runs: tuple[Path, ...] = (), tables: Path | None = None, out: Path = Path("results.md")
) -> None:
    """Writes one page about many experiments, and their numbers as JSON next to it.

    Args:
        runs: folders that contain experiments' folders; experiments not found keep their numbers.
        tables: which experiments to show: JSON with title, introduction, and tables with title,
            experiment and, optionally, commands, note, manifests; default: all in `runs`.
        out: the page to write.
    """
    from multimodal_ser.report.results import write_results

    say(f"wrote {write_results(runs, tables, out)}")


@app.command(name="demo")
def demo_command(out: Path = Path("demo"), seeds: int = 1, open_page: bool = False) -> None:
    """Trains and evaluates on shipped features: EmoDB, leaving one speaker out at a time.

    Args:
        out: folder for runs and report.
        seeds: number of seeds of the network.
        open_page: show the report in a browser.
    """
    from importlib.resources import files

    from multimodal_ser.report import summarise, text_table, write_report

    shipped = Path(str(files("multimodal_ser") / "demo"))
    list(make_experiments(Train(features=shipped, labels="emodb7", out=out, seeds=seeds)))
    summary = summarise(out)
    say(text_table(summary))
    page = write_report(summary, out / "report")
    say(f"report: {page}")
    if open_page:
        import webbrowser

        webbrowser.open(page.absolute().as_uri())

"""Subcommand demo: trains and evaluates on the features shipped with the package."""

from __future__ import annotations

from pathlib import Path

from multimodal_ser.cli.app import app, say
from multimodal_ser.cli.experiment import Train, train_command


@app.command(name="demo")
def demo_command(out: Path = Path("demo"), seeds: int = 1, open_page: bool = False) -> None:
    """Trains and evaluates on shipped features: EmoDB, leaving one speaker out at a time.

    Args:
        out: folder for runs and report.
        seeds: number of seeds of the network.
        open_page: show the report in a browser.
    """
    from importlib.resources import files

    from multimodal_ser.report import report

    shipped = Path(str(files("multimodal_ser") / "demo"))
    train_command(Train(features=shipped, labels="emodb7", out=out, seeds=seeds))
    page = report(out)
    say(f"report: {page}")
    if open_page:
        import webbrowser

        webbrowser.open(page.absolute().as_uri())

"""Training time: the original's network and schedule compared with ours.

    python benchmarks/training.py one [--epochs 33] [--every-fold]
    python benchmarks/training.py list [--epochs 1] [--no-controls]

Features are made up (`made_up.py`), of the sizes of IEMOCAP and CREMA-D, with one token per
modality. The comparison is a network of the original's shape in a plain loop
(`original_network.py`) on all of torch's threads. `one` compares one of its runs with one of ours
and with our cross-validation; `list` runs the complete list of the original's experiments with the
library (`original_list.py`). Each prints a Markdown table.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch
from machine import machine
from made_up import Domain, domains
from original_list import ALL, LIST, MODEL, Listed
from original_network import EPOCHS, SECONDS, Settings
from scoring import interval, percent, read, scores
from yardstick import Yardstick, train_on_folds

from multimodal_ser.config.settings import ModelConfig, TrainConfig
from multimodal_ser.errors import SerError
from multimodal_ser.evaluation import metrics
from multimodal_ser.evaluation.statistics import compare
from multimodal_ser.experiments.plans import Experiment
from multimodal_ser.experiments.running import make_experiment
from multimodal_ser.report.scores import counts

PACKAGES = ("multimodal-ser", "torch", "scikit-learn", "numpy")


def main() -> None:
    given = _arguments()
    torch.set_num_threads(given.threads)
    print(f"{machine(packages=PACKAGES)}\n")
    source, target = domains(given.seed, given.share)
    (fold,) = source.split.folds
    rows = f"{len(source.material.examples):,} source and {len(target.material.examples):,} target"
    print(f"Made-up features: {rows} rows; the source's fold trains on {len(fold.train):,}.\n")
    with tempfile.TemporaryDirectory() as folder:
        given.command(given, source, target, given.out or Path(folder))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True)
    for name, command in {"one": one, "list": whole_list}.items():
        own = commands.add_parser(name, help=command.__doc__)
        own.set_defaults(command=command)
        own.add_argument("--seed", type=int, default=0, help="of features and training")
        own.add_argument("--share", type=float, default=1.0, help="of the rows, for a quick run")
        own.add_argument("--jobs", type=int, help="processes for our runs; default: one per core")
        own.add_argument("--threads", type=int, default=torch.get_num_threads())
        own.add_argument("--out", type=Path, help="keep the runs in this empty folder")
        own.add_argument("--our-epochs", type=int, default=TrainConfig().epochs)
        own.add_argument("--members", type=int, default=ModelConfig().members)
        own.add_argument("--epochs", type=int, default=1, help="epochs of the original's network")
        own.add_argument("--batch-size", type=int, default=Settings().batch_size)
        own.add_argument(
            "--workers", type=int, default=0, help="processes of the original's loader"
        )
        if name == "one":
            own.add_argument(
                "--every-fold", action="store_true", help="cross-validate the original too"
            )
        else:
            own.add_argument(
                "--no-controls", action="store_true", help="only the original's runs, without ours"
            )
    return parser.parse_args()


def one(given: argparse.Namespace, source: Domain, target: Domain, out: Path) -> None:
    """Compares one run of the original with one of ours and with our cross-validation."""
    (fold,) = source.split.folds
    session = set(fold.test)
    total = sum(planned(name, given, source, target).runs for name in LIST)
    heading("", "runs", "seconds", "UA, session 5", "UA, all sessions")
    each = measured(given, source)
    kind = f"the original's shape, {given.epochs} of {EPOCHS} epochs"
    row(kind, 1, f"{each.seconds:.1f}", percent(each.scores(session)), "–")
    row(f"… extrapolated to {EPOCHS} epochs", 1, f"{each.run:.0f}", "–", "–")
    row("… and to the original's list", total, f"{total * each.run:.0f}", "–", "–")
    row("the original's code (stated, not measured here)", 1, f"{SECONDS:.0f}", "–", "–")
    every = measured(given, source, every_fold=True) if given.every_fold else None
    if every:
        both = percent(every.scores(session)), percent(every.scores())
        row(f"{kind}, cross-validated", len(every.runs), f"{every.seconds:.1f}", *both)
    for name in ("one run", "cross-validation"):
        listed = planned(name, given, source, target)
        seconds = timed(listed.experiment, out / name, given.jobs)
        found = read(out / name)
        (system,) = found.systems
        whole = percent(scores(found, system)) if name == "cross-validation" else "–"
        part = percent(scores(found, system, session))
        row(f"ours, {name}", listed.runs, f"{seconds:.1f}", part, whole)
    if every:
        sums = counts(system, found.sample), every.counts(found.sample)
        said = interval(compare(*sums, metrics.ua))
        print(f"\nUA of ours minus the original's shape, all sessions: {said} (95 %, paired).")


def whole_list(given: argparse.Namespace, source: Domain, target: Domain, out: Path) -> None:
    """Times each of the original's experiments, and compares with 404 s per run."""
    total, runs, made = 0.0, 0, 0
    stated = f"times at {SECONDS:.0f} s a run"
    heading("experiment", "the original's runs", "made here", "seconds", stated, f"UA of {MODEL}")
    for name in LIST:
        listed = planned(name, given, source, target)
        if given.no_controls:
            listed = listed.without_controls()
        seconds = timed(listed.experiment, out / name, given.jobs)
        plans = len(listed.experiment.plans)
        total, runs, made = total + seconds, runs + listed.runs, made + plans
        found = read(out / name)
        means = [scores(found, one_).mean() for one_ in found.systems if one_.model == MODEL]
        span = "–".join(f"{100 * end:.1f}" for end in sorted({min(means), max(means)}))
        times = f"{listed.runs * SECONDS / seconds:.0f}"
        row(name, listed.runs, plans, f"{seconds:.1f}", times, span)
    row("all", runs, made, f"{total:.1f}", f"{runs * SECONDS / total:.0f}", "")
    controls = "" if given.no_controls else "controls, and "
    print(f"\nRuns beyond the original's are {controls}source models for fine-tuning.\n")
    each = measured(given, source)
    epochs = f"{given.epochs} of {EPOCHS} epochs measured, {each.seconds:.1f} s"
    heading(f"{runs} runs at", "seconds", "times ours")
    for kind, run in (
        (f"the original's {SECONDS:.0f} s a run (stated, not measured here)", SECONDS),
        (f"{each.run:.0f} s a run, its shape and schedule here ({epochs})", each.run),
    ):
        row(kind, f"{runs * run:.0f}", f"{runs * run / total:.0f}")


def planned(name: str, given: argparse.Namespace, source: Domain, target: Domain) -> Listed:
    """Plans one of ALL with the recommended settings, except those given as options."""
    settings = {
        "network": replace(ModelConfig(), members=given.members),
        "schedule": replace(TrainConfig(), epochs=given.our_epochs),
    }
    return ALL[name](source, target, settings)


def timed(experiment: Experiment, out: Path, jobs: int | None) -> float:
    """Makes the runs; returns the seconds, including starting processes and writing.

    Raises:
        SerError: some of the runs exist already and would take no time.
    """
    if made := [name for name in experiment.names if (out / name).exists()]:
        raise SerError(f"{out} holds {made[0]!r} already, so it cannot be timed; empty --out first")
    began = time.perf_counter()
    make_experiment(experiment, out, jobs=jobs)
    return time.perf_counter() - began


def measured(given: argparse.Namespace, source: Domain, every_fold: bool = False) -> Yardstick:
    """Trains the original's network on the original's fold, or on every session's."""
    settings = Settings(epochs=given.epochs, batch_size=given.batch_size, workers=given.workers)
    split = source.folds if every_fold else source.split
    return train_on_folds(source, split.folds, settings, given.seed)


def heading(first: str, *others: str) -> None:
    """Prints the first two lines of a table; all columns but the first are numbers."""
    row(first, *others)
    print("|---|" + "---:|" * len(others), flush=True)


def row(*cells: object) -> None:
    """Prints a line of a table at once, so that it is not lost if a later one fails."""
    print(f"| {' | '.join(map(str, cells))} |", flush=True)


if __name__ == "__main__":
    main()

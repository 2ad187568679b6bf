"""Run folders → UA per system, differences with their intervals, and their text in tables."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from multimodal_ser.evaluation import metrics
from multimodal_ser.evaluation.statistics import Comparison
from multimodal_ser.report.align import Aligned, System, align
from multimodal_ser.report.scores import counts
from multimodal_ser.runs.folder import read_runs

Scores = NDArray[np.float64]


def read(folder: Path) -> Aligned:
    """Reads an experiment's systems over the rows that they share."""
    return align(read_runs(folder))


def scores(found: Aligned, system: System, ids: set[str] | None = None) -> Scores:
    """Computes the UA of every seed and draw over all folds together; of these ids, or all."""
    rows = np.array([ids is None or key in ids for _, key in found.sample.keys])
    return metrics.ua(counts(system, found.sample, rows).sum(0))


def percent(values: Scores) -> str:
    """Formats the mean, and the standard deviation over seeds if there are several."""
    spread = f" ± {100 * values.std(ddof=1):.1f}" if len(values) > 1 else ""
    return f"{100 * values.mean():.1f}{spread}"


def interval(found: Comparison) -> str:
    """Formats a difference with its interval, in percent."""
    return f"{100 * found.difference:+.2f} [{100 * found.low:+.2f}, {100 * found.high:+.2f}]"

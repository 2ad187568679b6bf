"""Systems → confusion counts per speaker and seed → scores with their intervals."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from multimodal_ser import metrics, statistics
from multimodal_ser.report.align import Sample, System
from multimodal_ser.report.summary import RESAMPLES, Score

Floats = NDArray[np.float64]


def counts(system: System, sample: Sample, rows: NDArray[np.bool_] | None = None) -> Floats:
    """Counts confusions per cluster and repeat, [S, K, C, C].

    Args:
        system: whose answers.
        sample: what it was tested on.
        rows: which rows to count, [N]; then S is the number of clusters among them.
    """
    chosen = np.ones(len(sample.truth), dtype=bool) if rows is None else rows
    distinct, groups = np.unique(sample.groups[chosen], return_inverse=True)
    per_repeat = [
        metrics.grouped_confusion(
            sample.truth[chosen],
            predicted[chosen],
            groups,
            classes=system.probabilities.shape[-1],
            groups_total=len(distinct),
        )
        for predicted in system.probabilities.argmax(-1)
    ]
    return np.stack(per_repeat, axis=1).astype(np.float64)


def scores_of(sums: Floats, metric: statistics.Metric) -> tuple[Score, ...]:
    """Scores a metric that gives one number, or one per class, with intervals."""
    per_repeat = np.asarray(metric(sums.sum(0)))
    per_repeat = per_repeat.reshape(len(per_repeat), -1)
    if len(sums) < 2:
        return tuple(score(values) for values in per_repeat.T)
    drawn = statistics.bootstrap(sums, metric, resamples=RESAMPLES)
    low, high = statistics.percentile_interval(drawn.reshape(len(drawn), -1))
    return tuple(score(*column) for column in zip(per_repeat.T, low, high, strict=True))


def score(values: ArrayLike, low: float | None = None, high: float | None = None) -> Score:
    """Takes mean and standard deviation over repeats; an end that is not a number is None."""
    repeats = np.asarray(values, dtype=np.float64)
    return Score(
        values=tuple(float(value) for value in repeats),
        mean=float(repeats.mean()),
        sd=float(repeats.std(ddof=1)) if len(repeats) > 1 else None,
        low=None if low is None or np.isnan(low) else float(low),
        high=None if high is None or np.isnan(high) else float(high),
    )

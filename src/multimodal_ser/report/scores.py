"""Systems → confusion counts per speaker and seed → scores with their intervals."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from multimodal_ser import metrics, statistics
from multimodal_ser.report.align import Sample, System
from multimodal_ser.report.summary import Score

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


def score_of(sums: Floats, metric: statistics.Metric) -> Score:
    """Scores counts [S, K, C, C], with the interval over the S clusters where there is one."""
    per_repeat = metric(sums.sum(0))
    if len(sums) < statistics.LEAST_CLUSTERS:
        return score(per_repeat)
    interval = statistics.clustered_interval(sums, metric)
    return score(per_repeat, interval.low, interval.high)


def recalls_of(sums: Floats) -> tuple[Score, ...]:
    """Each class's recall, with its interval."""

    def of_class(place: int) -> Score:
        return score_of(sums, lambda counts: metrics.recalls(counts)[..., place])

    return tuple(of_class(place) for place in range(sums.shape[-1]))


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

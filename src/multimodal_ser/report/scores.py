"""Systems → confusion counts per speaker and seed → scores, and how far they can be believed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from multimodal_ser import metrics, statistics
from multimodal_ser.report.align import Aligned, Sample, System
from multimodal_ser.report.naming import PROBE
from multimodal_ser.report.summary import Row, Score

Floats = NDArray[np.float64]
UNEQUAL = 0.75  # effective clusters over clusters, under which a caution says so
_LEVEL = 0.05  # of the tests


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


def how_estimated(by: str) -> tuple[str, ...]:
    """Says how intervals and p values were made; docs/statistics.md says more."""
    return (
        f"Intervals leave out one {by} at a time (cluster jackknife, t with Bell and McCaffrey's "
        "degrees of freedom, on the logit scale).",
        f"Differences are paired over the same utterances; their interval and p cover {by}s and "
        f"seeds. p is the larger of a t test's and of an exact sign flip's over {by}s; McNemar's "
        "test takes utterances as independent.",
    )


def effective_clusters(sums: Floats) -> float:
    """How many speakers of equal weight in UA would say as much as those of counts [S, K, C, C].

    ``1 / Σ_g w_g²`` with weights that add up to 1 (Kish 1965; Carter, Schnepel & Steigerwald 2017).
    """
    if len(sums) < statistics.LEAST_CLUSTERS:
        return float(len(sums))
    return float(statistics.estimate(sums, metrics.ua).effective)


def cautions_of_table(
    aligned: Aligned, rows: Sequence[Row], part: str, effective: float
) -> list[str]:
    """Says what a reader has to beware of: few speakers, lacking classes, no linear probe."""
    lines = []
    if part == "validation":
        lines.append("validation rows picked each network's epoch: their scores flatter it")
    lines += [*_few(aligned.sample, effective), *_classes(aligned)]
    if not any(row.model == PROBE for row in rows):
        lines.append(
            f"the linear probe is missing: run the same command with {PROBE} into the same folder"
        )
    return lines


def too_few(number: int, effective: float) -> str:
    """Why neither an interval nor a p value can be known; empty where they can."""
    if number < statistics.LEAST_CLUSTERS:
        return f"{('one speaker', 'two speakers')[number - 1]} only"
    if effective < statistics.LEAST_EFFECTIVE:
        return f"{number} speakers who say as much as {effective:.1f} would who all spoke alike"
    return ""


def _few(sample: Sample, effective: float) -> list[str]:
    if sample.by == "utterance":
        return [
            "intervals are clustered by utterance: no speakers known, so they are too narrow, and "
            "no difference can be called more than chance"
        ]
    number, lines = sample.clusters, []
    if few := too_few(number, effective):
        return [f"{few}: neither intervals nor p values can be known; test on more speakers"]
    if effective < UNEQUAL * number:
        lines.append(
            f"the {number} speakers say as much as {effective:.1f} would who all spoke alike: some "
            "have far more utterances; intervals and p values count with that"
        )
    if (least := statistics.smallest_p(number)) > _LEVEL:
        lines.append(
            f"{number} speakers are too few to call a difference more than chance: an exact test "
            f"over them cannot go below p = {least:.3f}"
        )
    return lines


def _classes(aligned: Aligned) -> list[str]:
    """Classes that are absent, that occur once, or that one speaker alone utters."""
    sample, classes = aligned.sample, aligned.systems[0].runs[0].classes
    ids = np.array([name for _, name in sample.keys])
    several = sample.by == "speaker" and sample.clusters > 1
    absent, once, alone = [], [], []
    for place, name in enumerate(classes):
        of_class = sample.truth == place
        if not of_class.any():
            absent.append(name)
        elif len(np.unique(ids[of_class])) == 1:
            once.append(name)
        elif several and len(np.unique(sample.groups[of_class])) == 1:
            alone.append(name)
    lines = []
    if absent:
        lines.append(f"no utterance of {', '.join(absent)}: UA averages the other classes")
    if once:
        lines.append(
            f"a single utterance of {', '.join(once)}: no fold can both learn and test it, yet it "
            "weighs as much in UA as every other class"
        )
    if alone:
        lines.append(
            f"only one speaker utters {', '.join(alone)}: how speakers differ there cannot be known"
        )
    return lines

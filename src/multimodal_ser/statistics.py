"""per-speaker counts → how far a score, or a difference of two, can be believed.

Utterances of one speaker resemble each other, so the speaker is what is drawn anew, never the
utterance. Whatever a score is computed from must add up over speakers, as confusion matrices
do: then a resample is a weighted sum, and thousands of them are one matrix product.

The functions take the sums as ``[S, K, ...]``: S clusters (speakers), K seeds. Scores are
averaged over seeds inside each resample, so an interval tells of the test sample alone; the
spread over seeds is a different thing and is reported apart.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from multimodal_ser.errors import SerError

Floats = NDArray[np.float64]
Metric = Callable[[ArrayLike], Floats]

_DRAWS_AT_ONCE = 2_000_000  # weights held at a time: 16 MB, also where every utterance is a cluster


@dataclass(frozen=True)
class Interval:
    """An interval for one score.

    Attributes:
        low: lower end.
        high: upper end.
        level: its nominal coverage, such as 0.95.
        clusters: how many clusters were drawn from.
    """

    low: float
    high: float
    level: float
    clusters: int


@dataclass(frozen=True)
class Comparison:
    """A paired difference of two systems, first minus second.

    Attributes:
        difference: on the sample itself.
        low: lower end of the difference's interval.
        high: upper end.
        p: two-sided p value of "no difference", not corrected for several comparisons.
        clusters: how many clusters were drawn from.
    """

    difference: float
    low: float
    high: float
    p: float
    clusters: int


@dataclass(frozen=True)
class McNemar:
    """Utterances that one system alone gets right, and the exact two-sided p value."""

    only_first: int
    only_second: int
    p: float


def _weights(clusters: int, resamples: int, seed: int) -> Iterator[Floats]:
    """Yields how often each cluster was drawn, in blocks [r, S] that sum to `resamples` rows."""
    rng = np.random.default_rng(seed)
    block = max(1, _DRAWS_AT_ONCE // clusters)
    for start in range(0, resamples, block):
        rows = min(block, resamples - start)
        drawn = rng.integers(clusters, size=(rows, clusters))
        drawn += clusters * np.arange(rows)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=rows * clusters)
        yield counts.reshape(rows, clusters).astype(np.float64)


def _checked(sums: ArrayLike) -> Floats:
    values = np.asarray(sums, dtype=np.float64)
    if values.ndim < 2:
        raise SerError(f"sums must be [clusters, seeds, ...], not of shape {values.shape}")
    if len(values) < 2:
        raise SerError(
            f"an interval cannot be estimated from {len(values)} cluster(s): with one speaker "
            "nothing tells how speakers differ; test on two or more speakers"
        )
    return values


def bootstrap(sums: ArrayLike, metric: Metric, *, resamples: int = 2000, seed: int = 0) -> Floats:
    """Draws clusters with replacement and scores each resample.

    The same seed, resamples and number of clusters give the same draws, so two systems' results
    over the same clusters are paired. (Davison & Hinkley 1997, "Bootstrap methods and their
    application", section 3.8; Field & Welsh 2007, "Bootstrapping clustered data".)

    Args:
        sums: what adds up over clusters, such as confusion counts [S, K, C, C].
        metric: scores such sums over any leading axes: [..., C, C] → [...] or [..., C].
        resamples: how many times to draw.
        seed: of the draws.

    Returns:
        The score averaged over seeds in each resample, [resamples] or [resamples, C].

    Raises:
        SerError: fewer than two clusters.

    >>> share = lambda sums: np.asarray(sums)[..., 0] / np.asarray(sums)[..., 1]
    >>> bootstrap([[[1, 2]], [[2, 4]]], share, resamples=3).tolist()
    [0.5, 0.5, 0.5]
    """
    values = _checked(sums)
    flat = values.reshape(len(values), -1)
    scores = [
        np.asarray(metric((weights @ flat).reshape(-1, *values.shape[1:]))).mean(axis=1)
        for weights in _weights(len(values), resamples, seed)
    ]
    return np.concatenate(scores)


def percentile_interval(scores: ArrayLike, level: float = 0.95) -> tuple[Floats, Floats]:
    """Returns the central `level` of resampled scores (Efron 1979; percentile method).

    Resamples without a score (NaN: a class that no drawn speaker has) are left out.

    Args:
        scores: resampled scores, [R] or [R, C].
        level: nominal coverage.

    Returns:
        Lower and upper ends, [] or [C]; NaN where no resample has a score.

    >>> low, high = percentile_interval(range(101), level=0.9)
    >>> round(float(low), 6), round(float(high), 6)
    (5.0, 95.0)
    """
    values = np.asarray(scores, dtype=np.float64)
    columns = values.reshape(len(values), -1).T
    tail = 100 * (1 - level) / 2
    ends = np.full((2, len(columns)), np.nan)
    for place, column in enumerate(columns):
        known = column[~np.isnan(column)]
        if known.size:
            ends[:, place] = np.percentile(known, [tail, 100 - tail])
    low, high = ends.reshape(2, *values.shape[1:])
    return np.asarray(low), np.asarray(high)


def clustered_interval(
    sums: ArrayLike,
    metric: Metric,
    *,
    resamples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Estimates a score's interval by drawing whole clusters (speakers) with replacement.

    With few clusters the interval tends to be too narrow (Cameron, Gelbach & Miller 2008,
    "Bootstrap-based improvements for inference with clustered errors"): under about twenty
    speakers, read it as a lower bound of the uncertainty.

    Args:
        sums: what adds up over clusters, such as confusion counts [S, K, C, C].
        metric: scores such sums over any leading axes, [..., C, C] → [...].
        resamples: how many times to draw.
        level: nominal coverage.
        seed: of the draws.

    Raises:
        SerError: fewer than two clusters; no interval can be estimated.

    >>> accuracy = lambda m: np.trace(m, axis1=-2, axis2=-1) / np.sum(m, axis=(-2, -1))
    >>> counts = np.array([[[[8, 2], [1, 9]]], [[[5, 5], [4, 6]]], [[[9, 1], [2, 8]]]])
    >>> interval = clustered_interval(counts, accuracy)
    >>> round(interval.low, 2), round(interval.high, 2)
    (0.55, 0.85)
    """
    scores = bootstrap(sums, metric, resamples=resamples, seed=seed)
    low, high = percentile_interval(scores, level)
    return Interval(float(low), float(high), level, len(np.asarray(sums)))


def compare(
    first: ArrayLike,
    second: ArrayLike,
    metric: Metric,
    *,
    resamples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> Comparison:
    """Compares two systems over the same utterances by a paired, clustered bootstrap.

    Each resample draws speakers once and scores both systems on them.

    Args:
        first: sums of the first system, [S, K1, ...].
        second: of the second, [S, K2, ...]: the same clusters in the same order.
        metric: scores such sums over any leading axes.
        resamples: how many times to draw.
        level: nominal coverage of the difference's interval.
        seed: of the draws.

    Raises:
        SerError: fewer than two clusters, or the two systems' clusters differ in number.

    >>> right = lambda sums: np.asarray(sums)[..., 0] / np.asarray(sums)[..., 1]
    >>> result = compare([[[9, 10]], [[8, 10]]], [[[5, 10]], [[6, 10]]], right)
    >>> round(result.difference, 2), round(result.low, 2), round(result.high, 2)
    (0.3, 0.2, 0.4)
    """
    one, other = _checked(first), _checked(second)
    if len(one) != len(other):
        raise SerError(
            f"a paired comparison needs the same clusters on both sides, not {len(one)} and "
            f"{len(other)}; compare over the same utterances"
        )
    drawn = bootstrap(one, metric, resamples=resamples, seed=seed) - bootstrap(
        other, metric, resamples=resamples, seed=seed
    )
    low, high = percentile_interval(drawn, level)
    return Comparison(
        difference=float(metric(one.sum(0)).mean() - metric(other.sum(0)).mean()),
        low=float(low),
        high=float(high),
        p=_two_sided(drawn),
        clusters=len(one),
    )


def _two_sided(drawn: Floats) -> float:
    """Returns the p value that belongs to the percentile interval of a difference.

    With differences d*, ``p = min(1, 2 · min(#{d* ≤ 0} + 1, #{d* ≥ 0} + 1) / (R + 1))``
    (Davison & Hinkley 1997, section 4.4).
    """
    rarer = min(int((drawn <= 0).sum()), int((drawn >= 0).sum()))
    return min(1.0, 2 * (rarer + 1) / (len(drawn) + 1))


def mcnemar(first_right: ArrayLike, second_right: ArrayLike) -> McNemar:
    """Tests whether two systems err equally often on the same utterances (exact McNemar).

    With b and c utterances that one system alone gets right and n = b + c,
    ``p = min(1, 2 · Σ_{i ≤ min(b, c)} binom(n, i) / 2^n)`` (McNemar 1947, "Note on the sampling
    error of the difference between correlated proportions"). It takes utterances as independent,
    which one speaker's are not: prefer `compare` where speakers are known.

    Args:
        first_right: whether the first system is right, [N].
        second_right: whether the second is, [N].

    Raises:
        SerError: the two differ in length.

    >>> mcnemar([1, 1, 1, 1, 1, 0], [0, 0, 0, 0, 0, 0])
    McNemar(only_first=5, only_second=0, p=0.0625)
    """
    one, other = np.asarray(first_right, dtype=bool), np.asarray(second_right, dtype=bool)
    if one.shape != other.shape:
        raise SerError(
            f"McNemar's test needs the same utterances on both sides, not {one.size} and "
            f"{other.size}"
        )
    b, c = int((one & ~other).sum()), int((~one & other).sum())
    below = sum(math.comb(b + c, i) for i in range(min(b, c) + 1))
    return McNemar(b, c, min(1.0, 2 * below / 2 ** (b + c)))


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """Corrects p values of several comparisons so that any false alarm stays under the level.

    Sorted ascending, ``p'_(i) = max_{j ≤ i} min(1, (m - j + 1) · p_(j))`` (Holm 1979, "A simple
    sequentially rejective multiple test procedure").

    Args:
        p_values: one per comparison.

    Returns:
        Corrected p values in the order given.

    >>> holm([0.01, 0.04, 0.03])
    (0.03, 0.06, 0.06)
    """
    corrected = [0.0] * len(p_values)
    so_far = 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        so_far = max(so_far, min(1.0, (len(p_values) - rank) * p_values[place]))
        corrected[place] = so_far
    return tuple(corrected)

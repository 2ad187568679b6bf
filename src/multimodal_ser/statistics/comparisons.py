"""two systems' per-speaker counts → their difference, how sure it is, and Holm over several.

Two systems over the same utterances are compared in pairs; two groups of speakers, who share
nobody, are not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from multimodal_ser.errors import SerError
from multimodal_ser.statistics.bootstrap import (
    Floats,
    Metric,
    bootstrap,
    checked_sums,
    percentile_interval,
)


@dataclass(frozen=True)
class Comparison:
    """A difference of two systems or two groups, first minus second.

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
    one, other = checked_sums(first), checked_sums(second)
    if len(one) != len(other):
        raise SerError(
            f"a paired comparison needs the same clusters on both sides, not {len(one)} and "
            f"{len(other)}; compare over the same utterances"
        )
    return _compared(one, other, metric, resamples, level, seeds=(seed, seed), clusters=len(one))


def compare_apart(
    first: ArrayLike,
    second: ArrayLike,
    metric: Metric,
    *,
    resamples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> Comparison:
    """Compares one system on two groups of speakers who share nobody, such as women and men.

    Each group's speakers are drawn by themselves, so the difference's interval holds the
    uncertainty of both.

    Args:
        first: sums of the first group, [S1, K, ...].
        second: of the second, [S2, K, ...].
        metric: scores such sums over any leading axes.
        resamples: how many times to draw.
        level: nominal coverage of the difference's interval.
        seed: of the draws.

    Raises:
        SerError: a group of fewer than two clusters.

    >>> right = lambda sums: np.asarray(sums)[..., 0] / np.asarray(sums)[..., 1]
    >>> result = compare_apart([[[9, 10]], [[9, 10]]], [[[5, 10]], [[6, 10]], [[7, 10]]], right)
    >>> round(result.difference, 2), round(result.low, 2), round(result.high, 2)
    (0.3, 0.2, 0.4)
    """
    one, other = checked_sums(first), checked_sums(second)
    # with one seed for both, groups of one size would be drawn alike
    seeds = 2 * seed, 2 * seed + 1
    clusters = len(one) + len(other)
    return _compared(one, other, metric, resamples, level, seeds=seeds, clusters=clusters)


def _compared(
    one: Floats,
    other: Floats,
    metric: Metric,
    resamples: int,
    level: float,
    *,
    seeds: tuple[int, int],
    clusters: int,
) -> Comparison:
    """One minus the other; where both seeds are the same, so are the clusters drawn of both."""
    drawn = bootstrap(one, metric, resamples=resamples, seed=seeds[0]) - bootstrap(
        other, metric, resamples=resamples, seed=seeds[1]
    )
    low, high = percentile_interval(drawn, level)
    return Comparison(
        difference=float(metric(one.sum(0)).mean() - metric(other.sum(0)).mean()),
        low=float(low),
        high=float(high),
        p=_two_sided(drawn),
        clusters=clusters,
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

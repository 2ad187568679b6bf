"""counts per speaker of two systems → their difference, its interval and its p value.

Two systems over the same utterances are compared in pairs; two groups of different speakers are
not. Seeds are a second source of variation, crossed with the speakers. At the end: McNemar's test,
which knows no speakers, and Holm's correction of the p values of several comparisons.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import chdtri, stdtr, stdtrit

from multimodal_ser.common.arrays import Floats
from multimodal_ser.errors import SerError
from multimodal_ser.evaluation.statistics.clusters import (
    RARE,
    UPPER,
    Metric,
    checked_sums,
    cluster_weights,
    cr2_variance,
    degrees_of_freedom,
    estimate,
    gradient,
    left_out,
    smoothed,
)
from multimodal_ser.evaluation.statistics.means import OfMeans

Repeats = Sequence[tuple[int, int]]  # of each run, its seed and its draw of few-shot utterances

_EXACT = 13  # up to so many clusters every sign flip is tried: 2^12 of them
_FLIPS = 4_999  # random sign flips of more clusters; with the observed one 5,000
_AT_ONCE = 4_000_000  # numbers computed at a time, 32 MB: bounds the memory of many flips


@dataclass(frozen=True)
class Comparison:
    """A difference of two systems or two groups, first minus second.

    Attributes:
        difference: on the sample itself, averaged over seeds.
        low: lower end of the interval of the difference.
        high: upper end.
        p: two-sided p value of "no difference", not corrected for several comparisons.
        clusters: the number of clusters.
    """

    difference: float
    low: float
    high: float
    p: float
    clusters: int


@dataclass(frozen=True, eq=False)
class _Part:
    """One source of variation: its variance and degrees of freedom, arrays [...]."""

    variance: Floats
    df: Floats


def compare(
    first: ArrayLike,
    second: ArrayLike,
    metric: Metric,
    *,
    repeats: tuple[Repeats, Repeats] | None = None,
) -> Comparison:
    """Compares two systems over the same utterances, generalising over speakers and seeds.

    The interval is a t interval. Its variance is the sum of the jackknife variance of the
    difference over speakers and the variances over the seeds of either system. These are two
    crossed sources, as in Cameron, Gelbach & Miller (2011), without subtracting what they share;
    the degrees of freedom are Satterthwaite's. A system with one seed adds nothing, which is right
    for one without randomness. p is the larger of two: that of the t test, and that of an exact
    test which exchanges the two systems' predictions speaker by speaker (Fisher 1935) and cannot
    go below ``2^(1 - S)`` over S speakers.

    Args:
        first: confusion counts of the first system, [S, K1, C, C].
        second: of the second, [S, K2, C, C]: the same clusters in the same order.
        metric: scores such counts over any leading axes, [..., C, C] → [...].
        repeats: (seed, few-shot draw) of each of the K1 and K2 runs, where draws vary. Seeds and
            draws are then two crossed sources, and draws that both systems learnt from are paired.

    Raises:
        SerError: there are fewer than three clusters, or the numbers of clusters differ.

    >>> right = lambda m: np.trace(m, axis1=-2, axis2=-1) / np.sum(m, axis=(-2, -1))
    >>> one = [[[[9, 1], [1, 9]]], [[[8, 2], [2, 8]]], [[[8, 2], [1, 9]]]]
    >>> other = [[[[5, 5], [4, 6]]], [[[6, 4], [4, 6]]], [[[5, 5], [5, 5]]]]
    >>> result = compare(one, other, right)
    >>> round(result.difference, 2), round(result.low, 2), round(result.high, 2), result.p
    (0.3, 0.08, 0.52, 0.25)
    """
    one, other = (checked_sums(side) for side in (first, second))
    if one.shape[-4] != other.shape[-4]:
        raise SerError(
            f"a paired comparison needs the same clusters for both systems, not {one.shape[-4]} "
            f"and {other.shape[-4]}; compare over the same utterances"
        )
    difference, low, high, p = paired(one, other, metric, repeats=repeats)
    p = np.maximum(p, sign_flip(one, other, metric))
    return Comparison(float(difference), float(low), float(high), float(p), len(one))


def paired(
    one: Floats, other: Floats, metric: Metric, *, repeats: tuple[Repeats, Repeats] | None = None
) -> tuple[Floats, Floats, Floats, Floats]:
    """The t test of `compare` over any leading axes: difference, its interval's ends, p."""
    sides = metric(one.sum(-4)), metric(other.sum(-4))
    difference = sides[0].mean(-1) - sides[1].mean(-1)
    parts = [_over_clusters(one, other, metric, difference), *_over_repeats(*sides, repeats)]
    return difference, *_t_test(difference, parts)


def compare_apart(
    first: ArrayLike, second: ArrayLike, metric: Metric, *, repeats: Repeats | None = None
) -> Comparison:
    """Compares one system on two groups of different speakers, such as women and men.

    The groups' speakers vary independently, so their variances add up (Welch 1947). Where there are
    several seeds, the variance of the difference over seeds is added.

    Args:
        first: confusion counts of the first group, [S1, K, C, C].
        second: of the second, [S2, K, C, C].
        metric: scores such counts over any leading axes, [..., C, C] → [...].
        repeats: as for `compare`, of the one system.

    Raises:
        SerError: a group of fewer than three clusters.

    >>> right = lambda m: np.trace(m, axis1=-2, axis2=-1) / np.sum(m, axis=(-2, -1))
    >>> one = [[[[9, 1], [1, 9]]], [[[8, 2], [2, 8]]], [[[8, 2], [1, 9]]]]
    >>> other = [[[[5, 5], [4, 6]]], [[[6, 4], [4, 6]]], [[[5, 5], [5, 5]]]]
    >>> round(compare_apart(one, other, right).p, 3)
    0.002
    """
    one, other = (checked_sums(side) for side in (first, second))
    found = [estimate(side, metric) for side in (one, other)]
    difference = found[0].value - found[1].value
    parts = [_Part(side.variance, side.df) for side in found]
    gaps = metric(one.sum(-4)) - metric(other.sum(-4))
    varied = _of_repeats(gaps) if repeats is None else _crossed(gaps, repeats, (0, 1))
    low, high, p = _t_test(difference, [*parts, *varied])
    clusters = one.shape[-4] + other.shape[-4]
    return Comparison(float(difference), float(low), float(high), float(p), clusters)


def _over_clusters(one: Floats, other: Floats, metric: Metric, difference: Floats) -> _Part:
    share = (cluster_weights(one, metric) + cluster_weights(other, metric)) / 2
    df = degrees_of_freedom(share)
    variance = cr2_variance(difference, left_out(one, metric) - left_out(other, metric), share)
    floor = chdtri(df, 1 - RARE) / df * _moved(one, other, metric)
    return _Part(np.maximum(variance, floor), df)


def _moved(one: Floats, other: Floats, metric: Metric) -> Floats:
    """The variance of a difference if those predictions that differ were independent.

    At least as many predictions differ as the clusters' counts do. For sums of values (`OfMeans`)
    nothing similar is known, so their difference has no lower bound.
    """
    if isinstance(metric, OfMeans):
        return np.zeros(one.shape[:-4])
    sides = [side.mean(-3) for side in (one, other)]
    slopes = gradient(smoothed((one.mean(-3) + other.mean(-3))[..., None, :, :] / 2), metric)
    changed = np.abs(sides[0] - sides[1]).sum(-3)
    return (changed * slopes**2).sum((-1, -2))


def _over_repeats(
    first: Floats, second: Floats, repeats: tuple[Repeats, Repeats] | None
) -> list[_Part]:
    """Variance over seeds and few-shot draws of a difference of scores [..., K1], [..., K2]."""
    if repeats is None:
        return _of_repeats(first) + _of_repeats(second)
    # Where both systems learnt from the same draws, the draws are paired: only the variance of the
    # difference counts. Seeds of two systems have nothing to do with each other.
    draws = [[draw for _, draw in side] for side in repeats]
    if set(draws[0]) != set(draws[1]):
        return _crossed(first, repeats[0], (0, 1)) + _crossed(second, repeats[1], (0, 1))
    gaps = _means(first, draws[0]) - _means(second, draws[1])
    seeds = _crossed(first, repeats[0], (0,)) + _crossed(second, repeats[1], (0,))
    return seeds + _of_repeats(gaps)


def _crossed(scores: Floats, repeats: Repeats, places: Sequence[int]) -> list[_Part]:
    """The variance over seeds (place 0) and over draws (1), each averaged over the other."""
    parts = (_of_repeats(_means(scores, [one[place] for one in repeats])) for place in places)
    return [part for found in parts for part in found]


def _means(scores: Floats, of: Sequence[int]) -> Floats:
    """Averages scores [..., K] over those of one seed, or of one draw, in its order."""
    known = np.asarray(of)
    return np.stack([scores[..., known == one].mean(-1) for one in sorted(set(of))], axis=-1)


def _of_repeats(scores: Floats) -> list[_Part]:
    """The variance of the mean of independent scores [..., K]; nothing for a single one."""
    repeats = scores.shape[-1]
    if repeats < 2:
        return []
    return [_Part(scores.var(-1, ddof=1) / repeats, np.asarray(repeats - 1.0))]


def _t_test(difference: Floats, parts: Sequence[_Part]) -> tuple[Floats, Floats, Floats]:
    """Ends of the 95 % t interval and p; degrees of freedom by Satterthwaite (1946)."""
    total = np.sum([part.variance for part in parts], axis=0)
    below = np.sum([part.variance**2 / part.df for part in parts], axis=0)
    varies = total > 0
    # Satterthwaite: (Σ v)² / Σ (v² / df). Without any variance the test is not made (p = 1).
    df = np.divide(total**2, below, out=np.ones_like(total), where=varies)
    error = np.sqrt(total)
    t = np.divide(np.abs(difference), error, out=np.zeros_like(total), where=varies)
    half = stdtrit(df, UPPER) * error
    return difference - half, difference + half, np.where(varies, 2 * stdtr(df, -t), 1.0)


def sign_flip(one: Floats, other: Floats, metric: Metric) -> Floats:
    """Tests a difference by exchanging the two systems' predictions cluster by cluster: p, [...].

    If the systems were equal, a cluster's predictions could as well be those of the other system.
    Up to 13 clusters every exchange is tried; for more, 4,999 random ones and the observed one
    (Phipson & Smyth 2010).

    Args:
        one: confusion counts of the first system, [..., S, K1, C, C].
        other: of the second, [..., S, K2, C, C].
        metric: scores such counts over any leading axes, [..., C, C] → [...].
    """
    # total ± signs · half are the counts of the two systems after an exchange: with sign +1 a
    # cluster keeps its own system, with −1 it takes the other's. All exchanges are one product.
    first, second = one.mean(-3), other.mean(-3)
    half, total = (first - second) / 2, (first + second).sum(-3) / 2
    observed = np.abs(_gap(total, half.sum(-3), metric))
    clusters = first.shape[-3]
    # [S, everything else]: one matrix product applies many sign flips at once.
    flat = np.moveaxis(half, -3, 0).reshape(clusters, -1)
    signs = _signs(clusters)
    block = max(1, _AT_ONCE // max(flat.shape[1], clusters))
    as_large = np.zeros(observed.shape)
    for start in range(0, len(signs), block):
        exchanged = (signs[start : start + block] @ flat).reshape(-1, *total.shape)
        gaps = np.abs(_gap(total, exchanged, metric))
        # Exchanging all or nothing must give the observed gap, whose last bits may differ.
        as_large += (gaps >= observed - 1e-12).sum(0)
    one_more = clusters > _EXACT  # the observed gap counts, too, beside those of random exchanges
    return (as_large + one_more) / (len(signs) + one_more)


def smallest_p(clusters: int) -> float:
    """The smallest p value that exchanging two systems over so many clusters can give.

    >>> smallest_p(2), smallest_p(5)
    (0.5, 0.0625)
    """
    return float(max(2.0 ** (1 - clusters), 1 / (_FLIPS + 1)))


def _gap(total: Floats, half: Floats, metric: Metric) -> Floats:
    if isinstance(metric, OfMeans):
        return metric(total + half) - metric(total - half)
    # Rounding may leave a cell of counts slightly below zero.
    return metric(np.maximum(total + half, 0)) - metric(np.maximum(total - half, 0))


def _signs(clusters: int) -> Floats:
    """All rows of signs whose first is +1, since the rest mirrors them; or random rows."""
    if clusters <= _EXACT:
        return np.array([(1, *rest) for rest in product((1, -1), repeat=clusters - 1)], dtype=float)
    # A fixed seed: the same comparison gives the same p value every time.
    rng = np.random.default_rng(0)
    return rng.choice(np.array([-1.0, 1.0]), size=(_FLIPS, clusters))


@dataclass(frozen=True)
class McNemar:
    """How many utterances only one system gets right, and the exact two-sided p value."""

    only_first: int
    only_second: int
    p: float


def mcnemar(first_right: ArrayLike, second_right: ArrayLike) -> McNemar:
    """Tests whether two systems err equally often on the same utterances (exact McNemar).

    If they do, each system has half of the utterances that only one of them gets right: a binomial
    test (McNemar 1947, "Note on the sampling error of the difference between correlated
    proportions"). It assumes independent utterances, which those of one speaker are not; prefer
    `compare` where speakers are known.

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
    from scipy.stats import binomtest  # imported here: slow to import and rarely needed

    b, c = int((one & ~other).sum()), int((~one & other).sum())
    return McNemar(b, c, float(binomtest(b, b + c).pvalue) if b + c else 1.0)


def holm(p_values: Sequence[float | None]) -> tuple[float | None, ...]:
    """Corrects p values of several comparisons to control the chance of any false positive.

    Sorted ascending, ``p'_(i) = max_{j ≤ i} min(1, (m - j + 1) · p_(j))`` (Holm 1979, "A simple
    sequentially rejective multiple test procedure").

    Args:
        p_values: one per comparison; None where none could be made, which stays None.

    Returns:
        Corrected p values in the order given.

    >>> holm([0.01, 0.04, None, 0.03])
    (0.03, 0.06, None, 0.06)
    """
    corrected: list[float | None] = [None] * len(p_values)
    made = sorted((p, place) for place, p in enumerate(p_values) if p is not None)
    so_far = 0.0
    for rank, (p, place) in enumerate(made):
        so_far = max(so_far, min(1.0, (len(made) - rank) * p))
        corrected[place] = so_far
    return tuple(corrected)

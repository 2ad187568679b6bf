"""counts per speaker → the confidence interval of a score, by a jackknife over speakers.

Utterances of one speaker resemble each other, so whole speakers are left out, never single
utterances. All scores are functions of confusion matrices, which add up over speakers: the score
without a speaker is the score of the sum minus that speaker's counts.

The functions take counts ``[..., S, K, C, C]``: S clusters (speakers), K seeds and C classes after
any leading axes, so that thousands of simulated corpora are scored in one call. For a score that is
a function of means (`means.OfMeans`) its sums take the place of counts. Scores are averaged over
seeds. `docs/statistics.md` has the method, its sources and its measured coverage.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import chdtri, expit, logit, stdtrit

from multimodal_ser.common.arrays import Floats
from multimodal_ser.errors import SerError
from multimodal_ser.evaluation.statistics.means import OfMeans

Metric = Callable[[ArrayLike], Floats]

LEAST_CLUSTERS = 3  # with two, intervals are 60 to 85 points wide and no p value is below 0.5
LEAST_EFFECTIVE = 1.5  # below this one cluster dominates, and the variance cannot be estimated
# A variance is raised to the quantile that independent utterances would fall below so rarely.
RARE = 0.05
UPPER = 0.975  # the quantile at the upper end of a two-sided 95 % interval
_STEP = 1e-3  # of numerical derivatives, in utterances: small beside counts of 1 and more


@dataclass(frozen=True)
class Interval:
    """A 95 % confidence interval for one score.

    Attributes:
        low: lower end; NaN where it cannot be known.
        high: upper end; NaN where it cannot be known.
        clusters: the number of clusters.
        effective: the number of equally weighted clusters with as much information.
    """

    low: float
    high: float
    clusters: int
    effective: float


@dataclass(frozen=True, eq=False)
class Estimate:
    """A score (or a difference of two) and its variance over clusters; arrays [...].

    Attributes:
        value: on the sample itself, averaged over seeds.
        variance: of the value, over samples of other clusters.
        df: degrees of freedom of that variance.
        effective: the number of equally weighted clusters with as much information.
    """

    value: Floats
    variance: Floats
    df: Floats
    effective: Floats


def checked_sums(sums: ArrayLike) -> Floats:
    """Returns counts [..., S, K, C, C] as floats.

    Raises:
        SerError: the shape is another one, or there are fewer than three clusters.
    """
    values = np.asarray(sums, dtype=np.float64)
    if values.ndim < 4 or values.shape[-1] != values.shape[-2]:
        raise SerError(
            "confusion counts must be [clusters, seeds, classes, classes], not of shape "
            f"{values.shape}"
        )
    if (clusters := values.shape[-4]) < LEAST_CLUSTERS:
        raise SerError(
            f"neither an interval nor a p value can be known from {clusters} cluster(s): too "
            f"little tells how speakers differ; test on {LEAST_CLUSTERS} or more speakers"
        )
    return values


def estimate(sums: ArrayLike, metric: Metric) -> Estimate:
    """Estimates a score's variance by leaving out one cluster (speaker) at a time.

    With ``u_g = θ - θ_(g)``, the change of the score when cluster g is left out, and the cluster's
    weight w_g, the variance is ``Σ_g e_g² / (1 - w_g)`` with ``e_g = (1 - w_g) u_g``, centred. For
    WA this is the CR2 variance of a mean (Bell & McCaffrey 2002); for other scores it uses their
    jackknife (Efron & Stein 1981). `moments` corrects for clusters of unequal size that differ from
    each other. A handful of speakers may agree by chance, so the variance is raised to the 5 %
    quantile of what it would be if utterances were independent.

    Args:
        sums: confusion counts, [..., S, K, C, C].
        metric: scores such counts over any leading axes, [..., C, C] → [...].

    Raises:
        SerError: fewer than three clusters.

    >>> accuracy = lambda m: np.trace(m, axis1=-2, axis2=-1) / np.sum(m, axis=(-2, -1))
    >>> counts = np.array([[[[8, 2], [1, 9]]], [[[5, 5], [4, 6]]], [[[9, 1], [2, 8]]]])
    >>> found = estimate(counts, accuracy)
    >>> round(float(found.value), 2), round(float(found.variance) ** 0.5, 3), round(float(found.df))
    (0.75, 0.1, 2)
    """
    values = checked_sums(sums)
    share = cluster_weights(values, metric)
    value = metric(values.sum(-4)).mean(-1)
    variance = cr2_variance(value, left_out(values, metric), share)
    independent = _independent(values, metric)
    # Kish's (1965) effective sample size: S for equal weights, and fewer for unequal ones.
    effective = 1 / (share**2).sum(-1)
    # The share of the variance that is due to differences between clusters. A handful of clusters
    # can hardly show it, so for few clusters the estimate is shrunk to 0.
    ratio = np.divide(independent, variance, out=np.ones_like(variance), where=variance > 0)
    between = np.clip(1 - ratio, 0, 1) * (1 - 2 / np.maximum(effective, 2))
    expected, df = moments(share, between)
    # If utterances were independent, df · variance / independent would follow χ²(df).
    floor = chdtri(df, 1 - RARE) / df * independent
    return Estimate(
        value=value, variance=np.maximum(variance / expected, floor), df=df, effective=effective
    )


def left_out(values: Floats, metric: Metric) -> Floats:
    """The score without each cluster, averaged over seeds, [..., S]."""
    return metric(values.sum(-4, keepdims=True) - values).mean(-1)


def cr2_variance(value: Floats, left_out: Floats, share: Floats) -> Floats:
    """The CR2 variance from the scores without each cluster, [..., S] → [...]."""
    # The factor turns the change by leaving out a cluster into the residual of that cluster.
    errors = (1 - share) * (value[..., None] - left_out)
    # Residuals of a mean sum to zero; those of other scores do so only to first order.
    errors = errors - share * errors.sum(-1, keepdims=True)
    return (errors**2 / (1 - share)).sum(-1)


def cluster_weights(sums: Floats, metric: Metric) -> Floats:
    """How much each cluster contributes to a score, [..., S]; the weights sum to 1.

    A weight is how far the score moves between all of the cluster's predictions being right and
    all being wrong: for WA its share of the utterances, for UA its share of each class, averaged.

    >>> accuracy = lambda m: np.trace(m, axis1=-2, axis2=-1) / np.sum(m, axis=(-2, -1))
    >>> sums = np.array([[[[8, 2], [1, 9]]], [[[3, 2], [2, 3]]]])
    >>> cluster_weights(sums, accuracy).round(2).tolist()
    [0.67, 0.33]
    """
    if isinstance(metric, OfMeans):
        return metric.weights(sums)
    classes = sums.shape[-1]
    # The cluster's utterances all on the diagonal, or spread evenly over the other classes.
    right = sums.sum(-1, keepdims=True) * np.eye(classes)
    wrong = sums.sum(-1, keepdims=True) * (1 - np.eye(classes)) / max(classes - 1, 1)
    others = sums.sum(-4, keepdims=True) - sums
    moved = np.abs(metric(others + right) - metric(others + wrong)).mean(-1)
    total = moved.sum(-1, keepdims=True)
    return np.divide(moved, total, out=np.full_like(moved, np.nan), where=total > 0)


def degrees_of_freedom(share: Floats) -> Floats:
    """Satterthwaite's degrees of freedom of the CR2 variance (Bell & McCaffrey 2002), [...].

    >>> degrees_of_freedom(np.array([0.25, 0.25, 0.25, 0.25])).round(6).tolist()
    3.0
    """
    return moments(share, np.zeros(share.shape[:-1]))[1]


def moments(share: Floats, between: Floats) -> tuple[Floats, Floats]:
    """The expected CR2 variance in units of the true one, and its degrees of freedom.

    Cluster g adds ``w_g (θ_g - θ)`` to the score; let ``a_g`` be its share of the variance. It is
    w_g if utterances are independent, ``w_g² / Σ w²`` if only clusters differ, and a mixture of
    both in between (the working model with random effects of Imbens & Kolesár 2016). The residuals
    ``e = B z`` with ``B = I - w 1'`` then have the covariances
    ``C_gh = a_g δ_gh - w_h a_g - w_g a_h + w_g w_h``. With ``c_g = 1 / (1 - w_g)`` the expectation
    is ``E = Σ_g c_g C_gg`` and, by Satterthwaite, ``df = E² / Σ_gh c_g c_h C_gh²``. Equal clusters
    give 1 and S - 1.

    Args:
        share: weights w, [..., S].
        between: the share of the variance that is due to differences between clusters, [...].

    >>> [round(float(x), 3) for x in moments(np.array([0.5, 0.2, 0.2, 0.1]), np.array(1.0))]
    [0.814, 1.621]
    """
    w, f = share, between[..., None]
    with np.errstate(divide="ignore", invalid="ignore"):
        # Mixture of the two extremes: differences between clusters only, and independent
        # utterances.
        a = f * w**2 / (w**2).sum(-1, keepdims=True) + (1 - f) * w
        c = 1 / (1 - w)
        own = a - 2 * w * a + w**2  # C_gg
        mean = (c * own).sum(-1)  # E
        # The double sum over C_gh² factors into single sums, plus a correction of its diagonal,
        # where C_gg has the term a_g besides: [S] memory instead of [S, S].
        aa, aw, ww = ((c * one).sum(-1) for one in (a * a, a * w, w * w))
        pairs = 2 * aa * ww + ww**2 + 2 * aw**2 - 4 * aw * ww
        square = (c**2 * (own**2 - (2 * w * a - w**2) ** 2)).sum(-1) + pairs
        return mean, mean**2 / square


def smoothed(values: Floats) -> Floats:
    """Counts of all clusters, averaged over seeds, plus one prediction per class, spread evenly."""
    total = values.sum(-4).mean(-3)
    # Only classes that occur: a class that is absent from the test part must stay absent.
    return total + (total.sum(-1, keepdims=True) > 0) / total.shape[-1]


def gradient(counts: Floats, metric: Metric) -> Floats:
    """The derivative of a score by each cell of a confusion matrix, [..., C, C]; cells are > 0."""
    size = counts.shape[-1]
    steps = _STEP * np.eye(size * size).reshape(size, size, size, size)
    centre = counts[..., None, None, :, :]
    return (metric(centre + steps) - metric(centre - steps)) / (2 * _STEP)


def _independent(values: Floats, metric: Metric) -> Floats:
    """The variance of the score if all utterances were independent (delta method)."""
    if isinstance(metric, OfMeans):
        return metric.independent(values)
    # Smoothed: a score without any error would have no variance. Counts are taken as Poisson.
    counts = smoothed(values)
    slopes = np.where(counts > 0, gradient(counts, metric), 0)
    return (counts * slopes**2).sum((-1, -2))


def interval_ends(sums: ArrayLike, metric: Metric) -> tuple[Floats, Floats]:
    """Returns the ends of the 95 % t interval on the logit scale, [...]; NaN where unknown.

    On the logit scale the interval of a score near 1 reaches further down than up. A score of 0 or
    1 has no logit; one evenly spread prediction per class is added first (Agresti & Coull 1998).
    A correlation, and a score that can be negative, use Fisher's z as their scale, and an amount
    the logarithm.

    Args:
        sums: confusion counts, [..., S, K, C, C].
        metric: scores such counts over any leading axes, [..., C, C] → [...].

    Raises:
        SerError: fewer than three clusters.
    """
    values = checked_sums(sums)
    found = estimate(values, metric)
    known = found.effective >= LEAST_EFFECTIVE
    # nan degrees of freedom make nan ends: the interval cannot be known.
    quantile = stdtrit(np.where(known, found.df, np.nan), UPPER)
    reach = quantile * np.sqrt(found.variance)
    if isinstance(metric, OfMeans):
        return metric.ends(found.value, reach)
    # A user's score may be below 0 where nothing is right, as Cohen's kappa is.
    signed = bool(metric(1 - np.eye(values.shape[-1])) < 0)
    inside = (found.value > (-1 if signed else 0)) & (found.value < 1)
    centre = np.where(inside, found.value, metric(smoothed(values)))
    # Delta method: the derivative of the logit is 1 / (x (1 − x)), that of Fisher's z 1 / (1 − x²).
    if signed:
        half = reach / (1 - centre**2)
        low, high = np.tanh(np.arctanh(centre) - half), np.tanh(np.arctanh(centre) + half)
    else:
        half = reach / (centre * (1 - centre))
        low, high = expit(logit(centre) - half), expit(logit(centre) + half)
    return np.minimum(low, found.value), np.maximum(high, found.value)


def clustered_interval(sums: ArrayLike, metric: Metric) -> Interval:
    """Estimates the interval of a score over clusters: where it lies for other speakers.

    Args:
        sums: confusion counts, [S, K, C, C].
        metric: scores such counts over any leading axes, [..., C, C] → [...].

    Raises:
        SerError: fewer than three clusters; no interval can be known.

    >>> accuracy = lambda m: np.trace(m, axis1=-2, axis2=-1) / np.sum(m, axis=(-2, -1))
    >>> counts = np.array([[[[8, 2], [1, 9]]], [[[5, 5], [4, 6]]], [[[9, 1], [2, 8]]]])
    >>> interval = clustered_interval(counts, accuracy)
    >>> round(interval.low, 2), round(interval.high, 2), round(interval.effective, 6)
    (0.23, 0.97, 3.0)
    """
    values = checked_sums(sums)
    low, high = interval_ends(values, metric)
    effective = float(estimate(values, metric).effective)
    return Interval(float(low), float(high), len(values), effective)

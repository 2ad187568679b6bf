"""per-speaker counts → how far a score can be believed: the bootstrap over speakers.

Utterances of one speaker resemble each other, so the speaker is what is drawn anew, never the
utterance. Whatever a score is computed from must add up over speakers, as confusion matrices
do: then a resample is a weighted sum, and thousands of them are one matrix product.

The functions take the sums as ``[S, K, ...]``: S clusters (speakers), K seeds. Scores are
averaged over seeds inside each resample, so an interval tells of the test sample alone; the
spread over seeds is a different thing and is reported apart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
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


def checked_sums(sums: ArrayLike) -> Floats:
    """Returns sums [S, K, ...] as floats.

    Raises:
        SerError: another shape, or fewer than two clusters.
    """
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
    values = checked_sums(sums)
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

"""predicted values or distributions + the truth → terms per utterance → scores of their means.

For attributes (arousal, valence, dominance): CCC, Pearson's correlation and RMSE. For
distributions over classes, compared with the listeners' votes: Jensen–Shannon distance,
Kullback–Leibler divergence, top-2 and the macro-F1 of EMO-SUPERB. All are functions of means over
utterances, so that the intervals and tests in `statistics` apply to them as to confusion counts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
from numpy.typing import ArrayLike

from multimodal_ser.common.arrays import Floats
from multimodal_ser.errors import SerError
from multimodal_ser.evaluation.statistics import OfMeans

_EACH = 6  # terms of one attribute: 1, t, p, t², p², t·p
_ROUNDING = 1e-12  # share of a mean square below which a variance is its rounding error: constant
_LEAST = 1e-7  # the smallest probability that predictions.csv can hold, with its seven decimals


def attribute_terms(truth: ArrayLike, predicted: ArrayLike) -> Floats:
    """Terms per utterance whose means determine the scores of attributes.

    Args:
        truth: [N, A], NaN where an utterance has no value of an attribute.
        predicted: [N, A].

    Returns:
        For every attribute 1, t, p, t², p², t·p, all zero where there is no truth: [N, 6 A].
    """
    t, p = _paired(truth, predicted)
    # The leading 1 counts the utterances that have a value: `_moments` divides by its mean.
    known = ~np.isnan(t)
    t, p = np.where(known, t, 0), np.where(known, p, 0)
    terms: Floats = np.stack([known, t, p, t * t, p * p, t * p], axis=-1)
    return terms.reshape(len(t), -1)


def _paired(truth: ArrayLike, predicted: ArrayLike) -> tuple[Floats, Floats]:
    t, p = (np.asarray(one, dtype=np.float64) for one in (truth, predicted))
    if t.ndim != 2 or t.shape != p.shape:
        raise SerError(
            f"true values {t.shape} and predictions {p.shape} do not pair up; give one row of "
            "each per utterance"
        )
    return t, p


def _moments(means: Floats, place: int) -> tuple[Floats, ...]:
    """Means and variances of truth and prediction, and their covariance, for one attribute."""
    known, t, p, tt, pp, tp = np.moveaxis(means[..., _EACH * place : _EACH * (place + 1)], -1, 0)
    t, p, tt, pp, tp = (one / known for one in (t, p, tt, pp, tp))
    of_t, of_p = (
        np.where(square - mean * mean > _ROUNDING * square, square - mean * mean, 0)
        for mean, square in ((t, tt), (p, pp))
    )
    return t, p, of_t, of_p, np.where((of_t > 0) & (of_p > 0), tp - t * p, 0)


def _ccc(means: Floats, place: int) -> Floats:
    t, p, of_t, of_p, both = _moments(means, place)
    return 2 * both / (of_t + of_p + (t - p) ** 2)


def _pearson(means: Floats, place: int) -> Floats:
    _, _, of_t, of_p, both = _moments(means, place)
    return both / np.sqrt(of_t * of_p)


def _rmse(means: Floats, place: int) -> Floats:
    t, p, of_t, of_p, both = _moments(means, place)
    # mean (t − p)² = var t + var p − 2 cov + (mean t − mean p)²
    return np.sqrt(np.maximum(of_t + of_p - 2 * both + (t - p) ** 2, 0))


def _mean_of(of: Callable[[Floats, int], Floats], attributes: int, means: Floats) -> Floats:
    return np.stack([of(means, place) for place in range(attributes)]).mean(0)


def attribute_scores(names: Sequence[str]) -> dict[str, OfMeans]:
    """The scores of attributes, the mean CCC first.

    ``CCC = 2 cov(t, p) / (var t + var p + (mean t - mean p)²)`` (Lin 1989, "A concordance
    correlation coefficient to evaluate reproducibility"), with variances over N as in the
    challenges of MSP-Podcast. A constant prediction has a CCC of 0 and no correlation (NaN).

    Args:
        names: of the attributes, in the terms' order.

    >>> list(attribute_scores(["arousal"]))
    ['CCC', 'CCC arousal', 'r arousal', 'RMSE arousal']
    """
    found = {"CCC": OfMeans(partial(_mean_of, _ccc, len(names)), "correlation")}
    for place, name in enumerate(names):
        found[f"CCC {name}"] = OfMeans(partial(_ccc, place=place), "correlation")
    for place, name in enumerate(names):
        found[f"r {name}"] = OfMeans(partial(_pearson, place=place), "correlation")
    for place, name in enumerate(names):
        found[f"RMSE {name}"] = OfMeans(partial(_rmse, place=place), "amount", "lower")
    return found


def ccc(truth: ArrayLike, predicted: ArrayLike) -> Floats:
    """Returns the concordance correlation coefficient of every attribute, [A].

    Args:
        truth: [N, A], NaN where an utterance has no value.
        predicted: [N, A].

    >>> ccc([[0.0], [0.5], [1.0]], [[0.1], [0.5], [0.9]]).round(3).tolist()
    [0.976]
    """
    terms = attribute_terms(truth, predicted)
    with np.errstate(divide="ignore", invalid="ignore"):
        means = terms.mean(0)
        return np.array([_ccc(means, place) for place in range(len(means) // _EACH)])


def js_distance(first: ArrayLike, second: ArrayLike) -> Floats:
    """Returns the Jensen–Shannon distance of distributions, [..., C] × 2 → [...].

    ``√(½ KL(p‖m) + ½ KL(q‖m))`` with ``m = ½ (p + q)`` and logarithms to base 2 (Endres &
    Schindelin 2003): 0 for equal distributions, 1 for ones that have no class in common.

    >>> js_distance([[1.0, 0.0], [0.5, 0.5]], [[0.0, 1.0], [0.5, 0.5]]).tolist()
    [1.0, 0.0]
    """
    p, q = (np.asarray(one, dtype=np.float64) for one in (first, second))
    middle = (p + q) / 2
    both = sum((_relative(one, middle) for one in (p, q)), np.zeros(()))
    return np.sqrt(np.clip(both / (2 * np.log(2)), 0, 1))


def _relative(p: Floats, q: Floats) -> Floats:
    """``Σ p log(p / q)`` in nats; terms with p = 0 are 0, the limit of p log p."""
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(p > 0, p * np.log(p / q), 0)
    return terms.sum(-1)


def distribution_terms(votes: ArrayLike, predicted: ArrayLike) -> Floats:
    """Terms per utterance whose means determine the scores of distributions.

    Args:
        votes: the shares of the raters' votes, [N, C].
        predicted: probabilities, [N, C].

    Returns:
        JS distance; KL divergence; whether a class with the most votes is among the two most
        probable; and for every class the true positives, false positives and false negatives of
        "more than 1 / C": [N, 3 + 3 C].
    """
    q, p = _paired(votes, predicted)
    classes = q.shape[1]
    second = np.sort(p, axis=1)[:, -2:-1]  # [N, 1], the second highest
    most = q == q.max(1, keepdims=True)  # several classes where votes tie
    # At least the second highest: a tie between the second and the third counts as a hit.
    hit = (most & (p >= second)).any(1)
    # 1 / 6 is written as 0.1666667, which is not more than 1 / 6.
    wanted, given = (shares > 1 / classes + _LEAST for shares in (q, p))
    one_each = np.stack([js_distance(q, p), _relative(q, np.maximum(p, _LEAST)), hit], axis=1)
    return np.concatenate([one_each, wanted & given, ~wanted & given, wanted & ~given], axis=1)


def _multi_f1(means: Floats) -> Floats:
    # Means instead of counts: the number of utterances cancels in F1.
    true, false, missed = np.split(means[..., 3:], 3, axis=-1)
    below = 2 * true + false + missed
    scores = np.divide(2 * true, below, out=np.zeros_like(true), where=below > 0)
    return scores.sum(-1) / (below > 0).sum(-1)


DISTRIBUTION_SCORES: Mapping[str, OfMeans] = {
    "JS": OfMeans(lambda means: means[..., 0], "share", "lower"),
    "KL": OfMeans(lambda means: means[..., 1], "amount", "lower"),
    "top-2": OfMeans(lambda means: means[..., 2], "share"),
    "multi-F1": OfMeans(_multi_f1, "share"),
}
"""Name → score of the means of `distribution_terms`.

JS: Jensen–Shannon distance. KL: Kullback–Leibler divergence from the votes, in nats. top-2: how
often a class with the most votes is among the two most probable ones. multi-F1: the macro-F1 of
EMO-SUPERB (Wu et al. 2024), where a class counts as true, and as predicted, if its share is more
than 1 / C; an utterance can have several.
"""

"""sums over speakers → scores that are functions of means: CCC, RMSE, a mean distance.

What is summed is, for every utterance, the outer product of its terms ``z = (1, z_1 … z_D)``. Such
sums add up over speakers as confusion counts do, and stand in their place in this package: the
first row holds how many utterances there are and the terms' sums, of which the score is made; the
rest tells how the terms vary together, and so how the score would vary were utterances independent.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, logit

Floats = NDArray[np.float64]
_STEP = 1e-5  # of numerical derivatives; the terms are of the order of 1
_EDGE = 1e-9  # how near an end of its range a score is taken for an interval


class _Scale(NamedTuple):
    """A range of scores, and what stretches it over all numbers."""

    low: float
    high: float
    stretched: Callable[[Floats], Floats]
    slope: Callable[[Floats], Floats]
    back: Callable[[Floats], Floats]


_SCALES = {
    "correlation": _Scale(-1, 1, np.arctanh, lambda x: 1 / (1 - x**2), np.tanh),  # Fisher's z
    "share": _Scale(0, 1, logit, lambda x: 1 / (x * (1 - x)), expit),
    "amount": _Scale(0, np.inf, np.log, lambda x: 1 / x, np.exp),
}


@dataclass(frozen=True)
class OfMeans:
    """A score that is a function of the means of terms over utterances.

    Attributes:
        of: means of the terms, over any leading axes, [..., D] → [...].
        range: what values it may have: a ``correlation`` lies in -1 … 1, a ``share`` in 0 … 1, an
            ``amount`` is 0 or more.
        better: ``higher`` or ``lower``.

    >>> distance = OfMeans(lambda means: means[..., 0], "share", "lower")
    >>> float(distance(sums_of([[0.1], [0.3]], [0, 0], 1)[0]))
    0.2
    """

    of: Callable[[Floats], Floats]
    range: Literal["correlation", "share", "amount"]
    better: Literal["higher", "lower"] = "higher"

    def __call__(self, sums: ArrayLike) -> Floats:
        """Sums [..., 1 + D, 1 + D] → scores [...]; NaN without utterances."""
        given = np.asarray(sums, dtype=np.float64)
        with np.errstate(divide="ignore", invalid="ignore"):
            return self.of(given[..., 0, 1:] / given[..., 0, :1])

    def weights(self, sums: Floats) -> Floats:
        """Each cluster's share of the utterances: sums [..., S, K, 1 + D, 1 + D] → [..., S]."""
        count = sums[..., 0, 0].mean(-1)
        share: Floats = count / count.sum(-1, keepdims=True)
        return share

    def independent(self, sums: Floats) -> Floats:
        """The variance that the score would have were utterances independent (delta method)."""
        total = sums.sum(-4).mean(-3)
        number = total[..., 0, 0]
        mean = total[..., 0, 1:] / number[..., None]
        second = total[..., 1:, 1:] / number[..., None, None]
        steps = _STEP * np.eye(mean.shape[-1])
        centre = mean[..., None, :]
        slopes = (self.of(centre + steps) - self.of(centre - steps)) / (2 * _STEP)
        spread = np.einsum("...i,...ij,...j->...", slopes, second, slopes)
        variance: Floats = (spread - np.einsum("...i,...i->...", slopes, mean) ** 2) / number
        return np.maximum(variance, 0)

    def ends(self, value: Floats, half: Floats) -> tuple[Floats, Floats]:
        """The ends of an interval of half this width, on the scale that keeps it in its range."""
        low, high, stretched, slope, back = _SCALES[self.range]
        centre = np.clip(value, low + _EDGE, high - _EDGE)
        place, reach = stretched(centre), half * slope(centre)
        return np.minimum(back(place - reach), value), np.maximum(back(place + reach), value)


def sums_of(terms: ArrayLike, groups: ArrayLike, groups_total: int) -> Floats:
    """Sums the terms' outer products group by group, such as by speaker.

    Args:
        terms: of every utterance, [N, D].
        groups: which group each belongs to, 0 … G-1, [N].
        groups_total: G.

    Returns:
        Sums, [G, 1 + D, 1 + D].

    >>> sums_of([[2.0], [3.0]], [0, 1], 2).tolist()
    [[[1.0, 2.0], [2.0, 4.0]], [[1.0, 3.0], [3.0, 9.0]]]
    """
    given, own = np.asarray(terms, dtype=np.float64), np.asarray(groups)
    rows = np.concatenate([np.ones((len(given), 1)), given], axis=1)
    order = np.argsort(own, kind="stable")
    parts = np.split(rows[order], np.searchsorted(own[order], np.arange(1, groups_total)))
    return np.stack([part.T @ part for part in parts])

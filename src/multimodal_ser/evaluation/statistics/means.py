"""sums over speakers → scores that are functions of means: CCC, RMSE, a mean distance.

The sums are those of the outer products of each utterance's terms ``z = (1, z_1 … z_D)``. They add
up over speakers as confusion counts do, and take their place in the functions of this package. The
first row holds the number of utterances and the sums of the terms, which determine the score. The
other rows hold the second moments of the terms, from which follows how much the score would vary
if utterances were independent.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit, logit

from multimodal_ser.common.arrays import Floats

# Step of numerical derivatives, in standard deviations of a term: predictions may hardly vary, and
# a step beyond their variance would leave them none.
_STEP = 1e-6
_EDGE = 1e-9  # a score is kept this far inside its range, where the stretched scale is finite


class _Scale(NamedTuple):
    """A range of scores, and the function that maps it to all real numbers, with its inverse."""

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
        range: which values it can have: a ``correlation`` lies in -1 … 1, a ``share`` in 0 … 1,
            and an ``amount`` is 0 or more.
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
        return count / count.sum(-1, keepdims=True)

    def independent(self, sums: Floats) -> Floats:
        """The variance of the score if utterances were independent (delta method), [...]."""
        total = sums.sum(-4).mean(-3)  # over the clusters, then the mean over the seeds
        number = total[..., 0, 0]
        mean = total[..., 0, 1:] / number[..., None]
        second = total[..., 1:, 1:] / number[..., None, None]
        spread = np.diagonal(second, axis1=-2, axis2=-1) - mean**2
        sizes = _STEP * np.sqrt(np.maximum(spread, 0))  # [..., D]; 0 where a term is constant
        steps, centre = sizes[..., None] * np.eye(mean.shape[-1]), mean[..., None, :]
        with np.errstate(divide="ignore", invalid="ignore"):  # as of a constant: nan, as its score
            gaps = self.of(centre + steps) - self.of(centre - steps)
        slopes = np.divide(gaps, 2 * sizes, out=np.zeros_like(gaps), where=sizes > 0)
        # var(g'z) / n with the gradient g of the score: (E[(g'z)²] − E[g'z]²) / n
        squares = np.einsum("...i,...ij,...j->...", slopes, second, slopes)
        variance: Floats = (squares - np.einsum("...i,...i->...", slopes, mean) ** 2) / number
        return np.maximum(variance, 0)

    def ends(self, value: Floats, half: Floats) -> tuple[Floats, Floats]:
        """The ends of an interval of this half width, computed on the scale of its range."""
        low, high, stretched, slope, back = _SCALES[self.range]
        centre = np.clip(value, low + _EDGE, high - _EDGE)
        # The half width on the stretched scale is the one given times the derivative (delta method)
        place, reach = stretched(centre), half * slope(centre)
        with np.errstate(over="ignore"):  # of an amount of nearly 0 the upper end is not known
            top = back(place + reach)
        # Clipping near an end of the range must not move the interval past the score itself.
        top = np.where(np.isinf(top), np.nan, np.maximum(top, value))
        return np.minimum(back(place - reach), value), top


def sums_of(terms: ArrayLike, groups: ArrayLike, groups_total: int) -> Floats:
    """Sums the terms' outer products within each group, such as a speaker: [G, 1 + D, 1 + D].

    Args:
        terms: of every utterance, [N, D].
        groups: group of each utterance, 0 … G-1, [N].
        groups_total: number of groups G.

    >>> sums_of([[2.0], [3.0]], [0, 1], 2).tolist()
    [[[1.0, 2.0], [2.0, 4.0]], [[1.0, 3.0], [3.0, 9.0]]]
    """
    given, own = np.asarray(terms, dtype=np.float64), np.asarray(groups)
    rows = np.concatenate([np.ones((len(given), 1)), given], axis=1)
    # Sorted by group and cut: one matrix product per group instead of one per utterance.
    order = np.argsort(own, kind="stable")
    parts = np.split(rows[order], np.searchsorted(own[order], np.arange(1, groups_total)))
    return np.stack([part.T @ part for part in parts])

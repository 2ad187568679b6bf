"""right and wrong predictions → McNemar's test; p values of several tests → Holm's correction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from multimodal_ser.errors import SerError

FLIPS = 4_999  # random sign flips of many clusters; with the observed one 5,000


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


def smallest_p(clusters: int) -> float:
    """The smallest p value that exchanging two systems over so many clusters can give.

    >>> smallest_p(2), smallest_p(5)
    (0.5, 0.0625)
    """
    return float(max(2.0 ** (1 - clusters), 1 / (FLIPS + 1)))

"""embeddings of unlabelled recordings → by how much their channel shifts them: [N, D] → [D].

A microphone, a room or a language moves all embeddings of a set alike. What moved them is told
from what the set expresses by a mixture of the classes as they were learnt, shifted together, with
shares of their own: a set that is all anger is explained by its shares, and not flattened.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

CLIPS = 10.0  # as many recordings speak for the shift as stand against it
BALANCE = 20.0  # recordings of each class that are imagined beside those given
ROUNDS = 100
_DONE = 1e-6


def channel_shift(
    embeddings: NDArray[np.floating],
    centres: NDArray[np.floating],
    *,
    clips: float = CLIPS,
    balance: float = BALANCE,
) -> NDArray[np.float32]:
    """The shift that the embeddings of a set of recordings have in common.

    The most probable shift d and class shares p, by expectation-maximisation (Dempster et al.,
    1977), under: an embedding of class k is normal about centre k + d, with one spread in all
    directions that the set tells; d is normal about zero, so that a few recordings shift little;
    p is near uniform (Dirichlet), so that a mixed set in another channel is not taken for a set
    of one class.

    Args:
        embeddings: of the set, [N, D], in a space where each class's spread is near 1 in every
            direction, as a model's file holds it.
        centres: of the classes there, [C, D].
        clips: recordings at which half of what they say of the shift is taken.
        balance: of the shares; recordings of each class that are imagined.

    Returns:
        What to take from every embedding of that channel, [D]; zero for an empty set.

    >>> centres = np.array([[-2.0, 0.0], [2.0, 0.0]])
    >>> there = np.repeat(centres, 500, axis=0) + [1.0, 3.0]
    >>> np.round(channel_shift(there, centres), 1).tolist()
    [1.0, 3.0]
    """
    points, means = np.asarray(embeddings, np.float64), np.asarray(centres, np.float64)
    if not len(points):
        return np.zeros(means.shape[1], np.float32)
    balanced = points.mean(0) - means.mean(0)
    begun = [_climb(points, means, start, clips, balance) for start in (0 * balanced, balanced)]
    return max(begun, key=lambda one: one[1])[0].astype(np.float32)


def _climb(
    points: Floats, means: Floats, shift: Floats, clips: float, balance: float
) -> tuple[Floats, float]:
    """Expectation-maximisation from a first shift: where it ends, and how probable that is."""
    count, width = points.shape
    shares = np.full(len(means), 1 / len(means))
    spread, last = 1.0, -np.inf
    for _ in range(ROUNDS):
        off = points[:, None] - means - shift  # [N, C, D]
        joint = np.log(shares) - np.square(off).sum(2) / (2 * spread)
        top = joint.max(1, keepdims=True)
        belongs = np.exp(joint - top)
        total = belongs.sum(1, keepdims=True)
        belongs /= total
        likely = float((top + np.log(total)).sum()) - count * width / 2 * np.log(spread)
        likely += balance * np.log(shares).sum() - clips * np.square(shift).sum() / (2 * spread)
        if likely - last < _DONE * count:
            break
        last = likely
        shares = (belongs.sum(0) + balance) / (count + balance * len(means))
        shift = np.einsum("nc,ncd->d", belongs, points[:, None] - means) / (count + clips)
        off = points[:, None] - means - shift
        spread = max(1.0, float((belongs * np.square(off).sum(2)).sum() / (count * width)))
    return shift, last

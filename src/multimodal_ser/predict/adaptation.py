"""vectors of unlabelled recordings → by how much their channel shifts them: [N, V] → [V].

A microphone, a room, a language or a speaker moves all vectors of a set alike, and so the answers:
many of one class, next to none of another. The shift is the one after which the set's mean answer
has the shares in which classes are expected (as Saerens et al., 2002, find new shares, turned
round), taken less than fully: a set also has shares of its own, which must not be taken away. The
answers are softened, so that a set that is mostly one emotion moves less than its mean does.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_CLIPS = 25.0  # recordings at which half of _MOST is taken
_MOST = 0.9  # share of the way that is taken for very many
_SOFT = 1.0  # of answers: a class's mean square from the middle, as a log-odds
_ROUNDS = 50
_RAREST = 1e-3  # share of answers, so that a class that nothing answers is not waited for

Floats = NDArray[np.float64]


def channel_shift(
    vectors: NDArray[np.floating],
    references: NDArray[np.floating],
    shares: NDArray[np.floating] | None = None,
    *,
    clips: float = _CLIPS,
    most: float = _MOST,
) -> NDArray[np.float32]:
    """The shift that the vectors of a set of recordings have in common.

    It is most · n / (n + clips) of what makes the mean answer have the expected shares, in the
    directions in which classes differ: in others a shift changes no answer.

    Args:
        vectors: of the set, [N, V]: what a model's head reads.
        references: where each class lies, [C, V], the nearest being the answer; or, [1, V], where
            the vectors lay in training, and the way between the means is the whole shift.
        shares: in which classes are expected, [C]; alike where not given.
        clips: recordings at which half of `most` is taken.
        most: share of the way that is taken for very many recordings.

    Returns:
        What to take from every vector of that channel, [V]; zero for an empty set.

    >>> channel_shift(np.full((20, 2), 3.0), np.array([[1.0, 1.0]]), clips=20, most=1)
    array([1., 1.], dtype=float32)
    """
    classes = np.asarray(references, np.float64)
    there = classes.mean(0)
    count = len(vectors)
    if not count:
        return np.zeros(len(there), np.float32)
    apart = np.asarray(vectors, np.float64) - there
    way = apart.mean(0)
    if len(classes) > 1:
        centres = classes - there
        expected = np.full(len(classes), 1 / len(classes)) if shares is None else shares
        back = np.linalg.pinv(centres)
        unit = _SOFT / np.square(centres).sum(1).mean()
        size = np.square(centres).sum(1) / 2
        # softened answers about the classes themselves have uneven shares, without any shift
        own = _mean_answer(unit * (centres @ centres.T - size))
        wanted = expected * own / (expected @ own)
        way = -back @ _balance(unit * (apart @ centres.T - size), wanted) / unit
    return np.asarray(most * count / (count + clips) * way, np.float32)


def _balance(logits: Floats, shares: NDArray[np.floating]) -> Floats:
    """What to add to logits [N, C] so that the mean answer has these shares, [C]; mean zero."""
    added = np.zeros(logits.shape[1])
    for _ in range(_ROUNDS):
        added += np.log(shares) - np.log(_mean_answer(logits + added) + _RAREST)
    return np.asarray(added - added.mean())


def _mean_answer(logits: Floats) -> Floats:
    answers = np.exp(logits - logits.max(1, keepdims=True))
    return np.asarray((answers / answers.sum(1, keepdims=True)).mean(0))

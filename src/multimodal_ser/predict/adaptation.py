"""vectors of unlabelled recordings → by how much their channel shifts them: [N, V] → [V].

A microphone, a room, a language or a speaker moves all vectors of a set alike. What moves them is
taken to be where the set's mean lies, less than fully: a set also has its own shares of emotions,
and what they move the mean by must not all be taken away. Mixtures of classes with shares of their
own (expectation-maximisation) were tried by `ser unseen` and did worse at every size: between
corpora, classes overlap too much to tell shares from shift.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

CLIPS = 10.0  # recordings at which half of MOST is taken
MOST = 0.7  # share of the way that is taken for very many


def channel_shift(
    vectors: NDArray[np.floating],
    references: NDArray[np.floating],
    *,
    clips: float = CLIPS,
    most: float = MOST,
) -> NDArray[np.float32]:
    """The shift that the vectors of a set of recordings have in common.

    It is most · n / (n + clips) of the way from the mean of the references to that of the set.

    Args:
        vectors: of the set, [N, V]: what a model's head reads.
        references: where they lay in training, [C, V]: the mean of each class, equally weighty, or
            of all together.
        clips: recordings at which half of `most` is taken.
        most: share of the way that is taken for very many recordings.

    Returns:
        What to take from every vector of that channel, [V]; zero for an empty set.

    >>> channel_shift(np.full((20, 2), 3.0), np.array([[0.0, 1.0], [2.0, 1.0]]), clips=20, most=1)
    array([1., 1.], dtype=float32)
    """
    there = np.asarray(references, np.float64).mean(0)
    count = len(vectors)
    if not count:
        return np.zeros(len(there), np.float32)
    way = np.asarray(vectors, np.float64).mean(0) - there
    return np.asarray(most * count / (count + clips) * way, np.float32)

"""vectors of unlabelled recordings → the shift that their channel causes: [N, V] → [V].

A microphone, a room, a language or a speaker shifts all vectors of a set alike, and with them the
predictions: many of one class, next to none of another. The estimated shift is the one whose
removal gives the set's mean prediction the expected class frequencies. It is the reverse of Saerens
et al. (2002), who adjust the frequencies to the predictions. Only part of it is removed, since a
set also has class frequencies of its own, which must be kept. Predictions are softened, so that a
set that is mostly one emotion shifts less than its mean vector would suggest.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from multimodal_ser.common.arrays import Floats

_CLIPS = 25.0  # number of recordings with which half of _MOST is removed
_MOST = 0.9  # share of the shift that is removed with very many recordings
_SOFT = 1.0  # log-odds that the mean squared distance of a class from the centre stands for
_ROUNDS = 50  # iterations of `_balance`
_RAREST = 1e-3  # added to predicted frequencies: bounds the correction of a class never predicted


def channel_shift(
    vectors: NDArray[np.floating],
    references: NDArray[np.floating],
    shares: NDArray[np.floating] | None = None,
    *,
    clips: float = _CLIPS,
    most: float = _MOST,
) -> NDArray[np.float32]:
    """Estimates the shift that the vectors of a set of recordings have in common.

    The shift is most · n / (n + clips) of the one that gives the mean prediction the expected
    class frequencies, in the directions in which classes differ; a shift in any other direction
    changes no prediction.

    Args:
        vectors: input of the model's head for the recordings of the set, [N, V].
        references: centres of the classes, [C, V], where the nearest one is the prediction; or the
            mean of the training, [1, V], where the whole shift is the difference of the means.
        shares: expected class frequencies, [C]; equal by default.
        clips: number of recordings with which half of `most` is removed.
        most: share of the shift that is removed with very many recordings.

    Returns:
        The vector to subtract from every vector of that channel, [V]; zero for an empty set.

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
        # Minus half the squared distance to a centre is a class's logit, up to what all classes
        # have in common. Softened predictions for the centres themselves have uneven frequencies
        # without any shift, so that these are the baseline for the expected ones.
        own = _mean_prediction(unit * (centres @ centres.T - size))
        wanted = expected * own / (expected @ own)
        # The change of the logits that balances the classes, translated into a shift of vectors.
        way = -back @ _balance(unit * (apart @ centres.T - size), wanted) / unit
    return np.asarray(most * count / (count + clips) * way, np.float32)


def _balance(logits: Floats, shares: NDArray[np.floating]) -> Floats:
    """What to add to logits [N, C] to give the mean prediction these shares: [C], with mean 0."""
    added = np.zeros(logits.shape[1])
    for _ in range(_ROUNDS):
        added += np.log(shares) - np.log(_mean_prediction(logits + added) + _RAREST)
    return np.asarray(added - added.mean())


def _mean_prediction(logits: Floats) -> Floats:
    predictions = np.exp(logits - logits.max(1, keepdims=True))
    return np.asarray((predictions / predictions.sum(1, keepdims=True)).mean(0))

"""predictions → scores: pure functions on arrays; the number of classes is always given.

Scores of a confusion matrix accept any leading batch axes ``[..., C, C]``, so that the jackknife's
scores without each speaker are computed in one call. Rows are the truth and columns the
prediction, both in the order of the class set.

UA: unweighted average recall. WA: accuracy (recall weighted by support). WF1: F1 weighted by
support. macro-F1: plain mean of the classes' F1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from multimodal_ser.common.arrays import Floats, Ints
from multimodal_ser.errors import SerError


def confusion(truth: ArrayLike, predicted: ArrayLike, classes: int) -> Ints:
    """Counts how often each class (row) was predicted as each class (column): [C, C].

    Args:
        truth: class ids, [N].
        predicted: class ids, [N].
        classes: the number of classes C, including those that do not occur.

    Raises:
        SerError: lengths differ, or an id lies outside 0 … C-1.

    >>> confusion([0, 0, 2], [0, 2, 2], classes=3).tolist()
    [[1, 0, 1], [0, 0, 0], [0, 0, 1]]
    """
    truth = np.asarray(truth)
    groups = np.zeros(truth.shape, dtype=np.int64)
    return grouped_confusion(truth, predicted, groups, classes=classes, groups_total=1)[0]


def grouped_confusion(
    truth: ArrayLike, predicted: ArrayLike, groups: ArrayLike, *, classes: int, groups_total: int
) -> Ints:
    """Counts one confusion matrix per group, such as per speaker.

    Args:
        truth: class ids, [N].
        predicted: class ids, [N].
        groups: which group each row belongs to, 0 … G-1, [N].
        classes: the number of classes C.
        groups_total: the number of groups G.

    Returns:
        Counts, [G, C, C]; their sum over G is the confusion matrix of all rows.

    Raises:
        SerError: lengths differ, or an id lies outside its range.

    >>> grouped_confusion([0, 1], [1, 1], [0, 1], classes=2, groups_total=2).tolist()
    [[[0, 1], [0, 0]], [[0, 0], [0, 1]]]
    """
    # Ids are checked before they become indices: a negative one would silently count elsewhere.
    rows, columns, planes = _ids(truth, classes), _ids(predicted, classes), _ids(groups, None)
    if not rows.shape == columns.shape == planes.shape:
        raise SerError(
            f"{rows.size} true classes, {columns.size} predictions and {planes.size} groups do not "
            "pair up; give one of each per utterance"
        )
    # One bincount over flat indices counts all matrices at once.
    flat = (planes * classes + rows) * classes + columns
    counts = np.bincount(flat, minlength=groups_total * classes * classes)
    return counts.astype(np.int64).reshape(groups_total, classes, classes)


def _ids(values: ArrayLike, classes: int | None) -> Ints:
    ids = np.asarray(values)
    if ids.size == 0:
        return ids.astype(np.int64)
    if ids.ndim != 1 or not np.issubdtype(ids.dtype, np.integer):
        raise SerError(f"class ids must be a row of whole numbers, not {ids.dtype} {ids.shape}")
    if ids.min() < 0 or (classes is not None and ids.max() >= classes):
        raise SerError(
            f"class ids run from {ids.min()} to {ids.max()}, but with {classes} classes only "
            f"0 … {(classes or 0) - 1} exist; use the class set that the predictions were made with"
        )
    return ids.astype(np.int64)


def _divide(above: NDArray[Any], below: Floats, otherwise: float) -> Floats:
    return np.divide(above, below, out=np.full(np.shape(above), otherwise), where=below > 0)


def _sums(matrix: ArrayLike) -> tuple[Floats, Floats, Floats]:
    counts = np.asarray(matrix, dtype=np.float64)
    rows, columns = (np.einsum(f"...ij->...{axis}", counts) for axis in "ij")
    # Hits [..., C], support of the truth [..., C], and number of predictions [..., C].
    return np.diagonal(counts, axis1=-2, axis2=-1), rows, columns


def _total(values: Floats) -> Floats:
    """The sum over the last axis; for few classes, einsum is several times faster than sum."""
    return np.einsum("...i->...", values)


def recalls(matrix: ArrayLike) -> Floats:
    """Returns each class's recall, [..., C]; NaN for a class that is absent from the truth.

    Args:
        matrix: confusion counts, [..., C, C].

    >>> recalls([[3, 1, 0], [0, 0, 0], [0, 0, 2]]).tolist()
    [0.75, nan, 1.0]
    """
    hits, support, _ = _sums(matrix)
    return _divide(hits, support, np.nan)


def ua(matrix: ArrayLike) -> Floats:
    """Returns the unweighted average recall: the mean recall of the classes in the truth.

    ``UA = 1/|P| · Σ_{c in P} n_cc / n_c.`` with P the classes that occur in the truth, as
    scikit-learn's balanced accuracy. A class without a true row has no recall; counting it as 0
    would lower the score for something that the sample lacks.

    Args:
        matrix: confusion counts, [..., C, C].

    Returns:
        UA between 0 and 1, [...]; NaN without rows.

    >>> float(ua([[3, 1, 0], [0, 0, 0], [0, 0, 2]]))
    0.875
    """
    hits, support, _ = _sums(matrix)
    total = _total(_divide(hits, support, 0.0))
    return _divide(total, _total((support > 0).astype(np.float64)), np.nan)


def wa(matrix: ArrayLike) -> Floats:
    """Returns the accuracy, the field's WA: the share of rows on the diagonal.

    Args:
        matrix: confusion counts, [..., C, C].

    Returns:
        WA between 0 and 1, [...]; NaN without rows.

    >>> float(wa([[3, 1], [0, 4]]))
    0.875
    """
    hits, support, _ = _sums(matrix)
    return _divide(_total(hits), _total(support), np.nan)


def wf1(matrix: ArrayLike) -> Floats:
    """Returns the mean F1 weighted by each class's support in the truth.

    Args:
        matrix: confusion counts, [..., C, C].

    Returns:
        WF1 between 0 and 1, [...]; NaN without rows.

    >>> round(float(wf1([[3, 1], [0, 4]])), 4)
    0.873
    """
    hits, support, chosen = _sums(matrix)
    scores = _divide(2 * hits, support + chosen, 0.0)
    return _divide(_total(scores * support), _total(support), np.nan)


def macro_f1(matrix: ArrayLike) -> Floats:
    """Returns the plain mean F1 of the classes that occur in truth or prediction.

    This is what scikit-learn does where no labels are given: a class that occurs in neither is
    left out, and one that is only predicted counts as 0.

    Args:
        matrix: confusion counts, [..., C, C].

    Returns:
        macro-F1 between 0 and 1, [...]; NaN without rows.

    >>> round(float(macro_f1([[3, 1, 0], [0, 4, 0], [0, 0, 0]])), 4)
    0.873
    """
    hits, support, chosen = _sums(matrix)
    total = _total(_divide(2 * hits, support + chosen, 0.0))
    return _divide(total, _total((support + chosen > 0).astype(np.float64)), np.nan)


METRICS: dict[str, Callable[[ArrayLike], Floats]] = {
    "UA": ua,
    "WA": wa,
    "WF1": wf1,
    "macro-F1": macro_f1,
}
"""Name → score of counts [..., C, C]; every table shows each of them, with its interval."""


def check_scores(classes: int) -> None:
    """Tries every score on two matrices, so that none of a plug-in's fails after a training.

    Args:
        classes: number of classes of the matrices; a score may be made for one class set alone.

    Raises:
        SerError: one fails, or does not give a value from -1 to 1 for each.
    """
    matrices = np.stack([np.eye(classes), np.ones((classes, classes))])
    for name, score in METRICS.items():
        try:
            given: Any = score(matrices)
        except Exception as error:
            raise SerError(
                f"the score {name!r} fails for counts {list(matrices.shape)}: {error!r}"
            ) from error
        fits = isinstance(given, np.ndarray) and given.shape == (2,) and given.dtype.kind in "fiu"
        if not fits or (np.abs(given) > 1).any():
            shown = " ".join(repr(given).split())
            raise SerError(
                f"the score {name!r} gives {shown} for counts {list(matrices.shape)}; needed: an "
                "array [2] of values from 0 to 1, or from -1 (CONTRIBUTING.md)"
            )


@dataclass(frozen=True, eq=False)
class Reliability:
    """Confidence and accuracy in bins of the highest probability (a reliability diagram).

    Attributes:
        confidence: mean highest probability in each bin, NaN where the bin is empty, [bins].
        accuracy: share of right predictions in each bin, NaN where the bin is empty, [bins].
        count: rows in each bin, [bins].
    """

    confidence: Floats
    accuracy: Floats
    count: Ints


def reliability(probabilities: ArrayLike, truth: ArrayLike, bins: int = 15) -> Reliability:
    """Sorts predictions into equal-width bins of their highest probability.

    Bin b holds probabilities in (b / bins, (b + 1) / bins].

    Args:
        probabilities: one row per utterance, [N, C].
        truth: class ids, [N].
        bins: the number of bins.

    Raises:
        SerError: shapes do not pair up, or an id lies outside 0 … C-1.

    >>> curve = reliability([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]], [0, 0, 0], bins=2)
    >>> curve.count.tolist(), curve.accuracy.round(2).tolist()
    ([0, 3], [nan, 0.67])
    """
    given = np.asarray(probabilities, dtype=np.float64)
    if given.ndim != 2 or len(given) != len(np.asarray(truth)):
        raise SerError(
            f"probabilities {given.shape} and {len(np.asarray(truth))} true classes do not pair "
            "up; give one row of probabilities [N, C] per utterance"
        )
    hits = given.argmax(-1) == _ids(truth, given.shape[1])
    top = given.max(-1)
    # ceil − 1 puts a bin's upper edge into it; the clip keeps a probability of 0 in the first bin
    place = np.clip(np.ceil(top * bins).astype(np.int64) - 1, 0, bins - 1)
    count = np.bincount(place, minlength=bins).astype(np.int64)
    size = count.astype(np.float64)
    return Reliability(
        confidence=_divide(np.bincount(place, weights=top, minlength=bins), size, np.nan),
        accuracy=_divide(np.bincount(place, weights=hits, minlength=bins), size, np.nan),
        count=count,
    )


def ece(probabilities: ArrayLike, truth: ArrayLike, bins: int = 15) -> float:
    """Returns the expected calibration error of the top label.

    ``ECE = Σ_b n_b/N · |accuracy_b - confidence_b|`` over equal-width bins (Naeini et al. 2015,
    "Obtaining well calibrated probabilities using Bayesian binning"; Guo et al. 2017, "On
    calibration of modern neural networks").

    Args:
        probabilities: one row per utterance, [N, C].
        truth: class ids, [N].
        bins: the number of bins.

    Returns:
        ECE between 0 and 1; NaN without rows.

    >>> round(ece([[0.9, 0.1], [0.2, 0.8]], [0, 1]), 3)
    0.15
    """
    curve = reliability(probabilities, truth, bins)
    if not curve.count.sum():
        return float("nan")
    # Empty bins are nan and weigh nothing.
    gaps = np.nan_to_num(np.abs(curve.accuracy - curve.confidence))
    return float((gaps * curve.count).sum() / curve.count.sum())


OF_PROBABILITIES: dict[str, Callable[[ArrayLike, ArrayLike], float]] = {"ECE": ece}
"""Name → score of probabilities [N, C] and class ids [N].

These are not functions of confusion counts, so they have no interval.
"""

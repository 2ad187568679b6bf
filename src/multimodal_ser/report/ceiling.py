"""Measures how well one rater predicts the others from their votes: the ceiling of a model."""

from __future__ import annotations

import numpy as np

from multimodal_ser.common.arrays import Floats
from multimodal_ser.evaluation import agreement, metrics, statistics
from multimodal_ser.report import words
from multimodal_ser.report.align import Sample
from multimodal_ser.report.scores import score_of, vote_shares
from multimodal_ser.report.summary import Score

_TOLD = ("UA", "WA", "macro-F1")


def human_ceiling(sample: Sample) -> tuple[str, ...]:
    """Describes how well one rater predicts the others, each left out in turn; empty without votes.

    Each vote of an utterance is compared with the class that the other raters voted for most (ties
    are split equally) and with the corpus's own label. Every utterance has the same weight,
    regardless of its number of raters.
    """
    if sample.task != "distributions" or sample.targets is None:
        return ()
    # leaving out the only rater would leave nobody to agree with
    several = sample.targets.sum(1) >= 2
    if not several.any():
        return ("How well raters agree cannot be known: no utterance has votes of two or more.",)
    votes, groups = sample.targets[several], sample.groups[several]
    alone, others = _left_out(votes)
    # renumbers the speakers that remain, so that no cluster of the jackknife is empty
    kept = np.unique(groups, return_inverse=True)[1]
    against = {
        "the others' most voted class": _counted(_most(others), alone, kept),
        "the corpus's label": _counted(_labels(sample.truth[several], votes), alone, kept),
    }
    told = []
    for what, sums in against.items():
        scores = {name: score_of(sums, metrics.METRICS[name]) for name in _TOLD}
        shown = ", ".join(f"{name} {_shown(score)}" for name, score in scores.items())
        told.append(f"against {what} {shown}")
    # one rater's vote is a distribution with all mass on one class: the identity's rows, compared
    # with the distribution of the other raters' votes
    each = agreement.js_distance(
        np.eye(votes.shape[1]),
        vote_shares(others.reshape(-1, votes.shape[1])).reshape(others.shape),
    )
    distance = (alone * each).sum(1, keepdims=True)
    sums = statistics.sums_of(distance, kept, int(kept.max()) + 1)[:, None]
    js = score_of(sums, statistics.OfMeans(lambda means: means[..., 0], "share"))
    return (
        f"Human ceiling, one rater at a time ({words.count(int(several.sum()), 'utterance')} with "
        f"votes of two or more): {'; '.join(told)}; JS to the others' votes {_shown(js)}.",
    )


def _shown(score: Score) -> str:
    return f"{words.percent(score.mean)} {words.interval(score)}"


def _left_out(votes: Floats) -> tuple[Floats, Floats]:
    """Returns the weight of each class's voters [N, C] and the other raters' votes [N, C, C]."""
    # raters who chose the same class are interchangeable, so C cases replace one per rater: axis 1
    # is the class of the rater left out, whose single vote is taken off that class
    raters = votes.sum(1, keepdims=True)
    mine = np.minimum(votes, 1)[:, :, None] * np.eye(votes.shape[1])
    return votes / raters, votes[:, None, :] - mine


def _most(others: Floats) -> Floats:
    """Returns the class with most of the other raters' votes, ties in equal parts, [N, C, C]."""
    most = (others == others.max(2, keepdims=True)).astype(np.float64)
    found: Floats = most / most.sum(2, keepdims=True)
    return found


def _labels(truth: np.ndarray, votes: Floats) -> Floats:
    """Returns the corpus's label for every rater left out, [N, C, C]; zeros where there is none."""
    classes = votes.shape[1]
    rows = np.where((truth >= 0)[:, None], np.eye(classes)[truth], 0)
    return np.repeat(rows[:, None, :], classes, axis=1)


def _counted(true: Floats, alone: Floats, groups: np.ndarray) -> Floats:
    """Counts confusions of truth and left-out vote per group, [S, 1, C, C]."""
    # n: utterance, c: class of the rater left out, t: class taken as true; transposed so that rows
    # are the truth, as in every confusion matrix here
    each = np.einsum("nct,nc->ntc", true, alone)
    counts = np.zeros((int(groups.max()) + 1, *each.shape[1:]))
    # not `counts[groups] += each`, which would add only one of several rows of a group
    np.add.at(counts, groups, each)
    return counts[:, None]

"""The raters' votes → how well one rater tells what the others heard: the ceiling of a model."""

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
    """Says how well one rater predicts the others, each left out in turn; empty without votes.

    Of every utterance each vote is held against the others' most voted class (of ties a part each)
    and against the corpus's own label; an utterance counts as one, however many its raters.
    """
    if sample.task != "distributions" or sample.targets is None:
        return ()
    several = sample.targets.sum(1) >= 2
    if not several.any():
        return ("How well raters agree cannot be known: no utterance has votes of two or more.",)
    votes, groups = sample.targets[several], sample.groups[several]
    alone, others = _left_out(votes)
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
    """How much each class's voters weigh [N, C], and what the others of each say [N, C, C]."""
    raters = votes.sum(1, keepdims=True)
    mine = np.minimum(votes, 1)[:, :, None] * np.eye(votes.shape[1])
    return votes / raters, votes[:, None, :] - mine


def _most(others: Floats) -> Floats:
    """The most voted class of the others, ties in equal parts, [N, C, C]."""
    most = (others == others.max(2, keepdims=True)).astype(np.float64)
    found: Floats = most / most.sum(2, keepdims=True)
    return found


def _labels(truth: np.ndarray, votes: Floats) -> Floats:
    """The label, whoever votes, [N, C, C]; nothing where there is none."""
    classes = votes.shape[1]
    rows = np.where((truth >= 0)[:, None], np.eye(classes)[truth], 0)
    return np.repeat(rows[:, None, :], classes, axis=1)


def _counted(true: Floats, alone: Floats, groups: np.ndarray) -> Floats:
    """Confusion counts, truth × vote, by group, [S, 1, C, C]."""
    each = np.einsum("nct,nc->ntc", true, alone)
    counts = np.zeros((int(groups.max()) + 1, *each.shape[1:]))
    np.add.at(counts, groups, each)
    return counts[:, None]

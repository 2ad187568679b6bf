"""Scores groups of speakers (sex, age), corpora that were tested together, and human raters.

A group's interval is over its own speakers. Its difference from all others is not paired, because
no speaker belongs to both sides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from multimodal_ser.common.arrays import Floats
from multimodal_ser.common.spelling import is_missing
from multimodal_ser.corpora.labels import sex_of
from multimodal_ser.corpora.utterance import Utterance, read_manifest
from multimodal_ser.errors import SerError, counted
from multimodal_ser.evaluation import agreement, metrics, statistics
from multimodal_ser.report import words
from multimodal_ser.report.align import Sample, System
from multimodal_ser.report.scores import (
    counts,
    effective_clusters,
    headline_metric,
    main_scores,
    score_of,
    vote_shares,
)
from multimodal_ser.report.summary import Group, Score
from multimodal_ser.report.versus import one_seed
from multimodal_ser.runs.predictions import corpus_of

_AGE_BANDS = ((0, 29), (30, 44), (45, 59), (60, 200))  # years, both ends included
_UNKNOWN = "unknown"
_RATER_SCORES = ("UA", "WA", "macro-F1")  # of how well raters agree


def _age_band(cell: object) -> str:
    """Names the band of an age in years; bands that a corpus gives in words stay as they are.

    >>> _age_band(25), _age_band("44,5"), _age_band(74.0), _age_band("twenties"), _age_band(-1)
    ('under 30', '30 to 44', '60 and over', 'twenties', 'unknown')
    """
    text = str(cell or "").strip()
    try:
        years = float(text.replace(",", "."))
    except ValueError:
        return _UNKNOWN if is_missing(text) else text
    # up to the next band's start, so that 29.5 years belong to the band that ends at 29
    band = next((band for band in _AGE_BANDS if 0 < years < band[1] + 1), None)
    if band is None:  # such as -1 for an unknown age
        return _UNKNOWN
    low, high = band
    if low == _AGE_BANDS[0][0]:
        return f"under {high + 1}"
    return f"{low} and over" if high == _AGE_BANDS[-1][1] else f"{low} to {high}"


def group_scores(
    systems: Sequence[System], sample: Sample, manifests: Sequence[Path]
) -> tuple[Group, ...]:
    """Scores every system on every group that the corpora and manifests define.

    Args:
        systems: of the table.
        sample: what they were tested on.
        manifests: with ``sex`` or ``gender`` and ``age`` in their ``extra``; without
            manifests, only the corpora are compared.

    Raises:
        SerError: the manifests contain none of the test utterances, or neither sex nor age.
    """
    found = []
    for by, names in _groupings(sample, manifests).items():
        for system in systems:
            found += _one_system(system, sample, by, names)
    return tuple(found)


def _groupings(sample: Sample, manifests: Sequence[Path]) -> dict[str, NDArray[np.str_]]:
    """Returns each row's group, [N], by the kind of grouping."""
    ids = [name for _, name in sample.keys]
    groupings = {}
    corpora = np.array([corpus_of(name) for name in ids])
    if len(set(corpora)) > 1:
        groupings["corpus"] = corpora
    if manifests:
        rows = {row.id: row for path in manifests for row in read_manifest(path)}
        groupings |= _people(rows, ids, manifests)
    return groupings


def _people(
    rows: Mapping[str, Utterance], ids: Sequence[str], manifests: Sequence[Path]
) -> dict[str, NDArray[np.str_]]:
    named = ", ".join(str(path) for path in manifests)
    if not any(name in rows for name in ids):
        raise SerError(
            f"{named}: holds none of the experiment's test utterances (such as {ids[0]!r}); give "
            "the manifest of the tested corpus"
        )
    extra = [rows[name].extra if name in rows else {} for name in ids]
    cells = [{key.casefold(): cell for key, cell in one.items()} for one in extra]
    groupings = {
        "sex": np.array([sex_of(one.get("sex", one.get("gender"))) or _UNKNOWN for one in cells]),
        "age": np.array([_age_band(one.get("age", "")) for one in cells]),
    }
    known = {by: names for by, names in groupings.items() if (names != _UNKNOWN).any()}
    if not known:
        raise SerError(
            f"{named}: has neither sex nor age of the test speakers; IEMOCAP, CREMA-D, EmoDB and "
            "RAVDESS have them, and so does a table with the columns sex (or gender) and age"
        )
    return known


def _one_system(system: System, sample: Sample, by: str, names: NDArray[np.str_]) -> list[Group]:
    order = sorted(set(names), key=_sort_key)
    found = []
    for name in order:
        inside = counts(system, sample, names == name)
        # where one group has all utterances, there is nobody to compare it with
        outside = counts(system, sample, names != name) if len(order) > 1 else inside[:0]
        found.append(_group(system, by, name, inside, outside, sample, int((names == name).sum())))
    # of two groups, the second one's difference is the first one's with the opposite sign: testing
    # it again would only make Holm's correction stricter
    if len(found) == 2:
        found[1] = replace(found[1], difference=None, p=None)
    corrected = statistics.holm([one.p for one in found])
    return [replace(one, p=p) for one, p in zip(found, corrected, strict=True)]


def _sort_key(name: str) -> tuple[bool, bool, str]:
    """Sorts ages in ascending order and unknown values last."""
    # the names sort as text ("30 to 44" before "45 to 59"); "under 30" has to be put before them
    return name == _UNKNOWN, not name.startswith("under"), name


def _group(
    system: System,
    by: str,
    name: str,
    inside: Floats,
    outside: Floats,
    sample: Sample,
    utterances: int,
) -> Group:
    metric = headline_metric(sample)
    note = "" if by == "corpus" or name == _UNKNOWN else _why_untestable(inside, outside, sample)
    # without a second seed, the spread of training is unknown and would be taken for zero
    if not note and one_seed(system):
        note = "cannot be known from one seed of a network"
    difference, p = None, None
    if not (note or by == "corpus" or name == _UNKNOWN):
        made = statistics.compare_apart(inside, outside, metric, repeats=system.repeats)
        difference = Score((made.difference,), made.difference, None, made.low, made.high)
        p = made.p
    main = main_scores(sample.task, sample.names, sample.headline)
    scores = {key: score_of(inside, one) for key, one in main.items()}
    return Group(
        by=by,
        name=name,
        system=system.name,
        utterances=utterances,
        clusters=len(inside),
        scores=scores,
        difference=difference,
        p=p,
        note=note,
    )


def _why_untestable(inside: Floats, outside: Floats, sample: Sample) -> str:
    """Says why a group's difference from the others cannot be tested; empty if it can."""
    if sample.by == "utterance":
        return "cannot be known: the speakers are not known"
    for sums, kind in ((inside, "speaker"), (outside, "other speaker")):
        if len(sums) < statistics.LEAST_CLUSTERS:
            number = counted(len(sums), kind)
            return f"cannot be known from {number} (at least {statistics.LEAST_CLUSTERS})"
        effective = effective_clusters(sums, headline_metric(sample))
        if effective < statistics.LEAST_EFFECTIVE:
            return (
                f"cannot be known from {kind}s who count as much as {effective:.1f} of equal size"
            )
    if sample.task == "attributes":
        return ""
    # UA is a mean over the classes that occur: a hard class would lower only the side that has it
    has = [sums.sum((0, 1, -1)) > 0 for sums in (inside, outside)]
    lacking = [name for name, *both in zip(sample.names, *has, strict=True) if len({*both}) > 1]
    return f"cannot be compared: only one side has {', '.join(lacking)}" if lacking else ""


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
    label = _corpus_labels(sample.truth[several], votes)
    against = {
        "the others' most voted class": _confusions(_majority(others), alone, kept),
        "the corpus's label": _confusions(label, alone, kept),
    }
    lines = []
    for what, sums in against.items():
        scores = {name: score_of(sums, metrics.METRICS[name]) for name in _RATER_SCORES}
        shown = ", ".join(f"{name} {_with_interval(score)}" for name, score in scores.items())
        lines.append(f"against {what} {shown}")
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
        f"Human ceiling, one rater at a time ({counted(int(several.sum()), 'utterance')} with "
        f"votes of two or more): {'; '.join(lines)}; JS to the others' votes {_with_interval(js)}.",
    )


def _with_interval(score: Score) -> str:
    return f"{words.percent(score.mean)} {words.interval(score)}"


def _left_out(votes: Floats) -> tuple[Floats, Floats]:
    """Returns the weight of each class's voters [N, C] and the other raters' votes [N, C, C]."""
    # raters who chose the same class are interchangeable, so C cases replace one per rater: axis 1
    # is the class of the rater left out, whose single vote is taken off that class
    raters = votes.sum(1, keepdims=True)
    single = np.minimum(votes, 1)[:, :, None] * np.eye(votes.shape[1])
    return votes / raters, votes[:, None, :] - single


def _majority(others: Floats) -> Floats:
    """Returns the class with most of the other raters' votes, ties in equal parts, [N, C, C]."""
    most = (others == others.max(2, keepdims=True)).astype(np.float64)
    return most / most.sum(2, keepdims=True)


def _corpus_labels(truth: np.ndarray, votes: Floats) -> Floats:
    """Returns the corpus's label for every rater left out, [N, C, C]; zeros where there is none."""
    classes = votes.shape[1]
    rows = np.where((truth >= 0)[:, None], np.eye(classes)[truth], 0)
    return np.repeat(rows[:, None, :], classes, axis=1)


def _confusions(true: Floats, alone: Floats, groups: np.ndarray) -> Floats:
    """Counts confusions of truth and left-out vote per group, [S, 1, C, C]."""
    # n: utterance, c: class of the rater left out, t: class taken as true; transposed so that rows
    # are the truth, as in every confusion matrix here
    each = np.einsum("nct,nc->ntc", true, alone)
    counts = np.zeros((int(groups.max()) + 1, *each.shape[1:]))
    # not `counts[groups] += each`, which would add only one of several rows of a group
    np.add.at(counts, groups, each)
    return counts[:, None]

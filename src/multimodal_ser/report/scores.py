"""Computes scores with uncertainty from each system's confusion counts per speaker and seed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from multimodal_ser.common.arrays import Bools, Floats
from multimodal_ser.evaluation import agreement, metrics, statistics
from multimodal_ser.report.align import Aligned, Sample, System
from multimodal_ser.report.naming import PROBE
from multimodal_ser.report.summary import Row, Score, Summary

# Ratio of effective clusters to clusters; below it, a caution says that speakers are unequal.
_UNEQUAL = 0.75
_LEVEL = 0.05  # of the tests


def main_scores(
    task: str, names: Sequence[str], headline: str = "UA"
) -> Mapping[str, statistics.Metric]:
    """Returns the scores of `counts` by name; systems are compared by the first one."""
    if task == "attributes":
        return agreement.attribute_scores(names)
    return {headline: metrics.METRICS[headline], **metrics.METRICS}


def score_names(summary: Summary) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Returns the names of a table's main scores, the headline first, and of its other scores."""
    main = tuple(main_scores(summary.task, summary.classes, summary.headline))
    if summary.task == "attributes":
        return main, ()
    of_votes = agreement.DISTRIBUTION_SCORES if summary.task != "classes" else ()
    return main, (*metrics.OF_PROBABILITIES, *of_votes)


def headline_metric(sample: Sample) -> statistics.Metric:
    """Returns the metric that systems are compared by."""
    return main_scores(sample.task, sample.names, sample.headline)[sample.headline]


def counts(system: System, sample: Sample, rows: Bools | None = None) -> Floats:
    """Counts confusions per cluster and repeat, [S, K, C, C]; for attributes, sums of terms.

    Args:
        system: whose predictions to count.
        sample: what it was tested on.
        rows: which rows to count, [N]; S is then the number of clusters among them.
    """
    chosen = np.ones(len(sample.truth), dtype=bool) if rows is None else rows
    if sample.task == "attributes":
        return _sums(system, sample, chosen, agreement.attribute_terms)
    # -1 marks utterances without a class (votes without a majority): they have no correct
    # prediction
    chosen = chosen & (sample.truth >= 0)
    distinct, groups = np.unique(sample.groups[chosen], return_inverse=True)
    per_repeat = [
        metrics.grouped_confusion(
            sample.truth[chosen],
            predicted[chosen],
            groups,
            classes=system.probabilities.shape[-1],
            groups_total=len(distinct),
        )
        for predicted in system.probabilities.argmax(-1)
    ]
    return np.stack(per_repeat, axis=1).astype(np.float64)


def _sums(
    system: System,
    sample: Sample,
    chosen: Bools,
    terms: Callable[[ArrayLike, ArrayLike], Floats],
) -> Floats:
    """Sums the terms of targets and predictions per cluster and repeat, [S, K, 1 + D, 1 + D].

    Scores such as CCC are functions of such sums, so leaving out a cluster is a subtraction.
    """
    targets = np.zeros((0, 0)) if sample.targets is None else sample.targets[chosen]
    distinct, groups = np.unique(sample.groups[chosen], return_inverse=True)
    per_repeat = [
        statistics.sums_of(terms(targets, predicted[chosen]), groups, len(distinct))
        for predicted in system.probabilities
    ]
    return np.stack(per_repeat, axis=1)


def scores_of(system: System, sample: Sample, sums: Floats) -> dict[str, Score]:
    """Computes every score of a system's row; `sums` are its counts."""
    main = main_scores(sample.task, sample.names, sample.headline)
    scores = {name: score_of(sums, metric) for name, metric in main.items()}
    if sample.task == "attributes":
        return scores
    known = sample.truth >= 0
    for name, of in metrics.OF_PROBABILITIES.items():
        # ECE is no function of counts per speaker: it gets no interval
        values = [of(predicted[known], sample.truth[known]) for predicted in system.probabilities]
        scores[name] = score(values)
    if sample.targets is not None:
        of_votes = vote_sums(system, sample)
        for name, metric in agreement.DISTRIBUTION_SCORES.items():
            scores[name] = score_of(of_votes, metric)
    return scores


def vote_sums(system: System, sample: Sample) -> Floats:
    """Sums the terms of `agreement.DISTRIBUTION_SCORES` per cluster and repeat, as `counts`."""
    # shares, so that an utterance with ten raters counts as much as one with three
    votes = None if sample.targets is None else vote_shares(sample.targets)
    every = np.ones(len(sample.truth), dtype=bool)
    return _sums(system, replace(sample, targets=votes), every, agreement.distribution_terms)


def vote_shares(votes: Floats) -> Floats:
    """Turns votes per class, [N, C], into shares."""
    return votes / votes.sum(1, keepdims=True)


def score_of(sums: Floats, metric: statistics.Metric) -> Score:
    """Scores counts [S, K, C, C], with an interval over the S clusters if there are enough."""
    # counts are added over all speakers first and scored once; a mean of scores per speaker would
    # weigh speakers with few utterances like the others
    per_repeat = metric(sums.sum(0))
    if len(sums) < statistics.LEAST_CLUSTERS:
        return score(per_repeat)
    low, high = statistics.interval_ends(sums, metric)
    return score(per_repeat, float(low), float(high))


def recalls_of(sums: Floats) -> tuple[Score, ...]:
    """Each class's recall, with its interval."""

    def of_class(place: int) -> Score:
        return score_of(sums, lambda counts: metrics.recalls(counts)[..., place])

    return tuple(of_class(place) for place in range(sums.shape[-1]))


def score(values: ArrayLike, low: float | None = None, high: float | None = None) -> Score:
    """Computes mean and standard deviation over repeats; interval ends that are NaN become None."""
    repeats = np.asarray(values, dtype=np.float64)
    return Score(
        values=tuple(float(value) for value in repeats),
        mean=float(repeats.mean()),
        sd=float(repeats.std(ddof=1)) if len(repeats) > 1 else None,
        low=None if low is None or np.isnan(low) else float(low),
        high=None if high is None or np.isnan(high) else float(high),
    )


def how_estimated(by: str, task: str) -> tuple[str, ...]:
    """Describes how intervals and p values were computed; see docs/statistics.md."""
    scale = {
        "classes": "on the logit scale",
        "distributions": "on the logit scale; KL on a logarithmic one",
        "attributes": "by Fisher's z; RMSE on a logarithmic scale",
    }[task]
    exact = "" if task == "attributes" else "; McNemar's test takes utterances as independent"
    return (
        f"Intervals leave out one {by} at a time (cluster jackknife, t with Bell and McCaffrey's "
        f"degrees of freedom, {scale}).",
        f"Differences are paired over the same utterances; their interval and p cover {by}s and "
        f"seeds. p is the larger of a t test's and of an exact sign flip's over {by}s{exact}.",
    )


def effective_clusters(sums: Floats, metric: statistics.Metric = metrics.ua) -> float:
    """Returns how many speakers of equal weight would be as informative as those of the counts.

    ``1 / Σ_g w_g²`` with weights that add up to 1 (Kish 1965; Carter, Schnepel & Steigerwald 2017).
    """
    if len(sums) < statistics.LEAST_CLUSTERS:
        return float(len(sums))
    return float(statistics.estimate(sums, metric).effective)


def cautions_of_table(
    aligned: Aligned, rows: Sequence[Row], part: str, effective: float
) -> list[str]:
    """Returns the caveats of a table: few speakers, missing classes, no linear probe."""
    lines = []
    if part == "validation":
        lines.append("validation rows picked each network's epoch, so their scores are too high")
    sample, number = aligned.sample, aligned.sample.clusters
    if sample.nameless:
        lines.append(
            f"{sample.nameless} of {len({name for _, name in sample.keys})} utterances have no "
            "speaker: they may be one person's, so those of a corpus count as one speaker"
        )
    if sample.by == "utterance":
        lines.append(
            "intervals are clustered by utterance: no speakers known, so they are too narrow, and "
            "no difference can be called more than chance"
        )
    elif few := too_few(number, effective):
        lines.append(f"{few}: neither intervals nor p values can be known; test on more speakers")
    else:
        if effective < _UNEQUAL * number:
            lines.append(
                f"the {number} speakers count as much as {effective:.1f} of equal size: some have "
                "far more utterances, in all or of a class; intervals and p values take that into "
                "account"
            )
        if (least := statistics.smallest_p(number)) > _LEVEL:
            lines.append(
                f"{number} speakers are too few to call a difference more than chance: an exact "
                f"test over them cannot go below p = {least:.3f}"
            )
    lines += _classes(aligned)
    probe = "ridge" if aligned.sample.task == "attributes" else PROBE
    if not any(row.model.split(" (")[0] == probe for row in rows):  # "linear (runs of b)"
        lines.append(
            f"the linear probe is missing: run the same command into the same folder with {probe} "
            "among --baselines, or, to adapt, with none among --methods"
        )
    return lines


def too_few(number: int, effective: float) -> str:
    """Says why neither interval nor p value can be computed; empty if they can."""
    if number < statistics.LEAST_CLUSTERS:
        return f"{('one speaker', 'two speakers')[number - 1]} only"
    if effective < statistics.LEAST_EFFECTIVE:
        return f"{number} speakers who count as much as {effective:.1f} of equal size"
    return ""


def _classes(aligned: Aligned) -> list[str]:
    """Returns caveats on classes that are absent, occur once, or come from one speaker alone."""
    sample, classes = aligned.sample, aligned.systems[0].runs[0].config.labels.classes
    if sample.task == "attributes":
        return []
    # counted by utterance, not by row: with repeated folds an utterance occurs in several rows
    ids = np.array([name for _, name in sample.keys])
    several = sample.by == "speaker" and sample.clusters > 1
    absent, once, alone = [], [], []
    for place, name in enumerate(classes):
        of_class = sample.truth == place
        if not of_class.any():
            absent.append(name)
        elif len(np.unique(ids[of_class])) == 1:
            once.append(name)
        elif several and len(np.unique(sample.groups[of_class])) == 1:
            alone.append(name)
    lines = []
    if absent:
        lines.append(f"no utterance of {', '.join(absent)}: UA averages the other classes")
    if once:
        lines.append(
            f"a single tested utterance of {', '.join(once)}, which weighs as much in UA as every "
            "other class"
        )
    if alone:
        lines.append(
            f"only one speaker utters {', '.join(alone)}: how speakers differ there cannot be known"
        )
    return lines

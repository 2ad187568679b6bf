"""Runs → Summary: scores, intervals, comparisons, and the sentences that belong beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from multimodal_ser import metrics, statistics
from multimodal_ser.report.align import BASELINES, Aligned, Sample, System, align, flatten
from multimodal_ser.report.read import Run, read_runs
from multimodal_ser.report.summary import RESAMPLES, Note, Row, Score, Summary, Versus

Floats = NDArray[np.float64]
FEW_SPEAKERS = 20  # below this, simulated 95 % intervals of this kind cover 91 % (10) or less


def summarise(experiment: Path, part: str = "test") -> Summary:
    """Reads an experiment's runs and works out every number of its report.

    For one model and seed the rows of all folds are scored as one sample; mean and standard
    deviation are over seeds; intervals draw speakers.

    Args:
        experiment: the folder that holds the run folders.
        part: which rows to score, ``test`` or ``validation``.

    Raises:
        SerError: a damaged run, or runs that cannot stand in one table.
    """
    runs = read_runs(experiment, part)
    aligned = align(runs)
    notes = _notes(aligned.systems)
    sums = {s.name: _confusions(s, aligned.sample) for s in aligned.systems}
    rows = [_row(s, sums[s.name], aligned.sample, notes) for s in aligned.systems]
    rows.sort(key=lambda row: -row.scores["UA"].mean)
    config = runs[0].config
    return Summary(
        name=experiment.resolve().name,
        part=part,
        classes=runs[0].classes,
        labels=str(config["labels"].get("name", "classes")),
        corpora=tuple(str(name) for name in config.get("corpora", ())),
        split=str(config["split"].get("name", "split")),
        split_hash=str(config["split"]["hash"]),
        folds=aligned.folds,
        utterances=len({name for _, name in aligned.sample.keys}),
        clusters=aligned.sample.clusters,
        by=aligned.sample.by,
        rows=tuple(rows),
        versus=_versus(rows, sums),
        notes=tuple(note for note, _ in notes),
        missing=aligned.missing,
        cautions=tuple(_cautions(aligned, rows)),
        settings=_shared([row.settings for row in rows]),
        versions=_versions(runs),
    )


def _confusions(system: System, sample: Sample) -> Floats:
    """Counts per cluster and seed, [S, K, C, C]."""
    predicted = system.probabilities.argmax(-1)
    per_seed = [
        metrics.grouped_confusion(
            sample.truth,
            of_seed,
            sample.groups,
            classes=system.probabilities.shape[-1],
            groups_total=sample.clusters,
        )
        for of_seed in predicted
    ]
    return np.stack(per_seed, axis=1).astype(np.float64)


def _row(
    system: System,
    sums: Floats,
    sample: Sample,
    notes: Sequence[tuple[Note, frozenset[str]]],
) -> Row:
    scores = {name: _scores(sums, metric)[0] for name, metric in metrics.METRICS.items()}
    errors = [metrics.ece(of_seed, sample.truth) for of_seed in system.probabilities]
    scores["ECE"] = _score(errors)
    parameters = [run.config.get("parameters") for run in system.runs]
    known = [int(number) for number in parameters if number is not None]
    seeds, _, classes = system.probabilities.shape
    return Row(
        name=system.name,
        model=system.model,
        parameters=max(known, default=None),
        seeds=system.seeds,
        scores=scores,
        recalls=_scores(sums, metrics.recalls),
        confusion=sums.sum(0).mean(0),
        reliability=metrics.reliability(
            system.probabilities.reshape(-1, classes), np.tile(sample.truth, seeds)
        ),
        notes=tuple(note.letter for note, names in notes if system.name in names),
        settings=system.settings,
    )


def _scores(sums: Floats, metric: statistics.Metric) -> tuple[Score, ...]:
    """Scores a metric that gives one number, or one per class, with intervals."""
    per_seed = np.asarray(metric(sums.sum(0)))
    per_seed = per_seed.reshape(len(per_seed), -1)
    if len(sums) < 2:
        return tuple(_score(values) for values in per_seed.T)
    drawn = statistics.bootstrap(sums, metric, resamples=RESAMPLES)
    low, high = statistics.percentile_interval(drawn.reshape(len(drawn), -1))
    return tuple(_score(*column) for column in zip(per_seed.T, low, high, strict=True))


def _score(values: ArrayLike, low: float | None = None, high: float | None = None) -> Score:
    seeds = np.asarray(values, dtype=np.float64)
    return Score(
        values=tuple(float(value) for value in seeds),
        mean=float(seeds.mean()),
        sd=float(seeds.std(ddof=1)) if len(seeds) > 1 else None,
        low=None if low is None or np.isnan(low) else float(low),
        high=None if high is None or np.isnan(high) else float(high),
    )


def _notes(systems: Sequence[System]) -> list[tuple[Note, frozenset[str]]]:
    """Letters each distinct leak and mark, leaks first, with the systems it concerns."""
    found: dict[tuple[str, bool], set[str]] = {}
    for leak in (True, False):
        for system in systems:
            for run in system.runs:
                texts = run.config["split"].get("leaks") if leak else run.config.get("marks")
                for text in texts or ():
                    found.setdefault((str(text), leak), set()).add(system.name)
    return [
        (Note(letter(place), text, leak), frozenset(names))
        for place, ((text, leak), names) in enumerate(found.items())
    ]


def letter(place: int) -> str:
    """Names notes a … z, aa, ab ….

    >>> letter(0), letter(27)
    ('a', 'ab')
    """
    head = letter(place // 26 - 1) if place >= 26 else ""
    return head + chr(ord("a") + place % 26)


def _versus(rows: Sequence[Row], sums: Mapping[str, Floats]) -> tuple[Versus, ...]:
    baseline = next((row for row in rows if row.model in BASELINES), None)
    networks = [row for row in rows if row.model not in BASELINES]
    if baseline is None:
        return ()
    against = sums[baseline.name]
    if len(against) < 2:
        return tuple(
            Versus(row.name, baseline.name, _gap(row, baseline), None, None, None)
            for row in networks
        )
    found = [
        statistics.compare(sums[row.name], against, metrics.ua, resamples=RESAMPLES)
        for row in networks
    ]
    corrected = statistics.holm([one.p for one in found])
    return tuple(
        Versus(row.name, baseline.name, one.difference, one.low, one.high, p)
        for row, one, p in zip(networks, found, corrected, strict=True)
    )


def _gap(row: Row, baseline: Row) -> float:
    return row.scores["UA"].mean - baseline.scores["UA"].mean


def _cautions(aligned: Aligned, rows: Sequence[Row]) -> list[str]:
    sample, lines = aligned.sample, []
    if sample.clusters < 2:
        lines.append(f"one {sample.by} only: an interval cannot be estimated")
    if sample.by == "utterance":
        lines.append(
            "intervals are clustered by utterance: no speakers known, so they are too narrow"
        )
    elif 2 <= sample.clusters < FEW_SPEAKERS:
        lines.append(
            f"with only {sample.clusters} speakers, intervals made this way tend to be too narrow"
        )
    present = {int(name) for name in np.unique(sample.truth)}
    classes = aligned.systems[0].runs[0].classes
    if absent := [name for place, name in enumerate(classes) if place not in present]:
        lines.append(f"no utterance of {', '.join(absent)}: UA averages the other classes")
    if not any(row.model == "linear" for row in rows):
        lines.append(
            "the linear probe is missing: run `ser train … --model linear` into the same folder"
        )
    return lines


def _shared(settings: Sequence[Mapping[str, str]]) -> dict[str, str]:
    first = settings[0]
    return {k: v for k, v in first.items() if all(other.get(k) == v for other in settings)}


def _versions(runs: Sequence[Run]) -> dict[str, str]:
    found: dict[str, set[str]] = {}
    for run in runs:
        for name, value in flatten(run.config.get("versions") or {}).items():
            found.setdefault(name, set()).add(value)
    return {name: " / ".join(sorted(values)) for name, values in found.items()}

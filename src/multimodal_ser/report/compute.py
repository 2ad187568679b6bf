"""Computes a report's summary from runs: scores, intervals, comparisons and their caveats."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from multimodal_ser.common.arrays import Floats
from multimodal_ser.config.record import RunConfig
from multimodal_ser.errors import SerError, counted
from multimodal_ser.evaluation import metrics
from multimodal_ser.report.align import Sample, System, align
from multimodal_ser.report.groups import group_scores, human_ceiling
from multimodal_ser.report.scores import (
    cautions_of_table,
    counts,
    effective_clusters,
    headline_metric,
    how_estimated,
    recalls_of,
    scores_of,
)
from multimodal_ser.report.summary import Note, Row, Summary
from multimodal_ser.report.versus import COMPARED, SINGLE, compare_rows
from multimodal_ser.runs.folder import (
    SET_ASIDE,
    Run,
    changed_predictions,
    config_files,
    read_description,
    read_runs,
)

_NOISE = 1e-3  # of probabilities


def summarise(
    experiment: Path, part: str = "test", manifests: Sequence[Path] = (), task: str | None = None
) -> Summary:
    """Reads an experiment's runs and works out every number of its report.

    For one model and seed (and draw of the few) the rows of all folds are scored as one sample;
    mean and standard deviation are over seeds and draws, intervals over speakers. The summary of
    an ablation's test rows also contains the summary of its validation rows.

    Args:
        experiment: the folder that holds the run folders.
        part: which rows to score, ``test`` or ``validation``.
        manifests: of the tested corpora, for scores by sex and age.
        task: which task's table, in an experiment of two; the first one by default.

    Raises:
        SerError: a run is damaged, or the runs cannot be shown in one table.
    """
    runs = read_runs(experiment, part, task)
    # the baselines beside another experiment may have been trained as a plain in-domain one
    found = sorted({run.config.protocol for run in runs} - {"in-domain"}) or ["in-domain"]
    if len(found) > 1:
        raise SerError(
            f"runs of several kinds of experiment ({', '.join(found)}) lie in {experiment}; one "
            "report needs one kind: keep them in two folders"
        )
    summary = summary_of(runs, found[0], experiment.resolve().name, part, manifests)
    command = read_description(experiment).get("command")
    # an ablation picks design choices, which must be judged on validation rows; its report shows
    # both tables so that choosing on the test rows is visible
    ablation = summary.protocol == "ablation" and part == "test"
    return replace(
        summary,
        command=None if command is None else str(command),
        cautions=(
            *summary.cautions,
            *_set_aside_caution(experiment),
            *(
                f"the networks were trained on {other} at the same time; the table of these: "
                f"--task {other}"
                for other in sorted({one for run in runs for one in run.tasks} - {summary.task})
            ),
            *_changed_caution(runs),
        ),
        validation=summarise(experiment, "validation", task=task) if ablation else None,
    )


def summarise_all(
    experiments: Sequence[Path], manifests: Sequence[Path] = (), task: str | None = None
) -> Summary:
    """Summarises several experiments over the same split: the best system against each other.

    A run that several experiments contain counts once, and the seeds and folds of one system are
    taken together. Different systems of one model get their experiment's name appended, and so does
    a system whose runs have other predictions in one experiment than in another.

    Raises:
        SerError: the experiments differ in classes, split or test rows, or a run is damaged.
    """
    read = {place: read_runs(place, "test", task) for place in experiments}
    called, made_otherwise = _called(experiments), _made_otherwise(read.values())
    runs: dict[tuple[str, str], Run] = {}
    for place, found in read.items():
        others = [run for one in read if one != place for run in read[one]]
        models = {run.config.model for run in others}
        systems = {_system(run.config) for run in others}
        for run in found:
            # one system may have more seeds or folds in one experiment than in another: only equal
            # names of different systems are told apart
            own = _system(run.config)
            if run.config.model in models and (own not in systems or own in made_otherwise):
                named = f"{run.config.model} ({called[place]})"
                record = replace(run.record, config=replace(run.config, model=named))
                run = replace(run, record=record)
            # a run folder's name ends in the hash of its configuration: equal names, the same run
            runs[run.config.model, run.folder.name] = run
    names = " and ".join(called[place] for place in experiments)
    summary = summary_of(list(runs.values()), COMPARED, names, "test", manifests)
    aside = [line for place in experiments for line in _set_aside_caution(place)]
    changed = _changed_caution([run for found in read.values() for run in found])
    cautions = (*summary.cautions, *aside, *_other_labels(read, called), *changed)
    return replace(summary, cautions=cautions)


def _made_otherwise(read: Iterable[Sequence[Run]]) -> set[str]:
    """The systems of which experiments hold one run with different predictions.

    Another version of this package or of torch may have made it; processors alone differ by less.
    """
    first: dict[str, Run] = {}
    return {
        _system(run.config)
        for runs in read
        for run in runs
        if (other := first.setdefault(run.folder.name, run)) is not run
        and (
            run.probabilities.shape != other.probabilities.shape
            or np.abs(run.probabilities - other.probabilities).max() > _NOISE
        )
    }


def _system(config: RunConfig) -> str:
    """A hash of what all runs of a system share: everything but the seed, the fold and the draw."""
    few = config.train.few and replace(config.train.few, draw=0, count=0)
    source = config.source and replace(config.source, run="")  # which has the seed
    train = replace(config.train, few=few)
    return replace(config, seed=0, fold="", marks=(), train=train, source=source).hash


def _called(experiments: Sequence[Path]) -> dict[Path, str]:
    """Folder → its name, with the folders above it if others of the same name are compared."""
    parts = {place: place.resolve().parts for place in experiments}
    distinct, count = len({*parts.values()}), 1
    while len({own[-count:] for own in parts.values()}) < distinct:
        count += 1
    return {place: "/".join(own[-count:]) for place, own in parts.items()}


def _other_labels(read: Mapping[Path, Sequence[Run]], called: Mapping[Path, str]) -> list[str]:
    """Returns a sentence for each experiment that learnt from other labels than the first one."""
    # tested labels are compared row by row, those only learnt from by their hash, which also covers
    # the dialogues of models that read them
    hashes = {
        called[place]: {one.config.labels.hash for one in runs if one.config.model not in SINGLE}
        for place, runs in read.items()
    }
    (first, known), *others = hashes.items()
    return [
        f"{name} learnt from other labels, speakers or utterances than {first}"
        for name, found in others
        if found and known and not found & known
    ]


def summary_of(
    runs: Sequence[Run], protocol: str, name: str, part: str, manifests: Sequence[Path] = ()
) -> Summary:
    """Computes every number about the runs of one table.

    Args:
        runs: read with `read_runs`.
        protocol: decides which systems are compared, see `versus.PAIRS`.
        name: of the table.
        part: which rows the runs hold.
        manifests: of the tested corpora, for scores by sex and age.
    """
    if count := runs[0].config.labels.count:
        metrics.check_scores(count)
    try:
        aligned = align(runs)
    except SerError as error:
        # rows of a file that was cut do not fit the others, whichever of them the error names
        if changed := _changed_caution(runs, "the runs do not fit together"):
            raise SerError(f"{changed[0]} ({error})") from error
        raise
    notes = _notes(aligned.systems)
    sums = {s.name: counts(s, aligned.sample) for s in aligned.systems}
    rows = _ranked([_row(s, sums[s.name], aligned.sample, notes) for s in aligned.systems])
    config = runs[0].config
    effective = effective_clusters(next(iter(sums.values())), headline_metric(aligned.sample))
    return Summary(
        name=name,
        protocol=protocol,
        source=tuple(sorted({name for run in runs for name in run.source})),
        command=None,
        part=part,
        classes=config.labels.classes,
        labels=config.labels.name,
        # ids without a corpus's name come from manifests made by hand: there the record says it
        corpora=config.corpora if "" in aligned.sample.corpora else aligned.sample.corpora,
        split=config.split.name,
        split_hash=config.split.hash,
        folds=aligned.folds,
        utterances=len({name for _, name in aligned.sample.keys}),
        clusters=aligned.sample.clusters,
        effective=effective,
        by=aligned.sample.by,
        method=how_estimated(aligned.sample.by, aligned.sample.task),
        rows=tuple(rows),
        versus=compare_rows(protocol, rows, aligned.systems, sums, aligned.sample),
        groups=group_scores(aligned.systems, aligned.sample, manifests),
        notes=tuple(note for note, _ in notes),
        missing=aligned.missing,
        cautions=tuple(cautions_of_table(aligned, rows, part, effective)),
        settings={
            name: value
            for name, value in rows[0].settings.items()
            if all(row.settings.get(name) == value for row in rows)
        },
        versions=_versions(runs),
        validation=None,
        task=aligned.sample.task,
        ceiling=human_ceiling(aligned.sample),
        headline=aligned.sample.headline,
    )


def _ranked(rows: Sequence[Row]) -> list[Row]:
    """The rows by share of labels, and within one share the best first."""
    # the first score is the headline's
    best = sorted(rows, key=lambda row: -next(iter(row.scores.values())).mean)
    return sorted(
        best, key=lambda row: (row.share.unit, row.share.amount) if row.share else ("", 0.0)
    )


def _set_aside_caution(experiment: Path) -> list[str]:
    """Returns one sentence if outdated runs were set aside, which no table counts."""
    if count := len(config_files(experiment / SET_ASIDE)):
        return [
            f"set aside in {SET_ASIDE} and not counted: {counted(count, 'run')} made with other "
            "labels, features, splits or code"
        ]
    return []


def _changed_caution(
    runs: Sequence[Run], meaning: str = "the scores are of the changed ones"
) -> list[str]:
    """Returns one sentence if predictions were changed after their runs had been made."""
    if changed := changed_predictions(runs):
        return [
            f"predictions were changed after the training in {counted(len(changed), 'run')}, such "
            f"as {changed[0].parent.name}/{changed[0].name}: {meaning}; "
            "delete the folder and rerun the command to make it anew"
        ]
    return []


def _row(
    system: System, sums: Floats, sample: Sample, notes: Sequence[tuple[Note, frozenset[str]]]
) -> Row:
    classes = sample.task != "attributes"
    known = sample.truth >= 0
    repeats, _, columns = system.probabilities.shape
    # 0: a support vector machine is made of training rows and has no parameters to count
    parameters = [n for run in system.runs if (n := run.record.parameters)]
    return Row(
        name=system.name,
        model=system.model,
        kind=system.kind,
        share=system.share,
        parameters=max(parameters, default=None),
        seeds=tuple(sorted({seed for seed, _ in system.repeats})),
        draws=tuple(sorted({draw for _, draw in system.repeats})),
        scores=scores_of(system, sample, sums),
        # sums over clusters, then the mean over repeats: expected counts of one training run
        recalls=recalls_of(sums) if classes else (),
        confusion=sums.sum(0).mean(0) if classes else np.zeros((0, 0)),
        reliability=metrics.reliability(
            system.probabilities[:, known].reshape(-1, columns),
            np.tile(sample.truth[known], repeats),
        ),
        notes=tuple(note.letter for note, names in notes if system.name in names),
        settings=system.settings,
    )


def _notes(systems: Sequence[System]) -> list[tuple[Note, frozenset[str]]]:
    """Assigns a letter to each distinct leak and mark, leaks first, with its systems."""
    found: dict[tuple[str, bool], set[str]] = {}
    for leak in (True, False):
        for system in systems:
            for run in system.runs:
                source = run.config.source
                named = f"source {'+'.join(run.source)}"
                of_source = [f"{named}: {text}" for text in source.split.leaks] if source else []
                leaks = [*run.config.split.leaks, *of_source]
                for text in leaks if leak else run.config.marks:
                    if not leak and text in leaks:  # a source's leaks are among its marks, too
                        continue
                    found.setdefault((text, leak), set()).add(system.name)
    return [
        (Note(letter(place), text, leak), frozenset(names))
        for place, ((text, leak), names) in enumerate(found.items())
    ]


def letter(place: int) -> str:
    """Names notes a … z, aa, ab …, counting like the columns of a spreadsheet.

    >>> letter(0), letter(27)
    ('a', 'ab')
    """
    head = letter(place // 26 - 1) if place >= 26 else ""
    return head + chr(ord("a") + place % 26)


def _versions(runs: Sequence[Run]) -> dict[str, str]:
    found: dict[str, set[str]] = {}
    for run in runs:
        for name, value in run.record.versions.items():
            found.setdefault(name, set()).add(value)
    return {name: " / ".join(sorted(values)) for name, values in found.items()}

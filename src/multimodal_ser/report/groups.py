"""Scores groups of speakers (sex, age), and corpora that were tested together.

A group's interval is over its own speakers. Its difference from all others is not paired, because
no speaker belongs to both sides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from multimodal_ser.corpora.utterance import Utterance, read_manifest
from multimodal_ser.errors import SerError
from multimodal_ser.evaluation import statistics
from multimodal_ser.report.align import Sample, System
from multimodal_ser.report.scores import (
    counts,
    effective_clusters,
    headline_metric,
    main_scores,
    score_of,
)
from multimodal_ser.report.summary import Group, Score
from multimodal_ser.report.versus import one_seed
from multimodal_ser.runs.predictions import corpus_of

_AGE_BANDS = ((0, 29), (30, 44), (45, 59), (60, 200))  # years, both ends included
_UNKNOWN = "unknown"


def _age_band(age: float) -> str:
    """Names the band of an age in years.

    >>> _age_band(25), _age_band(44), _age_band(74)
    ('under 30', '30 to 44', '60 and over')
    """
    # up to the next band's start, so that 29.5 years belong to the band that ends at 29
    low, high = next(band for band in _AGE_BANDS if age < band[1] + 1)
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
        manifests: with ``sex`` and ``age`` in their ``extra``; without manifests, only the corpora
            are compared.

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
    groupings = {
        "sex": np.array([str(one.get("sex") or _UNKNOWN) for one in extra]),
        "age": np.array([_age_band(one["age"]) if one.get("age") else _UNKNOWN for one in extra]),
    }
    known = {by: names for by, names in groupings.items() if (names != _UNKNOWN).any()}
    if not known:
        raise SerError(
            f"{named}: has neither sex nor age of the test speakers; CREMA-D, EmoDB and RAVDESS "
            "have them, and so does a table with the columns sex and age"
        )
    return known


def _one_system(system: System, sample: Sample, by: str, names: NDArray[np.str_]) -> list[Group]:
    order = sorted(set(names), key=_place)
    found = []
    for name in order:
        inside, outside = (counts(system, sample, rows) for rows in (names == name, names != name))
        found.append(_group(system, by, name, inside, outside, sample, int((names == name).sum())))
    # of two groups, the second one's difference is the first one's with the opposite sign: testing
    # it again would only make Holm's correction stricter
    if len(found) == 2:
        found[1] = replace(found[1], difference=None, p=None)
    tested = [place for place, one in enumerate(found) if one.p is not None]
    corrected = statistics.holm([found[place].p or 0.0 for place in tested])
    for place, p in zip(tested, corrected, strict=True):
        found[place] = replace(found[place], p=p)
    return found


def _place(name: str) -> tuple[bool, bool, str]:
    """Sorts ages in ascending order and unknown values last."""
    # the names sort as text ("30 to 44" before "45 to 59"); "under 30" has to be put before them
    return name == _UNKNOWN, not name.startswith("under"), name


def _group(
    system: System,
    by: str,
    name: str,
    inside: NDArray[np.float64],
    outside: NDArray[np.float64],
    sample: Sample,
    utterances: int,
) -> Group:
    metric = headline_metric(sample)
    note = "" if by == "corpus" or name == _UNKNOWN else _unknown(inside, outside, sample)
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


def _unknown(inside: NDArray[np.float64], outside: NDArray[np.float64], sample: Sample) -> str:
    """Says why a group's difference from the others cannot be tested; empty if it can."""
    if sample.by == "utterance":
        return "cannot be known: the speakers are not known"
    for sums, kind in ((inside, "speaker"), (outside, "other speaker")):
        if len(sums) < statistics.LEAST_CLUSTERS:
            number = f"{len(sums)} {kind}{'' if len(sums) == 1 else 's'}"
            return f"cannot be known from {number} (at least {statistics.LEAST_CLUSTERS})"
        effective = effective_clusters(sums, headline_metric(sample))
        if effective < statistics.LEAST_EFFECTIVE:
            return f"cannot be known from {kind}s who weigh like {effective:.1f} of equal size"
    return ""

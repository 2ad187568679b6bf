"""Decides and computes which systems are compared with which in each kind of experiment.

All comparisons are paired over the same utterances; p values are corrected (Holm) within a family.
Where no test is possible (too few speakers, a network with one seed), a sentence says so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from multimodal_ser.evaluation import statistics
from multimodal_ser.evaluation.agreement import DISTRIBUTION_SCORES
from multimodal_ser.report.align import Sample, System
from multimodal_ser.report.naming import NO_ADAPTATION, PROBE, TUNED_AS
from multimodal_ser.report.published import original
from multimodal_ser.report.scores import effective_clusters, headline_metric, too_few, vote_sums
from multimodal_ser.report.summary import Row, Versus

COMPARED = "compare"  # several experiments in one table
CHOSEN = "chosen"  # suffix of a model whose settings were tuned, see `experiments.tuning`
# Of classes, which is not recorded, of votes, of attributes, and of two tasks.
_USUAL_LOSSES = (None, "kl", "ccc", "cross-entropy+ccc", "kl+ccc")
SINGLE = {"dialogue": "cross_attention", "dialogue_text": "text", "dialogue_audio": "audio"}
_BEST = "each network against the best baseline"


class _Pair(NamedTuple):
    """A comparison to make: its family, the system, the other, and what the other is."""

    family: str
    name: str
    against: str
    role: str


def _against_best(rows: Sequence[Row]) -> list[_Pair]:
    best = next((row for row in rows if row.baseline), None)
    if best is None:
        return []
    networks = [row for row in rows if not row.baseline]
    return [_Pair(_BEST, row.name, best.name, "the best baseline, ") for row in networks]


def _against_each(rows: Sequence[Row]) -> list[_Pair]:
    """Pairs the best of the original's model with all others, if there is another network."""
    own = original().model
    best = next((row for row in rows if row.model == own), None)
    others = [row for row in rows if row is not best]
    if best is None or all(row.baseline or row.model == own for row in others):
        return []
    family = f"{best.name} against each other model"
    return [_Pair(family, best.name, row.name, "") for row in others]


def _contexts(rows: Sequence[Row]) -> list[_Pair]:
    """Pairs models that see a dialogue's other utterances with those that do not."""
    context = "features.text.context"
    alone = {row.model: row.name for row in rows if context not in row.settings}
    found = []
    for row in rows:
        single = SINGLE.get(row.model, row.model if context in row.settings else "")
        if single in alone:
            found.append((row.name, alone[single]))
    return [_Pair("each context against single utterances", *pair, "") for pair in found]


def _losses(rows: Sequence[Row]) -> list[_Pair]:
    """Pairs networks trained with other losses with those trained with their task's default."""
    networks = [(row, row.settings.get("train.loss")) for row in rows if not row.baseline]
    usual = {row.model: row.name for row, loss in networks if loss in _USUAL_LOSSES}
    return [
        _Pair("each loss against the usual one", row.name, usual[row.model], "")
        for row, loss in networks
        if loss not in _USUAL_LOSSES and row.model in usual
    ]


def _models(rows: Sequence[Row]) -> list[_Pair]:
    return _against_best(rows) + _against_each(rows) + _contexts(rows) + _losses(rows)


def _adaptation(rows: Sequence[Row]) -> list[_Pair]:
    """Pairs each method with no adaptation and with mere standardisation, model by model."""
    pairs = []
    networks = [row for row in rows if not row.baseline]
    for base in (NO_ADAPTATION, "standardize"):
        for row in networks:
            others = [
                one for one in networks if one.model == row.model and _adaptation_of(one) == base
            ]
            if _adaptation_of(row) in (NO_ADAPTATION, base):
                continue
            pairs += [
                _Pair(f"each method against {base}", row.name, one.name, "") for one in others
            ]
    return pairs + _against_best(rows)


def _adaptation_of(row: Row) -> str:
    return row.settings.get("train.adaptation.method", NO_ADAPTATION)


def _transfer(rows: Sequence[Row]) -> list[_Pair]:
    """Pairs each fine-tuned model with one from scratch and with linear, given the same labels."""
    pairs = []
    tuned = [row for row in rows if row.settings.get("train.parts") in ("all", "head")]
    for base in (TUNED_AS["scratch"], PROBE):
        for row in tuned:
            others = [one for one in rows if one.share == row.share and _is_for(one, row, base)]
            pairs += [_Pair(f"fine-tuned against {base}", row.name, one.name, "") for one in others]
    return pairs


def _chosen(rows: Sequence[Row]) -> list[_Pair]:
    """Pairs tuned settings with the recommended ones, and both with the best baseline."""
    chosen = [row for row in rows if row.model.endswith(CHOSEN)]
    usual = [row for row in rows if row not in chosen and not row.baseline]
    family = "chosen settings against the recommended"
    pairs = [_Pair(family, one.name, other.name, "") for one in chosen for other in usual]
    return pairs + _against_best(rows)


def _is_for(row: Row, tuned: Row, base: str) -> bool:
    """Whether a row is what a fine-tuned one is compared with: from scratch, or linear."""
    if base == PROBE:
        return row.model == base
    return row.model == tuned.model and row.settings.get("train.parts") == "scratch"


_PAIRS: dict[str, Callable[[Sequence[Row]], list[_Pair]]] = {
    "adaptation": _adaptation,
    "finetune": _transfer,
    "fewshot": _transfer,
    COMPARED: lambda rows: [
        _Pair("the best against each other", rows[0].name, row.name, "") for row in rows[1:]
    ],
    "tune": _chosen,
}


def compare_rows(
    protocol: str,
    rows: Sequence[Row],
    systems: Sequence[System],
    sums: Mapping[str, np.ndarray],
    sample: Sample,
) -> tuple[Versus, ...]:
    """Makes the comparisons of a protocol.

    Args:
        protocol: key in PAIRS; another one is treated as in-domain.
        rows: of the table, the best first.
        systems: behind the rows.
        sums: each system's confusion counts per cluster and seed, [S, K, C, C].
        sample: what they were tested on.
    """
    pairs = _PAIRS.get(protocol, _models)
    named = {system.name: system for system in systems}
    found = _measured(pairs(rows), named, sums, sample)
    if sample.task == "distributions":
        # the best baseline by UA, which counts the first choice alone, need not be the one that
        # is nearest to the votes
        nearest = [
            pair._replace(family=f"{pair.family}, by the votes")
            for pair in pairs(sorted(rows, key=lambda row: row.score("JS").mean))
        ]
        votes = {system.name: vote_sums(system, sample) for system in systems}
        for score in DISTRIBUTION_SCORES:
            found += _measured(nearest, named, votes, sample, score)
    return tuple(found)


def _measured(
    pairs: Sequence[_Pair],
    systems: Mapping[str, System],
    sums: Mapping[str, np.ndarray],
    sample: Sample,
    score: str = "",
) -> list[Versus]:
    """Compares every pair by a score of the votes, or by the headline's."""
    found: list[Versus] = []
    # Holm's correction is over one question's comparisons, not over everything in the report
    for family in dict.fromkeys(pair.family for pair in pairs):
        own = [pair for pair in pairs if pair.family == family]
        made = [_compared(pair, systems, sums, sample, score) for pair in own]
        p = statistics.holm([one.p for one in made])
        exact = statistics.holm([one.mcnemar for one in made])
        found += [replace(one, p=a, mcnemar=b) for one, a, b in zip(made, p, exact, strict=True)]
    return found


def _compared(
    pair: _Pair,
    systems: Mapping[str, System],
    sums: Mapping[str, np.ndarray],
    sample: Sample,
    score: str,
) -> Versus:
    one, other = systems[pair.name], systems[pair.against]
    counts = sums[one.name], sums[other.name]
    metric = DISTRIBUTION_SCORES[score] if score else headline_metric(sample)
    better = DISTRIBUTION_SCORES[score].better if score else "higher"
    if unknown := _why_untestable(one, other, sample, effective_clusters(counts[0], metric)):
        gap = float(metric(counts[0].sum(0)).mean() - metric(counts[1].sum(0)).mean())
        return Versus(*pair, gap, None, None, None, None, unknown, score, better)
    # equal few-shot draws gave both systems the same utterances and are paired; equal seeds
    # mean nothing across two networks and are not, see `statistics.compare`
    found = statistics.compare(*counts, metric, repeats=(one.repeats, other.repeats))
    exact = None
    if sample.task != "attributes" and not score:
        exact = statistics.mcnemar(_is_right(one, sample), _is_right(other, sample)).p
    ends = found.difference, found.low, found.high, found.p
    return Versus(*pair, *ends, exact, score=score, better=better)


def _why_untestable(one: System, other: System, sample: Sample, effective: float) -> str:
    """Says why a difference cannot be tested; empty if it can."""
    if sample.by != "speaker":
        return "the speakers are not known, and utterances of one speaker are alike"
    if few := too_few(sample.clusters, effective):
        return few
    for system in (one, other):
        if one_seed(system):
            return f"{system.name} was trained with one seed; train with --seeds 3 or more"
    return ""


def one_seed(system: System) -> bool:
    """Whether a network has a single seed, so that its spread over trainings is unknown.

    Draws of the few labelled utterances do not replace seeds: all were fine-tuned from one network.
    """
    return not system.baseline and len({seed for seed, _ in system.repeats}) < 2


def _is_right(system: System, sample: Sample) -> np.ndarray:
    """Whether the prediction averaged over seeds and draws is correct, [N]."""
    return system.probabilities.mean(0).argmax(-1) == sample.truth

"""Rows → comparisons: who has to be measured against whom in each kind of experiment.

All are paired over the same utterances; p values are corrected (Holm) within a family.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from multimodal_ser import metrics, statistics
from multimodal_ser.report.align import Sample, System
from multimodal_ser.report.naming import BASELINES, NO_ADAPTATION, PARTS
from multimodal_ser.report.summary import RESAMPLES, Row, Versus

BEST = "each network against the best baseline"


class Pair(NamedTuple):
    """A comparison to make: its family, the system, the other, and what the other is."""

    family: str
    name: str
    against: str
    role: str


def _against_best(rows: Sequence[Row]) -> list[Pair]:
    best = next((row for row in rows if row.model in BASELINES), None)
    if best is None:
        return []
    networks = [row for row in rows if row.model not in BASELINES]
    return [Pair(BEST, row.name, best.name, "the best baseline, ") for row in networks]


def _against_cross_attention(rows: Sequence[Row]) -> list[Pair]:
    """The best cross-attention against everything else, where there is another network."""
    best = next((row for row in rows if row.model == "cross_attention"), None)
    others = [row for row in rows if row is not best]
    if best is None or all(row.model in (*BASELINES, "cross_attention") for row in others):
        return []
    family = f"{best.name} against each other model"
    return [Pair(family, best.name, row.name, "") for row in others]


def _models(rows: Sequence[Row]) -> list[Pair]:
    return _against_best(rows) + _against_cross_attention(rows)


def _adaptation(rows: Sequence[Row]) -> list[Pair]:
    """Each method against no adaptation and against mere standardising, model by model."""
    pairs = []
    networks = [row for row in rows if row.model not in BASELINES]
    for bar in (NO_ADAPTATION, "standardize"):
        for row in networks:
            bars = [one for one in networks if one.model == row.model and _method(one) == bar]
            if _method(row) in (NO_ADAPTATION, bar):
                continue
            pairs += [Pair(f"each method against {bar}", row.name, b.name, "") for b in bars]
    return pairs + _against_best(rows)


def _method(row: Row) -> str:
    return row.settings.get("train.adaptation.method", NO_ADAPTATION)


def _transfer(rows: Sequence[Row]) -> list[Pair]:
    """Each fine-tuned model against one from scratch and linear, given the same labels."""
    pairs = []
    tuned = [row for row in rows if row.settings.get("train.parts") in ("all", "head")]
    for bar in (PARTS["scratch"], "linear"):
        for row in tuned:
            bars = [one for one in rows if one.share == row.share and _is(one, row, bar)]
            pairs += [Pair(f"fine-tuned against {bar}", row.name, b.name, "") for b in bars]
    return pairs


def _is(row: Row, tuned: Row, bar: str) -> bool:
    if bar == "linear":
        return row.model == bar
    return row.model == tuned.model and row.settings.get("train.parts") == "scratch"


PAIRS: dict[str, Callable[[Sequence[Row]], list[Pair]]] = {
    "in-domain": _models,
    "ablation": _models,
    "combined": _models,
    "adaptation": _adaptation,
    "finetune": _transfer,
    "fewshot": _transfer,
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
    pairs = PAIRS.get(protocol, _models)(rows)
    right = {system.name: _right(system, sample) for system in systems}
    found: list[Versus] = []
    for family in dict.fromkeys(pair.family for pair in pairs):
        found += _family([pair for pair in pairs if pair.family == family], sums, right)
    return tuple(found)


def _right(system: System, sample: Sample) -> np.ndarray:
    """Whether the answer averaged over seeds and draws is right, [N]."""
    right: np.ndarray = system.probabilities.mean(0).argmax(-1) == sample.truth
    return right


def _family(
    pairs: Sequence[Pair], sums: Mapping[str, np.ndarray], right: Mapping[str, np.ndarray]
) -> list[Versus]:
    if any(len(sums[pair.name]) < 2 for pair in pairs):
        gaps = [_ua(sums[pair.name]) - _ua(sums[pair.against]) for pair in pairs]
        return [Versus(*p, gap, None, None, None, None) for p, gap in zip(pairs, gaps, strict=True)]
    made = [
        statistics.compare(sums[one.name], sums[one.against], metrics.ua, resamples=RESAMPLES)
        for one in pairs
    ]
    corrected = statistics.holm([one.p for one in made])
    exact = statistics.holm(
        [statistics.mcnemar(right[one.name], right[one.against]).p for one in pairs]
    )
    return [
        Versus(*pair, one.difference, one.low, one.high, p, other)
        for pair, one, p, other in zip(pairs, made, corrected, exact, strict=True)
    ]


def _ua(sums: np.ndarray) -> float:
    return float(metrics.ua(sums.sum(0)).mean())

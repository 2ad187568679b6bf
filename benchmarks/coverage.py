"""How often confidence intervals contain the true score, and how often tests are wrong.

    python benchmarks/coverage.py [--corpora 1000] [--clusters 2 3 5 10 24 91] [--seeds]

Makes up corpora: speakers whose recalls differ (in three strengths); classes that are balanced,
unbalanced, or unbalanced with speakers who say very different numbers of utterances and lack some
classes ("ragged"). On each corpus two systems are tested: two equal ones for the size of the test,
and one that is 5 UA points better for its power. The library's methods are compared with the
percentile bootstrap that draws speakers. With `--seeds` the better system is a network of three
seeds with different scores, compared with a baseline.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from multimodal_ser.evaluation import metrics
from multimodal_ser.evaluation.statistics import (
    LEAST_CLUSTERS,
    Metric,
    interval_ends,
    paired,
    sign_flip,
)

Floats = NDArray[np.float64]
Pair = tuple[Floats, Floats]

CLUSTERS = (2, 3, 5, 10, 24, 91)
STRENGTHS = {"weak": 0.25, "medium": 0.5, "strong": 1.0}  # sd of recalls' logits over speakers
BALANCES = ("balanced", "unbalanced", "ragged")
RECALLS = (0.85, 0.70, 0.65, 0.60)
SHARES = (0.45, 0.30, 0.18, 0.07)  # of the classes where they are unbalanced
UTTERANCES = 60  # of a speaker
BETTER = 0.05  # UA
ALIKE = 0.5  # of the utterances, both systems give the same answer
SEEDS, OVER_SEEDS = 3, 0.15  # sd of recalls' logits over seeds: about 1.5 UA points
RESAMPLES = 400
LEVEL = 0.05
_CLASSES = len(RECALLS)
_PEOPLE = 200_000  # to learn the true score from


@dataclass(frozen=True)
class Cell:
    """One kind of corpus."""

    clusters: int
    balance: str
    strength: str


@dataclass(frozen=True)
class Found:
    """Results for one metric: shares of the corpora, except for the widths."""

    coverage: float
    width: float
    size: float
    power: float


def sizes(rng: np.random.Generator, shape: tuple[int, ...], balance: str) -> NDArray[np.int64]:
    """Draws how many utterances of each class each speaker says, [*shape, C]."""
    if balance == "balanced":
        return np.full((*shape, _CLASSES), UTTERANCES // _CLASSES)
    if balance == "unbalanced":
        return rng.multinomial(UTTERANCES, SHARES, size=shape)
    said = np.maximum(8, UTTERANCES * np.exp(rng.normal(-0.3, 0.8, size=shape))).astype(np.int64)
    kept = rng.random((*shape, _CLASSES)) > 0.25
    kept[..., 0] = True
    shares = kept * np.array(SHARES)
    return rng.multinomial(said, shares / shares.sum(-1, keepdims=True))


def _answers(logits: Floats) -> Floats:
    """Logits of the recalls [..., C] → probability of each prediction by class, [..., C, C]."""
    recall = expit(logits)[..., None]
    wrong = 1.0 - np.eye(_CLASSES)
    wrong *= np.arange(_CLASSES, 0, -1)  # the first classes are the likelier mistakes
    matrix: Floats = recall * np.eye(_CLASSES) + (1 - recall) * wrong / wrong.sum(1, keepdims=True)
    return matrix


def _speakers(rng: np.random.Generator, shape: tuple[int, ...], sd: float) -> Floats:
    """Draws each speaker's effect on the recalls' logits, [*shape, C]; half is common to all."""
    whole, each = rng.normal(size=(*shape, 1)), rng.normal(size=(*shape, _CLASSES))
    return sd * (whole + each) / float(np.sqrt(2))


def true_scores(cell: Cell) -> dict[str, float]:
    """Computes the true scores, from very many speakers."""
    rng = np.random.default_rng(1)
    counts = sizes(rng, (_PEOPLE,), cell.balance)
    effects = _speakers(rng, (_PEOPLE,), STRENGTHS[cell.strength])
    matrix = (counts[..., None] * _answers(logit(np.array(RECALLS)) + effects)).sum(0)
    return {name: float(metric(matrix)) for name, metric in metrics.METRICS.items()}


def two_systems(
    rng: np.random.Generator, cell: Cell, corpora: int, better: float, seeds: int
) -> tuple[Floats, Floats]:
    """Confusion counts of two systems on the same corpora, [R, S, K, C, C] and [R, S, 1, C, C].

    Half of the speaker effects and half of the predictions are common to both systems.
    """
    shape, sd = (corpora, cell.clusters), STRENGTHS[cell.strength]
    counts = sizes(rng, shape, cell.balance)
    common = _speakers(rng, shape, sd) / np.sqrt(2)
    base = logit(np.array(RECALLS))
    raised = logit(np.array(RECALLS) + better)
    own = [_speakers(rng, shape, sd) / np.sqrt(2) for _ in range(2)]
    same = rng.binomial(counts, ALIKE)
    shared = rng.multinomial(same, _answers(base + common + sum(own) / 2))
    first = []
    for _ in range(seeds):
        luck = _speakers(rng, (corpora, 1), OVER_SEEDS if seeds > 1 else 0)
        left = rng.multinomial(counts - same, _answers(raised + common + own[0] + luck))
        first.append(left + shared)
    second = shared + rng.multinomial(counts - same, _answers(base + common + own[1]))
    return np.stack(first, 2).astype(float), second[:, :, None].astype(float)


def resampled(sums: Floats, metric: Metric, seed: int = 0) -> Floats:
    """The percentile bootstrap's scores, speakers drawn with replacement, [B, R]."""
    clusters = sums.shape[1]
    drawn = np.random.default_rng(seed).integers(clusters, size=(RESAMPLES, clusters))
    times = np.stack([np.bincount(row, minlength=clusters) for row in drawn]).astype(float)
    flat = np.moveaxis(sums, 1, 0).reshape(clusters, -1)
    block = max(1, 8_000_000 // flat.shape[1])
    scores = []
    for start in range(0, RESAMPLES, block):
        drawn_sums = (times[start : start + block] @ flat).reshape(-1, len(sums), *sums.shape[2:])
        scores.append(metric(drawn_sums).mean(-1))
    return np.concatenate(scores)


def _ends(scores: Floats) -> Floats:
    return np.nanpercentile(scores, [100 * LEVEL / 2, 100 - 100 * LEVEL / 2], axis=0)


def by_bootstrap(single: Floats, equal: Pair, unequal: Pair, metric: Metric, true: float) -> Found:
    """Percentile bootstrap: the interval, and the test that corresponds to it."""
    low, high = _ends(resampled(single, metric))
    called = []
    for first, second in (equal, unequal):
        ends = _ends(resampled(first, metric) - resampled(second, metric))
        called.append(float(((ends[0] > 0) | (ends[1] < 0)).mean()))
    return _found(low, high, true, called)


def by_library(single: Floats, equal: Pair, unequal: Pair, metric: Metric, true: float) -> Found:
    """The library's interval and paired test; NaN if they cannot be computed."""
    if single.shape[1] < LEAST_CLUSTERS:
        return Found(*[float("nan")] * 4)
    low, high = interval_ends(single, metric)
    return _found(low, high, true, [_called(*pair, metric) for pair in (equal, unequal)])


def _called(first: Floats, second: Floats, metric: Metric) -> float:
    """Share of the corpora in which the difference is called significant."""
    _, low, high, p = paired(first, second, metric)
    # p is the larger of two: the second is asked for only where the first is small
    small = np.flatnonzero((p < LEVEL) & ((low > 0) | (high < 0)))
    if not len(small):
        return 0.0
    exact = sign_flip(first[small], second[small], metric)
    return float((exact < LEVEL).sum() / len(first))


def _found(low: Floats, high: Floats, true: float, called: list[float]) -> Found:
    known = ~np.isnan(low)
    inside = (low[known] <= true) & (true <= high[known])
    return Found(float(inside.mean()), float((high - low)[known].mean()), *called)


METHODS: dict[str, Callable[..., Found]] = {"library": by_library, "bootstrap": by_bootstrap}


def measure(
    cell: Cell, corpora: int, *, seeds: int = 1, scores: Iterable[str] = tuple(metrics.METRICS)
) -> dict[str, dict[str, Found]]:
    """Makes corpora of one kind; score → method → results."""
    rng = np.random.default_rng([0, cell.clusters, BALANCES.index(cell.balance)])
    true = true_scores(cell)
    equal = two_systems(rng, cell, corpora, 0.0, seeds)
    unequal = two_systems(rng, cell, corpora, BETTER, seeds)
    return {
        name: {
            method: made(equal[1], equal, unequal, metrics.METRICS[name], true[name])
            for method, made in METHODS.items()
        }
        for name in scores
    }


def _shown(value: float) -> str:
    return "cannot be known" if np.isnan(value) else f"{100 * value:.1f}"


def _print(cells: Iterable[Cell], corpora: int, seeds: int) -> None:
    print(
        "| speakers | classes | correlation | score | coverage | width | size | power "
        "| bootstrap: coverage | width | size | power |"
    )
    print("|---:|---|---|---|" + "---:|" * 8)
    ours: list[Found] = []
    for cell in cells:
        for name, methods in measure(cell, corpora, seeds=seeds).items():
            shown = [str(cell.clusters), cell.balance, cell.strength, name]
            for found in methods.values():
                shown += map(_shown, (found.coverage, found.width, found.size, found.power))
            print(f"| {' | '.join(shown)} |", flush=True)
            ours.append(methods["library"])
    known = [one for one in ours if not np.isnan(one.coverage)]
    if known:
        coverage = [100 * one.coverage for one in known]
        size = max(100 * one.size for one in known)
        span = f"{min(coverage):.1f} to {max(coverage):.1f} %"
        print(f"\nThe library: coverage {span}, size at most {size:.1f} %.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpora", type=int, default=1000, help="of each kind")
    parser.add_argument("--clusters", type=int, nargs="+", default=CLUSTERS, help="speakers")
    parser.add_argument("--classes", nargs="+", default=BALANCES, choices=BALANCES)
    parser.add_argument("--strengths", nargs="+", default=list(STRENGTHS), choices=STRENGTHS)
    parser.add_argument("--seeds", action="store_true", help="a network of three seeds")
    given = parser.parse_args()
    print(
        f"{given.corpora:,} made-up corpora a row, {UTTERANCES} utterances a speaker; nominal "
        f"coverage 95 %, level 5 %; power for {100 * BETTER:.0f} UA points; all in %.\n"
    )
    kinds = product(given.clusters, given.classes, given.strengths)
    _print((Cell(*kind) for kind in kinds), given.corpora, SEEDS if given.seeds else 1)


if __name__ == "__main__":
    main()

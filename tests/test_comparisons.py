"""Two systems, or two groups: differences, seeds and draws, exact tests, Holm, McNemar."""

import sys
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from multimodal_ser.errors import SerError
from multimodal_ser.evaluation import metrics, statistics

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
from made_counts import speakers, two_class


def test_a_system_does_not_differ_from_itself():
    sums = speakers(np.random.default_rng(6), 10)
    result = statistics.compare(sums, sums, metrics.ua)
    assert (result.difference, result.low, result.high, result.p) == (0, 0, 0, 1)


def test_pairing_sees_a_small_steady_gain_that_two_intervals_hide():
    first = speakers(np.random.default_rng(7), 20, spread=0.2)
    second = first.copy()
    second[:, 0, 0, 0] -= np.minimum(2, second[:, 0, 0, 0])
    second[:, 0, 0, 1] += np.minimum(2, first[:, 0, 0, 0])
    result = statistics.compare(first, second, metrics.ua)
    assert result.low > 0
    assert result.p < 0.01
    one, other = (statistics.clustered_interval(s, metrics.ua) for s in (first, second))
    assert one.low < other.high
    back = statistics.compare(second, first, metrics.ua)
    assert back.difference == pytest.approx(-result.difference)
    assert back.p == pytest.approx(result.p)


def test_exchanging_every_speaker_is_the_exact_sign_flip_test():
    rng = np.random.default_rng(8)
    one, other = speakers(rng, 7), speakers(rng, 7, skill=0.6)
    seen = metrics.ua(one.sum(0)) - metrics.ua(other.sum(0))
    flipped = []
    for signs in product((False, True), repeat=7):
        turn = np.array(signs)[:, None, None, None]
        pair = np.where(turn, other, one), np.where(turn, one, other)
        flipped.append(metrics.ua(pair[0].sum(0)) - metrics.ua(pair[1].sum(0)))
    expected = np.mean(np.abs(flipped) >= np.abs(seen) - 1e-12)
    assert statistics.sign_flip(one, other, metrics.ua) == pytest.approx(expected)
    assert statistics.compare(one, other, metrics.ua).p >= expected


@pytest.mark.parametrize("count", [3, 5, 13, 14, 40])
def test_no_p_is_smaller_than_so_many_speakers_can_give(count):
    sides = two_class([90] * count, [100] * count), two_class([10] * count, [100] * count)
    p = statistics.compare(*sides, metrics.wa).p
    assert p == pytest.approx(statistics.smallest_p(count), abs=3e-4)
    assert statistics.smallest_p(count) == pytest.approx(max(2.0 ** (1 - count), 1 / 5000))


def test_seeds_that_disagree_forbid_what_speakers_alone_would_allow():
    rng = np.random.default_rng(9)
    base = speakers(rng, 30, spread=0.02)
    gains = (5, 2, 0)  # more right answers of twenty, seed by seed
    network = np.repeat(base, 3, axis=1)
    for seed, gain in enumerate(gains):
        moved = np.minimum(gain, network[:, seed, 0, 1])
        network[:, seed, 0, 0] += moved
        network[:, seed, 0, 1] -= moved
    alone = statistics.compare(network.mean(1, keepdims=True), base, metrics.ua)
    counted = statistics.compare(network, base, metrics.ua)
    assert alone.low > 0
    assert alone.p < 0.001
    assert counted.low < 0
    assert counted.p > 0.05
    assert counted.difference == pytest.approx(alone.difference)


def test_draws_shared_by_both_systems_are_paired():
    rng = np.random.default_rng(12)
    base = speakers(rng, 30, spread=0.02, seeds=4)
    for draw in range(4):  # each draw is harder than the one before, for both
        moved = np.minimum(2 * draw, base[:, draw, 1, 1])
        base[:, draw, 1, 1] -= moved
        base[:, draw, 1, 2] += moved
    better = base.copy()
    better[..., 0, 0] += better[..., 0, 1]
    better[..., 0, 1] = 0
    repeats = [(0, draw) for draw in range(4)]
    paired = statistics.compare(better, base, metrics.ua, repeats=(repeats, repeats))
    apart = statistics.compare(better, base, metrics.ua)
    assert paired.high - paired.low < 0.5 * (apart.high - apart.low)


def test_draws_do_not_replace_seeds():
    """Two seeds on three draws are two seeds, however often each was trained."""
    rng = np.random.default_rng(13)
    base = speakers(rng, 30, spread=0.02, seeds=1)
    good, poor = base.copy(), base.copy()
    good[..., 0, 0] += good[..., 0, 1]
    good[..., 0, 1] = 0
    both = np.concatenate([good, good, good, poor, poor, poor], axis=1)
    repeats = [(seed, draw) for seed in range(2) for draw in range(3)]
    baseline = [(0, draw) for draw in range(3)]
    threefold = np.concatenate([base] * 3, axis=1)
    told = statistics.compare(both, threefold, metrics.ua, repeats=(repeats, baseline))
    seeds = statistics.compare(both[:, [0, 3]], base, metrics.ua)
    assert (told.low, told.high) == pytest.approx((seeds.low, seeds.high))
    other = statistics.compare(both, base, metrics.ua, repeats=(repeats, [(0, 0)]))
    assert (other.low, other.high) == pytest.approx((seeds.low, seeds.high))
    apart = statistics.compare_apart(both, both, metrics.ua, repeats=repeats)
    assert apart.low < 0 < apart.high


def test_comparison_needs_the_same_clusters():
    rng = np.random.default_rng(9)
    with pytest.raises(SerError, match="same clusters"):
        statistics.compare(speakers(rng, 4), speakers(rng, 5), metrics.ua)


def test_groups_of_other_speakers_vary_by_themselves():
    rng = np.random.default_rng(10)
    women, men = speakers(rng, 25, skill=0.8), speakers(rng, 25, skill=0.6)
    result = statistics.compare_apart(women, men, metrics.ua)
    assert result.low > 0
    assert result.clusters == 50
    per_speaker = [metrics.ua(side)[:, 0] for side in (women, men)]
    welch = stats.ttest_ind(*per_speaker, equal_var=False)
    assert result.p == pytest.approx(welch.pvalue)
    assert (result.low, result.high) == pytest.approx(tuple(welch.confidence_interval()))
    alike = statistics.compare_apart(women, women, metrics.ua)
    assert alike.low < 0 < alike.high  # the same numbers, yet other people


@pytest.mark.parametrize(("b", "c"), [(5, 0), (12, 4), (4, 12), (7, 7), (300, 250), (0, 0)])
def test_mcnemar_equals_the_exact_binomial_sum(b, c):
    first = [1] * b + [0] * c + [1, 0]
    second = [0] * b + [1] * c + [1, 0]
    result = statistics.mcnemar(first, second)
    expected = min(1.0, 2 * stats.binom(b + c, 0.5).cdf(min(b, c)))
    assert (result.only_first, result.only_second) == (b, c)
    assert result.p == pytest.approx(expected)


def test_mcnemar_needs_pairs():
    with pytest.raises(SerError, match="same utterances"):
        statistics.mcnemar([1, 0], [1])


def test_holm_by_hand():
    # sorted 0.005, 0.01, 0.03, 0.04 → times 4, 3, 2, 1 → 0.02, 0.03, 0.06, then never falling
    assert statistics.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx((0.03, 0.06, 0.06, 0.02))
    assert statistics.holm([0.6, 0.5]) == (1.0, 1.0)
    assert statistics.holm([0.04]) == (0.04,)
    assert statistics.holm([]) == ()

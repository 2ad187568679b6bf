"""Intervals that cover, tests that hold their level, oracles, and cases without an answer."""

import sys
import time
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import statsmodels.api as sm
from scipy import linalg, stats
from scipy.special import expit, logit

from multimodal_ser import metrics, statistics
from multimodal_ser.errors import SerError

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import coverage


def speakers(rng, count, utterances=20, skill=0.7, spread=0.1, classes=3, seeds=1):
    """Confusion counts of made-up speakers, each with recalls of their own, [S, K, C, C]."""
    recall = np.clip(rng.normal(skill, spread, size=(count, 1, classes)), 0, 1)
    right = rng.binomial(utterances, np.repeat(recall, seeds, axis=1))
    sums = np.zeros((count, seeds, classes, classes))
    for name in range(classes):
        sums[..., name, name] = right[..., name]
        sums[..., name, (name + 1) % classes] = utterances - right[..., name]
    return sums


def two_class(right, said):
    """Counts [S, 1, 2, 2] of speakers who said so many, all of one class, so many of them right."""
    sums = np.zeros((len(said), 1, 2, 2))
    sums[:, 0, 0, 0] = right
    sums[:, 0, 0, 1] = np.subtract(said, right)
    return sums


CORPORA = 300
NOISE = 2.5 * np.sqrt(0.05 * 0.95 / CORPORA)  # of a share near 5 % or 95 %


@pytest.mark.parametrize(
    ("clusters", "balance"),
    [(3, "balanced"), (5, "unbalanced"), (10, "unbalanced"), (10, "ragged")],
)
def test_intervals_cover_and_tests_hold_their_level_where_the_percentile_bootstrap_does_not(
    clusters, balance
):
    found = coverage.measure(coverage.Cell(clusters, balance, "medium"), CORPORA)
    for name, methods in found.items():
        ours, bootstrap = methods["library"], methods["bootstrap"]
        assert 0.935 - NOISE < ours.coverage < 0.97 + NOISE, name
        assert ours.size < 0.06 + NOISE, name
        if clusters < 10:  # the same bounds throw the percentile bootstrap out
            assert bootstrap.coverage < 0.935 - NOISE, name
            assert bootstrap.size > 0.06 + NOISE, name


def test_a_network_s_seeds_count():
    cell = coverage.Cell(13, "balanced", "weak")
    found = coverage.measure(cell, 2 * CORPORA, seeds=3, scores=["UA"])["UA"]
    assert found["library"].size < 0.06 + NOISE
    assert found["bootstrap"].size > 0.06 + NOISE  # it averages over seeds
    assert found["library"].power > 0.1


def test_wa_of_equal_speakers_is_statsmodels_cluster_robust_t():
    rng = np.random.default_rng(0)
    said, right = 12, rng.integers(3, 12, size=9)
    answers = np.concatenate([[1] * r + [0] * (said - r) for r in right])
    groups = np.repeat(np.arange(9), said)
    fit = sm.OLS(answers, np.ones(len(answers))).fit(
        cov_type="cluster", cov_kwds={"groups": groups, "use_correction": True}, use_t=True
    )
    found = statistics.estimate(two_class(right, [said] * 9), metrics.wa)
    assert found.value == pytest.approx(fit.params[0])
    # statsmodels multiplies by (N - 1) / (N - 1) and S / (S - 1)
    assert np.sqrt(found.variance) == pytest.approx(fit.bse[0])
    assert found.df == pytest.approx(fit.df_resid_inference)
    interval = statistics.clustered_interval(two_class(right, [said] * 9), metrics.wa)
    slope = fit.bse[0] / (fit.params[0] * (1 - fit.params[0]))
    ends = expit(logit(fit.params[0]) + stats.t(8).ppf([0.025, 0.975]) * slope)
    assert (interval.low, interval.high) == pytest.approx(tuple(ends))


def test_a_paired_difference_in_wa_is_statsmodels_cluster_robust_t():
    rng = np.random.default_rng(1)
    one, other = rng.binomial(30, 0.75, size=10), rng.binomial(30, 0.6, size=10)
    answers = np.concatenate(
        [
            np.repeat([1, 0], [a, 30 - a]) - np.repeat([1, 0], [b, 30 - b])
            for a, b in zip(one, other, strict=True)
        ]
    )
    fit = sm.OLS(answers, np.ones(300)).fit(
        cov_type="cluster", cov_kwds={"groups": np.repeat(np.arange(10), 30)}, use_t=True
    )
    sides = two_class(one, [30] * 10), two_class(other, [30] * 10)
    difference, low, high, p = statistics.paired(*sides, metrics.wa)
    assert difference == pytest.approx(fit.params[0])
    assert (low, high) == pytest.approx(tuple(fit.conf_int()[0]))
    assert p == pytest.approx(fit.pvalues[0])


def test_variance_and_degrees_of_freedom_are_those_of_bell_and_mccaffrey():
    """CR2 and Satterthwaite by matrices (Imbens & Kolesár 2016, section 4), speakers unequal."""
    rng = np.random.default_rng(2)
    said = np.array([5, 9, 14, 30, 7])
    right = rng.binomial(said, rng.uniform(0.4, 0.9, size=5))
    answers = np.concatenate(
        [np.repeat([1.0, 0.0], [r, n - r]) for r, n in zip(right, said, strict=True)]
    )
    groups = np.repeat(np.arange(5), said)
    total = len(answers)
    hat = np.full((total, total), 1 / total)
    residual = np.eye(total) - hat
    error, vectors = answers - answers.mean(), []
    variance = 0.0
    for place in range(5):
        own = groups == place
        root = linalg.fractional_matrix_power(np.eye(own.sum()) - hat[np.ix_(own, own)], -0.5).real
        loading = root @ np.ones(own.sum()) / total
        variance += (loading @ error[own]) ** 2
        vectors.append(residual[:, own] @ loading)
    gram = np.stack(vectors) @ np.stack(vectors).T
    df = np.trace(gram) ** 2 / (gram**2).sum()
    found = statistics.estimate(two_class(right, said), metrics.wa)
    assert found.variance == pytest.approx(variance)
    assert found.df == pytest.approx(df)
    assert found.effective == pytest.approx(total**2 / (said**2).sum())


def test_clustering_widens_the_interval_where_speakers_differ():
    sums = speakers(np.random.default_rng(1), 20, spread=0.2)
    truth, predicted = [], []
    for true, said in np.ndindex(3, 3):
        amount = int(sums.sum(0)[0, true, said])
        truth += [true] * amount
        predicted += [said] * amount
    single = metrics.grouped_confusion(
        truth, predicted, np.arange(len(truth)), classes=3, groups_total=len(truth)
    )
    by_speaker = statistics.clustered_interval(sums, metrics.wa)
    by_utterance = statistics.clustered_interval(single[:, None], metrics.wa)
    assert by_speaker.high - by_speaker.low > 1.5 * (by_utterance.high - by_utterance.low)


def test_utterances_as_clusters_give_the_binomial_standard_error():
    answers = np.repeat([1, 0], [80, 20])
    single = two_class(answers, np.ones(100))
    found = statistics.estimate(single, metrics.wa)
    assert np.sqrt(found.variance) == pytest.approx(np.sqrt(0.8 * 0.2 / 99))


def test_many_utterances_as_clusters_stay_quick():
    truth = np.arange(7442) % 6
    said = np.where(np.arange(7442) % 5, truth, (truth + 1) % 6)
    sums = metrics.grouped_confusion(truth, said, np.arange(7442), classes=6, groups_total=7442)
    start = time.perf_counter()
    interval = statistics.clustered_interval(sums[:, None], metrics.ua)
    assert time.perf_counter() - start < 5
    assert interval.low < 0.8 < interval.high
    assert interval.high - interval.low == pytest.approx(2 * 1.96 * np.sqrt(0.16 / 7442), rel=0.02)


@pytest.mark.parametrize("count", [1, 2])
def test_too_few_clusters_give_neither_interval_nor_p(count):
    sums = speakers(np.random.default_rng(5), count)
    for call in (
        lambda: statistics.clustered_interval(sums, metrics.ua),
        lambda: statistics.compare(sums, sums, metrics.ua),
        lambda: statistics.compare_apart(sums, speakers(np.random.default_rng(6), 9), metrics.ua),
    ):
        with pytest.raises(SerError, match=r"can be known from .* test on 3 or more speakers"):
            call()


def test_sums_without_seeds_are_refused():
    with pytest.raises(SerError, match="clusters, seeds"):
        statistics.clustered_interval(np.ones((5, 3, 3)), metrics.ua)


def test_one_speaker_who_says_nearly_everything_is_one_speaker():
    said = np.array([2000, 10, 10, 10])
    interval = statistics.clustered_interval(two_class(said * 0.6, said), metrics.wa)
    assert np.isnan([interval.low, interval.high]).all()
    assert interval.effective == pytest.approx(1.03, abs=0.01)


def test_many_names_of_whom_few_speak_are_few():
    said = np.array([100] * 6 + [2] * 41)
    right = np.random.default_rng(3).binomial(said, 0.7)
    interval = statistics.clustered_interval(two_class(right, said), metrics.wa)
    assert interval.clusters == 47
    assert interval.effective == pytest.approx(7.7, abs=0.1)
    equal = statistics.clustered_interval(two_class([10] * 47, [15] * 47), metrics.wa)
    assert equal.effective == pytest.approx(47)


def test_a_class_that_one_speaker_alone_utters_has_no_interval():
    sums = np.zeros((4, 1, 2, 2))
    sums[:, 0, 0, 0] = 4, 3, 4, 2
    sums[:, 0, 0, 1] = 1
    sums[2, 0, 1, 1] = 2
    with np.errstate(invalid="ignore"):
        interval = statistics.clustered_interval(sums, lambda m: metrics.recalls(m)[..., 1])
        assert np.isnan(interval.low)
    assert not np.isnan(statistics.clustered_interval(sums, metrics.ua).low)


def test_all_answers_right_leave_room_for_errors():
    interval = statistics.clustered_interval(two_class([12] * 5, [12] * 5), metrics.wa)
    assert interval.high == 1
    assert 0.85 < interval.low < 0.98  # three in sixty is the rule of three's 95 %
    none = statistics.clustered_interval(two_class([0] * 5, [12] * 5), metrics.wa)
    assert (none.low, none.high) == (0, pytest.approx(1 - interval.low))


def test_agreement_by_chance_is_no_certainty():
    interval = statistics.clustered_interval(two_class([8, 8, 8], [10, 10, 10]), metrics.wa)
    assert interval.high - interval.low > 0.1
    found = statistics.compare(
        two_class([37] * 4, [40] * 4), two_class([36] * 4, [40] * 4), metrics.wa
    )
    assert found.low < 0.02 < 0.03 < found.high
    assert found.p == 0.125  # one more right answer each: the smallest p of four speakers


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


def test_draws_that_both_learnt_from_are_paired():
    rng = np.random.default_rng(12)
    base = speakers(rng, 30, spread=0.02, seeds=4)
    for draw in range(4):  # each draw is harder than the one before, for both
        moved = np.minimum(2 * draw, base[:, draw, 1, 1])
        base[:, draw, 1, 1] -= moved
        base[:, draw, 1, 2] += moved
    better = base.copy()
    better[..., 0, 0] += better[..., 0, 1]
    better[..., 0, 1] = 0
    draws = (range(4), range(4))
    paired = statistics.compare(better, base, metrics.ua, draws=draws)
    apart = statistics.compare(better, base, metrics.ua)
    assert paired.high - paired.low < 0.5 * (apart.high - apart.low)


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

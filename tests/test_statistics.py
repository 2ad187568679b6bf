"""Intervals that cover, tests that hold their level, oracles, and cases without an answer."""

import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import statsmodels.api as sm
from scipy import linalg, stats
from scipy.special import expit, logit

from multimodal_ser.errors import SerError
from multimodal_ser.evaluation import metrics, statistics
from multimodal_ser.evaluation.statistics import clusters

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import coverage

from made_counts import speakers, two_class

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
    sums = two_class(right, said)
    share = clusters.cluster_weights(sums, metrics.wa)
    value, without = metrics.wa(sums.sum(0)).mean(-1), clusters.left_out(sums, metrics.wa)
    assert clusters.cr2_variance(value, without, share) == pytest.approx(variance)
    assert clusters.degrees_of_freedom(share) == pytest.approx(df)
    found = statistics.estimate(sums, metrics.wa)
    assert found.effective == pytest.approx(total**2 / (said**2).sum())
    assert found.variance > variance  # these speakers differ, and the largest says nearly half
    assert found.df < df


@pytest.mark.parametrize("between", [0.0, 0.4, 1.0])
def test_clusters_that_differ_have_the_moments_of_the_quadratic_form(between):
    """Imbens & Kolesár's working model by matrices: V = e' C e with e = B z, var(z) = diag(a)."""
    w = np.array([0.35, 0.25, 0.2, 0.12, 0.08])
    a = between * w**2 / (w**2).sum() + (1 - between) * w
    residual = np.eye(5) - np.outer(w, np.ones(5))
    form = residual.T @ np.diag(1 / (1 - w)) @ residual @ np.diag(a)
    mean, df = clusters.moments(w, np.array(between))
    assert mean == pytest.approx(np.trace(form))
    assert df == pytest.approx(np.trace(form) ** 2 / np.trace(form @ form))
    equal = clusters.moments(np.full(7, 1 / 7), np.array(between))
    assert equal == pytest.approx((1, 6))


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


def test_many_utterances_as_clusters_take_no_table_of_all_pairs():
    truth = np.arange(7442) % 6
    said = np.where(np.arange(7442) % 5, truth, (truth + 1) % 6)
    sums = metrics.grouped_confusion(truth, said, np.arange(7442), classes=6, groups_total=7442)
    tracemalloc.start()
    interval = statistics.clustered_interval(sums[:, None], metrics.ua)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 7442 * 7442  # bytes
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


def test_effective_speakers_are_few_if_few_speak():
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


def test_a_perfect_score_has_an_interval():
    interval = statistics.clustered_interval(two_class([12] * 5, [12] * 5), metrics.wa)
    assert interval.high == 1
    assert 0.85 < interval.low < 0.98  # three in sixty is the rule of three's 95 %
    none = statistics.clustered_interval(two_class([0] * 5, [12] * 5), metrics.wa)
    assert (none.low, none.high) == (0, pytest.approx(1 - interval.low))


def kappa(matrix):
    """Cohen's kappa of counts [..., C, C]: 0 at chance, below it for worse."""
    shares = np.asarray(matrix, float) / np.sum(matrix, (-2, -1))[..., None, None]
    chance = (shares.sum(-1) * shares.sum(-2)).sum(-1)
    return (np.trace(shares, axis1=-2, axis2=-1) - chance) / (1 - chance)


def test_a_score_that_can_be_negative_has_an_interval_around_it():
    rng = np.random.default_rng(0)
    of_chance = rng.multinomial(20, np.full(9, 1 / 9), size=(8, 1)).reshape(8, 1, 3, 3)
    worse = of_chance * (2 - np.eye(3))
    for counts, sign in ((of_chance, 0), (worse, -1)):
        found, value = statistics.clustered_interval(counts, kappa), kappa(counts.sum((0, 1)))
        assert found.low < value < found.high
        assert 0.1 < found.high - found.low < 0.5  # on the logit scale from 0 to 0.5, or unknown
        assert found.low < 0
        assert (found.high > 0) is (sign == 0)
    perfect = statistics.clustered_interval(np.tile(5 * np.eye(3), (5, 1, 1, 1)), kappa)
    assert perfect.high == 1
    assert 0.8 < perfect.low < 1


def test_chance_agreement_does_not_give_a_zero_interval():
    interval = statistics.clustered_interval(two_class([8, 8, 8], [10, 10, 10]), metrics.wa)
    assert interval.high - interval.low > 0.1
    found = statistics.compare(
        two_class([37] * 4, [40] * 4), two_class([36] * 4, [40] * 4), metrics.wa
    )
    assert found.low < 0.02 < 0.03 < found.high
    assert found.p == 0.125  # one more right answer each: the smallest p of four speakers

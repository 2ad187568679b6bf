"""Intervals that cover, tests that agree with their oracles, and cases without an answer."""

import time

import numpy as np
import pytest
from scipy import stats

from multimodal_ser import metrics, statistics
from multimodal_ser.errors import SerError


def speakers(rng, count, utterances=20, skill=0.7, spread=0.1, classes=3):
    """Confusion counts of made-up speakers, each with recalls of their own, [S, 1, C, C]."""
    recall = np.clip(rng.normal(skill, spread, size=(count, classes)), 0, 1)
    right = rng.binomial(utterances, recall)
    sums = np.zeros((count, 1, classes, classes))
    for name in range(classes):
        sums[:, 0, name, name] = right[:, name]
        sums[:, 0, name, (name + 1) % classes] = utterances - right[:, name]
    return sums


def test_interval_covers_the_true_score_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    covered = 0
    for seed in range(300):
        sums = speakers(rng, 30)
        interval = statistics.clustered_interval(sums, metrics.ua, resamples=300, seed=seed)
        covered += interval.low <= 0.7 <= interval.high
    assert 0.90 <= covered / 300 <= 0.98


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


def test_draws_are_whole_speakers_with_replacement():
    ones = np.ones((7, 1, 1))
    drawn = statistics.bootstrap(ones, lambda sums: np.asarray(sums)[..., 0], resamples=50)
    assert set(drawn) == {7.0}
    marked = np.arange(3.0).reshape(3, 1, 1)
    drawn = statistics.bootstrap(marked, lambda sums: np.asarray(sums)[..., 0], resamples=400)
    assert set(drawn) == set(np.arange(7.0))


def test_seeds_are_averaged_inside_each_resample():
    sums = np.concatenate([speakers(np.random.default_rng(seed), 8) for seed in (2, 3)], axis=1)
    both = statistics.bootstrap(sums, metrics.ua, resamples=50)
    each = [statistics.bootstrap(sums[:, [k]], metrics.ua, resamples=50) for k in (0, 1)]
    assert np.allclose(both, np.mean(each, axis=0))


def test_same_seed_same_interval():
    sums = speakers(np.random.default_rng(4), 9)
    one, again, other = (
        statistics.clustered_interval(sums, metrics.ua, seed=seed) for seed in (5, 5, 6)
    )
    assert one == again
    assert one != other


def test_many_utterances_as_clusters_stay_quick():
    truth = np.arange(7442) % 6
    sums = metrics.grouped_confusion(truth, truth, np.arange(7442), classes=6, groups_total=7442)
    start = time.perf_counter()
    statistics.clustered_interval(sums[:, None], metrics.ua, resamples=500)
    assert time.perf_counter() - start < 5


def test_one_cluster_gives_no_interval():
    sums = speakers(np.random.default_rng(5), 1)
    with pytest.raises(SerError, match="interval cannot be estimated"):
        statistics.clustered_interval(sums, metrics.ua)
    with pytest.raises(SerError, match="interval cannot be estimated"):
        statistics.compare(sums, sums, metrics.ua)


def test_sums_without_seeds_are_refused():
    with pytest.raises(SerError, match="clusters, seeds"):
        statistics.bootstrap(np.ones(3), metrics.ua)


def test_a_class_that_some_draws_lack_still_has_an_interval():
    sums = np.zeros((3, 1, 2, 2))
    sums[:, 0, 0, 0] = 4
    sums[2, 0, 1, 1] = 2
    low, high = statistics.percentile_interval(
        statistics.bootstrap(sums, metrics.recalls, resamples=200)
    )
    assert low.tolist() == high.tolist() == [1.0, 1.0]
    sums[2, 0, 1, 1] = 0
    low, _ = statistics.percentile_interval(
        statistics.bootstrap(sums, metrics.recalls, resamples=200)
    )
    assert np.isnan(low[1])


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
    assert back.p == result.p


def test_false_alarms_are_as_rare_as_the_level_says():
    rng = np.random.default_rng(8)
    alarms = sum(
        statistics.compare(speakers(rng, 30), speakers(rng, 30), metrics.ua, resamples=300).p < 0.05
        for _ in range(200)
    )
    assert alarms / 200 < 0.11


def test_comparison_needs_the_same_clusters():
    rng = np.random.default_rng(9)
    with pytest.raises(SerError, match="same clusters"):
        statistics.compare(speakers(rng, 4), speakers(rng, 5), metrics.ua)


def test_groups_of_other_speakers_are_drawn_by_themselves():
    rng = np.random.default_rng(10)
    women, men = speakers(rng, 25, skill=0.8), speakers(rng, 25, skill=0.6)
    result = statistics.compare_apart(women, men, metrics.ua)
    assert result.low > 0
    assert result.clusters == 50
    spread = [
        statistics.bootstrap(side, metrics.ua, seed=seed).std()
        for side, seed in ((women, 0), (men, 1))
    ]
    width = np.hypot(*spread) * 2 * 1.96  # variances of independent draws add up
    assert result.high - result.low == pytest.approx(width, rel=0.1)
    alike = statistics.compare_apart(women, women, metrics.ua)
    assert alike.low < 0 < alike.high  # the same numbers, yet other people


def test_a_group_of_one_speaker_cannot_be_compared():
    rng = np.random.default_rng(11)
    with pytest.raises(SerError, match="interval cannot be estimated"):
        statistics.compare_apart(speakers(rng, 5), speakers(rng, 1), metrics.ua)


@pytest.mark.parametrize(("b", "c"), [(5, 0), (12, 4), (4, 12), (7, 7), (300, 250), (0, 0)])
def test_mcnemar_equals_the_exact_binomial_test(b, c):
    first = [1] * b + [0] * c + [1, 0]
    second = [0] * b + [1] * c + [1, 0]
    result = statistics.mcnemar(first, second)
    expected = stats.binomtest(b, b + c).pvalue if b + c else 1.0
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

"""Scores of attributes and of distributions: oracles, intervals that cover, tests that hold."""

from itertools import product

import audmetric
import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon
from scipy.stats import entropy, pearsonr

from multimodal_ser.errors import SerError
from multimodal_ser.evaluation import agreement, statistics

NAMES = ("arousal", "valence")
SCORES = agreement.attribute_scores(NAMES)
CORPORA = 400
NOISE = 2.5 * np.sqrt(0.05 * 0.95 / CORPORA)


def test_attributes_equal_audmetric_scipy_and_the_formulas():
    draw = np.random.default_rng(0)
    truth = draw.random((60, 2))
    said = 0.4 * truth + 0.2 * draw.random((60, 2)) + 0.1
    sums = statistics.sums_of(agreement.attribute_terms(truth, said), draw.integers(5, size=60), 5)
    found = {name: float(score(sums.sum(0))) for name, score in SCORES.items()}
    for place, name in enumerate(NAMES):
        t, p = truth[:, place], said[:, place]
        both = ((t - t.mean()) * (p - p.mean())).mean()
        formula = 2 * both / (t.var() + p.var() + (t.mean() - p.mean()) ** 2)
        assert found[f"CCC {name}"] == pytest.approx(formula)
        assert found[f"CCC {name}"] == pytest.approx(audmetric.concordance_cc(t, p))
        assert found[f"r {name}"] == pytest.approx(pearsonr(t, p).statistic)
        assert found[f"RMSE {name}"] == pytest.approx(np.sqrt(((t - p) ** 2).mean()))
    assert found["CCC"] == pytest.approx(agreement.ccc(truth, said).mean())


def test_an_utterance_without_a_value_counts_only_for_its_other_attributes():
    truth = np.array([[0.1, 0.2], [0.5, np.nan], [0.9, 0.6], [0.3, 0.8]])
    said = np.array([[0.2, 0.3], [0.4, 0.0], [0.8, 0.5], [0.1, 0.9]])
    assert agreement.ccc(truth, said)[0] == pytest.approx(agreement.ccc(truth[:, :1], said[:, :1]))
    kept = [0, 2, 3]
    assert agreement.ccc(truth, said)[1] == pytest.approx(
        agreement.ccc(truth[kept, 1:], said[kept, 1:])[0]
    )


def test_a_constant_prediction_has_ccc_zero_and_no_correlation():
    scores = agreement.attribute_scores(["arousal"])
    # of most values the computed variance is not 0 but a rounding error, of either sign
    for rows, value in product((2, 3, 100, 1001), (0.1, 0.3, 0.5, 0.7, 1 / 3)):
        varied, fixed = np.linspace(0, 1, rows)[:, None], np.full((rows, 1), value)
        for truth, said in ((varied, fixed), (fixed, varied)):
            terms = agreement.attribute_terms(truth, said)
            sums = statistics.sums_of(terms, np.zeros(rows, int), 1)[0]
            assert scores["CCC arousal"](sums) == 0
            assert np.isnan(scores["r arousal"](sums))


@pytest.mark.parametrize("much", [1, 0.1, 0.001, 1e-5])
def test_how_much_predictions_vary_changes_no_interval_of_their_correlation(much):
    draw = np.random.default_rng(0)
    truth, groups = draw.random((240, 1)), np.repeat(np.arange(8), 30)
    varied = truth - 0.5 + 0.5 * draw.standard_normal((240, 1))
    terms = agreement.attribute_terms(truth, 0.5 + much * varied)
    sums = statistics.sums_of(terms, groups, 8)[:, None]
    ends = statistics.interval_ends(sums, agreement.attribute_scores(["arousal"])["r arousal"])
    assert np.array(ends) == pytest.approx([0.4522, 0.6439], abs=1e-4)


@pytest.mark.parametrize("spread", [0, 1])
def test_constant_and_perfect_predictions_have_finite_or_unknown_intervals(spread):
    truth, groups = np.random.default_rng(0).random((40, 1)), np.repeat(np.arange(4), 10)
    said = 0.5 + spread * (truth - 0.5)
    sums = statistics.sums_of(agreement.attribute_terms(truth, said), groups, 4)[:, None]
    for score in agreement.attribute_scores(["arousal"]).values():
        assert not np.isinf(statistics.interval_ends(sums, score)).any()


def test_a_share_of_one_in_six_is_not_more_than_one_in_six():
    votes = np.full((1, 6), np.round(1 / 6, 7))  # as predictions.csv has it: 0.1666667
    terms = agreement.distribution_terms(votes, np.full((1, 6), 1 / 6))
    assert not terms[0, 3:].any()


def test_distributions_equal_scipy():
    draw = np.random.default_rng(1)
    votes, said = draw.dirichlet(np.ones(4), 30), draw.dirichlet(np.ones(4), 30)
    votes[:10] = np.eye(4)[draw.integers(4, size=10)]  # all raters agree
    sums = statistics.sums_of(agreement.distribution_terms(votes, said), np.zeros(30, int), 1)[0]
    found = {name: float(score(sums)) for name, score in agreement.DISTRIBUTION_SCORES.items()}
    each = [jensenshannon(q, p, base=2) for q, p in zip(votes, said, strict=True)]
    assert found["JS"] == pytest.approx(np.mean(each))
    assert found["KL"] == pytest.approx(entropy(votes, said, axis=1).mean())
    top = said.argsort(1)[:, -2:]
    assert found["top-2"] == np.mean(
        [q in two for q, two in zip(votes.argmax(1), top, strict=True)]
    )


def test_the_macro_f1_of_emo_superb_counts_every_class_above_one_over_c():
    votes = np.array([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]])
    said = np.array([[0.9, 0.05, 0.05], [0.4, 0.2, 0.4]])
    sums = statistics.sums_of(agreement.distribution_terms(votes, said), [0, 0], 1)[0]
    # anger 2 of 2; the second class missed once; the third said once too often
    assert agreement.DISTRIBUTION_SCORES["multi-F1"](sums) == pytest.approx(1 / 3)


def test_rows_that_do_not_pair_up_are_refused():
    with pytest.raises(SerError, match="do not pair up"):
        agreement.attribute_terms(np.zeros((3, 2)), np.zeros((2, 2)))


def made(corpora, speakers, rows, draw, *, systems=1):
    """Sums [corpora, speakers, 1, D, D] per system: speakers differ in level and in how well."""
    level = draw.normal(0, 0.05, (corpora, speakers, 1, 1))
    truth = np.clip(0.5 + level + draw.normal(0, 0.15, (corpora, speakers, rows, 2)), 0, 1)
    shown = 0.2 + 0.6 * truth + draw.normal(0, 0.04, (corpora, speakers, 1, 2))
    found = []
    for _ in range(systems):
        noise = draw.normal(0, 0.1, truth.shape) + draw.normal(0, 0.03, (corpora, speakers, 1, 2))
        flat = (one.reshape(-1, 2) for one in (truth, shown + noise))
        terms = agreement.attribute_terms(*flat).reshape(corpora, speakers, rows, -1)
        z = np.concatenate([np.ones((*terms.shape[:3], 1)), terms], -1)
        found.append(np.einsum("csni,csnj->csij", z, z)[:, :, None])
    return found


@pytest.mark.parametrize("speakers", [5, 12])
def test_intervals_of_attributes_cover_and_equal_systems_rarely_differ(speakers):
    draw = np.random.default_rng(speakers)
    (world,) = made(1, 4000, 20, draw)
    one, other = made(CORPORA, speakers, 20, draw, systems=2)
    for name in ("CCC", "CCC valence", "r arousal", "RMSE valence"):
        low, high = statistics.interval_ends(one, SCORES[name])
        true = SCORES[name](world.sum(1))[0, 0]
        covered = ((low <= true) & (true <= high)).mean()
        assert 0.93 - NOISE < covered < 0.98 + NOISE, (name, covered)
        p = statistics.paired(one, other, SCORES[name])[3]
        assert (p < 0.05).mean() < 0.06 + NOISE, name


@pytest.mark.parametrize("speakers", [5, 12])
def test_systems_equally_close_to_the_votes_rarely_differ(speakers):
    draw = np.random.default_rng(speakers)
    shape = (CORPORA, speakers, 20, 4)
    votes = draw.dirichlet(np.ones(4), shape[:3])
    found = []
    for _ in range(2):
        # every system errs in its own way with every speaker, and with every utterance
        own = draw.normal(0, 0.5, (CORPORA, speakers, 1, 4)) + draw.normal(0, 0.7, shape)
        said = (votes + 0.05) * np.exp(own)
        said /= said.sum(-1, keepdims=True)
        terms = agreement.distribution_terms(votes.reshape(-1, 4), said.reshape(-1, 4))
        z = np.concatenate([np.ones((len(terms), 1)), terms], 1).reshape(*shape[:3], -1)
        found.append(np.einsum("csni,csnj->csij", z, z)[:, :, None])
    for name, score in agreement.DISTRIBUTION_SCORES.items():
        p = statistics.paired(*found, score)[3]
        assert (p < 0.05).mean() < 0.05 + NOISE, name


def test_a_better_system_is_told_from_a_worse_one_by_the_same_tests():
    draw = np.random.default_rng(3)
    truth = draw.random((360, 2))
    groups = np.repeat(np.arange(12), 30)
    good, bad = (
        statistics.sums_of(
            agreement.attribute_terms(truth, truth + draw.normal(0, noise, truth.shape)), groups, 12
        )[:, None]
        for noise in (0.1, 0.3)
    )
    found = statistics.compare(good, bad, SCORES["CCC"])
    assert found.difference > 0.1
    assert found.low > 0
    assert found.p < 0.01
    assert statistics.compare(good, good, SCORES["CCC"]).p == 1
    interval = statistics.clustered_interval(good, SCORES["CCC"])
    assert interval.low < SCORES["CCC"](good.sum(0)).mean() < interval.high < 1
    assert interval.effective == pytest.approx(12)

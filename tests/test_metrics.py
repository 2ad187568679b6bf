"""Scores against scikit-learn and audmetric, and what happens where a class is missing."""

import audmetric
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as oracle

from multimodal_ser.errors import SerError
from multimodal_ser.evaluation import metrics

CLASSES = 4


@st.composite
def answers(draw):
    size = draw(st.integers(1, 40))
    ids = st.lists(st.integers(0, CLASSES - 1), min_size=size, max_size=size)
    return np.array(draw(ids)), np.array(draw(ids))


@given(answers())
@settings(deadline=None, max_examples=60)
@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
@pytest.mark.filterwarnings("ignore:A single label was found")
def test_scores_equal_scikit_learn(pair):
    truth, predicted = pair
    matrix = metrics.confusion(truth, predicted, CLASSES)
    assert np.array_equal(matrix, oracle.confusion_matrix(truth, predicted, labels=range(CLASSES)))
    weighted = oracle.f1_score(truth, predicted, average="weighted", zero_division=0)
    macro = oracle.f1_score(truth, predicted, average="macro", zero_division=0)
    assert metrics.ua(matrix) == pytest.approx(oracle.balanced_accuracy_score(truth, predicted))
    assert metrics.wa(matrix) == pytest.approx(oracle.accuracy_score(truth, predicted))
    assert metrics.wf1(matrix) == pytest.approx(weighted)
    assert metrics.macro_f1(matrix) == pytest.approx(macro)


def test_scores_equal_audmetric_where_every_class_occurs():
    rng = np.random.default_rng(0)
    truth = np.concatenate([np.arange(CLASSES), rng.integers(CLASSES, size=200)])
    predicted = np.where(rng.random(204) < 0.6, truth, rng.integers(CLASSES, size=204))
    matrix = metrics.confusion(truth, predicted, CLASSES)
    assert metrics.ua(matrix) == pytest.approx(
        audmetric.unweighted_average_recall(truth, predicted)
    )
    assert metrics.wa(matrix) == pytest.approx(audmetric.accuracy(truth, predicted))
    assert metrics.macro_f1(matrix) == pytest.approx(
        audmetric.unweighted_average_fscore(truth, predicted)
    )
    by_class = audmetric.recall_per_class(truth, predicted, labels=list(range(CLASSES)))
    assert metrics.recalls(matrix).tolist() == pytest.approx(list(by_class.values()))


def test_a_missing_class_shifts_no_other():
    truth, predicted = [0, 2, 2, 3], [0, 2, 3, 3]
    recalls = metrics.recalls(metrics.confusion(truth, predicted, CLASSES))
    assert np.isnan(recalls[1])
    assert recalls[[0, 2, 3]].tolist() == [1.0, 0.5, 1.0]


def test_a_class_that_is_only_predicted_counts_in_macro_f1_but_not_in_ua():
    matrix = metrics.confusion([0, 0, 1, 1], [0, 0, 1, 2], 3)
    assert metrics.ua(matrix) == pytest.approx(0.75)
    assert metrics.macro_f1(matrix) == pytest.approx((1 + 2 / 3 + 0) / 3)


@pytest.mark.parametrize("name", metrics.METRICS)
def test_a_batch_of_matrices_scores_like_its_members(name):
    metric = metrics.METRICS[name]
    batch = np.random.default_rng(1).integers(0, 9, size=(5, 3, CLASSES, CLASSES))
    single = [[float(metric(matrix)) for matrix in row] for row in batch]
    assert np.allclose(metric(batch), single)


@pytest.mark.parametrize("name", metrics.METRICS)
def test_no_rows_give_no_score(name):
    assert np.isnan(metrics.METRICS[name](metrics.confusion([], [], CLASSES)))


def test_groups_add_up_to_the_whole():
    rng = np.random.default_rng(2)
    truth, predicted, groups = (rng.integers(high, size=50) for high in (CLASSES, CLASSES, 6))
    planes = metrics.grouped_confusion(truth, predicted, groups, classes=CLASSES, groups_total=7)
    assert planes.shape == (7, CLASSES, CLASSES)
    assert np.array_equal(planes.sum(0), metrics.confusion(truth, predicted, CLASSES))
    assert planes[6].sum() == 0


@pytest.mark.parametrize(
    ("truth", "predicted"), [([0, 4], [0, 0]), ([0, -1], [0, 0]), ([0], [0, 1]), ([0.5], [0])]
)
def test_ids_that_do_not_fit_are_refused(truth, predicted):
    with pytest.raises(SerError):
        metrics.confusion(truth, predicted, CLASSES)


def test_ece_by_hand():
    probabilities = [[0.95, 0.05], [0.93, 0.07], [0.45, 0.55], [0.42, 0.58]]
    # bin (0.9, 1]: sure 0.94, right 0.5; bin (0.5, 0.6]: sure 0.565, right 1
    assert metrics.ece(probabilities, [0, 1, 1, 1], bins=10) == pytest.approx(
        0.5 * 0.44 + 0.5 * 0.435
    )


def test_ece_is_small_for_a_calibrated_and_large_for_an_overconfident_model():
    rng = np.random.default_rng(3)
    top = rng.uniform(0.5, 1, size=20_000)
    truth = (rng.random(20_000) > top).astype(int)
    assert metrics.ece(np.stack([top, 1 - top], axis=1), truth) < 0.02
    assert metrics.ece(np.eye(2)[np.zeros(20_000, dtype=int)], truth) == pytest.approx(truth.mean())


def test_reliability_counts_every_row_once_and_bins_are_closed_above():
    curve = metrics.reliability([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]], [0, 0, 0], bins=2)
    assert curve.count.tolist() == [1, 2]
    assert curve.accuracy.tolist() == [1.0, 0.5]
    with pytest.raises(SerError, match="pair"):
        metrics.reliability([[1.0, 0.0]], [0, 0])

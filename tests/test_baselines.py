"""The baselines give exactly the predictions of scikit-learn's own models."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression
from sklearn.svm import SVC

from made_features import DIMS, made_examples
from multimodal_ser.config.settings import TrainConfig
from multimodal_ser.dataset.examples import Examples, Modality
from multimodal_ser.models.fusion import Dims
from multimodal_ser.training.baselines import (
    BASELINES,
    GAMMAS,
    STRENGTHS,
    fit_baseline,
    pooled_inputs,
)
from multimodal_ser.training.kernel import fit_kernel_ridge
from multimodal_ser.training.loop import predict
from multimodal_ser.training.regressors import fit_regressor

SCHEDULE = TrainConfig(refit=False)
every_baseline = pytest.mark.parametrize("name", BASELINES)


def made_parts(classes, count=84, skill=0.6, **how):
    """Training, validation and test rows of the same hard task."""
    examples = made_examples(count, classes, skill=skill, **how)
    third = count // 3
    return [examples.take(range(n, n + third)) for n in (0, third, 2 * third)]


def dims(classes):
    return Dims(DIMS["text"], DIMS["audio"], classes)


def refit(name, fitted, train):
    """Scikit-learn's own model with the strength that was chosen."""
    best = max(fitted.history, key=lambda row: (row["validation_ua"], -row["validation_loss"]))
    settings = {"C": best["strength"], "class_weight": "balanced"}
    if name == "linear":
        own = LogisticRegression(**settings, max_iter=2000)
    else:
        gamma = best["gamma"] / pooled_inputs(fitted.model.pooled, train).shape[1]
        own = SVC(**settings, gamma=gamma, break_ties=True)
    return own.fit(pooled_inputs(fitted.model.pooled, train), train.label.numpy())


@pytest.mark.parametrize("classes", [2, 3, 7])
@every_baseline
def test_predictions_and_decisions_are_scikit_learns_own(name, classes):
    train, validation, test = made_parts(classes, no_text=(1, 60), no_audio=(2, 61))
    fitted = fit_baseline(name, dims(classes), train, validation, SCHEDULE)
    own, given = refit(name, fitted, train), pooled_inputs(fitted.model.pooled, test)
    logits = predict(fitted.model, test).numpy()
    decisions = own.decision_function(given)
    if classes == 2:  # scikit-learn tells one number for two classes
        if name == "linear":
            np.testing.assert_allclose(logits[:, 1] - logits[:, 0], decisions, atol=1e-3)
        else:
            assert ((logits[:, 1] > logits[:, 0]) == (decisions > 0)).all()
            torch.testing.assert_close(
                torch.tensor(decisions).argsort(),
                torch.from_numpy(logits[:, 1] - logits[:, 0]).argsort(),
            )
    else:
        scale = float(fitted.model.temperature) if name == "svm" else 1.0
        np.testing.assert_allclose(logits / scale, decisions, atol=1e-3)
    np.testing.assert_array_equal(logits.argmax(1), own.predict(given))
    assert len(set(logits.argmax(1))) > 1
    if name == "linear":
        shares = torch.from_numpy(logits).softmax(1).numpy()
        np.testing.assert_allclose(shares, own.predict_proba(given), atol=1e-4)


@pytest.mark.parametrize("missing", [0, 2, 6])
@every_baseline
def test_a_class_missing_from_training_is_never_predicted_and_shifts_no_name(name, missing):
    train, validation, test = made_parts(7, 252, skill=3.0)
    train = train.take(np.flatnonzero(train.label.numpy() != missing))
    fitted = fit_baseline(name, dims(7), train, validation, SCHEDULE)
    logits = predict(fitted.model, test)
    assert not (logits.argmax(1) == missing).any()
    assert logits.softmax(1)[:, missing].max() < 1e-9
    others = test.label != missing
    assert (logits.argmax(1) == test.label)[others].float().mean() > 0.95


@every_baseline
def test_two_trained_classes_of_seven_keep_their_columns(name):
    train, validation, test = made_parts(7, 252, skill=3.0)
    train = train.take(np.flatnonzero(np.isin(train.label.numpy(), (2, 5))))
    fitted = fit_baseline(name, dims(7), train, validation, SCHEDULE)
    logits = predict(fitted.model, test)
    assert set(logits.argmax(1).tolist()) == {2, 5}
    rows = np.isin(test.label.numpy(), (2, 5))
    assert logits.argmax(1)[rows].equal(test.label[rows])


@every_baseline
def test_the_strength_is_the_best_of_those_tried_on_validation(name):
    train, validation, _ = made_parts(3)
    fitted = fit_baseline(name, dims(3), train, validation, SCHEDULE)
    tried = [(row["strength"], row.get("gamma")) for row in fitted.history]
    assert sorted(tried) == sorted((c, gamma) for c in STRENGTHS[name] for gamma in GAMMAS[name])
    hits = (predict(fitted.model, validation).argmax(1) == validation.label).double()
    ua = np.mean([hits[validation.label == c].mean() for c in range(3)])
    assert ua == pytest.approx(max(row["validation_ua"] for row in fitted.history))


@every_baseline
def test_class_weights_can_be_left_out(name):
    train, validation, test = made_parts(3, 360)
    train = train.take([n for n in range(len(train)) if n % 3 == 0 or n % 5 == 0])
    shares = {
        weighted: predict(
            fit_baseline(
                name, dims(3), train, validation, TrainConfig(class_weights=weighted, refit=False)
            ).model,
            test,
        ).argmax(1)
        for weighted in (True, False)
    }
    assert (shares[False] == 0).sum() > (shares[True] == 0).sum()


@every_baseline
def test_masks_and_missing_modalities(name):
    train, validation, test = made_parts(3, no_text=(1, 60), no_audio=(2, 61))
    model = fit_baseline(name, dims(3), train, validation, SCHEDULE).model
    text, text_mask, audio, audio_mask, _ = next(test.batches(len(test)))
    with torch.inference_mode():
        before = model(text, text_mask, audio, audio_mask)
        garbage = torch.where(audio_mask[..., None], audio, 100.0)
        torch.testing.assert_close(model(text, text_mask, garbage, audio_mask), before)
        no_words = model(torch.randn_like(text), text_mask & False, audio, audio_mask)
    assert no_words.logits.isfinite().all()
    assert not no_words.embedding[:, : DIMS["text"]].any()  # the mean of training


@every_baseline
def test_one_modality_is_enough(name):
    train, validation, test = made_parts(3, skill=3.0)
    one = [
        type(part)(part.ids, type(part.text).absent(len(part)), part.audio, part.label)
        for part in (train, validation, test)
    ]
    fitted = fit_baseline(name, Dims(0, DIMS["audio"], 3), one[0], one[1], SCHEDULE)
    assert (predict(fitted.model, one[2]).argmax(1) == test.label).float().mean() > 0.9


@every_baseline
def test_a_feature_that_was_constant_in_training_cannot_take_over(name):
    train, validation, test = made_parts(3, skill=3.0)
    for part in (train, validation, test):
        part.audio.tokens[..., 0] = 1000.1 * part.audio.mask
    model = fit_baseline(name, dims(3), train, validation, SCHEDULE).model
    test.audio.tokens[..., 0] += 5.0 * test.audio.mask
    assert (predict(model, test).argmax(1) == test.label).float().mean() > 0.9


@pytest.mark.parametrize(
    ("fit", "task"),
    [
        *((partial(fit_baseline, name), "classes") for name in BASELINES),
        (fit_kernel_ridge, "classes"),
        (partial(fit_regressor, "svr"), "attributes"),
    ],
)
def test_constant_features_change_nothing(fit, task):
    """As with scikit-learn's gamma="scale", which they would make smaller if they counted."""
    found = []
    for constant in (0, 40):
        parts = made_parts(3)
        for place, part in enumerate(parts):
            tokens = F.pad(part.audio.tokens, (0, constant), value=7.0) * part.audio.mask[..., None]
            made = replace(part, audio=Modality(tokens, part.audio.mask))
            if task == "attributes":
                made = replace(made, target=F.one_hot(part.label, 3).float())
            parts[place] = made
        wide = Dims(DIMS["text"], DIMS["audio"] + constant, 3)
        found.append(predict(fit(wide, parts[0], parts[1], SCHEDULE).model, parts[2]))
    torch.testing.assert_close(found[1], found[0], rtol=1e-4, atol=1e-4)


@every_baseline
def test_features_in_tiny_units_are_read_like_others(name):
    logits = []
    for unit in (1.0, 1e-6, 1e6):
        train, validation, test = made_parts(3)
        for part in (train, validation, test):
            part.audio.tokens[..., ::2] *= unit
        logits.append(predict(fit_baseline(name, dims(3), train, validation, SCHEDULE).model, test))
    for other in logits[1:]:
        torch.testing.assert_close(other, logits[0], rtol=1e-3, atol=1e-3)


@every_baseline
def test_refitting_equals_scikit_learn_on_both_parts_and_validation_scores_are_from_before(name):
    train, validation, test = made_parts(3)
    before = fit_baseline(name, dims(3), train, validation, SCHEDULE)
    after = fit_baseline(name, dims(3), train, validation, TrainConfig())
    assert before.validation is not None
    torch.testing.assert_close(after.validation, predict(before.model, validation))
    both = Examples.joined([train, validation])
    if name == "svm":  # it has seen the validation part, which calibrated the one before it
        assert float(after.model.temperature) == float(before.model.temperature) != 1
    own = refit(name, after, both)
    given = pooled_inputs(after.model.pooled, test)
    np.testing.assert_array_equal(predict(after.model, test).argmax(1), own.predict(given))
    of_before = refit(name, before, train).decision_function(
        pooled_inputs(before.model.pooled, test)
    )
    assert not np.allclose(own.decision_function(given), of_before, atol=1e-3)


@every_baseline
def test_one_modality_alone_can_be_read(name):
    train, validation, test = made_parts(3, skill=3.0)
    model = fit_baseline(name, dims(3), train, validation, SCHEDULE, modalities=["text"]).model
    text, text_mask, audio, audio_mask, _ = next(test.batches(len(test)))
    with torch.inference_mode():
        heard = model(text, text_mask, audio, audio_mask).logits
        torch.testing.assert_close(model(text, text_mask, -audio, audio_mask).logits, heard)
        assert not torch.allclose(model(-text, text_mask, audio, audio_mask).logits, heard)


def test_an_svm_of_very_many_rows_is_announced(monkeypatch, caplog):
    train, validation, _ = made_parts(3)
    monkeypatch.setattr("multimodal_ser.training.baselines._MOST_PRECOMPUTED", len(train))
    fit_baseline("svm", dims(3), train, validation, SCHEDULE)
    assert not caplog.text
    monkeypatch.setattr("multimodal_ser.training.baselines._MOST_PRECOMPUTED", len(train) - 1)
    fit_baseline("svm", dims(3), train, validation, SCHEDULE)
    assert f"{len(train)} rows may take hours" in caplog.text
    assert "--baselines linear" in caplog.text

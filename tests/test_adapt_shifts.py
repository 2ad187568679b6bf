"""Two artificial shifts: coral must remove one, dann a part of the other."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from multimodal_ser.config.settings import AdaptConfig, ModelConfig, TrainConfig
from multimodal_ser.dataset.examples import Examples, Modality
from multimodal_ser.models.adapters import recolouring
from multimodal_ser.models.fusion import MODELS, Dims, Ensemble
from multimodal_ser.training.alignment import AlignmentTarget
from multimodal_ser.training.loop import fit, predict

CLASSES, SEEDS = 4, (0, 1)
NETWORK = ModelConfig(members=1, input_dropout=0.0)


def spurious(draw, count, target):
    """16 features that tell the class alike, and 16 that tell it better, in the source alone."""
    label = np.arange(count) % CLASSES
    structure = np.random.default_rng(0)
    real, false = (structure.normal(size=(CLASSES, 16)) for _ in range(2))
    real, false = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (real, false))
    means = np.hstack([2.2 * real[label], np.where(target, 0.0, 4.4) * false[label]])
    return means + draw.normal(size=means.shape), label


def correlated(draw, count, target):
    """Features with a strong noise along one direction: another in the target."""
    label = np.arange(count) % CLASSES
    basis = np.linalg.qr(np.random.default_rng(0).normal(size=(24, 24)))[0]
    noise = np.array([[0, 0, 1, -1, 0, 2], [1, -1, 0, 0, 2, 0]][not target]) @ basis[:6]
    noise = 8 * draw.normal(size=(count, 1)) * noise / np.linalg.norm(noise)
    return 3.5 * basis[label] + noise + draw.normal(size=(count, 24)), label


def made(shift, seed):
    """Training and validation part of the source, the target without labels, its test part."""
    draw = np.random.default_rng(seed)
    parts = [(1000, False), (250, False), (1000, True), (1000, True)]
    return [examples(*shift(draw, count, target)) for count, target in parts]


def examples(x, label):
    """Rows [N, D] as one token of sound each."""
    tokens = torch.from_numpy(x.astype("f4"))[:, None]
    sound = Modality(tokens, torch.ones(len(x), 1, dtype=torch.bool))
    ids = tuple(map(str, range(len(x))))
    return Examples(ids, Modality.absent(len(x)), sound, torch.from_numpy(label))


def right(shift, method, seed, *, standardize=True, steps):
    """Share of the target's test part that an adapted network has right."""
    train, validation, target, test = made(shift, seed)
    torch.manual_seed(seed)
    model = Ensemble(MODELS["audio"], Dims(0, train.audio.dim, CLASSES), NETWORK)
    schedule = TrainConfig(epochs=1, least_steps=steps, refit=False)
    adaptation = AlignmentTarget(AdaptConfig(method, None, standardize), target.unlabelled())
    fitted = fit(model, train, validation, schedule, seed, adaptation=adaptation)
    return (predict(fitted.model, test).argmax(1) == test.label).float().mean().item()


@pytest.mark.slow
def test_dann_partly_removes_a_feature_that_predicts_the_class_in_the_source_only():
    """A part: a plain multilayer perceptron trained by DANN alone gets further on such a shift."""
    plain = [right(spurious, "none", seed, steps=300) for seed in SEEDS]
    adapted = [right(spurious, "dann", seed, standardize=False, steps=300) for seed in SEEDS]
    assert np.mean(plain) < 0.65
    assert np.mean(adapted) > np.mean(plain) + 0.05


def test_coral_reaches_what_its_closed_form_reaches_with_logistic_regression():
    bars, reached = [], []
    for seed in SEEDS:
        train, _, target, test = (one.audio.tokens[:, 0] for one in made(correlated, seed))
        mine, other = ((x - x.mean(0)) / x.std(0) for x in (train, target))
        asked = (test - target.mean(0)) / target.std(0)
        label = np.arange(1000) % CLASSES
        for learnt, found in ((mine, bars), (mine @ recolouring(mine, other), reached)):
            found.append(LogisticRegression(max_iter=1000).fit(learnt, label).score(asked, label))
    assert np.mean(bars) < 0.79
    ours = [right(correlated, "coral", seed, steps=300) for seed in SEEDS]
    assert np.mean(ours) >= 0.85
    assert np.mean(ours) > np.mean(reached) - 0.02


def test_only_directions_of_very_different_variance_are_recoloured():
    draw = torch.Generator().manual_seed(0)
    source, target = (torch.randn(1000, 20, generator=draw) for _ in range(2))
    assert recolouring(source, 1.3 * target).allclose(torch.eye(20), atol=1e-4)
    assert recolouring(source[:99], 8 * target).equal(torch.eye(20))  # too few rows to tell
    target[:, 3] *= 8
    source[:, 5] *= 8
    found = (source @ recolouring(source, target)).std(0)
    torch.testing.assert_close(found, target.std(0), rtol=0.15, atol=0)

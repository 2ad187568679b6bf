"""`stacked`: experts of every kind, and weights that the validation part sets."""

import numpy as np
import pytest
import torch
from sklearn.kernel_ridge import KernelRidge as Reference

from made_features import DIMS, made_examples
from multimodal_ser.config.settings import ModelConfig, TrainConfig
from multimodal_ser.models.fusion import Dims
from multimodal_ser.runs.model_file import build_model
from multimodal_ser.training import kernel
from multimodal_ser.training.baselines import Setting, pooled_inputs
from multimodal_ser.training.kernel import fit_kernel_ridge
from multimodal_ser.training.loop import predict, ua_of
from multimodal_ser.training.stacking import STACKED, Stacked, experts_of, fit_stacked, pool_weights

NETWORK = ModelConfig(members=1, hidden_dim=8, num_heads=2)
SCHEDULE = TrainConfig(epochs=4, batch_size=8, least_steps=40)
BOTH = Dims(DIMS["text"], DIMS["audio"], 3)


def fitted(dims=BOTH, skill=2.0, **how):
    examples = made_examples(96, 3, skill=skill, **how)
    train, validation, test = (examples.take(range(n, n + 32)) for n in (0, 32, 64))
    return fit_stacked(dims, train, validation, NETWORK, SCHEDULE, 0), validation, test


def test_every_modality_has_a_network_a_linear_and_a_kernel_expert_and_so_have_both_together():
    names = {"cross_attention", "text", "audio"}
    for kind in ("linear", "kernel"):
        names |= {f"{kind}_text_audio", f"{kind}_text", f"{kind}_audio"}
    assert set(experts_of(BOTH)) == names
    assert set(experts_of(Dims(0, 8, 3))) == {"audio", "linear_audio", "kernel_audio"}


def test_the_logits_are_the_weighed_log_probabilities_of_the_experts():
    result, _, test = fitted()
    model = result.model
    batch = next(test.batches(len(test)))[:4]
    with torch.inference_mode():
        logs = [expert(*batch).logits.log_softmax(1) for expert in model.experts.values()]
        expected = sum(w * log for w, log in zip(model.weights, logs, strict=True))
        output = model(*batch)
    torch.testing.assert_close(output.logits, expected)
    assert output.embedding.shape == (32, NETWORK.hidden_dim)
    assert [row["expert"] for row in result.history] == list(model.experts)
    torch.testing.assert_close(
        torch.tensor([row["weight"] for row in result.history]), model.weights
    )
    assert (model.weights >= 0).all()
    assert ua_of(predict(model, test), test) > 0.8


def test_validation_scores_are_of_experts_not_trained_on_it():
    result, validation, _ = fitted()
    assert result.validation.shape == (32, 3)
    assert not torch.allclose(result.validation, predict(result.model, validation), atol=1e-3)


def test_it_is_rebuilt_from_its_state_alone():
    result, _, test = fitted()
    state = result.model.state_dict()
    again = build_model(STACKED, BOTH, NETWORK, state)
    assert isinstance(again, Stacked)
    again.load_state_dict(state)
    torch.testing.assert_close(predict(again, test), predict(result.model, test))


def test_one_modality_alone_is_enough_and_a_missing_one_is_no_failure():
    result, _, test = fitted(no_text=(1, 40, 70), no_audio=(2, 41, 71))
    assert predict(result.model, test).isfinite().all()
    audio, _, test = fitted(Dims(0, DIMS["audio"], 3))
    assert audio.model.modalities == ("audio",)
    assert ua_of(predict(audio.model, test), test) > 0.5


@pytest.mark.parametrize("rows", [30, 600])
def test_the_better_expert_gets_more_weight_with_more_evidence(rows):
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(3, (rows,), generator=generator)
    good = 3.0 * torch.nn.functional.one_hot(labels, 3) + torch.randn(rows, 3, generator=generator)
    noise = 3.0 * torch.randn(rows, 3, generator=generator)
    logs, prior = torch.stack([good, noise]).log_softmax(2), torch.tensor([0.2, 0.8])
    weights = pool_weights(logs, labels, prior, torch.ones(3))
    alone = pool_weights(logs[:, :3], labels[:3], prior, torch.ones(3))
    assert alone[0] < weights[0]
    assert weights[0] > weights[1]
    assert weights[1] < (0.2 if rows == 600 else 0.8)


def test_experts_with_different_errors_are_better_together():
    generator = np.random.default_rng(0)
    labels = torch.from_numpy(generator.integers(4, size=4000))
    truth = torch.nn.functional.one_hot(labels, 4).float()
    logs = torch.stack(
        [
            (1.2 * truth + torch.from_numpy(generator.normal(size=(4000, 4))).float()).log_softmax(
                1
            )
            for _ in range(3)
        ]
    )
    weights = pool_weights(logs[:, :1000], labels[:1000], torch.full((3,), 1 / 3), torch.ones(4))
    pooled = torch.einsum("e,enc->nc", weights, logs[:, 1000:])
    alone = [(one[1000:].argmax(1) == labels[1000:]).float().mean() for one in logs]
    assert (pooled.argmax(1) == labels[1000:]).float().mean() > max(alone) + 0.05


def ridge(train, monkeypatch, **how):
    """The kernel expert and scikit-learn's, with one setting; logits without the temperature."""
    monkeypatch.setattr(kernel, "_SETTINGS", [Setting(3.0, 0.5)])
    schedule = TrainConfig(refit=False, **how)
    model = fit_kernel_ridge(BOTH, train, train, schedule).model
    x, label = pooled_inputs(model.pooled, train), train.label.numpy()
    counts = np.bincount(label, minlength=3)
    weight = 1 / counts[label] if schedule.class_weights else np.ones(len(label))
    reference = Reference(alpha=1 / 3.0, kernel="rbf", gamma=0.5 / x.shape[1])
    targets = np.eye(3)[label] - 1 / 3
    reference.fit(x.astype(float), targets, sample_weight=weight / weight.mean())
    return predict(model, train).numpy() / float(model.temperature), reference.predict(x)


@pytest.mark.parametrize("weighted", [True, False])
def test_the_kernel_expert_is_scikit_learns_kernel_ridge(monkeypatch, weighted):
    train = made_examples(90, 3, skill=1.0)
    found, expected = ridge(
        train.take([*range(40), *range(60, 90)]), monkeypatch, class_weights=weighted
    )
    np.testing.assert_allclose(found, expected, atol=2e-3)


def test_of_many_rows_evenly_spaced_vectors_carry_nearly_the_same_solution(monkeypatch):
    train = made_examples(400, 3, skill=1.0)
    monkeypatch.setattr(kernel, "_MOST_ROWS", 300)
    monkeypatch.setattr(kernel, "_VECTORS", 200)
    found, expected = ridge(train, monkeypatch)
    assert (found.argmax(1) == expected.argmax(1)).mean() > 0.93


def test_a_class_that_was_not_trained_on_is_never_predicted_by_the_kernel_expert():
    examples = made_examples(60, 3, skill=0.0)
    train = examples.take(np.flatnonzero(examples.label.numpy() != 1).tolist())
    model = fit_kernel_ridge(BOTH, train, train, TrainConfig()).model
    assert predict(model, examples).softmax(1)[:, 1].max() < 1e-9


def test_a_saved_stack_of_other_experts_says_that_it_is_of_another_version():
    model = fitted()[0].model
    other = {name.replace("kernel", "svm"): one for name, one in model.state_dict().items()}
    with pytest.raises(RuntimeError, match="kernel_text"):
        build_model(STACKED, BOTH, NETWORK, other).load_state_dict(other)

"""`stacked`: experts of every kind, and weights that the validation part sets."""

import numpy as np
import pytest
import torch

from made_features import DIMS, made_examples
from multimodal_ser.config.settings import ModelConfig, TrainConfig
from multimodal_ser.models.fusion import Dims
from multimodal_ser.runs.model_file import build_model
from multimodal_ser.training.loop import predict, ua_of
from multimodal_ser.training.stacking import STACKED, Stacked, experts_of, fit_stacked, pool_weights

NETWORK = ModelConfig(members=1, hidden_dim=8, num_heads=2)
SCHEDULE = TrainConfig(epochs=4, batch_size=8, least_steps=40)
BOTH = Dims(DIMS["text"], DIMS["audio"], 3)


def fitted(dims=BOTH, skill=2.0, **how):
    examples = made_examples(96, 3, skill=skill, **how)
    train, validation, test = (examples.take(range(n, n + 32)) for n in (0, 32, 64))
    return fit_stacked(dims, train, validation, NETWORK, SCHEDULE, 0), validation, test


def test_every_modality_has_a_network_and_both_baselines_and_so_have_both_together():
    names = {"cross_attention", "text", "audio"}
    for kind in ("linear", "svm"):
        names |= {f"{kind}_text_audio", f"{kind}_text", f"{kind}_audio"}
    assert set(experts_of(BOTH)) == names
    assert set(experts_of(Dims(0, 8, 3))) == {"audio", "linear_audio", "svm_audio"}


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
    right = (pooled.argmax(1) == labels[1000:]).float().mean()
    alone = [(one[1000:].argmax(1) == labels[1000:]).float().mean() for one in logs]
    assert right > max(alone) + 0.05

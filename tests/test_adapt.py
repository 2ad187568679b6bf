"""ADAPTERS compared with their papers' formulas and skada, and their effect in training."""

import math
import warnings
from dataclasses import fields, replace

import numpy as np
import pytest
import sklearn
import torch

from made_features import DIMS, made_examples
from multimodal_ser.config.settings import AdaptConfig, ModelConfig, TrainConfig
from multimodal_ser.dataset.examples import Unlabelled
from multimodal_ser.errors import SerError
from multimodal_ser.models.adapters import ADAPTERS, BANDWIDTHS, coral, mmd, ramp, reverse_gradient
from multimodal_ser.models.fusion import MODELS, Dims, Ensemble
from multimodal_ser.models.layers import Output
from multimodal_ser.training.alignment import Alignment, AlignmentTarget, aligned
from multimodal_ser.training.loop import fit, predict

ALIGNING = [name for name, kind in ADAPTERS.items() if kind.aligns]
NETWORK = ModelConfig(members=2, hidden_dim=8, num_heads=2)
SCHEDULE = TrainConfig(epochs=3, batch_size=8, least_steps=1)


def sample(seed, rows=20, dim=5, shift=0.0):
    draw = torch.Generator().manual_seed(seed)
    return shift + (1 + shift) * torch.randn(rows, dim, generator=draw, dtype=torch.float64)


@pytest.fixture(scope="module")
def losses():
    # skada changes scikit-learn's settings for the whole process when it is imported
    with warnings.catch_warnings(), sklearn.config_context():
        warnings.simplefilter("ignore")
        return pytest.importorskip("skada.deep.losses")


def test_coral_is_the_papers_formula():
    source, target = sample(0), sample(1, rows=13, shift=0.7)
    difference = np.cov(source.numpy().T) - np.cov(target.numpy().T)
    expected = np.linalg.norm(difference) ** 2 / (4 * 5**2)
    assert coral(source, target).item() == pytest.approx(expected, rel=1e-12)


def test_coral_is_skadas(losses):
    source, target = sample(0), sample(1, rows=13, shift=0.7)
    torch.testing.assert_close(coral(source, target), losses.deepcoral_loss(source, target))


def test_mmd_is_the_papers_formula():
    source, target = sample(0).numpy(), sample(1, rows=13, shift=0.7).numpy()
    both = np.vstack([source, target])
    squared = ((both[:, None] - both[None]) ** 2).sum(2)
    mean = squared[~np.eye(33, dtype=bool)].mean()
    kernel = np.mean([np.exp(-squared / (factor * mean)) for factor in BANDWIDTHS], 0)
    expected = kernel[:20, :20].mean() + kernel[20:, 20:].mean() - 2 * kernel[:20, 20:].mean()
    given = mmd(torch.from_numpy(source), torch.from_numpy(target)).item()
    assert given == pytest.approx(expected, rel=1e-9)


def test_mmd_is_skadas(losses, monkeypatch):
    """skada sums its kernels and leaves the square of the distance out; ours is the paper's."""
    source, target = sample(0).float(), sample(1, rows=13, shift=0.7).float()
    widths = [0.5, 2.0, 30.0]
    ours = mmd(source, target, torch.tensor(widths))
    distance = torch.cdist
    monkeypatch.setattr(torch, "cdist", lambda x, y: distance(x, y).square())
    torch.testing.assert_close(
        ours, losses.dan_loss(source, target, sigmas=widths) / 3, rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize("function", [coral, mmd])
def test_equal_samples_are_at_no_distance_and_others_are(function):
    source = sample(0)
    assert function(source, source).item() == pytest.approx(0, abs=1e-12)
    assert function(source, source[torch.randperm(20)]).item() == pytest.approx(0, abs=1e-12)
    near, far = (function(source, sample(1, shift=shift)).item() for shift in (0.1, 2.0))
    assert 0 < near < far


def test_the_reversed_gradient_comes_back_negative():
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    y = reverse_gradient(x, 0.25)
    assert y.equal(x)
    (3 * y).sum().backward()
    assert x.grad.tolist() == [-0.75, -0.75]


def test_the_ramp_begins_at_zero():
    values = [ramp(p / 10) for p in range(11)]
    assert values == sorted(values)
    assert values[0] == 0
    assert values[-1] == pytest.approx(1, abs=1e-4)
    assert values[5] == pytest.approx(2 / (1 + math.exp(-5)) - 1)


def test_dann_makes_its_domain_classifier_fail():
    """A step on the embedding raises the domain loss; a step on the classifier lowers it."""
    torch.manual_seed(0)
    adapter = ADAPTERS["dann"](5).double()
    source, target = (x.requires_grad_() for x in (sample(0), sample(1, shift=0.5)))
    loss = adapter(source, target, 1.0)
    loss.backward()
    with torch.no_grad():
        apart = [x - 0.1 * x.grad for x in (source, target)]
        assert adapter(*apart, 1.0) > loss
        for parameter in adapter.parameters():
            parameter -= 0.01 * parameter.grad
        assert adapter(source, target, 1.0) < loss


def test_dann_leaves_the_network_alone_at_first():
    source = sample(0).requires_grad_()
    adapter = ADAPTERS["dann"](5).double()
    adapter(source, sample(1), 0.0).backward()
    assert not source.grad.any()
    assert all(parameter.grad is not None for parameter in adapter.parameters())


@pytest.mark.parametrize("name", ALIGNING)
def test_gradient_reaches_source_and_target(name):
    source, target = (x.requires_grad_() for x in (sample(0), sample(1, rows=13, shift=0.5)))
    loss = ADAPTERS[name](5).double()(source, target, 0.5)
    assert loss.shape == ()
    loss.backward()
    assert source.grad.abs().sum() > 0
    assert target.grad.abs().sum() > 0


@pytest.mark.parametrize("name", sorted(ADAPTERS.keys() - set(ALIGNING)))
def test_methods_without_alignment_have_no_loss(name):
    assert ADAPTERS[name](5)(sample(0), sample(1, shift=2.0), 1.0).item() == 0


def network(seed=0, name="cross_attention", config=NETWORK):
    torch.manual_seed(seed)
    return Ensemble(MODELS[name], Dims(DIMS["text"], DIMS["audio"], 3), config)


def adapted(method="coral", *, target=None, weight=None, standardize=True, seed=0, epochs=3):
    examples = made_examples(48)
    target = made_examples(40, skill=1.0, seed=5) if target is None else target
    adaptation = AlignmentTarget(AdaptConfig(method, weight, standardize), target.unlabelled())
    parts = examples.take(range(32)), examples.take(range(32, 48))
    schedule = replace(SCHEDULE, epochs=epochs, patience=epochs)
    return fit(network(seed), *parts, schedule, seed, adaptation=adaptation).model


def weights(model):
    state = model.state_dict()
    return {key: state[key] for key in state if not key.startswith(("standardize", "temperature"))}


def same(first, second):
    first, second = weights(first), weights(second)
    return all(first[key].equal(second[key]) for key in first)


def test_the_target_contains_no_labels():
    assert {field.name for field in fields(Unlabelled)} == {"text", "audio"}
    examples = made_examples(12)
    (batch,) = (next(examples.unlabelled().stream(12, torch.Generator())),)
    assert [part.shape[0] for part in batch] == [12] * 4
    assert all(part.shape != examples.label.shape for part in batch)


def made_alignment(model, name):
    adaptation = AlignmentTarget(AdaptConfig(name), made_examples(40, seed=5).unlabelled())
    return Alignment(model, adaptation, made_examples(40), 8, seed=0)


@pytest.mark.parametrize("name", ALIGNING)
def test_the_network_gets_a_gradient_from_the_target(name):
    """The original ran it under no_grad: its alignment then moved one side at most."""
    model = network()
    fixed = Output(torch.randn(2, 8, 3), torch.randn(2, 8, 8))
    made_alignment(model, name).loss(fixed, 0.5).backward()
    for member in model.members:
        assert member.classify.linear.weight.grad.abs().sum() > 0
        for project in member.project.values():
            assert project[0].weight.grad.abs().sum() > 0


@pytest.mark.parametrize("name", ALIGNING)
def test_the_network_gets_a_gradient_from_the_source(name):
    source = Output(torch.randn(2, 8, 3, requires_grad=True), torch.randn(2, 8, 8))
    made_alignment(network(), name).loss(source, 0.5).backward()
    assert all(one.abs().sum() > 0 for one in source.logits.grad)


@pytest.mark.parametrize("name", ALIGNING)
def test_training_backpropagates_through_source_and_target(name, monkeypatch):
    sent = {"source": [], "target": []}

    def watched(output, side):
        assert output.logits.requires_grad, f"the {side}'s pass is cut off"
        vectors = aligned(output)
        vectors.register_hook(sent[side].append)
        width = output.embedding.shape[2]
        return Output(vectors[..., width:], vectors[..., :width])

    class Watched(Alignment):
        def target(self):
            found = super().target()
            return watched(found, "target") if torch.is_grad_enabled() else found

        def loss(self, source, progress):
            return super().loss(watched(source, "source"), max(progress, 0.1))

    monkeypatch.setattr("multimodal_ser.training.loop.Alignment", Watched)
    adapted(name)
    for gradients in sent.values():
        assert len(gradients) >= 6
        assert all(one.abs().sum() > 0 for gradient in gradients for one in gradient)


@pytest.mark.parametrize("name", ALIGNING)
def test_the_weight_changes_the_network(name):
    first, again, other = (adapted(name, weight=weight) for weight in (0.5, 0.5, 5.0))
    assert same(first, again)
    assert not same(first, other)


def test_every_method_gives_another_network_but_those_without_a_loss():
    models = {name: adapted(name) for name in ADAPTERS}
    assert same(models["none"], models["standardize"])
    names = ["none", *ALIGNING]
    for place, name in enumerate(names):
        assert not any(same(models[name], models[other]) for other in names[place + 1 :])


@pytest.mark.parametrize(
    ("method", "standardize", "whose"),
    [
        ("none", True, "source"),
        ("standardize", False, "target"),
        ("mmd", True, "target"),
        ("mmd", False, "source"),
    ],
)
def test_the_model_stores_the_input_statistics_for_predictions(method, standardize, whose):
    target = made_examples(40, skill=1.0, seed=5)
    model = adapted(method, target=target, standardize=standardize)
    # Without an alignment, a network is refitted on training and validation part together.
    source = made_examples(48).take(range(32 if method == "mmd" else 48))
    side = target.audio if whose == "target" else source.audio
    mean = torch.from_numpy(side.pooled()).mean(0)
    torch.testing.assert_close(model.standardize["audio"].mean, mean, rtol=1e-4, atol=1e-4)
    assert predict(model, target).isfinite().all()


def test_standardising_undoes_another_gain_and_offset():
    """A target that is the source on another scale is answered as the source is."""
    examples, moved = made_examples(48), made_examples(48)
    for side in (moved.text, moved.audio):
        side.tokens[:] = torch.where(side.mask[..., None], 7 * side.tokens + 30, 0)
    plain, own = (
        adapted(method, target=moved.take(range(32)), epochs=8)
        for method in ("none", "standardize")
    )
    answers = [
        predict(model, given).argmax(1)
        for model, given in ((plain, examples), (own, moved), (plain, moved))
    ]
    assert (answers[0] == answers[1]).float().mean() > 0.95
    assert (answers[0] == answers[2]).float().mean() < 0.7


def test_every_member_has_an_adapter_of_its_own_that_learns():
    model = network()
    alignment = made_alignment(model, "dann")
    assert len(alignment.adapters) == len(model.members)
    first, second = (adapter.domain[0].weight for adapter in alignment.adapters)
    assert not first.equal(second)
    made = []

    class Kept(Alignment):
        def __init__(self, *given):
            super().__init__(*given)
            made.append((self, [p.detach().clone() for p in self.adapters.parameters()]))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("multimodal_ser.training.loop.Alignment", Kept)
        adapted("dann")
    ((kept, before),) = made  # once: the validation part picks nothing that a refit could use
    assert all(not p.equal(q) for p, q in zip(kept.adapters.parameters(), before, strict=True))


def test_the_stream_passes_over_all_rows_before_any_comes_again():
    examples = made_examples(10)
    stream = examples.unlabelled().stream(4, torch.Generator().manual_seed(0))
    seen = torch.cat([next(stream)[2][:, 0, 0] for _ in range(5)])
    first, second = seen[:10].sort().values, seen[10:].sort().values
    assert first.equal(second)
    assert first.equal(examples.audio.tokens[:, 0, 0].sort().values)
    assert len(next(made_examples(3).unlabelled().stream(8, torch.Generator()))[0]) == 8


def test_a_last_batch_of_one_row_is_not_aligned():
    examples = made_examples(33 + 8)
    adaptation = AlignmentTarget(AdaptConfig("coral"), made_examples(40, seed=5).unlabelled())
    parts = examples.take(range(33)), examples.take(range(33, 41))
    result = fit(network(), *parts, SCHEDULE, 0, adaptation=adaptation)
    assert all(p.isfinite().all() for p in result.model.parameters())


def test_an_unknown_method_or_weight_says_what_is_allowed():
    with pytest.raises(SerError, match=r"unknown adaptation 'deep'.*none, standardize, dann"):
        adapted("deep")
    with pytest.raises(SerError, match=r"weight.*-1"):
        AdaptConfig(weight=-1)

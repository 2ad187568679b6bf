"""Every network: masks, missing sides, gradients, learning, and its saved state."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from made_features import DIMS, made_examples
from multimodal_ser.config.settings import ModelConfig, TrainConfig
from multimodal_ser.dataset.examples import Examples, Modality
from multimodal_ser.models.fusion import MODELS, Dims, Ensemble, Standardize
from multimodal_ser.training.baselines import fit_baseline
from multimodal_ser.training.loop import fit, predict, ua_of

CONFIG = ModelConfig(
    members=2, hidden_dim=16, num_heads=2, dropout=0.0, input_dropout=0.0, modality_dropout=0.0
)
CLASSES = 3
SIDES = {"text": (0, 1), "audio": (2, 3)}  # where a batch holds tokens and mask

every_model = pytest.mark.parametrize("name", MODELS)
every_side = pytest.mark.parametrize("side", SIDES)


def made_model(name, examples, classes=CLASSES, **changes):
    torch.manual_seed(0)
    dims = Dims(DIMS["text"], DIMS["audio"], classes)
    model = Ensemble(MODELS[name], dims, replace(CONFIG, **changes))
    model.fit_inputs(examples)
    for parameter in model.parameters():  # nothing stays at zero: every path is live
        parameter.data += 0.1 * torch.randn_like(parameter)
    return model.eval()


def ask(model, batch):
    with torch.inference_mode():
        return model(*batch[:4])


def inputs(examples):
    return list(next(examples.batches(len(examples)))[:4])


@every_model
def test_the_content_of_padding_changes_nothing(name):
    examples = made_examples()
    model, batch = made_model(name, examples), inputs(examples)
    before = ask(model, batch)
    for tokens, mask in SIDES.values():
        garbage = 100 * torch.randn_like(batch[tokens])
        batch[tokens] = torch.where(batch[mask][..., None], batch[tokens], garbage)
        batch[tokens] = F.pad(batch[tokens], (0, 0, 0, 3), value=7.0)
        batch[mask] = F.pad(batch[mask], (0, 3), value=False)
    torch.testing.assert_close(ask(model, batch), before, rtol=1e-4, atol=1e-5)


@every_model
def test_padding_does_not_enter_the_input_statistics(name):
    examples = made_examples()
    garbage = torch.where(examples.audio.mask[..., None], examples.audio.tokens, 100.0)
    padded = replace(examples, audio=replace(examples.audio, tokens=garbage))
    first, second = (made_model(name, one).state_dict() for one in (examples, padded))
    torch.testing.assert_close(first, second)


@every_side
@every_model
def test_predictions_do_not_depend_on_a_hidden_modality(name, side):
    examples = made_examples()
    model, batch = made_model(name, examples), inputs(examples)
    whole = ask(model, batch)
    tokens, mask = SIDES[side]
    batch[mask] = torch.zeros_like(batch[mask])
    before = ask(model, batch)
    assert before.logits.isfinite().all()
    assert (before.logits - whole.logits).abs().max() > 0.01 or side not in model.modalities
    batch[tokens] = torch.randn_like(batch[tokens])
    torch.testing.assert_close(ask(model, batch), before)
    batch[tokens], batch[mask] = batch[tokens][:, :0], batch[mask][:, :0]  # no token at all
    torch.testing.assert_close(ask(model, batch), before, rtol=1e-4, atol=1e-5)


@every_model
def test_eight_rows_can_be_memorised(name):
    examples = made_examples(8, skill=0.0)  # nothing to see but the rows themselves
    model, batch = made_model(name, examples), inputs(examples)
    optimizer = torch.optim.AdamW(model.parameters(), 0.01)
    for _ in range(60):
        logits = model.train().each(*batch).logits
        loss = sum(F.cross_entropy(own, examples.label) for own in logits)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert ask(model.eval(), batch).logits.argmax(1).equal(examples.label)


def without_effect(name, tokens):
    """A softmax over one token chooses nothing."""
    return tokens == 1 and name.endswith("score.weight")


@pytest.mark.parametrize("tokens", [1, 5])
@every_model
def test_the_gradient_reaches_every_parameter(name, tokens):
    examples = made_examples(tokens=tokens)
    model, batch = made_model(name, examples, num_layers=2), inputs(examples)
    loss = sum(F.cross_entropy(own, examples.label) for own in model.each(*batch).logits)
    loss.backward()
    dead = [
        key
        for key, parameter in model.named_parameters()
        if parameter.grad is None or parameter.grad.abs().max() < 1e-6
    ]
    assert [key for key in dead if not without_effect(key, tokens)] == []


def test_queries_and_keys_of_cross_attention_get_a_gradient_with_one_token_per_modality():
    """The original's cross-attention over pooled vectors had a softmax over a single key."""
    examples = made_examples(tokens=1)
    model, batch = made_model("cross_attention", examples), inputs(examples)
    before = ask(model, batch).logits
    with torch.no_grad():
        for member in model.members:
            for block in (*member.text_from_audio, *member.audio_from_text):
                block.attention.in_proj_weight[:16].mul_(-3)  # the queries'
    assert (ask(model, batch).logits - before).abs().max() > 1e-3


@every_model
def test_a_loaded_model_predicts_as_the_saved_one(name):
    examples = made_examples()
    model = made_model(name, examples)
    other = Ensemble(MODELS[name], Dims(DIMS["text"], DIMS["audio"], CLASSES), CONFIG).eval()
    batch = inputs(examples)
    assert not ask(other, batch).logits.equal(ask(model, batch).logits)
    other.load_state_dict(model.state_dict())
    assert ask(other, batch).logits.equal(ask(model, batch).logits)


@every_model
def test_a_batch_equals_its_single_rows(name):
    examples = made_examples(10, no_text=(3,), no_audio=(6,))
    model = made_model(name, examples)
    whole = ask(model, inputs(examples))
    for row in range(10):
        alone = ask(model, inputs(examples.take([row])))
        torch.testing.assert_close(alone.logits[0], whole.logits[row], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(alone.embedding[0], whole.embedding[row], rtol=1e-4, atol=1e-5)


@every_model
def test_logits_are_the_logarithm_of_the_mean_probability(name):
    examples = made_examples()
    model, batch = made_model(name, examples), inputs(examples)
    with torch.inference_mode():
        mean = model.each(*batch).logits.softmax(2).mean(0)
    output = ask(model, batch)
    torch.testing.assert_close(output.logits.exp(), mean)
    torch.testing.assert_close(output.logits.exp().sum(1), torch.ones(24))
    assert output.embedding.shape == (24, 2 * 16)
    model.temperature.fill_(2.0)
    torch.testing.assert_close(ask(model, batch).logits, 2 * output.logits)


@every_model
def test_members_are_not_copies_of_each_other(name):
    examples = made_examples()
    with torch.inference_mode():
        first, second = made_model(name, examples).each(*inputs(examples)).logits
    assert not torch.allclose(first, second, atol=0.01)


@every_side
def test_a_model_of_one_modality_does_not_read_the_other(side):
    examples = made_examples()
    model, batch = made_model(side, examples), inputs(examples)
    before = ask(model, batch).logits
    other = SIDES["audio" if side == "text" else "text"][0]
    batch[other] = torch.randn_like(batch[other])
    assert ask(model, batch).logits.equal(before)


def seen_by_members(model):
    """What each member is given, batch by batch: text, its mask, audio, its mask."""
    seen = [[] for _ in model.members]
    for member, mine in zip(model.members, seen, strict=True):
        member.register_forward_pre_hook(lambda _, given, mine=mine: mine.append(given))
    return seen


@pytest.mark.parametrize("chance", [0.1, 0.9])
def test_modality_dropout_never_hides_both_modalities(chance):
    examples = made_examples(24, no_text=(3,), no_audio=(6,))
    model = made_model("concat", examples, modality_dropout=chance).train()
    seen = seen_by_members(model)
    batch = [tensor.repeat(100, *[1] * (tensor.ndim - 1)) for tensor in inputs(examples)]
    model.each(*batch)
    (_, text, _, audio), (_, other, *_) = seen[0][0], seen[1][0]
    assert not text.equal(other)  # members draw for themselves
    _, text_mask, _, audio_mask = batch
    assert (text.any(1) | audio.any(1)).all()
    assert not (text & ~text_mask).any()
    both = text_mask.any(1) & audio_mask.any(1)
    for mine in (text, audio):
        share = 1 - mine.any(1)[both].float().mean().item()
        assert share == pytest.approx(chance / 2, abs=0.05)


@every_model
def test_what_is_hidden_is_hidden_from_every_path(name):
    examples = made_examples(24)
    model = made_model(name, examples, modality_dropout=0.9).train()
    if len(model.modalities) == 1:
        return
    seen = seen_by_members(model)[0]
    logits = []
    for more in (0, 3):
        torch.manual_seed(0)
        text, *rest = inputs(examples)
        logits.append(model.each(text + more * torch.randn(text.shape[2]), *rest).logits)
        assert seen[0][1].equal(seen[-1][1])
    hidden = ~seen[0][1].any(1)
    assert 0 < hidden.sum() < hidden.numel()
    assert (logits[0][0] == logits[1][0]).all(1).equal(hidden)


def test_features_are_hidden_from_all_tokens_of_an_item_and_their_mean_stays():
    examples = made_examples(24, tokens=5)
    model = made_model("concat", examples, input_dropout=0.25).train()
    seen = seen_by_members(model)[0]
    for _ in range(400):
        model.each(*inputs(examples))
    whole = model.eval().each(*inputs(examples)) and seen[-1][2]
    first = seen[0][2]
    hidden = (first == 0).all(1)
    assert ((first == 0) == hidden[:, None]).logical_or(whole == 0).all()
    share = model.hide.share(first.shape[1])
    assert share == pytest.approx(0.25 / (1 + len(examples) / (3 * first.shape[1])))
    assert hidden.float().mean().item() == pytest.approx(share, abs=0.08)
    mean = torch.stack([given[2] for given in seen[:-1]]).mean(0)
    assert (mean - whole).abs().max() < 0.25 * whole.abs().max()


def test_nothing_is_hidden_from_predictions():
    examples = made_examples()
    batch = inputs(examples)
    hiding, plain = (made_model("concat", examples, modality_dropout=c) for c in (0.9, 0.0))
    assert ask(hiding, batch).logits.equal(ask(plain, batch).logits)


def test_means_and_departures_from_them_are_standardised_apart():
    examples = made_examples(200, tokens=5)
    tokens, mask = examples.audio.tokens, examples.audio.mask
    standardize = Standardize(DIMS["audio"])
    standardize.fit(tokens, mask)
    means = torch.stack([row[m].mean(0) for row, m in zip(tokens, mask, strict=True)])
    torch.testing.assert_close(standardize.mean, means.mean(0))
    torch.testing.assert_close(means.std(0, correction=0) * standardize.scale, torch.ones(8))
    departures = (tokens - means[:, None])[mask]
    spread = departures.square().mean(0).sqrt()
    torch.testing.assert_close(spread * standardize.within_scale, torch.ones(8))
    made = standardize(tokens, mask)
    assert not made[~mask].any()
    of_made = torch.stack([row[m].mean(0) for row, m in zip(made, mask, strict=True)])
    expected = (means - standardize.mean) * standardize.scale
    torch.testing.assert_close(of_made, expected, rtol=1e-3, atol=1e-4)


@every_model
def test_a_feature_that_was_constant_in_training_cannot_take_over(name):
    examples = made_examples()
    for side in (examples.text, examples.audio):
        side.tokens[..., 0] = 1000.1 * side.mask
    model, batch = made_model(name, examples), inputs(examples)
    before = ask(model, batch).logits
    for tokens, mask in SIDES.values():
        batch[tokens][..., 0] += 5 * batch[mask]
    assert ask(model, batch).logits.argmax(1).equal(before.argmax(1))


def meeting(count, keys=6, words=4):
    """Labels that only the meeting of one word with one sound decides, among distractors.

    One word bears a key and a bit; every sound bears another key and a bit. The label is the
    exclusive-or of the word's bit and that of the sound with its key.
    """
    random = torch.Generator().manual_seed(0)
    key = torch.randint(keys, (count,), generator=random)
    bit = torch.randint(2, (count,), generator=random)
    bits = torch.randint(2, (count, keys), generator=random)
    text = 0.2 * torch.randn(count, words, keys + 1, generator=random)
    audio = 0.2 * torch.randn(count, keys, keys + 1, generator=random)
    rows, place = torch.arange(count), torch.randint(words, (count,), generator=random)
    text[rows, place, key] += 1.5
    text[rows, place, keys] += 1.5 * (2 * bit - 1)
    audio += 1.5 * torch.eye(keys, keys + 1)
    audio[..., keys] += 1.5 * (2 * bits - 1)
    sides = [Modality(x, torch.ones(x.shape[:2], dtype=torch.bool)) for x in (text, audio)]
    return Examples(tuple(map(str, range(count))), *sides, bit ^ bits[rows, key])


@pytest.mark.slow
def test_attention_finds_coinciding_words_and_sounds_where_pooling_cannot():
    examples = meeting(3000)
    parts = [examples.take(range(*ends)) for ends in ((0, 2100), (2100, 2400), (2400, 3000))]
    scores = {}
    for name in ("cross_attention", "concat"):
        torch.manual_seed(0)
        model = Ensemble(MODELS[name], Dims(7, 7, 2), ModelConfig(members=1))
        fit(model, *parts[:2], TrainConfig(refit=False, least_steps=400), 0)
        scores[name] = ua_of(predict(model, parts[2]), parts[2])
    linear = fit_baseline("linear", Dims(7, 7, 2), *parts[:2], TrainConfig()).model
    scores["linear"] = ua_of(predict(linear, parts[2]), parts[2])
    assert scores["cross_attention"] > 0.9
    assert scores["concat"] < 0.7
    assert scores["linear"] < 0.6


def test_a_learned_sum_of_layers_finds_the_informative_layer():
    torch.manual_seed(0)
    label = torch.arange(60) % 2
    tokens = torch.randn(60, 2, 3, 4)
    tokens[:, :, 1] += 1.5 * (2 * label - 1)[:, None, None]  # the second of three layers tells
    side = Modality(tokens.flatten(2) * 5 + 1, torch.ones(60, 2, dtype=torch.bool))
    examples = Examples(tuple(map(str, range(60))), Modality.absent(60), side, label)
    config = ModelConfig(members=2, hidden_dim=8, num_heads=2, layer_sum=True, linear_path=False)
    model = Ensemble(MODELS["audio"], Dims(0, 12, 2, audio_layers=3), config)
    assert model.layer_weights() == {"audio": [0.3333, 0.3333, 0.3333]}
    schedule = TrainConfig(epochs=3, batch_size=20, least_steps=60, refit=False)
    weights = fit(model, examples, examples, schedule, 0).model.layer_weights()["audio"]
    assert sum(weights) == pytest.approx(1, abs=1e-3)
    assert weights[1] == max(weights) > 0.35
    alone = Ensemble(MODELS["audio"], Dims(0, 12, 2, audio_layers=3), ModelConfig(members=1))
    assert alone.layer_weights() == {}

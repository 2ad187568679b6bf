"""fit(): class weights, schedule, early stopping, and the same seed giving the same weights."""

import inspect
import math

import numpy as np
import pytest
import torch
from torch import nn

from made_features import DIMS, made_examples
from multimodal_ser.config.settings import ModelConfig, TrainConfig
from multimodal_ser.models.fusion import MODELS, Dims, Ensemble
from multimodal_ser.training import loop
from multimodal_ser.training.loop import fit, predict, ua_of
from multimodal_ser.training.schedule import (
    BestEpoch,
    EarlyStopping,
    WeightAverage,
    class_weights,
    rate,
)

NETWORK = ModelConfig(members=2, hidden_dim=16, num_heads=2)
SCHEDULE = TrainConfig(epochs=4, batch_size=8, least_steps=1)


def fitted(seed=0, examples=None, schedule=SCHEDULE, name="cross_attention", classes=3):
    examples = made_examples(48, classes) if examples is None else examples
    torch.manual_seed(seed)
    model = Ensemble(MODELS[name], Dims(DIMS["text"], DIMS["audio"], classes), NETWORK)
    return fit(model, examples.take(range(32)), examples.take(range(32, 48)), schedule, seed)


def same(first, second):
    states = first.model.state_dict(), second.model.state_dict()
    assert states[0].keys() == states[1].keys()
    return all(states[0][key].equal(states[1][key]) for key in states[0])


def test_the_same_seed_gives_the_same_weights_and_another_does_not():
    first = fitted()
    torch.rand(7)  # whatever was drawn before
    again = fitted()
    assert same(first, again)
    assert first.history == again.history
    assert not same(first, fitted(seed=1))


def test_the_seed_also_orders_the_data():
    examples = made_examples(48)
    results = []
    for seed in (0, 1):
        torch.manual_seed(0)  # the same initial weights
        model = Ensemble(MODELS["text"], Dims(6, 8, 3), ModelConfig(
            members=1, hidden_dim=16, num_heads=2, dropout=0.0, input_dropout=0.0
        ))  # fmt: skip
        results.append(fit(model, examples, examples, SCHEDULE, seed))
    assert not same(*results)


def test_fit_learns_what_there_is_to_learn():
    examples = made_examples(48, skill=3.0)
    result = fitted(examples=examples, schedule=TrainConfig(epochs=30, batch_size=8, least_steps=1))
    held_out = examples.take(range(32, 48))
    assert ua_of(predict(result.model, held_out), held_out) > 0.9
    assert not result.model.training
    assert result.history[0].keys() == {"epoch", "train_loss", "validation_ua", "validation_loss"}


def test_fit_gets_no_test_part():
    given = set(inspect.signature(fit).parameters)
    plain = {"model", "train", "validation", "config", "seed"}
    assert given == plain | {"adaptation", "groups"}  # an adaptation's target has no labels


def test_validation_labels_do_not_touch_the_weights_of_an_epoch():
    """They choose the epoch and the temperature; with one epoch there is nothing to choose."""
    examples = made_examples(48)
    one = TrainConfig(epochs=1, batch_size=8, least_steps=1, refit=False)
    first = fitted(examples=examples, schedule=one).model.state_dict()
    examples.label[32:] = examples.label[32:].flip(0)
    second = fitted(examples=examples, schedule=one).model.state_dict()
    assert all(first[key].equal(second[key]) for key in first if key != "temperature")


def test_the_temperature_never_changes_the_most_probable_class():
    examples = made_examples(48, skill=0.5)
    result = fitted(examples=examples)
    logits = predict(result.model, examples)
    assert result.model.temperature != 1.0
    result.model.temperature.fill_(1.0)
    plain = predict(result.model, examples)
    assert logits.argmax(1).equal(plain.argmax(1))
    validation = slice(32, 48)
    losses = [
        nn.functional.cross_entropy(given[validation], examples.label[validation])
        for given in (logits, plain)
    ]
    assert losses[0] < losses[1]


def test_class_weights_are_inverse_frequencies_with_mean_one():
    weights = class_weights(torch.tensor([0, 0, 0, 1]), 2, True)
    torch.testing.assert_close(weights, torch.tensor([0.5, 1.5]))
    assert class_weights(torch.tensor([0, 0, 0, 1]), 2, False).tolist() == [1, 1]


def test_groups_drawn_equally_often_weigh_by_what_is_drawn():
    labels, groups = torch.tensor([0, 0, 0, 0, 1, 1]), torch.tensor([0, 0, 0, 0, 1, 1])
    assert class_weights(labels, 2, True, groups).tolist() == [1, 1]
    # a tenth and four fifths of two groups that are drawn equally often
    labels = torch.tensor([0] * 90 + [1] * 10 + [0] * 10 + [1] * 40)
    groups = torch.tensor([0] * 100 + [1] * 50)
    drawn = torch.tensor([0.9 + 0.2, 0.1 + 0.8])
    for told in (labels, nn.functional.one_hot(labels, 2).float()):
        weights = class_weights(told, 2, True, groups)
        torch.testing.assert_close(weights, 2 * (1 / drawn) / (1 / drawn).sum())


@pytest.mark.parametrize(("rows", "steps", "epochs"), [(32, 40, 10), (32, 9, 4), (5, 40, 40)])
def test_a_small_training_part_is_passed_over_more_often(rows, steps, epochs):
    examples = made_examples(48)
    schedule = TrainConfig(epochs=4, batch_size=8, patience=4, least_steps=steps)
    model = Ensemble(
        MODELS["text"], Dims(6, 8, 3), ModelConfig(members=1, hidden_dim=8, num_heads=2)
    )
    result = fit(model, examples.take(range(rows)), examples.take(range(32, 48)), schedule, 0)
    assert len(result.history) == epochs


@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("missing", [0, 1, 3])
def test_class_weights_survive_a_missing_class(missing, weighted):
    labels = torch.tensor([n for n in (0, 1, 1, 2, 2, 2, 3) if n != missing])
    weights = class_weights(labels, 4, weighted)
    assert weights.isfinite().all()
    assert weights[missing] == 0
    present = [n for n in range(4) if n != missing]
    assert weights[present].mean() == pytest.approx(1.0)


@pytest.mark.parametrize("missing", [0, 3])
def test_fit_survives_a_class_that_only_the_test_part_has(missing):
    examples = made_examples(64, 4, skill=3.0)
    rows = [n for n in range(64) if examples.label[n] != missing]
    result = fitted(examples=examples.take(rows), classes=4)
    assert all(math.isfinite(row["train_loss"]) for row in result.history)
    logits = predict(result.model, examples)
    assert logits.isfinite().all()
    assert logits.shape == (64, 4)


def test_the_rate_warms_up_and_falls_to_zero():
    rates = [rate(step, 100) for step in range(100)]
    assert rates.index(max(rates)) in (9, 10)
    assert rates[:10] == sorted(rates[:10])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rate(100, 100) == pytest.approx(0)
    assert 0 < rate(0, 1) <= 1  # one step in all
    assert all(0 <= one <= 1 for one in rates)


class Marked(nn.Module):
    """A model that remembers its epoch."""

    def __init__(self, epoch):
        super().__init__()
        self.register_buffer("epoch", torch.tensor(epoch))


def stopped(uas, patience=3, count=100):
    """After which epoch it stops (None: never), and which epoch it kept."""
    stopping = EarlyStopping(patience, count)
    for epoch, ua in enumerate(uas):
        if stopping.stops_after(epoch, ua, Marked(epoch)):
            return epoch, int(stopping.state["epoch"])
    return None, int(stopping.state["epoch"])


def test_patience_counts_from_the_best_epoch():
    assert stopped([0.5, 0.6, 0.6, 0.6, 0.6, 0.9]) == (4, 4)
    assert stopped([0.5, 0.6, 0.7, 0.8]) == (None, 3)
    assert stopped([0.9, 0.1, 0.1, 0.1], patience=3) == (3, 0)


def test_the_last_epoch_within_one_standard_error_is_kept():
    # the error of 0.8 over 100 utterances is 0.04, over 10,000 it is 0.004
    assert stopped([0.5, 0.8, 0.77, 0.75], patience=9) == (None, 2)
    assert stopped([0.5, 0.8, 0.77, 0.75], patience=9, count=10_000) == (None, 1)
    assert stopped([0.78, 0.8, 0.5], patience=9) == (None, 1)


def test_a_perfect_epoch_is_not_given_up():
    assert stopped([0.5, 1.0, 0.99], patience=9) == (None, 1)  # its error is zero
    assert stopped([0.0, 0.0], patience=9) == (None, 1)


def test_what_is_kept_is_a_copy():
    model, stopping = Marked(1), EarlyStopping(3, 100)
    stopping.stops_after(0, 0.9, model)
    model.epoch.fill_(7)
    assert stopping.state["epoch"] == 1


def test_the_average_follows_the_weights():
    model = nn.Linear(2, 1, bias=False)
    model.weight.data.zero_()
    average, last = WeightAverage(model, 0.98), WeightAverage(model, 0.0)
    model.weight.data.fill_(1.0)
    for one in (average, last):
        one.update(model)
    assert average.model.weight.tolist() == [[pytest.approx(1 - 2 / 11)] * 2]
    assert last.model.weight.tolist() == [[1.0, 1.0]]
    for _ in range(500):
        average.update(model)
    np.testing.assert_allclose(average.model.weight.detach(), 1.0, atol=1e-3)


def test_each_epoch_sees_every_row_once_in_another_order():
    examples = made_examples(20)
    order = torch.Generator().manual_seed(0)
    first, second = (examples.order(order) for _ in range(2))
    assert not first.equal(second)
    for epoch in (first, second):
        assert epoch.sort().values.equal(torch.arange(20))


def test_groups_are_drawn_from_equally_often():
    examples, groups = made_examples(20), torch.tensor([0] * 15 + [1] * 5)
    order = torch.Generator().manual_seed(0)
    large = []
    for _ in range(2):
        places = examples.order(order, groups).tolist()
        assert len(places) == 20
        small = sorted(place for place in places if place >= 15)
        assert small == sorted([*range(15, 20)] * 2)  # each again before any a third time
        large.append({place for place in places if place < 15})
        assert len(large[-1]) == 10
    assert large[0] != large[1]


def test_the_epoch_of_the_lowest_loss_is_kept_until_patience_runs_out():
    model, best = torch.nn.Linear(1, 1), BestEpoch(2)
    stops = []
    for epoch, loss in enumerate((0.9, 0.5, 0.7, 0.6, 0.1)):
        torch.nn.init.constant_(model.weight, epoch)
        stops.append(best.stops_after(epoch, loss, model))
        if stops[-1]:
            break
    assert stops == [False, False, False, True]
    assert (best.epoch, best.state["weight"].item()) == (1, 1.0)


def test_refitting_uses_the_validation_part_but_its_reported_scores_do_not():
    examples = made_examples(48)
    train, validation = examples.take(range(32)), examples.take(range(32, 48))
    results = {}
    for refit in (False, True):
        torch.manual_seed(0)
        model = Ensemble(MODELS["concat"], Dims(6, 8, 3), ModelConfig(members=1, hidden_dim=8))
        schedule = TrainConfig(epochs=4, batch_size=8, least_steps=1, refit=refit)
        results[refit] = fit(model, train, validation, schedule, 0)
    before, after = results[False], results[True]
    assert before.validation is None
    assert not same(before, after)
    # the same training came before the refit, and its predictions are the ones that are reported
    torch.testing.assert_close(after.validation, predict(before.model, validation))
    assert not torch.allclose(after.validation, predict(after.model, validation))


def test_refitting_takes_as_many_epochs_as_were_kept(monkeypatch):
    losses, updates = iter([9, 8, 7, 6, 5, 4, 3, 9]), []  # the seventh of 25 is the best
    monkeypatch.setattr(loop, "_judged", lambda *_: {"validation_loss": next(losses)})
    monkeypatch.setattr(loop.WeightAverage, "move", lambda self, weights: updates.append(1))
    examples = made_examples(16)
    model = Ensemble(MODELS["concat"], Dims(6, 8, 3), ModelConfig(members=1, hidden_dim=8))
    schedule = TrainConfig(epochs=25, patience=1, batch_size=8, least_steps=1)
    fit(model, examples.take(range(8)), examples.take(range(8, 16)), schedule, 0)
    assert len(updates) == 8 + 7 * 2  # the parts together have two batches

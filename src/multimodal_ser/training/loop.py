"""config, Examples → a fitted model: the visible loop.

`fit` is given a training and a validation part and nothing else: it cannot reach a test part.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from multimodal_ser.config.settings import TrainConfig
from multimodal_ser.dataset.examples import Examples
from multimodal_ser.evaluation import metrics
from multimodal_ser.evaluation.agreement import ccc
from multimodal_ser.models.adapters import PACE
from multimodal_ser.models.fusion import Ensemble
from multimodal_ser.training.alignment import Adaptation, Alignment
from multimodal_ser.training.losses import LOSSES, Loss
from multimodal_ser.training.schedule import BestEpoch, WeightAverage, log_prior, rate

EVALUATION_BATCH = 512
TEMPERATURES = tuple(np.geomspace(0.25, 16, 25))


@dataclass(frozen=True)
class Fitted:
    """A fitted model and how it came to be.

    Attributes:
        model: ready to predict.
        history: one row an epoch, or a setting tried.
        validation: logits [N, C] of the validation part where the model returned has learnt from
            that part too: those of the model before, which had not. None where it never has.
    """

    model: nn.Module
    history: list[dict[str, Any]]
    validation: Tensor | None = None


def fit(
    model: Ensemble,
    train: Examples,
    validation: Examples,
    config: TrainConfig,
    seed: int,
    *,
    adaptation: Adaptation | None = None,
    groups: Tensor | None = None,
) -> Fitted:
    """Fits a network in place and keeps the epoch that the validation part picks.

    With `config.refit` the network is then trained again from its start, for as many epochs, on
    training and validation part together, as the baselines are; not with an alignment, of which
    the validation part picks nothing. Torch's generators are seeded here, so the same seed and
    number of threads give the same model.

    Args:
        model: parameters that ask for no gradient stay as they are.
        train: what it learns from; its statistics standardise the inputs.
        validation: what picks the epoch, by `BestEpoch`, and sets the temperature.
        config: the schedule.
        seed: of the data order and of dropout.
        adaptation: a target without labels; the model returned is the target's, with the
            target's statistics where the adaptation standardises by them.
        groups: of which group, such as a corpus, each training row and after them each
            validation row is [N + V]; an epoch then draws equally often from every group.
    """
    start = copy.deepcopy(model.state_dict())
    plain, own = model.standardize, None if groups is None else groups[: len(train)]
    prior = log_prior(_weights(model, train, config, own))
    training = _Training(model, train, config, seed, adaptation, own)
    patience = math.ceil(config.patience * epochs_of(config, len(train)) / config.epochs)
    # A feature that tells the classes of the source alone helps its validation part: that would
    # pick an epoch from before an alignment has removed the feature.
    best = BestEpoch(patience, chooses=not (training.target and training.target.aligns))
    history = []
    for epoch in training.epochs():
        logits = predict(training.average.model, validation)
        scores = _judged(logits, validation, prior, model.values)
        history.append({"epoch": epoch, "train_loss": training.loss, **scores})
        if best.stops_after(epoch, scores["validation_loss"], training.average.model):
            break
    model.load_state_dict(best.state)
    if not model.values:
        calibrate(model, validation)
    said = None
    if config.refit and best.chooses:
        temperature, said = model.temperature.clone(), predict(model, validation)
        model.standardize = plain
        model.load_state_dict(start)
        both = Examples.joined([train, validation])
        training = _Training(model, both, config, seed, adaptation, groups)
        # Both parts together take fewer epochs for the same steps: the same share of them.
        share = (best.epoch + 1) / epochs_of(config, len(train))
        last = math.ceil(share * epochs_of(config, len(both))) - 1
        next(epoch for epoch in training.epochs() if epoch == last)
        model.load_state_dict(training.average.model.state_dict())
        model.temperature.copy_(temperature)
    if training.target:
        model.standardize = training.target.standardize
    return Fitted(model.eval(), history, said)


def _weights(
    model: Ensemble, train: Examples, config: TrainConfig, groups: Tensor | None
) -> Tensor:
    """The classes' weights in the loss [C]."""
    return _loss(config).weights(train, model.classes, config.class_weights, groups)


def _loss(config: TrainConfig) -> Loss:
    return LOSSES[config.loss or "cross-entropy"]


def _judged(logits: Tensor, validation: Examples, prior: Tensor, values: bool) -> dict[str, float]:
    """What logits [N, C] of the validation part are worth; its loss picks the epoch."""
    if values:
        # where nothing varies, as in a part of one utterance, there is no CCC
        score = float(np.nan_to_num(ccc(validation.truth.numpy(), logits.numpy())).mean())
        return {"validation_ccc": score, "validation_loss": 1 - score}
    factor = likeliest_temperature(logits, validation.truth, prior)
    loss = float(F.cross_entropy(factor * logits + prior, validation.truth))
    return {"validation_ua": ua_of(logits, validation), "validation_loss": loss}


def epochs_of(config: TrainConfig, rows: int) -> int:
    """Passes over so many rows that the schedule asks for."""
    return max(config.epochs, math.ceil(config.least_steps / math.ceil(rows / config.batch_size)))


class _Training:
    """The loop over the training part, which pauses after every epoch.

    Attributes:
        loss: mean over the last epoch.
        average: running mean of the weights: what is evaluated and kept.
        target: what the network is drawn towards while it learns, if anything.
    """

    def __init__(
        self,
        model: Ensemble,
        train: Examples,
        config: TrainConfig,
        seed: int,
        adaptation: Adaptation | None,
        groups: Tensor | None,
    ) -> None:
        torch.manual_seed(seed)
        model.temperature.fill_(1.0)
        model.fit_inputs(train)
        self.model, self.train, self.config, self.groups = model, train, config, groups
        self.target = None
        if adaptation:
            self.target = Alignment(model, adaptation, train, config.batch_size, seed)
            model.standardize = self.target.source
        self.average = WeightAverage(model, config.average)
        self.order = torch.Generator().manual_seed(seed)
        self.loss = math.nan

    def epochs(self) -> Iterator[int]:
        """Trains for an epoch, then gives its number."""
        model, train, config = self.model, self.train, self.config
        device = model.temperature.device
        weights = _weights(model, train, config, self.groups).to(device)
        loss_of = _loss(config).of
        own = [p for p in model.parameters() if p.requires_grad]
        adapters = [*self.target.adapters.parameters()] if self.target else []
        learnt: list[dict[str, Any]] = [
            {"params": own},
            {"params": adapters, "lr": PACE * config.learning_rate},
        ]
        optimizer = torch.optim.AdamW(
            learnt, config.learning_rate, weight_decay=config.weight_decay, fused=True
        )
        steps, epochs = math.ceil(len(train) / config.batch_size), epochs_of(config, len(train))
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, partial(rate, total=epochs * steps))
        for epoch in range(epochs):
            losses = []
            model.train()
            order = train.order(self.order, self.groups)
            for step, rows in enumerate(torch.split(order, config.batch_size)):
                batch = train.batch(rows).to(device)
                each = model.each(*batch[:4])
                loss = loss_of(each.logits, batch.truth, weights, config.label_smoothing)
                if self.target:
                    loss = loss + self.target.loss(each, (epoch + step / steps) / epochs)
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                nn.utils.clip_grad_norm_(own, 1.0)
                optimizer.step()
                schedule.step()
                self.average.update(model)
                losses.append(loss.detach())
            self.loss = torch.stack(losses).mean().item()
            yield epoch


@torch.no_grad()
def calibrate(model: nn.Module, validation: Examples) -> None:
    """Sets a model's temperature to what makes its logits the likeliest on the validation part.

    Guo et al. (2017), with a grid in place of an optimiser; the choice of class never changes.
    """
    temperature: Tensor = model.temperature  # type: ignore[assignment]
    temperature.fill_(1.0)
    temperature.fill_(likeliest_temperature(predict(model, validation), validation.truth))


def likeliest_temperature(logits: Tensor, labels: Tensor, prior: Tensor | None = None) -> float:
    """The factor of TEMPERATURES that makes logits [N, C] the likeliest for labels [N].

    Args:
        logits: [N, C].
        labels: [N], or shares of votes [N, C].
        prior: added to the scaled logits, see `schedule.log_prior` [C]; nothing where not given.
    """
    shift = logits.new_zeros(logits.shape[1]) if prior is None else prior
    losses = [float(F.cross_entropy(logits * factor + shift, labels)) for factor in TEMPERATURES]
    return float(TEMPERATURES[int(np.argmin(losses))])


@torch.inference_mode()
def predict(model: nn.Module, examples: Examples) -> Tensor:
    """Logits [N, C], in the examples' order."""
    model.eval()
    device = next(model.buffers()).device
    batches = (batch.to(device) for batch in examples.batches(EVALUATION_BATCH))
    return torch.cat([model(*batch[:4]).logits.cpu() for batch in batches])


def ua_of(logits: Tensor, examples: Examples) -> float:
    """UA of logits [N, C] of these examples, of those that have a class."""
    known = examples.label >= 0
    label, said = examples.label[known].numpy(), logits.argmax(1)[known].numpy()
    matrix = metrics.confusion(label, said, logits.shape[1])
    return float(metrics.ua(matrix))

"""config, Examples → a fitted model: the visible loop.

`fit` is given a training and a validation part and nothing else: it cannot reach a test part.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from multimodal_ser import metrics
from multimodal_ser.alignment import Adaptation, Alignment
from multimodal_ser.config import TrainConfig
from multimodal_ser.data import Examples
from multimodal_ser.layers import Output
from multimodal_ser.models import Ensemble
from multimodal_ser.schedule import EarlyStopping, WeightAverage, class_weights, rate

EVALUATION_BATCH = 512
TEMPERATURES = tuple(np.geomspace(0.25, 16, 25))


@dataclass(frozen=True)
class Fitted:
    """A fitted model, and one row an epoch (or a strength tried) of how it came to be."""

    model: nn.Module
    history: list[dict[str, Any]]


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

    Torch's generators are seeded here, so the same seed and number of threads give the same model.

    Args:
        model: parameters that ask for no gradient stay as they are.
        train: what it learns from; its statistics standardise the inputs.
        validation: what picks the epoch, by `EarlyStopping`.
        config: the schedule.
        seed: of the data order and of dropout.
        adaptation: a target without labels; the model returned is the target's, with the
            target's statistics where the adaptation standardises by them.
        groups: of which group, such as a corpus, each training row is [N]; an epoch then draws
            equally often from every group.
    """
    torch.manual_seed(seed)
    device = model.temperature.device
    model.temperature.fill_(1.0)
    model.fit_inputs(train)
    target = adaptation and Alignment(model, adaptation, config.batch_size, seed)
    weights = class_weights(train.label, model.classes, config.class_weights, groups).to(device)
    own = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        [*own, *(target.adapters.parameters() if target else ())],
        config.learning_rate,
        weight_decay=config.weight_decay,
        fused=True,
    )
    steps = math.ceil(len(train) / config.batch_size)
    epochs = max(config.epochs, math.ceil(config.least_steps / steps))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, partial(rate, total=epochs * steps))
    average, stopping = (
        WeightAverage(model, config.average),
        EarlyStopping(math.ceil(config.patience * epochs / config.epochs), len(validation)),
    )
    order = torch.Generator().manual_seed(seed)
    history: list[dict[str, Any]] = []
    for epoch in range(epochs):
        losses = []
        model.train()
        for step, rows in enumerate(torch.split(train.order(order, groups), config.batch_size)):
            batch = train.batch(rows).to(device)
            each = model.each(*batch[:4])
            loss = classification_loss(each, batch.label, weights, config.label_smoothing)
            if target:
                loss = loss + target.loss(each, (epoch + step / steps) / epochs)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(own, 1.0)
            optimizer.step()
            schedule.step()
            average.update(model)
            losses.append(loss.detach())
        ua, validation_loss = evaluate(average.model, validation)
        row = {"epoch": epoch, "train_loss": torch.stack(losses).mean().item()}
        history.append({**row, "validation_ua": ua, "validation_loss": validation_loss})
        if stopping.stops_after(epoch, ua, average.model):
            break
    model.load_state_dict(stopping.state)
    calibrate(model, validation)
    if target:
        model.standardize.load_state_dict(target.standardize.state_dict())
    return Fitted(model.eval(), history)


def classification_loss(each: Output, label: Tensor, weights: Tensor, smoothing: float) -> Tensor:
    """The members' own losses, summed.

    Args:
        each: what every member says, logits [members, B, C].
        label: [B].
        weights: of the classes [C].
        smoothing: share of probability spread over the other classes.
    """
    members = len(each.logits)
    every = label.repeat(members)
    flat = each.logits.flatten(0, 1)
    return members * F.cross_entropy(flat, every, weights, label_smoothing=smoothing)


@torch.no_grad()
def calibrate(model: nn.Module, validation: Examples) -> None:
    """Sets a model's temperature to what makes its logits the likeliest on the validation part.

    Guo et al. (2017), with a grid in place of an optimiser; the choice of class never changes.
    """
    temperature: Tensor = model.temperature  # type: ignore[assignment]
    temperature.fill_(1.0)
    temperature.fill_(likeliest_temperature(predict(model, validation), validation.label))


def likeliest_temperature(logits: Tensor, labels: Tensor) -> float:
    """The factor of TEMPERATURES that makes logits [N, C] the likeliest for labels [N]."""
    losses = [float(F.cross_entropy(logits * factor, labels)) for factor in TEMPERATURES]
    return float(TEMPERATURES[int(np.argmin(losses))])


@torch.inference_mode()
def predict(model: nn.Module, examples: Examples) -> Tensor:
    """Logits [N, C], in the examples' order."""
    model.eval()
    device = next(model.buffers()).device
    batches = (batch.to(device) for batch in examples.batches(EVALUATION_BATCH))
    return torch.cat([model(*batch[:4]).logits.cpu() for batch in batches])


def evaluate(model: nn.Module, examples: Examples) -> tuple[float, float]:
    """Validation UA and cross-entropy."""
    logits = predict(model, examples)
    matrix = metrics.confusion(examples.label.numpy(), logits.argmax(1).numpy(), logits.shape[1])
    return float(metrics.ua(matrix)), float(F.cross_entropy(logits, examples.label))

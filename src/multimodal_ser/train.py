"""config, Examples → a fitted model: the visible loop.

`fit` is given a training and a validation part and nothing else: it cannot reach a test part.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from multimodal_ser import metrics
from multimodal_ser.config import TrainConfig
from multimodal_ser.data import Examples
from multimodal_ser.models import Ensemble

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
    on_epoch: Callable[[], None] = lambda: None,
) -> Fitted:
    """Fits a network and keeps the epoch that the validation part picks.

    Args:
        model: freshly initialised; it is trained in place.
        train: what it learns from; its statistics standardise the inputs.
        validation: what picks the epoch, by `EarlyStopping`.
        config: the schedule.
        seed: of the data order and of dropout.
        on_epoch: called after each epoch.
    """
    torch.manual_seed(seed)
    order = torch.Generator().manual_seed(seed)
    model.fit_inputs(
        text=(train.text.tokens, train.text.mask), audio=(train.audio.tokens, train.audio.mask)
    )
    weights = class_weights(train.label, model.classes, config.class_weights)
    optimizer = torch.optim.AdamW(
        model.parameters(), config.learning_rate, weight_decay=config.weight_decay, fused=True
    )
    total = config.epochs * math.ceil(len(train) / config.batch_size)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate(step, total))
    average = WeightAverage(model, config.average)
    stopping = EarlyStopping(config.patience, len(validation))
    history: list[dict[str, Any]] = []
    for epoch in range(config.epochs):
        model.train()
        losses = []
        for batch in train.batches(config.batch_size, order):
            logits = model.each(*batch[:4])  # (members, B, C)
            loss = len(logits) * F.cross_entropy(
                logits.flatten(0, 1),
                batch.label.repeat(len(logits)),
                weights,
                label_smoothing=config.label_smoothing,
            )
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            average.update(model)
            losses.append(loss.item())
        ua, validation_loss = evaluate(average.model, validation)
        row = {"epoch": epoch, "train_loss": float(np.mean(losses)), "validation_ua": ua}
        history.append({**row, "validation_loss": validation_loss})
        on_epoch()
        if stopping.stops_after(epoch, ua, average.model):
            break
    model.load_state_dict(stopping.state)
    calibrate(model, validation)
    return Fitted(model.eval(), history)


class EarlyStopping:
    """Keeps the last epoch whose validation UA is within one standard error of the best.

    Validation parts are small (one speaker, one session): their best epoch is mostly luck, and
    a later one, further down the learning-rate schedule, generalises better. The rule is
    Breiman et al.'s (1984) one-standard-error rule, with the binomial error of the best UA. On a
    large validation part it is plain early stopping.
    """

    def __init__(self, patience: int, count: int) -> None:
        self.patience = patience
        self.count = count
        self.best, self.best_epoch = -1.0, -1
        self.state: dict[str, Tensor] = {}

    def stops_after(self, epoch: int, ua: float, model: nn.Module) -> bool:
        """Takes note of an epoch's validation UA; True where patience has run out."""
        if ua > self.best:
            self.best, self.best_epoch = ua, epoch
        error = math.sqrt(self.best * (1 - self.best) / self.count)
        if ua >= self.best - error:
            self.state = copy.deepcopy(model.state_dict())
        return epoch - self.best_epoch >= self.patience


def class_weights(labels: Tensor, classes: int, weighted: bool) -> Tensor:
    """Loss weights [C]: inverse frequency with mean 1 over the classes that occur.

    A class without a training example weighs nothing, instead of dividing by zero.
    """
    counts = torch.bincount(labels, minlength=classes).float()
    present = counts > 0
    if not weighted:
        return present.float()
    inverse = torch.where(present, 1 / counts.clamp(min=1), 0.0)
    return inverse / inverse[present].mean()


def rate(step: int, total: int) -> float:
    """Share of the peak learning rate: linear warm-up over a tenth, then a cosine to zero.

    >>> [round(rate(step, 100), 2) for step in (0, 9, 50, 99)]
    [0.1, 0.98, 0.5, 0.0]
    """
    warm = min(1.0, (step + 1) / max(1, total // 10))
    return warm * 0.5 * (1 + math.cos(math.pi * step / total))


class WeightAverage:
    """A running mean of a model's weights; young averages forget faster."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model = copy.deepcopy(model).eval()
        self.decay = decay
        self.steps = 0
        self._pairs: list[Tensor] = list(self.model.parameters())

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Moves the average a step towards the model's present weights."""
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        torch._foreach_lerp_(self._pairs, list(model.parameters()), 1 - decay)


@torch.no_grad()
def calibrate(model: nn.Module, validation: Examples) -> None:
    """Sets a model's temperature to what makes its logits the likeliest on the validation part.

    Guo et al. (2017), with a grid in place of an optimiser; the choice of class never changes.
    """
    temperature: Tensor = model.temperature  # type: ignore[assignment]
    temperature.fill_(1.0)
    logits = predict(model, validation)
    losses = [float(F.cross_entropy(logits * t, validation.label)) for t in TEMPERATURES]
    temperature.fill_(float(TEMPERATURES[int(np.argmin(losses))]))


@torch.inference_mode()
def predict(model: nn.Module, examples: Examples) -> Tensor:
    """Logits [N, C], in the examples' order."""
    model.eval()
    return torch.cat([model(*batch[:4]).logits for batch in examples.batches(EVALUATION_BATCH)])


def evaluate(model: nn.Module, examples: Examples) -> tuple[float, float]:
    """Validation UA and cross-entropy."""
    logits = predict(model, examples)
    matrix = metrics.confusion(examples.label.numpy(), logits.argmax(1).numpy(), logits.shape[1])
    return float(metrics.ua(matrix)), float(F.cross_entropy(logits, examples.label))

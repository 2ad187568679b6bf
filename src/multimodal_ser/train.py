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
from multimodal_ser.adapt import ADAPTERS
from multimodal_ser.config import AdaptConfig, TrainConfig
from multimodal_ser.data import Examples, Sides, Unlabelled
from multimodal_ser.errors import SerError, one_of
from multimodal_ser.layers import Output
from multimodal_ser.models import Ensemble, standardized

EVALUATION_BATCH = 512
TEMPERATURES = tuple(np.geomspace(0.25, 16, 25))


@dataclass(frozen=True)
class Fitted:
    """A fitted model, and one row an epoch (or a strength tried) of how it came to be."""

    model: nn.Module
    history: list[dict[str, Any]]


@dataclass(frozen=True)
class Adaptation:
    """What to align a network with while it learns, and how."""

    config: AdaptConfig
    target: Unlabelled


def fit(
    model: Ensemble,
    train: Examples,
    validation: Examples,
    config: TrainConfig,
    seed: int,
    on_epoch: Callable[[], None] = lambda: None,
    *,
    adaptation: Adaptation | None = None,
    groups: Tensor | None = None,
) -> Fitted:
    """Fits a network and keeps the epoch that the validation part picks.

    Parameters that ask for no gradient stay as they are.

    Args:
        model: it is trained in place.
        train: what it learns from; its statistics standardise the inputs.
        validation: what picks the epoch, by `EarlyStopping`.
        config: the schedule.
        seed: of the data order and of dropout.
        on_epoch: called after each epoch.
        adaptation: a target without labels; the model returned is the target's, with the
            target's statistics where the adaptation standardises by them.
        groups: of which group, such as a corpus, each training row is [N]; an epoch then draws
            equally often from every group.
    """
    torch.manual_seed(seed)
    order = torch.Generator().manual_seed(seed)
    fit_inputs(model, train)
    weights = class_weights(train.label, model.classes, config.class_weights, groups)
    alignment = Alignment(model, adaptation, config.batch_size, seed) if adaptation else None
    learning = [*model.parameters(), *(alignment.adapters.parameters() if alignment else ())]
    optimizer = torch.optim.AdamW(
        [parameter for parameter in learning if parameter.requires_grad],
        config.learning_rate,
        weight_decay=config.weight_decay,
        fused=True,
    )
    steps = math.ceil(len(train) / config.batch_size)
    epochs = max(config.epochs, math.ceil((config.least_steps or 0) / steps))
    total = epochs * steps
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate(step, total))
    average = WeightAverage(model, config.average)
    patience = math.ceil(config.patience * epochs / config.epochs)
    stopping = EarlyStopping(patience, len(validation))
    history: list[dict[str, Any]] = []
    for epoch in range(epochs):
        model.train()
        losses = []
        for batch in train.batches(config.batch_size, order, groups):
            each = model.each(*batch[:4])  # (members, B, C), (members, B, H)
            loss = model.network.count * F.cross_entropy(
                each.logits.flatten(0, 1),
                batch.label.repeat(model.network.count),
                weights,
                label_smoothing=config.label_smoothing,
            )
            if alignment:
                loss = loss + alignment.loss(aligned(each), schedule.last_epoch / total)
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
    if alignment:
        model.standardize.load_state_dict(alignment.standardize.state_dict())
    return Fitted(model.eval(), history)


def fit_inputs(model: Ensemble, examples: Examples | Unlabelled) -> None:
    """Takes a network's input statistics from these utterances; no label is looked at."""
    named = {"text": examples.text, "audio": examples.audio}
    model.fit_inputs(**{name: (side.tokens, side.mask) for name, side in named.items()})


class Alignment:
    """The target's side of a training: its batches, its input statistics and the adapters.

    Every member of the ensemble has an adapter of its own.

    Attributes:
        standardize: how the target's inputs are standardised.
        adapters: one a member.
    """

    def __init__(self, model: Ensemble, adaptation: Adaptation, batch_size: int, seed: int) -> None:
        config, target = adaptation.config, adaptation.target
        if config.method not in ADAPTERS:
            raise SerError(one_of("adaptation", config.method, ADAPTERS))
        kind = ADAPTERS[config.method]
        self.aligns = kind.aligns
        self.weight = kind.weight if config.weight is None else config.weight
        self.network = model.network
        self.standardize = copy.deepcopy(model.standardize)
        if kind.standardizes or (kind.aligns and config.standardize):
            for name, statistics in self.standardize.items():
                side = getattr(target, name)
                statistics.fit(side.tokens, side.mask)  # type: ignore[operator]
        width = model.network.classify.out.weight.shape[1] + model.classes
        self.adapters = nn.ModuleList(kind(width) for _ in range(model.network.count))
        self.batches = target.stream(batch_size, torch.Generator().manual_seed(seed))

    def loss(self, source: Tensor, progress: float) -> Tensor:
        """The members' weighted losses, summed, for the source's `aligned` [members, B, D + C]."""
        if not self.aligns or source.shape[1] < 2:  # one row has no covariance
            return source.new_zeros(())
        target = self.outputs(next(self.batches))
        pairs = zip(self.adapters, source, target, strict=True)
        losses = [adapter(mine, other, progress) for adapter, mine, other in pairs]
        return self.weight * torch.stack(losses).sum()

    def outputs(self, batch: Sides) -> Tensor:
        """What each member makes of a batch of the target: [members, B, D + C]."""
        given = {"text": batch[:2], "audio": batch[2:]}
        output: Output = self.network(standardized(self.standardize, given))
        return aligned(output)


def aligned(output: Output) -> Tensor:
    """What is drawn together: the embedding beside the logits, [members, B, D + C].

    The linear path reaches the logits past the embedding: aligned alone, the embedding would
    leave that path's shift as it is.
    """
    return torch.cat([output.embedding, output.logits], 2)


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
        self.best, self.best_epoch, self.kept = -1.0, -1, -1
        self.state: dict[str, Tensor] = {}

    def stops_after(self, epoch: int, ua: float, model: nn.Module) -> bool:
        """Takes note of an epoch's validation UA; True where patience has run out."""
        if ua > self.best:
            self.best, self.best_epoch = ua, epoch
        error = math.sqrt(self.best * (1 - self.best) / self.count)
        if ua >= self.best - error:
            self.state, self.kept = copy.deepcopy(model.state_dict()), epoch
        return epoch - self.best_epoch >= self.patience


def class_weights(
    labels: Tensor, classes: int, weighted: bool, groups: Tensor | None = None
) -> Tensor:
    """Loss weights [C]: inverse frequency with mean 1 over the classes that occur.

    A class without a training example weighs nothing, instead of dividing by zero. Where groups
    [N] are drawn equally often, the frequencies are those of the draws.
    """
    share = None if groups is None else 1 / torch.bincount(groups).float()[groups]
    counts = torch.bincount(labels, share, minlength=classes).float()
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
    temperature.fill_(likeliest_temperature(predict(model, validation), validation.label))


def likeliest_temperature(logits: Tensor, labels: Tensor) -> float:
    """The factor of TEMPERATURES that makes logits [N, C] the likeliest for labels [N]."""
    losses = [float(F.cross_entropy(logits * factor, labels)) for factor in TEMPERATURES]
    return float(TEMPERATURES[int(np.argmin(losses))])


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

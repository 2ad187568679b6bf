"""config, Examples → a fitted model: the visible loop.

`fit` is given a training and a validation part and nothing else: it cannot reach a test part.
`fit_all` computes several trainings as one, which differ in seed, data or start.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from multimodal_ser import metrics
from multimodal_ser.alignment import Adaptation, Alignment, aligned
from multimodal_ser.config import TrainConfig
from multimodal_ser.data import Examples, Unlabelled
from multimodal_ser.layers import Output, SideInput, drawing
from multimodal_ser.models import Ensemble, standardized
from multimodal_ser.schedule import EarlyStopping, WeightAverage, class_weights, rate
from multimodal_ser.stack import Stack

EVALUATION_BATCH = 512
TEMPERATURES = tuple(np.geomspace(0.25, 16, 25))


@dataclass(frozen=True)
class Fitted:
    """A fitted model, and one row an epoch (or a strength tried) of how it came to be."""

    model: nn.Module
    history: list[dict[str, Any]]


@dataclass(frozen=True)
class Task:
    """What one training is given.

    Attributes:
        model: it is trained in place; parameters that ask for no gradient stay as they are.
        train: what it learns from; its statistics standardise the inputs.
        validation: what picks the epoch, by `EarlyStopping`.
        seed: of the data order and of dropout.
        adaptation: a target without labels; the model returned is the target's, with the
            target's statistics where the adaptation standardises by them.
        groups: of which group, such as a corpus, each training row is [N]; an epoch then draws
            equally often from every group.
    """

    model: Ensemble
    train: Examples
    validation: Examples
    seed: int
    adaptation: Adaptation | None = None
    groups: Tensor | None = None


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
    """Fits a network and keeps the epoch that the validation part picks.

    Args:
        model: as the others but `config`, see `Task`.
        train: what it learns from.
        validation: what picks the epoch.
        config: the schedule.
        seed: of the data order and of dropout.
        adaptation: a target without labels.
        groups: of the training rows.
    """
    return fit_all([Task(model, train, validation, seed, adaptation, groups)], config)[0]


def fit_all(tasks: Sequence[Task], config: TrainConfig) -> list[Fitted]:
    """Fits several networks of one shape by the same products, each as `fit` would alone.

    Each has its own data order, dropout, clipping, learning rate and early stopping; one that
    has stopped leaves the others. The results differ from `fit`'s by rounding alone.

    Args:
        tasks: their models have one kind and size and train the same parameters, their features
            have one number of tokens, and all or none of them align.
        config: the schedule.
    """
    runs = [_Run(task, config) for task in tasks]
    going = runs
    while going:
        stack = Stack([run.model.network for run in going])
        while not any(run.stopped for run in going):
            _epoch(going, stack)
        stack.release()
        going = [run for run in going if not run.stopped]
    return [run.finish() for run in runs]


def _epoch(runs: Sequence[_Run], stack: Stack) -> None:
    """One epoch of every run. One that has fewer steps computes along, unused, at the end."""
    stack.network.train()
    for run in runs:
        run.begin()
    for place in range(max(len(run.batches) for run in runs)):
        with drawing([run.draws() for run in runs]):
            outputs = stack([run.inputs(place) for run in runs])
            aimed = [run.aimed(place) for run in runs if run.alignment]
            targets = stack(aimed) if aimed else [None] * len(runs)
        busy = [place < len(run.batches) for run in runs]
        parts = zip(runs, outputs, targets, busy, strict=True)
        losses = [run.loss(place, mine, other) for run, mine, other, learns in parts if learns]
        stack.backward(torch.stack(losses).sum())
        for run, learns in zip(runs, busy, strict=True):
            if learns:
                run.step()
    for run in runs:
        run.judge()


class _Run:
    """One of several trainings: all that is its own."""

    def __init__(self, task: Task, config: TrainConfig) -> None:
        self.model = model = task.model
        self.task, self.config = task, config
        self.device = model.temperature.device
        fit_inputs(model, task.train)
        weights = class_weights(task.train.label, model.classes, config.class_weights, task.groups)
        self.weights = weights.to(self.device)
        self.size = config.batch_size
        torch.manual_seed(task.seed)
        target = (
            Alignment(model, task.adaptation, self.size, task.seed) if task.adaptation else None
        )
        self.statistics = target.standardize if target else model.standardize
        self.alignment = target if target and target.aligns else None
        adapters = self.alignment.adapters.parameters() if self.alignment else ()
        self.optimizer = torch.optim.AdamW(
            [p for p in (*model.parameters(), *adapters) if p.requires_grad],
            config.learning_rate,
            weight_decay=config.weight_decay,
            fused=True,
        )
        steps = math.ceil(len(task.train) / self.size)
        self.epochs = max(config.epochs, math.ceil(config.least_steps / steps))
        self.total = total = self.epochs * steps
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, lambda step: rate(step, total)
        )
        self.average = WeightAverage(model, config.average)
        patience = math.ceil(config.patience * self.epochs / config.epochs)
        self.stopping = EarlyStopping(patience, len(task.validation))
        self.order = torch.Generator().manual_seed(task.seed)
        self.random = torch.Generator(self.device)
        self.history: list[dict[str, Any]] = []
        self.stopped = False
        self.taken = 0
        self.losses: list[Tensor] = []
        self.batches: Sequence[Tensor] = []
        self.target: dict[str, SideInput] = {}

    def begin(self) -> None:
        """Shuffles the training part."""
        order = self.task.train.order(self.order, self.task.groups)
        self.batches = torch.split(order, self.size)
        self.losses = []

    def draws(self) -> torch.Generator:
        """What this step's dropout is drawn from: it depends on the seed and the step alone."""
        return self.random.manual_seed((1_000_003 * self.task.seed + self.taken) % 2**32)

    def inputs(self, place: int) -> dict[str, SideInput]:
        """A batch as the network reads it, filled up to full size with rows that do not count."""
        rows = self.batches[min(place, len(self.batches) - 1)]
        rows = F.pad(rows, (0, self.size - len(rows)))
        batch = self.task.train.batch(rows).to(self.device)
        given = {"text": batch[:2], "audio": batch[2:4]}
        return standardized(self.model.standardize, given)

    def aimed(self, place: int) -> dict[str, SideInput]:
        """A batch of the target; while the run waits, the one before."""
        if self.alignment and place < len(self.batches):
            self.target = self.alignment.inputs()
        return self.target

    def loss(self, place: int, output: Output, target: Output | None) -> Tensor:
        """The members' losses, summed, of what they made of a batch [members, B, ...]."""
        rows = self.batches[place]
        real = Output(*(vectors[:, : len(rows)] for vectors in output))
        members = len(real.logits)
        loss = members * F.cross_entropy(
            real.logits.flatten(0, 1),
            self.task.train.label[rows].repeat(members).to(self.device),
            self.weights,
            label_smoothing=self.config.label_smoothing,
        )
        if self.alignment and target:
            progress = self.taken / self.total
            loss = loss + self.alignment.loss(aligned(real), aligned(target), progress)
        self.losses.append(loss.detach())
        return loss

    def step(self) -> None:
        """Learns from the gradients that the parameters have."""
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.schedule.step()
        self.average.update(self.model)
        self.taken += 1

    def judge(self) -> None:
        """Validates the epoch, and stops the run where it was the last."""
        epoch, loss = len(self.history), torch.stack(self.losses).mean().item()
        ua, validation_loss = evaluate(self.average.model, self.task.validation)
        row = {"epoch": epoch, "train_loss": loss, "validation_ua": ua}
        self.history.append({**row, "validation_loss": validation_loss})
        stop = self.stopping.stops_after(epoch, ua, self.average.model)
        self.stopped = stop or epoch + 1 == self.epochs

    def finish(self) -> Fitted:
        """The epoch that the validation part picked, calibrated."""
        self.model.load_state_dict(self.stopping.state)
        calibrate(self.model, self.task.validation)
        self.model.standardize.load_state_dict(self.statistics.state_dict())
        return Fitted(self.model.eval(), self.history)


def fit_inputs(model: Ensemble, examples: Examples | Unlabelled) -> None:
    """Takes a network's input statistics from these utterances; no label is looked at."""
    named = {"text": examples.text, "audio": examples.audio}
    model.fit_inputs(**{name: (side.tokens, side.mask) for name, side in named.items()})


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

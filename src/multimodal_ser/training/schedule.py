"""What steers a training: the learning rate, the loss's weights, which epoch is kept.

Used alike for networks over features and for an encoder that is fine-tuned.
"""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn


def rate(step: int, total: int) -> float:
    """Share of the peak learning rate: linear warm-up over a tenth, then a cosine to zero.

    >>> [round(rate(step, 100), 2) for step in (0, 9, 50, 99)]
    [0.1, 0.98, 0.5, 0.0]
    """
    warm = min(1.0, (step + 1) / max(1, total // 10))
    return warm * 0.5 * (1 + math.cos(math.pi * step / total))


def class_weights(
    labels: Tensor, classes: int, weighted: bool, groups: Tensor | None = None
) -> Tensor:
    """Loss weights [C]: inverse frequency with mean 1 over the classes that occur.

    A class without a training example weighs nothing, instead of dividing by zero. Where groups
    [N] are drawn equally often, the frequencies are those of the draws. In place of labels [N]
    there may be shares of votes [N, C].
    """
    share = None if groups is None else 1 / torch.bincount(groups).float()[groups]
    if labels.is_floating_point():
        counts = labels.sum(0)
    else:
        counts = torch.bincount(labels, share, minlength=classes).float()
    present = counts > 0
    if not weighted:
        return present.float()
    inverse = torch.where(present, 1 / counts.clamp(min=1), 0.0)
    return inverse / inverse[present].mean()


def log_prior(weights: Tensor) -> Tensor:
    """What to add to the logits of a model that was trained with these class weights, [C].

    Weights of one over a class's count teach a model the posterior of a world in which all
    classes are equally frequent; minus their logarithm takes it back to the frequencies of the
    corpus (Bayes' rule). A loss on a validation part is then taken over its utterances alike. With
    the weights in the loss instead, a few utterances of a rare class would decide: of a hundred in
    MELD's dev part two are disgust. A class without weight was not learnt: its logit is of no
    account.

    >>> [round(value, 2) for value in log_prior(torch.tensor([0.5, 2.0, 0.0])).tolist()]
    [0.69, -0.69, -30.0]
    """
    return torch.where(weights > 0, -weights.log(), -30.0)


class BestEpoch:
    """Keeps the epoch of the lowest validation loss; stops where patience has run out.

    Of a network over features: its loss is taken after calibration (`loop.calibrate`), since a
    network goes on growing more confident when it has long stopped growing better, and at the
    corpus's own class frequencies (`log_prior`). A loss tells two epochs apart on far fewer
    utterances than UA does.

    Attributes:
        chooses: False keeps the last epoch, whatever the validation part says.
        epoch: the one that is kept.
        state: its weights.
    """

    def __init__(self, patience: int, chooses: bool = True) -> None:
        self.patience, self.chooses = patience, chooses
        self.best, self.epoch = math.inf, -1
        self.state: dict[str, Tensor] = {}

    def stops_after(self, epoch: int, loss: float, model: nn.Module) -> bool:
        """Takes note of an epoch's validation loss; True where patience has run out."""
        if loss < self.best or not self.state or not self.chooses:
            self.best, self.epoch = loss, epoch
            self.state = copy.deepcopy(model.state_dict())
        return epoch - self.epoch >= self.patience


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

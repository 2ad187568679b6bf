"""What controls a training: learning rate, weights of the classes, what is kept and what rests.

Networks over features and encoders that are fine-tuned both use it.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from multimodal_ser.errors import SerError

# Factors of the logits that calibration tries: a quarter to sixteen times, in equal ratios of 1.19.
# A grid has no local minima and gives the same result on every machine.
TEMPERATURES = tuple(np.geomspace(0.25, 16, 25))


def rate(step: int, total: int) -> float:
    """Share of the peak learning rate: linear warm-up over a tenth of the steps, cosine to zero.

    The cosine is that of Loshchilov & Hutter (2017), without restarts.

    >>> [round(rate(step, 100), 2) for step in (0, 9, 50, 99)]
    [0.1, 0.98, 0.5, 0.0]
    """
    warm = min(1.0, (step + 1) / max(1, total // 10))
    return warm * 0.5 * (1 + math.cos(math.pi * step / total))


def class_weights(
    labels: Tensor, classes: int, weighted: bool, groups: Tensor | None = None
) -> Tensor:
    """Weights of the classes in the loss [C]: inverse frequency, with mean 1.

    A class without a training example has weight 0 and does not count in the mean.

    Args:
        labels: class ids [N], or shares of the raters' votes [N, C].
        classes: number of classes C.
        weighted: False gives every class that occurs the weight 1.
        groups: group of each row [N], where every group is drawn equally often (`Examples.order`);
            frequencies are then those of the draws.
    """
    shares = labels if labels.is_floating_point() else F.one_hot(labels, classes).float()
    # A row of a group of n rows is drawn in proportion to 1 / n.
    drawn = torch.ones(len(labels)) if groups is None else 1 / torch.bincount(groups)[groups]
    counts = drawn @ shares
    present = counts > 0
    if not weighted:
        return present.float()
    # A class with less than one row's votes weighs as one of a row, not without bound.
    inverse = torch.where(present, 1 / counts.clamp(min=float(drawn.min())), 0.0)
    # Mean 1 over the classes keeps the scale of the loss, and so the meaning of the learning rate.
    return inverse / inverse[present].mean()


def log_prior(weights: Tensor) -> Tensor:
    """What to add to the logits of a model that was trained with these class weights [C].

    A model trained with weights of 1 / count learns the posterior of a world in which all classes
    are equally frequent. Subtracting the logarithm of the weights returns it to the frequencies
    of the corpus (Bayes' rule), so that every validation utterance counts alike in the loss. If
    the weights stood in the loss instead, a few utterances of a rare class would decide: two in a
    hundred of MELD's dev part are disgust. A class of weight 0 was never learnt and is excluded
    by a logit of -30.

    >>> [round(value, 2) for value in log_prior(torch.tensor([0.5, 2.0, 0.0])).tolist()]
    [0.69, -0.69, -30.0]
    """
    return torch.where(weights > 0, -weights.log(), -30.0)


def likeliest_temperature(logits: Tensor, labels: Tensor, prior: Tensor | None = None) -> float:
    """The factor in TEMPERATURES whose scaled logits have the lowest cross-entropy.

    Args:
        logits: [N, C].
        labels: class ids [N], or shares of votes [N, C].
        prior: added to the scaled logits [C], see `schedule.log_prior`; zero by default.
    """
    shift = logits.new_zeros(logits.shape[1]) if prior is None else prior
    losses = [float(F.cross_entropy(logits * factor + shift, labels)) for factor in TEMPERATURES]
    return float(TEMPERATURES[int(np.argmin(losses))])


class BestEpoch:
    """Keeps the epoch of the lowest validation loss; used for networks over features.

    The loss is computed after calibration (`loop.calibrate`), because a network keeps growing
    more confident long after it has stopped improving, and at the class frequencies of the corpus
    (`log_prior`). A loss distinguishes two epochs with far fewer utterances than UA does.

    Attributes:
        chooses: False keeps the last epoch, whatever the validation loss is.
        epoch: the epoch that is kept.
        state: weights of the model after that epoch.
    """

    def __init__(self, patience: int, chooses: bool = True) -> None:
        self.patience, self.chooses = patience, chooses
        self.best, self.epoch = math.inf, -1
        self.state: dict[str, Tensor] = {}

    def stops_after(self, epoch: int, loss: float, model: nn.Module) -> bool:
        """Records an epoch's validation loss; returns True when patience has run out."""
        # `not self.state`: the first epoch is kept even if its loss is nan.
        if loss < self.best or not self.state or not self.chooses:
            self.best, self.epoch = loss, epoch
            # A copy: the tensors of the state dict go on changing with the training.
            self.state = copy.deepcopy(model.state_dict())
        return epoch - self.epoch >= self.patience


class EarlyStopping:
    """Keeps the last epoch whose validation UA is within one standard error of the best.

    Validation parts are small (one speaker, one session), so which of their epochs is best is
    mostly luck, and a later one, further down the learning-rate schedule, generalises better. This
    is the one-standard-error rule of Breiman et al. (1984) with the binomial error of the best UA.
    On a large validation part the error vanishes and the rule becomes plain early stopping.
    """

    def __init__(self, patience: int, count: int) -> None:
        self.patience = patience
        self.count = count
        self.best, self.best_epoch, self.kept = -1.0, -1, -1
        self.state: dict[str, Tensor] = {}

    def stops_after(self, epoch: int, ua: float, model: nn.Module) -> bool:
        """Records an epoch's validation UA; returns True when patience has run out."""
        if ua > self.best:
            self.best, self.best_epoch = ua, epoch
        # Binomial standard error √(p (1 − p) / n), with UA for p
        error = math.sqrt(self.best * (1 - self.best) / self.count)
        if ua >= self.best - error:
            self.state, self.kept = copy.deepcopy(model.state_dict()), epoch
        return self.is_over(epoch)

    def is_over(self, epoch: int) -> bool:
        """Whether patience has run out after an epoch."""
        return epoch - self.best_epoch >= self.patience


class WeightAverage:
    """An exponential moving average of a model's weights (Polyak & Juditsky, 1992).

    The decay grows from 2/11 to `decay`, so that the average soon forgets the initial weights.
    Buffers, such as the running statistics of batch normalisation, are the model's present ones.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        try:
            self.model = copy.deepcopy(model).eval()
        except (RuntimeError, TypeError) as error:
            kind = type([*getattr(model, "members", ()), model][0]).__name__
            raise SerError(
                f"{kind} cannot be copied, as the average of its weights needs "
                f"({error}); a model of your own must keep no results of forward as attributes: "
                "for torch.nn.utils.weight_norm take torch.nn.utils.parametrizations.weight_norm"
            ) from error
        self.decay = decay
        self.steps = 0
        self._pairs: list[Tensor] = list(self.model.parameters())
        self._buffers: list[Tensor] = list(self.model.buffers())

    def update(self, model: nn.Module) -> None:
        """Moves the average a step towards the model's current weights."""
        self.move(list(model.parameters()))
        self.take_buffers(model)

    @torch.no_grad()
    def move(self, weights: list[Tensor]) -> None:
        """Moves the average a step towards these weights, which are those of the whole model."""
        self.steps += 1
        # (1 + n) / (10 + n) is the warm-up of TensorFlow's ExponentialMovingAverage
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        # One call for all parameters instead of one per parameter: it is made at every step.
        torch._foreach_lerp_(self._pairs, weights, 1 - decay)

    @torch.no_grad()
    def take_buffers(self, model: nn.Module) -> None:
        """Copies the model's present buffers."""
        for average, present in zip(self._buffers, model.buffers(), strict=True):
            average.copy_(present)


def frozen_norms(part: nn.Module, learns: bool = True) -> Iterator[nn.Module]:
    """The normalisations whose running statistics stay, because their weights are frozen.

    One without weights is frozen with what is around it, once it has statistics.
    """
    own = [p.requires_grad for p in part.parameters()]
    learns = all(own) if own else learns
    if isinstance(part, _NormBase) and not learns and (own or part.num_batches_tracked):
        yield part
    for child in part.children():
        yield from frozen_norms(child, learns)

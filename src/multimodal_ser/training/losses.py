"""What members say [M, B, C] + the truth → a training's loss, by name: LOSSES.

The truth is a class id [B], shares of votes [B, C] or attributes on 0 … 1 [B, C]. A loss belongs to
tasks; the first in LOSSES that belongs to a task is the task's own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from multimodal_ser.dataset.examples import Examples
from multimodal_ser.errors import SerError, one_of
from multimodal_ser.training.schedule import class_weights, log_prior

_FOCUS = 2.0  # gamma of the focal loss


def cross_entropy(logits: Tensor, truth: Tensor, weights: Tensor, smoothing: float) -> Tensor:
    """Cross-entropy on classes, or on shares of votes; members' losses are summed.

    Args:
        logits: what every member says, [M, B, C].
        truth: classes [B] or shares [B, C].
        weights: of the classes [C].
        smoothing: share of probability spread over the other classes.
    """
    if truth.is_floating_point():
        shares = truth * (1 - smoothing) + smoothing / truth.shape[1]
        return _weighed(-shares * logits.log_softmax(2), shares, weights)
    members = len(logits)
    every = truth.repeat(members)
    flat = logits.flatten(0, 1)
    return members * F.cross_entropy(flat, every, weights, label_smoothing=smoothing)


def _weighed(each: Tensor, shares: Tensor, weights: Tensor) -> Tensor:
    """Terms [M, B, C], weighed by class; their mean over the batch's weight, summed over M."""
    return (each * weights).sum() / (shares * weights).sum()


def focal(logits: Tensor, truth: Tensor, weights: Tensor, smoothing: float) -> Tensor:
    """Cross-entropy times (1 - p)², which leaves what is known well alone (Lin et al. 2017)."""
    shares = _shares(truth, logits)
    logs = logits.log_softmax(2)
    return _weighed(-((1 - logs.exp()) ** _FOCUS) * shares * logs, shares, weights)


def _shares(truth: Tensor, logits: Tensor) -> Tensor:
    if truth.is_floating_point():
        return truth
    return F.one_hot(truth, logits.shape[2]).to(logits.dtype)


def balanced_softmax(logits: Tensor, truth: Tensor, weights: Tensor, smoothing: float) -> Tensor:
    """Cross-entropy after adding the classes' log frequencies (Ren et al. 2020).

    The logits themselves are then those of a world in which all classes are equally frequent,
    without a rare class's few utterances weighing more than the others in a batch.
    """
    return cross_entropy(logits + log_prior(weights), truth, torch.ones_like(weights), smoothing)


def kl(logits: Tensor, truth: Tensor, weights: Tensor, smoothing: float) -> Tensor:
    """Kullback–Leibler divergence from the votes' shares; neither weighed nor smoothed."""
    return F.kl_div(logits.log_softmax(2), truth.expand_as(logits), reduction="sum") / len(truth)


def one_minus_ccc(values: Tensor, truth: Tensor, weights: Tensor, smoothing: float) -> Tensor:
    """1 - CCC over the batch, mean over attributes; members' losses are summed."""
    t = truth.expand_as(values)
    gap = values.mean(1) - t.mean(1)
    both = ((values - values.mean(1, keepdim=True)) * (t - t.mean(1, keepdim=True))).mean(1)
    spread = values.var(1, correction=0) + t.var(1, correction=0)
    return (1 - 2 * both / (spread + gap**2 + 1e-8)).mean(1).sum()


def mse(values: Tensor, truth: Tensor, weights: Tensor, smoothing: float) -> Tensor:
    """Mean squared error; members' losses are summed."""
    return (values - truth).square().mean((1, 2)).sum()


@dataclass(frozen=True)
class Loss:
    """What a training minimises.

    Attributes:
        of: what members say [M, B, C], truth, class weights [C], smoothing → the summed losses.
        tasks: those that it is for.
        weighted: whether classes are weighed by inverse frequency; None for as the schedule says.
        learns: of votes, whether their shares are learnt, the most voted class alone, or the
            corpus's own label.
    """

    of: Callable[[Tensor, Tensor, Tensor, float], Tensor]
    tasks: tuple[str, ...]
    weighted: bool | None = None
    learns: Literal["truth", "majority", "label"] = "truth"

    def weights(
        self, examples: Examples, classes: int, weighted: bool, groups: Tensor | None = None
    ) -> Tensor:
        """The classes' weights [C]; ones for attributes."""
        if "attributes" in self.tasks:
            return torch.ones(classes)
        asked = weighted if self.weighted is None else self.weighted
        return class_weights(examples.truth, classes, asked, groups)


_OF_CLASSES = ("classes", "distributions")
LOSSES: dict[str, Loss] = {
    "kl": Loss(kl, ("distributions",), weighted=False),
    "cross-entropy": Loss(cross_entropy, _OF_CLASSES),
    "focal": Loss(focal, _OF_CLASSES),
    "balanced-softmax": Loss(balanced_softmax, _OF_CLASSES, weighted=True),
    "majority": Loss(cross_entropy, ("distributions",), learns="majority"),
    "label": Loss(cross_entropy, ("distributions",), learns="label"),
    "ccc": Loss(one_minus_ccc, ("attributes",)),
    "mse": Loss(mse, ("attributes",)),
}


def loss_for(task: str, name: str | None) -> str:
    """The loss's name: the one that is asked for, or the task's own.

    Raises:
        SerError: there is no such loss for the task.

    >>> loss_for("classes", None), loss_for("distributions", None), loss_for("attributes", "mse")
    ('cross-entropy', 'kl', 'mse')
    """
    fitting = [key for key, loss in LOSSES.items() if task in loss.tasks]
    if name is not None and name not in fitting:
        raise SerError(f"{one_of('loss', name, fitting)} (of --task {task})")
    return name or fitting[0]


def learnt_as(examples: Examples, name: str) -> Examples:
    """The examples as a loss learns them: of votes their shares, or one class alone.

    A hard label leaves out the utterances that have none: no class of the set, or votes that tie.
    """
    learns = LOSSES[name].learns
    if learns == "truth" or examples.target is None:
        return examples
    label = examples.label
    if learns == "majority":
        most = examples.target == examples.target.max(1, keepdim=True).values
        label = torch.where(most.sum(1) == 1, most.long().argmax(1), -1)
    hard = replace(examples, label=label, target=None)
    return hard.take(torch.nonzero(label >= 0)[:, 0])

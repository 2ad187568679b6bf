"""Outputs of an ensemble's members [M, B, C] + the truth → the training loss; LOSSES by name.

The truth is a class id [B], shares of the raters' votes [B, C] or attributes between 0 and 1
[B, C]. Each loss lists the tasks it is for; the first in LOSSES for a task is its default. Of two
tasks, the outputs stand side by side and the losses are added, see `loss_named`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from multimodal_ser.dataset.examples import Examples, with_label
from multimodal_ser.errors import SerError, one_of
from multimodal_ser.training.schedule import class_weights, log_prior

_FOCUS = 2.0  # gamma of the focal loss: the value that its paper recommends


def cross_entropy(logits: Tensor, truth: Tensor, weights: Tensor, smoothing: float) -> Tensor:
    """Cross-entropy with classes or with shares of votes, summed over the members.

    Args:
        logits: of every member, [M, B, C].
        truth: class ids [B] or shares [B, C].
        weights: of the classes [C].
        smoothing: share of the probability that is spread evenly over all classes (label
            smoothing; Szegedy et al., 2016).
    """
    if truth.is_floating_point():
        shares = truth * (1 - smoothing) + smoothing / truth.shape[1]
        return _weighted_mean(-shares * logits.log_softmax(2), shares, weights)
    # torch averages over all M · B rows; times M it is the sum of the members' own means, so that
    # the gradient of a member does not depend on how many members there are.
    members = len(logits)
    every = truth.repeat(members)
    flat = logits.flatten(0, 1)
    return members * F.cross_entropy(flat, every, weights, label_smoothing=smoothing)


def _weighted_mean(each: Tensor, shares: Tensor, weights: Tensor) -> Tensor:
    """Weighted mean over the batch of terms [M, B, C], summed over the members M.

    Divides by the sum of the weights, as torch's cross-entropy does.
    """
    return (each * weights).sum() / (shares * weights).sum()


def focal(logits: Tensor, truth: Tensor, weights: Tensor, smoothing: float) -> Tensor:
    """Focal loss (Lin et al. 2017): cross-entropy times (1 − p)², small for confident classes."""
    soft = truth.is_floating_point()
    shares = truth if soft else F.one_hot(truth, logits.shape[2]).to(logits.dtype)
    logs = logits.log_softmax(2)
    return _weighted_mean(-((1 - logs.exp()) ** _FOCUS) * shares * logs, shares, weights)


def balanced_softmax(logits: Tensor, truth: Tensor, weights: Tensor, smoothing: float) -> Tensor:
    """Cross-entropy after adding the log frequencies of the classes (Ren et al. 2020).

    The logits themselves then describe a world in which all classes are equally frequent, while
    every utterance of a batch has the same weight.
    """
    # Label smoothing must not raise the logit of a class that is missing: its prior hides it.
    present = (weights > 0).to(weights)
    return cross_entropy(logits + log_prior(weights), truth, present, smoothing)


def kl(logits: Tensor, truth: Tensor, weights: Tensor, smoothing: float) -> Tensor:
    """Kullback–Leibler divergence from the shares of votes, without class weights or smoothing."""
    # Sum over members and classes, mean over the batch.
    return F.kl_div(logits.log_softmax(2), truth.expand_as(logits), reduction="sum") / len(truth)


def one_minus_ccc(values: Tensor, truth: Tensor, weights: Tensor, smoothing: float) -> Tensor:
    """1 − CCC over the batch, averaged over attributes and summed over members.

    The CCC is Lin's (1989): 2 cov / (var + var + (difference of the means)²). As a loss it is the
    common choice for attributes, since it is the score itself.
    """
    t = truth.expand_as(values)  # [M, B, C]
    gap = values.mean(1) - t.mean(1)  # [M, C]
    # The covariance over the batch [M, C].
    both = ((values - values.mean(1, keepdim=True)) * (t - t.mean(1, keepdim=True))).mean(1)
    spread = values.var(1, correction=0) + t.var(1, correction=0)
    # 1e-8: a batch in which nothing varies has no CCC, and must not give nan
    return (1 - 2 * both / (spread + gap**2 + 1e-8)).mean(1).sum()


def mse(values: Tensor, truth: Tensor, weights: Tensor, smoothing: float) -> Tensor:
    """Mean squared error, summed over the members."""
    return (values - truth).square().mean((1, 2)).sum()


@dataclass(frozen=True)
class Loss:
    """A training loss and how it uses the truth.

    Attributes:
        of: outputs of the members [M, B, C], truth, class weights [C], smoothing → summed loss [].
        tasks: the tasks that it is for.
        weighted: whether classes are weighted by inverse frequency; None leaves it to the schedule.
        learns: what is learnt from votes: their shares (``truth``), only the class with the most
            votes (``majority``), or the corpus's own label (``label``).
        factor: of the attributes' loss in a sum.
    """

    of: Callable[[Tensor, Tensor, Tensor, float], Tensor]
    tasks: tuple[str, ...]
    weighted: bool | None = None
    learns: Literal["truth", "majority", "label"] = "truth"
    factor: float = 1.0

    def weights(
        self, examples: Examples, classes: int, weighted: bool, groups: Tensor | None = None
    ) -> Tensor:
        """Weights of the classes [C]; none for attributes, where there are no classes."""
        if not classes:
            return torch.ones(0)
        balanced = weighted if self.weighted is None else self.weighted
        truth = examples.truth
        _, truth = with_label(truth, truth, slice(0, classes))
        return class_weights(truth, classes, balanced, groups)


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


def loss_named(name: str | None) -> Loss:
    """The loss of a name from `loss_for`; the default of classes for None.

    The sum of two counts each over the utterances of the batch that have its task's label.
    """
    first, several, second = (name or "cross-entropy").partition("+")
    if not several:
        return LOSSES[first]
    factor, key = _factored(second)
    classes, values = LOSSES[first], LOSSES[key]

    def of(outputs: Tensor, truth: Tensor, weights: Tensor, smoothing: float) -> Tensor:
        cut = len(weights)
        total = outputs.sum() * 0  # so that a batch without any label has a gradient, of zero
        for loss, factor_of, columns in (
            (classes, 1.0, slice(0, cut)),
            (values, factor, slice(cut, None)),
        ):
            own, wanted = with_label(outputs, truth, columns)
            if len(wanted):
                total = total + factor_of * loss.of(own, wanted, weights, smoothing)
        return total

    return replace(classes, of=of, factor=factor)


def functions_of(name: str | None) -> list[Callable[..., Tensor]]:
    """The functions that a loss of this name consists of; of a sum, two; none if it is unknown.

    >>> functions_of("kl+0.5*mse") == [kl, mse]
    True
    """
    first, *second = (name or "cross-entropy").split("+")
    keys = (first, *(_factored(term)[1] for term in second))
    return [LOSSES[key].of for key in keys if key in LOSSES]


def _factored(term: str) -> tuple[float, str]:
    """The factor of a loss in a sum, and the loss's name.

    >>> _factored("0.5*ccc"), _factored("mse")
    ((0.5, 'ccc'), (1.0, 'mse'))
    """
    factor, times, name = term.rpartition("*")
    try:
        value = float(factor) if times else 1.0
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise SerError(f"loss {term!r}: the factor is a number, 0 or more, such as 0.5*ccc")
    return value, name


def loss_for(task: str, name: str | None) -> str:
    """The name of the loss to use: the given one, or the task's default.

    Raises:
        SerError: the task has no such loss.

    >>> loss_for("classes", None), loss_for("distributions", None), loss_for("attributes", "mse")
    ('cross-entropy', 'kl', 'mse')
    >>> loss_for("classes+attributes", None), loss_for("distributions+attributes", "kl+0.50*mse")
    ('cross-entropy+ccc', 'kl+0.5*mse')
    """
    if "+" in task:
        return _sum_for(task, name)
    fitting = [key for key, loss in LOSSES.items() if task in loss.tasks]
    if name is not None and name not in fitting:
        raise SerError(f"{one_of('loss', name, fitting)} (of --task {task})")
    return name or fitting[0]


def _sum_for(task: str, name: str | None) -> str:
    classes, values = task.split("+")
    first, several, second = (name or "").partition("+")
    if name and not several:
        raise SerError(
            f"loss {name!r}: --task {task} takes the losses of both, such as "
            f"{loss_for(task, None)}; a factor can stand before the second: 0.5*ccc"
        )
    factor, key = _factored(second)
    first = loss_for(classes, first or None)
    if LOSSES[first].learns != "truth":
        raise SerError(f"loss {first!r} leaves utterances out and is of --task distributions alone")
    return f"{first}+{'' if factor == 1 else f'{factor:g}*'}{loss_for(values, key or None)}"


def learnt_as(examples: Examples, name: str) -> Examples:
    """The examples as a loss needs them: with shares of votes, or with one class per utterance.

    Losses that need one class leave out utterances without one: those outside the class set, and
    those whose votes tie.
    """
    learns = loss_named(name).learns
    if learns == "truth" or examples.target is None:
        return examples
    label = examples.label
    if learns == "majority":
        # A single class with the most votes is a label; a tie is none (-1).
        most = examples.target == examples.target.max(1, keepdim=True).values
        label = torch.where(most.sum(1) == 1, most.long().argmax(1), -1)
    hard = replace(examples, label=label, target=None)
    return hard.take(torch.nonzero(label >= 0)[:, 0])

"""config, Examples → a fitted model: the training loop of the networks.

`fit` is given a training and a validation part and nothing else, so it cannot reach a test part.
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
from multimodal_ser.dataset.examples import Examples, with_label
from multimodal_ser.errors import SerError
from multimodal_ser.evaluation import metrics
from multimodal_ser.evaluation.agreement import ccc
from multimodal_ser.models.adapters import PACE
from multimodal_ser.models.fusion import Ensemble
from multimodal_ser.models.layers import Output
from multimodal_ser.training.alignment import Alignment, AlignmentTarget
from multimodal_ser.training.losses import loss_named
from multimodal_ser.training.schedule import (
    BestEpoch,
    WeightAverage,
    frozen_norms,
    likeliest_temperature,
    log_prior,
    rate,
)

_EVALUATION_BATCH = 512  # utterances; without gradients the memory of 512 is small


@dataclass(frozen=True)
class Fitted:
    """A fitted model and the record of its training.

    Attributes:
        model: ready to predict.
        history: one row per epoch, or per setting that was tried.
        validation: held-out logits [N, C] of the validation part, from before a refit made the
            model learn from that part too; None if the model was never refitted.
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
    adaptation: AlignmentTarget | None = None,
    groups: Tensor | None = None,
) -> Fitted:
    """Fits a network in place and keeps the epoch with the lowest validation loss.

    With `config.refit` the network is then trained again from its initial weights, for as many
    epochs, on training and validation part together, as the baselines are. With an alignment it
    is not, since there the validation part does not choose the epoch. Torch's random generators
    are seeded here, so the same seed and number of threads give the same model.

    Args:
        model: trained in place; parameters with ``requires_grad=False`` stay as they are.
        train: the training part; its statistics standardise the inputs.
        validation: chooses the epoch (`BestEpoch`) and sets the temperature.
        config: the schedule.
        seed: of the data order and of dropout.
        adaptation: a target without labels to align with; the model returned then standardises
            by the target's statistics if the method does.
        groups: group of each row, such as its corpus, [N + V]: the training rows, then the
            validation rows. An epoch then draws equally often from every group.
    """
    start = copy.deepcopy(model.state_dict())
    plain, own = model.standardize, None if groups is None else groups[: len(train)]
    # The loss that chooses the epoch is at the corpus's own class frequencies, see `log_prior`.
    prior = log_prior(_weights(model, train, config, own))
    training = _Training(model, train, config, seed, adaptation, own)
    # A small training part makes more epochs to reach `least_steps`; its patience grows alike.
    patience = math.ceil(config.patience * epochs_of(config, len(train)) / config.epochs)
    # The source's validation part cannot choose the epoch of an alignment: a feature that tells
    # classes apart in the source only raises its score, so that it would choose an epoch from
    # before the alignment has removed that feature.
    best = BestEpoch(patience, chooses=not (training.target and training.target.aligns))
    history = []
    for epoch in training.epochs():
        if not math.isfinite(training.loss):
            model.standardize = plain
            model.load_state_dict(start)
            raise SerError(_diverged(model, train, epoch))
        logits = predict(training.average.model, validation)
        scores = _judged(logits, validation, prior, loss_named(config.loss).factor)
        history.append({"epoch": epoch, "train_loss": training.loss, **scores})
        if best.stops_after(epoch, scores["validation_loss"], training.average.model):
            break
    model.load_state_dict(best.state)
    if model.values < model.classes:
        calibrate(model, validation)
    validation_logits = None
    if config.refit and best.chooses:
        # The temperature and the reported validation logits come from the model that has not
        # learnt from the validation part. `plain` before `start`: an adaptation may have put
        # another module there, whose state has other keys.
        temperature, validation_logits = model.temperature.clone(), predict(model, validation)
        model.standardize = plain
        model.load_state_dict(start)
        both = Examples.joined([train, validation])
        training = _Training(model, both, config, seed, adaptation, groups)
        planned = epochs_of(config, len(train)), epochs_of(config, len(both))
        last = _last_of_refit(best.epoch, *planned)
        for epoch in training.epochs():
            if epoch == last:
                break
        model.load_state_dict(training.average.model.state_dict())
        model.temperature.copy_(temperature)
    if training.target:
        model.standardize = training.target.standardize
    return Fitted(model.eval(), history, validation_logits)


def _last_of_refit(chosen: int, epochs: int, refit_epochs: int) -> int:
    """The epoch at which a refit ends, after the same share of its epochs as the chosen one.

    Training and validation part together need fewer epochs for the same number of steps. The
    learning rate is scheduled over `refit_epochs`, so that equal shares end at equal rates.

    Args:
        chosen: the epoch that was chosen on the training part, from 0.
        epochs: of the training part.
        refit_epochs: of both parts together.

    >>> _last_of_refit(9, 40, 36), _last_of_refit(39, 40, 36)
    (8, 35)
    """
    # Whole numbers, rounded up: a share as a float, times the same number of epochs again, may be
    # a little too large and end one epoch later.
    return -(-(chosen + 1) * refit_epochs // epochs) - 1


def _diverged(model: Ensemble, train: Examples, epoch: int) -> str:
    """Why the loss of a training that began with this model may have become nan."""
    kind = type(model.members[0]).__name__
    batch = [*train.batch(torch.arange(min(8, len(train))))[:4]]
    places = {"text": 0, "audio": 2}
    model.eval()

    def gives_nan(without: str | None) -> bool:
        given = list(batch)
        for place in () if without is None else (places[without], places[without] + 1):
            given[place] = torch.zeros_like(given[place])
        with torch.no_grad():
            text, text_mask, audio, audio_mask = given
            logits = model.each(text, text_mask, audio, audio_mask).logits
            return not bool(logits.isfinite().all())

    both = len(model.modalities) > 1 and not gives_nan(None)
    for name in filter(gives_nan, model.modalities if both else ()):
        return (
            f"{kind}: the training loss became nan in epoch {epoch}, since {kind}.forward gives "
            f"nan for an utterance without {name}; see the rules in docs/models.md (training "
            "hides modalities at random, unless --network.modality-dropout is 0)"
        )
    return (
        f"{kind}: the training diverged, its loss became nan in epoch {epoch}; take a lower "
        "--schedule.learning-rate, or correct the model if it is your own"
    )


def _weights(
    model: Ensemble, train: Examples, config: TrainConfig, groups: Tensor | None
) -> Tensor:
    """Weights of the classes in the loss [C]."""
    classes = model.classes - model.values
    return loss_named(config.loss).weights(train, classes, config.class_weights, groups)


def _judged(logits: Tensor, validation: Examples, prior: Tensor, factor: float) -> dict[str, float]:
    """Scores and loss of the validation part's outputs [N, C]; the loss chooses the epoch.

    The outputs are those of as many classes as there are priors (`log_prior`), then the values of
    attributes, whose loss is 1 − CCC times the factor.
    """
    scores, loss, cut = {}, 0.0, len(prior)
    if cut:
        outputs, truth = with_label(logits, validation.truth, slice(0, cut))
        temperature = likeliest_temperature(outputs, truth, prior)
        loss = float(F.cross_entropy(temperature * outputs + prior, truth))
        scores["validation_ua"] = ua_of(logits[:, :cut], validation)
    if cut < logits.shape[1]:
        outputs, truth = with_label(logits, validation.truth, slice(cut, None))
        # CCC is nan where nothing varies, as in a part of one utterance; such a part scores 0
        score = float(np.nan_to_num(ccc(truth.numpy(), outputs.numpy())).mean())
        scores["validation_ccc"] = score
        loss += factor * (1 - score)
    return {**scores, "validation_loss": loss}


def epochs_of(config: TrainConfig, rows: int) -> int:
    """Number of epochs for a training part of `rows`: `epochs`, or more to reach `least_steps`."""
    return max(config.epochs, math.ceil(config.least_steps / math.ceil(rows / config.batch_size)))


class _Training:
    """The loop over the training part, which yields after every epoch.

    Attributes:
        loss: mean training loss of the last epoch.
        average: moving average of the weights, which is what is evaluated and kept.
        target: alignment with a target corpus, or None.
    """

    def __init__(
        self,
        model: Ensemble,
        train: Examples,
        config: TrainConfig,
        seed: int,
        adaptation: AlignmentTarget | None,
        groups: Tensor | None,
    ) -> None:
        torch.manual_seed(seed)  # dropout draws from the global generator
        model.temperature.fill_(1.0)
        model.fit_inputs(train)
        self.model, self.train, self.config, self.groups = model, train, config, groups
        self.target = None
        if adaptation:
            self.target = Alignment(model, adaptation, train, config.batch_size, seed)
            model.standardize = self.target.source
        # After the statistics are set, since the average is a copy of the whole model.
        self.average = WeightAverage(model, config.average)
        # A generator of its own: what else draws numbers does not change the order of the data.
        self.order = torch.Generator().manual_seed(seed)
        self.loss = math.nan

    def epochs(self) -> Iterator[int]:
        """Trains epoch by epoch and yields the number of each, counted from 0."""
        model, train, config = self.model, self.train, self.config
        device = model.temperature.device
        weights = _weights(model, train, config, self.groups).to(device)
        loss_of = loss_named(config.loss).of
        # Collected once: walking through the modules at every step takes as long as some layers.
        every: list[Tensor] = list(model.parameters())
        own = [p for p in every if p.requires_grad]
        adapters = [*self.target.adapters.parameters()] if self.target else []
        learnt: list[dict[str, Any]] = [
            {"params": own},
            # A group of their own: adapters learn at another rate and are not clipped.
            {"params": adapters, "lr": PACE * config.learning_rate},
        ]
        optimizer = torch.optim.AdamW(  # fused: one kernel per step, not several per parameter
            learnt, config.learning_rate, weight_decay=config.weight_decay, fused=True
        )
        steps, epochs = math.ceil(len(train) / config.batch_size), epochs_of(config, len(train))
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, partial(rate, total=epochs * steps))
        resting = [*frozen_norms(model)]
        for epoch in range(epochs):
            losses = []
            model.train()
            for norm in resting:
                norm.eval()
            order = train.order(self.order, self.groups)
            # Groups or not, an epoch has as many rows as the training part.
            for step, rows in enumerate(split_rows(order, config.batch_size)):
                batch = train.batch(rows).to(device)
                each = model.each(*batch[:4])  # [members, B, C]
                _check_shape(model, each, len(rows))
                loss = loss_of(each.logits, batch.truth, weights, config.label_smoothing)
                if self.target:
                    loss = loss + self.target.loss(each, (epoch + step / steps) / epochs)
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                nn.utils.clip_grad_norm_(own, 1.0)
                optimizer.step()
                schedule.step()
                self.average.move(every)
                losses.append(loss.detach())  # not .item(), which would wait for a GPU every step
            self.average.take_buffers(model)
            self.loss = torch.stack(losses).mean().item()
            yield epoch


def split_rows(order: Tensor, size: int) -> list[Tensor]:
    """Rows [N] in batches of `size`; the last two are made equal rather than leave a single row.

    Over a single row, batch normalisation has no variance and a covariance does not exist.

    >>> [len(rows) for rows in split_rows(torch.arange(9), 4)]
    [4, 3, 2]
    """
    batches = list(torch.split(order, size))
    if len(batches) > 1 and len(batches[-1]) == 1:
        batches[-2:] = torch.cat(batches[-2:]).tensor_split(2)
    return batches


def _check_shape(model: Ensemble, each: Output, rows: int) -> None:
    wanted, kind = (rows, model.classes), type(model.members[0]).__name__
    if each.logits.shape[1:] != wanted:
        raise SerError(
            f"{kind}.forward gave logits of shape {[*each.logits.shape[1:]]}; needed: {[*wanted]}, "
            "a row for each utterance and a column for each class (docs/models.md)"
        )
    if each.embedding.ndim != 3 or each.embedding.shape[1] != rows:
        raise SerError(
            f"{kind}.forward gave an embedding of shape {[*each.embedding.shape[1:]]}; needed: "
            f"[{rows}, width], a row for each utterance (docs/models.md)"
        )


@torch.no_grad()
def calibrate(model: nn.Module, validation: Examples) -> None:
    """Sets a model's temperature to the one with the lowest cross-entropy on the validation part.

    Temperature scaling (Guo et al., 2017), with a grid in place of an optimiser. The most probable
    class never changes, only how probable it is said to be.
    """
    temperature: Tensor = model.temperature  # type: ignore[assignment]
    temperature.fill_(1.0)
    outputs = predict(model, validation)
    classes = slice(0, outputs.shape[1] - getattr(model, "values", 0))
    temperature.fill_(likeliest_temperature(*with_label(outputs, validation.truth, classes)))


@torch.inference_mode()
def predict(model: nn.Module, examples: Examples) -> Tensor:
    """Logits [N, C], in the examples' order."""
    model.eval()
    device = next(model.buffers()).device
    batches = (batch.to(device) for batch in examples.batches(_EVALUATION_BATCH))
    return torch.cat([model(*batch[:4]).logits.cpu() for batch in batches])


def ua_of(logits: Tensor, examples: Examples) -> float:
    """UA of logits [N, C] over those examples that have a class."""
    # Utterances without a class (-1) are learnt from in tasks of votes, but have no recall.
    known = examples.label >= 0
    label, predicted = examples.label[known].numpy(), logits.argmax(1)[known].numpy()
    return float(metrics.ua(metrics.confusion(label, predicted, logits.shape[1])))

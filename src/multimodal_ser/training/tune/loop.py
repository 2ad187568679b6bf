"""Clips + the weights of an encoder → a fitted model: the training loop of fine-tuning.

As in `training.loop.fit`, the functions here are given no test part.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from multimodal_ser.common.arrays import Ints
from multimodal_ser.common.files import tensors_header, write_file
from multimodal_ser.config.settings import TuneConfig
from multimodal_ser.dataset.examples import Examples
from multimodal_ser.errors import SerError
from multimodal_ser.evaluation import metrics
from multimodal_ser.models.layers import inverse
from multimodal_ser.training.loop import Fitted
from multimodal_ser.training.schedule import (
    EarlyStopping,
    WeightAverage,
    class_weights,
    likeliest_temperature,
    rate,
)
from multimodal_ser.training.tune.clips import Clips, batch_rows, clip_batches
from multimodal_ser.training.tune.encoders import TunedEncoders
from multimodal_ser.training.tune.multi_device import DeviceShare
from multimodal_ser.training.tune.tuned import Tuned

_EVALUATION_BATCH = 32  # recordings
_log = logging.getLogger(__name__)


def tune(
    model: Tuned | TunedEncoders,
    train: Clips,
    validation: Clips,
    config: TuneConfig,
    seed: int,
    *,
    features: tuple[Examples, Examples] | None = None,
    checkpoint: Path | None = None,
    share: DeviceShare = DeviceShare(),  # noqa: B008 - it cannot change
) -> Fitted:
    """Fine-tunes encoder and head, and keeps the epoch that the validation part chooses.

    Args:
        model: encoder with its pretrained weights and a new head; trained in place, first the head
            alone.
        train: the training part.
        validation: chooses the epoch (`schedule.EarlyStopping`), where -1 is the head alone, and
            sets the temperature.
        config: the schedule.
        seed: of data order, augmentation and dropout.
        features: of training and validation part, from the pretrained encoders; the head of
            `TunedEncoders` is first fitted to them.
        checkpoint: file that is written after each epoch, and resumed from if it exists.
        share: what this process computes of each batch, if several train together.
    """
    weights = class_weights(train.label, len(model.classes), config.class_weights)
    weights = weights.to(model.temperature.device)
    resumed = _can_resume(checkpoint)
    if not resumed:
        # A random head would first send large, meaningless gradients into the encoder (Kumar et
        # al., 2022, "Fine-Tuning can Distort Pretrained Features"), so it is fitted alone before.
        _fit_head(model, train, config, weights, seed, features)
    training = _Training(model, train, config, weights, seed, share)
    # Epochs are compared, and the best one is kept, by the moving average of the weights, which
    # varies less from step to step than the weights themselves.
    averaged: Tuned | TunedEncoders = training.average.model  # type: ignore[assignment]
    stopping = EarlyStopping(config.patience, len(validation))
    history = training.load(checkpoint, stopping) if checkpoint and resumed else []

    def add_epoch(epoch: int, **trained: float) -> None:
        history.append({"epoch": epoch, **trained, **evaluate(averaged, validation, share)})
        ua = history[-1]["validation_ua"]
        name = "the head alone" if epoch < 0 else f"epoch {epoch}"
        _log.info("%s: validation UA %.3f", name, ua)
        stopping.stops_after(epoch, ua, averaged)

    if not history:
        add_epoch(-1)
    for epoch in range(len(history) - 1, config.epochs):
        # Asked before an epoch, not after: a training that was killed after its last epoch ends too
        if stopping.is_over(epoch - 1):
            break
        add_epoch(epoch, train_loss=training.epoch(epoch))
        if checkpoint and not share.rank:  # the first process writes the files of all
            training.save(checkpoint, stopping, history)
    # Not strict: frozen weights are not part of the kept state.
    model.load_state_dict(stopping.state, strict=False)
    model.about["epoch"] = stopping.kept
    logits = predict_clips(model, validation, share)
    model.temperature.fill_(likeliest_temperature(logits, validation.label))
    return Fitted(model.eval(), history)


def _can_resume(path: Path | None) -> bool:
    """Whether there is a whole file of `_Training.save`; a damaged one is reported.

    The file of a machine that lost its power may be empty or cut off.
    """
    if path is None or not path.exists():
        return False
    try:
        tensors_header(path, "progress")
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        _log.warning("%s is damaged (%s): the training begins anew", path, error)
        return False
    return True


class _Training:
    """The optimiser, its learning-rate schedule, and the moving average of the weights.

    After each epoch their state is saved, from which an interrupted training resumes.
    """

    def __init__(
        self,
        model: Tuned | TunedEncoders,
        train: Clips,
        config: TuneConfig,
        weights: Tensor,
        seed: int,
        share: DeviceShare,
    ) -> None:
        self.model, self.train, self.config, self.weights = model, train, config, weights
        self.seed, self.share = seed, share
        self.optimizer = torch.optim.AdamW(
            model.learn(config, len(train)), config.learning_rate, weight_decay=config.weight_decay
        )
        batches = math.ceil(len(train) / config.batch_size)
        total = config.epochs * math.ceil(batches / config.accumulate)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, partial(rate, total=total)
        )
        self.average = WeightAverage(model, config.average)
        self.learner = share.learner(model)

    def epoch(self, number: int) -> float:
        """Trains for one epoch; returns its mean loss."""
        config, device = self.config, self.weights.device
        self.model.train()
        for part in self.model.modules():
            if isinstance(part, _NormBase):
                part.eval()  # keeps its running statistics: files of trained changes have none
        # Seeded anew for each epoch, so that a resumed training draws the same dropout masks as one
        # without interruption.
        torch.manual_seed(self.seed * 1_000 + number + 1_000_000 * self.share.rank)
        rows = batch_rows(self.train, config, self.seed, number)
        totals = self._totals(rows)
        losses, summed = [], 0.0
        in_bfloat16 = config.precision == "bfloat16"
        batches = clip_batches(self.train, rows, config, self.seed, number, self._inputs)
        for place, (inputs, label) in enumerate(batches):
            # The loss is computed in float32, whatever the products are computed in.
            with torch.autocast(device.type, torch.bfloat16, enabled=in_bfloat16):
                logits = self.learner.logits(inputs).float()
            # `accumulate` batches make one step; at the end of an epoch, those that are left do.
            step, before = divmod(place, config.accumulate)
            # torch averages gradients over processes, but the processes' parts of the loss add up.
            loss = self.share.world * self._loss(logits, label) / totals[step]
            loss.backward()  # type: ignore[no-untyped-call]
            summed += loss.item()
            if before < config.accumulate - 1 and place < len(rows) - 1:
                continue
            nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self.optimizer.step()
            self.optimizer.zero_grad()
            self.schedule.step()
            self.average.update(self.model)
            losses.append(summed)
            summed = 0.0
        mean = torch.tensor(losses, dtype=torch.float64).mean()
        return float(self.share.summed(mean) / self.share.world)

    def save(self, path: Path, stopping: EarlyStopping, history: list[dict[str, Any]]) -> None:
        """Writes all that resuming after an epoch needs as one file, complete or not at all."""
        tensors = {f"model.{k}": v for k, v in self.model.state_dict().items()}
        tensors |= {f"average.{k}": v for k, v in self.average.model.state_dict().items()}
        tensors |= {f"best.{k}": v for k, v in stopping.state.items()}
        # Frozen weights stay as they were loaded, and are loaded again from their source.
        frozen = self.model.frozen
        tensors = {k: v for k, v in tensors.items() if k.split(".", 1)[1] not in frozen}
        for place, parameter in enumerate(self._parameters()):
            kept = self.optimizer.state.get(parameter, {})
            tensors |= {f"optimizer.{place}.{k}": v for k, v in kept.items()}
        facts = {
            "history": history,
            "steps": self.average.steps,
            "best": [stopping.best, stopping.best_epoch, stopping.kept],
            "schedule": self.schedule.last_epoch,
        }
        # safetensors refuses tensors that share memory, as those of `best` and `average` may.
        apart = {k: v.detach().clone().contiguous() for k, v in tensors.items()}
        write_file(path, save(apart, {"progress": json.dumps(facts)}))

    def load(self, path: Path, stopping: EarlyStopping) -> list[dict[str, Any]]:
        """Restores the state that `save` wrote; returns the history."""
        facts = tensors_header(path, "progress")
        tensors = load_file(path)

        def under(prefix: str) -> dict[str, Tensor]:
            start = prefix + "."
            return {k[len(start) :]: v for k, v in tensors.items() if k.startswith(start)}

        whole = not self.model.frozen
        self.model.load_state_dict(under("model"), strict=whole)
        self.average.model.load_state_dict(under("average"), strict=whole)
        self.average.steps = facts["steps"]
        stopping.state = under("best")
        stopping.best, stopping.best_epoch, stopping.kept = facts["best"]
        # The file has the optimiser's state by the position of each parameter, as torch's own state
        # does; torch moves it to the parameters' devices. A frozen parameter has none.
        kept = {place: under(f"optimizer.{place}") for place in range(len(self._parameters()))}
        known = {place: state for place, state in kept.items() if state}
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": known})
        self.schedule.last_epoch = facts["schedule"]
        # The scheduler would set the learning rate only at its next step.
        for group, first in zip(self.optimizer.param_groups, self.schedule.base_lrs, strict=True):
            group["lr"] = first * self.schedule.lr_lambdas[0](facts["schedule"])
        return facts["history"]

    def _parameters(self) -> list[nn.Parameter]:
        return [p for group in self.optimizer.param_groups for p in group["params"]]

    def _totals(self, rows: Sequence[Ints]) -> list[Tensor]:
        """What divides the sum of each step's losses: the weights of all of its utterances.

        A step's loss is then that of one batch of them, whatever the sizes of its batches: an
        average over batches would give the utterances of a small last one more weight.
        """
        count = self.config.accumulate
        steps = [rows[start : start + count] for start in range(0, len(rows), count)]
        labels = [self.train.label[np.concatenate(step)].to(self.weights.device) for step in steps]
        return [self.weights[label].sum() for label in labels]

    def _inputs(self, rows: Sequence[int], draw: np.random.Generator | None) -> Any:
        """The model's inputs for this process's rows of a batch."""
        if draw is not None and self.share.rank:
            draw = draw.spawn(self.share.rank)[-1]  # other random numbers in each process
        # A process without rows computes one all the same, since the others wait for its gradients;
        # `_loss` leaves that row out.
        items = self.train.items(self.share.of(rows) or rows[:1], draw, whole=False)
        return self.model.inputs(items, draw)

    def _loss(self, logits: Tensor, label: Tensor) -> Tensor:
        """This process's part of the cross-entropy of a batch, summed over its rows.

        Args:
            logits: of this process's rows [N, C]; of one row that does not count if it has none.
            label: classes of the whole batch.
        """
        own = self.share.of(label.to(logits.device))
        return F.cross_entropy(
            logits[: len(own)],
            own,
            self.weights,
            label_smoothing=self.config.label_smoothing,
            reduction="sum",
        )


def _fit_head(
    model: Tuned | TunedEncoders,
    train: Clips,
    config: TuneConfig,
    weights: Tensor,
    seed: int,
    features: tuple[Examples, Examples] | None,
) -> None:
    if isinstance(model, Tuned):
        probe(model, train, config, weights, seed)
    elif features is None:
        raise SerError(
            "the head of fine-tuned encoders is trained on features of the pretrained encoders "
            "first; give features=(train, validation)"
        )
    else:
        model.begin(*features, config, seed)


def probe(model: Tuned, train: Clips, config: TuneConfig, weights: Tensor, seed: int) -> None:
    """Fits the head alone, on the pretrained encoder's vectors, which are computed once."""
    vectors = torch.cat(list(_pooled(model, train)))
    model.mean.copy_(vectors.mean(0))
    model.scale.copy_(inverse(vectors.std(0), model.mean))
    label = train.label.to(vectors.device)
    # Ten times the learning rate of fine-tuning: no pretrained weight changes here, and a new head
    # is far from its optimum.
    head = [*model.head.parameters(), *model.out.parameters()]
    optimizer = torch.optim.AdamW(head, 10 * config.learning_rate, weight_decay=config.weight_decay)
    torch.manual_seed(seed)
    model.train()
    for _ in range(config.probe_epochs):
        for rows in torch.split(torch.randperm(len(label)), config.batch_size):
            loss = F.cross_entropy(
                model.predict_from(vectors[rows]).logits,
                label[rows],
                weights,
                label_smoothing=config.label_smoothing,
            )
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()


@torch.no_grad()
def _pooled(model: Tuned, clips: Clips) -> Iterator[Tensor]:
    model.eval()
    device = model.out.weight.device
    for start in range(0, len(clips), _EVALUATION_BATCH):
        rows = range(start, min(start + _EVALUATION_BATCH, len(clips)))
        mel, lengths = model.inputs(clips.items(rows, whole=False))
        yield model.pooled(mel.to(device), lengths.to(device))


@torch.inference_mode()
def predict_clips(
    model: Tuned | TunedEncoders,
    clips: Clips,
    share: DeviceShare = DeviceShare(),  # noqa: B008 - it cannot change
) -> Tensor:
    """Logits [N, C], in the order of the clips; each process computes its share of the batches."""
    model.eval()
    # Recordings of like lengths share a batch, so that little of it is padding.
    order = sorted(range(len(clips)), key=lambda row: len(clips.waves[row]))
    logits = torch.zeros(len(clips), len(model.classes))
    for start in share.of(range(0, len(order), _EVALUATION_BATCH)):
        rows = order[start : start + _EVALUATION_BATCH]
        logits[rows] = model.predict(clips.items(rows))
    return share.summed(logits).cpu()


def evaluate(model: Tuned | TunedEncoders, clips: Clips, share: DeviceShare) -> dict[str, float]:
    """UA and cross-entropy on the validation part."""
    logits = predict_clips(model, clips, share)
    matrix = metrics.confusion(clips.label.numpy(), logits.argmax(1).numpy(), logits.shape[1])
    loss = float(F.cross_entropy(logits, clips.label))
    return {"validation_ua": float(metrics.ua(matrix)), "validation_loss": loss}

"""Clips + the weights of an encoder → a fitted model: the training loop of fine-tuning.

As in `training.loop.fit`, the functions here are given no test part.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from multimodal_ser.config.settings import TuneConfig
from multimodal_ser.dataset.examples import Examples
from multimodal_ser.errors import SerError
from multimodal_ser.evaluation import metrics
from multimodal_ser.models.layers import Output, inverse
from multimodal_ser.training.loop import Fitted
from multimodal_ser.training.schedule import (
    EarlyStopping,
    WeightAverage,
    class_weights,
    likeliest_temperature,
    rate,
)
from multimodal_ser.training.tune.checkpoint import TrainingState
from multimodal_ser.training.tune.clips import Clips, clip_batches, mels_of
from multimodal_ser.training.tune.encoders import TunedEncoders
from multimodal_ser.training.tune.multi_device import DeviceShare
from multimodal_ser.training.tune.tuned import Tuned, log_mels

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
        model: encoder with its pretrained weights and a new head; trained in place, the head by
            itself first.
        train: the training part.
        validation: chooses the epoch (`schedule.EarlyStopping`), where -1 is the head alone, and
            sets the temperature.
        config: the schedule.
        seed: of data order, augmentation and dropout.
        features: of both parts, made by the untouched encoders; the head of `TunedEncoders` learns
            from them first.
        checkpoint: file that is written after each epoch, and resumed from if it exists.
        share: of this process, if several learn together.
    """
    device, halved = model.temperature.device, config.precision == "bfloat16"
    weights = class_weights(train.label, len(model.classes), config.class_weights).to(device)
    if checkpoint is None or not checkpoint.exists():
        # A random head would first send large, meaningless gradients into the encoder (Kumar et
        # al., 2022, "Fine-Tuning can Distort Pretrained Features"), so it is fitted alone before.
        _fit_head(model, train, config, weights, seed, features)
    groups = _groups(model, train, config)
    optimizer = torch.optim.AdamW(groups, config.learning_rate, weight_decay=config.weight_decay)
    count = math.ceil(len(train) / config.batch_size)
    per_epoch = math.ceil(count / config.accumulate)
    total = config.epochs * per_epoch
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate(step, total))
    average = WeightAverage(model, config.average)
    # The moving average is what is evaluated and kept; the model itself only learns.
    averaged: Tuned | TunedEncoders = average.model  # type: ignore[assignment]
    stopping = EarlyStopping(config.patience, len(validation))
    state = TrainingState(model, optimizer, average, stopping, schedule, _frozen(model))
    history = state.load(checkpoint) if checkpoint and checkpoint.exists() else []
    if not history:
        history.append({"epoch": -1, **evaluate(averaged, validation, share)})
        stopping.stops_after(-1, history[-1]["validation_ua"], averaged)
        _log.info("the head alone: validation UA %.3f", history[-1]["validation_ua"])
    learner = share.learner(_Logits(model))
    for epoch in range(len(history) - 1, config.epochs):
        model.train()
        # Seeded anew for each epoch, so that a resumed training draws the same dropout masks as one
        # without interruption.
        torch.manual_seed(seed * 1_000 + epoch + 1_000_000 * share.rank)
        losses = []
        made = clip_batches(train, config, seed, epoch, partial(_own_batch, share, model, train))
        for place, (given, label) in enumerate(made, 1):
            # The loss is computed in float32, whatever the products are computed in.
            with torch.autocast(device.type, torch.bfloat16, enabled=halved):
                logits = learner(given).float()
            loss = share.world * _loss(logits, share.of(label), label, weights, config)
            # Several batches make one step, and so do those that are left at an epoch's end.
            left = count - (place - 1) // config.accumulate * config.accumulate
            (loss / min(config.accumulate, left)).backward()  # type: ignore[no-untyped-call]
            losses.append(loss.item())
            if place % config.accumulate and place < count:
                continue
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
            average.update(model)
        loss = share.summed(torch.tensor(losses, dtype=torch.float64).mean()) / share.world
        row = {"epoch": epoch, "train_loss": float(loss)}
        history.append({**row, **evaluate(averaged, validation, share)})
        _log.info("epoch %d: validation UA %.3f", epoch, history[-1]["validation_ua"])
        stop = stopping.stops_after(epoch, history[-1]["validation_ua"], average.model)
        if checkpoint and not share.rank:
            state.save(checkpoint, history)
        if stop:
            break
    # Not strict: frozen weights are not part of the kept state.
    model.load_state_dict(stopping.state, strict=False)
    model.about["epoch"] = stopping.kept
    logits = predict_clips(model, validation, share)
    model.temperature.fill_(likeliest_temperature(logits, validation.label))
    return Fitted(model.eval(), history)


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
            "the head of fine-tuned encoders is trained on their features first: give them"
        )
    else:
        model.begin(*features, config, seed)


def _groups(model: Tuned | TunedEncoders, train: Clips, config: TuneConfig) -> list[dict[str, Any]]:
    """The parameters that are trained, as groups for AdamW."""
    if isinstance(model, TunedEncoders):
        model.head.hide.rows = len(train)
        return model.groups(config)
    _freeze(model, config.frozen_blocks)
    return [{"params": [p for p in model.parameters() if p.requires_grad]}]


def _frozen(model: Tuned | TunedEncoders) -> frozenset[str]:
    """Names of frozen encoder weights, which a resumed training loads from their source."""
    if isinstance(model, Tuned):
        return frozenset()
    return frozenset(name for name, p in model.named_parameters() if not p.requires_grad)


class _Logits(nn.Module):
    """A model with the interface that torch averages gradients by: input in, one tensor out."""

    def __init__(self, model: Tuned | TunedEncoders) -> None:
        super().__init__()
        self.model = model

    def forward(self, given: Any) -> Tensor:
        """The result of `_collated` → logits [B, C]."""
        return _logits(self.model, given)


def _loss(
    logits: Tensor, own: Tensor, label: Tensor, weights: Tensor, config: TuneConfig
) -> Tensor:
    """A process's part of the cross-entropy of a batch: that of its own rows.

    Args:
        logits: of its own rows [N, C], or of one more row if it has none.
        own: their classes [N].
        label: classes of the whole batch, whose weights divide the sum.
        weights: of the classes.
        config: the schedule.
    """
    total = F.cross_entropy(
        logits[: len(own)],
        own.to(logits.device),
        weights,
        label_smoothing=config.label_smoothing,
        reduction="sum",
    )
    return total / weights[label.to(logits.device)].sum()


def _own_batch(
    share: DeviceShare,
    model: Tuned | TunedEncoders,
    clips: Clips,
    rows: Sequence[int],
    draw: np.random.Generator | None,
) -> Any:
    """As `_collated`, of a process's own rows; a batch can be too small to have one for each."""
    if draw is not None and share.rank:
        draw = draw.spawn(share.rank)[-1]
    return _collated(model, clips, share.of(rows) or rows[:1], draw)


def _collated(
    model: Tuned | TunedEncoders,
    clips: Clips,
    rows: Sequence[int],
    draw: np.random.Generator | None,
) -> Any:
    if isinstance(model, Tuned):
        return mels_of(clips, rows, draw)
    return model.inputs(clips.items(rows, draw))


def _logits(model: Tuned | TunedEncoders, given: Any) -> Tensor:
    if isinstance(model, Tuned):
        given = [part.to(model.temperature.device) for part in given]
    output: Output = model(given) if isinstance(model, TunedEncoders) else model(*given)
    return output.logits


def probe(model: Tuned, train: Clips, config: TuneConfig, weights: Tensor, seed: int) -> None:
    """Fits the head to the untouched encoder, on vectors that are computed once."""
    vectors = torch.cat(list(_pooled(model, train)))
    model.mean.copy_(vectors.mean(0))
    model.scale.copy_(inverse(vectors.std(0), model.mean))
    label = train.label.to(vectors.device)
    # The encoder is not touched here, so that a step costs little and the rate can be ten times
    # higher.
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
        mel, lengths = log_mels([clips.wave(row) for row in rows])
        yield model.pooled(mel.to(device), lengths.to(device))


def _freeze(model: Tuned, blocks: int) -> None:
    """Freezes the first blocks and the convolutions; the positions are always fixed."""
    model.encoder.positions.requires_grad_(False)
    if blocks:
        still = list(model.encoder.blocks)[:blocks]
        for module in (model.encoder.conv1, model.encoder.conv2, *still):
            module.requires_grad_(False)


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
        if isinstance(model, TunedEncoders):
            logits[rows] = model.predict_from(clips.items(rows))
        else:
            logits[rows] = _logits(model, _collated(model, clips, rows, None)).cpu()
    return share.summed(logits).cpu()


def evaluate(model: Tuned | TunedEncoders, clips: Clips, share: DeviceShare) -> dict[str, float]:
    """UA and cross-entropy on the validation part."""
    logits = predict_clips(model, clips, share)
    matrix = metrics.confusion(clips.label.numpy(), logits.argmax(1).numpy(), logits.shape[1])
    loss = float(F.cross_entropy(logits, clips.label))
    return {"validation_ua": float(metrics.ua(matrix)), "validation_loss": loss}

"""Examples → `KernelRidge`, an expert of `stacked` on pooled features.

Kernel ridge regression (Saunders et al., 1998) with an RBF kernel, from features to indicators of
the classes. It is as strong as a support vector machine, has a solution in closed form, and its
outputs make better log-probabilities for a combination: those of the machine are mostly numbers of
pairs of classes that a class wins.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import groupby

import numpy as np
import torch
import torch.nn.functional as F
from scipy.linalg import solve
from torch import Tensor, nn

from multimodal_ser.common.arrays import Floats
from multimodal_ser.config.settings import TrainConfig
from multimodal_ser.dataset.examples import MODALITIES, Examples
from multimodal_ser.models.fusion import Dims
from multimodal_ser.models.layers import Output
from multimodal_ser.training.baselines import (
    NEVER,
    Pooled,
    Setting,
    pooled_inputs,
    rbf,
    squared_distances,
)
from multimodal_ser.training.loop import Fitted, predict, ua_of
from multimodal_ser.training.schedule import class_weights, likeliest_temperature, log_prior
from multimodal_ser.training.selection import Judgement, fit_best

# Sorted by gamma, so that one kernel serves all C of it.
_SETTINGS = [Setting(c, gamma) for gamma in (0.1, 0.3, 1.0) for c in (1.0, 10.0)]
_MOST_ROWS = 6_000  # solved for exactly: time grows with their cube
_VECTORS = 3_000  # of more rows
_BLOCK = 4_096  # rows
_JITTER = 1e-6  # share of the mean diagonal: rows of equal features make a system singular


class KernelRidge(nn.Module):
    """Kernel ridge regression with an RBF kernel, and a temperature."""

    vectors: Tensor
    dual: Tensor
    bias: Tensor
    gamma: Tensor
    temperature: Tensor

    def __init__(
        self, dims: Dims, modalities: Sequence[str] = MODALITIES, *, vectors: int = 0
    ) -> None:
        super().__init__()
        self.pooled = Pooled(dims, modalities)
        shapes = {
            "vectors": (vectors, self.pooled.dim),
            "dual": (vectors, dims.classes),
            "bias": (dims.classes,),
            "gamma": (),
            "temperature": (),
        }
        for name, shape in shapes.items():
            self.register_buffer(name, torch.ones(shape))

    def forward(self, *batch: Tensor) -> Output:
        """Text, its mask, audio, its mask → logits [B, C] and the pooled input [B, D]."""
        x = self.pooled(*batch)
        found = rbf(x, self.vectors, self.gamma) @ self.dual
        return Output(found * self.temperature + self.bias, x)


def fit_kernel_ridge(
    dims: Dims,
    train: Examples,
    validation: Examples,
    config: TrainConfig,
    *,
    modalities: Sequence[str] = MODALITIES,
) -> Fitted:
    """Fits it with every setting and keeps the one with the lowest calibrated validation loss.

    The loss is at the class frequencies of the corpus, as in `schedule.BestEpoch`. With
    `config.refit` the model returned is fitted with that setting on training and validation part
    together, and `Fitted.validation` has the logits of the model before. Nothing is random.
    """
    prior = log_prior(class_weights(train.label, dims.classes, config.class_weights))

    def judge(setting: Setting, candidate: KernelRidge) -> Judgement:
        logits = predict(candidate, validation)
        factor = likeliest_temperature(logits, validation.label, prior)
        loss = float(F.cross_entropy(logits * factor + prior, validation.label))
        candidate.temperature.fill_(factor)
        row = {"validation_ua": ua_of(logits, validation), "validation_loss": loss}
        return -loss, {**setting._asdict(), **row}

    fitted_with = partial(_candidates, dims, config, modalities)
    return fit_best(fitted_with, _SETTINGS, judge, train, validation, refit=config.refit)


def _candidates(
    dims: Dims,
    config: TrainConfig,
    modalities: Sequence[str],
    train: Examples,
    settings: Sequence[Setting],
) -> Iterator[tuple[Setting, KernelRidge]]:
    """Yields each setting with the model fitted with it."""
    pooled = Pooled(dims, modalities)
    pooled.fit(train)
    x = torch.from_numpy(pooled_inputs(pooled, train))
    # Of many rows, evenly spaced ones carry the solution, which is fitted to all.
    exact = len(x) <= _MOST_ROWS
    places = np.arange(len(x)) if exact else np.linspace(0, len(x) - 1, _VECTORS).round()
    vectors = x[torch.from_numpy(places).long()]
    targets = np.eye(dims.classes)[train.label.numpy()] - 1 / dims.classes  # around zero: no bias
    weights = class_weights(train.label, dims.classes, config.class_weights)[train.label].double()
    row_weight = (weights / weights.mean()).numpy()
    present = torch.bincount(train.label, minlength=dims.classes) > 0
    # In double precision: small distances are differences of large numbers.
    apart = squared_distances(vectors.double(), vectors.double())
    for gamma, group in groupby(settings, key=lambda setting: setting.gamma or 1.0):
        # Relative to the width, so that one grid serves 88 and 1,536 features.
        scaled = torch.tensor(gamma / pooled.varying)
        # The minimum of Σ w_i ‖y_i − k_i β‖² + βᵀ K β / C, where k_i is the kernel of row i and
        # the vectors. If these are all rows, it solves (K + W⁻¹ / C) β = Y. Else, with K₁ the
        # kernel of all rows and the vectors, it solves (K₁ᵀ W K₁ + K / C) β = K₁ᵀ W Y (Smola &
        # Schölkopf, 2000).
        among = np.asarray(torch.exp(-scaled * apart).numpy())
        if exact:
            fixed, by_strength, wanted = among, np.diag(1 / row_weight), targets
        else:
            fixed, wanted = _normal_equations(x, vectors, scaled, row_weight, targets)
            by_strength = among
        for setting in group:
            model = KernelRidge(dims, modalities, vectors=len(vectors))
            model.pooled.load_state_dict(pooled.state_dict())
            dual = solve(fixed + by_strength / setting.strength, wanted, assume_a="pos")
            model.vectors, model.dual = vectors.float(), torch.from_numpy(dual).float()
            model.gamma, model.bias = scaled, torch.where(present, 0.0, NEVER)
            yield setting, model


def _normal_equations(
    x: Tensor, vectors: Tensor, gamma: Tensor, row_weight: Floats, targets: Floats
) -> tuple[Floats, Floats]:
    """``K₁ᵀ W K₁`` [V, V] and ``K₁ᵀ W Y`` [V, C], summed over blocks of rows to save memory."""
    gram = np.zeros((len(vectors), len(vectors)))
    wanted = np.zeros((len(vectors), targets.shape[1]))
    for start in range(0, len(x), _BLOCK):
        block = slice(start, start + _BLOCK)
        kernel = np.asarray(rbf(x[block].double(), vectors.double(), gamma).numpy())
        weighed = kernel.T * row_weight[block]
        gram += weighed @ kernel
        wanted += weighed @ targets[block]
    gram[np.diag_indices_from(gram)] += _JITTER * gram.trace() / len(gram)
    return gram, wanted

"""Examples → the two baselines that stand in every table, on pooled features.

`linear` is logistic regression and `svm` a support vector machine with an RBF kernel, fitted by
scikit-learn, their strength chosen on the validation part. Both become torch modules with the
networks' own forward, so that they are saved, loaded and asked like any other model.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.svm import SVC
from torch import Tensor, nn

from multimodal_ser import metrics
from multimodal_ser.config import TrainConfig
from multimodal_ser.data import Examples, Unlabelled
from multimodal_ser.layers import Output, inverse, masked_mean
from multimodal_ser.models import Dims
from multimodal_ser.train import Fitted, calibrate, predict

STRENGTHS = {"linear": (0.001, 0.01, 0.1, 1.0), "svm": (0.3, 1.0, 3.0, 10.0, 30.0)}
_NEVER = -30.0  # the logit of a class without a training example


class Pooled(nn.Module):
    """Means over real tokens, standardised, text beside audio: [B, D]; a missing side is zero."""

    mean: Tensor
    scale: Tensor

    def __init__(self, dims: Dims) -> None:
        super().__init__()
        for name in ("mean", "scale"):
            self.register_buffer(name, torch.zeros(dims.text + dims.audio))

    def fit(self, examples: Examples | Unlabelled) -> None:
        """Takes mean and deviation of each side over the utterances that have it."""
        start = 0
        for side in (examples.text, examples.audio):
            pooled = masked_mean(side.tokens, side.mask)[side.mask.any(1)]
            if len(pooled):
                place = slice(start, start + side.dim)
                self.mean[place] = pooled.mean(0)
                self.scale[place] = inverse(pooled.std(0, correction=0), self.mean[place])
            start += side.dim

    def forward(self, text: Tensor, text_mask: Tensor, audio: Tensor, audio_mask: Tensor) -> Tensor:
        """Text [B, T, Dt], audio [B, A, Da] and their masks → [B, Dt + Da]."""
        both = torch.cat([masked_mean(text, text_mask), masked_mean(audio, audio_mask)], 1)
        sides = (text_mask, text.shape[2]), (audio_mask, audio.shape[2])
        has = torch.cat([mask.any(1, keepdim=True).expand(-1, dim) for mask, dim in sides], 1)
        return (both - self.mean) * self.scale * has


class Linear(nn.Module):
    """Multinomial logistic regression."""

    def __init__(self, dims: Dims) -> None:
        super().__init__()
        self.pooled = Pooled(dims)
        self.out = nn.Linear(dims.text + dims.audio, dims.classes)

    def forward(self, *batch: Tensor) -> Output:
        """Text, its mask, audio, its mask → logits [B, C] and the pooled input [B, D]."""
        x = self.pooled(*batch)
        return Output(self.out(x), x)

    @torch.no_grad()
    def take(self, fitted: LogisticRegression) -> None:
        """Copies scikit-learn's solution; a class that it never saw is never chosen."""
        weight, bias = fitted.coef_, fitted.intercept_
        if len(fitted.classes_) == 2:  # scikit-learn keeps one row for two classes
            weight, bias = np.vstack([-weight, weight]) / 2, np.hstack([-bias, bias]) / 2
        self.out.weight.zero_()
        self.out.bias.fill_(_NEVER)
        self.out.weight[fitted.classes_] = torch.from_numpy(weight).float()
        self.out.bias[fitted.classes_] = torch.from_numpy(bias).float()


class Svm(nn.Module):
    """RBF support vector machine, one class against another, with a temperature.

    The pairs' decisions become one score a class as in scikit-learn: votes, and the summed
    confidences squeezed to less than half a vote.
    """

    vectors: Tensor
    dual: Tensor
    intercept: Tensor
    first: Tensor
    second: Tensor
    gamma: Tensor
    temperature: Tensor

    def __init__(self, dims: Dims, vectors: int = 0, pairs: int = 0) -> None:
        super().__init__()
        self.pooled = Pooled(dims)
        self.classes = dims.classes
        shapes = {"vectors": (vectors, dims.text + dims.audio), "dual": (pairs, vectors)}
        for name, shape in {
            **shapes,
            "intercept": (pairs,),
            "gamma": (),
            "temperature": (),
        }.items():
            self.register_buffer(name, torch.ones(shape))
        for name in ("first", "second"):  # the classes of each pair
            self.register_buffer(name, torch.zeros(pairs, dtype=torch.long))

    def forward(self, *batch: Tensor) -> Output:
        """Text, its mask, audio, its mask → logits [B, C] and the pooled input [B, D]."""
        x = self.pooled(*batch)
        kernel = torch.exp(-self.gamma * torch.cdist(x, self.vectors).square())
        decision = kernel @ self.dual.T + self.intercept  # [B, pairs]
        won = (decision > 0).to(x.dtype)
        votes, confidence = (
            x.new_zeros(len(x), self.classes)
            .index_add(1, self.first, to_first)
            .index_add(1, self.second, to_second)
            for to_first, to_second in ((won, 1 - won), (decision, -decision))
        )
        scores = votes + confidence / (3 * (confidence.abs() + 1))
        seen = torch.zeros(self.classes, dtype=torch.bool, device=x.device)
        seen[self.first] = seen[self.second] = True
        return Output((scores * self.temperature).masked_fill(~seen, _NEVER), x)

    @torch.no_grad()
    def take(self, fitted: SVC) -> None:
        """Copies scikit-learn's solution: its dual coefficients become one row a pair."""
        classes, ends = fitted.classes_, np.cumsum([0, *fitted.n_support_])
        rows, pairs = [], []
        for i in range(len(classes)):
            for j in range(i + 1, len(classes)):
                row = np.zeros(len(fitted.support_vectors_))
                of_i, of_j = slice(*ends[i : i + 2]), slice(*ends[j : j + 2])
                row[of_i] = fitted.dual_coef_[j - 1, of_i]
                row[of_j] = fitted.dual_coef_[i, of_j]
                rows.append(row)
                pairs.append((classes[i], classes[j]))
        # For two classes scikit-learn's public coefficients have the opposite sign.
        sign = -1.0 if len(classes) == 2 else 1.0
        self.dual = torch.from_numpy(sign * np.stack(rows)).float()
        self.intercept = torch.from_numpy(sign * fitted.intercept_).float()
        self.vectors = torch.from_numpy(fitted.support_vectors_).float()
        self.first, self.second = (torch.as_tensor(side) for side in zip(*pairs, strict=True))
        self.gamma = torch.tensor(float(fitted._gamma))


BASELINES: dict[str, type[Linear] | type[Svm]] = {"linear": Linear, "svm": Svm}


def fit_baseline(
    name: str, dims: Dims, train: Examples, validation: Examples, config: TrainConfig
) -> Fitted:
    """Fits a baseline at every strength and keeps the best validation UA (ties: lower loss).

    The history has one row a strength. Nothing is drawn at random.
    """
    weight = "balanced" if config.class_weights else None
    make: dict[str, Callable[[float], Any]] = {
        "linear": lambda C: LogisticRegression(C=C, max_iter=2000, class_weight=weight),
        "svm": lambda C: SVC(C=C, class_weight=weight, cache_size=1000),
    }
    history, best = [], (-1.0, 0.0)
    for strength in STRENGTHS[name]:
        candidate = BASELINES[name](dims)
        candidate.pooled.fit(train)
        candidate.take(make[name](strength).fit(inputs(candidate, train), train.label.numpy()))
        if isinstance(candidate, Svm):
            calibrate(candidate, validation)
        logits = predict(candidate, validation)
        matrix = metrics.confusion(validation.label, logits.argmax(1), dims.classes)
        ua, loss = float(metrics.ua(matrix)), float(F.cross_entropy(logits, validation.label))
        history.append({"strength": strength, "validation_ua": ua, "validation_loss": loss})
        if (ua, -loss) > best:
            best, model = (ua, -loss), candidate
    return Fitted(model.eval(), history)


def inputs(model: Linear | Svm, examples: Examples) -> NDArray[np.float32]:
    """The standardised pooled features that scikit-learn is given: [N, D]."""
    with torch.inference_mode():
        pooled = [model.pooled(*batch[:4]) for batch in examples.batches(512)]
    array: NDArray[np.float32] = torch.cat(pooled).numpy()
    return array

"""Examples → the two baselines that stand in every table, on pooled features.

`linear` is logistic regression and `svm` a support vector machine with an RBF kernel, fitted by
scikit-learn as a careful reviewer would: C, and for the svm gamma, chosen on the validation part,
then fitted again on training and validation part together. Both become torch modules with the
networks' own forward, so that they are saved, loaded and asked like any other model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import product
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.svm import SVC
from torch import Tensor, nn

from multimodal_ser.config.settings import TrainConfig
from multimodal_ser.dataset.examples import Examples, Unlabelled
from multimodal_ser.models.fusion import MODALITIES, Dims
from multimodal_ser.models.layers import Output, inverse, masked_mean
from multimodal_ser.training.loop import Fitted, calibrate, predict, ua_of

STRENGTHS = {
    "linear": (1e-4, 3e-4, 0.001, 0.003, 0.01, 0.03, 0.1, 1.0),
    "svm": (0.3, 1.0, 3.0, 10.0, 30.0),
}
# Of the RBF kernel, times the features' number: 1 is scikit-learn's "scale" on standardised ones.
GAMMAS = {"linear": (None,), "svm": (0.1, 0.3, 1.0, 3.0)}
_MOST_PRECOMPUTED = 12_000  # rows whose kernel, and its copy, are kept in memory: 2.3 GB
_NEVER = -30.0  # the logit of a class without a training example


class Setting(NamedTuple):
    """What is chosen on the validation part: C, and of the svm gamma times the width."""

    strength: float
    gamma: float | None


class Pooled(nn.Module):
    """Means over real tokens, standardised, text beside audio: [B, D]; a missing one is zero.

    Attributes:
        modalities: those that are read.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, dims: Dims, modalities: Sequence[str] = MODALITIES) -> None:
        super().__init__()
        self.modalities = tuple(name for name in MODALITIES if name in modalities)
        self.dim = sum(getattr(dims, name) for name in self.modalities)
        for name in ("mean", "scale"):
            self.register_buffer(name, torch.zeros(self.dim))

    def fit(self, examples: Examples | Unlabelled) -> None:
        """Takes mean and deviation of each modality over the utterances that have it."""
        start = 0
        for name in self.modalities:
            modality = getattr(examples, name)
            pooled = masked_mean(modality.tokens, modality.mask)[modality.mask.any(1)]
            if len(pooled):
                place = slice(start, start + modality.dim)
                self.mean[place] = pooled.mean(0)
                self.scale[place] = inverse(pooled.std(0, correction=0), self.mean[place])
            start += modality.dim

    def forward(self, text: Tensor, text_mask: Tensor, audio: Tensor, audio_mask: Tensor) -> Tensor:
        """Text [B, T, Dt], audio [B, A, Da] and their masks → [B, D]."""
        batch = {"text": (text, text_mask), "audio": (audio, audio_mask)}
        given = [batch[name] for name in self.modalities]
        means = torch.cat([masked_mean(x, mask) for x, mask in given], 1)
        has = torch.cat([mask.any(1, keepdim=True).expand(-1, x.shape[2]) for x, mask in given], 1)
        return (means - self.mean) * self.scale * has


class Linear(nn.Module):
    """Multinomial logistic regression."""

    def __init__(self, dims: Dims, modalities: Sequence[str] = MODALITIES) -> None:
        super().__init__()
        self.pooled = Pooled(dims, modalities)
        self.out = nn.Linear(self.pooled.dim, dims.classes)

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


def rbf(x: Tensor, vectors: Tensor, gamma: Tensor) -> Tensor:
    """The kernel ``exp(-γ ‖x_i − v_j‖²)`` [B, V] of x [B, D] and vectors [V, D]."""
    # Squares instead of `cdist`, which ONNX lacks.
    squares = x.square().sum(1, keepdim=True) + vectors.square().sum(1)
    return torch.exp(-gamma * (squares - 2 * x @ vectors.T).clamp(min=0))


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

    def __init__(
        self,
        dims: Dims,
        modalities: Sequence[str] = MODALITIES,
        *,
        vectors: int = 0,
        pairs: int = 0,
    ) -> None:
        super().__init__()
        self.pooled = Pooled(dims, modalities)
        self.classes = dims.classes
        shapes = {"vectors": (vectors, self.pooled.dim), "dual": (pairs, vectors)}
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
        decision = rbf(x, self.vectors, self.gamma) @ self.dual.T + self.intercept  # [B, pairs]
        # One-hot products instead of `index_add`, which ONNX lacks.
        first, second = (
            F.one_hot(side, self.classes).to(x.dtype) for side in (self.first, self.second)
        )
        won = (decision > 0).to(x.dtype)
        votes = won @ first + (1 - won) @ second
        confidence = decision @ (first - second)
        scores = votes + confidence / (3 * (confidence.abs() + 1))
        unseen = (first + second).sum(0) == 0
        return Output((scores * self.temperature).masked_fill(unseen, _NEVER), x)

    @torch.no_grad()
    def take(self, fitted: SVC, x: Tensor, gamma: float) -> None:
        """Copies scikit-learn's solution: its dual coefficients become one row a pair.

        Args:
            fitted: by the kernel ``exp(-gamma ‖x_i − x_j‖²)`` of the training rows.
            x: those rows [N, D].
            gamma: of the kernel.
        """
        classes, ends = fitted.classes_, np.cumsum([0, *fitted.n_support_])
        rows, pairs = [], []
        for i in range(len(classes)):
            for j in range(i + 1, len(classes)):
                row = np.zeros(len(fitted.support_))
                of_i, of_j = slice(*ends[i : i + 2]), slice(*ends[j : j + 2])
                row[of_i] = fitted.dual_coef_[j - 1, of_i]
                row[of_j] = fitted.dual_coef_[i, of_j]
                rows.append(row)
                pairs.append((classes[i], classes[j]))
        # For two classes scikit-learn's public coefficients have the opposite sign.
        sign = -1.0 if len(classes) == 2 else 1.0
        self.dual = torch.from_numpy(sign * np.stack(rows)).float()
        self.intercept = torch.from_numpy(sign * fitted.intercept_).float()
        self.vectors = x[torch.from_numpy(fitted.support_).long()]
        self.gamma = torch.tensor(gamma)
        self.first, self.second = (torch.as_tensor(side) for side in zip(*pairs, strict=True))


BASELINES: dict[str, type[Linear] | type[Svm]] = {"linear": Linear, "svm": Svm}


def fit_baseline(
    name: str,
    dims: Dims,
    train: Examples,
    validation: Examples,
    config: TrainConfig,
    *,
    modalities: Sequence[str] = MODALITIES,
    settings: Sequence[Setting] | None = None,
) -> Fitted:
    """Fits a baseline with every setting and keeps the best validation UA (ties: lower loss).

    The history has one row a setting. Nothing is drawn at random. Unless `config.refit` is off, the
    model returned is fitted with the best setting on training and validation part together; what
    the one before said of the validation part stands beside it.

    Args:
        name: key in BASELINES.
        dims: widths and number of classes.
        train: what it learns from.
        validation: what chooses the setting.
        config: class weights and refitting.
        modalities: those that are read.
        settings: to choose from; STRENGTHS × GAMMAS where not given.
    """
    kind = partial(BASELINES[name], dims, modalities)
    weight = "balanced" if config.class_weights else None
    grid = settings or [Setting(*pair[::-1]) for pair in product(GAMMAS[name], STRENGTHS[name])]
    history, best = [], (-1.0, 0.0)
    for setting, candidate in _candidates(kind, train, weight, grid):
        if isinstance(candidate, Svm):
            calibrate(candidate, validation)
        logits = predict(candidate, validation)
        ua, loss = ua_of(logits, validation), float(F.cross_entropy(logits, validation.label))
        row = {key: value for key, value in setting._asdict().items() if value is not None}
        history.append({**row, "validation_ua": ua, "validation_loss": loss})
        if (ua, -loss) > best:
            best, chosen, model, said = (ua, -loss), setting, candidate, logits
    if config.refit:
        both = Examples.joined([train, validation])
        ((_, again),) = _candidates(kind, both, weight, [chosen])
        if isinstance(model, Svm) and isinstance(again, Svm):
            again.temperature = model.temperature
        model = again
    return Fitted(model.eval(), history, said)


def _candidates(
    kind: Callable[[], Linear | Svm],
    train: Examples,
    weight: str | None,
    settings: Iterable[Setting],
) -> Iterator[tuple[Setting, Linear | Svm]]:
    """The baseline fitted with each setting."""
    pooled = kind().pooled
    pooled.fit(train)
    x = torch.from_numpy(pooled_inputs(pooled, train))
    label = train.label.numpy()
    # The svm is given its kernel: scikit-learn's own code computes distances several times over,
    # and one distance of two rows serves every setting. Double, since the differences are small.
    given = isinstance(kind(), Svm) and len(x) <= _MOST_PRECOMPUTED
    distances = torch.cdist(x.double(), x.double()).square() if given else x
    known, kernel = None, np.empty(0)
    for setting in settings:
        model = kind()
        model.pooled.load_state_dict(pooled.state_dict())
        if isinstance(model, Linear):
            logistic = LogisticRegression(C=setting.strength, max_iter=2000, class_weight=weight)
            model.take(logistic.fit(x.numpy(), label))
        else:
            gamma = (setting.gamma or 1.0) / max(1, x.shape[1])
            machine = SVC(C=setting.strength, gamma=gamma, class_weight=weight, cache_size=1000)
            if not given:
                kernel = x.numpy()
            elif known != gamma:
                known, kernel = gamma, distances.mul(-gamma).exp_().numpy()
            machine.set_params(kernel="precomputed" if given else "rbf")
            model.take(machine.fit(kernel, label), x, gamma)
        yield setting, model


def inputs(model: Linear | Svm, examples: Examples) -> NDArray[np.float32]:
    """The standardised pooled features that scikit-learn is given: [N, D]."""
    return pooled_inputs(model.pooled, examples)


def pooled_inputs(pooled: Pooled, examples: Examples) -> NDArray[np.float32]:
    """The standardised means of examples [N, D]."""
    with torch.inference_mode():
        array: NDArray[np.float32] = torch.cat(
            [pooled(*batch[:4]) for batch in examples.batches(512)]
        ).numpy()
    return array

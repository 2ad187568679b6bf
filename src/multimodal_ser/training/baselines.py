"""Examples → the two baselines that every table shows, on pooled features.

`linear` is logistic regression and `svm` a support vector machine with an RBF kernel. Both are
fitted by scikit-learn: C, and gamma of the svm, are chosen on the validation part, and the chosen
setting is refitted on training and validation part together. Both become torch modules with the
same `forward` as the networks, so that they are saved, loaded and used like any other model.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import product
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression
from sklearn.svm import SVC
from torch import Tensor, nn

from multimodal_ser.common.arrays import Singles
from multimodal_ser.config.settings import TrainConfig
from multimodal_ser.dataset.examples import MODALITIES, Examples, Unlabelled
from multimodal_ser.models.fusion import Dims
from multimodal_ser.models.layers import Output, inverse, masked_mean
from multimodal_ser.training.loop import Fitted, calibrate, predict, ua_of
from multimodal_ser.training.selection import Judgement, fit_best

_log = logging.getLogger(__name__)
STRENGTHS = {
    "linear": (1e-4, 3e-4, 0.001, 0.003, 0.01, 0.03, 0.1, 1.0),
    "svm": (0.3, 1.0, 3.0, 10.0, 30.0),
}
# Gamma of the RBF kernel times the number of features that vary: 1 equals scikit-learn's
# gamma="scale", 1 / (features · variance), where features are standardised and constant ones are 0.
GAMMAS = {"linear": (None,), "svm": (0.1, 0.3, 1.0, 3.0)}
_MOST_PRECOMPUTED = 12_000  # rows: the kernel and its copy in double precision take 2.3 GB
NEVER = -30.0  # the logit of a class without a training example


class Setting(NamedTuple):
    """What is chosen on the validation part: C, and for the svm gamma times `Pooled.varying`."""

    strength: float
    gamma: float | None


class Pooled(nn.Module):
    """Standardised means over real tokens, text and audio concatenated: [B, D].

    A modality that an utterance lacks is zero: the mean of the standardised features.

    Attributes:
        modalities: the modalities that are read.
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
        """Computes mean and deviation of each modality over the utterances that have it."""
        start = 0
        for name in self.modalities:
            modality = getattr(examples, name)
            pooled = masked_mean(modality.tokens, modality.mask)[modality.mask.any(1)]
            if len(pooled):
                place = slice(start, start + modality.dim)
                self.mean[place] = pooled.mean(0)
                self.scale[place] = inverse(pooled.std(0, correction=0), self.mean[place])
            start += modality.dim

    @property
    def varying(self) -> int:
        """How many features vary, at least 1; constant ones are zero once standardised."""
        return max(1, int(self.scale.count_nonzero()))

    def forward(self, text: Tensor, text_mask: Tensor, audio: Tensor, audio_mask: Tensor) -> Tensor:
        """Text [B, T, Dt], audio [B, A, Da] and their masks → [B, D]."""
        batch = {"text": (text, text_mask), "audio": (audio, audio_mask)}
        given = [batch[name] for name in self.modalities]
        means = torch.cat([masked_mean(x, mask) for x, mask in given], 1)
        # 1 where the utterance has the modality: a missing one becomes 0 after standardising, too.
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
        """Copies scikit-learn's solution; a class that it was not trained on is never predicted."""
        weight, bias = fitted.coef_, fitted.intercept_
        # For two classes scikit-learn keeps one row w; softmax(−w/2, w/2) is its sigmoid(w).
        if len(fitted.classes_) == 2:
            weight, bias = np.vstack([-weight, weight]) / 2, np.hstack([-bias, bias]) / 2
        self.out.weight.zero_()
        self.out.bias.fill_(NEVER)
        self.out.weight[fitted.classes_] = torch.from_numpy(weight).float()
        self.out.bias[fitted.classes_] = torch.from_numpy(bias).float()


def rbf(x: Tensor, vectors: Tensor, gamma: Tensor) -> Tensor:
    """The kernel ``exp(-γ ‖x_i − v_j‖²)`` [B, V] of x [B, D] and vectors [V, D]."""
    return torch.exp(-gamma * squared_distances(x, vectors))


def squared_distances(x: Tensor, vectors: Tensor) -> Tensor:
    """``‖x_i − v_j‖²`` [B, V] of x [B, D] and vectors [V, D]."""
    # ‖x‖² + ‖v‖² − 2xv instead of torch.cdist, for which ONNX has no operator; rounding can make it
    # slightly negative.
    squares = x.square().sum(1, keepdim=True) + vectors.square().sum(1)
    return (squares - 2 * x @ vectors.T).clamp(min=0)


class Svm(nn.Module):
    """RBF support vector machine with one classifier for each pair of classes, and a temperature.

    The decisions become one score per class as in scikit-learn (`_ovr_decision_function`): the
    number of pairs that a class wins, plus its summed confidences squeezed into ±1/3, which break
    ties but outweigh no vote.
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
        self.register_buffer("vectors", torch.ones(vectors, self.pooled.dim))
        self.register_buffer("dual", torch.ones(pairs, vectors))
        self.register_buffer("intercept", torch.ones(pairs))
        for name in ("gamma", "temperature"):
            self.register_buffer(name, torch.tensor(1.0))
        for name in ("first", "second"):  # the classes of each pair
            self.register_buffer(name, torch.zeros(pairs, dtype=torch.long))

    def forward(self, *batch: Tensor) -> Output:
        """Text, its mask, audio, its mask → logits [B, C] and the pooled input [B, D]."""
        x = self.pooled(*batch)
        decision = rbf(x, self.vectors, self.gamma) @ self.dual.T + self.intercept  # [B, pairs]
        # Products with one-hot vectors instead of index_add, for which ONNX has no operator.
        first, second = (
            F.one_hot(side, self.classes).to(x.dtype) for side in (self.first, self.second)
        )
        won = (decision > 0).to(x.dtype)  # [B, pairs]
        votes = won @ first + (1 - won) @ second
        confidence = decision @ (first - second)
        # scikit-learn's squashing, x / (3 (|x| + 1)), lies within ±1/3.
        scores = votes + confidence / (3 * (confidence.abs() + 1))
        unseen = (first + second).sum(0) == 0  # classes in no pair: the training part lacked them
        return Output((scores * self.temperature).masked_fill(unseen, NEVER), x)

    @torch.no_grad()
    def take(self, fitted: SVC, x: Tensor, gamma: float) -> None:
        """Copies scikit-learn's solution: its dual coefficients become one row per pair.

        Args:
            fitted: with the kernel ``exp(-gamma ‖x_i − x_j‖²)`` of the training rows.
            x: those rows [N, D].
            gamma: of the kernel.
        """
        # Support vectors are sorted by class. For the pair (i, j), i < j, LIBSVM keeps the
        # coefficients of class i's vectors in row j − 1 and those of class j's in row i.
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
    """Fits a baseline with every setting and keeps the highest validation UA (ties: lower loss).

    The history has one row per setting. Nothing is random. With `config.refit` the model returned
    is fitted with the best setting on training and validation part together, and
    `Fitted.validation` has the logits of the model before.

    Args:
        name: key in BASELINES.
        dims: widths and number of classes.
        train: the training part.
        validation: the part that chooses the setting.
        config: class weights and refitting.
        modalities: the modalities that are read.
        settings: those to choose from; STRENGTHS × GAMMAS by default.
    """
    kind = partial(BASELINES[name], dims, modalities)
    if name == "svm" and len(train) > _MOST_PRECOMPUTED:
        _log.warning("svm: %d rows may take hours; without it: --baselines linear", len(train))
    weight = "balanced" if config.class_weights else None
    grid = settings or [Setting(*pair[::-1]) for pair in product(GAMMAS[name], STRENGTHS[name])]

    def judge(setting: Setting, candidate: Linear | Svm) -> Judgement:
        if isinstance(candidate, Svm):
            calibrate(candidate, validation)
        logits = predict(candidate, validation)
        ua, loss = ua_of(logits, validation), float(F.cross_entropy(logits, validation.label))
        row = {key: value for key, value in setting._asdict().items() if value is not None}
        # The loss only decides between settings of equal UA.
        return (ua, -loss), {**row, "validation_ua": ua, "validation_loss": loss}

    fitted_with = partial(_candidates, kind, weight)
    return fit_best(fitted_with, grid, judge, train, validation, refit=config.refit)


def _candidates(
    kind: Callable[[], Linear | Svm],
    weight: str | None,
    train: Examples,
    settings: Iterable[Setting],
) -> Iterator[tuple[Setting, Linear | Svm]]:
    """Yields each setting with the baseline fitted with it."""
    pooled = kind().pooled
    pooled.fit(train)
    x = torch.from_numpy(pooled_inputs(pooled, train))
    label = train.label.numpy()
    # The svm is given its kernel, since scikit-learn would compute the distances again for every
    # setting. Double precision, because small distances are differences of large numbers.
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
            # Relative to the width, so that one grid serves 88 and 1,536 features.
            gamma = (setting.gamma or 1.0) / pooled.varying
            machine = SVC(C=setting.strength, gamma=gamma, class_weight=weight, cache_size=1000)
            if not given:
                kernel = x.numpy()
            # settings of one gamma differ in C alone, and share a kernel
            elif known != gamma:
                known, kernel = gamma, distances.mul(-gamma).exp_().numpy()
            machine.set_params(kernel="precomputed" if given else "rbf")
            model.take(machine.fit(kernel, label), x, gamma)
        yield setting, model


def pooled_inputs(pooled: Pooled, examples: Examples) -> Singles:
    """The standardised pooled features [N, D] of examples."""
    with torch.inference_mode():
        found = torch.cat([pooled(*batch[:4]) for batch in examples.batches(512)])
    return found.numpy()

"""Examples → the two baselines of attributes: ridge and support vector regression.

Both read pooled features and are fitted by scikit-learn with every setting. The setting with the
highest mean CCC on the validation part is refitted on training and validation part together. Like
the baselines of classes they become torch modules with the same `forward` as the networks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import product

import numpy as np
import torch
from sklearn.linear_model import Ridge as RidgeRegression
from sklearn.svm import SVR
from torch import Tensor, nn

from multimodal_ser.config.settings import TrainConfig
from multimodal_ser.dataset.examples import Examples
from multimodal_ser.evaluation.agreement import ccc
from multimodal_ser.models.fusion import Dims
from multimodal_ser.models.layers import Output
from multimodal_ser.training.baselines import Linear, Pooled, pooled_inputs, rbf
from multimodal_ser.training.loop import Fitted, predict
from multimodal_ser.training.selection import Judgement, fit_best

_Setting = Mapping[str, float]
_EPSILON = 0.05  # on the scale 0 … 1: smaller errors cost nothing in support vector regression


class Ridge(Linear):
    """Ridge regression: linear regression with a squared penalty on the weights."""

    SETTINGS: Sequence[_Setting] = [{"alpha": float(a)} for a in np.geomspace(1, 1e5, 11)]

    def __init__(self, dims: Dims, **_: int) -> None:
        super().__init__(dims)

    @torch.no_grad()
    def fit(self, x: np.ndarray, target: np.ndarray, setting: _Setting) -> None:
        """Fits scikit-learn's ridge regression to inputs [N, D] and values [N, A]."""
        fitted = RidgeRegression(alpha=setting["alpha"]).fit(x, target)
        self.out.weight.copy_(torch.from_numpy(fitted.coef_))
        self.out.bias.copy_(torch.from_numpy(fitted.intercept_))


class Svr(nn.Module):
    """Support vector regression with an RBF kernel, one machine per attribute."""

    # gamma times `Pooled.varying`: 1 equals scikit-learn's "scale" on standardised features
    SETTINGS: Sequence[_Setting] = [
        {"strength": c, "gamma": gamma} for gamma, c in product((0.3, 1.0), (0.03, 0.1, 0.3, 1.0))
    ]

    vectors: Tensor
    dual: Tensor
    intercept: Tensor
    gamma: Tensor

    def __init__(self, dims: Dims, *, vectors: int = 0) -> None:
        super().__init__()
        self.pooled = Pooled(dims)
        shapes = {"vectors": (vectors, self.pooled.dim), "dual": (dims.classes, vectors)}
        for name, shape in {**shapes, "intercept": (dims.classes,), "gamma": ()}.items():
            self.register_buffer(name, torch.ones(shape))

    def forward(self, *batch: Tensor) -> Output:
        """Text, its mask, audio, its mask → values [B, A] and the pooled input [B, D]."""
        x = self.pooled(*batch)
        return Output(rbf(x, self.vectors, self.gamma) @ self.dual.T + self.intercept, x)

    @torch.no_grad()
    def fit(self, x: np.ndarray, target: np.ndarray, setting: _Setting) -> None:
        """Fits scikit-learn's machines to inputs [N, D] and values [N, A]."""
        gamma = setting["gamma"] / self.pooled.varying
        machine = SVR(C=setting["strength"], gamma=gamma, epsilon=_EPSILON, cache_size=1000)
        dual, intercept = np.zeros((target.shape[1], len(x))), np.zeros(target.shape[1])
        # scikit-learn's SVR predicts one value: one machine per attribute, over the same support
        # vectors.
        for place, values in enumerate(target.T):
            fitted = machine.fit(x, values)
            dual[place, fitted.support_] = fitted.dual_coef_[0]
            intercept[place] = fitted.intercept_[0]
        used = dual.any(0)  # rows that support no attribute are not kept
        self.vectors, self.dual = torch.from_numpy(x[used]), torch.from_numpy(dual[:, used]).float()
        self.intercept, self.gamma = torch.from_numpy(intercept).float(), torch.tensor(gamma)


REGRESSORS: dict[str, type[Ridge] | type[Svr]] = {"ridge": Ridge, "svr": Svr}


def fit_regressor(
    name: str, dims: Dims, train: Examples, validation: Examples, config: TrainConfig
) -> Fitted:
    """Fits a baseline with every setting and keeps the highest mean CCC on the validation part.

    Args:
        name: key in REGRESSORS.
        dims: widths and number of attributes.
        train: the training part.
        validation: the part that chooses the setting.
        config: whether the chosen setting is refitted on both parts together.
    """
    kind = REGRESSORS[name]

    def judge(setting: _Setting, candidate: Ridge | Svr) -> Judgement:
        values = predict(candidate, validation).numpy()
        # CCC is nan where nothing varies, as in a part of one utterance: all settings then tie
        score = float(np.nan_to_num(ccc(validation.truth.numpy(), values), nan=-1).mean())
        return score, {**setting, "validation_ccc": score}

    fitted_with = partial(_candidates, kind, dims)
    return fit_best(fitted_with, kind.SETTINGS, judge, train, validation, refit=config.refit)


def _candidates(
    kind: type[Ridge] | type[Svr], dims: Dims, train: Examples, settings: Sequence[_Setting]
) -> Iterator[tuple[_Setting, Ridge | Svr]]:
    """Yields each setting with the baseline fitted with it."""
    pooled = Pooled(dims)
    pooled.fit(train)
    x, target = pooled_inputs(pooled, train), train.truth.numpy()
    for setting in settings:
        model = kind(dims)
        model.pooled.load_state_dict(pooled.state_dict())
        model.fit(x, target, setting)
        yield setting, model

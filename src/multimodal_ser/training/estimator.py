"""X [N, F], y → a fitted model with scikit-learn's interface: fit, predict, predict_proba."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.model_selection import GroupShuffleSplit, StratifiedShuffleSplit
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data

from multimodal_ser.common.arrays import Ints, Singles
from multimodal_ser.config.settings import ModelConfig, TrainConfig
from multimodal_ser.dataset.examples import Examples, Modality
from multimodal_ser.models.fusion import MODELS, Dims, Ensemble
from multimodal_ser.training.baselines import BASELINES, fit_baseline
from multimodal_ser.training.loop import Fitted, fit, predict
from multimodal_ser.training.stacking import STACKED, fit_stacked


class FusionClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """The project's models for scikit-learn's pipelines, searches and cross-validations.

    A row is an utterance: the features of its sound and then, in the last `text_columns` columns,
    those of its words. A tenth of the rows is the validation part, which chooses epoch, setting
    and temperature; then the model is fitted again on all rows.

    Attributes:
        classes_: class labels, sorted, [C].
        model_: the fitted torch module: tokens and masks in, logits [N, C] out.
        n_features_in_: columns of X.
    """

    def __init__(
        self,
        model: str = STACKED,
        *,
        text_columns: int = 0,
        seed: int = 0,
        network: ModelConfig | None = None,
        schedule: TrainConfig | None = None,
    ) -> None:
        """Stores the settings.

        Args:
            model: one that `ser list` shows, such as stacked, cross_attention, linear, svm.
            text_columns: how many of the last columns are features of the words.
            seed: of the networks, and of the choice of validation rows.
            network: settings of the network; None for the recommended ones.
            schedule: settings of the training; None for the recommended ones.
        """
        self.model = model
        self.text_columns = text_columns
        self.seed = seed
        self.network = network
        self.schedule = schedule

    def fit(self, X: ArrayLike, y: ArrayLike, groups: ArrayLike | None = None) -> FusionClassifier:
        """Fits the model.

        Args:
            X: float [N, F], any units: columns are standardised.
            y: class labels [N].
            groups: speaker of each row [N]; the validation part then consists of whole speakers,
                otherwise of single rows.

        Raises:
            ValueError: an unknown model, fewer than two classes, or other shapes.
        """
        # scikit-learn's own checks and messages, as its estimator tests require.
        x, y = validate_data(self, X, y, dtype=np.float32, multi_output=True)
        y = column_or_1d(y, warn=True)
        check_classification_targets(y)
        self.classes_, label = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"one class, {self.classes_[0]!r}; at least two classes are needed")
        known = (*MODELS, STACKED, *BASELINES)
        if self.model not in known:
            raise ValueError(f"model={self.model!r}; allowed: {', '.join(known)}")
        if not 0 <= self.text_columns <= x.shape[1]:
            raise ValueError(f"text_columns={self.text_columns}; X has {x.shape[1]} columns")
        examples = self._examples(x, label)
        rows, held = self._held_out(label, None if groups is None else np.asarray(groups))
        self.model_ = self._fitted(examples.take(rows), examples.take(held)).model.eval()
        return self

    def predict_proba(self, X: ArrayLike) -> Singles:
        """Probabilities [N, C] of rows [N, F], in the order of `classes_`."""
        check_is_fitted(self)
        x = validate_data(self, X, dtype=np.float32, reset=False)
        logits = predict(self.model_, self._examples(x, np.zeros(len(x), np.int64)))
        return logits.softmax(1).numpy()

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """The most probable class label of each of the rows [N, F]: [N]."""
        shares = self.predict_proba(X)  # which says it if this is not fitted
        return self.classes_[shares.argmax(1)]

    def _examples(self, x: Singles, label: Ints) -> Examples:
        cut = x.shape[1] - self.text_columns
        ids = tuple(map(str, range(len(x))))
        return Examples(ids, _modality(x[:, cut:]), _modality(x[:, :cut]), torch.from_numpy(label))

    def _held_out(self, label: Ints, groups: NDArray[Any] | None) -> tuple[list[int], list[int]]:
        """Training rows and validation rows; both are all rows where there are too few to part."""
        # A tenth, but at least one row per class, which a stratified split needs.
        classes, share = len(self.classes_), max(0.1, len(self.classes_) / len(label))
        if groups is not None:
            splitter = GroupShuffleSplit(1, test_size=0.1, random_state=self.seed)
        elif np.bincount(label).min() < 2 or len(label) < 3 * classes:
            return list(range(len(label))), list(range(len(label)))
        else:
            splitter = StratifiedShuffleSplit(1, test_size=share, random_state=self.seed)
        # One random split: groups stay whole if there are any, classes keep their shares otherwise.
        rows, held = next(splitter.split(label[:, None], label, groups))
        return rows.tolist(), held.tolist()

    def _fitted(self, train: Examples, held: Examples) -> Fitted:
        dims = Dims(train.text.dim, train.audio.dim, len(self.classes_))
        network, schedule = self.network or ModelConfig(), self.schedule or TrainConfig()
        if self.model in BASELINES:
            return fit_baseline(self.model, dims, train, held, schedule)
        if self.model == STACKED:
            return fit_stacked(dims, train, held, network, schedule, self.seed)
        torch.manual_seed(self.seed)
        return fit(Ensemble(MODELS[self.model], dims, network), train, held, schedule, self.seed)


def _modality(columns: Singles) -> Modality:
    """Features [N, F] as one token per utterance; a modality without columns is absent."""
    if not columns.shape[1]:
        return Modality.absent(len(columns))
    mask = torch.ones(len(columns), 1, dtype=torch.bool)
    return Modality(torch.from_numpy(np.array(columns))[:, None], mask)

"""A grid of settings → the model of the best one, chosen on the validation part."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias, TypeVar

from torch import Tensor, nn

from multimodal_ser.dataset.examples import Examples
from multimodal_ser.training.loop import Fitted, predict

_Setting = TypeVar("_Setting")
_Model = TypeVar("_Model", bound=nn.Module)
# A score, of which the highest wins, and the row of the history.
Judgement: TypeAlias = "tuple[Any, dict[str, Any]]"


def fit_best(
    candidates: Callable[[Examples, Sequence[_Setting]], Iterable[tuple[_Setting, _Model]]],
    settings: Sequence[_Setting],
    judge: Callable[[_Setting, _Model], Judgement],
    train: Examples,
    validation: Examples,
    *,
    refit: bool,
) -> Fitted:
    """Fits a model with every setting and keeps the one with the highest score (ties: the first).

    Args:
        candidates: fits a model of some examples with each of some settings.
        settings: those to choose from.
        judge: scores a model on the validation part, and may set its temperature.
        train: the training part.
        validation: the validation part.
        refit: fit the chosen setting again on both parts together. `Fitted.validation` has the
            outputs of the model before.
    """
    history: list[dict[str, Any]] = []
    best: tuple[Any, _Setting, _Model] | None = None
    for setting, candidate in candidates(train, settings):
        score, row = judge(setting, candidate)
        history.append(row)
        if best is None or score > best[0]:
            best = score, setting, candidate
    assert best is not None  # noqa: S101 - a grid has settings
    _, chosen, model = best
    outputs = predict(model, validation)
    if refit:
        ((_, again),) = candidates(Examples.joined([train, validation]), [chosen])
        # The refitted model has seen the validation part, which can no longer calibrate it.
        if isinstance(temperature := getattr(model, "temperature", None), Tensor):
            again.temperature = temperature
        model = again
    return Fitted(model.eval(), history, outputs)

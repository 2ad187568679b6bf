"""recordings → ``[{"label", "score"}]``, as in transformers' audio-classification pipeline."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from multimodal_ser.errors import SerError, one_of
from multimodal_ser.predict.backend import WeightPaths
from multimodal_ser.predict.inputs import as_list
from multimodal_ser.predict.loading import STARTER, load
from multimodal_ser.predict.prediction import NO_SPEECH, Prediction
from multimodal_ser.predict.predictor import Predictor

TASK = "audio-classification"
_Scores = list[dict[str, Any]]


class Pipeline:
    """A predictor with the interface of transformers' pipelines.

    Attributes:
        predictor: the predictor behind it, with `vad`, `threshold` and `adapted`.
        top_k: number of classes that are returned, the most probable first; None for all.
    """

    task = TASK

    def __init__(self, predictor: Predictor, top_k: int | None = None) -> None:
        self.predictor, self.top_k = predictor, top_k

    def __call__(
        self, inputs: Any, *, top_k: int | None = None, batch_size: int = 16
    ) -> _Scores | list[_Scores]:
        """Scores of one recording, or of each of several.

        Args:
            inputs: as `Predictor` takes them: path, bytes, ``{"array" or "raw", "sampling_rate"}``;
                or a list, a generator, a column of a dataset.
            top_k: overrides the pipeline's own.
            batch_size: largest number of recordings in a batch.

        Returns:
            ``[{"label", "score"}]``, the most probable first; a list of such lists for several. A
            recording without speech has ``no speech`` alone, with the score 1.0. The scores of
            attributes are their values, on their own scale and in the model's order; a model of
            classes and attributes returns its classes.

        Raises:
            SerError: a recording cannot be read.
        """
        most = self.top_k if top_k is None else top_k
        if most is not None and not (isinstance(most, int) and most >= 1):
            raise SerError(
                f"top_k={most!r}; allowed: whole numbers from 1, or None for all classes"
            )
        several: Iterable[Any] | None = as_list(inputs)
        predictions = self.predictor.stream(
            [inputs] if several is None else several, batch_size=batch_size
        )
        found = [_scores(prediction, most) for prediction in predictions]
        return found[0] if several is None else found


def _scores(prediction: Prediction | SerError, most: int | None) -> _Scores:
    if isinstance(prediction, SerError):
        raise prediction
    if prediction.label == NO_SPEECH:
        return [{"label": NO_SPEECH, "score": 1.0}]
    if prediction.scale is not None:
        rows = prediction.attributes.items()
        return [{"label": name, "score": value} for name, value in rows][:most]
    # of equal ones the first, which is the prediction's label
    order = (-prediction.probabilities).argsort(kind="stable")[:most]
    return [
        {"label": prediction.labels[row], "score": float(prediction.probabilities[row])}
        for row in order
    ]


def pipeline(
    task: str = TASK,
    model: str | Path = STARTER,
    *,
    device: str = "cpu",
    weights: WeightPaths = None,
    top_k: int | None = None,
) -> Pipeline:
    """Makes what transformers' ``pipeline`` makes, with the models of `load`.

    Args:
        task: ``audio-classification``.
        model: as `load` takes it.
        device: as `load` takes it.
        weights: as `load` takes them.
        top_k: number of classes that are returned; None for all.

    Raises:
        SerError: the task is another one, or there is no such model.

    Example:
        pipeline()("call.wav")  # [{"label": "anger", "score": 0.71}, …]
    """
    if task != TASK:
        raise SerError(one_of("task", task, [TASK]))
    return Pipeline(load(model, device=device, weights=weights), top_k)

"""The interface of models behind a Predictor: waveforms and words → probabilities, embeddings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from multimodal_ser.common.arrays import Samples
from multimodal_ser.encoders.base import between_passes, windows
from multimodal_ser.errors import SerError

Vector: TypeAlias = NDArray[np.float32]
WeightPaths: TypeAlias = "str | Path | Mapping[str, str | Path] | None"
PIECES = 4  # windows of long recordings in one batch: a batch of 30 s windows takes much memory


class BatchPrediction(NamedTuple):
    """The predictions of a model for a batch.

    Attributes:
        probabilities: [N, C] float32; for attributes, their values between 0 and 1.
        embeddings: [N, D] float32.
        vectors: input of the model's head before a channel's shift is subtracted, [N, V] float32;
            None for models that cannot be adapted to a channel.
    """

    probabilities: NDArray[np.float32]
    embeddings: NDArray[np.float32]
    vectors: NDArray[np.float32] | None = None


class Backend(Protocol):
    """A model that a Predictor can use.

    Attributes:
        name: name of the model, as shown to users.
        labels: class names in order.
        threshold: confidence below which a prediction is ``uncertain``.
        card: the model card, in Markdown.
        modalities: what it reads: ``audio``, ``text``, or both.
        canonical: whether it was trained on canonical waveforms, see `multimodal_ser.audio.speech`.
        references: mean input of the head in training [N, V], for each class or over all classes;
            None if the model cannot be adapted to a channel.
        shares: assumed frequencies of the classes [C]; None for those of the training.
    """

    name: str
    labels: tuple[str, ...]
    threshold: float
    card: str
    modalities: tuple[str, ...]
    canonical: bool
    references: Vector | None
    shares: Vector | None

    def __call__(
        self,
        waves: Sequence[Samples],
        texts: Sequence[str | None],
        shift: Vector | None = None,
    ) -> BatchPrediction:
        """Predicts a batch; an item's result does not depend on the others in the batch.

        Args:
            waves: waveforms, each [samples] at 16 kHz.
            texts: the words of each recording, or None.
            shift: subtracted from the input of the head [V]; only for models that can be adapted.
        """
        ...

    def save(self, folder: Path) -> dict[str, object]:
        """Writes model.safetensors into a folder; returns the content of config.json.

        Raises:
            SerError: this kind of model cannot be saved.
        """
        ...


def check_words(name: str, modalities: Sequence[str], texts: Sequence[str | None]) -> None:
    """Raises SerError if a model that reads only words is given a recording without words."""
    if modalities == ("text",) and None in texts:
        raise SerError(f"{name} reads words alone, and a recording has none; give its text")


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Logits [N, C] → probabilities [N, C]."""
    shares = np.exp(logits - logits.max(1, keepdims=True))  # minus the maximum: exp cannot overflow
    probabilities: NDArray[np.float32] = shares / shares.sum(1, keepdims=True)
    return probabilities


def by_windows(
    waves: Sequence[Samples],
    most: int,
    step: int,
    ask: Callable[[Sequence[Samples]], BatchPrediction],
) -> BatchPrediction:
    """Predicts recordings of any length: the mean over equal windows of at most `most` samples.

    Args:
        waves: each [samples].
        most: longest input of the network, in samples; a multiple of `step`.
        step: windows begin at multiples of it, in samples.
        ask: predicts a batch of waveforms of at most `most` samples.
    """
    pieces = [
        (row, cut) for row, wave in enumerate(waves) for cut in windows(len(wave), most, step)
    ]
    pieces.sort(key=lambda piece: piece[1].stop - piece[1].start)  # like lengths: little padding
    size = max(len(waves), PIECES)
    predictions = []
    for start in range(0, len(pieces), size):
        if start:
            between_passes.get()()  # a server lets other requests take their turn here
        predictions.append(ask([waves[row][cut] for row, cut in pieces[start : start + size]]))
    if len(pieces) == len(waves) and [row for row, _ in pieces] == list(range(len(waves))):
        return predictions[0]
    # [recordings, windows]: a window counts by its share of its recording's length
    share = np.zeros((len(waves), len(pieces)), np.float32)
    for place, (row, cut) in enumerate(pieces):
        share[row, place] = (cut.stop - cut.start) / len(waves[row])
    whole = joined_predictions(predictions)
    return BatchPrediction(*(None if part is None else share @ part for part in whole))  # type: ignore[arg-type]


def joined_predictions(
    predictions: Sequence[BatchPrediction], order: NDArray[np.int64] | slice = slice(None)
) -> BatchPrediction:
    """Several batches as one, with its rows brought into `order`."""
    probabilities, embeddings, vectors = zip(*predictions, strict=True)
    return BatchPrediction(
        np.concatenate(probabilities)[order],
        np.concatenate(embeddings)[order],
        None if vectors[0] is None else np.concatenate(vectors)[order],
    )

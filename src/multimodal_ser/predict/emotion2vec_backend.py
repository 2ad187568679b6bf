"""emotion2vec+ with its own head → a backend for `Predictor`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from multimodal_ser.common.arrays import Samples
from multimodal_ser.encoders.emotion2vec import load_emotion2vec
from multimodal_ser.encoders.emotion2vec_files import UNUSED
from multimodal_ser.errors import SerError
from multimodal_ser.predict.backend import Backend, BatchPrediction, Vector
from multimodal_ser.predict.cards import encoder_card


class Emotion2VecBackend(Backend):
    """Class probabilities from the published head; the embedding is the mean over frames."""

    def __init__(self, name: str, weights: str | Path | None, device: str = "cpu") -> None:
        self.name = name
        self.encoder = load_emotion2vec(weights, device, variant=name)
        labels = self.encoder.labels or ()
        self._used = [n for n, label in enumerate(labels) if not label.startswith(UNUSED)]
        self.labels = tuple(labels[n] for n in self._used)
        self.card = encoder_card(name, self.labels, self.encoder.info.exposure)
        # The published head has rows for classes that were never trained; without them the
        # probabilities of the others sum to one.
        head = self.encoder.network.head
        assert head is not None  # noqa: S101 - `load_emotion2vec` refuses plus weights without a head
        self._weight, self._bias = (
            part.detach().double().cpu().numpy()[self._used] for part in (head.weight, head.bias)
        )

    def __call__(
        self, waves: Sequence[Samples], texts: Sequence[str | None], shift: Vector | None = None
    ) -> BatchPrediction:
        """Predicts a batch as `Emotion2Vec.classify` does, with one pass for both results."""
        means = self.encoder.means(waves)
        scores = means.astype(np.float64) @ self._weight.T + self._bias
        shares = np.exp(scores - scores.max(1, keepdims=True))
        probabilities = shares / shares.sum(1, keepdims=True)
        return BatchPrediction(probabilities.astype(np.float32), means)

    def save(self, folder: Path) -> dict[str, object]:
        """Refuses, because the weights are published by their authors."""
        raise SerError(
            f"{self.name} is published by its authors and cannot be saved again; load it by its "
            "name, or write its weights as safetensors with: ser convert-weights"
        )

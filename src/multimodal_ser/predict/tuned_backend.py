"""Encoders with a head of their own → backends for `Predictor`: fine-tuned models, emotion2vec+."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from multimodal_ser.audio.speech import lengthened
from multimodal_ser.common.arrays import Samples
from multimodal_ser.encoders.emotion2vec import load_emotion2vec
from multimodal_ser.encoders.emotion2vec_files import UNUSED
from multimodal_ser.encoders.mel import HOP
from multimodal_ser.errors import SerError
from multimodal_ser.predict.backend import (
    LEARNT,
    Backend,
    BatchPrediction,
    Vector,
    copied_model,
    predict_windows,
    softmax,
)
from multimodal_ser.predict.hub import encoder_card
from multimodal_ser.training.tune.tuned import load_tuned, log_mels


class TunedBackend(Backend):
    """An encoder that was fine-tuned together with its head; it reads only sound."""

    def __init__(self, file: Path, name: str, device: str = "cpu") -> None:
        self.file, self.name, self.device = file, name, device
        self.model = load_tuned(file).to(device)
        self.labels, self.card = self.model.classes, self.model.card
        self.threshold = self.model.threshold
        self.canonical, self.shortest = self.model.linear, self.model.shortest
        self.references = self.model.references.float().cpu().numpy()
        self.shares = self.model.shares.cpu().numpy() if self.model.linear else None
        self.most = min(LEARNT, self.model.most) if self.canonical else self.model.most

    def __call__(
        self, waves: Sequence[Samples], texts: Sequence[str | None], shift: Vector | None = None
    ) -> BatchPrediction:
        """Predicts a batch; recordings that are too long get the mean over their windows."""
        taken = None if shift is None else torch.from_numpy(shift).to(self.device)
        return predict_windows(waves, self.most, 2 * HOP, partial(self._ask, taken))

    @torch.inference_mode()
    def _ask(self, shift: Tensor | None, waves: Sequence[Samples]) -> BatchPrediction:
        waves = [lengthened(wave, self.shortest) for wave in waves]
        mel, lengths = log_mels(waves, self.model.encoder.conv1.in_channels)
        read = self.model.pooled(mel.to(self.device), lengths.to(self.device))
        output = self.model.predict_from(read if shift is None else read - shift)
        probabilities: np.ndarray = output.logits.float().softmax(1).cpu().numpy()
        embedding = output.embedding.float().cpu().numpy()
        return BatchPrediction(probabilities, embedding, read.float().cpu().numpy())

    def save(self, folder: Path) -> dict[str, object]:
        """Copies the model file."""
        return copied_model(self.file, folder)


class Emotion2VecBackend(Backend):
    """Class probabilities from the published head; the embedding is the mean over frames."""

    def __init__(self, name: str, weights: str | Path | None, device: str = "cpu") -> None:
        self.name = name
        self.encoder = load_emotion2vec(weights, device, known_as=name)
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
        return BatchPrediction(softmax(scores).astype(np.float32), means)

    def save(self, folder: Path) -> dict[str, object]:
        """Refuses, because the weights are published by their authors."""
        raise SerError(
            f"{self.name} is published by its authors and cannot be saved again; load it by its "
            "name, or write its weights as safetensors with: ser convert-weights"
        )

"""The file of a linear probe → a backend for `Predictor` in numpy: the starter without torch."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from multimodal_ser.audio.speech import lengthened
from multimodal_ser.common.arrays import Samples
from multimodal_ser.common.files import written_aside
from multimodal_ser.encoders.mel import HOP
from multimodal_ser.predict.backend import BatchPrediction, Vector, by_windows, softmax
from multimodal_ser.training.tune.plain import SHORTEST, PlainProbe


class PlainBackend:
    """A frozen encoder and its linear probe; it reads only sound and runs on the CPU."""

    modalities: tuple[str, ...] = ("audio",)
    canonical = True
    device = "cpu"

    def __init__(self, file: Path, name: str) -> None:
        self.file, self.name = file, name
        self.model = PlainProbe(file)
        self.labels, self.card = self.model.classes, self.model.card
        self.threshold = self.model.threshold
        self.references: Vector | None = self.model.references
        self.shares: Vector | None = self.model.shares
        self.most = 2 * HOP * self.model.steps

    def __call__(
        self,
        waves: Sequence[Samples],
        texts: Sequence[str | None],
        shift: Vector | None = None,
    ) -> BatchPrediction:
        """Predicts a batch; recordings that are too long get the mean over their windows."""

        def ask(pieces: Sequence[Samples]) -> BatchPrediction:
            read = np.stack([self.model.pooled(lengthened(one, SHORTEST)) for one in pieces])
            logits, embeddings = self.model.predict_from(read if shift is None else read - shift)
            return BatchPrediction(softmax(logits), embeddings, read)

        return by_windows(waves, self.most, 2 * HOP, ask)

    def save(self, folder: Path) -> dict[str, object]:
        """Copies the model file."""
        with written_aside(folder / "model.safetensors") as partial:
            shutil.copyfile(self.file, partial)
        return {"kind": "tuned"}

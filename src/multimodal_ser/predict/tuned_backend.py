"""The file of a fine-tuned model → a backend for `Predictor`."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from multimodal_ser.audio.speech import lengthened
from multimodal_ser.common.arrays import Samples
from multimodal_ser.common.files import written_aside
from multimodal_ser.encoders.mel import HOP, LONGEST_SAMPLES
from multimodal_ser.predict.backend import LEARNT, Backend, BatchPrediction, Vector, predict_windows
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
        # The second convolution halves the frames: one position stands for two hops of 10 ms.
        longest = LEARNT if self.canonical else LONGEST_SAMPLES
        self.most = min(longest, 2 * HOP * len(self.model.encoder.positions))

    def __call__(
        self,
        waves: Sequence[Samples],
        texts: Sequence[str | None],
        shift: Vector | None = None,
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
        with written_aside(folder / "model.safetensors") as partial:
            shutil.copyfile(self.file, partial)
        return {"kind": "tuned"}

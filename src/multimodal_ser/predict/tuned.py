"""A fine-tuned model file → Predictor's backend."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from multimodal_ser.encoders.whisper import HOP
from multimodal_ser.files import written_aside
from multimodal_ser.predict.backend import Answer, Wave, by_windows
from multimodal_ser.tune import LONGEST, load_tuned, log_mels


class TunedBackend:
    """An encoder fine-tuned with its head; reads sound alone."""

    sides: tuple[str, ...] = ("audio",)

    def __init__(self, file: Path, name: str, device: str = "cpu") -> None:
        self.file, self.name, self.device = file, name, device
        self.model = load_tuned(file).to(device)
        self.labels, self.card = self.model.classes, self.model.card
        self.threshold = self.model.threshold
        self.most = min(LONGEST, 2 * HOP * len(self.model.encoder.positions))

    def __call__(self, waves: Sequence[Wave], texts: Sequence[str | None]) -> Answer:
        """Answers for a batch; the mean over windows where a recording is too long."""
        return by_windows(waves, self.most, 2 * HOP, self._ask)

    @torch.inference_mode()
    def _ask(self, waves: Sequence[Wave]) -> Answer:
        mel, lengths = log_mels(waves, self.model.encoder.conv1.in_channels)
        output = self.model(mel.to(self.device), lengths.to(self.device))
        probabilities: np.ndarray = output.logits.float().softmax(1).cpu().numpy()
        return Answer(probabilities, output.embedding.float().cpu().numpy())

    def save(self, folder: Path) -> dict[str, object]:
        """Copies the model file."""
        with written_aside(folder / "model.safetensors") as partial:
            shutil.copyfile(self.file, partial)
        return {"kind": "tuned"}

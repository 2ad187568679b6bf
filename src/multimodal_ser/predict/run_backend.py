"""A run folder → a backend for `Predictor`: the encoders of its features, then its model.

Recordings and words go through the same steps as in `features.extract`, with the same weights,
layers, tokens and precision, so that the run's own test utterances get the probabilities that its
`predictions.csv` has.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from multimodal_ser.common.arrays import Samples
from multimodal_ser.common.files import written_aside
from multimodal_ser.common.plugins import code_of
from multimodal_ser.config.record import FeatureSpec, SavedAs, as_json
from multimodal_ser.dataset.examples import MODALITIES, Modality
from multimodal_ser.encoders import ENCODERS, load_for
from multimodal_ser.encoders.base import Encoder
from multimodal_ser.errors import EncoderError, one_of
from multimodal_ser.features.pool import is_cut
from multimodal_ser.models.fusion import MODELS
from multimodal_ser.models.layers import read_out
from multimodal_ser.predict.backend import (
    Backend,
    BatchPrediction,
    Vector,
    WeightPaths,
    check_words,
    weights_place,
)
from multimodal_ser.predict.hub import run_card
from multimodal_ser.predict.prediction import AlsoPredicted
from multimodal_ser.runs.config_file import read_record
from multimodal_ser.runs.folder import CONFIG, MODEL
from multimodal_ser.runs.model_file import changes_of, load_model, own_code
from multimodal_ser.training.tune.changes import apply_changes

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Features:
    """One modality of a run: how its frames become tokens, and its encoder.

    Attributes:
        described: the specification of its features.
        encoder: None for a modality that the model does not read.
    """

    described: FeatureSpec
    encoder: Encoder | None

    def __call__(self, items: Sequence[Any]) -> tuple[Tensor, Tensor]:
        """Waveforms or words, None where one is missing → tokens [B, T, D], mask [B, T]."""
        made = Modality.encoded(self.encoder, items, self.described)
        return made.tokens, made.mask

    def cuts(self, text: str) -> bool:
        """Whether only the first of these words become tokens."""
        encoder: Any = self.encoder
        most = getattr(encoder, "most_pieces", 0)  # 0 for a user's encoders
        if not most:
            return False
        kept = self.described.pooled_from or self.described.tokens
        return is_cut(len(encoder.inputs([text])[0]), kept, most)


class RunBackend(Backend):
    """The encoders and the model of a run.

    Attributes:
        record: the run's config.json.
        features: by modality, ``text`` and ``audio``.
        tuned: files with the changes of encoders that were fine-tuned with the model.
        model: text, its mask, audio, its mask → logits [B, C] and embedding [B, D].
    """

    def __init__(self, folder: Path, weights: WeightPaths = None, device: str = "cpu") -> None:
        self.folder, self.device = folder, device
        self.record = read_record(folder / CONFIG)
        config = self.record.config
        code, present = code_of(MODELS.get(config.model)), own_code(config.model, config.train)
        _warn_of_code(folder, config.model, code, present, config.code)
        self.model = load_model(folder / MODEL).to(device)
        about = self.record.predictor or SavedAs(folder.absolute().name, 0.0)
        self.name, self.threshold = about.name, about.threshold
        own, *more = self.record.config.labels.parts
        self.labels, self.scale = own.classes, own.scale
        self.also = AlsoPredicted(more[0].classes, more[0].scale or (0, 1)) if more else None
        read = tuple(getattr(self.model, "modalities", MODALITIES))
        described = self.record.config.features
        self.modalities = tuple(
            modality for modality in MODALITIES if modality in read and described.get(modality)
        )
        changes = [changes_of(folder, modality) for modality in self.modalities]
        self.tuned = [file for file in changes if file.is_file()]
        if config.train.tune and self.tuned != changes:
            lacking = ", ".join(file.name for file in changes if file not in self.tuned)
            raise EncoderError(
                f"{folder}: lacks what its encoder learnt in the fine-tuning, without which it "
                f"would predict something else: {lacking}; copy the whole folder of the run"
            )
        self.features = load_features(folder, described, self.modalities, weights, device)
        card = folder / "README.md"
        self.card = card.read_text("utf-8") if card.is_file() else run_card(folder, self.record)

    def __call__(
        self, waves: Sequence[Samples], texts: Sequence[str | None], shift: Vector | None = None
    ) -> BatchPrediction:
        """Predicts a batch.

        Raises:
            SerError: the model reads only words and a recording has none.
        """
        check_words(self.name, self.modalities, texts)
        batch = [*self.features["text"](texts), *self.features["audio"](waves)]
        with torch.inference_mode():
            output = self.model(*(tensor.to(self.device) for tensor in batch))
            logits = read_out(output.logits.float(), self.record.config.labels.values)
            probabilities: np.ndarray = logits.cpu().numpy()
        return BatchPrediction(probabilities, output.embedding.float().cpu().numpy())

    def cuts(self, text: str) -> bool:
        """Whether the model reads only the beginning of these words."""
        return self.features["text"].cuts(text)

    def save(self, folder: Path) -> dict[str, object]:
        """Copies the model and the changes of fine-tuned encoders, but no encoder itself."""
        with written_aside(folder / MODEL) as partial:
            shutil.copyfile(self.folder / MODEL, partial)
        for learnt in self.tuned:
            with written_aside(folder / learnt.name) as partial:
                shutil.copyfile(learnt, partial)
        return {"kind": "run", **as_json(self.record)}


def load_features(
    folder: Path,
    described: Mapping[str, FeatureSpec | None],
    modalities: Sequence[str],
    weights: WeightPaths,
    device: str,
) -> dict[str, Features]:
    """Loads the encoders of the modalities that are read and checks them against the run's record.

    Args:
        folder: the run, for messages.
        described: for ``text`` and ``audio``, the specification in their feature files, or None.
        modalities: the modalities that the model reads.
        weights: where the encoders' weights are: one place, or encoder name → place; None for
            the installed offline packages.
        device: where torch computes.

    Raises:
        EncoderError: an encoder is unknown, its weights are missing or are not the same, or the
            mapping has none of the encoders.
    """
    names = [spec.encoder for spec in described.values() if spec]
    if isinstance(weights, Mapping) and weights and not any(name in weights for name in names):
        raise EncoderError(f"{folder}: {one_of('encoder', next(iter(weights)), names)}")
    found = {}
    for modality in MODALITIES:
        spec = described.get(modality)
        encoder = (
            _encoder(folder, spec, weights, device) if spec and modality in modalities else None
        )
        found[modality] = Features(spec or FeatureSpec("none"), encoder)
    return found


def _encoder(folder: Path, spec: FeatureSpec, weights: WeightPaths, device: str) -> Encoder:
    name = spec.encoder
    place = weights_place(weights, name)
    if not spec.weights:
        raise EncoderError(
            f"{folder}: its features {name!r} were imported from a file and cannot be computed for "
            "a new recording; train on features from `ser extract`"
        )
    if spec.by_speaker:
        raise EncoderError(
            f"{folder}: its features were standardised by speaker, which a single recording does "
            "not allow; to predict, train without --standardize-speakers"
        )
    if name not in ENCODERS and place is None:
        raise EncoderError(
            f"{folder}: its features were made by {name!r}; say where that encoder is, with "
            "--source and a folder or its hub id (weights= in Python)"
        )
    encoder = load_for(spec, place, device)
    for what in ("weights", "layers", "dim"):
        if getattr(encoder.info, what) != getattr(spec, what):
            raise EncoderError(
                f"{folder}: it was trained on {name} with {what} {getattr(spec, what)}, but the "
                f"encoder found has {getattr(encoder.info, what)}; give the same encoder with "
                "--source FOLDER (weights= in Python)"
            )
    _warn_of_code(folder, name, spec.code, encoder.info.code, spec.code)
    if (learnt := changes_of(folder, encoder.info.modality)).is_file():
        apply_changes(encoder.network, learnt)  # type: ignore[attr-defined]
    return encoder


def _warn_of_code(folder: Path, name: str, own: str, present: str, trained: str) -> None:
    """Warns if a user's model or encoder, whose code has a hash, has changed since the run."""
    if own and present != trained:
        _log.warning(
            "%s: it was made with other code of %r than is loaded now: if that computes something "
            "else, the predictions are not those of the run; train again, or restore that code",
            folder, name,
        )  # fmt: skip

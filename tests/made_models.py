"""Small random models of every kind that a Predictor reads, and the sounds to ask them about."""

import json
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

from made_encoders import tiny
from multimodal_ser.config import record
from multimodal_ser.config.settings import ModelConfig, TuneConfig
from multimodal_ser.encoders import load_encoder
from multimodal_ser.encoders.base import computed_in
from multimodal_ser.encoders.whisper import WhisperEncoder
from multimodal_ser.models.fusion import Dims
from multimodal_ser.runs.folder import RUN_FILES
from multimodal_ser.runs.model_file import build_model, changes_of, save_model
from multimodal_ser.training.baselines import Svm
from multimodal_ser.training.schedule import WeightAverage
from multimodal_ser.training.tune.changes import let_learn, save_changes
from multimodal_ser.training.tune.tuned import Tuned, save_tuned

CLASSES = ("anger", "joy", "neutral")
WORDS = "so what else"


class StopError(Exception):
    """Ends a training in the middle, as if its process were killed."""


@contextmanager
def stopped_at(last):
    """Raises StopError at a training's step of this number (None: never); yields the steps made."""
    steps = []

    class Counted(WeightAverage):
        def update(self, model):
            super().update(model)
            steps.append(1 + len(steps))
            if len(steps) == last:
                raise StopError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("multimodal_ser.training.tune.loop.WeightAverage", Counted)
        yield steps


def noise(seconds, seed=0):
    return np.random.default_rng(seed).normal(0, 0.1, int(16_000 * seconds)).astype(np.float32)


def made_tuned(path: Path, threshold=0.0) -> Path:
    """A fine-tuned model file whose answers differ from sound to sound."""
    torch.manual_seed(0)
    model = Tuned(WhisperEncoder(16, 2, 3, 80, 1500), CLASSES, 8, card="# Made up\n").eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
        model.least_confidence.fill_(threshold)
    save_tuned(model, path)
    return path


def made_run(
    folder: Path,
    weights: Path,
    modalities=("audio",),
    model="audio",
    tokens=4,
    labels=record.ClassNames("made3", CLASSES),  # noqa: B008 - it cannot change
    sound="whisper-tiny",
    tuned=False,
    **loaded,
) -> Path:
    """A run folder of an untrained model on tiny encoders' features."""
    described = {"text": None, "audio": None}
    dims = {"text": 0, "audio": 0}
    for modality in modalities:
        name = {"audio": sound, "text": "bert"}[modality]
        encoder = load_encoder(name, tiny(name, weights), **loaded)
        info = encoder.info
        if tuned:
            folder.mkdir(parents=True, exist_ok=True)
            save_moved(encoder.network, changes_of(folder, modality))
        dims[modality] = info.dim
        described[modality] = record.FeatureSpec(
            name, info.weights, info.layers, tokens, dim=info.dim, dtype="float16",
            compute_dtype=computed_in(encoder),
        )  # fmt: skip
    network = ModelConfig(members=1, hidden_dim=8, num_heads=2)
    config = record.RunConfig(
        model=model, seed=0, fold="speaker=01", labels=labels,
        corpora=("mine",), features=described, split=record.SplitSpec("loso", "5eed"),
        marks=("mine: nothing is declared",), train=record.Training(network=network),
    )  # fmt: skip
    torch.manual_seed(1)
    shape = Dims(dims["text"], dims["audio"], len(labels.classes))
    made = build_model(model, shape, network, values=labels.values).eval()
    if model == "svm":
        made = made_svm(shape)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    folder.mkdir(parents=True, exist_ok=True)
    for name in RUN_FILES:
        (folder / name).touch()
    (folder / "metrics.json").write_text(json.dumps({"test": {"UA": 0.5}}))
    (folder / "config.json").write_text(json.dumps(record.as_json(record.Record(config))))
    save_model(made, folder / "model.safetensors", config, shape)
    return folder


def save_moved(network, file: Path) -> None:
    """What a fine-tuning of all weights would have kept of an encoder."""
    config = TuneConfig(method="whole")
    let_learn(network, config)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    save_changes(network, config, {}, file)


def made_svm(shape: Dims) -> Svm:
    """Random support vectors; the last class was never seen in training."""
    made = Svm(shape, vectors=5, pairs=1).eval()
    with torch.no_grad():
        for name in ("vectors", "dual"):
            getattr(made, name).copy_(torch.randn_like(getattr(made, name)))
        made.gamma.fill_(0.02)
        made.second.fill_(1)
        made.pooled.scale.fill_(0.5)
    return made

"""Recordings + fold → a run whose encoder was fine-tuned with its head, beside those on features.

It has the same training, validation and test parts as the other models of its table.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from multimodal_ser.config import TuneConfig
from multimodal_ser.devices import CPU
from multimodal_ser.encoders import load_encoder
from multimodal_ser.encoders.whisper import Whisper
from multimodal_ser.errors import SerError
from multimodal_ser.experiments.plans import Plan
from multimodal_ser.material import Material
from multimodal_ser.models import Dims
from multimodal_ser.runs.folder import write_run
from multimodal_ser.runs.predictions import Predicted
from multimodal_ser.tune.clips import Clips
from multimodal_ser.tune.loop import predict, tune
from multimodal_ser.tune.tuned import Tuned


def run_tuned(item: Plan, material: Material, out: Path, device: str = CPU) -> Path:
    """Fine-tunes one encoder; an interrupted run resumes after its last epoch.

    Args:
        item: a plan of the model ``tuned``.
        material: whose recordings they are, and whose audio features name the encoder.
        out: the experiment's folder.
        device: where torch computes.
    """
    config = item.config.train.tune or TuneConfig()
    model = _begin(item, material, config).to(device)
    checkpoint = out / f".{item.config.folder}.checkpoint"
    fitted = tune(
        model,
        load_clips(material, item.fold.train),
        load_clips(material, item.fold.validation),
        config,
        item.config.seed,
        checkpoint=checkpoint,
    )
    dims = Dims(0, model.encoder.positions.shape[1], len(material.labels.classes))
    folder = write_run(out, item.config, dims, fitted, list(_ask(model, item, material)))
    checkpoint.unlink(missing_ok=True)
    return folder


def load_clips(material: Material, keys: Sequence[str]) -> Clips:
    """Decodes the recordings of these ids into memory."""
    rows = [material.examples.places[key] for key in keys]
    utterances = [material.utterances[row] for row in rows]
    label = material.examples.label[torch.tensor(rows)]
    return Clips.decode(utterances, label, material.hashes)


def _begin(item: Plan, material: Material, config: TuneConfig) -> Tuned:
    audio = material.features["audio"]
    assert audio is not None  # noqa: S101 - `check_tunable` refuses to plan without
    encoder = load_encoder(audio.encoder, config.source)
    wanted = audio.weights
    if encoder.info.weights != wanted or not isinstance(encoder, Whisper):
        raise SerError(
            f"the features are of weights {wanted[:12]}, those found are "
            f"{encoder.info.weights[:12]}; extract again, or give the same weights"
        )
    torch.manual_seed(item.config.seed)
    network = encoder.network.requires_grad_(True)
    about = {
        "encoder": encoder.info.name,
        "weights": encoder.info.weights,
        "labels": material.labels.name,
    }
    return Tuned(network, material.labels.classes, config.hidden_dim, config.dropout, about=about)


def _ask(model: Tuned, item: Plan, material: Material) -> Iterator[Predicted]:
    speakers = {row.id: row.speaker or "" for row in material.utterances}
    names = np.asarray(material.labels.classes)
    for part in ("validation", "test"):
        clips = load_clips(material, getattr(item.fold, part))
        probabilities = predict(model, clips).softmax(1).numpy()
        labels = names[clips.label.numpy()].tolist()
        yield Predicted(part, clips.ids, [speakers[k] for k in clips.ids], labels, probabilities)

"""Recordings + fold → a run whose encoder is fine-tuned together with its head.

It has the same training, validation and test parts as the models on features in its table.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from multimodal_ser.common.devices import CPU
from multimodal_ser.config.record import FeatureSpec
from multimodal_ser.config.settings import TuneConfig
from multimodal_ser.dataset.examples import MODALITIES
from multimodal_ser.dataset.material import Material
from multimodal_ser.encoders import load_for
from multimodal_ser.encoders.whisper import Whisper
from multimodal_ser.errors import SerError
from multimodal_ser.experiments.plans import Plan, corpus_names
from multimodal_ser.models.fusion import Dims
from multimodal_ser.runs.folder import write_run
from multimodal_ser.runs.model_file import dims_of
from multimodal_ser.runs.predictions import Predicted
from multimodal_ser.training.tune.clips import Clips
from multimodal_ser.training.tune.encoders import TunedEncoders
from multimodal_ser.training.tune.loop import predict_clips, tune
from multimodal_ser.training.tune.multi_device import DeviceShare, run_on_devices
from multimodal_ser.training.tune.tuned import Tuned


def run_tuned(item: Plan, material: Material, out: Path, devices: Sequence[str] = (CPU,)) -> Path:
    """Fine-tunes encoders; an interrupted run resumes after its last epoch.

    Args:
        item: a plan of the model ``tuned``.
        material: the corpus with its recordings and words; its features name the encoders.
        out: the experiment's folder.
        devices: where torch computes; of several, each learns from its share of every batch.
    """
    if len(devices) > 1:
        return run_on_devices(devices, partial(_run, item=item, material=material, out=out))
    return _run(DeviceShare(), devices[0], item, material, out)


def _run(share: DeviceShare, device: str, item: Plan, material: Material, out: Path) -> Path:
    config = item.config.train.tune or TuneConfig()
    model = _initial_model(item, material, config, device).to(device)
    # Named after the run, whose name is a hash of everything that decides its result: a checkpoint
    # of other settings is never resumed.
    checkpoint = out / f".{item.config.folder}.checkpoint"
    words = config.modality == "text"
    fold = item.fold
    fitted = tune(
        model,
        load_clips(material, fold.train, words),
        load_clips(material, fold.validation, words),
        config,
        item.config.seed,
        features=(material.examples.of(fold.train), material.examples.of(fold.validation)),
        checkpoint=checkpoint,
        share=share,
    )
    dims = (
        _dims(material, tuple(model.features))
        if isinstance(model, TunedEncoders)
        else Dims(0, model.encoder.positions.shape[1], len(material.labels.classes))
    )
    predicted = list(_predict_parts(model, item, material, words, share))
    if share.rank:
        return out / item.config.folder
    folder = write_run(out, item.config, dims, fitted, predicted)
    checkpoint.unlink(missing_ok=True)
    return folder


def _dims(material: Material, modalities: Sequence[str]) -> Dims:
    """Input sizes of a head that reads these modalities."""
    dims = dims_of(material)
    return dims._replace(**{name: 0 for name in MODALITIES if name not in modalities})


def load_clips(material: Material, keys: Sequence[str], words: bool = False) -> Clips:
    """Decodes the recordings of these ids into memory, or takes only their words."""
    rows = [material.examples.places[key] for key in keys]
    utterances = [material.utterances[row] for row in rows]
    label = material.examples.label[torch.tensor(rows)]
    return (
        Clips.words(utterances, label)
        if words
        else Clips.decode(utterances, label, material.hashes)
    )


def _initial_model(
    item: Plan, material: Material, config: TuneConfig, device: str
) -> Tuned | TunedEncoders:
    """Makes the model before training.

    Whisper that is fine-tuned as a whole becomes a single file (`Tuned`). Other encoders keep their
    weights, and the run stores what changed (`TunedEncoders`).
    """
    modalities = MODALITIES if config.modality == "both" else (config.modality,)
    described = {name: spec for name in modalities if (spec := item.config.features[name])}
    places = {"audio": config.source, "text": config.text_source}
    encoders = {name: _encoder(spec, places[name], device) for name, spec in described.items()}
    torch.manual_seed(item.config.seed)  # before the head draws its initial weights
    origin = {modality: {"encoder": one.info.name, "weights": one.info.weights} for modality, one in
            encoders.items()}  # fmt: skip
    first = next(iter(encoders.values()))
    if isinstance(first, Whisper) and config.modality == "audio" and config.method == "whole":
        network = first.network.requires_grad_(True)
        about = {**origin["audio"], "labels": material.labels.name}
        return Tuned(
            network, material.labels.classes, config.hidden_dim, config.dropout, about=about
        )
    about = {"encoders": origin, "labels": material.labels.name, "corpora": corpus_names(material)}
    dims, classes = _dims(material, modalities), material.labels.classes
    return TunedEncoders(encoders, described, dims, classes, config, about)


def _encoder(spec: FeatureSpec, source: str | None, device: str) -> Any:
    """Loads the encoder that made features.

    Raises:
        SerError: its weights are not those of the features.
    """
    encoder = load_for(spec, source, device)
    if encoder.info.weights != spec.weights:
        raise SerError(
            f"the features were made with weights {spec.weights[:12]}, but those found are "
            f"{encoder.info.weights[:12]}; extract again, or give the same weights"
        )
    return encoder


def _predict_parts(
    model: Tuned | TunedEncoders, item: Plan, material: Material, words: bool, share: DeviceShare
) -> Iterator[Predicted]:
    for part in ("validation", "test"):
        clips = load_clips(material, getattr(item.fold, part), words)
        probabilities = predict_clips(model, clips, share).softmax(1).numpy()
        yield Predicted.of(part, material, clips.ids, probabilities)

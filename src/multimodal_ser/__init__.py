"""Speech emotion recognition from sound and words, whose numbers can be believed.

The names below are loaded on first use: importing the package does not import torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from multimodal_ser.audio import read_audio
    from multimodal_ser.corpora import CORPORA, Utterance, read_manifest
    from multimodal_ser.corpora.labels import CLASS_SETS, class_set
    from multimodal_ser.dataset.material import load_material
    from multimodal_ser.encoders import ENCODERS, load_encoder
    from multimodal_ser.errors import SerError
    from multimodal_ser.features.extract import extract
    from multimodal_ser.features.store import FeatureStore
    from multimodal_ser.predict import Prediction, Predictions, Predictor, load, pipeline
    from multimodal_ser.splits import make_split
    from multimodal_ser.training.estimator import FusionClassifier

__all__ = [
    "CLASS_SETS",
    "CORPORA",
    "ENCODERS",
    "FeatureStore",
    "FusionClassifier",
    "Prediction",
    "Predictions",
    "Predictor",
    "SerError",
    "Utterance",
    "class_set",
    "extract",
    "load",
    "load_encoder",
    "load_material",
    "make_split",
    "pipeline",
    "read_audio",
    "read_manifest",
]

_HOMES = {
    "audio": ("read_audio",),
    "corpora": ("CORPORA", "Utterance", "read_manifest"),
    "encoders": ("ENCODERS", "load_encoder"),
    "errors": ("SerError",),
    "features": ("FeatureStore", "extract"),
    "corpora.labels": ("CLASS_SETS", "class_set"),
    "dataset.material": ("load_material",),
    "training.estimator": ("FusionClassifier",),
    "predict": ("Prediction", "Predictions", "Predictor", "load", "pipeline"),
    "splits": ("make_split",),
}


def __getattr__(name: str) -> object:
    if name == "__version__":
        return import_module("importlib.metadata").version("multimodal-ser")
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

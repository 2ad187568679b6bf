"""metadata/ → encoders → features/: the library's features, and the original's files of them."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from _original.metadata import PARTS, Listing, part_of, say
from _original.pickles import write_features
from multimodal_ser.corpora import read_manifest
from multimodal_ser.corpora.labels import CLASS_SETS
from multimodal_ser.encoders import ENCODERS, Encoder, load_encoder
from multimodal_ser.errors import SerError
from multimodal_ser.features import FeatureStore, extract
from multimodal_ser.splits.folds import read_split

log = logging.getLogger(__name__)

FOLDER = Path("features")
SOURCES = {
    "emotion2vec-plus-large": "EMOTION2VEC_SOURCE",
    "wav2vec2": "WAV2VEC2_SOURCE",
    "bert": "BERT_SOURCE",
}


@dataclass(frozen=True)
class Recipe:
    """The features that one extraction script makes.

    Attributes:
        metadata: name of the metadata script's files.
        script: that script, for the error where they are missing.
        labels: class set.
        audio: encoder of the sound; the words are always BERT's [CLS].
    """

    metadata: str
    script: str
    labels: str
    audio: str = "emotion2vec-plus-large"


RECIPES = {
    "IEMOCAP_BERT_emotion2vec": Recipe("IEMOCAP_4class", "create_iemocap_metadata", "iemocap4"),
    "IEMOCAP_BERT_wav2vec": Recipe(
        "IEMOCAP_4class", "create_iemocap_metadata", "iemocap4", "wav2vec2"
    ),
    "IEMOCAP_6class_emotion2vec": Recipe("IEMOCAP_6class", "create_iemocap_6class", "iemocap6"),
    "CREMAD_emotion2vec": Recipe("CREMAD", "create_cremad_metadata", "cremad4"),
    "MELD_emotion2vec": Recipe("MELD", "create_meld_metadata", "meld4"),
}


def of(name: str) -> Callable[..., int]:
    """Returns the command of a script that makes one set of features.

    Args:
        name: key in RECIPES.
    """

    def command(device: str | None = None, overwrite: bool = False) -> int:
        return _extract(name, device, overwrite)

    command.__doc__ = f"""Extracts {RECIPES[name].audio} and bert; writes {name}_*.pkl.

    Args:
        device: device for torch; default: cuda if available.
        overwrite: replace features that were made from another manifest or with other weights.
    """
    return command


def cross_dataset(
    dataset: Literal["cremad", "meld"], device: str | None = None, overwrite: bool = False
) -> int:
    """Extracts emotion2vec+ large and BERT for CREMA-D or MELD, four classes.

    Args:
        dataset: which corpus.
        device: device for torch; default: cuda if available.
        overwrite: replace features that were made from another manifest or with other weights.
    """
    return _extract(f"{dataset.upper()}_emotion2vec", device, overwrite)


def _extract(name: str, device: str | None, overwrite: bool) -> int:
    """Resumes an interrupted extraction; failures are listed, and the exit code is then 1."""
    recipe = RECIPES[name]
    listing = Listing(recipe.metadata)
    if not listing.manifest.is_file():
        raise SerError(f"no {listing.manifest}; make it with: python metadata/{recipe.script}.py")
    utterances, split = read_manifest(listing.manifest), read_split(listing.split)
    stores: dict[str, FeatureStore] = {}
    failed = 0
    for modality, encoder in (("text", "bert"), ("audio", recipe.audio)):
        result = extract(
            utterances, _load(encoder, device), FOLDER / name, tokens=1, dtype="float32",
            overwrite=overwrite,
        )  # fmt: skip
        for key, reason in result.failures.items():
            say(f"failed: {modality} of {key}: {reason}")
        failed += len(result.failures)
        stores[modality] = FeatureStore.open(result.path)
    parts = part_of(split)
    for part in PARTS.values():
        rows = [row for row in utterances if parts[row.id] == part]
        path = FOLDER / f"{name}_{part}.pkl"
        write_features(path, rows, stores, CLASS_SETS[recipe.labels], split.name)
        say(f"{path}: {len(rows)} utterances")
    return 1 if failed else 0


def _load(name: str, device: str | None) -> Encoder:
    import torch

    source = os.environ.get(SOURCES[name]) or ENCODERS[name].hub
    log.info("%s: weights from %s (%s)", name, source, SOURCES[name])
    return load_encoder(
        name, source, device=device or ("cuda" if torch.cuda.is_available() else "cpu")
    )

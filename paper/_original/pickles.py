"""features ⇄ the original's files: a pickled list with one dict per utterance.

This is the only place of the project that writes a pickle, because that is the original's file
format; it contains only strings, numbers and numpy arrays. Nothing here unpickles: files are read
by `multimodal_ser.features.pickle_reader`, which interprets the file itself and runs nothing.

Added to the original's ``text_embed``, ``audio_embed`` and ``label`` are: id, corpus, speaker,
session, dialogue, the corpus's own label, the classes in their order, the scheme of the split,
a hash of the recording, and the descriptions of the encoders.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from multimodal_ser.common.files import written_aside
from multimodal_ser.corpora import Utterance, write_manifest
from multimodal_ser.corpora.labels import ClassSet
from multimodal_ser.encoders.base import Exposure
from multimodal_ser.errors import FeatureError, LabelError
from multimodal_ser.features import FeatureStore
from multimodal_ser.features.pickle_reader import read_pickle
from multimodal_ser.features.store import FeatureHeader, feature_path, write_store

MODALITIES = ("text", "audio")
_OF_UTTERANCE = ("id", "corpus", "emotion", "speaker", "session", "dialogue", "extra")
_NEEDED = (*_OF_UTTERANCE, "classes", "split", "sound", "features", "text_embed", "audio_embed",
           "label")  # fmt: skip
Row = Mapping[str, Any]


def write_features(
    path: Path,
    utterances: Sequence[Utterance],
    stores: Mapping[str, FeatureStore],
    labels: ClassSet,
    split: str,
) -> None:
    """Writes one part's features in the original's format, complete or not at all.

    A modality that failed is None, never zeros.
    """
    described = {modality: _describe(store) for modality, store in stores.items()}
    hashes = stores["audio"].audio_hashes
    rows = []
    for row in utterances:
        name = str(labels.class_of(row.corpus, row.emotion))
        embeds = {f"{s}_embed": store[row.id][0] if row.id in store else None
                  for s, store in stores.items()}  # fmt: skip
        rows.append(
            {
                **{field: getattr(row, field) for field in _OF_UTTERANCE},
                **embeds,
                "label": labels.classes.index(name),
                "classes": labels.classes,
                "split": split,
                "sound": hashes.get(row.id),
                "features": described,
            }
        )
    with written_aside(path) as partial:
        partial.write_bytes(pickle.dumps(rows, protocol=4))


def _describe(store: FeatureStore) -> dict[str, Any]:
    """Returns the header without what is in the rows already."""
    return {**asdict(store.header), "failures": {}, "audio_hashes": {}, "prints": {}, "inputs": {}}


def read_features(path: Path, labels: ClassSet) -> list[Row]:
    """Reads a file of `write_features` and checks its labels against their names.

    Raises:
        FeatureError: no such file, not of this format, or without ids.
        LabelError: an integer label that is not what the utterance's word means.
    """
    if not path.is_file():
        raise FeatureError(f"no features at {path}; make them with: python feature_extract/…")
    rows = read_pickle(path)
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        raise FeatureError(f"{path.name}: is not a list of dicts; make it with feature_extract/…")
    for place, row in enumerate(rows):
        if lacking := [key for key in _NEEDED if key not in row]:
            raise FeatureError(
                f"{path.name}: row {place} has no {', '.join(lacking)}; without ids and speakers "
                "no leak can be found: extract again with feature_extract/…, or match the rows to "
                "a manifest with: ser import-features --rows manifest --pickle-labels …"
            )
        _check_label(path, place, row, labels)
    return rows


def _check_label(path: Path, place: int, row: Row, labels: ClassSet) -> None:
    truth = labels.class_of(row["corpus"], row["emotion"])
    order = tuple(row["classes"])
    if order != labels.classes:
        raise LabelError(
            f"{path.name}: was made for the classes {list(order)}, but this run has "
            f"{list(labels.classes)}; choose --emotion_config for the file, or extract again"
        )
    label = row["label"]
    stated = order[label] if isinstance(label, int) and 0 <= label < len(order) else "no class"
    if stated != truth:
        raise LabelError(
            f"{path.name}: row {place} ({row['id']}) has label {label}, which is {stated!r} in "
            f"the order {', '.join(order)}, but its emotion {row['emotion']!r} means {truth!r}; "
            "extract again: the integers of this file cannot be trusted"
        )


def to_library(files: Mapping[Path, Sequence[Row]], out: Path) -> Path:
    """Writes the rows of several files of one corpus as the library's features and manifest.

    Args:
        files: each file and its rows.
        out: the features folder; the rows' corpus is a folder in it.

    Returns:
        The corpus's folder, for `load_material` and for ``ser train --features``.

    Raises:
        FeatureError: the files were made with other encoders or settings, or hold several corpora.
    """
    rows = [row for part in files.values() for row in part]
    described = {path: part[0]["features"] for path, part in files.items()}
    names = ", ".join(path.name for path in files)
    if len({row["corpus"] for row in rows}) > 1:
        raise FeatureError(f"{names}: hold several corpora; give the parts of one corpus together")
    first = next(iter(described.values()))
    if any(row["features"] != first for row in rows):
        raise FeatureError(
            f"{names}: were not made by the same encoders with the same settings; extract them "
            "again together"
        )
    for modality in MODALITIES:
        items = [(row["id"], row[f"{modality}_embed"]) for row in rows]
        present = [(key, np.asarray(v, np.float32)[None]) for key, v in items if v is not None]
        if present:
            header = _header(first[modality], rows if modality == "audio" else ())
            write_store(feature_path(out, header.corpus, header.encoder), header, present)
    folder = out / str(rows[0]["corpus"])
    utterances = [Utterance(**{key: row[key] for key in _OF_UTTERANCE}) for row in rows]
    write_manifest(utterances, folder / "manifest.jsonl")
    return folder


def _header(described: Mapping[str, Any], rows: Sequence[Row]) -> FeatureHeader:
    saw = {name: Exposure(**value) for name, value in described["exposure"].items()}
    sounds = {row["id"]: row["sound"] for row in rows if row["sound"]}
    return FeatureHeader(**{**described, "exposure": saw, "audio_hashes": sounds})


def check_width(files: Mapping[Path, Sequence[Row]], modality: str, wanted: int | None) -> None:
    """Raises FeatureError if a modality's vectors do not have the width of the flag."""
    for path, rows in files.items():
        width = rows[0]["features"][modality]["dim"]
        if wanted is not None and width != wanted:
            raise FeatureError(
                f"{path.name}: its {modality} vectors have width {width}, but --{modality}_dim is "
                f"{wanted}; "
                f"give --{modality}_dim {width} or leave it out"
            )

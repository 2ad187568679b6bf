"""Two made-up corpora on scales of their own, and ways to look into the runs made of them."""

import csv
import json
from dataclasses import replace
from functools import partial

import numpy as np
from safetensors.torch import load_file

from made_features import made_arrays, made_rows, write_features
from multimodal_ser.config.settings import ModelConfig, TrainConfig
from multimodal_ser.corpora.labels import class_set
from multimodal_ser.corpora.utterance import write_manifest
from multimodal_ser.dataset.material import load_material
from multimodal_ser.experiments import running
from multimodal_ser.splits import make_split

SETTINGS = {
    "seeds": 1,
    "network": ModelConfig(members=1, hidden_dim=8, num_heads=2),
    "schedule": TrainConfig(epochs=2, batch_size=16, least_steps=1),
}
MODEL = {"model": "cross_attention", **SETTINGS}
SWAPPED = class_set("anger,happiness,sadness,neutral")
COMMON = class_set("anger,happiness,neutral,sadness")
make = partial(running.make_experiment, jobs=1)


def corpus_folder(root, corpus, *, gain=1.0, offset=0.0, count=48, skill=0.8):
    """A corpus whose features are those of any other, on a scale of its own."""
    rows = made_rows(count, speakers=4, corpus=corpus)
    folder = root / corpus
    write_manifest(rows, folder / "manifest.jsonl")
    for modality in ("audio", "text"):
        arrays = made_arrays(rows, modality, skill=skill)
        moved = {key: gain * array + offset for key, array in arrays.items()}
        write_features(folder / f"made-{modality}.safetensors", moved, modality)
    return folder


def domain(folder, labels=COMMON, folds=2):
    material = load_material(folder, labels)
    return material, make_split(material.utterances, "speaker", folds=folds)


def made_pair(root):
    """Source, its split, target, its split."""
    folders = (
        corpus_folder(root, "first"),
        corpus_folder(root, "second", gain=3.0, offset=5.0, count=64),
    )
    return *domain(folders[0], folds=4), *domain(folders[1])


def config_of(folder):
    return json.loads((folder / "config.json").read_text())


def rows_of(folder):
    with (folder / "predictions.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def shares_of(folder):
    """Probabilities [rows, 4] in the class set's order."""
    return np.array(
        [[float(row[f"p_{name}"]) for name in COMMON.classes] for row in rows_of(folder)]
    )


def without_labels(folder):
    return [{key: v for key, v in row.items() if key != "label"} for row in rows_of(folder)]


def state_of(folder):
    return load_file(folder / "model.safetensors")


def same_models(first, second):
    """Whether two models are the same but for the rounding of runs trained beside others."""
    first, second = state_of(first), state_of(second)
    return first.keys() == second.keys() and all(
        first[key].allclose(second[key], rtol=1e-5, atol=1e-6) for key in first
    )


def by(folders, *path):
    """Folders of the first target fold by what their configs say there."""
    found = {}
    for folder in folders:
        value = config = config_of(folder)
        for key in path:
            value = (value or {}).get(key)
        if config["fold"] == "0":
            found[config["model"], value] = folder
    return found


def turned(material, ids):
    """The material with other labels for these utterances."""
    label = material.examples.label.clone()
    place = np.isin(material.examples.ids, ids)
    label[place] = (label[place] + 1) % 4
    return replace(material, examples=replace(material.examples, label=label))

"""Made-up utterances, examples and feature folders whose features tell the class, noisily."""

from pathlib import Path

import numpy as np
import torch

from multimodal_ser.corpora.utterance import Utterance, write_manifest
from multimodal_ser.dataset.examples import Examples, Modality
from multimodal_ser.features import FeatureHeader, write_store

FOUR = ("anger", "happiness", "neutral", "sadness")
DIMS = {"audio": 8, "text": 6}


def made_rows(count=60, speakers=5, words=FOUR, corpus="mine", **extra):
    """Utterances dealt evenly over words and speakers; a dialogue has one speaker."""
    rows = []
    for number in range(count):
        speaker = number // len(words) % speakers
        rows.append(
            Utterance(
                f"{corpus}/{number:03d}",
                corpus,
                words[number % len(words)],
                speaker=f"s{speaker}",
                session=f"Ses{speaker + 1:02d}",
                dialogue=f"s{speaker}d{number // (len(words) * speakers)}",
                extra=extra,
            )
        )
    return rows


def made_arrays(rows, modality, *, skill=2.0, seed=0):
    """Id → float32 [1 to 4 tokens, dim]; the emotion's word decides the mean."""
    dim = DIMS[modality]
    words = sorted({row.emotion for row in rows})
    draw = np.random.default_rng([seed, dim])
    means = draw.normal(0, skill, (len(words), dim))
    return {
        row.id: (means[words.index(row.emotion)] + draw.normal(size=(1 + n % 4, dim))).astype("f4")
        for n, row in enumerate(rows)
    }


def write_features(path: Path, arrays, modality, **header):
    """One feature file at `path`, as an extraction or an import leaves it."""
    settings = {
        "corpus": path.parent.name,
        "encoder": path.stem,
        "modality": modality,
        "dim": DIMS[modality],
        "rate": 0.0,
        "weights": "ab12",
        "layers": "1",
        "tokens": 4,
        "dtype": "float32",
    }
    write_store(path, FeatureHeader(**(settings | header)), arrays.items())


def made_folder(root: Path, rows, modalities=("audio", "text"), *, lacking=(), shift=0.0, **how):
    """``root/<corpus>`` with a manifest and one feature file a modality; text lacks some ids."""
    folder = root / rows[0].corpus
    write_manifest(rows, folder / "manifest.jsonl")
    for modality in modalities:
        arrays = {key: x + shift for key, x in made_arrays(rows, modality, **how).items()}
        if modality == "text":
            arrays = {key: array for key, array in arrays.items() if key not in lacking}
        write_features(folder / f"made-{modality}.safetensors", arrays, modality)
    return folder


def made_examples(count=24, classes=3, *, tokens=5, skill=2.0, seed=0, no_text=(), no_audio=()):
    """Examples with sequences of 1 to `tokens` tokens and, at some rows, a side missing."""
    draw = np.random.default_rng(seed)
    label = np.arange(count) % classes
    sides = {}
    for modality, lacking in (("text", no_text), ("audio", no_audio)):
        means = draw.normal(0, skill, (classes, DIMS[modality]))
        sides[modality] = Modality.stack(
            [
                None
                if n in lacking
                else means[c] + draw.normal(size=(1 + n % tokens, len(means[c])))
                for n, c in enumerate(label)
            ]
        )
    ids = tuple(f"mine/{n:03d}" for n in range(count))
    return Examples(ids, sides["text"], sides["audio"], torch.from_numpy(label))

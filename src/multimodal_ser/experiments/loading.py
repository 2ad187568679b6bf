"""Feature files + class set + split → material and folds, and a log of what they hold."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from multimodal_ser.corpora.utterance import read_manifest
from multimodal_ser.dataset.material import (
    Material,
    corpus_folder,
    load_material,
    pooled,
    sounds_of,
)
from multimodal_ser.dataset.tasks import AttributeSet, outputs_of
from multimodal_ser.encoders.exposure import refuse_emotion_trained
from multimodal_ser.errors import SerError, one_of
from multimodal_ser.experiments.protocols import TOKEN_CHOICES
from multimodal_ser.splits import make_split
from multimodal_ser.splits.folds import Split
from multimodal_ser.splits.leaks import cautions, cautions_of_folds

_log = logging.getLogger(__name__)


def load_domain(
    features: Path,
    labels: str,
    split: str,
    *,
    folds: int | None = None,
    allow: Sequence[str] = (),
    audio: str | None = None,
    text: str | None = None,
    tokens: str = "tokens",
    forbid_emotion_trained: bool = False,
    task: str = "classes",
    scale: tuple[float, float] | None = None,
) -> tuple[Material, Split]:
    """Reads a corpus's features, makes its split, and logs what they hold.

    `ser train --help` has the arguments.

    Args:
        features: folder of one corpus's features.
        labels: class set, or attributes.
        split: scheme, split file or folder.
        folds: number of folds, for schemes by group.
        allow: overlaps between parts to accept.
        audio: name of the audio features.
        text: name of the text features.
        tokens: ``tokens`` as they are, or ``pooled``: the mean of each modality.
        forbid_emotion_trained: refuse features whose encoder was trained on emotion labels.
        task: what is predicted for an utterance, see `tasks`.
        scale: of attributes, if the corpus does not define it.

    Raises:
        SerError: features, labels and split do not fit together; the message has the remedy.
    """
    if tokens not in TOKEN_CHOICES:
        raise SerError(one_of("kind of tokens", tokens, TOKEN_CHOICES))
    rows = read_manifest(corpus_folder(features) / "manifest.jsonl")
    outputs = outputs_of(task, labels, rows, scale)
    material = load_material(features, outputs, audio, text, task=task)
    if forbid_emotion_trained:
        for name, claim in material.emotion_labels.items():
            refuse_emotion_trained(name, claim)
    if tokens == "pooled":
        material = pooled(material)
    sounds = sounds_of(material)
    made = make_split(material.utterances, split, folds=folds, allow=allow, sounds=sounds)
    _say_what(material, made)
    return material, made


def _say_what(material: Material, split: Split) -> None:
    """Logs what a material holds, what was left out of it, and the leaks of its split."""
    names = material.labels.classes
    ids, label = material.examples.ids, material.examples.label.tolist()
    _log.info("%d utterances: %s", len(ids), _held(material))
    for reason, count in material.dropped.items():
        _log.info("left out: %d, %s", count, reason)
    for leak in split.leaks:
        _log.warning("LEAK: %s", leak)
    class_of = {key: names[place] for key, place in zip(ids, label, strict=True) if place >= 0}
    warned = list(split.notes)
    if not isinstance(material.labels, AttributeSet):
        warned += cautions(material.utterances, lambda row: class_of.get(row.id))
        warned += cautions_of_folds(split.folds, class_of, names)
    for note in warned:
        _log.warning("%s", note)
    _log.info("%d folds, split %s", len(split.folds), split.name)


def _held(material: Material) -> str:
    """How many utterances each class has, or mean and deviation of each attribute."""
    examples, names = material.examples, material.labels.classes
    if isinstance(material.labels, AttributeSet) and examples.target is not None:
        low, high = material.labels.scale
        parts = zip(names, examples.target.mean(0), examples.target.std(0), strict=True)
        told = ", ".join(f"{name} {mean:.2f} ± {sd:.2f}" for name, mean, sd in parts)
        return f"{told} on 0 to 1, which is {low:g} to {high:g} of the corpus"
    counts = np.bincount(examples.label[examples.label >= 0], minlength=len(names))
    return ", ".join(f"{name} {count}" for name, count in zip(names, counts, strict=True))

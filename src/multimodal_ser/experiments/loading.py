"""Feature files + class set + split → material and folds, and what to say of them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from multimodal_ser.encoders.exposure import refuse_emotion_trained
from multimodal_ser.errors import SerError, one_of
from multimodal_ser.experiments.protocols import TOKENS
from multimodal_ser.folds import Split
from multimodal_ser.labels import class_set
from multimodal_ser.material import Material, load_material, pooled, sounds_of
from multimodal_ser.splits import make_split
from multimodal_ser.splits.cautions import cautions, cautions_of_folds

log = logging.getLogger(__name__)


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
) -> tuple[Material, Split]:
    """Reads a corpus's features and makes its split; see `ser train --help` for the arguments.

    Args:
        features: folder of one corpus's features.
        labels: class set.
        split: scheme, split file or folder.
        folds: of the schemes by group.
        allow: overlaps to accept.
        audio: which audio features.
        text: which text features.
        tokens: ``tokens`` as they are, or ``pooled``: the mean of each modality.
        forbid_emotion_trained: refuse features whose encoder saw emotion labels.

    Raises:
        SerError: whatever does not fit, with the remedy.
    """
    if tokens not in TOKENS:
        raise SerError(one_of("kind of tokens", tokens, TOKENS))
    material = load_material(features, class_set(labels), audio, text)
    if forbid_emotion_trained:
        for name, claim in material.emotion_labels.items():
            refuse_emotion_trained(name, claim)
    if tokens == "pooled":
        material = pooled(material)
    sounds = sounds_of(material)
    made = make_split(material.utterances, split, folds=folds, allow=allow, sounds=sounds)
    return material, made


def say_what(material: Material, split: Split) -> None:
    """Logs what a material holds, what was left out of it, and what leaks in its split."""
    names = material.labels.classes
    ids, label = material.examples.ids, material.examples.label.tolist()
    counts = np.bincount(label, minlength=len(names))
    named = ", ".join(f"{name} {count}" for name, count in zip(names, counts, strict=True))
    log.info("%d utterances: %s", counts.sum(), named)
    for reason, count in material.dropped.items():
        log.info("left out: %d, %s", count, reason)
    for leak in split.leaks:
        log.warning("LEAK: %s", leak)
    class_of = {key: names[place] for key, place in zip(ids, label, strict=True)}
    warned = cautions(material.utterances, lambda row: class_of[row.id])
    for note in [*split.notes, *warned, *cautions_of_folds(split.folds, class_of, names)]:
        log.warning("%s", note)
    log.info("%d folds, split %s", len(split.folds), split.name)

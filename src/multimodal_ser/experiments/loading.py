"""Feature files + class set + split → material and folds, and a log of what they hold."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from multimodal_ser.common.spelling import alike
from multimodal_ser.config.record import FeatureSpec
from multimodal_ser.corpora.utterance import read_manifest
from multimodal_ser.dataset.examples import Modality
from multimodal_ser.dataset.material import (
    Material,
    corpus_folder,
    load_material,
    pooled,
    sounds_of,
)
from multimodal_ser.dataset.tasks import Outputs, attributes_of, classes_of, outputs_of
from multimodal_ser.encoders.exposure import refuse_emotion_trained
from multimodal_ser.errors import FeatureError, SerError, one_of
from multimodal_ser.experiments.plans import corpus_names
from multimodal_ser.experiments.protocols import TOKEN_CHOICES
from multimodal_ser.features import FeatureStore
from multimodal_ser.models.layers import inverse
from multimodal_ser.splits import make_split
from multimodal_ser.splits.cautions import cautions, cautions_of_folds
from multimodal_ser.splits.folds import Fold, Split

_log = logging.getLogger(__name__)
# what tells apart feature files of one encoder
_MADE_BY = ("encoder", "weights", "layers", "tokens", "context", "context_after", "prefix")
_LEAST = 2  # utterances of a speaker: a single one, standardised by itself, would be zero


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
    standardize_speakers: bool = False,
    forbid_emotion_trained: bool = False,
    task: str = "classes",
    scale: tuple[float, float] | None = None,
    learnt: int | None = None,
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
        standardize_speakers: see `standardized_by_speaker`.
        forbid_emotion_trained: refuse features whose encoder was trained on emotion labels.
        task: what is predicted for an utterance, see `tasks`.
        scale: of attributes, if the corpus does not define it.
        learnt: number of first folds whose training parts models learn from, by themselves and with
            labels; None for all. Missing classes are reported for these folds only. 1 is for a
            source, which is not tested.

    Raises:
        SerError: features, labels and split do not fit together; the message has the remedy.
    """
    if tokens not in TOKEN_CHOICES:
        raise SerError(one_of("kind of tokens", tokens, TOKEN_CHOICES))
    rows = read_manifest(corpus_folder(features) / "manifest.jsonl")
    outputs = outputs_of(task, labels, rows, scale)
    material = load_material(features, outputs, audio, text, task=task, rows=rows)
    if forbid_emotion_trained:
        for name, claim in material.emotion_labels.items():
            refuse_emotion_trained(name, claim)
    if standardize_speakers:
        material = standardized_by_speaker(material)
    if tokens == "pooled":
        material = pooled(material)
    sounds = sounds_of(material)
    made = make_split(material.utterances, split, folds=folds, allow=allow, sounds=sounds)
    made = replace(made, notes=(*made.notes, *unlearnt(material, made.folds[:learnt])))
    _log_contents(material, made, learnt)
    return material, made


def unlearnt(material: Material, folds: Sequence[Fold]) -> list[str]:
    """Sentences on classes that training parts lack, which every result shows.

    A model cannot predict a class that it has not learnt.
    """
    if not (classes := classes_of(material.labels)):
        return []
    lines = cautions_of_folds(folds, named_classes(material), classes.classes, ("train",))
    return [f"{' + '.join(corpus_names(material))}: {line}" for line in lines]


def named_classes(material: Material) -> dict[str, str]:
    """Id → class, of the utterances that have one."""
    names, label = material.labels.classes, material.examples.label.tolist()
    pairs = zip(material.examples.ids, label, strict=True)
    return {key: names[place] for key, place in pairs if place >= 0}


def load_described(
    folder: Path, labels: Outputs, described: Mapping[str, FeatureSpec | None], task: str
) -> Material:
    """Reads the features of a corpus that a run's record describes, as that run reads them."""
    audio, text = (_file_of(folder, name, described[name]) for name in ("audio", "text"))
    material = load_material(folder, labels, audio, text, task=task)
    specs = [spec for spec in described.values() if spec]
    if any(spec.by_speaker for spec in specs):
        material = standardized_by_speaker(material)
    return pooled(material) if any(spec.pooled_from for spec in specs) else material


def _file_of(folder: Path, modality: str, spec: FeatureSpec | None) -> str:
    """The name of the feature file that was made as described; without one, the encoder's name."""
    if spec is None:
        return "none"
    wanted = replace(spec, tokens=spec.pooled_from or spec.tokens)
    for path in sorted(corpus_folder(folder).glob("*.safetensors")):
        header = FeatureStore.open(path).header
        same = all(getattr(header, key) == getattr(wanted, key) for key in _MADE_BY)
        if header.modality == modality and same:
            return path.stem
    return spec.encoder


def standardized_by_speaker(material: Material) -> Material:
    """The material with each speaker's sound standardised by that speaker's own recordings.

    Removes what a voice and a microphone have in common over all recordings, which is common for
    functionals such as eGeMAPS. No label is used, but the unlabelled recordings of the speakers in
    the test set are: every result says so.

    Raises:
        FeatureError: there are no audio features, or a speaker is unknown or has one recording.
    """
    described, audio = material.features["audio"], material.examples.audio
    if described is None:
        raise FeatureError("standardising by speaker needs audio features: name them as --audio")
    places: dict[str | None, list[int]] = defaultdict(list)
    for place, row in enumerate(material.utterances):
        places[alike(row.speaker) if row.speaker else None].append(place)
    lone = [one for name, own in places.items() if name is None or len(own) < _LEAST for one in own]
    if lone:
        row = material.utterances[min(lone)]
        raise FeatureError(
            f"standardising by speaker needs {_LEAST} utterances of each speaker at least; "
            f"{len(lone)} utterances, such as {row.id} of {row.speaker or 'an unknown speaker'}, "
            "are of speakers with fewer; leave them out of the manifest, and extract again"
        )
    tokens = audio.tokens.float().clone()
    for rows in places.values():
        mask = audio.mask[rows]
        real = tokens[rows][mask]  # [tokens of the speaker, D]
        if len(real):
            mean = real.mean(0)
            scaled = (tokens[rows] - mean) * inverse(real.std(0, correction=0), mean)
            tokens[rows] = scaled * mask[..., None]  # padding stays zero
    examples = replace(material.examples, audio=Modality(tokens, audio.mask))
    features = {**material.features, "audio": replace(described, by_speaker=True)}
    mark = (
        "audio features are standardised by speaker, in the test set too: predicting so needs "
        "several unlabelled recordings of each speaker"
    )
    marks = (*material.marks, mark)
    # a copy under another speaker has equal features only before
    hashes = material.hashes or material.examples.audio.hashes(material.examples.ids)
    return replace(material, examples=examples, features=features, marks=marks, hashes=hashes)


def _log_contents(material: Material, split: Split, learnt: int | None) -> None:
    """Logs what a material holds, what was left out of it, and the leaks of its split.

    `learnt` is as for `load_domain`.
    """
    _log.info("%d utterances: %s", len(material.utterances), _counts_line(material))
    for reason, count in material.dropped.items():
        _log.info("left out: %d, %s", count, reason)
    for leak in split.leaks:
        _log.warning("LEAK: %s", leak)
    class_of, warned = named_classes(material), list(split.notes)
    if classes := classes_of(material.labels):
        warned += cautions(material.utterances, lambda row: class_of.get(row.id))
        others = ("validation",) if learnt == 1 else ("validation", "test")
        used = split.folds[: learnt or None]
        warned += cautions_of_folds(used, class_of, classes.classes, others)
    for note in warned:
        _log.warning("%s", note)
    _log.info("%d folds, split %s", len(split.folds), split.name)


def _counts_line(material: Material) -> str:
    """How many utterances each class has, and mean and deviation of each attribute."""
    examples, listed = material.examples, []
    if classes := classes_of(material.labels):
        names = classes.classes
        counts = np.bincount(examples.label[examples.label >= 0], minlength=len(names))
        listed = [f"{name} {count}" for name, count in zip(names, counts, strict=True)]
    attributes = attributes_of(material.labels)
    if attributes and examples.target is not None:
        low, high = attributes.scale
        values = examples.target[:, -len(attributes.classes) :]
        values = values[~values.isnan().any(1)]
        parts = zip(attributes.classes, values.mean(0), values.std(0), strict=True)
        listed += [f"{name} {mean:.2f} ± {sd:.2f}" for name, mean, sd in parts]
        listed[-1] += f" on 0 to 1, which is {low:g} to {high:g} of the corpus"
    return ", ".join(listed)

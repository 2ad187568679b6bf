"""features/ + class set → Material: utterances, their tokens in memory, and notes about them."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from multimodal_ser.audio.fingerprints import same_sounds
from multimodal_ser.config.record import Encoding, FeatureSpec
from multimodal_ser.corpora.utterance import PREDICTED, Utterance, read_manifest
from multimodal_ser.dataset.examples import Examples, Modality
from multimodal_ser.dataset.tasks import (
    Outputs,
    TaskLabel,
    check_attributes,
    classes_of,
    scale_warnings,
    task_label,
)
from multimodal_ser.encoders.base import Exposure
from multimodal_ser.encoders.exposure import claim_about
from multimodal_ser.errors import FeatureError, LabelError
from multimodal_ser.features import FeatureStore
from multimodal_ser.features.content import check_made_of, context_notes
from multimodal_ser.features.fitted import fitted_note

_SAYS = {
    "labels": "saw it with emotion labels: not a clean test",
    "unlabelled": "saw it without labels",
    "unknown": "may have seen it (unknown)",
}


@dataclass(frozen=True)
class Material:
    """Everything that an experiment needs of its data.

    Attributes:
        utterances: those with a class and features, in the order of the examples.
        examples: their tokens and class ids.
        labels: the class set, the attributes, or both.
        features: for ``audio`` and ``text``, the specification in the feature file, or None.
        hashes: id → hash of the decoded sound; of imported features that were changed since, the
            hash of what they were.
        prints: id → fingerprint of the decoded sound, which copies of a recording share.
        marks: sentences that every result made from the data shows, such as contamination.
        dropped: reason → number of utterances that were left out.
        emotion_labels: features → whether their encoder's training saw emotion labels.
        task: what is predicted for an utterance, see `tasks`.
    """

    utterances: list[Utterance]
    examples: Examples
    labels: Outputs
    features: dict[str, FeatureSpec | None]
    hashes: Mapping[str, str]
    marks: tuple[str, ...]
    dropped: Mapping[str, int]
    prints: Mapping[str, str] = field(default_factory=dict)
    emotion_labels: Mapping[str, Exposure] = field(default_factory=dict)
    task: str = "classes"


def sounds_of(*materials: Material) -> dict[str, str]:
    """Id → a name of its sound, over several corpora; equal for copies of a recording.

    What imported features were made of is not known; equal features are taken for equal sound.
    """
    made_of = [one.hashes or one.examples.audio.hashes(one.examples.ids) for one in materials]
    hashes = {key: value for one in made_of for key, value in one.items()}
    return same_sounds(hashes, {k: v for one in materials for k, v in one.prints.items()})


def load_material(
    folder: Path,
    labels: Outputs,
    audio: str | None = None,
    text: str | None = None,
    *,
    complete: bool = True,
    task: str = "classes",
    rows: Sequence[Utterance] | None = None,
) -> Material:
    """Reads the features and labels of one corpus.

    Args:
        folder: written by `ser extract`: the folder of a corpus, or one that holds a single corpus.
        labels: the classes in their order, or the attributes.
        audio: name of the audio features; needed if there are several, ``"none"`` for none.
        text: the same for text.
        complete: whether the corpus must have every class; one that is only tested need not.
        task: one of `settings.TASKS`.
        rows: the utterances of the folder's manifest, if they were read already.

    Raises:
        FeatureError: there are no features, or several to choose from.
        LabelError: the class set does not fit the corpus.
    """
    folder = corpus_folder(folder)
    # Sorted by id, so that results do not depend on the order of lines in the manifest.
    rows = sorted(rows or read_manifest(folder / "manifest.jsonl"), key=lambda row: row.id)
    stores = _open_stores(folder, rows, audio, text)
    present = [store for store in stores.values() if store is not None]
    if task.startswith("classes") and complete and (own := classes_of(labels)):
        for corpus in sorted({row.corpus for row in rows}):
            own.check_covers(corpus, {row.emotion for row in rows if row.corpus == corpus})
    check_attributes(rows, labels)
    kept, targets, dropped = _keep(rows, labels, present, task)
    classes = {one.label for one in targets}
    if len(kept) < 2 or (task == "classes" and len(classes) < 2):
        names = sorted(labels.classes[place] for place in classes if place >= 0)
        raise LabelError(
            f"{folder}: {len(kept)} utterances of {names} are too few; left out: {dict(dropped)}"
        )
    ids = tuple(row.id for row in kept)
    text_tokens, text_spec, _ = _read_modality(stores["text"], ids)
    audio_tokens, audio_spec, repeated = _read_modality(stores["audio"], ids)
    label = torch.tensor([one.label for one in targets])
    target = _targets(targets, task, labels)
    marks = _marks(kept, present, repeated, dropped["no features"])
    # encoders see one utterance at a time: only imported features may have been fitted to all
    imported = [one for one in present if not one.header.weights]
    fitted = (fitted_note(one.header.encoder, one, rows) for one in imported)
    marks += [note for note in fitted if note]
    if target is not None:
        marks += scale_warnings(target.tolist(), labels)
    return Material(
        utterances=kept,
        examples=Examples(ids, text_tokens, audio_tokens, label, target),
        labels=labels,
        features={"audio": audio_spec, "text": text_spec},
        hashes={key: value for one in present for key, value in one.audio_hashes.items()},
        marks=tuple(marks),
        dropped=dropped,
        prints={key: value for one in present for key, value in one.header.prints.items()},
        emotion_labels={one.header.encoder: one.header.emotion_labels for one in present},
        task=task,
    )


def _targets(says: Sequence[TaskLabel], task: str, labels: Outputs) -> torch.Tensor | None:
    """Shares of votes, or values, or both [N, C]; None if classes are the task."""
    if task == "classes":
        return None
    target = torch.tensor([one.target for one in says])
    if classes := classes_of(labels):
        target[:, : len(classes.classes)] /= target[:, : len(classes.classes)].sum(1, keepdim=True)
    return target


def pooled(material: Material) -> Material:
    """The material with one token per modality: the mean of an utterance's tokens."""
    examples = material.examples
    modalities: dict[str, Any] = {"audio": examples.audio, "text": examples.text}
    features = dict(material.features)
    for name, modality in modalities.items():
        described = features[name]
        if described is not None and modality.mask.shape[1] > 1:
            mean = torch.from_numpy(modality.pooled())[:, None]
            modalities[name] = Modality(mean, modality.mask.any(1, keepdim=True))
            features[name] = replace(described, tokens=1, pooled_from=described.tokens)
    return replace(material, examples=replace(examples, **modalities), features=features)


def corpus_folder(folder: Path) -> Path:
    """The folder itself, or that of the only corpus in it; FeatureError if there is none alone."""
    if (folder / "manifest.jsonl").is_file():
        return folder
    if not folder.is_dir():
        raise FeatureError(f"no folder {folder}; make features with: ser extract")
    inside = sorted(path.parent for path in folder.glob("*/manifest.jsonl"))
    if len(inside) != 1:
        names = [path.name for path in inside]
        raise FeatureError(
            f"{folder} holds the features of {len(names)} corpora {names}; give the folder of one, "
            "or make features with: ser extract"
        )
    return inside[0]


def _open_stores(
    folder: Path, rows: Sequence[Utterance], audio: str | None, text: str | None
) -> dict[str, FeatureStore | None]:
    """Opens the chosen feature file of each modality, made of what the manifest lists."""
    found = [FeatureStore.open(path) for path in sorted(folder.glob("*.safetensors"))]
    stores = {
        modality: _choose(folder, modality, name, found)
        for modality, name in (("audio", audio), ("text", text))
    }
    if not any(stores.values()):
        raise FeatureError(f"{folder}: neither audio nor text features chosen; at least one needed")
    for store in filter(None, stores.values()):
        check_made_of(store, rows)
    return stores


def _choose(
    folder: Path, modality: str, name: str | None, found: Sequence[FeatureStore]
) -> FeatureStore | None:
    fitting = {store.path.stem: store for store in found if store.header.modality == modality}
    if name == "none" or (name is None and not fitting):
        return None
    if name is None and len(fitting) == 1:
        return next(iter(fitting.values()))
    if name not in fitting:
        asked = f"no {modality} features {name!r}" if name else f"several {modality} features"
        raise FeatureError(
            f"{folder}: {asked}; choose with --{modality}: {', '.join([*fitting, 'none'])}"
        )
    return fitting[name]


def _keep(
    rows: Sequence[Utterance], labels: Outputs, stores: Sequence[FeatureStore], task: str
) -> tuple[list[Utterance], list[TaskLabel], Counter[str]]:
    """Utterances with a label for the task and with features of at least one modality.

    Everything that is left out is counted with its reason and shown: nothing disappears silently.
    """
    kept, targets = [], []
    dropped: Counter[str] = Counter()
    for row in rows:
        target = task_label(task, row, labels)
        if isinstance(target, str):
            dropped[target] += 1
        elif not any(row.id in store for store in stores):
            dropped["no features"] += 1
        else:
            kept.append(row)
            targets.append(target)
    known = {row.id for row in rows}
    if alone := len({key for store in stores for key in store.ids if key not in known}):
        dropped["features without a row in the manifest"] = alone
    return kept, targets, dropped


def _read_modality(
    store: FeatureStore | None, ids: Sequence[str]
) -> tuple[Modality, FeatureSpec | None, list[str]]:
    """The tokens of these ids, their specification, and ids whose features repeat another's."""
    if store is None:
        return Modality.absent(len(ids)), None, []
    present, content, seen, same = {}, hashlib.sha256(), set(), []
    of_encoder = store.header.weights and not store.header.code
    for key in ids:
        if key in store:
            present[key] = store[key]
            found = "" if np.isfinite(present[key]).all() else "not finite"  # none is written
            if of_encoder and not present[key].any():  # as a copy that stopped has them at its end
                found = "all zero, which no encoder of this package gives"
            if found:
                raise FeatureError(
                    f"{store.path}: the features of {key!r} are {found}: the file is damaged; copy "
                    "it again, or make it again with --overwrite"
                )
            # The hash covers id, hash of the encoded content, shape and tokens, so that runs on
            # changed features get another name.
            made_of = store.header.inputs.get(key)
            content.update(f"{key}\0{made_of}\0{present[key].shape}".encode())
            raw = present[key].tobytes()
            content.update(raw)
            # Identical features are a sign of a copied recording or a broken extractor.
            if hash(raw) in seen:
                same.append(key)
            seen.add(hash(raw))
    tokens = Modality.stack([present.get(key) for key in ids])
    made = {one.name: getattr(store.header, one.name) for one in fields(Encoding)}
    return tokens, FeatureSpec(**made, content=content.hexdigest()[:16]), same


def _marks(
    rows: Sequence[Utterance], stores: Sequence[FeatureStore], repeated: Sequence[str], lost: int
) -> list[str]:
    """Sentences that a reader must see beside any result made from the data.

    Args:
        rows: utterances that are learnt from or tested.
        stores: their features.
        repeated: ids of utterances whose audio features are those of another.
        lost: number of utterances without features.
    """
    marks = []
    for store in stores:
        marks += context_notes(store.header.context, store.header.context_after)
        if not store.header.weights:
            marks.append(
                f"features {store.header.encoder!r} were imported: what made them is known by "
                "name alone, and the same recording on two sides of a split cannot be found"
            )
        for corpus in sorted({row.corpus for row in rows}):
            saw = claim_about(corpus, store.header.exposure)
            state = saw.saw if saw else "unknown"
            if state != "no":
                source = saw.source if saw else "nothing is declared"
                marks.append(f"{corpus}: {store.header.encoder} {_SAYS[state]} ({source})")
    if any(row.extra.get("audio") == "rebuilt" for row in rows):
        marks.append("the recordings are rebuilt from spectrograms, not the corpus's own")
    if any(row.extra.get("label") == "voice votes" for row in rows):
        marks.append("labels are the listeners' votes on the voice, not the intended emotion")
    if any(row.extra.get("label") == PREDICTED for row in rows):
        marks.append(
            "labels are a model's predictions, not annotations: the scores tell how well it is "
            "imitated, perhaps on recordings that it learnt from"
        )
    lacking = {s.header.modality: sum(row.id not in s for row in rows) for s in stores}
    marks += [f"{n} of {len(rows)} utterances have no {m}" for m, n in lacking.items() if n]
    if repeated:
        same = "utterances have the very same audio features as another"
        marks.append(f"{len(repeated)} {same}, such as {repeated[0]!r}")
    if lost:
        marks.append(f"{lost} utterances have no features: they are neither learnt from nor tested")
    return marks

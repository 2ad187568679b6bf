"""Material → the same data for a network over dialogues, or for one task of two.

In a dialogue, the first token is the utterance itself. Each other place stands for one distance and
for whether the same person speaks there: the mask is what tells a network who speaks when. Only
utterances before are tokens, unless later ones are asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from multimodal_ser.common.spelling import alike
from multimodal_ser.corpora.utterance import Utterance
from multimodal_ser.dataset.examples import Modality
from multimodal_ser.dataset.material import Material
from multimodal_ser.dataset.tasks import NO_CLASS, Both
from multimodal_ser.errors import FeatureError, LabelError
from multimodal_ser.features.content import turns_of
from multimodal_ser.splits.folds import PARTS, Fold, Split

_LEAST = 2  # utterances of a task in each part of a fold: over a single one, UA and CCC say nothing


def with_dialogue(material: Material, before: int, after: int = 0) -> Material:
    """Replaces the one token of each utterance with those of its dialogue.

    Utterances that are not in the material, such as those without a class of the class set, are
    not in its dialogues either.

    Args:
        material: one token per utterance and modality.
        before: largest number of utterances before each.
        after: the same for utterances after each.

    Returns:
        The material with 1 + 2 (before + after) tokens per utterance.

    Raises:
        FeatureError: an utterance has several tokens, or none has a dialogue.
    """
    check_single_tokens(material)
    if all(row.dialogue is None for row in material.utterances):
        raise FeatureError(
            "a network over dialogues needs to know them, and no utterance has a dialogue; add "
            "them to the manifest, or choose another --model"
        )
    places = material.examples.places
    index = torch.full((len(places), 1 + 2 * (before + after)), -1)
    index[:, 0] = torch.arange(len(places))
    for row, place, other in _around(material.utterances, before, after):
        index[places[row.id], place] = places[other.id]
    text, audio = (
        _gathered(one, index) for one in (material.examples.text, material.examples.audio)
    )
    return replace(material, examples=replace(material.examples, text=text, audio=audio))


def check_single_tokens(material: Material) -> None:
    """Raises FeatureError if an utterance has several tokens in a modality."""
    for name, described in material.features.items():
        if described is not None and getattr(material.examples, name).mask.shape[1] > 1:
            raise FeatureError(
                f"a network over dialogues reads one vector per utterance, and the {name} features "
                f"have up to {described.tokens}; take their means with --tokens pooled"
            )


def _around(
    rows: Sequence[Utterance], before: int, after: int
) -> Iterator[tuple[Utterance, int, Utterance]]:
    """An utterance, the place of another one among its tokens, and that other one."""
    distances = [*range(-1, -before - 1, -1), *range(1, after + 1)]
    for turns in turns_of(rows):
        for at, row in enumerate(turns):
            for number, distance in enumerate(distances):
                if 0 <= at + distance < len(turns):
                    other = turns[at + distance]
                    both = row.speaker is not None and other.speaker is not None
                    same = both and alike(str(row.speaker)) == alike(str(other.speaker))
                    # after the utterance itself, two places for each distance: the first is taken
                    # if somebody else speaks there, the second if the same person does
                    yield row, 1 + 2 * number + same, other


def _gathered(modality: Modality, index: Tensor) -> Modality:
    """The tokens [N, 1, D] of the utterances of an index [N, T], -1 for none → [N, T, D]."""
    if not modality.dim:
        return modality
    known = index >= 0
    mask = known & modality.mask[:, 0][index.clamp(min=0)]
    tokens = modality.tokens[:, 0][index.clamp(min=0)] * mask[..., None]
    return Modality(tokens, mask)


def part_of(material: Material, place: int) -> Material:
    """The material of one of two tasks, as if it had been read for that task alone."""
    labels, target = material.labels, material.examples.target
    if not isinstance(labels, Both) or target is None:
        return material
    task, cut = material.task.split("+")[place], len(labels.parts[0].classes)
    own = target[:, cut:] if place else target[:, :cut]
    rows = torch.nonzero(~own.isnan().any(1))[:, 0]
    examples = material.examples.take(rows)
    examples = replace(
        examples,
        target=None if task == "classes" else own[rows],
        label=torch.full_like(examples.label, NO_CLASS) if place else examples.label,
    )
    utterances = [material.utterances[row] for row in rows.tolist()]
    return replace(
        material, utterances=utterances, examples=examples, labels=labels.parts[place], task=task
    )


def part_of_split(split: Split, material: Material) -> Split:
    """The split of a material that has fewer utterances."""
    known = material.examples.places

    def kept(ids: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(key for key in ids if key in known)

    folds = (
        Fold(fold.name, kept(fold.train), kept(fold.validation), kept(fold.test))
        for fold in split.folds
    )
    return replace(split, folds=tuple(folds))


def unlabelled(material: Material, parts: Sequence[Material]) -> list[str]:
    """Says how many utterances of a material have a label for one of its tasks alone."""
    every, names = len(material.utterances), [part.labels.name for part in parts]
    counts = [every - len(part.utterances) for part in parts]
    return [
        f"{count} of {every} utterances have no {name}, and are learnt from and tested for "
        f"{other} alone"
        for count, name, other in zip(counts, names, reversed(names), strict=True)
        if count
    ]


def check_both_labelled(parts: Sequence[Material], split: Split) -> None:
    """Raises LabelError where a part of a fold has fewer than two utterances of a task."""
    for part in parts:
        for fold in part_of_split(split, part).folds:
            for side in PARTS:
                if (count := len(getattr(fold, side))) < _LEAST:
                    raise LabelError(
                        f"the {side} part of fold {fold.name} has {count} utterances with a label "
                        f"of {part.labels.name}, and {_LEAST} are needed; take other folds, or "
                        "train each task alone"
                    )

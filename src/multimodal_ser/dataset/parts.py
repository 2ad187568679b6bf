"""Two tasks at once → each by itself: the utterances that have a label for it, and its outputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from multimodal_ser.dataset.material import Material
from multimodal_ser.dataset.tasks import NO_CLASS, Both
from multimodal_ser.errors import LabelError
from multimodal_ser.splits.folds import Fold, Split

_LEAST = 2  # utterances of each part of a fold: one alone has neither a class to tell apart nor CCC


def with_label(outputs: Tensor, truth: Tensor, columns: slice) -> tuple[Tensor, Tensor]:
    """The outputs and the truth of one task, of the utterances that have a label for it.

    Args:
        outputs: of a model, [..., N, C].
        truth: class ids [N], of which nothing is taken away; or targets [N, C], nan where an
            utterance has none.
        columns: of the task.
    """
    if truth.ndim == 1:
        return outputs, truth
    own = truth[:, columns]
    # nan stands where an utterance has no label of this task: it takes no part in its loss or score
    rows = ~own.isnan().any(1)
    return outputs[..., rows, columns], own[rows]


def _columns(labels: Both) -> tuple[slice, slice]:
    """The outputs of each task."""
    cut = len(labels.parts[0].classes)
    return slice(0, cut), slice(cut, None)


def part_of(material: Material, place: int) -> Material:
    """The material of one of two tasks, as if it had been read for that task alone."""
    labels, target = material.labels, material.examples.target
    if not isinstance(labels, Both) or target is None:
        return material
    task, own = material.task.split("+")[place], target[:, _columns(labels)[place]]
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
            for side in ("train", "validation", "test"):
                if (count := len(getattr(fold, side))) < _LEAST:
                    raise LabelError(
                        f"the {side} part of fold {fold.name} has {count} utterances with a label "
                        f"of {part.labels.name}, and {_LEAST} are needed; take other folds, or "
                        "train each task alone"
                    )

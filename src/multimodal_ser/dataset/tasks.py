"""Utterance → what a model has to predict for it: a class, votes over classes, or attributes.

The task decides which utterances count, what a model learns from and what its outputs mean. For a
class set the outputs are classes; for an attribute set they are attributes, mapped from the
corpus's scale to 0 … 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from multimodal_ser.config.settings import TASKS
from multimodal_ser.corpora.labels import ClassSet, class_set
from multimodal_ser.corpora.utterance import ATTRIBUTES, Utterance
from multimodal_ser.errors import LabelError, one_of

NO_CLASS = -1  # class id of an utterance whose raters agree on no class of the set


@dataclass(frozen=True)
class AttributeSet:
    """Attributes in their order, and their scale, which is mapped to 0 … 1.

    Attributes:
        name: the attributes, with commas.
        classes: the attributes, which are a model's outputs as classes are.
        scale: the lowest and the highest value of the corpus's own scale.
    """

    name: str
    classes: tuple[str, ...]
    scale: tuple[float, float]

    def mapped(self, row: Utterance) -> list[float]:
        """The values of an utterance on 0 … 1, in order."""
        low, high = self.scale
        return [(row.attributes[name] - low) / (high - low) for name in self.classes]


Outputs = ClassSet | AttributeSet


def attribute_set(names: str, scale: tuple[float, float]) -> AttributeSet:
    """Reads a comma-separated list of attributes.

    Raises:
        LabelError: an attribute is unknown or named twice, or the scale is not a range.

    >>> attribute_set("arousal,valence", (1, 5)).classes
    ('arousal', 'valence')
    """
    chosen = tuple(name.strip() for name in names.split(",") if name.strip())
    for name in chosen:
        if name not in ATTRIBUTES:
            raise LabelError(
                f"{one_of('attribute', name, ATTRIBUTES)}; --task attributes takes a comma list of "
                f"them as --labels, such as {','.join(ATTRIBUTES)}"
            )
    if not chosen or len(set(chosen)) < len(chosen):
        raise LabelError(f"--labels {names!r}: name every attribute once: {','.join(ATTRIBUTES)}")
    low, high = scale
    if not low < high:
        raise LabelError(f"the scale runs from {low:g} to {high:g}; give the least value first")
    return AttributeSet(",".join(chosen), chosen, (float(low), float(high)))


def scale_of(rows: Iterable[Utterance]) -> tuple[float, float]:
    """The scale of the corpora's attributes.

    Raises:
        LabelError: the scale of a corpus is not known, or corpora have different scales.
    """
    from multimodal_ser.corpora import CORPORA  # imported here: it loads every reader

    names = sorted({row.corpus for row in rows})
    scales = {name: CORPORA[name].attribute_scale if name in CORPORA else None for name in names}
    found = set(scales.values())
    if None in found or len(found) != 1:
        told = ", ".join(f"{name}: {scale or 'not known'}" for name, scale in scales.items())
        raise LabelError(
            f"the scale of the attributes is needed ({told}); give the least and the greatest "
            "value, such as --scale 1 5"
        )
    return next(scale for scale in found if scale is not None)


def outside(values: Iterable[Sequence[float]], outputs: Outputs) -> list[str]:
    """A warning if attributes are outside of the scale that they are said to have."""
    if not isinstance(outputs, AttributeSet):
        return []
    count = sum(not all(0 <= value <= 1 for value in row) for row in values)
    low, high = outputs.scale
    where = f"have values outside of the scale from {low:g} to {high:g}"
    return [f"{count} utterances {where}"] if count else []


class Told(NamedTuple):
    """The label of an utterance in a task: a class id, and votes or values by column."""

    label: int
    target: list[float] | None


def told_of(task: str, row: Utterance, outputs: Outputs) -> Told | str:
    """The label of an utterance in a task, or the reason why it is left out.

    Args:
        task: one of TASKS.
        row: the utterance.
        outputs: classes or attributes.
    """
    if isinstance(outputs, AttributeSet):
        lacking = [name for name in outputs.classes if name not in row.attributes]
        return f"no {', '.join(lacking)}" if lacking else Told(NO_CLASS, outputs.mapped(row))
    name = outputs.class_of(row.corpus, row.emotion)
    if task == "classes":
        if name is None:
            return f"emotion {row.emotion!r} is not in {outputs.name}"
        return Told(outputs.classes.index(name), None)
    votes = class_votes(row, outputs)
    if not sum(votes):
        return f"no votes for a class of {outputs.name}"
    return Told(NO_CLASS if name is None else outputs.classes.index(name), votes)


def class_votes(row: Utterance, classes: ClassSet) -> list[float]:
    """How many raters chose each class; votes for other words do not count.

    >>> from multimodal_ser.corpora.labels import class_set
    >>> row = Utterance("mine/1", "mine", "joy", votes={"joy": 2, "anger": 1, "xxx": 4})
    >>> class_votes(row, class_set("anger,joy"))
    [1.0, 2.0]
    """
    counts = dict.fromkeys(classes.classes, 0.0)
    for word, count in row.votes.items():
        if (name := classes.class_of(row.corpus, word)) is not None:
            counts[name] += count
    return list(counts.values())


def outputs_of(
    task: str, labels: str, rows: Sequence[Utterance], scale: tuple[float, float] | None = None
) -> Outputs:
    """The outputs of a task for a corpus.

    Args:
        task: one of TASKS.
        labels: a class set, or a comma-separated list of attributes.
        rows: the corpus's utterances, whose corpora define the scale.
        scale: of the attributes, if the corpus does not define it.

    Raises:
        LabelError: the task, class set or an attribute is unknown, or there is no scale.
    """
    if task not in TASKS:
        raise LabelError(one_of("task", task, TASKS))
    if task == "attributes":
        return attribute_set(labels, scale or scale_of(rows))
    return class_set(labels)

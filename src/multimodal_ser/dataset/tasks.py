"""Utterance → what a model has to predict for it: a class, votes over classes, or attributes.

The task decides which utterances count, what a model learns from and what its outputs mean. For a
class set the outputs are classes; for an attribute set they are attributes, mapped from the
corpus's scale to 0 … 1.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

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


@dataclass(frozen=True)
class Both:
    """The outputs of a model of two tasks: classes, then attributes."""

    parts: tuple[ClassSet, AttributeSet]

    @property
    def name(self) -> str:
        """The names of both."""
        return "+".join(part.name for part in self.parts)

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes and the attributes."""
        return tuple(name for part in self.parts for name in part.classes)


Outputs: TypeAlias = ClassSet | AttributeSet | Both


def classes_of(outputs: Outputs) -> ClassSet | None:
    """The class set among the outputs."""
    first = outputs.parts[0] if isinstance(outputs, Both) else outputs
    return None if isinstance(first, AttributeSet) else first


def attributes_of(outputs: Outputs) -> AttributeSet | None:
    """The attributes among the outputs."""
    last = outputs.parts[1] if isinstance(outputs, Both) else outputs
    return last if isinstance(last, AttributeSet) else None


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
        listed = ", ".join(f"{name}: {scale or 'not known'}" for name, scale in scales.items())
        raise LabelError(
            f"the scale of the attributes is needed ({listed}); give the least and the greatest "
            "value, such as --scale 1 5"
        )
    return next(scale for scale in found if scale is not None)


def scale_warnings(values: Iterable[Sequence[float]], outputs: Outputs) -> list[str]:
    """A warning if attributes are outside of the scale that they are said to have.

    Raises:
        LabelError: an attribute has the same value everywhere.
    """
    attributes = attributes_of(outputs)
    if attributes is None:
        return []
    own = [row[-len(attributes.classes) :] for row in values]
    for name, column in zip(attributes.classes, zip(*own, strict=True), strict=True):
        if len({value for value in column if not math.isnan(value)}) == 1:
            raise LabelError(
                f"{name} has the same value in all utterances, so that there is nothing to learn "
                "or to score; leave it out of --labels"
            )
    count = sum(any(value < 0 or value > 1 for value in row) for row in own)
    low, high = attributes.scale
    where = f"have values outside of the scale from {low:g} to {high:g}"
    return [f"{count} utterances {where}"] if count else []


class TaskLabel(NamedTuple):
    """The label of an utterance in a task: a class id, and votes or values by column.

    Of two tasks, the target has a 1 at the class (or the votes), then the values; nan for a task
    that the utterance has no label for.
    """

    label: int
    target: list[float] | None


def check_attributes(rows: Sequence[Utterance], outputs: Outputs) -> None:
    """Raises LabelError where fewer than two utterances have the attributes."""
    if attributes := attributes_of(outputs):
        count = sum(all(name in row.attributes for name in attributes.classes) for row in rows)
        if count < 2:
            example = json.dumps(dict.fromkeys(attributes.classes, attributes.scale[1]))
            raise LabelError(
                f"{count} of {len(rows)} utterances have {', '.join(attributes.classes)}, and two "
                f'or more are needed; a manifest has them as "attributes": {example}'
            )


def task_label(task: str, row: Utterance, outputs: Outputs) -> TaskLabel | str:
    """The label of an utterance in a task, or the reason why it is left out.

    Args:
        task: one of TASKS.
        row: the utterance.
        outputs: classes, attributes or both.
    """
    if isinstance(outputs, Both):
        return _label_of_both(task, row, outputs)
    if isinstance(outputs, AttributeSet):
        lacking = [name for name in outputs.classes if name not in row.attributes]
        return f"no {', '.join(lacking)}" if lacking else TaskLabel(NO_CLASS, outputs.mapped(row))
    name = outputs.class_of(row.corpus, row.emotion)
    if task == "classes":
        if name is None:
            return f"emotion {row.emotion!r} is not in {outputs.name}"
        return TaskLabel(outputs.classes.index(name), None)
    votes = class_votes(row, outputs)
    if not sum(votes):
        return f"no votes for a class of {outputs.name}"
    return TaskLabel(NO_CLASS if name is None else outputs.classes.index(name), votes)


def _label_of_both(task: str, row: Utterance, outputs: Both) -> TaskLabel | str:
    first, second = task.split("+")
    own, rated = outputs.parts
    label, values = task_label(first, row, own), task_label(second, row, rated)
    if isinstance(label, str) and isinstance(values, str):
        return f"{label}, and {values}"
    target: list[float] = []
    for found, names in ((label, own.classes), (values, rated.classes)):
        if isinstance(found, str):
            target += [math.nan] * len(names)
        else:
            # votes or values as they are; a class as a vector with a 1 in its place
            target += found.target or [float(n == found.label) for n in range(len(names))]
    return TaskLabel(NO_CLASS if isinstance(label, str) else label.label, target)


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
        labels: a class set, or a comma-separated list of attributes; of two tasks, both with a +.
        rows: the corpus's utterances, whose corpora define the scale.
        scale: of the attributes, if the corpus does not define it.

    Raises:
        LabelError: the task, class set or an attribute is unknown, there is no scale, or there is
            one although the task has no attributes.
    """
    if task not in TASKS:
        raise LabelError(one_of("task", task, TASKS))
    if scale is not None and "attributes" not in task:
        raise LabelError(f"--scale is that of attributes, and --task {task} has none; leave it out")
    if task == "attributes":
        return attribute_set(labels, scale or scale_of(rows))
    if "+" not in task:
        return class_set(labels)
    classes, several, names = labels.rpartition("+")
    if not several:
        raise LabelError(
            f"--task {task} takes a class set and attributes with a + between them as --labels, "
            f"such as common4+arousal,valence, and not {labels!r}"
        )
    return Both((class_set(classes), attribute_set(names, scale or scale_of(rows))))

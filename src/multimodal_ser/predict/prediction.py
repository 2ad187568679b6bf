"""The prediction for one recording, a probability for each class; and lists of predictions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape
from itertools import product
from typing import Any, SupportsIndex, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from multimodal_ser.common.palette import colours
from multimodal_ser.errors import SerError

UNCERTAIN = "uncertain"
NO_SPEECH = "no speech"
FAILED = "failed"  # label of a recording that could not be predicted
_OF_CLASSES = ("label", "confidence", "probabilities", "threshold")
# the halves of each scale, as FEELTRACE calls them (Cowie et al., 2000)
_HALVES = {
    "arousal": ("passive", "active"),
    "valence": ("negative", "positive"),
    "dominance": ("submissive", "dominant"),
}
_SHOWN = 5  # predictions in the short form of a list
_STYLE = "text-align:left;padding:0 .6em"  # of the cells of a table in a notebook
_Float = TypeVar("_Float", np.float32, np.float64)


@dataclass(frozen=True)
class AlsoPredicted:
    """The attributes that a model of classes predicts, too.

    Attributes:
        labels: their names.
        scale: the values that 0 and 1 stand for.
    """

    labels: tuple[str, ...]
    scale: tuple[float, float]


@dataclass(frozen=True, eq=False, repr=False)
class Prediction:
    """The emotion of one recording, or of a part of it.

    Attributes:
        labels: class names in order, or attributes such as arousal.
        probabilities: calibrated, float32 [C]; for attributes, their values between 0 and 1.
        embedding: the vector that they are computed from, float32 [D].
        start: where the part begins in the recording, in seconds.
        end: where it ends, in seconds.
        threshold: confidence below which the label is ``uncertain``.
        text: the words, where they are known.
        language: language of recognised words, such as ``de``; None if the words were given, or
            there are none.
        reason: why no speech was found, and every class is equally probable; None if there is
            speech.
        adapted: number of recordings, or pieces of long ones, from which the channel was estimated
            that was removed; None if none was.
        scale: for attributes, the values that 0 and 1 in `probabilities` stand for; None for
            classes.
        distance: distance of the recording from the model's training data. The training data's own
            mean is 1; at 2, the logits are half as large. None if the model does not measure it.
        also: the prediction of attributes by a model of classes and attributes; else None.
        warnings: what is odd about the recording, such as that it is truncated, has several sound
            tracks, or lasts longer than one prediction should cover.
        file: the path of the recording as it was given; None if it was not given by a path.
    """

    labels: tuple[str, ...]
    probabilities: NDArray[np.float32]
    embedding: NDArray[np.float32]
    start: float
    end: float
    threshold: float
    text: str | None = None
    reason: str | None = None
    adapted: int | None = None
    distance: float | None = None
    language: str | None = None
    scale: tuple[float, float] | None = None
    also: Prediction | None = None
    warnings: tuple[str, ...] = ()
    file: str | None = None

    @property
    def attributes(self) -> dict[str, float]:
        """Values of attributes such as arousal, on their scale; empty for classes or no speech."""
        if self.also is not None:
            return self.also.attributes
        if self.scale is None or self.reason is not None:
            return {}
        return on_scale(dict(zip(self.labels, self.probabilities, strict=True)), self.scale)

    def __repr__(self) -> str:
        return f"<{self.label} {self.confidence:.2f}, {self.start:.1f}–{self.end:.1f} s>"

    @property
    def wordless(self) -> bool:
        """Whether there is speech, but its words were not given."""
        return self.text is None and self.reason is None

    @property
    def best(self) -> str:
        """The most probable class."""
        return self.labels[int(self.probabilities.argmax())]

    @property
    def confidence(self) -> float:
        """The probability of the most probable class."""
        return float(self.probabilities.max())

    @property
    def label(self) -> str:
        """The most probable class, ``uncertain`` below the threshold, or ``no speech``.

        For a model of attributes it is ``no speech`` or empty, since no class is predicted.
        """
        if self.reason is not None:
            return NO_SPEECH
        if self.scale is not None:
            return ""
        return self.best if self.confidence >= self.threshold else UNCERTAIN

    def as_dict(self) -> dict[str, Any]:
        """Everything but embedding and file, for JSON: probabilities by class, or attributes."""
        pairs = zip(self.labels, self.probabilities, strict=True)
        record = {
            "label": self.label,
            "confidence": round(self.confidence, 6),
            "probabilities": {name: round(float(p), 6) for name, p in pairs},
            "start": round(self.start, 3),
            "end": round(self.end, 3),
            "text": self.text,
            "language": self.language,
            "threshold": round(self.threshold, 6),
            "reason": self.reason,
            "adapted": self.adapted,
            "distance": None if self.distance is None else round(self.distance, 3),
            "warnings": list(self.warnings),
        }
        scale = self.scale if self.also is None else self.also.scale
        if scale is None:
            return record
        values = {name: round(value, 4) for name, value in self.attributes.items()}
        rated = {"attributes": values, "scale": list(scale)}
        if self.also is not None:
            return {**record, **rated}
        return {**rated, **{key: one for key, one in record.items() if key not in _OF_CLASSES}}


def with_attributes(
    one: Prediction, values: NDArray[np.float32], also: AlsoPredicted | None
) -> Prediction:
    """The prediction of classes with that of the attributes [A], if the model has them."""
    if also is None:
        return one
    rated = replace(one, labels=also.labels, probabilities=values, scale=also.scale)
    return replace(one, also=rated)


def on_scale(values: Mapping[str, float], scale: tuple[float, float]) -> dict[str, float]:
    """Attributes on 0 … 1 → on their own scale, whose ends no value passes.

    A regression can predict values beyond the scale, which no rater could have given; the end of
    the scale is then closer to the truth.

    >>> on_scale({"arousal": 0.5, "valence": -0.2}, (1, 5))
    {'arousal': 3.0, 'valence': 1.0}
    """
    low, high = scale
    return {
        name: low + (high - low) * min(max(float(value), 0.0), 1.0)
        for name, value in values.items()
    }


def label_colours(
    labels: Sequence[str], scale: object, attributes: Sequence[str] = ()
) -> dict[str, tuple[str, str]]:
    """The colours, on light and on dark, of everything that a model's predictions are called.

    Args:
        labels: of the model.
        scale: None if these are classes, otherwise they are attributes.
        attributes: that a model of classes predicts, too.
    """
    rated = labels if scale else attributes
    places = regions(rated) if rated else ()
    return colours((*labels, *([] if scale else (UNCERTAIN,)), *attributes), places)


def regions(attributes: Sequence[str]) -> tuple[str, ...]:
    """The words for where attributes lie: the quadrants of arousal and valence, or two halves.

    >>> regions(("arousal", "valence"))
    ('passive negative', 'passive positive', 'active negative', 'active positive')
    """
    return tuple(map(" ".join, product(*(_HALVES[name] for name in _plane(attributes)))))


def region(attributes: Sequence[str], values: NDArray[_Float]) -> str:
    """Where attributes [C] on 0 … 1 lie, which says on which side of the scale's middle they are.

    >>> region(("arousal", "valence", "dominance"), np.array([0.7, 0.2, 0.5]))
    'active negative'
    """
    sides = (
        _HALVES[name][int(values[attributes.index(name)] >= 0.5)] for name in _plane(attributes)
    )
    return " ".join(sides)


def _plane(attributes: Sequence[str]) -> Sequence[str]:
    return [name for name in ("arousal", "valence") if name in attributes] or attributes


def discounted(probabilities: NDArray[_Float], sure: float) -> NDArray[_Float]:
    """Probabilities [..., C] where it is not certain that there is speech at all.

    Without speech every class is equally probable, so
    P(class) = P(speech) P(class | speech) + P(no speech) / C.

    >>> discounted(np.array([0.8, 0.2]), 0.5)
    array([0.65, 0.35])
    """
    return np.asarray(probabilities * sure + (1 - sure) / probabilities.shape[-1])


class Predictions(list[Prediction | SerError]):
    """An ordinary list with one prediction per recording, in their order.

    If a recording could not be predicted, its error takes its place. A slice has the same methods.

    Args:
        items: the predictions, or errors.
        columns: of the model's tables, which are those of an empty list, too.
    """

    def __init__(
        self, items: Iterable[Prediction | SerError] = (), columns: Sequence[str] = ()
    ) -> None:
        super().__init__(items)
        self._columns = tuple(columns)

    @overload
    def __getitem__(self, place: SupportsIndex) -> Prediction | SerError: ...

    @overload
    def __getitem__(self, place: slice) -> Predictions: ...

    def __getitem__(self, place: SupportsIndex | slice) -> Prediction | SerError | Predictions:
        if isinstance(place, slice):
            return Predictions(super().__getitem__(place), self._columns)
        return super().__getitem__(place)

    def __repr__(self) -> str:
        shown = [
            f"SerError({str(item)!r})" if isinstance(item, SerError) else repr(item)
            for item in self[:_SHOWN]
        ]
        more = [f"… {len(self) - _SHOWN} more"] if len(self) > _SHOWN else []
        return f"[{', '.join([*shown, *more])}]"

    def _repr_html_(self) -> str:
        """A table for notebooks: label, confidence, and probabilities of classes or attributes."""
        first = next((one for one in self if isinstance(one, Prediction)), None)
        labels = () if first is None else first.labels
        columns = ["label"] if first is not None and first.scale else ["label", "confidence"]
        head = ["", *columns, *labels, *(first.also.labels if first and first.also else ())]
        return notebook_table(
            head, [_row(number, item, len(head)) for number, item in enumerate(self)]
        )

    def to_frame(self) -> Any:
        """A pandas DataFrame with a row per recording and a column ``p_…`` for each class.

        Attributes have columns of their own names, and ``file`` has the paths of recordings that
        were given by their paths. Recordings that could not be predicted have the label ``failed``
        and a ``reason``.

        Raises:
            SerError: pandas is not installed.
        """
        rows = [{"file": item.file, **flat_record(item)} for item in self]
        return data_frame(rows, ("file", *self._columns) if self._columns else None)


def data_frame(rows: Sequence[Mapping[str, Any]], columns: Sequence[str] | None = None) -> Any:
    """Rows as a pandas DataFrame; `columns` are those of a table without rows.

    Raises:
        SerError: pandas is not installed.
    """
    try:
        import pandas as pd
    except ModuleNotFoundError as error:
        raise SerError("to_frame needs pandas: pip install pandas") from error
    return pd.DataFrame(rows, columns=columns)


def notebook_table(head: Sequence[str], rows: Sequence[str]) -> str:
    """A table for notebooks, of names of columns and of rows from `notebook_row`."""
    cells = "".join(f'<th style="{_STYLE}">{escape(word)}</th>' for word in head)
    return f"<table><tr>{cells}</tr>{''.join(rows)}</table>"


def notebook_row(words: Sequence[str]) -> str:
    """A row of a table for notebooks; the words are escaped."""
    cells = "".join(f'<td style="{_STYLE}">{escape(word)}</td>' for word in words)
    return f"<tr>{cells}</tr>"


def _row(number: int, item: Prediction | SerError, columns: int) -> str:
    if isinstance(item, SerError):
        return f'<tr><td>{number}</td><td colspan="{columns - 1}">{escape(str(item))}</td></tr>'
    if item.scale is None:
        words = [item.label, *(f"{one:.2f}" for one in (item.confidence, *item.probabilities))]
    else:
        words = [item.label]
    if rated := item if item.scale else item.also:
        values = rated.attributes  # none without speech
        words += [f"{values[n]:.2f}" if values else "" for n in rated.labels]
    return notebook_row([str(number), *words])


def flat_record(item: Prediction | SerError) -> dict[str, Any]:
    """One row of a table: probabilities as ``p_…``, attributes by their names, warnings joined."""
    if isinstance(item, SerError):
        return {"label": FAILED, "reason": str(item)}
    record = item.as_dict()
    shares, values = record.pop("probabilities", {}), record.pop("attributes", {})
    named = {f"p_{name}": share for name, share in shares.items()}
    return {**record, **values, **named, "warnings": "; ".join(record.pop("warnings"))}

"""Segments, points and words → Timeline: the emotions of a recording over time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np

from multimodal_ser.common.arrays import Floats
from multimodal_ser.errors import counted
from multimodal_ser.predict import Channel
from multimodal_ser.predict.prediction import (
    UNCERTAIN,
    data_frame,
    notebook_row,
    notebook_table,
    on_scale,
    regions,
)

Scale: TypeAlias = tuple[float, float] | None
# Fields of the attributes' timeline in JSON; all others equal those of the classes' timeline.
_OF_RATED = ("labels", "scale", "regions", "overall", "segments", "track", "speakers")


class Model(Protocol):
    """The parts of a `Predictor` that a timeline needs; one of attributes also has a `scale`."""

    name: str
    labels: tuple[str, ...]
    threshold: float
    channel: Channel | None

    def waves(
        self,
        waves: Sequence[Any],
        texts: Sequence[str | None] | None = None,
        /,
        *,
        speech: bool = False,
    ) -> Sequence[Any]:
        """Waveforms, known to be speech if `speech`, and words → objects with `probabilities`."""


@dataclass(frozen=True)
class Word:
    """A recognised word.

    Attributes:
        start: seconds.
        end: seconds.
        text: without spaces around it.
        language: such as ``de``; None if the recogniser does not report it.
        probability: according to the recogniser.
        speaker: None if speakers are not distinguished.
    """

    start: float
    end: float
    text: str
    language: str | None = None
    probability: float = 1.0
    speaker: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """A dict for JSON."""
        return {**_times(self), "text": self.text, "speaker": self.speaker}


@dataclass(frozen=True)
class Point:
    """The prediction of one window: a point of the curve over time.

    Attributes:
        start: of the window, in seconds.
        end: of the window, in seconds.
        probabilities: by class, smoothed over the stretch of speech; for attributes, their values
            on 0 … 1.
        speaker: None if speakers are not distinguished.
        scale: for attributes, the values that 0 and 1 stand for; None for classes.
    """

    start: float
    end: float
    probabilities: dict[str, float]
    speaker: str | None = None
    scale: Scale = None

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {**_times(self), **_values(self), "speaker": self.speaker}


@dataclass(frozen=True)
class Segment:
    """A run of one emotion, or of one region of the attributes, within one stretch of speech.

    Attributes:
        start: seconds.
        end: seconds.
        label: a class, or ``uncertain`` if no class reaches the model's threshold; for attributes,
            on which side of the scale's middle they are, such as ``active negative``.
        confidence: probability of the most probable class; 0 for attributes, which have none.
        probabilities: by class, the mean over the segment; for attributes, their values on 0 … 1.
        text: the words in it; None if words were not recognised.
        speaker: None if speakers are not distinguished.
        scale: for attributes, the values that 0 and 1 stand for; None for classes.
        attributes: on their own scale, if a model of classes predicts them, too.
    """

    start: float
    end: float
    label: str
    confidence: float
    probabilities: dict[str, float]
    text: str | None = None
    speaker: str | None = None
    scale: Scale = None
    attributes: Mapping[str, float] = field(default_factory=dict)

    @property
    def summary(self) -> str:
        """The label with its probability, or with the attributes on their scale."""
        if self.scale is not None:
            return f"{self.label} ({attributes_text(self.probabilities, self.scale)})"
        share = f" {100 * self.confidence:.0f} %"
        return self.label + (share if self.label != UNCERTAIN else "")

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        sure = {"confidence": round(self.confidence, 4)} if self.scale is None else {}
        record = {"speaker": self.speaker, "label": self.label, **sure, **_values(self)}
        if self.attributes:
            record["attributes"] = _rounded(self.attributes)
        return {**_times(self), **record, "text": self.text}


@dataclass(frozen=True)
class Speaker:
    """A speaker of a recording.

    Attributes:
        name: as given, or ``channel 0``, ``speaker 1``.
        channel: number of the channel, counted from 0; None if all speakers are on one.
        seconds: of their speech.
        overall: by class, the mean over their speech, weighted by duration.
        adapted: number of pieces of their speech from which their voice and channel were estimated
            and removed; None if they were not.
        scale: as in `Segment`.
    """

    name: str
    channel: int | None
    seconds: float
    overall: dict[str, float]
    adapted: int | None = None
    scale: Scale = None

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        record = {"name": self.name, "channel": self.channel, "seconds": round(self.seconds, 3)}
        overall = _rounded(self.overall, self.scale)
        return {**record, "overall": overall, "adapted": self.adapted}


@dataclass(frozen=True, repr=False)
class Timeline:
    """The emotions of a recording over time.

    Attributes:
        duration: of the recording, seconds.
        labels: class names in the model's order, or attributes.
        segments: in order of time; silence has none.
        track: all windows, in order of time.
        speech: (start, end) of the stretches of speech, seconds.
        overall: by class, the mean over the speech, weighted by duration; empty without speech. For
            attributes, their values on 0 … 1.
        model: name of the model.
        words: with their times, if words were recognised.
        adapted: number of pieces or recordings from which the channel was estimated that was
            removed; None if none was.
        threshold: confidence below which a segment is ``uncertain``.
        distance: mean distance of the speech from the model's training data, as in `Prediction`;
            None if the model does not measure it.
        doubt: why the words may be wrong; None without a reason for doubt.
        speakers: in the order of their channels, or of their first words; empty if they are not
            distinguished.
        notes: notes for the user about the recording, such as how its channels were used.
        source: name of the recording; None if it has none.
        scale: as in `Segment`.
        attributes: over time, if a model of classes predicts them, too: a timeline of the same
            windows.
    """

    duration: float
    labels: tuple[str, ...]
    segments: tuple[Segment, ...]
    track: tuple[Point, ...]
    speech: tuple[tuple[float, float], ...]
    overall: dict[str, float]
    model: str
    words: tuple[Word, ...] = ()
    adapted: int | None = None
    threshold: float = 0.0
    distance: float | None = None
    doubt: str | None = None
    speakers: tuple[Speaker, ...] = ()
    notes: tuple[str, ...] = ()
    source: str | None = None
    scale: Scale = None
    attributes: Timeline | None = None

    def __repr__(self) -> str:
        length = f"{clock(self.duration)}, speech {clock(self.spoken)}"
        return f"<Timeline {length}, {counted(len(self.segments), 'segment')}>"

    def _repr_html_(self) -> str:
        """A table of the segments for notebooks, without columns in which there is nothing."""
        rows, columns = self._rows()
        shown = [name for name in columns if not rows or any(row[name] is not None for row in rows)]
        cells = [
            [f"{row[name]:.2f}" if isinstance(row[name], float) else str(row[name] or "")
             for name in shown]
            for row in rows
        ]  # fmt: skip
        head = [name.removeprefix("p_") for name in shown]
        return notebook_table(head, [notebook_row(row) for row in cells])

    def to_frame(self) -> Any:
        """A pandas DataFrame with a row per segment and the columns of ``segments.csv``.

        Raises:
            SerError: pandas is not installed.
        """
        return data_frame(*self._rows())

    def _rows(self) -> tuple[list[dict[str, Any]], list[str]]:
        """The rows of the segments, and the names of their columns."""
        # imported here, since the module of tables imports this one
        from multimodal_ser.timeline.tables import segment_columns, segment_rows

        labels = (*self.labels, *(self.attributes.labels if self.attributes else ()))
        row = {"source": self.source, "reason": "", "timeline": self.as_dict()}
        return segment_rows(row, labels, self.scale), segment_columns(labels, self.scale)

    @property
    def spoken(self) -> float:
        """Seconds of speech."""
        return sum(end - start for start, end in self.speech)

    @property
    def language(self) -> str | None:
        """The language of most recognised words, such as ``de``; None if it is not known."""
        return language_of(self.words)

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON; times to the millisecond, probabilities to four places.

        Attributes are on their own scale, which is given beside the labels that segments may have.
        """
        of_attributes: dict[str, Any] = {}
        rated = None if self.attributes is None else self.attributes.as_dict()
        if self.scale is not None:
            of_attributes = {"scale": list(self.scale), "regions": list(regions(self.labels))}
        return {
            "duration": round(self.duration, 3),
            "model": self.model,
            "labels": list(self.labels),
            **of_attributes,
            "overall": _rounded(self.overall, self.scale),
            "speech": [[round(start, 3), round(end, 3)] for start, end in self.speech],
            "segments": [segment.as_dict() for segment in self.segments],
            "track": [point.as_dict() for point in self.track],
            "words": [word.as_dict() for word in self.words],
            "adapted": self.adapted,
            "threshold": round(self.threshold, 6),
            "distance": None if self.distance is None else round(self.distance, 3),
            "language": self.language,
            "doubt": self.doubt,
            "speakers": [speaker.as_dict() for speaker in self.speakers],
            "notes": list(self.notes),
            **({} if rated is None else {"attributes": {name: rated[name] for name in _OF_RATED}}),
        }


def remarks(timeline: Mapping[str, Any]) -> list[str]:
    """What a reader has to know besides the emotions, in lines.

    Args:
        timeline: from `Timeline.as_dict`.
    """
    parts = [("", timeline), *((f"{one['name']}: ", one) for one in timeline["speakers"])]
    adapted = [
        f"{who}adapted to {one['adapted']} pieces"
        for who, one in parts
        if one["adapted"] is not None
    ]
    return [*timeline["notes"], *adapted, *([timeline["doubt"]] if timeline["doubt"] else [])]


def language_of(words: Sequence[Word]) -> str | None:
    """The language of most words; None if their recogniser does not report it."""
    counts = Counter(word.language for word in words if word.language is not None)
    return counts.most_common(1)[0][0] if counts else None


def overall(labels: Sequence[str], segments: Sequence[Segment]) -> dict[str, float]:
    """Mean probabilities, weighted by duration; empty where there is no segment."""
    if not segments:
        return {}
    weights = [segment.end - segment.start for segment in segments]
    rows = [[segment.probabilities[name] for name in labels] for segment in segments]
    return by_class(labels, np.average(rows, axis=0, weights=weights))


def by_class(labels: Sequence[str], row: Floats) -> dict[str, float]:
    """Probabilities [C] by class."""
    return dict(zip(labels, map(float, row), strict=True))


def _times(item: Word | Point | Segment) -> dict[str, Any]:
    return {"start": round(item.start, 3), "end": round(item.end, 3)}


def _rounded(probabilities: Mapping[str, float], scale: Scale = None) -> dict[str, float]:
    shown = probabilities if scale is None else on_scale(probabilities, scale)
    return {name: round(value, 4) for name, value in shown.items()}


def _values(item: Point | Segment) -> dict[str, dict[str, float]]:
    name = "probabilities" if item.scale is None else "attributes"
    return {name: _rounded(item.probabilities, item.scale)}


def attributes_text(values: Mapping[str, float], scale: tuple[float, float]) -> str:
    """Attributes from 0 to 1 in words, on their own scale.

    >>> attributes_text({"arousal": 0.5, "valence": 0.25}, (1, 5))
    'arousal 3.0, valence 2.0'
    """
    return ", ".join(f"{name} {value:.1f}" for name, value in on_scale(values, scale).items())


def clock(seconds: float) -> str:
    """Minutes and seconds, with hours if there are any.

    >>> clock(75.4), clock(3675)
    ('1:15', '1:01:15')
    """
    whole = round(seconds)
    hours = f"{whole // 3600}:" if whole >= 3600 else ""
    minutes = f"{whole // 60 % 60:02d}" if hours else str(whole // 60)
    return f"{hours}{minutes}:{whole % 60:02d}"


def display_name(timeline: Timeline, source: Path) -> str:
    """The name of a recording; bytes that are not UTF-8 are shown as question marks."""
    name = source.name if timeline.source is None else timeline.source
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")

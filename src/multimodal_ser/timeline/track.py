"""Segments, points and words → Timeline: what is known of a recording over time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np

from multimodal_ser.common.arrays import Floats
from multimodal_ser.predict import Channel
from multimodal_ser.predict.prediction import UNCERTAIN, on_scale, regions

Scale: TypeAlias = tuple[float, float] | None


class Model(Protocol):
    """What of a `Predictor` is used for a timeline; one of attributes has a `scale` too."""

    name: str
    labels: tuple[str, ...]
    threshold: float
    channel: Channel | None

    def waves(self, waves: Sequence[Any], /, *, speech: bool = False) -> Sequence[Any]:
        """Waveforms, all of them speech where it says so → objects with `probabilities` [C]."""


@dataclass(frozen=True)
class Word:
    """A recognised word.

    Attributes:
        start: seconds.
        end: seconds.
        text: as spoken, without blanks around it.
        language: such as ``de``; None where the recogniser does not say.
        probability: that the recogniser gives it.
        speaker: who says it; None where speakers are not told apart.
    """

    start: float
    end: float
    text: str
    language: str | None = None
    probability: float = 1.0
    speaker: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {**_times(self), "text": self.text, "speaker": self.speaker}


@dataclass(frozen=True)
class Point:
    """What one window says: a point of the curve over time.

    Attributes:
        start: seconds where the window begins.
        end: seconds where it ends.
        probabilities: by class, smoothed over the stretch of speech; of attributes their values
            on 0 … 1.
        speaker: whose speech it is; None where speakers are not told apart.
        scale: of attributes the values that are 0 and 1; None where classes are told.
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
        label: a class, or ``uncertain`` where no class reaches the model's threshold; of
            attributes on which side of the scale's middle they are, such as ``active negative``.
        confidence: the most probable class's probability; 0 of attributes, which have none.
        probabilities: by class, the mean over the segment; of attributes their values on 0 … 1.
        text: the words spoken in it; None where words were not recognised.
        speaker: who speaks; None where speakers are not told apart.
        scale: of attributes the values that are 0 and 1; None where classes are told.
    """

    start: float
    end: float
    label: str
    confidence: float
    probabilities: dict[str, float]
    text: str | None = None
    speaker: str | None = None
    scale: Scale = None

    @property
    def said(self) -> str:
        """The label with how probable it is, or with the attributes on their scale."""
        if self.scale is not None:
            return f"{self.label} ({attributes_told(self.probabilities, self.scale)})"
        share = f" {100 * self.confidence:.0f} %"
        return self.label + (share if self.label != UNCERTAIN else "")

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        sure = {"confidence": round(self.confidence, 4)} if self.scale is None else {}
        told = {"speaker": self.speaker, "label": self.label, **sure, **_values(self)}
        return {**_times(self), **told, "text": self.text}


@dataclass(frozen=True)
class Speaker:
    """One of those who speak in a recording.

    Attributes:
        name: as given, or ``channel 0``, ``speaker 1``.
        channel: the number of their channel, from 0; None where all are on one.
        seconds: of their speech.
        overall: by class, the mean over their speech, weighted by duration.
        adapted: from how many pieces of their speech their voice and channel are known, which were
            taken out; None where they were not.
        scale: as a segment's.
    """

    name: str
    channel: int | None
    seconds: float
    overall: dict[str, float]
    adapted: int | None = None
    scale: Scale = None

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        told = {"name": self.name, "channel": self.channel, "seconds": round(self.seconds, 3)}
        overall = _rounded(self.overall, self.scale)
        return {**told, "overall": overall, "adapted": self.adapted}


@dataclass(frozen=True)
class Timeline:
    """The emotions of a recording over time.

    Attributes:
        duration: of the recording, seconds.
        labels: class names in the model's order, or attributes.
        segments: in order of time; silence has none.
        track: every window, in order of time.
        speech: (start, end) of the stretches of speech, seconds.
        overall: by class, the mean over the speech, weighted by duration; empty without speech. Of
            attributes their values on 0 … 1.
        model: the model's name.
        words: with their times, where words were recognised.
        adapted: from how many pieces or recordings the channel is known that was taken out; None
            where none was.
        threshold: the confidence below which a segment is ``uncertain``.
        distance: how far the speech is from what the model learnt from, as a `Prediction`'s, in the
            mean; None where the model does not tell.
        doubt: why the words are not to be trusted; None where nothing speaks against them.
        speakers: in the order of their channels, or of their first words; empty where they are not
            told apart.
        notes: what a user should know of the recording, such as how its channels were taken.
        source: what the recording is called; None where it has no name.
        scale: as a segment's.
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

    @property
    def language(self) -> str | None:
        """In which most words were recognised, such as ``de``; None where that is not known."""
        return language_of(self.words)

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON; times to the millisecond, probabilities to four places.

        Attributes are on their own scale, which is told with the labels that segments may have.
        """
        of_attributes = {}
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
            "threshold": self.threshold,
            "distance": None if self.distance is None else round(self.distance, 3),
            "language": self.language,
            "doubt": self.doubt,
            "speakers": [speaker.as_dict() for speaker in self.speakers],
            "notes": list(self.notes),
        }


def language_of(words: Sequence[Word]) -> str | None:
    """In which most words were recognised; None where their recogniser does not say."""
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


def _rounded(probabilities: dict[str, float], scale: Scale = None) -> dict[str, float]:
    shown = probabilities if scale is None else on_scale(probabilities, scale)
    return {name: round(value, 4) for name, value in shown.items()}


def _values(item: Point | Segment) -> dict[str, dict[str, float]]:
    name = "probabilities" if item.scale is None else "attributes"
    return {name: _rounded(item.probabilities, item.scale)}


def attributes_told(values: Mapping[str, float], scale: tuple[float, float]) -> str:
    """Attributes from 0 to 1 in words, on their own scale.

    >>> attributes_told({"arousal": 0.5, "valence": 0.25}, (1, 5))
    'arousal 3.0, valence 2.0'
    """
    return ", ".join(f"{name} {value:.1f}" for name, value in on_scale(values, scale).items())


def clock(seconds: float) -> str:
    """Minutes and seconds; hours where there are any.

    >>> clock(75.4), clock(3675)
    ('1:15', '1:01:15')
    """
    whole = round(seconds)
    hours = f"{whole // 3600}:" if whole >= 3600 else ""
    minutes = f"{whole // 60 % 60:02d}" if hours else str(whole // 60)
    return f"{hours}{minutes}:{whole % 60:02d}"


def called(timeline: Timeline, source: Path) -> str:
    """A recording's name; bytes in it that are no UTF-8 are shown as question marks."""
    name = source.name if timeline.source is None else timeline.source
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")

"""Windows with their probabilities → smoothed track → segments → Timeline."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from multimodal_ser.predict import Channel
from multimodal_ser.predict.prediction import UNCERTAIN

Array: TypeAlias = NDArray[np.float64]


class Model(Protocol):
    """What of a `Predictor` is used for a timeline."""

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
    """

    start: float
    end: float
    text: str
    language: str | None = None
    probability: float = 1.0

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {"start": round(self.start, 3), "end": round(self.end, 3), "text": self.text}


@dataclass(frozen=True)
class Point:
    """What one window says: a point of the curve over time.

    Attributes:
        start: seconds where the window begins.
        end: seconds where it ends.
        probabilities: by class, smoothed over the stretch of speech.
    """

    start: float
    end: float
    probabilities: dict[str, float]

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "start": round(self.start, 3),
            "end": round(self.end, 3),
            "probabilities": _rounded(self.probabilities),
        }


@dataclass(frozen=True)
class Segment:
    """A run of one emotion within one stretch of speech.

    Attributes:
        start: seconds.
        end: seconds.
        label: a class, or ``uncertain`` where no class reaches the model's threshold.
        confidence: the most probable class's probability.
        probabilities: by class, the mean over the segment.
        text: the words spoken in it; None where words were not recognised.
    """

    start: float
    end: float
    label: str
    confidence: float
    probabilities: dict[str, float]
    text: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "start": round(self.start, 3),
            "end": round(self.end, 3),
            "label": self.label,
            "confidence": round(self.confidence, 4),
            "probabilities": _rounded(self.probabilities),
            "text": self.text,
        }


@dataclass(frozen=True)
class Timeline:
    """The emotions of a recording over time.

    Attributes:
        duration: of the recording, seconds.
        labels: class names in the model's order.
        segments: in order of time; silence has none.
        track: every window, in order of time.
        speech: (start, end) of the stretches of speech, seconds.
        overall: by class, the mean over the speech, weighted by duration; empty without speech.
        model: the model's name.
        words: with their times, where words were recognised.
        adapted: from how many pieces or recordings the channel is known that was taken out; None
            where none was.
        threshold: the confidence below which a segment is ``uncertain``.
        distance: how far the speech is from what the model learnt from, as a `Prediction`'s, in the
            mean; None where the model does not tell.
        doubt: why the words are not to be trusted; None where nothing speaks against them.
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

    @property
    def language(self) -> str | None:
        """In which most words were recognised, such as ``de``; None where that is not known."""
        return language_of(self.words)

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON; times to the millisecond, probabilities to four places."""
        return {
            "duration": round(self.duration, 3),
            "model": self.model,
            "labels": list(self.labels),
            "overall": _rounded(self.overall),
            "speech": [[round(start, 3), round(end, 3)] for start, end in self.speech],
            "segments": [segment.as_dict() for segment in self.segments],
            "track": [point.as_dict() for point in self.track],
            "words": [word.as_dict() for word in self.words],
            "adapted": self.adapted,
            "threshold": self.threshold,
            "distance": None if self.distance is None else round(self.distance, 3),
            "language": self.language,
            "doubt": self.doubt,
        }


def language_of(words: Sequence[Word]) -> str | None:
    """In which most words were recognised; None where their recogniser does not say."""
    counts = Counter(word.language for word in words if word.language is not None)
    return counts.most_common(1)[0][0] if counts else None


@dataclass(frozen=True)
class Stretch:
    """A whole stretch of speech with what was predicted in it.

    Attributes:
        start: seconds.
        end: seconds.
        windows: (start, end) of each window, seconds.
        probabilities: of each window, [windows, C].
        words: spoken in it; None where words were not recognised.
    """

    start: float
    end: float
    windows: Sequence[tuple[float, float]]
    probabilities: Array
    words: tuple[Word, ...] | None = None

    def smoothed(self, constant: float) -> Array:
        """Probabilities [windows, C] smoothed over time, see `smooth`."""
        return smooth(self.probabilities, _centres(self.windows), constant)

    def segments(
        self, labels: Sequence[str], smoothed: Array, threshold: float
    ) -> Iterator[Segment]:
        """Merges neighbouring windows of one label.

        A window stands for the time that is nearer to its middle than to any other's.
        """
        bounds = self.bounds()
        said = [labels[row.argmax()] if row.max() >= threshold else UNCERTAIN for row in smoothed]
        for label, group in groupby(range(len(said)), key=lambda place: said[place]):
            places = list(group)
            first, last = places[0], places[-1]
            part = slice(first, last + 1)
            mean = np.average(smoothed[part], axis=0, weights=np.diff(bounds)[part])
            start, end = float(bounds[first]), float(bounds[last + 1])
            spoken = [w.text for w in self.words or () if start <= (w.start + w.end) / 2 < end]
            text = None if self.words is None else " ".join(spoken)
            yield Segment(start, end, label, float(mean.max()), named(labels, mean), text)

    def bounds(self) -> Array:
        """Where the time of each window begins, and the end; seconds [windows + 1]."""
        centres = _centres(self.windows)
        return np.array([self.start, *(centres[1:] + centres[:-1]) / 2, self.end])


def smooth(probabilities: Array, centres: Array, constant: float) -> Array:
    """Smooths over time with the kernel exp(-|Δt| / constant), forwards and backwards.

    It is a weighted mean, so calibrated probabilities stay as cautious as they are; multiplying
    the evidence of windows that overlap, as a hidden Markov model does, would overstate it.

    Args:
        probabilities: [windows, C].
        centres: the windows' middles in seconds, increasing, [windows].
        constant: seconds; 0 smooths nothing.

    >>> smooth(np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([0.0, 1.0]), 1.0).round(2)
    array([[0.73, 0.27],
           [0.27, 0.73]])
    """
    ahead, behind = _running(probabilities, centres, constant), probabilities[::-1]
    after = _running(behind, -centres[::-1], constant)[::-1]
    total = ahead + after
    total[:, :-1] -= probabilities  # both ways count the window itself
    total[:, -1] -= 1
    return np.asarray(total[:, :-1] / total[:, -1:])


def _running(probabilities: Array, centres: Array, constant: float) -> Array:
    """Weighted sums over the past, and in the last column the sums of the weights."""
    steps = np.diff(centres, prepend=centres[:1])
    kept = np.exp(-steps / constant) if constant > 0 else np.zeros(len(steps))
    sums = np.column_stack([probabilities, np.ones(len(probabilities))])
    for place in range(1, len(sums)):
        sums[place] += kept[place] * sums[place - 1]
    return sums


def points(stretch: Stretch, labels: Sequence[str], smoothed: Array) -> Iterator[Point]:
    """The stretch's part of the track."""
    for (start, end), row in zip(stretch.windows, smoothed, strict=True):
        yield Point(start, end, named(labels, row))


def overall(labels: Sequence[str], segments: Sequence[Segment]) -> dict[str, float]:
    """Mean probabilities, weighted by duration; empty where there is no segment."""
    if not segments:
        return {}
    weights = [segment.end - segment.start for segment in segments]
    rows = [[segment.probabilities[name] for name in labels] for segment in segments]
    return named(labels, np.average(rows, axis=0, weights=weights))


def named(labels: Sequence[str], row: Array) -> dict[str, float]:
    """Probabilities [C] by class."""
    return dict(zip(labels, map(float, row), strict=True))


def _centres(windows: Sequence[tuple[float, float]]) -> Array:
    return np.array([(start + end) / 2 for start, end in windows])


def _rounded(probabilities: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in probabilities.items()}


def clock(seconds: float) -> str:
    """Minutes and seconds; hours where there are any.

    >>> clock(75.4), clock(3675)
    ('1:15', '1:01:15')
    """
    whole = round(seconds)
    hours = f"{whole // 3600}:" if whole >= 3600 else ""
    minutes = f"{whole // 60 % 60:02d}" if hours else str(whole // 60)
    return f"{hours}{minutes}:{whole % 60:02d}"


def shown(source: Path) -> str:
    """A recording's name; bytes in it that are no UTF-8 are shown as question marks."""
    return source.name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")

"""A stretch of speech → its windows, their smoothed probabilities, and its segments."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from multimodal_ser.common.arrays import Floats
from multimodal_ser.config.settings import SAMPLE_RATE
from multimodal_ser.predict.prediction import UNCERTAIN, AlsoPredicted, discounted, on_scale, region
from multimodal_ser.timeline.track import Point, Scale, Segment, Word, by_class

# Languages written without spaces, of which Whisper gives single characters instead of words.
UNSPACED = frozenset(("zh", "ja", "th", "lo", "my", "yue"))


@dataclass(frozen=True)
class SpokenStretch:
    """A complete stretch of speech with its predictions.

    Attributes:
        start: seconds.
        end: seconds.
        windows: (start, end) of each window, seconds.
        probabilities: of each window, [windows, C].
        words: spoken in it; None if words were not recognised.
        scale: for attributes, whose values on 0 … 1 take the place of probabilities; None for
            classes.
    """

    start: float
    end: float
    windows: Sequence[tuple[float, float]]
    probabilities: Floats
    words: tuple[Word, ...] | None = None
    scale: Scale = None

    def smoothed(self, constant: float) -> Floats:
        """Probabilities [windows, C] smoothed over time, see `smooth`."""
        return smooth(self.probabilities, _centres(self.windows), constant)

    def segments(
        self,
        labels: Sequence[str],
        smoothed: Floats,
        threshold: float,
        also: AlsoPredicted | None = None,
    ) -> Iterator[Segment]:
        """Merges neighbouring windows of one label, or of one region of the attributes.

        A window represents the time that is nearer to its middle than to that of any other window.
        The columns of `also` come after those of the labels.
        """
        bounds, cut = self.bounds(), len(labels)
        shares = smoothed[:, :cut]
        names = [labels[row.argmax()] if row.max() >= threshold else UNCERTAIN for row in shares]
        if self.scale is not None:
            names = [region(labels, row) for row in shares]
        for label, group in groupby(range(len(names)), key=lambda place: names[place]):
            places = list(group)
            first, last = places[0], places[-1]
            part = slice(first, last + 1)
            # Weighted by the time that each window represents: windows at the ends represent more
            # or less.
            mean = np.average(smoothed[part], axis=0, weights=np.diff(bounds)[part])
            start, end = float(bounds[first]), float(bounds[last + 1])
            spoken = [w for w in self.words or () if start <= (w.start + w.end) / 2 < end]
            text = None if self.words is None else text_of(spoken)
            sure = float(mean[:cut].max()) if self.scale is None else 0.0
            attributes = on_scale(by_class(also.labels, mean[cut:]), also.scale) if also else {}
            result = label, sure, by_class(labels, mean[:cut]), text
            yield Segment(start, end, *result, scale=self.scale, attributes=attributes)

    def bounds(self) -> Floats:
        """Borders of the time that each window represents, in seconds [windows + 1]."""
        centres = _centres(self.windows)
        return np.array([self.start, *(centres[1:] + centres[:-1]) / 2, self.end])


def text_of(words: Iterable[Word]) -> str:
    """The words as one text, with spaces between them where their language is written with spaces.

    >>> text_of([Word(0, 1, "so"), Word(1, 2, "what")])
    'so what'
    >>> text_of([Word(0, 1, "你", "zh"), Word(1, 2, "好", "zh")])
    '你好'
    """
    text = ""
    for word in words:
        text += (" " if text and word.language not in UNSPACED else "") + word.text
    return text


def smooth(probabilities: Floats, centres: Floats, constant: float) -> Floats:
    """Smooths over time with the kernel exp(-|Δt| / constant), forwards and backwards.

    It is a weighted mean, so calibrated probabilities stay as cautious as they are. Multiplying the
    evidence of overlapping windows, as a hidden Markov model does, would overstate it.

    Args:
        probabilities: [windows, C].
        centres: middles of the windows in seconds, increasing, [windows].
        constant: time constant in seconds; 0 for no smoothing.

    >>> smooth(np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([0.0, 1.0]), 1.0).round(2)
    array([[0.73, 0.27],
           [0.27, 0.73]])
    """
    # An exponential kernel is two recursive sums, one in each direction: linear in the windows.
    ahead, behind = _running(probabilities, centres, constant), probabilities[::-1]
    after = _running(behind, -centres[::-1], constant)[::-1]
    total = ahead + after
    total[:, :-1] -= probabilities  # both sums contain the window itself
    total[:, -1] -= 1
    return total[:, :-1] / total[:, -1:]


def _running(probabilities: Floats, centres: Floats, constant: float) -> Floats:
    """Weighted sums over the past [windows, C + 1]; the last column has the sums of the weights."""
    steps = np.diff(centres, prepend=centres[:1])
    # The decay from one window to the next: steps may differ at the end of a stretch.
    kept = np.exp(-steps / constant) if constant > 0 else np.zeros(len(steps))
    sums = np.column_stack([probabilities, np.ones(len(probabilities))])
    for place in range(1, len(sums)):
        sums[place] += kept[place] * sums[place - 1]
    return sums


def points(stretch: SpokenStretch, labels: Sequence[str], smoothed: Floats) -> Iterator[Point]:
    """The points of a stretch for the track."""
    for (start, end), row in zip(stretch.windows, smoothed, strict=True):
        yield Point(start, end, by_class(labels, row), scale=stretch.scale)


def _centres(windows: Sequence[tuple[float, float]]) -> Floats:
    return np.array([(start + end) / 2 for start, end in windows])


class OpenStretch:
    """A stretch that grows until its end is known; positions are samples of the recording.

    Attributes:
        start: its first sample.
        lead: samples before it that are added to its first window. The training recordings begin
            and end with a pause, so tightly cut speech would be unlike them.
        tail: the same after it, for the last window.
        windows: (start, end) of the windows so far.
        rows: probabilities [C] of those that are predicted; attributes come after the classes.
        words: recognised so far.
        recognised: position up to which words are recognised.
        sure: certainty that this is speech, from 0 to 1, once it has ended.
    """

    def __init__(
        self, start: int, size: int, hop: int, smoothing: float, lead: int = 0, scale: Scale = None
    ) -> None:
        self.start = self.recognised = start
        self.lead, self.tail, self.sure = lead, 0, 1.0
        self.windows: list[tuple[int, int]] = []
        self.rows: list[Floats] = []
        self.words: list[Word] = []
        self._size, self._hop, self._smoothing, self._scale = size, hop, smoothing, scale
        self._sums: Floats = np.zeros(0)  # over the past, the weights' sum last

    @property
    def needed(self) -> int:
        """The first sample that a window without a prediction, or a future one, may need."""
        if not self.rows:
            return self.start - self.lead
        return self.windows[min(len(self.rows), len(self.windows) - 1)][0]

    def sound_span(self, window: tuple[int, int]) -> tuple[int, int]:
        """The sound for a window: the first and the last window include lead and tail."""
        first, last = window == self.windows[0], window == self.windows[-1]
        return window[0] - first * self.lead, window[1] + last * self.tail

    def grow(self, end: int) -> None:
        """Adds the windows that end at `end` or before."""
        place = self.start + len(self.windows) * self._hop
        while place + self._size <= end:
            self.windows.append((place, place + self._size))
            place += self._hop

    def end(self, end: int, tail: int = 0) -> None:
        """Adds the last windows: one for all of a short stretch, else one that covers the rest.

        A rest shorter than half a hop is left to the window before.

        Args:
            end: where the stretch ends.
            tail: available samples after it.
        """
        self.grow(end)
        if not self.windows:
            self.windows.append((self.start, end))
        elif 2 * (end - self.windows[-1][1]) >= self._hop:
            self.windows.append((end - self._size, end))
        else:
            return
        self.tail = tail

    def estimate(self, labels: Sequence[str], row: Floats) -> Point:
        """Stores the probabilities of the next window; returns them smoothed over the past only."""
        start, end = self.windows[len(self.rows)]
        sums = np.append(row, 1.0)
        if self.rows and self._smoothing > 0:
            before = self.windows[len(self.rows) - 1]
            step = (start + end - sum(before)) / 2 / SAMPLE_RATE
            # A recursive sum over the past, so that a live estimate needs no future.
            sums += math.exp(-step / self._smoothing) * self._sums
        self.rows.append(row)
        self._sums = sums
        values = by_class(labels, (sums[:-1] / sums[-1])[: len(labels)])
        return Point(start / SAMPLE_RATE, end / SAMPLE_RATE, values, scale=self._scale)

    def whole(self, end: int, with_words: bool, classes: int) -> SpokenStretch:
        """The stretch in seconds, once it has ended and all its windows are predicted."""
        rows = np.array(self.rows)
        if self._scale is None:
            rows = np.hstack([discounted(rows[:, :classes], self.sure), rows[:, classes:]])
        return SpokenStretch(
            start=self.start / SAMPLE_RATE,
            end=end / SAMPLE_RATE,
            windows=[(first / SAMPLE_RATE, last / SAMPLE_RATE) for first, last in self.windows],
            probabilities=rows,
            words=tuple(self.words) if with_words else None,
            scale=self._scale,
        )

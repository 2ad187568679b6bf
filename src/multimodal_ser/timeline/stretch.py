"""A stretch of speech while it is still going on: which windows it has, and what they say."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from multimodal_ser.config import SAMPLE_RATE
from multimodal_ser.predict.prediction import doubted
from multimodal_ser.timeline.track import Array, Point, Stretch, Word, named


class OpenStretch:
    """Grows until its end is known; all places are samples from the recording's beginning.

    Attributes:
        start: where it begins.
        lead: samples before it that its first window hears too: recordings that a model learnt
            from begin and end with a pause, and speech that is cut tightly is another sound.
        tail: the same after it, for a last window that reaches its end.
        windows: (start, end) of the windows so far.
        rows: the probabilities [C] of the first of them.
        words: recognised so far.
        heard: up to where words are recognised.
        sure: how certain it is that this is speech, from 0 to 1, once it is over.
    """

    def __init__(self, start: int, size: int, hop: int, smoothing: float, lead: int = 0) -> None:
        self.start = self.heard = start
        self.lead, self.tail, self.sure = lead, 0, 1.0
        self.windows: list[tuple[int, int]] = []
        self.rows: list[Array] = []
        self.words: list[Word] = []
        self._size, self._hop, self._smoothing = size, hop, smoothing
        self._sums: Array = np.zeros(0)  # over the past, the weights' sum last

    @property
    def needed(self) -> int:
        """The first sample that a window to come may have."""
        return self.windows[-1][0] if self.rows else self.start - self.lead

    def heard_by(self, window: tuple[int, int]) -> tuple[int, int]:
        """What the model hears for a window: the first and the last have more than they cover."""
        first, last = window == self.windows[0], window == self.windows[-1]
        return window[0] - first * self.lead, window[1] + last * self.tail

    def grow(self, end: int) -> None:
        """Adds the windows that end at `end` or before."""
        place = self.start + len(self.windows) * self._hop
        while place + self._size <= end:
            self.windows.append((place, place + self._size))
            place += self._hop

    def end(self, end: int, tail: int = 0) -> None:
        """Adds the last windows: the whole where it is short, else one that covers the rest.

        A rest of less than half a hop is left to the window before.

        Args:
            end: where the stretch ends.
            tail: samples after it that are there to be heard.
        """
        self.grow(end)
        if not self.windows:
            self.windows.append((self.start, end))
        elif 2 * (end - self.windows[-1][1]) >= self._hop:
            self.windows.append((end - self._size, end))
        else:
            return
        self.tail = tail

    def estimate(self, labels: Sequence[str], row: Array) -> Point:
        """Takes the next window's probabilities; returns them smoothed over the past alone."""
        start, end = self.windows[len(self.rows)]
        sums = np.append(row, 1.0)
        if self.rows and self._smoothing > 0:
            before = self.windows[len(self.rows) - 1]
            step = (start + end - sum(before)) / 2 / SAMPLE_RATE
            sums += math.exp(-step / self._smoothing) * self._sums
        self.rows.append(row)
        self._sums = sums
        return Point(start / SAMPLE_RATE, end / SAMPLE_RATE, named(labels, sums[:-1] / sums[-1]))

    def whole(self, end: int, with_words: bool) -> Stretch:
        """The stretch in seconds, once it is over and all its windows have their row."""
        return Stretch(
            start=self.start / SAMPLE_RATE,
            end=end / SAMPLE_RATE,
            windows=[(first / SAMPLE_RATE, last / SAMPLE_RATE) for first, last in self.windows],
            probabilities=doubted(np.array(self.rows), self.sure),
            words=tuple(self.words) if with_words else None,
        )

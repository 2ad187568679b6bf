"""Sound, piece by piece → running estimates and segments → Timeline.

`analyze` feeds a `Stream` from a file, so both give the same results: times are equal, and
probabilities differ only in the last bits, by the sizes of the network's batches (below 1e-5 in
float32).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean

import numpy as np

from multimodal_ser.audio import check_scale
from multimodal_ser.audio.speech import CONTEXT, SpeechFinder, make_gate
from multimodal_ser.audio.speech import Stretch as Found
from multimodal_ser.common.arrays import Samples
from multimodal_ser.config.settings import SAMPLE_RATE, Vad
from multimodal_ser.encoders.mel import LONGEST_SAMPLES
from multimodal_ser.errors import SerError
from multimodal_ser.predict.backend import missing_words
from multimodal_ser.predict.prediction import AlsoPredicted
from multimodal_ser.predict.predictor import removed_count
from multimodal_ser.timeline.speakers import Known
from multimodal_ser.timeline.stretch import OpenStretch, points, text_of
from multimodal_ser.timeline.track import Model, Point, Scale, Segment, Timeline, Word, overall
from multimodal_ser.timeline.words import Words, assigned, word_pieces, words_doubt, words_of

WINDOW, HOP, SMOOTHING = 3.0, 1.0, 1.0  # seconds
SHORTEST, LONGEST = 0.5, 30.0  # seconds: range of a window, up to what Whisper takes
LEAST_HOP = 0.1  # seconds
_AT_ONCE = 64  # windows per call of the predictor
_HOW_WORDS = "--words recognises them (words= in Python and in /v1/analyze)"


class Stream:
    """Takes sound in pieces of any size and returns what is known so far.

    Memory does not grow with the sound: only sound that is not yet predicted is kept.

    Attributes:
        sure: for every stretch of speech so far, how certain it is that this is speech.
    """

    def __init__(
        self,
        predictor: Model,
        *,
        window: float = WINDOW,
        hop: float = HOP,
        smoothing: float = SMOOTHING,
        vad: Vad = "auto",
        words: Words | None = None,
        finder: SpeechFinder | Known | None = None,
        said: Sequence[Word] | None = None,
    ) -> None:
        """Prepares an empty stream.

        Args:
            predictor: from `load`.
            window: length of a window that is predicted, in seconds, 0.5 to 30; shorter speech is
                one window.
            hop: seconds from one window to the next, 0.1 to a window.
            smoothing: time constant of the smoothing, in seconds; 0 for none.
            vad: ``auto``, ``silero``, ``energy``, or ``none`` to take everything as speech.
            words: sound → words, such as a `Recogniser`; None leaves words out.
            finder: finds the speech, in place of `vad`.
            said: the words of the recording for a model that reads them, if they are known already.

        Raises:
            SerError: a setting is out of its range, or silero-vad is missing.
        """
        _check("window", window, SHORTEST, LONGEST)
        _check("hop", hop, LEAST_HOP, window)
        _check("smoothing", smoothing, 0, 60)
        self._model, self._words, self._smoothing = predictor, words, smoothing
        self._scale: Scale = getattr(predictor, "scale", None)
        self._also: AlsoPredicted | None = getattr(predictor, "also", None)
        self._size, self._hop = round(window * SAMPLE_RATE), round(hop * SAMPLE_RATE)
        self._said = said
        self._reads = "text" in getattr(predictor, "modalities", ())
        # Windows of a model that reads words are predicted once their words are recognised.
        self._awaits = self._reads and words is not None
        self._finder = finder or SpeechFinder(make_gate(vad))
        self._sound: Samples = np.zeros(0, np.float32)
        self._at = 0  # position in the recording of the first sample in memory
        self._open: OpenStretch | None = None
        # ended, but their words are not recognised yet
        self._waiting: list[tuple[OpenStretch, int]] = []
        self._segments: list[Segment] = []
        self._track: list[Point] = []
        # of the attributes, where a model of classes has them, too
        self._attributes: tuple[list[Segment], list[Point]] = ([], [])
        self._speech: list[tuple[float, float]] = []
        self.sure: list[float] = []
        self._spoken: list[Word] = []
        self._distances: list[float] = []
        self._ended = 0  # position where the last stretch of speech ended
        self._finished = False

    def push(self, chunk: Samples) -> list[Point | Segment]:
        """Takes sound and returns what is new.

        Args:
            chunk: mono float32 [time] at 16 kHz, of any length.

        Returns:
            A point for every new window of speech, smoothed over the past only; then the final
            segments of every stretch of speech that ended. If words are recognised, segments come
            for several stretches together, once they fill half a minute, and so do the points of a
            model that reads words.

        Raises:
            SerError: the chunk is not such sound, or the stream is finished.
        """
        if self._finished:
            raise SerError("the stream is finished; make another Stream for another recording")
        chunk = _checked(chunk)
        self._sound = np.concatenate([self._sound, chunk])
        return self._advance(self._finder.push(chunk))

    def finish(self) -> Timeline:
        """Ends the recording and returns the whole timeline."""
        if not self._finished:
            self._advance(self._finder.finish())
            self._close_waiting()
            self._finished = True
        found = Timeline(
            duration=(self._at + len(self._sound)) / SAMPLE_RATE,
            labels=tuple(self._model.labels),
            segments=tuple(self._segments),
            track=tuple(self._track),
            speech=tuple(self._speech),
            overall=overall(self._model.labels, self._segments),
            model=self._model.name,
            words=tuple(self._spoken),
            adapted=removed_count(self._model.channel),
            threshold=self._model.threshold,
            distance=fmean(self._distances) if self._distances else None,
            doubt=words_doubt(self._spoken, getattr(self._words, "multilingual", True)),
            scale=self._scale,
            notes=self._notes(),
        )
        if (also := self._also) is None:
            return found
        segments, track = self._attributes
        mean = overall(also.labels, segments)
        attributes = replace(
            found, labels=also.labels, overall=mean, words=(), scale=also.scale,
            segments=tuple(segments), track=tuple(track),
        )  # fmt: skip
        return replace(found, attributes=attributes)

    def _notes(self) -> tuple[str, ...]:
        if self._awaits or self._said is not None or not self._track:
            return ()
        note = missing_words(self._model, 1, 1, _HOW_WORDS)
        return () if note is None else (note,)

    def _advance(self, ended: list[Found]) -> list[Point | Segment]:
        closing = []
        for start, end, sure in ended:
            stretch = self._stretch(start)
            stretch.sure = sure
            # At most CONTEXT after the end, or what has arrived: a live stream cannot wait for
            # more.
            stretch.end(end, min(CONTEXT, self._at + len(self._sound) - end))
            closing.append((stretch, end))
            self._ended = end
        stretches = [stretch for stretch, _ in closing]
        if current := self._finder.current:
            self._open = self._stretch(current[0])
            self._open.grow(current[1])
            stretches.append(self._open)
        # Windows of ended and open stretches are predicted together, in full batches, before any is
        # closed.
        new: list[Point | Segment] = [] if self._awaits else [*self._predict(stretches)]
        for stretch, end in closing:
            new += self._end_stretch(stretch, end)
        if self._open and current:
            new += self._close_waiting(before=current[1])
            self._open.words += self._recognise(self._open, current[1], over=False)
            if self._awaits:
                new += self._predict([self._open])
        self._drop_sound()
        return new

    def _stretch(self, start: int) -> OpenStretch:
        """Takes the open stretch, if there is one, or begins a new one."""
        stretch, self._open = self._open, None
        lead = min(CONTEXT, start - self._ended)
        settings = self._size, self._hop, self._smoothing, lead, self._scale
        return stretch or OpenStretch(start, *settings)

    def _predict(self, stretches: Sequence[OpenStretch]) -> list[Point]:
        """Predicts the windows without probabilities, in batches over all stretches."""
        jobs = [
            (stretch, window)
            for stretch in stretches
            for window in stretch.windows[len(stretch.rows) :]
            if not self._awaits or window[1] <= stretch.recognised
        ]
        found = []
        for first in range(0, len(jobs), _AT_ONCE):
            part = jobs[first : first + _AT_ONCE]
            predictions = self._model.waves(
                [self._cut(*stretch.sound_span(window)) for stretch, window in part],
                [self._words_in(stretch, window) for stretch, window in part],
                speech=True,
            )
            for (stretch, _), prediction in zip(part, predictions, strict=True):
                row = np.asarray(prediction.probabilities, np.float64)
                if self._also is not None:
                    row = np.append(row, prediction.also.probabilities)
                if prediction.distance is not None:
                    self._distances.append(prediction.distance)
                found.append(stretch.estimate(self._model.labels, row))
        return found

    def _words_in(self, stretch: OpenStretch, window: tuple[int, int]) -> str | None:
        """The words of a window, for a model that reads them."""
        if not self._reads:
            return None
        start, end = (place / SAMPLE_RATE for place in window)
        known = stretch.words if self._said is None else self._said
        return text_of([w for w in known if start <= (w.start + w.end) / 2 < end]) or None

    def _close(self, stretch: OpenStretch, end: int) -> list[Segment]:
        labels, threshold = self._model.labels, self._model.threshold
        whole = stretch.whole(end, self._words is not None, len(labels))
        smoothed = whole.smoothed(self._smoothing)
        found = list(whole.segments(labels, smoothed, threshold, self._also))
        self._segments += found
        self._track += points(whole, labels, smoothed[:, : len(labels)])
        if also := self._also:
            rated, values = replace(whole, words=None, scale=also.scale), smoothed[:, len(labels) :]
            self._attributes[0].extend(rated.segments(also.labels, values, threshold))
            self._attributes[1].extend(points(rated, also.labels, values))
        self._speech.append((whole.start, whole.end))
        self.sure.append(stretch.sure)
        self._spoken += stretch.words
        return found

    def _end_stretch(self, stretch: OpenStretch, end: int) -> list[Point | Segment]:
        """Closes a stretch; for words, several are collected first, up to Whisper's 30 s."""
        if self._words is None:
            return [*self._close(stretch, end)]
        new = self._close_waiting(before=end)
        self._waiting.append((stretch, end))
        return new

    def _close_waiting(self, before: float = math.inf) -> list[Point | Segment]:
        """Recognises the words of the waiting stretches and closes them.

        Args:
            before: where later speech ends; as long as both fit into Whisper's 30 s, they wait.
        """
        if not self._waiting or before - self._waiting[0][0].start <= LONGEST_SAMPLES:
            return []
        stretches, ends = zip(*self._waiting, strict=True)
        found = self._recognise(stretches[0], ends[-1], over=True)
        for place, word in assigned(found, self._waiting):
            stretches[place].words.append(word)
        self._waiting = []
        new: list[Point | Segment] = []
        if self._awaits:
            for stretch, end in zip(stretches, ends, strict=True):
                stretch.recognised = end
            new += self._predict(stretches)
        return new + [s for pair in zip(stretches, ends, strict=True) for s in self._close(*pair)]

    def _recognise(self, first: OpenStretch, end: int, *, over: bool) -> list[Word]:
        """The words between the recognised part of `first` and `end`."""
        if self._words is None:
            return []
        sound, begin, found = self._cut(first.recognised, end), first.recognised, []
        for start, stop in word_pieces(sound, over=over):
            found += words_of(self._words, sound[start:stop], begin + start)
            first.recognised = begin + stop
        return found

    def _cut(self, start: int, end: int) -> Samples:
        return self._sound[start - self._at : end - self._at]

    def _drop_sound(self) -> None:
        """Drops the sound that is not needed any more."""
        first = max(self._ended, self._finder.undecided - CONTEXT)
        if self._open:
            first = self._open.needed
            first = first if self._words is None else min(first, self._open.recognised)
        if self._waiting:
            waiting = self._waiting[0][0]
            first = min(first, waiting.recognised, *([waiting.needed] if self._awaits else []))
        if first > self._at:
            self._sound = self._sound[first - self._at :].copy()
            self._at = first


def _checked(chunk: Samples) -> Samples:
    given = np.asarray(chunk)
    if given.ndim != 1 or given.dtype.kind != "f":
        raise SerError(
            f"a chunk is {given.dtype} of shape {given.shape}; allowed: mono floats [time], 16 kHz"
        )
    check_scale("a chunk", given)
    return given.astype(np.float32, copy=False)


def _check(name: str, given: float, least: float, most: float) -> None:
    number = isinstance(given, int | float | np.number)
    if not (number and least <= given <= most):
        shown = f"{given:g}" if number else repr(given)
        raise SerError(f"{name}={shown} s; allowed: {least:g} to {most:g} s")

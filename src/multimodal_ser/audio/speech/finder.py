"""Scores of 16 kHz sound, frame by frame → stretches of speech.

A gate scores every frame of 32 ms; two thresholds, a hangover and a minimum length make stretches
of the scores. All gates look ahead at most one second, and frames are counted from the start of the
recording, so the sizes of the pieces that are pushed change nothing.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from multimodal_ser.common.arrays import Floats, Samples

FRAME = 512  # samples, 32 ms: the frame that silero-vad was trained with
LEAST_FRAMES = 8  # frames of speech in a stretch at least, 0.256 s: clicks and coughs are shorter
HANGOVER = 16  # frames below `Gate.stay` that end a stretch, 0.512 s
_PAD = 3 * FRAME  # samples added at both ends, 96 ms: soft beginnings and ends are below the gate
CONTEXT = 3 * FRAME  # samples beside a stretch that are kept for a model, another 96 ms


class Gate:
    """Sound → one score per frame, with the thresholds for these scores. This one takes all sound.

    Attributes:
        enter: score from which on a frame begins speech.
        stay: score from which on a frame continues speech.
        least: smallest number of frames of speech in a stretch.
    """

    enter, stay, least = 0.0, 0.0, 1

    def push(self, frames: Samples) -> Floats:
        """Frames [n, 512] → the scores that are known by now, oldest frames first."""
        return np.zeros(len(frames))

    def finish(self) -> Floats:
        """The scores of the remaining frames."""
        return np.zeros(0)

    def certainty(self, frames: int, mean: float) -> float:
        """How certain it is that a stretch is speech, from 0 to 1.

        Args:
            frames: number of its frames at or above `stay`.
            mean: mean score of these frames.
        """
        return 1.0


class Stretch(NamedTuple):
    """A stretch of speech.

    Attributes:
        start: its first sample.
        end: its last sample + 1.
        sure: how certain it is that this is speech, from 0 to 1.
    """

    start: int
    end: int
    sure: float = 1.0


class SpeechFinder:
    """Scores → stretches, each as soon as it is certain."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._rest: Samples = np.zeros(0, np.float32)
        self._samples = 0  # that were pushed
        self._frame = 0  # index of the next frame to be scored
        # Of the stretch that has begun: its first frame, its last frame of speech, and the number
        # and summed scores of its frames of speech.
        self._first: int | None = None
        self._last = self._count = 0
        self._sum = 0.0
        self._barrier = 0  # the end of the previous stretch: the next one begins after it

    @property
    def undecided(self) -> int:
        """The sample before which no speech can begin any more."""
        first = self._frame if self._first is None else self._first
        return max(self._barrier, first * FRAME - _PAD)

    @property
    def current(self) -> tuple[int, int] | None:
        """The stretch that has begun but not ended: its start, and how far it certainly reaches."""
        if self._first is None or self._count < self._gate.least:
            return None
        return self.undecided, (self._last + 1) * FRAME

    def push(self, samples: Samples) -> list[Stretch]:
        """Takes samples [time]; returns the stretches that end."""
        self._samples += len(samples)
        held = np.concatenate([self._rest, samples])
        whole = len(held) // FRAME * FRAME
        self._rest = held[whole:]
        return self._follow(self._gate.push(held[:whole].reshape(-1, FRAME)))

    def finish(self) -> list[Stretch]:
        """Ends the recording; returns the stretches that end with it."""
        ended: list[Stretch] = []
        if len(self._rest):
            last = np.zeros((1, FRAME), np.float32)
            last[0, : len(self._rest)] = self._rest
            ended += self._follow(self._gate.push(last))
        ended += self._follow(self._gate.finish())
        return [*ended, *self._close()]

    def _follow(self, scores: Floats) -> list[Stretch]:
        ended: list[Stretch] = []
        for score in scores.tolist():
            if score >= (self._gate.enter if self._first is None else self._gate.stay):
                if self._first is None:
                    self._first, self._count, self._sum = self._frame, 0, 0.0
                self._last = self._frame
                self._count += 1
                self._sum += score
            elif self._first is not None and self._frame - self._last >= HANGOVER:
                ended += self._close()
            self._frame += 1
        return ended

    def _close(self) -> list[Stretch]:
        stretch = self.current
        self._first = None
        if stretch is None:
            return []
        end = min(stretch[1] + _PAD, self._samples)
        self._barrier = end
        sure = self._gate.certainty(self._count, self._sum / self._count)
        return [Stretch(stretch[0], end, sure)]

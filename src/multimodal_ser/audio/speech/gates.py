"""Speech detectors by name."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import get_args

import numpy as np

from multimodal_ser.audio.speech.finder import LEAST_FRAMES, Gate
from multimodal_ser.audio.speech.network import VadNetwork
from multimodal_ser.common.arrays import Floats, Samples
from multimodal_ser.config.settings import Vad
from multimodal_ser.errors import SerError, one_of

AUTO = "silero"


class SileroGate(Gate):
    """Silero's probability that a frame contains speech, for sound at one level.

    The network misses half of the speech that is 30 dB too quiet for it. So each frame is scaled
    such that the loudest fifth of a second from 10 s before to 1 s after it has a fixed level.
    Nothing below -90 dB of full scale, one step of 16 bits, is raised further.

    Melodies and bells pass the thresholds too, but only just: 95 % of the stretches of speech have
    a mean score above 0.8; most other sound has one near 0.6, or fewer than eight frames.
    """

    enter, stay, least = 0.5, 0.35, 4  # silero's own thresholds; words are as short as 0.13 s
    # Mean scores up to which a stretch is not certain at all and from which it is, and the number
    # of frames from which it is.
    _DOUBTFUL, _CERTAIN, _ENOUGH = 0.6, 0.75, 8
    # Frames before and after a frame (10 s and 1 s) that set its gain; frames on either side that
    # are averaged.
    _BEFORE, _AFTER, _MEAN = 312, 31, 2
    _LOUD, _LOWEST = 0.12**2, 1e-9  # mean squares: the fixed level, and what is raised no further

    def __init__(self) -> None:
        self._network = VadNetwork()
        self._frames: Samples = np.zeros((0, 512), np.float32)  # waiting for their score
        self._power: Floats = np.zeros(0)  # of these and of those before them
        self._means: Floats = np.zeros(0)

    def push(self, frames: Samples) -> Floats:
        """See `Gate`; the scores come one second late."""
        self._frames = np.concatenate([self._frames, frames])
        given = frames.astype(np.float64)
        self._power = np.concatenate([self._power, given.var(axis=1)])
        self._means = np.concatenate([self._means, given.mean(axis=1)])
        return self._scores(max(0, len(self._frames) - self._AFTER - self._MEAN))

    def finish(self) -> Floats:
        """See `Gate`."""
        return self._scores(len(self._frames))

    def certainty(self, frames: int, mean: float) -> float:
        """See `Gate`."""
        sure = (mean - self._DOUBTFUL) / (self._CERTAIN - self._DOUBTFUL)
        sure = min(1.0, max(0.0, sure)) * min(1.0, frames / self._ENOUGH)
        return round(sure, 2)  # the last bits of a matrix product depend on its size

    def _scores(self, count: int) -> Floats:
        """Scores the oldest `count` of the waiting frames."""
        if not count:
            return np.zeros(0)
        first = len(self._power) - len(self._frames)
        gain, offset = self._level(first, count)
        sound = (self._frames[:count] - offset[:, None]) * gain[:, None]
        scores = self._network(sound[None].astype(np.float32))[0]
        self._frames = self._frames[count:]
        drop = max(0, first + count - self._BEFORE - self._MEAN)
        self._power, self._means = self._power[drop:], self._means[drop:]
        return np.asarray(scores, np.float64)

    def _level(self, first: int, count: int) -> tuple[Floats, Floats]:
        """The gain for each frame, and its constant offset."""
        size = 2 * self._MEAN + 1
        wide = np.pad(self._power, self._MEAN)
        mean = np.lib.stride_tricks.sliding_window_view(wide, size).mean(axis=1)
        gain, offset = np.empty(count), np.empty(count)
        for place in range(count):
            near = slice(max(0, first + place - self._BEFORE), first + place + self._AFTER + 1)
            gain[place] = np.sqrt(self._LOUD / max(mean[near].max(), self._LOWEST))
            offset[place] = self._means[near].mean()
        return gain, offset


class WeakGate(SileroGate):
    """Lower thresholds, for recordings without certain speech: a whisper, a word by telephone."""

    enter, stay, least = 0.25, 0.2, 6

    def certainty(self, frames: int, mean: float) -> float:
        """See `Gate`: always 0, since it is too little to predict an emotion from."""
        return 0.0


class EnergyGate(Gate):
    """Scores frames by their level above the noise floor, in dB.

    The level is the frame's standard deviation in dB of full scale. The noise floor is the lowest
    level, in means of five frames, from 10 s before to 1 s after the frame (minimum statistics;
    Martin, 2001); digital silence does not count. Speech begins 10 dB above the floor and continues
    while 6 dB above it. The floor is limited to -75 to -35 dB, so in noise louder than -29 dB
    everything may count as speech. Nothing below -65 dB does. Every stretch is certain: loud sound
    may be anything, and the level cannot tell.
    """

    enter, stay, least = 10.0, 6.0, LEAST_FRAMES
    _BEFORE, _AFTER, _MEAN = 312, 31, 2  # frames
    # In dB: the levels below which sound is silence, and never speech; limits of the noise floor.
    _SILENT, _LOWEST, _FLOORS = -80.0, -65.0, (-75.0, -35.0)

    def __init__(self) -> None:
        self._power: Floats = np.zeros(0)  # of the frames that are still needed
        self._kept = 0  # how many of these have their score already

    def push(self, frames: Samples) -> Floats:
        """See `Gate`; the scores come one second late."""
        power = frames.astype(np.float64).var(axis=1)
        self._power = np.concatenate([self._power, power])
        return self._scores(len(self._power) - self._AFTER - self._MEAN)

    def finish(self) -> Floats:
        """See `Gate`."""
        return self._scores(len(self._power))

    def _scores(self, stop: int) -> Floats:
        if stop <= self._kept:
            return np.zeros(0)
        level = 10 * np.log10(np.maximum(self._power, 1e-12))
        over = level - self._floor()
        over[level < self._LOWEST] = -math.inf
        scores = over[self._kept : stop]
        # Frames older than the window of the floor are dropped: memory stays bounded in live use.
        drop = max(0, stop - self._BEFORE - self._MEAN)
        self._power, self._kept = self._power[drop:], stop - drop
        return scores

    def _floor(self) -> Floats:
        """The noise floor at every frame in memory, in dB."""
        # Imported here: an installation without training lacks scipy.
        from scipy.ndimage import minimum_filter1d

        audible = np.where(self._power > 10 ** (self._SILENT / 10), self._power, np.nan)
        wide = np.pad(audible, self._MEAN, constant_values=np.nan)
        mean = sum(wide[at : at + len(audible)] for at in range(2 * self._MEAN + 1))
        mean = np.nan_to_num(np.asarray(mean) / (2 * self._MEAN + 1), nan=np.inf)
        size = self._BEFORE + self._AFTER + 1
        shift = self._BEFORE - size // 2  # scipy centres its window; this one reaches further back
        least = minimum_filter1d(mean, size, mode="constant", cval=np.inf, origin=shift)
        return np.clip(10 * np.log10(least), *self._FLOORS)


def make_gate(vad: Vad = "auto") -> Gate:
    """Makes a gate by its name; ``auto`` is silero.

    Raises:
        SerError: the name is unknown, or silero-vad is not installed.
    """
    if vad not in get_args(Vad):
        raise SerError(one_of("speech detector", vad, get_args(Vad)))
    kinds: dict[str, Callable[[], Gate]] = {
        "silero": SileroGate, "weak": WeakGate, "energy": EnergyGate, "none": Gate
    }  # fmt: skip
    return kinds[AUTO if vad == "auto" else vad]()

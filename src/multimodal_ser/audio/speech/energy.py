"""16 kHz sound → the level of each frame above the noise floor: speech detection by energy."""

from __future__ import annotations

import math

import numpy as np
from scipy.ndimage import minimum_filter1d

from multimodal_ser.audio.speech.finder import LEAST_FRAMES
from multimodal_ser.common.arrays import Floats, Samples


class EnergyGate:
    """Scores frames by their level above the noise floor, in dB.

    The level is the frame's standard deviation in dB of full scale. The noise floor is the lowest
    level, in means of five frames, from 10 s before to 1 s after the frame (minimum statistics;
    Martin, 2001); digital silence does not count. Speech begins 10 dB above the floor and continues
    while 6 dB above it. The floor is limited to -75 to -35 dB, so in noise louder than -29 dB
    everything may count as speech. Nothing below -65 dB does.
    """

    enter, stay, least = 10.0, 6.0, LEAST_FRAMES
    _BEFORE, _AFTER, _MEAN = 312, 31, 2  # frames
    _SILENT, _LOWEST, _FLOORS = -80.0, -65.0, (-75.0, -35.0)  # dB

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

    def certainty(self, frames: int, mean: float) -> float:
        """See `Gate`: always 1, since loud sound may be anything and the level cannot tell."""
        return 1.0

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
        heard = np.where(self._power > 10 ** (self._SILENT / 10), self._power, np.nan)
        wide = np.pad(heard, self._MEAN, constant_values=np.nan)
        mean = sum(wide[at : at + len(heard)] for at in range(2 * self._MEAN + 1))
        mean = np.nan_to_num(np.asarray(mean) / (2 * self._MEAN + 1), nan=np.inf)
        size = self._BEFORE + self._AFTER + 1
        shift = self._BEFORE - size // 2  # scipy centres its window; this one reaches further back
        least = minimum_filter1d(mean, size, mode="constant", cval=np.inf, origin=shift)
        return np.asarray(np.clip(10 * np.log10(least), *self._FLOORS))

"""waveforms → the same speech as other rooms, lines and microphones would carry it.

Used while an encoder is fine-tuned. Each change is drawn from a generator, so that a seed gives
the same training.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import soxr
from numpy.typing import NDArray

Wave = NDArray[np.float32]
RATE = 16_000


def augmented(wave: Wave, rng: np.random.Generator) -> Wave:
    """Changes a recording [samples] at random: speed, room, band, noise.

    Each change is made to some recordings only, so that clean ones remain. Loudness needs none:
    `tune.log_mels` levels it.
    """
    if rng.random() < 0.5:
        wave = speed(wave, rng.uniform(0.9, 1.1))
    if rng.random() < 0.25:
        wave = reverberated(wave, rng.uniform(0.15, 0.6), rng)
    if rng.random() < 0.25:
        wave = band_limited(wave, rng.uniform(50, 300), rng.uniform(3_000, 6_000))
    if rng.random() < 0.35:
        wave = noisy(wave, rng.uniform(5, 30), rng)
    return wave


def speed(wave: Wave, factor: float) -> Wave:
    """Plays faster (factor > 1) or slower, which moves pitch and formants too."""
    changed: Wave = soxr.resample(wave, RATE * factor, RATE, quality="LQ")
    return changed


def reverberated(wave: Wave, seconds: float, rng: np.random.Generator) -> Wave:
    """A room: exponentially decaying noise after the direct sound (Polack's model).

    Args:
        wave: [samples].
        seconds: until the room's answer has fallen by 60 dB.
        rng: draws the room.
    """
    tail = np.arange(int(seconds * RATE)) / RATE
    room = rng.standard_normal(len(tail)) * 10 ** (-3 * tail / seconds)
    room[: RATE // 200] = 0  # the first 5 ms hold the direct sound alone
    room *= rng.uniform(0.2, 0.7) / max(float(np.linalg.norm(room)), 1e-9)
    room[0] = 1
    size = len(wave) + len(room) - 1
    mixed = np.fft.irfft(np.fft.rfft(wave, size) * np.fft.rfft(room, size), size)
    return mixed[: len(wave)].astype(np.float32)


def band_limited(wave: Wave, low: float, high: float) -> Wave:
    """Keeps the band from `low` to `high` hertz, as a telephone line does."""
    spectrum = np.fft.rfft(wave)
    hertz = np.fft.rfftfreq(len(wave), 1 / RATE)
    spectrum[(hertz < low) | (hertz > high)] = 0
    return np.fft.irfft(spectrum, len(wave)).astype(np.float32)


def noisy(wave: Wave, snr: float, rng: np.random.Generator) -> Wave:
    """Adds noise, white to pink to brown, at a signal-to-noise ratio in decibels.

    A silent recording stays silent.
    """
    spectrum = np.fft.rfft(rng.standard_normal(len(wave)))
    spectrum /= np.maximum(1, np.arange(len(spectrum))) ** rng.uniform(0, 1)
    noise = np.fft.irfft(spectrum, len(wave))
    scale = _level(wave) / max(_level(noise), 1e-9) * 10 ** (-snr / 20)
    return np.asarray(wave + noise * scale, np.float32)


def _level(samples: NDArray[Any]) -> float:
    return float(np.sqrt(np.mean(np.square(samples, dtype=np.float64))))

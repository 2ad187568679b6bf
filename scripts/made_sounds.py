"""Two hundred recordings without speech: silence, noises, tones, clicks, synthesised music."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

RATE = 16_000
Wave = NDArray[np.float32]
EACH = 40


def without_speech(seed: int = 0) -> list[Wave]:
    """Makes forty of each kind, 1 to 5 s long, from faint to loud; the same for the same seed."""
    rng = np.random.default_rng(seed)
    kinds = silence, noise, tone, clicks, music
    return [
        np.asarray(kind(int(rng.uniform(1, 5) * RATE), rng) * 10 ** rng.uniform(-2, 0), np.float32)
        for kind in kinds
        for _ in range(EACH)
    ]


def silence(size: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Digital silence, or noise in the last bits of a converter."""
    return rng.standard_normal(size) * float(rng.choice([0.0, 1e-5, 1e-4]))


def noise(size: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """White to brown noise, steady or swelling."""
    spectrum = np.fft.rfft(rng.standard_normal(size))
    spectrum /= np.maximum(1, np.arange(len(spectrum))) ** rng.uniform(0, 1)
    made = np.fft.irfft(spectrum, size)
    made *= 1 + rng.uniform(0, 1) * np.sin(2 * np.pi * rng.uniform(0.2, 3) * time(size))
    return np.asarray(0.5 * made / np.abs(made).max())


def tone(size: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """A steady or a gliding tone, with overtones."""
    pitch = rng.uniform(60, 2_000) * 2 ** (rng.uniform(-1, 1) * np.linspace(0, 1, size))
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    return np.asarray(0.3 * sum(np.sin(k * phase) / k**2 for k in range(1, 4)))


def clicks(size: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Decaying clicks at random times."""
    made = np.zeros(size)
    for start in rng.integers(0, size - 800, rng.integers(1, 30)):
        fall = np.exp(-np.arange(800) / rng.uniform(10, 200))
        made[start : start + 800] += fall * rng.standard_normal(800)
    return np.asarray(0.5 * made / np.abs(made).max())


def music(size: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Chords of three plucked notes, one after the other."""
    made, beat = np.zeros(size), int(rng.uniform(0.2, 0.6) * RATE)
    for start in range(0, size - beat, beat):
        at = time(beat)
        for note in rng.choice(24, 3, replace=False):
            pitch = 110 * 2 ** (note / 12)
            made[start : start + beat] += np.sin(2 * np.pi * pitch * at) * np.exp(-4 * at)
    return 0.2 * made


def time(size: int) -> NDArray[np.float64]:
    """Returns the time of each sample in seconds, [size]."""
    return np.arange(size) / RATE

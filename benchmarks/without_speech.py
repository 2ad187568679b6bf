"""Made-up sound in which nobody speaks: noises, tones, machines, weather, clicks, music.

The speech detector's thresholds were chosen on `KINDS`; `ASIDE` are kinds that were kept aside.
Each kind is a function of a random generator and a length in seconds, and returns mono float32 at
16 kHz that peaks between 0.05 and 0.9.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.signal import butter, lfilter, sosfilt

Sound: TypeAlias = NDArray[np.float32]
Made: TypeAlias = NDArray[np.float64]
Draw: TypeAlias = np.random.Generator
RATE = 16_000


def sounds(
    kinds: dict[str, Callable[[Draw, float], Made]], count: int
) -> Iterator[tuple[str, Sound]]:
    """`count` sounds of each kind, of 0.5 to 10 s, with their kinds' names."""
    for place, (name, make) in enumerate(kinds.items()):
        for number in range(count):
            draw = np.random.default_rng([place, number])
            sound = make(draw, draw.uniform(0.5, 10))
            peak = np.abs(sound).max()
            level = draw.uniform(0.05, 0.9) / peak if peak > 0 and name != "silence" else 1.0
            yield name, (level * sound).astype(np.float32)


def _time(seconds: float) -> Made:
    return np.arange(round(seconds * RATE)) / RATE


def coloured(draw: Draw, seconds: float, slope: float) -> Made:
    """Noise whose power falls by `slope` powers of the frequency: 0 white, 1 pink, 2 brown."""
    spectrum = np.fft.rfft(draw.standard_normal(round(seconds * RATE)))
    spectrum /= np.maximum(1, np.arange(len(spectrum))) ** (slope / 2)
    return np.fft.irfft(spectrum, round(seconds * RATE))


def band(sound: Made, low: float, high: float) -> Made:
    """What lies between two frequencies in Hz."""
    return np.asarray(
        sosfilt(butter(2, [low, min(high, 7900)], "band", fs=RATE, output="sos"), sound)
    )


def silence(draw: Draw, seconds: float) -> Made:
    """Digital silence, or dither of one step in 16 bits, or an offset."""
    flat = np.zeros(round(seconds * RATE))
    kind = draw.integers(3)
    return (
        flat if kind == 0 else flat + 0.1 if kind == 1 else draw.integers(-1, 2, len(flat)) / 32768
    )


def noise(draw: Draw, seconds: float) -> Made:
    """White to brown."""
    return coloured(draw, seconds, draw.uniform(0, 2))


def swelling_noise(draw: Draw, seconds: float) -> Made:
    """Noise that swells as wind, waves or syllables do, 0.2 to 6 times a second."""
    time = _time(seconds)
    swell = 0.5 - 0.5 * np.cos(2 * np.pi * draw.uniform(0.2, 6) * time + draw.uniform(0, 6))
    return swell ** draw.uniform(0.5, 3) * coloured(draw, seconds, draw.uniform(0, 2))


def band_noise(draw: Draw, seconds: float) -> Made:
    """Noise in a narrow or wide band: hiss, fans, rooms."""
    middle, wide = draw.uniform(150, 4000), draw.uniform(1.2, 3)
    return band(draw.standard_normal(round(seconds * RATE)), middle / wide, middle * wide)


def hum(draw: Draw, seconds: float) -> Made:
    """Mains: 50 or 60 Hz and its multiples, with some noise."""
    base, time = draw.choice([50.0, 60.0]), _time(seconds)
    parts = [draw.uniform(0, 1) / n * np.sin(2 * np.pi * n * base * time) for n in range(1, 12)]
    return sum(parts, np.zeros(len(time))) + 0.02 * coloured(draw, seconds, 1)


def tone(draw: Draw, seconds: float) -> Made:
    """A sine, or two."""
    hertz = np.exp(draw.uniform(np.log(60), np.log(6000), draw.integers(1, 3)))
    time = _time(seconds)
    return sum((np.sin(2 * np.pi * one * time) for one in hertz), np.zeros(len(time)))


def buzz(draw: Draw, seconds: float) -> Made:
    """A square or saw-tooth wave of constant pitch: alarms, cheap horns."""
    phase = draw.uniform(60, 800) * _time(seconds) % 1
    return np.sign(phase - 0.5) if draw.random() < 0.5 else 2 * phase - 1


def chirp(draw: Draw, seconds: float) -> Made:
    """A sine that glides, once or again and again."""
    low, high = draw.uniform(100, 900), draw.uniform(1000, 5000)
    swept = _time(seconds) * draw.uniform(0.2, 3) % 1
    return np.sin(2 * np.pi * np.cumsum(low * (high / low) ** swept) / RATE)


def beeps(draw: Draw, seconds: float) -> Made:
    """A tone switched on and off: ringing, reversing lorries, monitors."""
    on = _time(seconds) * draw.uniform(0.3, 4) % 1 < draw.uniform(0.2, 0.7)
    smooth: Made = lfilter([0.02], [1, -0.98], on.astype(float))
    return smooth * tone(draw, seconds)


def clicks(draw: Draw, seconds: float) -> Made:
    """Short clicks at random times: keys, switches, a damaged record."""
    sound = np.zeros(round(seconds * RATE))
    for place in draw.integers(0, len(sound), max(1, int(seconds * draw.uniform(0.5, 8)))):
        ring = np.exp(-np.arange(800) / draw.uniform(5, 150)) * draw.standard_normal(800)
        cut = ring[: len(sound) - place]
        sound[place : place + len(cut)] += draw.uniform(0.2, 1) * cut
    return sound + 1e-4 * draw.standard_normal(len(sound))


def dial(draw: Draw, seconds: float) -> Made:
    """Dialled digits: pairs of tones of 80 ms."""
    time = _time(seconds)
    rows, columns = [697, 770, 852, 941], [1209, 1336, 1477, 1633]
    step, sound = round(draw.uniform(0.1, 0.3) * RATE), np.zeros(len(time))
    for start in range(0, len(time), step):
        part = slice(start, start + min(step, 1280))
        for hertz in (draw.choice(rows), draw.choice(columns)):
            sound[part] += np.sin(2 * np.pi * hertz * time[part])
    return sound


def engine(draw: Draw, seconds: float) -> Made:
    """Firing pulses of slowly changing speed, filtered by a body, with noise."""
    time = _time(seconds)
    speed = draw.uniform(15, 90) * (1 + 0.3 * np.sin(2 * np.pi * draw.uniform(0.05, 0.5) * time))
    phase = np.cumsum(speed) / RATE % 1
    pulses = np.exp(-phase * draw.uniform(4, 12)) - 0.2
    return band(pulses, 50, draw.uniform(400, 2500)) + 0.05 * coloured(draw, seconds, 1)


def rain(draw: Draw, seconds: float) -> Made:
    """Many small drops, over a wash of noise."""
    drops = draw.standard_normal(round(seconds * RATE))
    drops *= draw.random(len(drops)) < draw.uniform(0.002, 0.05)
    falls: Made = lfilter([1], [1, -draw.uniform(0.3, 0.9)], drops)
    return falls + draw.uniform(0.05, 0.5) * coloured(draw, seconds, 0.5)


def note(draw: Draw, hertz: float, seconds: float, decay: float, overtones: int) -> Made:
    """A struck or blown note with overtones."""
    time = _time(seconds)
    fall = np.exp(-decay * time) * np.minimum(1, time / draw.uniform(0.003, 0.06))
    vibrato = 1 + draw.uniform(0, 0.004) * np.sin(2 * np.pi * 5.5 * time)
    phase = 2 * np.pi * np.cumsum(hertz * vibrato) / RATE
    slope = draw.uniform(0.8, 2)
    audible = [n for n in range(1, overtones + 1) if n * hertz < 7000]
    return fall * sum((np.sin(n * phase) / n**slope for n in audible), np.zeros(len(time)))


def melody(draw: Draw, seconds: float) -> Made:
    """One instrument that plays notes of a scale."""
    return _played(draw, seconds, 1, draw.uniform(0.5, 6), int(draw.integers(1, 12)))


def chords(draw: Draw, seconds: float) -> Made:
    """Three or four notes at a time, struck or held."""
    return _played(
        draw, seconds, int(draw.integers(3, 5)), draw.uniform(0.3, 3), int(draw.integers(2, 10))
    )


def drums(draw: Draw, seconds: float) -> Made:
    """Kick, snare and hi-hat on a beat."""
    sound = np.zeros(round(seconds * RATE))
    beat = round(RATE * draw.uniform(0.15, 0.35))
    for number, start in enumerate(range(0, len(sound), beat)):
        length = min(4000, len(sound) - start)
        time, fall = _time(0.25)[:length], np.exp(-np.arange(length) / 900)
        if number % 4 == 0:
            sound[start : start + length] += fall * np.sin(
                2 * np.pi * 60 * time * (1 + np.exp(-30 * time))
            )
        if number % 4 == 2:
            sound[start : start + length] += 0.5 * fall * draw.standard_normal(length)
        hat = np.exp(-np.arange(length) / 200) * draw.standard_normal(length)
        sound[start : start + length] += 0.2 * np.diff(hat, prepend=0)
    return sound


def band_music(draw: Draw, seconds: float) -> Made:
    """Drums, bass, chords and a melody together."""
    parts = [drums(draw, seconds), chords(draw, seconds), melody(draw, seconds)]
    levelled = (draw.uniform(0.2, 1) * part / np.abs(part).max() for part in parts)
    return sum(levelled, np.zeros(len(parts[0])))


def _played(draw: Draw, seconds: float, at_once: int, decay: float, overtones: int) -> Made:
    sound = np.zeros(round(seconds * RATE))
    scale, base = np.array([0, 2, 4, 5, 7, 9, 11, 12, 14]), draw.uniform(80, 500)
    step = draw.uniform(0.15, 0.8)
    for number in range(int(seconds / step) + 1):
        start = round(number * step * RATE)
        for place in draw.choice(scale, at_once, replace=False):
            played = note(draw, base * 2 ** (place / 12), step * 1.5, decay, overtones)
            cut = played[: max(0, len(sound) - start)]
            sound[start : start + len(cut)] += cut
    return sound


def siren(draw: Draw, seconds: float) -> Made:
    """Up and down, or two tones in turn, with overtones."""
    time, rate = _time(seconds), draw.uniform(0.3, 3)
    swing = np.sin(2 * np.pi * rate * time)
    hertz = draw.uniform(400, 900) * 2 ** (0.5 * (np.sign(swing) if draw.random() < 0.5 else swing))
    phase = 2 * np.pi * np.cumsum(hertz) / RATE
    return sum((np.sin(n * phase) / n for n in (1, 2, 3)), np.zeros(len(time)))


def birds(draw: Draw, seconds: float) -> Made:
    """Short high whistles that glide, in groups."""
    sound = np.zeros(round(seconds * RATE))
    for start in draw.integers(0, len(sound), max(1, int(3 * seconds))):
        time = _time(draw.uniform(0.04, 0.2))
        hertz = draw.uniform(2000, 5000) * (1 + draw.uniform(-3, 3) * time)
        call = np.sin(np.pi * time / time[-1]) * np.sin(2 * np.pi * np.cumsum(hertz) / RATE)
        cut = call[: len(sound) - start]
        sound[start : start + len(cut)] += cut
    return sound + 0.01 * coloured(draw, seconds, 1)


def knocks(draw: Draw, seconds: float) -> Made:
    """Steps, knocks, hammering: damped low resonances at about equal times."""
    sound = 1e-3 * coloured(draw, seconds, 1)
    at, every = 0.0, draw.uniform(0.2, 1)
    while at < seconds:
        hit = np.exp(-np.arange(3000) / draw.uniform(80, 500)) * np.sin(
            2 * np.pi * draw.uniform(80, 600) * np.arange(3000) / RATE
        )
        start = round(at * RATE)
        cut = hit[: max(0, len(sound) - start)]
        sound[start : start + len(cut)] += cut
        at += every * draw.uniform(0.8, 1.2)
    return sound


def modem(draw: Draw, seconds: float) -> Made:
    """Two tones that switch at a modem's or fax's pace."""
    bits = draw.integers(0, 2, round(seconds * 300) + 1)
    hertz = np.where(np.repeat(bits, RATE // 300 + 1)[: round(seconds * RATE)] > 0, 1270, 1070)
    return np.sin(2 * np.pi * np.cumsum(hertz) / RATE)


def vacuum(draw: Draw, seconds: float) -> Made:
    """A whine over broad noise: vacuum cleaners, dryers, servers."""
    whine = buzz(draw, seconds) * draw.uniform(0.05, 0.4)
    return band(whine, 200, 6000) + coloured(draw, seconds, 0.3) / 3


def bells(draw: Draw, seconds: float) -> Made:
    """Inharmonic partials that ring."""
    sound = np.zeros(round(seconds * RATE))
    for start in draw.integers(0, len(sound), max(1, int(seconds))):
        base, time = draw.uniform(200, 1200), _time(2)
        parts = (0.5, 1, 1.2, 1.5, 2, 2.7)
        partials = (np.exp(-2 * n * time) * np.sin(2 * np.pi * n * base * time) for n in parts)
        ring = sum(partials, np.zeros(len(time)))
        cut = ring[: len(sound) - start]
        sound[start : start + len(cut)] += cut
    return sound


KINDS: dict[str, Callable[[Draw, float], Made]] = {
    make.__name__: make
    for make in (
        silence, noise, band_noise, swelling_noise, hum, tone, chirp, clicks, dial, engine, rain,
        melody, chords, drums,
    )
}  # fmt: skip
ASIDE: dict[str, Callable[[Draw, float], Made]] = {
    make.__name__: make
    for make in (buzz, beeps, band_music, siren, birds, knocks, modem, vacuum, bells)
}

"""waveforms → the same speech through other rooms, telephone lines, microphones and codecs.

Used in training. All alterations are drawn from a generator, so a seed gives the same training.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import soxr
import torch
from numpy.typing import NDArray

from multimodal_ser.common.arrays import Samples
from multimodal_ser.config.settings import SAMPLE_RATE
from multimodal_ser.encoders.mel import mel_filters

_PEAK = 0.5  # of the results of `augmented`, and of what is given to a codec
# Spectrogram settings of `rebuilt`, close to those that CREMA-D's audio was rebuilt from.
_REBUILT = {"n_fft": 1_024, "hop": 256, "mels": 128, "rounds": 16}


def augmented(
    wave: Samples,
    rng: np.random.Generator,
    *,
    codecs: bool = False,
    rebuild: float = 0.0,
    silence: float = 0.0,
) -> Samples:
    """Alters a recording [samples] at random, in the order of real sound: room, microphone, line.

    Each alteration is applied to some recordings only, so that clean ones remain. Loudness is not
    altered, since models read recordings at one level.

    Args:
        wave: [samples] at 16 kHz.
        rng: draws the alterations.
        codecs: encode some recordings as MP3 or Opus and decode them again (extra ``video``).
        rebuild: share of recordings that are rebuilt from a spectrogram, see `rebuilt`.
        silence: share that gets silence before and after, see `with_silence`.
    """
    if rng.random() < 0.3:
        wave = cropped(wave, rng.uniform(0.8, 2.0), rng)
    if rng.random() < 0.3:
        wave = speed(wave, rng.uniform(0.92, 1.08))
    if rng.random() < rebuild:
        wave = rebuilt(wave, rng)
    if rng.random() < 0.3:
        wave = reverberated(wave, rng.uniform(0.15, 0.8), rng)
    if rng.random() < 0.75:
        wave = equalised(wave, rng)
    if rng.random() < 0.15:
        wave = compressed(wave, rng.uniform(0.6, 0.9))
    if rng.random() < silence:
        wave = with_silence(wave, rng)
    if rng.random() < 0.5:
        wave = noisy(wave, rng.uniform(8, 40), rng)
    if rng.random() < 0.3:
        wave = band_limited(wave, rng.uniform(30, 350), rng.uniform(3_000, 7_500))
    wave = _with_peak(wave)
    if codecs and rng.random() < 0.15:
        kind, bits = (("mp3", 32), ("mp3", 24), ("opus", 24), ("opus", 16))[rng.integers(4)]
        wave = coded(wave, kind, bits * 1_000)
    return np.ascontiguousarray(wave, np.float32)


def over_the_line(wave: Samples, rng: np.random.Generator) -> Samples:
    """A telephone line, sometimes with noise or a codec."""
    wave = telephone(wave)
    if rng.random() < 0.5:
        wave = noisy(wave, rng.uniform(15, 40), rng)
    if rng.random() < 0.3:
        wave = coded(_with_peak(wave), "opus", 16_000)
    return wave


def cropped(wave: Samples, seconds: float, rng: np.random.Generator) -> Samples:
    """A random piece of this length in seconds; the whole recording if it is shorter."""
    size = int(seconds * SAMPLE_RATE)
    start = int(rng.integers(0, max(1, len(wave) - size + 1)))
    return wave[start : start + size]


def speed(wave: Samples, factor: float) -> Samples:
    """Plays faster (factor > 1) or slower, which also shifts pitch and formants."""
    return soxr.resample(wave, SAMPLE_RATE * factor, SAMPLE_RATE, quality="LQ")


def reverberated(wave: Samples, seconds: float, rng: np.random.Generator) -> Samples:
    """A room: exponentially decaying noise after the direct sound (Polack's model).

    Args:
        wave: [samples].
        seconds: reverberation time, until the response has decayed by 60 dB.
        rng: draws the room.
    """
    tail = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    # 10^(−3 t / T) is −60 dB at t = T.
    room = rng.standard_normal(len(tail)) * 10 ** (-3 * tail / seconds)
    room[: SAMPLE_RATE // 200] = 0  # nothing but the direct sound in the first 5 ms
    room *= rng.uniform(0.2, 0.9) / max(float(np.linalg.norm(room)), 1e-9)
    room[0] = 1
    size = len(wave) + len(room) - 1
    mixed = np.fft.irfft(np.fft.rfft(wave, size) * np.fft.rfft(room, size), size)
    return mixed[: len(wave)].astype(np.float32)


def equalised(wave: Samples, rng: np.random.Generator) -> Samples:
    """Another microphone: a smooth random gain over seven octaves, and a spectral tilt."""
    spectrum = np.fft.rfft(wave)
    # Octaves from 1 kHz; below 60 Hz, the gain is that at 60 Hz.
    octaves = np.log2(np.maximum(np.fft.rfftfreq(len(wave), 1 / SAMPLE_RATE), 60) / 1_000)
    # Drawn at six places from 60 Hz to 8 kHz, with a standard deviation of 6 dB.
    gain = np.interp(octaves, np.linspace(-4, 3, 6), rng.normal(0, 6.0, 6))
    gain += rng.uniform(-3, 3) * octaves
    return np.fft.irfft(spectrum * 10 ** (gain / 20), len(wave)).astype(np.float32)


def compressed(wave: Samples, power: float) -> Samples:
    """Compresses loudness sample by sample: a power of 1 changes nothing, 0.5 much."""
    peak = max(float(np.abs(wave).max()), 1e-9)
    return np.asarray(np.sign(wave) * np.abs(wave / peak) ** power * peak, np.float32)


def with_silence(wave: Samples, rng: np.random.Generator) -> Samples:
    """Silence of up to 2 s before and after, digital or with a faint noise."""
    before, after = (rng.uniform(0, 2.0, 2) * SAMPLE_RATE * (rng.random(2) < 0.6)).astype(int)
    wide = np.pad(wave, (before, after))
    if rng.random() < 0.5:
        faint = float(np.abs(wave).max()) * 10 ** (-rng.uniform(45, 75) / 20)
        wide = wide + faint * rng.standard_normal(len(wide)).astype(np.float32)
    return np.asarray(wide, np.float32)


def band_limited(wave: Samples, low: float, high: float) -> Samples:
    """Keeps the band from `low` to `high` hertz, as a telephone line does."""
    spectrum = np.fft.rfft(wave)
    hertz = np.fft.rfftfreq(len(wave), 1 / SAMPLE_RATE)
    spectrum[(hertz < low) | (hertz > high)] = 0
    return np.fft.irfft(spectrum, len(wave)).astype(np.float32)


def noisy(wave: Samples, snr: float, rng: np.random.Generator) -> Samples:
    """Adds noise, from white over pink to brown, at a signal-to-noise ratio in decibels.

    A silent recording stays silent.
    """
    spectrum = np.fft.rfft(rng.standard_normal(len(wave)))
    # Amplitude over frequency^a: a = 0 is white, 0.5 pink, 1 brown noise.
    spectrum /= np.maximum(1, np.arange(len(spectrum))) ** rng.uniform(0, 1)
    noise = np.fft.irfft(spectrum, len(wave))
    scale = _level(wave) / max(_level(noise), 1e-9) * 10 ** (-snr / 20)
    return np.asarray(wave + noise * scale, np.float32)


def telephone(wave: Samples) -> Samples:
    """A line of 8 kHz: 300 to 3,400 Hz."""
    narrow = soxr.resample(band_limited(wave, 300, 3_400), SAMPLE_RATE, 8_000)
    return np.asarray(soxr.resample(narrow, 8_000, SAMPLE_RATE), np.float32)


def coded(wave: Samples, kind: str, bits: int) -> Samples:
    """Encodes with a lossy codec and decodes again.

    Args:
        wave: [samples] from -1 to 1.
        kind: ``mp3`` or ``opus``.
        bits: bit rate, per second.

    Raises:
        ImportError: the extra ``video`` is not installed.
    """
    import av

    container_kind, codec = {"mp3": ("mp3", "libmp3lame"), "opus": ("ogg", "libopus")}[kind]
    file = io.BytesIO()
    with av.open(file, "w", format=container_kind) as container:
        stream: Any = container.add_stream(codec, rate=SAMPLE_RATE, layout="mono")
        stream.bit_rate = bits
        integers = (np.clip(wave, -1, 1) * 32_767).astype(np.int16)[None]
        frame = av.AudioFrame.from_ndarray(integers, format="s16", layout="mono")
        frame.sample_rate = SAMPLE_RATE
        for packet in (*stream.encode(frame), *stream.encode(None)):
            container.mux(packet)
    file.seek(0)
    resampler = av.AudioResampler("flt", "mono", SAMPLE_RATE)
    frames: list[Any] = []
    with av.open(file, "r") as again:
        for decoded in again.decode(audio=0):
            frames += resampler.resample(decoded)
    frames += resampler.resample(None)
    return np.concatenate([frame.to_ndarray()[0] for frame in frames]).astype(np.float32)


def rebuilt(wave: Samples, rng: np.random.Generator) -> Samples:
    """Speech without its original phase: log-mel in 8 bits, inverted by fast Griffin-Lim (2013).

    The audio of CREMA-D that was rebuilt from spectrograms sounds like this. If some recordings of
    every corpus do, a model cannot tell a corpus, and with it its classes, by that sound.
    """
    n_fft, hop = _REBUILT["n_fft"], _REBUILT["hop"]
    if len(wave) <= n_fft:
        return wave
    window, filters = torch.hann_window(n_fft), mel_filters(_REBUILT["mels"], n_fft)
    bank = torch.from_numpy(filters).float()
    original = torch.stft(torch.from_numpy(wave), n_fft, hop, window=window, return_complex=True)
    mel = 10 * (bank.T @ original.abs().square()).clamp(min=1e-10).log10()
    # 80 dB below the maximum in 255 steps: what an 8-bit image of a spectrogram keeps.
    mel = (((mel - mel.max()).clamp(min=-80) / 80 * 255).round() / 255 * 80) / 10
    # The pseudoinverse of the filter bank gives the least-squares magnitudes.
    inverse = torch.from_numpy(np.linalg.pinv(filters.T)).float()
    magnitude = (inverse @ 10**mel).clamp(min=0).sqrt()
    phase = torch.from_numpy(rng.uniform(0, 2 * np.pi, magnitude.shape)).float()
    spectrum, previous = torch.polar(magnitude, phase), torch.zeros_like(original)
    # Griffin-Lim: project onto consistent spectrograms (istft, stft), then restore the magnitudes.
    for _ in range(_REBUILT["rounds"]):
        sound = torch.istft(spectrum, n_fft, hop, window=window, length=len(wave))
        consistent = torch.stft(sound, n_fft, hop, window=window, return_complex=True)
        # Momentum α = 0.99 (Perraudin et al., 2013) as α / (1 + α): the scale has no effect on the
        # phase.
        faster = consistent - 0.4975 * previous
        previous = consistent
        spectrum = magnitude * faster / faster.abs().clamp(min=1e-9)
    result = torch.istft(spectrum, n_fft, hop, window=window, length=len(wave)).numpy()
    return np.asarray(result * (_level(wave) / max(_level(result), 1e-12)), np.float32)


def _with_peak(wave: Samples) -> Samples:
    return wave * np.float32(_PEAK / max(float(np.abs(wave).max()), 1e-9))


def _level(samples: NDArray[Any]) -> float:
    return float(np.sqrt(np.mean(np.square(samples, dtype=np.float64))))

"""waveform → log-mel spectrogram in numpy, the input of Whisper (Radford et al., 2022)."""

from __future__ import annotations

import numpy as np

from multimodal_ser.common.arrays import Samples, Singles
from multimodal_ser.config.settings import SAMPLE_RATE

N_FFT, HOP, N_MELS = 400, 160, 80
MAX_FRAMES = 3_000  # mel frames in 30 s
LEAST_SAMPLES = N_FFT  # one spectrum
LONGEST_SAMPLES = MAX_FRAMES * HOP  # 30 s, which Whisper hears at a time


def mel_filters(mels: int = N_MELS, n_fft: int = N_FFT) -> np.ndarray:
    """Slaney's mel filter bank for 16 kHz, area-normalised as Whisper's: [n_fft / 2 + 1, mels]."""
    # Slaney's Auditory Toolbox (1998), the default of librosa, whose filters Whisper ships: linear
    # up to 1 kHz, then 27 logarithmic steps for each factor of 6.4.
    freqs = np.linspace(0, SAMPLE_RATE / 2, n_fft // 2 + 1)
    step, knee = 200.0 / 3, 1000.0  # Hz per mel, Hz
    log_step = np.log(6.4) / 27

    def to_mel(hz: float) -> float:
        return hz / step if hz < knee else knee / step + np.log(hz / knee) / log_step

    points = np.linspace(to_mel(0.0), to_mel(SAMPLE_RATE / 2), mels + 2)
    linear = points * step
    edges = np.where(points < knee / step, linear, knee * np.exp(log_step * (points - knee / step)))
    rise = (freqs[:, None] - edges[None, :-2]) / np.diff(edges)[:-1]
    fall = (edges[None, 2:] - freqs[:, None]) / np.diff(edges)[1:]
    # Triangles of equal area: a wide filter would otherwise collect more power than a narrow one.
    return np.maximum(0, np.minimum(rise, fall)) * (2.0 / (edges[2:] - edges[:-2]))


def log_mel(wave: Samples, filters: Singles) -> Singles:
    """Computes `encoders.whisper.log_mel_tensor` without torch: float32 [samples // 160, mels].

    Args:
        wave: at 16 kHz, [samples], more than 200.
        filters: float32 [201, mels], see `mel_filters`.
    """
    padded = np.pad(wave, N_FFT // 2, "reflect")  # torch.stft centres its frames in this way
    frames = np.lib.stride_tricks.sliding_window_view(padded, N_FFT)[::HOP][: len(wave) // HOP]
    window = np.hanning(N_FFT + 1)[:-1].astype(np.float32)  # periodic, as torch.hann_window
    spectrum = np.fft.rfft(frames * window)
    power = (spectrum.real**2 + spectrum.imag**2).astype(np.float32) @ filters
    log_power = np.log10(np.maximum(power, 1e-10))
    return np.asarray((np.maximum(log_power, log_power.max() - 8.0) + 4.0) / 4.0, np.float32)

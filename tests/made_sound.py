"""Tones, files of them, and what it is to be refused."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from multimodal_ser.audio import read_audio
from multimodal_ser.config.settings import SAMPLE_RATE
from multimodal_ser.errors import AudioError


def tone(seconds=1.0, rate=SAMPLE_RATE, hertz=440.0, level=0.5):
    return (level * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(
        "f4"
    )


def pitch(samples, rate=SAMPLE_RATE):
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return spectrum.argmax() * rate / len(samples)


def written(path, samples, rate=SAMPLE_RATE, **how):
    soundfile.write(path, samples, rate, **how)
    return path


def refused(source, *words, **how):
    with pytest.raises(AudioError) as caught:
        read_audio(source, **how)
    message = str(caught.value)
    name = Path(source).name if isinstance(source, str | Path) else "<"
    assert message.startswith(name), message
    for word in words:
        assert word in message, message
    return message

"""A microphone → 16 kHz sound, piece by piece (extra ``live``)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import soxr

from multimodal_ser.common.arrays import Samples
from multimodal_ser.config.settings import SAMPLE_RATE
from multimodal_ser.errors import SerError, import_extra

PIECE = 0.1  # seconds per piece


def microphone(device: str | int | None = None, seconds: float | None = None) -> Iterator[Samples]:
    """Records from a microphone and yields mono float32 [time] at 16 kHz.

    Args:
        device: number or part of the name of an input; None for the system's default.
        seconds: when to stop; None continues until the caller stops reading.

    Raises:
        SerError: the extra is not installed, or there is no such microphone.
    """
    sounddevice = _library()
    try:
        # At the device's own rate, which every driver supports, and resampled here.
        rate = round(sounddevice.query_devices(device, "input")["default_samplerate"])
        resampler = soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32", quality="HQ")
        size, recorded = max(1, round(PIECE * rate)), 0
        with sounddevice.InputStream(rate, size, device, 1, "float32") as stream:
            while seconds is None or recorded < seconds * rate:
                sound, _ = stream.read(size)
                recorded += size
                mono = np.ascontiguousarray(sound[:, 0])
                yield mono if rate == SAMPLE_RATE else resampler.resample_chunk(mono)
    except (sounddevice.PortAudioError, ValueError) as error:
        chosen = "" if device is None else f" {device!r}"
        raise SerError(
            f"microphone{chosen} cannot be opened ({error}); `python -m sounddevice` lists the "
            "inputs of this machine"
        ) from error


def _library() -> Any:
    try:
        return import_extra("sounddevice", "to listen to a microphone", "live")
    except OSError as error:
        raise SerError(
            f"sounddevice is installed, but the PortAudio library is not ({error}); on Debian and "
            "Ubuntu `apt install libportaudio2`"
        ) from error

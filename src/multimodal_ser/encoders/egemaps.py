"""audio → one frame: the 88 functionals of eGeMAPS v02 (Eyben et al., 2016), by openSMILE.

openSMILE's licence (audEERING) allows research, education and private use; commercial use needs a
licence of its own. It is therefore an extra, and nothing else in this project depends on it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from multimodal_ser.config.settings import SAMPLE_RATE
from multimodal_ser.encoders.base import EncoderInfo, checked_waves
from multimodal_ser.encoders.exposure import published
from multimodal_ser.errors import EncoderError, import_extra

_NAME = "egemaps"
_LEAST = 960  # samples: one of openSMILE's 60 ms frames; below that it gives NaN


class Egemaps:
    """eGeMAPS with the interface of `Encoder`: one frame for each recording."""

    def __init__(self, smile: Any, info: EncoderInfo) -> None:
        self.smile, self.info = smile, info

    def __call__(self, items: Sequence[np.ndarray] | Sequence[str]) -> list[np.ndarray]:
        """Encodes 16 kHz waveforms into arrays [1, 88]."""
        waves = checked_waves(_NAME, items, _LEAST)
        return [
            np.asarray(self.smile.process_signal(wave, SAMPLE_RATE), np.float32) for wave in waves
        ]


def load_egemaps(source: str | Path | None = None, device: str = "cpu") -> Egemaps:
    """Loads openSMILE. It has no weights; their hash is that of its version and feature set.

    Args:
        source: must be None.
        device: ignored; openSMILE computes on the CPU.

    Raises:
        EncoderError: opensmile is not installed, or a source was given.
    """
    if source is not None:
        raise EncoderError(f"{_NAME}: source={str(source)!r}; it has no weights, leave source out")
    why = f"{_NAME}: needs opensmile, whose licence is for research, education and private use"
    opensmile = import_extra("opensmile", why, "egemaps", EncoderError)
    features = opensmile.FeatureSet.eGeMAPSv02
    smile = opensmile.Smile(features, opensmile.FeatureLevel.Functionals)
    # Another version may compute other values, and its features count as other features.
    named = f"opensmile {opensmile.__version__} {features.value} functionals"
    info = EncoderInfo(
        name=_NAME,
        modality="audio",
        dim=len(smile.feature_names),
        rate=0.0,
        weights=hashlib.sha256(named.encode()).hexdigest(),
        layers="functionals",
        exposure=published(_NAME).corpora,
        emotion_labels=published(_NAME).emotion_labels,
    )
    return Egemaps(smile, info)

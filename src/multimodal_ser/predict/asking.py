"""Waveforms → what a backend hears of them → its answers, in batches of like lengths."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from multimodal_ser.audio.speech import Speech, Vad, canonical, find_speech
from multimodal_ser.config.settings import SAMPLE_RATE
from multimodal_ser.errors import EncoderError
from multimodal_ser.predict.backend import Answer, Backend, Wave, joined

BATCH = 16
PADDED = 160 * SAMPLE_RATE  # samples of a batch with its padding


class Heard(NamedTuple):
    """What a backend hears of a recording.

    Attributes:
        wave: [samples].
        sure: how certain it is that there is speech, from 0 to 1.
        reason: why there is none, and the backend is not asked; else None.
    """

    wave: Wave
    sure: float = 1.0
    reason: str | None = None


def heard(backend: Backend, wave: Wave, text: str | None, vad: Vad, speech: bool) -> Heard:
    """What a backend hears of a recording, once speech is found.

    Args:
        backend: whose training decides whether it hears the canonical waveform.
        wave: [samples].
        text: its words; a model that reads them answers without any speech.
        vad: how speech is found.
        speech: whether all of it is known to be speech.
    """
    if "audio" not in backend.modalities or (text is not None and "text" in backend.modalities):
        return Heard(wave)
    found = Speech(()) if speech else find_speech(wave, vad)
    if backend.canonical and found.reason is None:
        wave = canonical(wave, found.stretches)
    return Heard(wave, found.sure, found.reason)


def asked(
    backend: Backend,
    waves: Sequence[Wave],
    texts: Sequence[str | None],
    shift: NDArray[np.float32] | None = None,
    batch_size: int = BATCH,
) -> Answer:
    """A backend's answers for any number of waveforms, in their order.

    Raises:
        EncoderError: its probabilities are not finite.
    """
    order: list[int] = []
    answers = []
    for rows in _packs([len(wave) for wave in waves], batch_size):
        order += rows
        answers.append(backend([waves[row] for row in rows], [texts[row] for row in rows], shift))
        if not np.isfinite(answers[-1].probabilities).all():
            raise EncoderError(
                f"{backend.name}: probabilities are not finite; its files are damaged"
            )
    return joined(answers, np.argsort(order))


def _packs(lengths: Sequence[int], most: int) -> Iterator[list[int]]:
    """Rows in order of length, `most` at a time, fewer where their padding would pass PADDED."""
    pack: list[int] = []
    for row in sorted(range(len(lengths)), key=lambda row: lengths[row]):
        if pack and (len(pack) >= most or lengths[row] * (len(pack) + 1) > PADDED):
            yield pack
            pack = []
        pack.append(row)
    if pack:
        yield pack

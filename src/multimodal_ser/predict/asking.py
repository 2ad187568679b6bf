"""Waveforms → the model's input → its predictions, in batches of similar lengths."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from multimodal_ser.audio.speech import Speech, canonical, find_speech
from multimodal_ser.common.arrays import Samples
from multimodal_ser.config.settings import SAMPLE_RATE, Vad
from multimodal_ser.errors import EncoderError
from multimodal_ser.predict.backend import Backend, BatchPrediction, joined_predictions

BATCH = 16  # recordings
PADDED = 160 * SAMPLE_RATE  # samples of a batch at most, with its padding: bounds the memory


class Heard(NamedTuple):
    """A recording as it is given to a backend.

    Attributes:
        wave: [samples].
        sure: how certain it is that there is speech, from 0 to 1.
        reason: why there is no speech, in which case the backend is not called; else None.
    """

    wave: Samples
    sure: float = 1.0
    reason: str | None = None


def heard_of(backend: Backend, wave: Samples, text: str | None, vad: Vad, speech: bool) -> Heard:
    """Finds the speech in a recording and prepares the waveform that a backend is given.

    Args:
        backend: decides whether the waveform is brought to its canonical form.
        wave: [samples].
        text: the words of the recording; a model that reads them needs no speech.
        vad: how speech is found.
        speech: True if the recording is known to be speech; then speech is not searched for.
    """
    if "audio" not in backend.modalities or (text is not None and "text" in backend.modalities):
        return Heard(wave)
    found = Speech(()) if speech else find_speech(wave, vad)
    if backend.canonical and found.reason is None:
        wave = canonical(wave, found.stretches)
    return Heard(wave, found.sure, found.reason)


def asked(
    backend: Backend,
    waves: Sequence[Samples],
    texts: Sequence[str | None],
    shift: NDArray[np.float32] | None = None,
    batch_size: int = BATCH,
) -> BatchPrediction:
    """The predictions of a backend for any number of waveforms, in their order.

    Raises:
        EncoderError: its probabilities are not finite.
    """
    order: list[int] = []
    predictions = []
    for rows in _packs([len(wave) for wave in waves], batch_size):
        order += rows
        predictions.append(
            backend([waves[row] for row in rows], [texts[row] for row in rows], shift)
        )
        if not np.isfinite(predictions[-1].probabilities).all():
            raise EncoderError(
                f"{backend.name}: probabilities are not finite; its files are damaged"
            )
    return joined_predictions(predictions, np.argsort(order))  # argsort inverts the permutation


def with_distances(
    backend: Backend,
    waves: Sequence[Samples],
    texts: Sequence[str | None],
    shift: NDArray[np.float32] | None,
    batch_size: int,
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32], float | None]]:
    """Yields of each recording its probabilities [C], embedding [D] and distance, see `asked`."""
    if not waves:
        return
    prediction = asked(backend, waves, texts, shift, batch_size)
    far: Sequence[float | None] = [None] * len(waves)
    # A linear probe's vectors are scaled to a mean square of 1 over its training data, so that
    # their mean square is a distance (`Probe.distance`).
    if backend.canonical and prediction.vectors is not None:
        moved = prediction.vectors if shift is None else prediction.vectors - shift
        far = np.square(moved).mean(1).tolist()
    yield from zip(prediction.probabilities, prediction.embeddings, far, strict=True)


def _packs(lengths: Sequence[int], most: int) -> Iterator[list[int]]:
    """Rows sorted by length in batches of `most`, or fewer if padded they would exceed PADDED."""
    pack: list[int] = []
    for row in sorted(range(len(lengths)), key=lambda row: lengths[row]):
        # Sorted by length, the present recording is the longest: its length times their number is
        # what the padded batch takes.
        if pack and (len(pack) >= most or lengths[row] * (len(pack) + 1) > PADDED):
            yield pack
            pack = []
        pack.append(row)
    if pack:
        yield pack

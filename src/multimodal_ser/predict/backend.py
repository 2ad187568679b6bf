"""The models behind a Predictor: waveforms and words → probabilities, embeddings.

The interface, and how any model is asked: with the speech of a recording alone, in batches of
similar lengths, in windows where a recording is long.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from multimodal_ser.audio.speech import Speech, canonical, find_speech
from multimodal_ser.common.arrays import Ints, Samples, Singles
from multimodal_ser.common.files import written_aside
from multimodal_ser.config.settings import SAMPLE_RATE, Vad
from multimodal_ser.encoders.base import between_passes, packed, window_shares, windows
from multimodal_ser.errors import EncoderError, SerError, counted
from multimodal_ser.predict.prediction import AlsoPredicted

Vector: TypeAlias = Singles
PredictedRow: TypeAlias = "tuple[Vector, Vector, float | None]"
"""Probabilities [C], embedding [D] and distance of a recording."""
WeightPaths: TypeAlias = "str | Path | Mapping[str, str | Path] | None"
_Float = TypeVar("_Float", np.float32, np.float64)
BATCH = 16  # recordings
# Samples of canonical speech that are predicted at a time. Linear probes learn from recordings of
# two to four seconds, and their encoder's vectors drift with the position in a recording: in one
# piece of ten seconds, most predictions are wrong (`tests/test_starter.py`).
LEARNT = 4 * SAMPLE_RATE
PADDED = 160 * SAMPLE_RATE  # samples of a batch at most, with its padding: bounds the memory
PIECES = 4  # windows of long recordings in one batch: a batch of 30 s windows takes much memory


class BatchPrediction(NamedTuple):
    """The predictions of a model for a batch.

    Attributes:
        probabilities: [N, C] float32; for attributes, their values between 0 and 1. A model of
            both has the classes first.
        embeddings: [N, D] float32.
        vectors: input of the model's head before a channel's shift is subtracted, [N, V] float32;
            None for models that cannot be adapted to a channel.
    """

    probabilities: Singles
    embeddings: Singles
    vectors: Singles | None = None


class Backend(Protocol):
    """A model that a Predictor can use; backends derive from it and set what differs.

    Attributes:
        name: name of the model, as shown to users.
        labels: class names in order.
        threshold: confidence below which a prediction is ``uncertain``.
        card: the model card, in Markdown.
        modalities: what it reads: ``audio``, ``text``, or both.
        canonical: whether it was trained on canonical waveforms, see `multimodal_ser.audio.speech`.
        references: mean input of the head in training [N, V], for each class or over all classes;
            None if the model cannot be adapted to a channel.
        shares: assumed frequencies of the classes [C]; None for those of the training.
        scale: of the attributes that the model predicts; None if it predicts classes.
        also: the attributes that a model of classes predicts, too; else None.
    """

    name: str
    labels: tuple[str, ...]
    card: str
    threshold: float = 0.0
    modalities: tuple[str, ...] = ("audio",)
    canonical: bool = False
    references: Vector | None = None
    shares: Vector | None = None
    scale: tuple[float, float] | None = None
    also: AlsoPredicted | None = None

    def __call__(
        self, waves: Sequence[Samples], texts: Sequence[str | None], shift: Vector | None = None
    ) -> BatchPrediction:
        """Predicts a batch; an item's result does not depend on the others in the batch.

        Args:
            waves: waveforms, each [samples] at 16 kHz.
            texts: the words of each recording, or None.
            shift: subtracted from the input of the head [V]; only for models that can be adapted.
        """
        ...

    def cuts(self, text: str) -> bool:
        """Whether the model reads only the beginning of these words."""
        return False

    def save(self, folder: Path) -> dict[str, object]:
        """Writes model.safetensors into a folder; returns the content of config.json.

        Raises:
            SerError: this kind of model cannot be saved.
        """
        ...


def weights_place(weights: WeightPaths, encoder: str) -> str | Path | None:
    """Where the weights of an encoder are; None for the installed offline package."""
    return weights.get(encoder) if isinstance(weights, Mapping) else weights


def copied_model(file: Path, folder: Path) -> dict[str, object]:
    """Copies the file of a fine-tuned model into a folder; returns what `Backend.save` does."""
    with written_aside(folder / "model.safetensors") as partial:
        shutil.copyfile(file, partial)
    return {"kind": "tuned"}


def check_words(name: str, modalities: Sequence[str], texts: Sequence[str | None]) -> None:
    """Raises SerError if a model that reads only words is given a recording without words."""
    if modalities == ("text",) and None in texts:
        raise SerError(f"{name} reads only text, and a recording has none; give its words")


def missing_words(model: Any, missing: int, total: int, how: str) -> str | None:
    """What a user is told if a model of sound and words was given no words; None if it was.

    Args:
        model: the model; those that read one modality have nothing missing.
        missing: number of predictions without words.
        total: number of all predictions.
        how: how words are given there.
    """
    if not missing or len(getattr(model, "modalities", ())) < 2:
        return None
    some = "" if missing == total else f"{counted(missing, 'recording')} of {total} "
    return f"{some}predicted from sound alone, although {model.name} also reads words; {how}"


def cut_words(model: Any, texts: Sequence[str | None]) -> str | None:
    """What a user is told if a model reads only the beginning of the words; None if it reads all.

    Args:
        model: the predictor.
        texts: the words of each recording, or None.
    """
    backend = getattr(model, "backend", None)
    cut = sum(text is not None and backend.cuts(text) for text in texts) if backend else 0
    if not cut:
        return None
    return (
        f"the last words of {counted(cut, 'recording')} were not read: {model.name} reads no more "
        "at a time; give parts of a recording with their words"
    )


def softmax(logits: NDArray[_Float], values: int = 0) -> NDArray[_Float]:
    """Logits [N, C] → probabilities [N, C]; the last `values` columns stay as they are."""
    if values == logits.shape[1]:
        return logits
    own = logits[:, : logits.shape[1] - values]
    shares = np.exp(own - own.max(1, keepdims=True))  # minus the maximum: exp cannot overflow
    probabilities: NDArray[_Float] = shares / shares.sum(1, keepdims=True)
    return np.hstack([probabilities, logits[:, own.shape[1] :]]) if values else probabilities


def predict_windows(
    waves: Sequence[Samples],
    most: int,
    step: int,
    ask: Callable[[Sequence[Samples]], BatchPrediction],
) -> BatchPrediction:
    """Predicts recordings of any length: the mean over equal windows of at most `most` samples.

    Args:
        waves: each [samples].
        most: longest input of the network, in samples; a multiple of `step`.
        step: windows begin at multiples of it, in samples.
        ask: predicts a batch of waveforms of at most `most` samples.
    """
    pieces = [
        (row, cut) for row, wave in enumerate(waves) for cut in windows(len(wave), most, step)
    ]
    pieces.sort(key=lambda piece: piece[1].stop - piece[1].start)  # like lengths: little padding
    size = max(len(waves), PIECES)
    predictions = []
    for start in range(0, len(pieces), size):
        if start:
            between_passes.get()()  # a server lets other requests take their turn here
        predictions.append(ask([waves[row][cut] for row, cut in pieces[start : start + size]]))
    if len(pieces) == len(waves) and [row for row, _ in pieces] == list(range(len(waves))):
        return predictions[0]
    share = window_shares([len(wave) for wave in waves], pieces)
    whole = joined_predictions(predictions)
    return BatchPrediction(*(None if part is None else share @ part for part in whole))  # type: ignore[arg-type]


def joined_predictions(
    predictions: Sequence[BatchPrediction], order: Ints | slice = slice(None)
) -> BatchPrediction:
    """Several batches as one, with its rows brought into `order`."""
    probabilities, embeddings, vectors = zip(*predictions, strict=True)
    return BatchPrediction(
        np.concatenate(probabilities)[order],
        np.concatenate(embeddings)[order],
        None if vectors[0] is None else np.concatenate(vectors)[order],
    )


class SpeechInput(NamedTuple):
    """A recording as it is given to a backend.

    Attributes:
        wave: [samples].
        sure: how certain it is that there is speech, from 0 to 1.
        reason: why there is no speech, in which case the backend is not called; else None.
    """

    wave: Samples
    sure: float = 1.0
    reason: str | None = None


def speech_input(
    backend: Backend, wave: Samples, text: str | None, vad: Vad, speech: bool
) -> SpeechInput:
    """Finds the speech in a recording and prepares the waveform that a backend is given.

    Args:
        backend: decides whether the waveform is brought to its canonical form.
        wave: [samples].
        text: the words of the recording; a model that reads them needs no speech.
        vad: how speech is found.
        speech: True if the recording is known to be speech; then speech is not searched for.
    """
    if "audio" not in backend.modalities or (text is not None and "text" in backend.modalities):
        return SpeechInput(wave)
    found = Speech(()) if speech else find_speech(wave, vad)
    if backend.canonical and found.reason is None:
        wave = canonical(wave, found.stretches)
    return SpeechInput(wave, found.sure if found.reason is None else 0.0, found.reason)


def checked_batch(size: object) -> None:
    """Raises SerError unless it is a number of recordings for a batch."""
    if not isinstance(size, int | np.integer) or size < 1:
        raise SerError(f"batch_size={size!r}; allowed: whole numbers from 1, such as {BATCH}")


def predict_batches(
    backend: Backend,
    waves: Sequence[Samples],
    texts: Sequence[str | None],
    shift: Vector | None = None,
    batch_size: int = BATCH,
) -> BatchPrediction:
    """The predictions of a backend for any number of waveforms, in their order.

    Raises:
        EncoderError: its probabilities are not finite.
    """
    checked_batch(batch_size)
    order: list[int] = []
    predictions = []
    lengths = [len(wave) for wave in waves]

    def full(pack: list[int], row: int) -> bool:
        # Sorted by length, the next recording is the longest: its length times their number is what
        # the padded batch takes.
        return len(pack) >= batch_size or lengths[row] * (len(pack) + 1) > PADDED

    for rows in packed(sorted(range(len(waves)), key=lambda row: lengths[row]), full):
        if order:
            between_passes.get()()  # a server lets other requests take their turn here
        order += rows
        predictions.append(
            backend([waves[row] for row in rows], [texts[row] for row in rows], shift)
        )
        if not np.isfinite(predictions[-1].probabilities).all():
            raise EncoderError(
                f"{backend.name}: probabilities are not finite; its files are damaged"
            )
    return joined_predictions(predictions, np.argsort(order))  # argsort inverts the permutation


def predict_rows(
    backend: Backend,
    waves: Sequence[Samples],
    texts: Sequence[str | None],
    shift: Vector | None,
    batch_size: int,
) -> Iterator[PredictedRow]:
    """Yields the prediction of each recording."""
    if not waves:
        return
    prediction = predict_batches(backend, waves, texts, shift, batch_size)
    far: Sequence[float | None] = [None] * len(waves)
    # A linear probe's vectors are scaled to a mean square of 1 over its training data, so that
    # their mean square is a distance (`Probe.distance`).
    if backend.canonical and prediction.vectors is not None:
        moved = prediction.vectors if shift is None else prediction.vectors - shift
        far = np.square(moved).mean(1).tolist()
    yield from zip(prediction.probabilities, prediction.embeddings, far, strict=True)

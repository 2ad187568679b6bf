"""recordings (and words) → Predictions, in batches, with any kind of model (`Backend`).

A recording that cannot be read gets its error as its result; the others are predicted.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from copy import copy
from dataclasses import replace
from itertools import repeat
from pathlib import Path
from typing import Any, overload

import numpy as np

from multimodal_ser.common.arrays import Samples
from multimodal_ser.config.settings import SAMPLE_RATE, Vad
from multimodal_ser.encoders.base import checked_waves
from multimodal_ser.encoders.mel import LEAST_SAMPLES
from multimodal_ser.errors import SerError
from multimodal_ser.predict import hub
from multimodal_ser.predict.backend import (
    BATCH,
    Backend,
    PredictedRow,
    SpeechInput,
    checked_batch,
    cut_words,
    missing_words,
    predict_rows,
    speech_input,
)
from multimodal_ser.predict.channel import Channel, channel_for, estimated_channel
from multimodal_ser.predict.inputs import (
    Recording,
    WrappedRecording,
    as_list,
    given_texts,
    path_of,
    read_recording,
)
from multimodal_ser.predict.prediction import (
    Prediction,
    Predictions,
    discounted,
    flat_record,
    with_attributes,
)

_log = logging.getLogger(__name__)
_HOW_WORDS = "a Predictor takes them as text=, and its stream as texts="
DECODED = 300 * SAMPLE_RATE  # samples decoded ahead of prediction at most: 19 MB as float32


def removed_count(channel: Channel | None) -> int | None:
    """From how many recordings a channel was estimated; None if it is none or changes nothing."""
    return None if channel is None or not channel.shift.any() else channel.count


def _with_source(
    one: Prediction | SerError, about: tuple[str | None, list[str]]
) -> Prediction | SerError:
    """The prediction, or error, with the path and the warnings of its recording."""
    file, warnings = about
    if isinstance(one, SerError):
        one.file = file
        return one
    return replace(one, file=file, warnings=tuple(warnings))


class Predictor:
    """A model ready to predict; `load` makes it.

    Attributes:
        name: name of the model.
        labels: class names in order.
        threshold: confidence below which a prediction is ``uncertain``; can be set.
        card: the model card, in Markdown.
        modalities: what the model reads: ``audio``, ``text``, or both.
        vad: how speech is found; recordings without speech have no emotion. ``auto``, ``silero``,
            ``energy``, or ``none`` to take everything as speech; can be set.
        channel: the channel that is removed from every recording, see `adapted`; None for none.
        adaptable: whether a channel can be removed.
        scale: of the attributes that it predicts; None for a model of classes.
        also: the attributes that a model of classes predicts, too; else None.
    """

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.name, self.labels, self.card = backend.name, backend.labels, backend.card
        self.threshold, self.modalities = backend.threshold, backend.modalities
        self.vad: Vad = "auto"
        self.channel: Channel | None = None
        self.adaptable = backend.references is not None
        self.scale, self.also = backend.scale, backend.also

    def __repr__(self) -> str:
        return f"<Predictor {self.name}: {', '.join(self.labels)}>"

    @property
    def threshold(self) -> float:
        """The confidence below which a prediction is ``uncertain``, from 0 to 1."""
        return self._threshold

    @threshold.setter
    def threshold(self, share: float) -> None:
        if not (isinstance(share, int | float | np.number) and 0 <= share <= 1):
            raise SerError(f"threshold={share!r}; allowed: a confidence from 0 to 1, such as 0.8")
        self._threshold = float(share)

    @overload
    def __call__(
        self,
        source: WrappedRecording,
        text: str | None = None,
        *,
        batch_size: int = BATCH,
        sample_rate: int | None = None,
    ) -> Prediction: ...

    @overload
    def __call__(
        self,
        source: list[Any],
        text: Sequence[str | None] | None = None,
        *,
        batch_size: int = BATCH,
        sample_rate: int | None = None,
    ) -> Predictions: ...

    def __call__(
        self,
        source: WrappedRecording | Iterable[WrappedRecording],
        text: str | Sequence[str | None] | None = None,
        *,
        batch_size: int = BATCH,
        sample_rate: int | None = None,
    ) -> Prediction | Predictions:
        """Predicts the emotion of one recording, or of each of a list.

        Args:
            source: path, bytes, binary file object, (array, rate in Hz), or a recording of
                `datasets`, ``{"array", "sampling_rate"}``; or a list or generator of them, or a
                column of paths or of a dataset.
            text: the words of the recording, or for a list of recordings a list of words or None.
                They are kept in the prediction; `modalities` shows whether the model reads them.
            batch_size: largest number of recordings in a batch.
            sample_rate: rate in Hz of arrays that are given without one.

        Returns:
            A prediction, or a list in the order of the sources. If one of a list cannot be
            predicted, its error takes its place and is logged.

        Raises:
            SerError: the one recording cannot be read or is too short.
        """
        several = as_list(source)
        if several is None:
            if not (text is None or isinstance(text, str)):
                raise SerError(f"text is {type(text).__name__}; one recording takes a string")
            (one,) = self.stream([source], [text], sample_rate=sample_rate)  # type: ignore[list-item]
            if isinstance(one, SerError):
                raise one
            return one
        nothing = SpeechInput(np.zeros(0, np.float32))
        columns = flat_record(self._prediction(nothing.wave, None, nothing, None))
        found = Predictions(
            self.stream(several, text, batch_size=batch_size, sample_rate=sample_rate), [*columns]
        )
        for number, prediction in enumerate(found, 1):
            if isinstance(prediction, SerError):
                _log.warning("recording %d of %d: %s", number, len(found), prediction)
        return found

    def stream(
        self,
        sources: Iterable[WrappedRecording],
        texts: Sequence[str | None] | None = None,
        *,
        batch_size: int = BATCH,
        sample_rate: int | None = None,
    ) -> Iterator[Prediction | SerError]:
        """Predicts in batches while it reads; yields one result per source, in order.

        Args:
            sources: recordings as in `__call__`; a generator is consumed little by little.
            texts: the words of each recording, or None.
            batch_size: largest number of recordings in a batch.
            sample_rate: in Hz, as in `__call__`.

        Yields:
            The prediction, or the error of a recording that cannot be predicted. At the end it is
            logged if a model of sound and words lacked words.
        """
        missing = total = 0
        try:
            for one in self.outcomes(sources, texts, batch_size, sample_rate):
                total += 1
                missing += isinstance(one, Prediction) and one.wordless
                yield one
        finally:  # also where the caller stops before the end
            if note := missing_words(self, missing, total, _HOW_WORDS):
                _log.warning(note)

    def outcomes(
        self,
        sources: Iterable[WrappedRecording],
        texts: Sequence[str | None] | None = None,
        batch_size: int = BATCH,
        sample_rate: int | None = None,
    ) -> Iterator[Prediction | SerError]:
        """Like `stream`, for callers that say if words are missing; sample_rate in Hz."""
        checked_batch(batch_size)
        given: Iterable[str | None] = repeat(None)
        if texts is not None:
            sources = list(sources)
            given = given_texts(texts, len(sources))
        waiting: list[tuple[Samples | SerError, str | None]] = []
        about: list[tuple[str | None, list[str]]] = []  # the path and the warnings of each
        samples = 0
        for source, text in zip(sources, given, strict=False):
            warnings: list[str] = []
            wave = read_recording(source, sample_rate, warnings)
            samples += 0 if isinstance(wave, SerError) else len(wave)
            waiting.append((wave, text))
            about.append((path_of(source), warnings))
            # Several batches at once, so that recordings of like lengths can share a batch.
            if len(waiting) >= 4 * batch_size or samples > DECODED:
                yield from map(_with_source, self._predictions(waiting, batch_size), about)
                waiting, about, samples = [], [], 0
        yield from map(_with_source, self._predictions(waiting, batch_size), about)

    def waves(
        self,
        waves: Sequence[Samples],
        texts: Sequence[str | None] | None = None,
        *,
        batch_size: int = BATCH,
        speech: bool = False,
    ) -> list[Prediction]:
        """Predicts the emotion of waveforms; each result is independent of the others.

        Args:
            waves: mono float32 [samples] at 16 kHz, 25 ms or longer.
            texts: the words of each waveform, or None.
            batch_size: largest number of waveforms in a batch.
            speech: True if the waveforms are known to be speech; then speech is not searched for.

        Raises:
            SerError: an item is not such a waveform; the message says which.
        """
        words = given_texts(texts, len(waves))
        checked = checked_waves(self.name, waves, LEAST_SAMPLES)
        given = [
            speech_input(self.backend, wave, text, self.vad, speech)
            for wave, text in zip(checked, words, strict=True)
        ]
        # The network only gets recordings with speech; the others are uniform, with their reason.
        spoken = [row for row, item in enumerate(given) if item.reason is None]
        predicted = predict_rows(
            self.backend,
            [given[row].wave for row in spoken],
            [words[row] for row in spoken],
            None if self.channel is None else self.channel.shift,
            batch_size,
        )
        return [
            self._prediction(wave, text, item, next(predicted) if item.reason is None else None)
            for wave, text, item in zip(checked, words, given, strict=True)
        ]

    def _prediction(
        self, wave: Samples, text: str | None, item: SpeechInput, row: PredictedRow | None
    ) -> Prediction:
        cut = len(self.labels)
        even = np.ones(cut + (len(self.also.labels) if self.also else 0), np.float32)
        shares, embedding, distance = row or (even, np.zeros(0, np.float32), None)
        one = Prediction(
            self.labels,
            discounted(shares[:cut], item.sure) if self.scale is None else shares,
            embedding,
            0.0,
            len(wave) / SAMPLE_RATE,
            self.threshold,
            text,
            reason=item.reason,
            adapted=removed_count(self.channel),
            distance=distance,
            scale=self.scale,
        )
        return with_attributes(one, shares[cut:], self.also)

    def adapted(self, recordings: str | Path | Sequence[Recording] | Channel) -> Predictor:
        """Adapts the model to one channel: a telephone line, a microphone, a room, or a speaker.

        What the recordings have in common is removed, so that it is not mistaken for an emotion.
        No labels are needed. The recordings should mix emotions; ten help a little, and a hundred
        are enough.

        Args:
            recordings: a list of unlabelled recordings as in `__call__`, a folder of them, or a
                saved channel.

        Returns:
            A predictor that shares this one's network; its `channel` can be saved.

        Raises:
            SerError: the model cannot be adapted, no recording has speech, or one cannot be read.
        """
        # A shallow copy: both predictors share the network, and only the channel differs.
        made = copy(self)
        made.channel = channel_for(self.backend, recordings, self.vad)
        return made

    def channel_of(self, waves: Sequence[Samples], *, speech: bool = False) -> Channel:
        """Estimates the channel of waveforms [samples]; of more than 128 it uses 128.

        Raises:
            NoSpeechError: none of them has speech.
            SerError: the model cannot be adapted.
        """
        return estimated_channel(self.backend, waves, self.vad, speech=speech)

    def save(self, folder: str | Path) -> Path:
        """Writes model.safetensors, config.json and the card as README.md; `load` reads them.

        Of a run with fine-tuned encoders, also what they have learnt: encoder-audio.safetensors.

        Raises:
            SerError: this kind of model cannot be saved (an ONNX file, emotion2vec), or it is
                adapted to a channel, which is saved by itself.
        """
        return hub.save(self, Path(folder))

    def push(self, repo_id: str, *, private: bool = False) -> str:
        """Uploads what `save` writes to the Hugging Face hub; returns the page's address.

        Args:
            repo_id: such as ``owner/name``; created if it does not exist.
            private: whether a repository that is created is private.

        Raises:
            SerError: this kind of model cannot be saved, or the hub refuses the upload.
        """
        return hub.push(self, repo_id, private=private)

    def _predictions(
        self, items: Sequence[tuple[Samples | SerError, str | None]], batch_size: int
    ) -> Iterator[Prediction | SerError]:
        usable = [(wave, text) for wave, text in items if not isinstance(wave, SerError)]
        if note := cut_words(self, [text for _, text in usable]):
            _log.warning(note)
        predictions = iter(self._each(usable, batch_size))
        for wave, _ in items:
            yield wave if isinstance(wave, SerError) else next(predictions)

    def _each(
        self, items: Sequence[tuple[Samples, str | None]], batch_size: int
    ) -> list[Prediction | SerError]:
        """Predicts a batch, and item by item if that fails, so that only the faulty ones fail."""
        try:
            waves, texts = [wave for wave, _ in items], [text for _, text in items]
            return list(self.waves(waves, texts, batch_size=batch_size))
        except SerError as error:
            if len(items) == 1:
                return [error]
            return [self._each([item], 1)[0] for item in items]

"""recordings (and words) → Predictions, in batches, by whatever model stands behind.

A recording that fails is kept apart with its error; the others are answered.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias, overload

import numpy as np
from numpy.typing import NDArray

from multimodal_ser.audio import SAMPLE_RATE, Source, read_audio
from multimodal_ser.encoders.base import checked_waves
from multimodal_ser.errors import AudioError, EncoderError, SerError
from multimodal_ser.predict.backend import Backend, Wave
from multimodal_ser.predict.prediction import Prediction

log = logging.getLogger(__name__)

Recording: TypeAlias = "Source | tuple[NDArray[Any], int]"
LEAST = 400  # samples: one spectrum
LONG = 30.0  # seconds beyond which one answer says little
BATCH = 16
PADDED = 160 * SAMPLE_RATE  # samples of a batch with its padding
DECODED = 300 * SAMPLE_RATE  # samples that wait to be answered


class Predictor:
    """A model ready to answer; see `load`.

    Attributes:
        name: what people call the model.
        labels: class names in order.
        threshold: the confidence below which a prediction is ``uncertain``; may be set.
        card: what a user must know of the model, in Markdown.
        sides: what the model reads: ``audio``, ``text``, or both.
    """

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.name, self.labels, self.card = backend.name, backend.labels, backend.card
        self.threshold, self.sides = backend.threshold, backend.sides

    @overload
    def __call__(
        self, source: Recording, text: str | None = None, *, batch_size: int = BATCH
    ) -> Prediction: ...

    @overload
    def __call__(
        self,
        source: list[Any],
        text: Sequence[str | None] | None = None,
        *,
        batch_size: int = BATCH,
    ) -> list[Prediction]: ...

    def __call__(
        self,
        source: Recording | Sequence[Recording],
        text: str | Sequence[str | None] | None = None,
        *,
        batch_size: int = BATCH,
    ) -> Prediction | list[Prediction]:
        """Predicts the emotion of one recording, or of each of a list.

        Args:
            source: path, bytes, binary file object, or (array, rate in Hz); or a list of them.
            text: the words, or for a list of recordings a list of words or None. They are kept
                in the prediction; whether the model reads them stands in `sides`.
            batch_size: recordings that pass the network at a time, at most.

        Returns:
            A prediction, or a list of them in the sources' order.

        Raises:
            SerError: a recording cannot be read or is too short; `stream` keeps failures apart.
        """
        if many(source):
            if isinstance(text, str):
                raise SerError(f"one text for {len(source)} recordings; give a list of as many")  # type: ignore[arg-type]
            return list(map(_or_raise, self.stream(source, text, batch_size=batch_size)))  # type: ignore[arg-type]
        if not (text is None or isinstance(text, str)):
            raise SerError(f"text is {type(text).__name__}; allowed for one recording: a string")
        return _or_raise(next(self.stream([source], [text])))  # type: ignore[list-item]

    def stream(
        self,
        sources: Sequence[Recording],
        texts: Sequence[str | None] | None = None,
        *,
        batch_size: int = BATCH,
    ) -> Iterator[Prediction | SerError]:
        """Predicts in batches as it reads; one answer a source, in order.

        Args:
            sources: recordings as in `__call__`.
            texts: as many words, or None.
            batch_size: recordings that pass the network at a time, at most.

        Yields:
            The prediction, or the error of a recording that cannot be answered.
        """
        given = _texts(texts, len(sources))
        waiting: list[tuple[Wave | SerError, str | None]] = []
        samples = 0
        for source, text in zip(sources, given, strict=True):
            wave = _read(source)
            samples += 0 if isinstance(wave, SerError) else len(wave)
            waiting.append((wave, text))
            if len(waiting) >= 4 * batch_size or samples > DECODED:
                yield from self._answers(waiting, batch_size)
                waiting, samples = [], 0
        yield from self._answers(waiting, batch_size)

    def waves(
        self,
        waves: Sequence[Wave],
        texts: Sequence[str | None] | None = None,
        *,
        batch_size: int = BATCH,
    ) -> list[Prediction]:
        """Predicts the emotion of waveforms, each as if it were alone.

        Args:
            waves: mono float32 [samples] at 16 kHz, 25 ms or longer.
            texts: as many words, or None.
            batch_size: waveforms that pass the network at a time, at most.

        Raises:
            SerError: an item is no such waveform; the message says which.
        """
        words = _texts(texts, len(waves))
        checked = checked_waves(self.name, waves, LEAST)
        found: list[Prediction | None] = [None] * len(checked)
        for rows in _packs([len(wave) for wave in checked], batch_size):
            answer = self.backend([checked[row] for row in rows], [words[row] for row in rows])
            if not np.isfinite(answer.probabilities).all():
                raise EncoderError(
                    f"{self.name}: probabilities are not finite; its files are damaged"
                )
            for row, shares, vector in zip(rows, *answer, strict=True):
                end = len(checked[row]) / SAMPLE_RATE
                found[row] = Prediction(
                    self.labels, shares, vector, 0.0, end, self.threshold, words[row]
                )
        return [item for item in found if item is not None]

    def save(self, folder: str | Path) -> Path:
        """Writes model.safetensors, config.json and the card as README.md; `load` reads them.

        Raises:
            SerError: this kind of model is not saved (an ONNX file, emotion2vec).
        """
        from multimodal_ser.predict.hub import save

        return save(self, Path(folder))

    def push(self, repo_id: str, *, private: bool = False) -> str:
        """Uploads what `save` writes to the Hugging Face hub; returns the page's address.

        Args:
            repo_id: such as ``owner/name``; made where it does not exist.
            private: for a repository that is made.

        Raises:
            SerError: not saved, or the hub refuses.
        """
        from multimodal_ser.predict.hub import push

        return push(self, repo_id, private=private)

    def _answers(
        self, items: Sequence[tuple[Wave | SerError, str | None]], batch_size: int
    ) -> Iterator[Prediction | SerError]:
        usable = [(wave, text) for wave, text in items if not isinstance(wave, SerError)]
        answers = iter(self._each(usable, batch_size))
        for wave, _ in items:
            yield wave if isinstance(wave, SerError) else next(answers)

    def _each(
        self, items: Sequence[tuple[Wave, str | None]], batch_size: int
    ) -> list[Prediction | SerError]:
        """Where a batch fails, only the culprit does."""
        try:
            waves, texts = [wave for wave, _ in items], [text for _, text in items]
            return list(self.waves(waves, texts, batch_size=batch_size))
        except SerError as error:
            if len(items) == 1:
                return [error]
            return [self._each([item], 1)[0] for item in items]


def many(source: object) -> bool:
    """Whether a source is a list of recordings instead of one: (array, rate) is one."""
    if isinstance(source, tuple) and len(source) == 2 and hasattr(source[0], "__array__"):
        return not isinstance(source[1], int | float | np.number)
    return isinstance(source, list | tuple)


def _read(source: Recording) -> Wave | SerError:
    try:
        if isinstance(source, tuple):
            wave = read_audio(source[0], sample_rate=source[1])
        elif hasattr(source, "__array__"):
            raise AudioError("<array>: an array does not know its rate; give (array, rate in Hz)")
        else:
            wave = read_audio(source)
    except SerError as error:
        return error
    except OSError as error:
        name = source if isinstance(source, str | Path) else "<stream>"
        return AudioError(f"{name}: cannot be read ({error})")
    seconds = len(wave) / SAMPLE_RATE
    if seconds > LONG:
        log.warning(
            "%s: one answer for %.0f s; `ser analyze` gives its emotions over time",
            source if isinstance(source, str | Path) else "a recording", seconds,
        )  # fmt: skip
    return wave


def _texts(texts: Sequence[str | None] | None, count: int) -> list[str | None]:
    """As many texts as recordings; blank ones are None."""
    if isinstance(texts, str):
        raise SerError(f"one text for {count} recordings; give a list of as many")
    given = [None] * count if texts is None else list(texts)
    if len(given) != count:
        raise SerError(f"{len(given)} texts for {count} recordings; give as many, or None")
    if odd := [text for text in given if not (text is None or isinstance(text, str))]:
        raise SerError(f"a text is {type(odd[0]).__name__}; allowed: strings and None")
    return [text if text and text.strip() else None for text in given]


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


def _or_raise(answer: Prediction | SerError) -> Prediction:
    if isinstance(answer, SerError):
        raise answer
    return answer

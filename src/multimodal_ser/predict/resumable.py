"""Very many recordings → their predictions in order, chunk by chunk; a rerun resumes.

The predictions of each chunk are written to a journal at once, one line per chunk. Memory therefore
does not grow with the number of recordings, and a rerun resumes an interrupted run. The division
into chunks does not depend on what was finished before: the composition of a batch changes the last
bits of its predictions, and a resumed run must give the same bytes.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from multimodal_ser.audio.sources import content
from multimodal_ser.common.cluster import run_on_ray
from multimodal_ser.common.files import Journal, file_state
from multimodal_ser.errors import SerError
from multimodal_ser.predict.inputs import Recording
from multimodal_ser.predict.prediction import AlsoPredicted, Prediction, with_attributes
from multimodal_ser.predict.predictor import Predictor
from multimodal_ser.predict.sources import STDIN, StandardInput

Outcome: TypeAlias = "Prediction | SerError"
CHUNK = 64  # recordings that are decoded and predicted at a time, at most
_LARGE = 10_000_000  # bytes of their files that end a chunk: long recordings are stored one by one


class Recognised(NamedTuple):
    """The words of a recording.

    Attributes:
        text: the words; None if nothing was recognised.
        language: their language.
        doubt: why they may be wrong; None without a reason for doubt.
    """

    text: str | None = None
    language: str | None = None
    doubt: str | None = None


@dataclass(frozen=True)
class ChunkSettings:
    """How every chunk is predicted.

    Attributes:
        predictor: from `load`.
        words: recognises the words of a recording; None if words are given or not needed.
        described: further settings that identify the journal's predictions.
    """

    predictor: Predictor
    words: Callable[[Recording], Recognised] | None = None
    described: str = ""


class RecordingChunk(NamedTuple):
    """A chunk of recordings: names, sources to read them from, and words (None if not given)."""

    number: int
    names: Sequence[str]
    sources: Sequence[Recording]
    texts: Sequence[str | None]


class PredictedChunk(NamedTuple):
    """The predictions of a chunk, without embeddings, and notes for the user."""

    number: int
    outcomes: list[Outcome]
    notes: list[str]


def identity(predictor: Any, *settings: object) -> str:
    """Identifies model and settings: it differs for other models, channels or versions."""
    channel = predictor.channel
    parts = (
        version("multimodal-ser"), *settings, predictor.name, predictor.labels, predictor.threshold,
        getattr(predictor, "card", ""), channel and channel.shift.tobytes(),
    )  # fmt: skip
    found = hashlib.sha256(repr(parts).encode())
    # Models that were trained or exported in different ways may have the same name and card.
    for file in _model_files(getattr(predictor, "backend", None)):
        with content(file) as view:
            found.update(view)
    return found.hexdigest()[:16]


def _model_files(backend: Any) -> list[Path]:
    """The weights of a model that lies in a file or folder of its own."""
    if folder := getattr(backend, "folder", None):
        return sorted(Path(folder).glob("*.safetensors"))
    file = getattr(backend, "file", None)
    return [] if file is None else [Path(file)]


def recording_chunks(
    found: Sequence[str], texts: Sequence[str], known: Mapping[Recording, Recording]
) -> Iterator[RecordingChunk]:
    """Cuts recordings into chunks.

    Args:
        found: names of the recordings.
        texts: the words of each, or empty.
        known: name → recording, for those that are decoded already.
    """
    for number, part in enumerate(_cuts(found)):
        names = found[part]
        sources = [
            StandardInput(sys.stdin.buffer.read()) if name == STDIN else known.get(name, name)
            for name in names
        ]
        words: Sequence[str | None] = texts[part] or [None] * len(names)
        yield RecordingChunk(number, names, sources, words)


def _cuts(found: Sequence[str]) -> Iterator[slice]:
    """The chunks: at most CHUNK recordings each, and fewer if their files are large.

    Counted anew after every CHUNK recordings, so that a recording that is replaced by one of
    another size changes no chunk beyond them.
    """
    first, size = 0, 0
    for number, name in enumerate(found, 1):
        size += (file_state(Path(name)) or (0, 0))[0]
        if size >= _LARGE or number % CHUNK == 0 or number == len(found):
            yield slice(first, number)
            first, size = number, 0


def predict_chunk(settings: ChunkSettings, chunk: RecordingChunk) -> PredictedChunk:
    """Predicts a chunk; the error of a recording is returned in its place, not raised."""
    words = [Recognised(text) for text in chunk.texts]
    if settings.words is not None:
        words = [settings.words(source) for source in chunk.sources]
    pairs = zip(
        settings.predictor.outcomes(chunk.sources, [one.text for one in words]), words, strict=True
    )
    nothing = np.zeros(0, np.float32)
    outcomes: list[Outcome] = [
        one if isinstance(one, SerError) else replace(one, embedding=nothing, language=w.language)
        for one, w in pairs
    ]
    notes = [f"{name}: {w.doubt}" for name, w in zip(chunk.names, words, strict=True) if w.doubt]
    return PredictedChunk(chunk.number, outcomes, notes)


class ResumablePredictions:
    """Predicts chunks and keeps their predictions in a journal.

    Args:
        file: the journal, with one line per finished chunk.
        settings: how every chunk is predicted.
    """

    def __init__(self, file: Path, settings: ChunkSettings) -> None:
        self._journal, self._settings = Journal(file), settings
        self._name = identity(settings.predictor, settings.described)
        self._lines: dict[int, int] = {}  # chunk → position of its line

    def run(self, given: Iterator[RecordingChunk], engine: str) -> Iterator[PredictedChunk]:
        """Predicts the chunks that are not finished, and stores each at once.

        Args:
            given: all chunks, in order.
            engine: ``local`` or ``ray``.

        Yields:
            The newly predicted chunks, in order of completion.
        """
        waiting = (chunk for chunk in given if not self._kept(chunk))
        keys: dict[int, str] = {}

        def remembered() -> Iterator[RecordingChunk]:
            for chunk in waiting:
                # the key is of the files as they are now: one that changes while it is predicted
                # has another key in the next run, which then predicts it again
                keys[chunk.number] = self._key(chunk)
                yield chunk

        every = remembered()
        done = (
            run_on_ray(predict_chunk, self._settings, every)
            if engine == "ray"
            else (predict_chunk(self._settings, chunk) for chunk in every)
        )
        for one in done:
            self._keep(one, keys.pop(one.number))
            yield one

    def outcomes(self) -> Iterator[Outcome]:
        """Yields all finished predictions, in the order of the recordings."""
        places = [self._lines[number] for number in sorted(self._lines)]
        for line in self._journal.read(places) if places else ():
            for answer in line["answers"]:
                yield _from_json(answer, tuple(self._settings.predictor.labels))

    def _kept(self, chunk: RecordingChunk) -> bool:
        place = self._journal.places.get(self._key(chunk))
        # what comes through standard input has no name or size that would tell it from other sound
        if place is not None and STDIN not in chunk.names:
            self._lines[chunk.number] = place
        return chunk.number in self._lines

    def _keep(self, one: PredictedChunk, key: str) -> None:
        failed = any(isinstance(outcome, SerError) for outcome in one.outcomes)
        answers = [_as_json(outcome) for outcome in one.outcomes]
        # without a key where a recording failed: a rerun tries it again
        line = {"key": "" if failed else key, "answers": answers}
        self._lines[one.number] = self._journal.add(line)

    def _key(self, chunk: RecordingChunk) -> str:
        """Identifies a chunk: it differs if a recording or the settings have changed."""
        states = [file_state(Path(name)) for name in chunk.names]
        parts = (self._name, list(chunk.names), states, list(chunk.texts))
        return hashlib.sha256(repr(parts).encode()).hexdigest()


def _as_json(outcome: Outcome) -> dict[str, Any]:
    """Converts to JSON without loss: the same float32 is read back."""
    if isinstance(outcome, SerError):
        return {"error": str(outcome)}
    record = {one.name: getattr(outcome, one.name) for one in fields(outcome)}
    del record["labels"], record["embedding"], record["file"]
    if rated := outcome.also:
        record["also"] = [list(rated.labels), rated.scale, rated.probabilities.tolist()]
    return {**record, "probabilities": outcome.probabilities.tolist()}


def _from_json(fields: dict[str, Any], labels: tuple[str, ...]) -> Outcome:
    if "error" in fields:
        return SerError(fields["error"])
    fields["probabilities"] = np.array(fields["probabilities"], np.float32)
    fields["scale"] = fields["scale"] and tuple(fields["scale"])
    fields["warnings"] = tuple(fields.get("warnings", ()))
    rated = fields.pop("also", None)
    one = Prediction(labels, embedding=np.zeros(0, np.float32), **fields)
    if rated is None:
        return one
    names, scale, values = rated
    also = AlsoPredicted(tuple(names), tuple(scale))
    return with_attributes(one, np.array(values, np.float32), also)

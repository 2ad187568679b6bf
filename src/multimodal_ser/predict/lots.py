"""Very many recordings → their predictions in order: in lots of fixed size, and resumable.

The predictions of each lot are written to a journal at once, one line per lot. Memory therefore
does not grow with the number of recordings, and a rerun resumes an interrupted run. The division
into lots does not depend on what was finished before: the composition of a batch changes the last
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

from multimodal_ser.common.cluster import run_on_ray
from multimodal_ser.common.files import Journal
from multimodal_ser.errors import SerError
from multimodal_ser.predict.inputs import Recording
from multimodal_ser.predict.prediction import AlsoPredicted, Prediction, with_attributes
from multimodal_ser.predict.predictor import Predictor
from multimodal_ser.predict.sources import STDIN

Outcome: TypeAlias = "Prediction | SerError"
LOT = 64  # recordings that are decoded and predicted at a time


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
class LotSettings:
    """How every lot is predicted.

    Attributes:
        predictor: from `load`.
        words: recognises the words of a recording; None if words are given or not needed.
        told: further settings that identify the journal's predictions.
    """

    predictor: Predictor
    words: Callable[[Recording], Recognised] | None = None
    told: str = ""


class Lot(NamedTuple):
    """A lot of recordings: names, sources to read them from, and words (None if not given)."""

    number: int
    names: Sequence[str]
    sources: Sequence[Recording]
    texts: Sequence[str | None]


class PredictedLot(NamedTuple):
    """The predictions of a lot, without embeddings, and notes for the user."""

    number: int
    outcomes: list[Outcome]
    notes: list[str]


def identity(predictor: Any, *told: object) -> str:
    """Identifies model and settings: it differs for other models, channels or versions."""
    channel = predictor.channel
    parts = (
        version("multimodal-ser"), *told, predictor.name, predictor.labels, predictor.threshold,
        getattr(predictor, "card", ""), channel and channel.shift.tobytes(),
    )  # fmt: skip
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def lots(
    found: Sequence[str], texts: Sequence[str], known: Mapping[Recording, Recording]
) -> Iterator[Lot]:
    """Cuts recordings into lots.

    Args:
        found: names of the recordings.
        texts: the words of each, or empty.
        known: name → recording, for those that are decoded already.
    """
    for first in range(0, len(found), LOT):
        names = found[first : first + LOT]
        sources = [
            sys.stdin.buffer.read() if name == STDIN else known.get(name, name) for name in names
        ]
        yield Lot(first // LOT, names, sources, texts[first : first + LOT] or [None] * len(names))


def predict_lot(asked: LotSettings, lot: Lot) -> PredictedLot:
    """Predicts a lot; the error of a recording is returned in its place, not raised."""
    words = [Recognised(text) for text in lot.texts]
    if asked.words is not None:
        words = [asked.words(source) for source in lot.sources]
    pairs = zip(
        asked.predictor.stream(lot.sources, [one.text for one in words]), words, strict=True
    )
    nothing = np.zeros(0, np.float32)
    outcomes: list[Outcome] = [
        one if isinstance(one, SerError) else replace(one, embedding=nothing, language=w.language)
        for one, w in pairs
    ]
    notes = [f"{name}: {w.doubt}" for name, w in zip(lot.names, words, strict=True) if w.doubt]
    return PredictedLot(lot.number, outcomes, notes)


class JournaledLots:
    """Predicts lots and keeps their predictions in a journal.

    Args:
        file: the journal, with one line per finished lot.
        asked: how every lot is predicted.
    """

    def __init__(self, file: Path, asked: LotSettings) -> None:
        self._journal, self._asked = Journal(file), asked
        self._name = identity(asked.predictor, asked.told)
        self._lines: dict[int, int] = {}  # lot → position of its line

    def run(self, given: Iterator[Lot], engine: str) -> Iterator[PredictedLot]:
        """Predicts the lots that are not finished, and stores each at once.

        Args:
            given: all lots, in order.
            engine: ``local`` or ``ray``.

        Yields:
            The newly predicted lots, in order of completion.
        """
        waiting = (lot for lot in given if not self._kept(lot))
        keys: dict[int, str] = {}

        def remembered() -> Iterator[Lot]:
            for lot in waiting:
                keys[lot.number] = self._key(lot)
                yield lot

        every = remembered()
        done = (
            run_on_ray(predict_lot, self._asked, every)
            if engine == "ray"
            else (predict_lot(self._asked, lot) for lot in every)
        )
        for one in done:
            self._keep(one, keys.pop(one.number))
            yield one

    def outcomes(self) -> Iterator[Outcome]:
        """Yields all finished predictions, in the order of the recordings."""
        places = [self._lines[number] for number in sorted(self._lines)]
        for line in self._journal.read(places) if places else ():
            for answer in line["answers"]:
                yield _outcome(answer, tuple(self._asked.predictor.labels))

    def _kept(self, lot: Lot) -> bool:
        place = self._journal.places.get(self._key(lot))
        if place is not None and STDIN not in lot.names:
            self._lines[lot.number] = place
        return lot.number in self._lines

    def _keep(self, one: PredictedLot, key: str) -> None:
        failed = any(isinstance(outcome, SerError) for outcome in one.outcomes)
        answers = [_plain(outcome) for outcome in one.outcomes]
        # without a key where a recording failed: a rerun tries it again
        line = {"key": "" if failed else key, "answers": answers}
        self._lines[one.number] = self._journal.add(line)

    def _key(self, lot: Lot) -> str:
        """Identifies a lot: it differs if a recording or the settings have changed."""
        about = [Path(name).stat() if Path(name).is_file() else None for name in lot.names]
        sizes = [one and (one.st_size, one.st_mtime_ns) for one in about]
        parts = (self._name, lot.number, list(lot.names), sizes, list(lot.texts))
        return hashlib.sha256(repr(parts).encode()).hexdigest()


def _plain(outcome: Outcome) -> dict[str, Any]:
    """Converts to JSON without loss: the same float32 is read back."""
    if isinstance(outcome, SerError):
        return {"error": str(outcome)}
    record = {one.name: getattr(outcome, one.name) for one in fields(outcome)}
    del record["labels"], record["embedding"]
    if felt := outcome.also:
        record["also"] = [list(felt.labels), felt.scale, felt.probabilities.tolist()]
    return {**record, "probabilities": outcome.probabilities.tolist()}


def _outcome(told: dict[str, Any], labels: tuple[str, ...]) -> Outcome:
    if "error" in told:
        return SerError(told["error"])
    told["probabilities"] = np.array(told["probabilities"], np.float32)
    told["scale"] = told["scale"] and tuple(told["scale"])
    felt = told.pop("also", None)
    one = Prediction(labels, embedding=np.zeros(0, np.float32), **told)
    if felt is None:
        return one
    names, scale, values = felt
    also = AlsoPredicted(tuple(names), tuple(scale))
    return with_attributes(one, np.array(values, np.float32), also)

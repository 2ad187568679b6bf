"""What stands behind a Predictor: waveforms and words → probabilities and embeddings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from multimodal_ser.encoders.base import between_passes, windows
from multimodal_ser.errors import SerError

Wave: TypeAlias = NDArray[np.float32]
Vector: TypeAlias = NDArray[np.float32]
Weights: TypeAlias = "str | Path | Mapping[str, str | Path] | None"
PIECES = 4  # windows of long recordings that pass a network at a time


class Answer(NamedTuple):
    """What a model says of a batch.

    Attributes:
        probabilities: [N, C] float32.
        embeddings: [N, D] float32.
        vectors: what the head reads, before a channel is taken out, [N, V] float32; only of models
            that can be adapted.
    """

    probabilities: NDArray[np.float32]
    embeddings: NDArray[np.float32]
    vectors: NDArray[np.float32] | None = None


class Backend(Protocol):
    """A model that a Predictor can ask.

    Attributes:
        name: what people call it.
        labels: class names in order.
        threshold: the confidence below which it does not commit itself.
        card: what a user must know of it, in Markdown.
        modalities: what it reads: ``audio``, ``text``, or both.
        canonical: whether it learnt from canonical waveforms, see `multimodal_ser.audio.speech`.
        references: where what its head reads lay in training [N, V]: of each class, or of all
            together; None where it cannot be adapted.
        shares: how frequent its classes are taken to be [C]; None where it takes none to be more
            frequent than it learnt.
    """

    name: str
    labels: tuple[str, ...]
    threshold: float
    card: str
    modalities: tuple[str, ...]
    canonical: bool
    references: Vector | None
    shares: Vector | None

    def __call__(
        self,
        waves: Sequence[Wave],
        texts: Sequence[str | None],
        shift: Vector | None = None,
    ) -> Answer:
        """Answers for a batch; each row equals that of its item alone.

        Args:
            waves: each [samples].
            texts: as many words, or None.
            shift: taken from what the head reads [V]; only for models that can be adapted.
        """
        ...

    def save(self, folder: Path) -> dict[str, object]:
        """Writes model.safetensors into a folder; returns what belongs into config.json.

        Raises:
            SerError: this kind of model is not saved.
        """
        ...


def check_words(name: str, modalities: Sequence[str], texts: Sequence[str | None]) -> None:
    """Raises SerError where a model that reads words alone is given none."""
    if modalities == ("text",) and None in texts:
        raise SerError(f"{name} reads words alone, and a recording came without; give its text")


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Logits [N, C] → probabilities [N, C]."""
    shares = np.exp(logits - logits.max(1, keepdims=True))
    probabilities: NDArray[np.float32] = shares / shares.sum(1, keepdims=True)
    return probabilities


def by_windows(
    waves: Sequence[Wave], most: int, step: int, ask: Callable[[Sequence[Wave]], Answer]
) -> Answer:
    """Asks about recordings of any length: the mean over equal windows of at most `most` samples.

    Args:
        waves: each [samples].
        most: samples that the network takes; a multiple of `step`.
        step: windows begin at multiples of it.
        ask: answers for a batch of waveforms that are short enough.
    """
    pieces = [
        (row, cut) for row, wave in enumerate(waves) for cut in windows(len(wave), most, step)
    ]
    pieces.sort(key=lambda piece: piece[1].stop - piece[1].start)
    size = max(len(waves), PIECES)
    answers = []
    for start in range(0, len(pieces), size):
        if start:
            between_passes.get()()
        answers.append(ask([waves[row][cut] for row, cut in pieces[start : start + size]]))
    if len(pieces) == len(waves) and [row for row, _ in pieces] == list(range(len(waves))):
        return answers[0]
    share = np.zeros((len(waves), len(pieces)), np.float32)
    for place, (row, cut) in enumerate(pieces):
        share[row, place] = (cut.stop - cut.start) / len(waves[row])
    whole = joined(answers)
    return Answer(*(None if part is None else share @ part for part in whole))  # type: ignore[arg-type]


def joined(answers: Sequence[Answer], order: NDArray[np.int64] | slice = slice(None)) -> Answer:
    """One answer of several, its rows brought into an order."""
    probabilities, embeddings, vectors = zip(*answers, strict=True)
    return Answer(
        np.concatenate(probabilities)[order],
        np.concatenate(embeddings)[order],
        None if vectors[0] is None else np.concatenate(vectors)[order],
    )

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
Weights: TypeAlias = "str | Path | Mapping[str, str | Path] | None"
PIECES = 4  # windows of long recordings that pass a network at a time


class Answer(NamedTuple):
    """Probabilities [N, C] and embeddings [N, D], float32."""

    probabilities: NDArray[np.float32]
    embeddings: NDArray[np.float32]


class Backend(Protocol):
    """A model that a Predictor can ask.

    Attributes:
        name: what people call it.
        labels: class names in order.
        threshold: the confidence below which it does not commit itself.
        card: what a user must know of it, in Markdown.
        sides: what it reads: ``audio``, ``text``, or both.
    """

    name: str
    labels: tuple[str, ...]
    threshold: float
    card: str
    sides: tuple[str, ...]

    def __call__(self, waves: Sequence[Wave], texts: Sequence[str | None]) -> Answer:
        """Answers for a batch; each row equals that of its item alone."""
        ...

    def save(self, folder: Path) -> dict[str, object]:
        """Writes model.safetensors into a folder; returns what belongs into config.json.

        Raises:
            SerError: this kind of model is not saved.
        """
        ...


def check_words(name: str, sides: Sequence[str], texts: Sequence[str | None]) -> None:
    """Raises SerError where a model that reads words alone is given none."""
    if sides == ("text",) and None in texts:
        raise SerError(f"{name} reads words alone, and a recording came without; give its text")


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
    return Answer(*(share @ np.concatenate(part) for part in zip(*answers, strict=True)))

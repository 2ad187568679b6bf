"""What a model says of one recording: probabilities by class, and whether it commits itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from multimodal_ser.errors import SerError

UNCERTAIN = "uncertain"
NO_SPEECH = "no speech"
_OF_CLASSES = ("label", "confidence", "probabilities", "threshold")
_Float = TypeVar("_Float", np.float32, np.float64)


@dataclass(frozen=True, eq=False, repr=False)
class Prediction:
    """The emotion of one recording, or of a part of it.

    Attributes:
        labels: class names in order, or attributes such as arousal.
        probabilities: calibrated, float32 [C]; of attributes their values on 0 … 1.
        embedding: the vector that they are read from, float32 [D].
        start: seconds in the recording where the part begins.
        end: seconds where it ends.
        threshold: the confidence below which the model does not commit itself.
        text: the words, where they are known.
        language: of the words, such as ``de``; None where they were given, or none is known.
        reason: why there is no speech to have an emotion; None where there is. Every class is then
            equally probable.
        adapted: from how many recordings, or pieces of long ones, the channel is known that was
            taken out; None where none was.
        scale: of attributes the values that are 0 and 1 in `probabilities`; None where classes are
            told.
        distance: how far the recording is from those that the model learnt from, 1 being as far as
            they are in the mean, and 2 that it is half as sure; None where the model does not tell.
    """

    labels: tuple[str, ...]
    probabilities: NDArray[np.float32]
    embedding: NDArray[np.float32]
    start: float
    end: float
    threshold: float
    text: str | None = None
    reason: str | None = None
    adapted: int | None = None
    distance: float | None = None
    language: str | None = None
    scale: tuple[float, float] | None = None

    @property
    def attributes(self) -> dict[str, float]:
        """Arousal and the like on their scale; empty of classes, and where there is no speech."""
        if self.scale is None or self.reason is not None:
            return {}
        low, high = self.scale
        values = (low + (high - low) * float(one) for one in self.probabilities)
        return dict(zip(self.labels, values, strict=True))

    def __repr__(self) -> str:
        return f"<{self.label} {self.confidence:.2f}, {self.start:.1f}–{self.end:.1f} s>"

    @property
    def best(self) -> str:
        """The most probable class."""
        return self.labels[int(self.probabilities.argmax())]

    @property
    def confidence(self) -> float:
        """The most probable class's probability."""
        return float(self.probabilities.max())

    @property
    def label(self) -> str:
        """The most probable class, ``uncertain`` below the threshold, or ``no speech``.

        Of attributes it is ``no speech`` or empty: no class is told.
        """
        if self.reason is not None:
            return NO_SPEECH
        if self.scale is not None:
            return ""
        return self.best if self.confidence >= self.threshold else UNCERTAIN

    def as_dict(self) -> dict[str, Any]:
        """All but the embedding, ready for JSON; probabilities by class name, or the attributes."""
        pairs = zip(self.labels, self.probabilities, strict=True)
        told = {
            "label": self.label,
            "confidence": round(self.confidence, 6),
            "probabilities": {name: round(float(p), 6) for name, p in pairs},
            "start": round(self.start, 3),
            "end": round(self.end, 3),
            "text": self.text,
            "language": self.language,
            "threshold": round(self.threshold, 6),
            "reason": self.reason,
            "adapted": self.adapted,
            "distance": None if self.distance is None else round(self.distance, 3),
        }
        if self.scale is None:
            return told
        values = {name: round(value, 4) for name, value in self.attributes.items()}
        rest = {key: one for key, one in told.items() if key not in _OF_CLASSES}
        return {"attributes": values, "scale": list(self.scale), **rest}


def refuse_attributes(model: object, what: str) -> None:
    """Raises SerError for a model of attributes where only classes can be shown."""
    if getattr(model, "scale", None) is not None:
        raise SerError(
            f"{getattr(model, 'name', 'the model')} tells attributes, and {what} shows classes; "
            "take a run of `ser train` without --task attributes, or ask it with `ser predict`"
        )


def doubted(probabilities: NDArray[_Float], sure: float) -> NDArray[_Float]:
    """Probabilities [..., C] where it is not certain that there is speech at all.

    What is no speech has every class alike: P(class) = P(speech) P(class | speech) + P(none) / C.

    >>> doubted(np.array([0.8, 0.2]), 0.5)
    array([0.65, 0.35])
    """
    return np.asarray(probabilities * sure + (1 - sure) / probabilities.shape[-1])

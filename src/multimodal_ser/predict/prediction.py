"""What a model says of one recording: probabilities by class, and whether it commits itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

UNCERTAIN = "uncertain"


@dataclass(frozen=True, eq=False)
class Prediction:
    """The emotion of one recording, or of a part of it.

    Attributes:
        labels: class names in order.
        probabilities: calibrated, float32 [C].
        embedding: the vector that they are read from, float32 [D].
        start: seconds in the recording where the part begins.
        end: seconds where it ends.
        threshold: the confidence below which the model does not commit itself.
        text: the words, where they are known.
    """

    labels: tuple[str, ...]
    probabilities: NDArray[np.float32]
    embedding: NDArray[np.float32]
    start: float
    end: float
    threshold: float
    text: str | None = None

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
        """The most probable class, or ``uncertain`` below the threshold."""
        return self.best if self.confidence >= self.threshold else UNCERTAIN

    def as_dict(self) -> dict[str, Any]:
        """All but the embedding, ready for JSON; probabilities by class name."""
        return {
            "label": self.label,
            "confidence": round(self.confidence, 6),
            "probabilities": {
                name: round(float(p), 6)
                for name, p in zip(self.labels, self.probabilities, strict=True)
            },
            "start": round(self.start, 3),
            "end": round(self.end, 3),
            "text": self.text,
        }

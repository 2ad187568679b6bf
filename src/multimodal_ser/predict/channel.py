"""What recordings have in common that is no emotion: their channel, estimated without labels."""

from __future__ import annotations

import hashlib
import json
from base64 import b64decode, b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from multimodal_ser.common.files import parse_json, written_aside
from multimodal_ser.errors import SerError

_Vectors: TypeAlias = NDArray[np.float32]
_T = TypeVar("_T")
LEAST_RECORDINGS = 10  # recordings from which a channel is estimated unasked
ENOUGH_RECORDINGS = 128  # recordings of many that are enough: more change the mean next to nothing


@dataclass(frozen=True, eq=False)
class Channel:
    """A channel for one model, ready to be taken out of recordings.

    Attributes:
        shift: what is taken from what the model's head reads, [V].
        count: how many recordings, or pieces of long ones, it was estimated from.
        space: which model it is for, see `space_of`.
        model: that model's name.
    """

    shift: _Vectors
    count: int
    space: str
    model: str

    def save(self, file: str | Path) -> Path:
        """Writes it as JSON; `read` reads it."""
        told = {
            "kind": "channel",
            "model": self.model,
            "space": self.space,
            "count": self.count,
            "shift": b64encode(np.asarray(self.shift, "<f4").tobytes()).decode(),
        }
        with written_aside(Path(file)) as partial:
            partial.write_text(json.dumps(told, indent=1) + "\n", "utf-8")
        return Path(file)

    @classmethod
    def read(cls, file: str | Path) -> Channel:
        """Reads what `save` wrote.

        Raises:
            SerError: there is no such file, or it holds something else.
        """
        try:
            told = parse_json(Path(file).read_text("utf-8"))
            shift = np.frombuffer(b64decode(told["shift"], validate=True), "<f4").copy()
            if told["kind"] != "channel" or not len(shift) or not np.isfinite(shift).all():
                raise ValueError("it holds no channel")
            return cls(shift, int(told["count"]), str(told["space"]), str(told["model"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise SerError(
                f"{file}: not a channel ({error}); make it with: ser adapt RECORDINGS --out FILE"
            ) from error


def space_of(references: _Vectors) -> str:
    """Names the space of a model's vectors: other training, other references, other name."""
    return hashlib.sha256(np.asarray(references, "<f4").tobytes()).hexdigest()[:16]


def spread(items: Sequence[_T], most: int) -> list[_T]:
    """At most so many of them, spread evenly."""
    if len(items) <= most:
        return list(items)
    return [items[place * len(items) // most] for place in range(most)]

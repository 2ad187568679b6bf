"""The channel of recordings: what they have in common besides emotion, estimated without labels."""

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
LEAST_RECORDINGS = 10  # from so many recordings on a channel is estimated automatically
ENOUGH_RECORDINGS = 128  # so many are used of more: the estimate hardly changes any further


@dataclass(frozen=True, eq=False)
class Channel:
    """The channel of a set of recordings, as seen by one model.

    Attributes:
        shift: what is subtracted from the input of the model's head, [V].
        count: number of recordings, or pieces of long ones, that it was estimated from.
        space: identifies the model that it is for, see `space_of`.
        model: name of that model.
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
    """A name for the space of a model's vectors: a hash of the references of its training."""
    return hashlib.sha256(np.asarray(references, "<f4").tobytes()).hexdigest()[:16]


def evenly_chosen(items: Sequence[_T], most: int) -> list[_T]:
    """At most `most` of the items, spread evenly over them."""
    if len(items) <= most:
        return list(items)
    return [items[place * len(items) // most] for place in range(most)]

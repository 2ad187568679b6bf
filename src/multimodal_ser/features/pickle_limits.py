"""Limits for pickles: a few bytes can refer to themselves until they fill any memory."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from multimodal_ser.errors import FeatureError
from multimodal_ser.features.pickle_values import PickledArray, Tensor, brief

DEPTH = 64  # lists within lists
STEPS = 30_000_000  # instructions; each can make an object, and a million rows of lists need fewer
MEMO = 10_000_000  # objects that a pickle can refer to again
NUMBERS = 100_000_000  # in the content when written out, or 16 per byte of the file if more


@dataclass
class PickleBudget:
    """The remaining budget of one file while it is read.

    Attributes:
        size: of the file in bytes.
        steps: remaining instructions.
        copies: bytes that were made from others, such as from text in the oldest layout. Each byte
            of the file occurs once, and those of a tensor within a pickle are copied twice.
    """

    size: int
    steps: int = field(default_factory=lambda: STEPS)
    copies: int = 0

    def step(self) -> None:
        """Counts an instruction."""
        self.steps -= 1
        if self.steps < 0:
            raise _too_much(f"it has more than {STEPS:,} instructions")

    def copy(self, size: int) -> None:
        """Counts bytes that are made from others."""
        self.copies += size
        if self.copies > 4 * self.size + 1_000:
            raise _too_much("it makes more bytes of itself than it has")


class Memo(dict[int, Any]):
    """The objects that a pickle can refer to again, limited in number."""

    def __setitem__(self, place: int, value: Any) -> None:
        if len(self) >= MEMO:
            raise _too_much(f"it refers to more than {MEMO:,} objects")
        super().__setitem__(place, value)


def check_pickle_key(key: object) -> None:
    """Refuses keys other than text and numbers: hashing nested tuples can take forever."""
    parts = key if isinstance(key, tuple) else (key,)
    if not all(isinstance(part, str | bytes | int | float | None) for part in parts):
        raise FeatureError(f"refused: a key is {brief(key)}; allowed: text and numbers")


def check_extent(value: Any, size: int) -> None:
    """Refuses content that is nested too deeply, or too large when it is written out.

    Args:
        value: the result of a reader, which may contain one object many times.
        size: of the file in bytes.
    """
    most, known = max(NUMBERS, 16 * size), dict[int, tuple[int, int]]()

    def weigh(item: Any, above: int) -> tuple[int, int]:
        """The count of numbers within an item, and their depth."""
        if isinstance(item, str | bytes):
            return 1 + len(item) // 8, 0
        if isinstance(item, int | float | None):
            return 1, 0
        # Each object is visited once, however often it occurs; its count is added every time. This
        # finds "billion laughs" files without writing them out.
        if id(item) not in known:
            known[id(item)] = 0, 0  # ends the recursion for an object that contains itself
            known[id(item)] = total(item, above)
        return known[id(item)]

    def total(item: Any, above: int) -> tuple[int, int]:
        parts = [weigh(part, above + 1) for part in _within(item)] if above <= DEPTH else []
        count = _own(item) + sum(count for count, _ in parts)
        depth = 1 + max((depth for _, depth in parts), default=0)
        if above > DEPTH or depth > DEPTH:
            raise _too_much(f"it is nested more than {DEPTH} deep")
        if count > most:
            raise _too_much(f"written out it holds more than {most:,} numbers")
        return count, depth

    weigh(value, 0)


def _within(item: Any) -> list[Any]:
    if isinstance(item, dict):
        return [*item, *item.values()]
    if isinstance(item, list | tuple):
        return list(item)
    return [item.data] if isinstance(item, PickledArray) and isinstance(item.data, list) else []


def _own(item: Any) -> int:
    if isinstance(item, Tensor):
        return 1 + math.prod(item.size)
    return 1 + math.prod(item.shape) if isinstance(item, PickledArray) else 1


def _too_much(reason: str) -> FeatureError:
    return FeatureError(f"refused: {reason}; save the rows as .npz or .parquet instead")

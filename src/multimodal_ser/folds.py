"""Fold, Split and split files: ids of each part, with a hash and what leaks."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from multimodal_ser.errors import SplitError

VALIDATION_SHARE = 0.1  # of what a fold does not test on, where a scheme has no own validation


@dataclass(frozen=True)
class Fold:
    """Ids of one fold's parts; no id stands in two of them."""

    name: str
    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]


@dataclass(frozen=True)
class Split:
    """Named folds and what leaks between their parts.

    Attributes:
        name: the scheme with its options, such as ``speaker-5``.
        folds: in order.
        leaks: one sentence for each overlap that was found and allowed.
    """

    name: str
    folds: tuple[Fold, ...]
    leaks: tuple[str, ...] = ()

    @property
    def hash(self) -> str:
        """First 12 hexadecimal digits of the sha256 of the folds' ids."""
        rows = json.dumps([asdict(fold) for fold in self.folds], separators=(",", ":"))
        return hashlib.sha256(rows.encode()).hexdigest()[:12]


def write_split(split: Split, path: Path) -> None:
    """Writes a split with its hash as JSON, aside first and then renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps({**asdict(split), "hash": split.hash}, indent=1))
    partial.replace(path)


def read_split(path: Path) -> Split:
    """Reads a split file and checks its hash.

    Raises:
        SplitError: not a split file, or its ids are not those that its hash was made of.
    """
    try:
        row = json.loads(path.read_text())
        parts = ("train", "validation", "test")
        folds = tuple(
            Fold(fold["name"], *(tuple(fold[part]) for part in parts)) for fold in row["folds"]
        )
        split, stated = Split(row["name"], folds, tuple(row["leaks"])), row["hash"]
    except (ValueError, KeyError, TypeError) as error:
        raise SplitError(f"{path}: not a split file ({error!r}); write one with: ser split") from (
            error
        )
    if split.hash != stated:
        raise SplitError(
            f"{path}: its ids have the hash {split.hash}, it states {stated}: the file was "
            "changed; make it again with ser split, or correct the stated hash"
        )
    return split

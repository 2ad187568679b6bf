"""What the user named → recordings, each with its relative name and a place to write to."""

from __future__ import annotations

import glob
import os
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from multimodal_ser.predict.sources import STDIN, find_recordings

KEPT = {"index", "summary", "segments"}  # what a folder's own files are called


class Place(NamedTuple):
    """A recording.

    Attributes:
        path: where it is read.
        source: its name relative to what was given, with slashes.
        name: of the files that are written, relative to the folder of all and without endings.
    """

    path: str
    source: str
    name: str


def places(given: Sequence[str]) -> list[Place]:
    """The recordings behind files, folders and wildcards; their tree is kept, no name comes twice.

    A recording is called by its stem where nothing else in its folder could be called so, and else
    by its whole name.

    Raises:
        SerError: nothing is there.
    """
    found = find_recordings(given)
    root = _root([_above(name) for name in given if name != STDIN])
    sources = {path: _relative(path, root) for path in found}
    stems: dict[str, Counter[str]] = defaultdict(Counter)
    for source in sources.values():
        pure = PurePosixPath(source)
        stems[str(pure.parent)].update({pure.stem.casefold(), pure.name.casefold()})
    return [Place(path, source, _name(source, stems)) for path, source in sources.items()]


def _name(source: str, stems: dict[str, Counter[str]]) -> str:
    pure = PurePosixPath(source)
    own = pure.stem
    top = str(pure.parent) == "."
    taken = stems[str(pure.parent)][own.casefold()] > 1 or (top and own.casefold() in KEPT)
    return str(pure if taken and pure.suffix else pure.parent / own)


def _above(name: str) -> str:
    """The folder whose tree is kept: what is given, or lies above the first wildcard or a file."""
    path = Path(name)
    if glob.has_magic(name) and not path.exists():
        fixed = []
        for part in path.parts:
            if glob.has_magic(part):
                break
            fixed.append(part)
        return os.path.abspath(Path(*fixed)) if fixed else os.getcwd()  # noqa: PTH100, PTH109
    return os.path.abspath(path if path.is_dir() else path.parent)  # noqa: PTH100


def _root(folders: Sequence[str]) -> str:
    try:
        return os.path.commonpath(folders) if folders else ""
    except ValueError:  # on several drives
        return ""


def _relative(path: str, root: str) -> str:
    """With slashes, and without a way out of the folder that is written to."""
    if path == STDIN:
        return "stdin"
    whole = Path(os.path.abspath(path))  # noqa: PTH100 - links keep the names that the user gave
    try:
        return whole.relative_to(root).as_posix()
    except ValueError:
        return "/".join(part for part in whole.parts[1:])

"""Names from the user → recordings, each with a relative name and a name for its files."""

from __future__ import annotations

import glob
import os
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from multimodal_ser.common.files import spelt_out
from multimodal_ser.predict.sources import STDIN, find_recordings

STDIN_NAME = "stdin"  # of the recording that comes through standard input
KEPT = {"index", "summary", "segments"}  # names of the folder's own files


class Place(NamedTuple):
    """A recording.

    Attributes:
        path: where it is read from.
        source: its name relative to the given folders, with slashes.
        name: of its files, relative to the output folder and without ending.
    """

    path: str
    source: str
    name: str


def places(given: Sequence[str]) -> list[Place]:
    """The recordings in files, folders and wildcards; their tree is kept and names are unique.

    The files of a recording are named by its stem if that is unique in its folder, and by its whole
    name otherwise.

    Raises:
        SerError: there are no recordings.
    """
    found = find_recordings(given)
    root = _root([_above(name) for name in given if name != STDIN])
    sources = {path: _relative(path, root) for path in found}
    stems: dict[str, Counter[str]] = defaultdict(Counter)
    for source in sources.values():
        pure = PurePosixPath(source)
        # Case-folded, since "A.wav" and "a.wav" are one file on some systems. A name without an
        # ending can also clash with a stem.
        stems[str(pure.parent)].update({pure.stem.casefold(), pure.name.casefold()})
    return [Place(path, source, _name(source, stems)) for path, source in sources.items()]


def _name(source: str, stems: dict[str, Counter[str]]) -> str:
    pure = PurePosixPath(source)
    own = pure.stem
    top = str(pure.parent) == "."
    taken = stems[str(pure.parent)][own.casefold()] > 1 or (top and own.casefold() in KEPT)
    return str(pure if taken and pure.suffix else pure.parent / own)


def _above(name: str) -> str:
    """The folder whose tree is kept: the given one, or that above a file or the first wildcard."""
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
    """A relative path with slashes that cannot lead out of the output folder."""
    if path == STDIN:
        return STDIN_NAME
    whole = Path(os.path.abspath(path))  # noqa: PTH100 - links keep the names that the user gave
    try:
        name = whole.relative_to(root).as_posix()
    except ValueError:
        name = "/".join(part for part in whole.parts[1:])
    return spelt_out(name)

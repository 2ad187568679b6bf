"""What is made → its place on disk: aside first, then renamed, so complete or absent; and JSON."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from multimodal_ser.errors import SerError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_unfinished: set[Path] = set()


@contextmanager
def written_aside(path: Path) -> Iterator[Path]:
    """Gives a place beside `path` to write to, and renames it to `path` when all is written.

    Readers see the old content or the new, never a part; where writing fails, what stood at
    `path` stays and the part is removed. A part that a killed process left is replaced by the next,
    since its name is always the same. A device or a pipe, such as ``/dev/null``, is written as it
    is: renaming would put a file in its stead.

    Args:
        path: of the file, or of the folder if the block makes one. Missing folders above it are
            made; a link is followed.

    Yields:
        ``.<name>.partial`` in the same folder, where nothing is yet.

    Raises:
        SerError: it cannot be written: no room, no permission, or something else stands there.
    """
    path = Path(path)
    if path.exists() and not (path.is_file() or path.is_dir()):
        with _told(path, path):
            yield path
        return
    real = Path(os.path.realpath(path))
    partial = real.with_name(f".{real.name}.partial")
    with _told(path, real, partial):
        real.parent.mkdir(parents=True, exist_ok=True)
        _remove(partial)
        with removed_at_end(partial):
            yield partial
            if partial.is_dir() and real.is_dir():
                shutil.rmtree(real)
            partial.replace(real)


def parse_json(text: str | bytes) -> Any:
    """Reads JSON that somebody else may have written.

    Raises:
        ValueError: it is no JSON, or nested so deeply that reading it would overflow the stack.

    >>> parse_json("[1]")
    [1]
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Gives an empty folder among the system's temporary ones, which is removed at the end."""
    folder = Path(mkdtemp(prefix="ser-"))
    with removed_at_end(folder):
        yield folder


def remove_unfinished() -> None:
    """Removes what is being written, for a process that is told to end at once."""
    for path in list(_unfinished):
        with suppress(OSError):  # another thread may be removing it
            _remove(path)


@contextmanager
def removed_at_end(path: Path) -> Iterator[None]:
    """Removes a file or folder that serves the block alone, where it is still there."""
    _unfinished.add(path)
    try:
        yield
    finally:
        _remove(path)
        _unfinished.discard(path)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def _told(path: Path, *places: Path) -> Iterator[None]:
    """Says what keeps a file from being written; errors about other files pass as they are."""
    try:
        yield
    except OSError as error:
        ours = {str(place) for given in (path, *places) for place in (given, *given.parents)}
        if error.errno not in _FULL and str(error.filename) not in ours:
            raise
        reason = os.strerror(error.errno or errno.EIO)
        raise SerError(f"{path}: cannot be written ({reason}); {_remedy(error.errno)}") from error


def _remedy(code: int | None) -> str:
    if code in _FULL:
        return "make room or write elsewhere, and give the same command again"
    if code in (errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ENOTEMPTY):
        return "give the name of a file, in a folder"
    return "give a place that you may write to"


def readable_json(value: object, indent: int | None = None) -> str:
    """JSON as people read it; names that are no UTF-8 keep their bytes as escapes."""
    told = json.dumps(value, indent=indent, ensure_ascii=False)
    try:
        told.encode()
    except UnicodeEncodeError:
        return json.dumps(value, indent=indent)
    return told

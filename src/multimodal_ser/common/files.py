"""Writes files and folders so that they are complete or absent, and reads and writes JSON."""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import gettempdir, mkdtemp
from typing import Any

from filelock import FileLock, Timeout
from safetensors import safe_open

from multimodal_ser.errors import SerError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
LFS_POINTER = b"version https://git-lfs.github.com/spec/"  # a clone without Git LFS has it instead
_LONGEST = 255  # bytes of a file's name
_unfinished: set[Path] = set()
_log = logging.getLogger(__name__)
ENDINGS = (
    ".wav", ".flac", ".mp3", ".ogg", ".oga", ".opus", ".aif", ".aiff", ".aifc", ".au", ".snd",
    ".w64", ".rf64", ".caf", ".voc", ".sph", ".gsm", ".amr", ".awb", ".aac", ".ac3", ".eac3",
    ".m4a", ".m4b", ".mp2", ".mka", ".weba", ".wma", ".spx", ".wv", ".tta", ".ape", ".mpc", ".dts",
    ".mp4", ".m4v", ".mov", ".qt", ".3gp", ".3g2", ".mkv", ".webm", ".avi", ".wmv", ".asf", ".flv",
    ".f4v", ".ts", ".mts", ".m2ts", ".mpg", ".mpeg", ".vob", ".ogv", ".mxf", ".nut", ".wtv", ".rm",
    ".wave", ".bwf", ".mpga", ".m4r", ".adts",
)  # fmt: skip


@contextmanager
def written_aside(path: Path) -> Iterator[Path]:
    """Yields a temporary path next to `path`, and renames it to `path` when all is written.

    Readers see either the old content or the new, never a part of it; if writing fails, what was at
    `path` stays and the part is removed. A part left behind by a killed process is replaced the
    next time, because its name is always the same. A device or a pipe, such as ``/dev/null``, is
    written directly: renaming would replace it with a file.

    Args:
        path: the file, or the folder if the block makes one. Missing parent folders are created;
            symbolic links are followed.

    Yields:
        ``.<name>.partial`` in the same folder, which does not exist yet; with a hash in place of a
        name that would become too long.

    Raises:
        SerError: it cannot be written: no space, no permission, or something else is in its place.
    """
    path = Path(path)
    with _explained_errors(path, path):
        special = path.exists() and not (path.is_file() or path.is_dir())
    if special:
        with _explained_errors(path, path):
            yield path
        return
    # a rename onto a link would replace the link itself; the same folder, because a rename is
    # atomic only within one file system
    real = Path(os.path.realpath(path))
    partial = real.with_name(f".{real.name}.partial")
    if len(os.fsencode(partial.name)) > _LONGEST:
        partial = real.with_name(f".{hashlib.sha256(os.fsencode(real.name)).hexdigest()}.partial")
    with _explained_errors(path, real, partial):
        real.parent.mkdir(parents=True, exist_ok=True)
        _remove(partial)
        with removed_at_end(partial):
            yield partial
            # a folder cannot be renamed onto a non-empty one; for a moment there is none, but never
            # a mixture
            if partial.is_dir() and real.is_dir():
                shutil.rmtree(real)
            partial.replace(real)


def write_file(path: Path, content: str | bytes) -> None:
    """Writes a file of this content, as UTF-8 if it is text; see `written_aside`."""
    with written_aside(path) as partial:
        partial.write_bytes(content.encode() if isinstance(content, str) else content)


def made_folder(folder: Path) -> None:
    """Makes an output folder before the work starts, so that a wrong place costs no work.

    Raises:
        SerError: it cannot be made, or not be written to.
    """
    with _explained_errors(folder, folder):
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise OSError(errno.EACCES, os.strerror(errno.EACCES), str(folder))


@contextmanager
def locked(path: Path, wait: float = 0) -> Iterator[None]:
    """Keeps other processes of this user and machine from what is written at `path` for the block.

    For what is written little by little: two processes would mix their results.

    Args:
        path: what is written.
        wait: seconds to wait for another process to end.

    Raises:
        SerError: another process is writing there.
    """
    place = os.fsencode(f"{Path.home()}\0{os.path.realpath(path)}")
    # in the temporary folder, since it stays if the process is killed; the system releases it then
    file = Path(gettempdir()) / f"ser-{hashlib.sha256(place).hexdigest()[:16]}.lock"
    lock = FileLock(file)
    try:
        lock.acquire(timeout=wait)
    except Timeout:
        raise SerError(
            f"{path}: another command is writing there; wait for it to end, or write elsewhere"
        ) from None
    try:
        yield
    finally:
        with suppress(OSError):  # Windows keeps an open file
            file.unlink()
        lock.release()


def sha256_of(*files: Path) -> str:
    """The sha256 of the bytes of files, one after another."""
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            while block := file.read(1 << 20):  # a file need not fit into memory
                digest.update(block)
    return digest.hexdigest()


def parse_json(text: str | bytes) -> Any:
    """Parses JSON from an untrusted source.

    Raises:
        ValueError: it is not JSON, or nested so deeply that parsing overflows the stack.

    >>> parse_json("[1]")
    [1]
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def tensors_header(path: Path, kind: str) -> Any:
    """Reads the JSON that a safetensors file has under the name of its kind.

    Raises:
        SafetensorError: the file is of another format, or damaged.
        KeyError: it is of another kind.
        ValueError: it has no JSON there.
    """
    with safe_open(path, "np") as file:
        return parse_json((file.metadata() or {})[kind])


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Yields an empty folder in the system's temporary directory, removed at the end."""
    folder = Path(mkdtemp(prefix="ser-"))
    with removed_at_end(folder):
        yield folder


def remove_unfinished() -> None:
    """Removes all files being written, for a process that must end immediately."""
    for path in list(_unfinished):
        with suppress(OSError):  # another thread may be removing it
            _remove(path)


@contextmanager
def removed_at_end(path: Path) -> Iterator[None]:
    """Removes a file or folder at the end of the block, if it is still there."""
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
def _explained_errors(path: Path, *places: Path) -> Iterator[None]:
    """Turns errors about writing these paths into SerErrors; all other errors pass unchanged."""
    try:
        yield
    except OSError as error:
        ours = {str(place) for given in (path, *places) for place in (given, *given.parents)}
        if error.errno not in _FULL and str(error.filename) not in ours:
            raise
        reason = os.strerror(error.errno or errno.EIO)
        raise SerError(f"{path}: cannot be written ({reason}); {_remedy(error.errno)}") from error


def is_of_system(error: BaseException) -> bool:
    """Whether all other work would meet an error, too: one of the system, such as a full disk.

    >>> is_of_system(OSError("such as a lost network drive")), is_of_system(SerError("of one run"))
    (True, False)
    """
    full = getattr(error.__cause__, "errno", None) in _FULL  # behind a SerError of this module
    return isinstance(error, OSError) or full


def _remedy(code: int | None) -> str:
    if code in _FULL:
        return "free some space or write elsewhere, then rerun the same command"
    if code in (errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ENOTEMPTY):
        return "give the name of a file, in a folder"
    return "give a place that you may write to"


def spelt_out(name: str) -> str:
    r"""A file's name with what no table or page can hold spelt out: bytes that are no UTF-8, \r.

    Before Python 3.13, csv ends a row at a carriage return that it writes without quotes.

    >>> spelt_out("Icon\r")
    'Icon\\r'
    """
    return os.fsencode(name).decode("utf-8", "backslashreplace").replace("\r", "\\r")


def one_line(text: str) -> str:
    r"""The text with control characters and line breaks, which file names may have, spelt out.

    >>> one_line("a\nb.wav")
    'a\\nb.wav'
    """
    return re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]", lambda found: ascii(found[0])[1:-1], text)


def file_state(path: Path) -> tuple[int, int] | None:
    """Size in bytes and time of the last change in ns: others once a file has changed.

    None where there is no file.
    """
    if not path.is_file():
        return None
    about = path.stat()
    return about.st_size, about.st_mtime_ns


def readable_json(value: object, indent: int | None = None) -> str:
    """Writes JSON with readable letters; file names that are not UTF-8 become escapes."""
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(value, indent=indent)
    return text


class Journal:
    """A file of finished items, one JSON object per line, from which a rerun resumes.

    Only the positions of lines are held in memory. Each object has a ``key``. Lines with an empty
    key are for the running process only: they are removed when the file is opened again, and so
    are damaged lines and those that a killed process left unfinished.

    Args:
        file: the file, which need not exist.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self.places: dict[str, int] = {}  # key → position of its line
        if not file.is_file():
            return
        place = count = 0
        with file.open("rb") as lines:
            for line in lines:
                try:
                    key = str(parse_json(line)["key"]) if line.endswith(b"\n") else ""
                except (ValueError, KeyError, TypeError):
                    key = ""
                if key:
                    self.places[key] = place
                place, count = place + len(line), count + 1
        if count > len(self.places):
            self.keep(list(self.places.values()))

    def add(self, entry: Mapping[str, Any]) -> int:
        """Adds an object and returns the position of its line."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with self.file.open("ab") as file:
            place = file.tell()
            file.write(readable_json(entry).encode() + b"\n")
        if entry["key"]:
            self.places[entry["key"]] = place
        return place

    def read(self, places: Iterable[int]) -> Iterator[Any]:
        """Reads the objects whose lines begin at these positions."""
        with self.file.open("rb") as file:
            for place in places:
                file.seek(place)
                yield parse_json(file.readline())

    def keep(self, places: Iterable[int]) -> None:
        """Rewrites the file with the lines at these positions that have a key, in this order."""
        self.places = {}
        with written_aside(self.file) as partial, partial.open("wb") as new:
            for item in self.read(places) if self.file.is_file() else ():
                if item["key"]:
                    self.places[item["key"]] = new.tell()
                    new.write(readable_json(item).encode() + b"\n")


def files_below(folder: Path) -> list[Path]:
    """All files in a folder and in the folders in it, sorted, without those that are hidden.

    Linked folders are searched too, each once, and none that contains `folder`. A link to nothing
    counts as a file: whoever reads it says that there is none.
    """
    found: list[Path] = []
    root, seen = folder.resolve(), set[Path]()
    for name, folders, names in os.walk(folder, onerror=_tell, followlinks=True):
        place = Path(name)
        real = place.resolve()
        if real in seen or (root.is_relative_to(real) and real != root):
            folders.clear()
            continue
        seen.add(real)
        # links last: a folder that has several names is searched under its own
        shown = [one for one in folders if not one.startswith(".")]
        folders[:] = sorted(shown, key=lambda one: ((place / one).is_symlink(), one))
        # macOS leaves ._* files beside recordings
        found += [place / one for one in names if not one.startswith(".")]
    return sorted(found)


def _tell(error: OSError) -> None:
    _log.warning("%s: cannot be searched (%s)", error.filename, error.strerror)

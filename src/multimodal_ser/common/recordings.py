"""A folder → the recordings and other files in it, also behind links."""

from __future__ import annotations

import logging
import os
from pathlib import Path

_log = logging.getLogger(__name__)
ENDINGS = (
    ".wav", ".flac", ".mp3", ".ogg", ".oga", ".opus", ".aif", ".aiff", ".aifc", ".au", ".snd",
    ".w64", ".rf64", ".caf", ".voc", ".sph", ".gsm", ".amr", ".awb", ".aac", ".ac3", ".eac3",
    ".m4a", ".m4b", ".mp2", ".mka", ".weba", ".wma", ".spx", ".wv", ".tta", ".ape", ".mpc", ".dts",
    ".mp4", ".m4v", ".mov", ".qt", ".3gp", ".3g2", ".mkv", ".webm", ".avi", ".wmv", ".asf", ".flv",
    ".f4v", ".ts", ".mts", ".m2ts", ".mpg", ".mpeg", ".vob", ".ogv", ".mxf", ".nut", ".wtv", ".rm",
    ".wave", ".bwf", ".mpga", ".m4r", ".adts",
)  # fmt: skip


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

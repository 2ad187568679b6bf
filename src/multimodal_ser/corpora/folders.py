"""Reads recordings sorted into one folder per emotion, such as ``angry/*.wav``.

A recording's emotion is the innermost folder above it whose name is an emotion, or else the
folder that contains it. An outermost folder called ``train``, ``dev`` (``val``, ``validation``) or
``test`` is the part. Speakers are read from paths only by a pattern that the user gives, because a
folder per speaker cannot be distinguished from a folder per day.
"""

from __future__ import annotations

import re
from pathlib import Path

from multimodal_ser.common.recordings import ENDINGS, files_below
from multimodal_ser.corpora.base import CorpusInfo, require_folder
from multimodal_ser.corpora.rows import PART_SPELLINGS, of_rows
from multimodal_ser.corpora.utterance import SPLITS, Corpus
from multimodal_ser.corpora.words import known
from multimodal_ser.errors import SerError


def read_folders(root: Path, name: str | None = None, *, speaker: str | None = None) -> Corpus:
    r"""Reads every recording below the folder.

    Args:
        root: the folder.
        name: the corpus's name in ids and results; None for the folder's.
        speaker: regular expression whose first group is the speaker, in the path below `root`,
            such as ``Actor_(\d+)``.

    Raises:
        SerError: no folder, no recording in a folder of its own, or an invalid pattern.
    """
    root = require_folder(Path(root), "recordings sorted by emotion")
    try:
        pattern = re.compile(speaker) if speaker else None
    except re.error as error:
        raise SerError(f"--speaker {speaker!r} is no regular expression: {error}") from error
    if pattern and not pattern.groups:
        raise SerError(rf"--speaker {speaker!r} has no group; write it as 'Actor_(\d+)'")
    paths = [path for path in files_below(root) if path.suffix.lower() in ENDINGS]
    rows = []
    for path in paths:
        above = path.relative_to(root).parts[:-1]
        if above:
            found = pattern.search(path.relative_to(root).as_posix()) if pattern else None
            part = above[0].casefold()
            rows.append(
                {
                    "audio": path.relative_to(root).as_posix(),
                    # innermost first: in happy/Actor_01/x.wav the speaker's folder is nearer, but
                    # is no emotion
                    "emotion": next((one for one in above[::-1] if known(one)), above[-1]),
                    "split": part
                    if part in (*SPLITS, *PART_SPELLINGS) and len(above) > 1
                    else None,
                    "speaker": found[1] if found else None,
                }
            )
    if not rows:
        raise SerError(f"{root}: no recordings in folders of their own, such as {root}/angry/1.wav")
    asked = "no speakers are read; if the paths contain them: --speaker 'Actor_(\\d+)'"
    notes = [] if pattern else [asked]
    if loose := [path.name for path in paths if path.parent == root]:
        notes.append(f"{len(loose)} recordings, such as {loose[0]}, are in no folder: left out")
    return of_rows(name or root.resolve().name, root / "folders", rows, notes=notes)


FOLDERS = CorpusInfo(
    name="folders",
    description="your own recordings, in one folder per emotion",
    read=read_folders,
    licence="that of the recordings",
)

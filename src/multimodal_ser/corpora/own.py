"""Users' own recordings → Utterance: a table of them, or a folder for each emotion.

A table is CSV, TSV, JSONL, JSON (a list) or Parquet, one utterance per row. Its columns are
``audio`` and ``emotion``; where there are such, ``id``, ``text``, ``speaker``, ``session``,
``dialogue``, ``start``, ``end`` (seconds), ``split``, ``arousal``, ``valence``, ``dominance`` and
``votes`` (``anger:3 neutral:2``, or an object in JSONL), in these or other usual spellings
(`columns.SPELLINGS`), which are reported in notes. Other columns go to ``extra``. Emotions are
names of classes, such as ``anger``. A row without an emotion is read if it has votes (its emotion
is then the one with most of them, or ``no agreement``) or attributes (``no label``).

In folders, a recording's emotion is the innermost folder above it whose name is an emotion, or else
the innermost one that names neither the part nor, as the pattern says, the speaker. An outermost
folder called ``train``, ``dev`` (``val``, ``validation``) or ``test`` is the part. Speakers are
read from paths only by a pattern that the user gives, because a folder per speaker cannot be
distinguished from a folder per day.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from multimodal_ser.common.files import ENDINGS, files_below
from multimodal_ser.corpora.base import check_name, require_folder
from multimodal_ser.corpora.cells import read_cells
from multimodal_ser.corpora.columns import understood
from multimodal_ser.corpora.labels import is_emotion
from multimodal_ser.corpora.rows import NEEDED, of_cells, of_rows, part_named
from multimodal_ser.corpora.utterance import Corpus
from multimodal_ser.errors import SerError, counted


def read_table(
    root: Path,
    name: str | None = None,
    *,
    columns: Sequence[str] = (),
    encoding: str | None = None,
    audio_dir: str = ".",
) -> Corpus:
    """Reads a table; its rows keep their order.

    Args:
        root: the table's file.
        name: the corpus's name in ids and results; None for the file's name.
        columns: ``start=von`` if the column start is called von, ``start=none`` if there is none.
        encoding: of the text; None to detect it (an error if that is ambiguous).
        audio_dir: the folder of the recordings, to which the table's paths are relative; itself
            relative to the table's folder, or, where none of them is there, to the current one.

    Raises:
        SerError: the file or a column is missing, the name is taken, a cell cannot be read, or an
            id occurs twice; the message gives line number and column.
    """
    path = Path(root)
    if not path.is_file():
        raise SerError(f"no table at {path}; give the CSV, TSV, JSON or Parquet file itself")
    name = check_name(path.stem if name is None else name)
    cells = read_cells(path, encoding, partial(_fits, f"{path}:1"))
    return of_cells(name, path, cells, columns, own_words=True, audio_dir=audio_dir)


def _fits(where: str, columns: Sequence[str]) -> bool:
    """Whether these columns could be a table's: audio or emotion is among them."""
    recognised = understood(where, [*dict.fromkeys(columns)]).column if len(columns) > 1 else ()
    return bool({*NEEDED} & {*recognised})


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
            audio = path.relative_to(root).as_posix()
            match = pattern.search(audio) if pattern else None
            of_speaker = audio.count("/", 0, match.start(1)) if match else None
            rows.append(
                {
                    "audio": audio,
                    "emotion": _emotion(above, of_speaker),
                    "split": part_named(above[0]) if len(above) > 1 else None,
                    "speaker": match[1] if match else None,
                }
            )
    if not rows:
        raise SerError(f"{root}: no recordings in folders of their own, such as {root}/angry/1.wav")
    notes = []
    if not pattern:
        notes.append("no speakers are read; if the paths contain them: --speaker 'Actor_(\\d+)'")
    if loose := [path.name for path in paths if path.parent == root]:
        notes.append(
            f"left out, in no folder: {counted(len(loose), 'recording')}, such as {loose[0]}"
        )
    return of_rows(name or root.resolve().name, root / "folders", rows, notes=notes)


def _emotion(above: Sequence[str], of_speaker: int | None) -> str:
    """The folder that says the emotion: the innermost whose name is one, or is nothing else.

    Args:
        above: the folders of a recording, from the outermost to the innermost.
        of_speaker: place of the one that names the speaker, if that is known.

    >>> _emotion(["happy", "Actor_01"], None), _emotion(["train", "wut", "Actor_01"], 2)
    ('happy', 'wut')
    >>> _emotion(["train", "wut_01"], 1)
    'wut_01'
    """
    other = [
        name
        for place, name in enumerate(above)
        if place != of_speaker and not (place == 0 and part_named(name))
    ]
    named = [name for name in above if is_emotion(name)]
    return (named or other or list(above))[-1]

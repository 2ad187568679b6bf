"""a table of one's own → Utterance: CSV, TSV or JSONL, one utterance a row.

Columns: ``audio`` and ``emotion``; where there are such, ``id``, ``text``, ``speaker``,
``session``, ``dialogue``, ``start``, ``end`` (seconds) and ``split``. Other columns go to
``extra``. Emotions are the names of classes, such as ``anger``.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from multimodal_ser.corpora.base import CorpusInfo, fault, finish, read_text
from multimodal_ser.corpora.utterance import Corpus, Utterance
from multimodal_ser.errors import SerError
from multimodal_ser.labels import BUILT_IN_CORPORA

NEEDED = ("audio", "emotion")
OPTIONAL = ("id", "text", "speaker", "session", "dialogue", "start", "end", "split")
SPLITS = ("train", "dev", "test")

_SEPARATORS = {".csv": ",", ".tsv": "\t"}
_WORDS = ("text", "speaker", "session", "dialogue", "split")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


def read(root: Path, name: str | None = None) -> Corpus:
    """Reads a table.

    Args:
        root: the table's file. Its audio paths are relative to the folder that it stands in.
        name: the corpus's name in ids and results; None takes the file's name.

    Raises:
        SerError: no such file, a missing column, a name that is taken, a cell that cannot be
            read, or an id that occurs twice; the message has the line's number.
    """
    path = Path(root)
    if not path.is_file():
        raise SerError(f"no table at {path}; give the CSV, TSV or JSONL file itself")
    name = _check_name(path.stem if name is None else name)
    lines: dict[str, int] = {}
    utterances: list[Utterance] = []
    left_out: list[str] = []
    for number, row in _rows(path):
        made = _utterance(row, name, path.parent, f"{path}:{number}")
        if made.id in lines:
            raise SerError(
                f"{path}:{number}: the id {made.id!r} is already that of line {lines[made.id]}; "
                "give each row its own in a column id"
            )
        lines[made.id] = number
        reason = None if made.audio is None else fault(Path(made.audio))
        if not made.emotion:
            reason = "no emotion"
        if reason:
            left_out.append(f"{made.id} (line {number}): {reason}")
        else:
            utterances.append(made)
    return finish(name, path, utterances, left_out)


def _check_name(name: str) -> str:
    if name in BUILT_IN_CORPORA:
        raise SerError(
            f"a table may not be named {name!r}: that is a built-in corpus with words of its own; "
            "rename the file or give another name"
        )
    if not _NAME.fullmatch(name):
        raise SerError(
            f"a table may not be named {name!r}; allowed: letters, digits, '_', '-' and '.'; "
            "rename the file or give another name"
        )
    return name


def _rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yields line number and cells of every row that holds anything."""
    suffix = path.suffix.lower()
    if suffix == ".jsonl":
        yield from _json_rows(path)
    elif suffix in _SEPARATORS:
        yield from _cell_rows(path, _SEPARATORS[suffix])
    else:
        raise SerError(f"{path}: ends in {suffix!r}; allowed: .csv, .tsv, .jsonl")


def _cell_rows(path: Path, separator: str) -> Iterator[tuple[int, dict[str, Any]]]:
    reader = csv.reader(io.StringIO(read_text(path)), delimiter=separator)
    try:
        lines = [(reader.line_num, cells) for cells in reader]
    except csv.Error as error:  # a quote that is never closed swallows the rest of the file
        raise SerError(f"{path}:{reader.line_num}: {error}; look for an open quote") from error
    columns = [cell.strip() for cell in lines[0][1]] if lines else []
    _check_columns(f"{path}:1", columns)
    for number, cells in lines[1:]:
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) != len(columns):
            raise SerError(
                f"{path}:{number}: has {len(cells)} cells where the header has "
                f"{len(columns)}; put cells that hold the separator in double quotes"
            )
        yield number, dict(zip(columns, (cell.strip() for cell in cells), strict=True))


def _json_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise SerError(f"{path}:{number}: not a JSON object ({error})") from error
        if not isinstance(row, dict):
            raise SerError(f"{path}:{number}: not a JSON object, but {type(row).__name__}")
        _check_columns(f"{path}:{number}", list(row))
        yield number, row


def _check_columns(where: str, columns: list[str]) -> None:
    repeated = sorted({name for name in columns if columns.count(name) > 1})
    missing = [name for name in NEEDED if name not in columns]
    if missing or repeated:
        what = f"{missing} missing" if missing else f"{repeated} more than once"
        raise SerError(
            f"{where}: has the columns {columns}: {what}; needed: {', '.join(NEEDED)}; "
            f"optional: {', '.join(OPTIONAL)}; others are kept in extra"
        )


def _utterance(row: dict[str, Any], name: str, folder: Path, where: str) -> Utterance:
    words = {key: _word(row, key, where) for key in (*NEEDED, "id", *_WORDS)}
    audio, own_id = words["audio"], words["id"]
    start, end = _seconds(row, "start", where), _seconds(row, "end", where)
    if start is not None and end is not None and end <= start:
        raise SerError(f"{where}: end {end} is not after start {start}; both are in seconds")
    if words["split"] not in (None, *SPLITS):
        raise SerError(f"{where}: split {words['split']!r}; allowed: {', '.join(SPLITS)} or empty")
    if audio is None and (own_id is None or words["text"] is None):
        raise SerError(f"{where}: no audio; a row of words alone needs the columns id and text")
    known = {*NEEDED, *OPTIONAL}
    return Utterance(
        id=f"{name}/{own_id or _id_of(str(audio), start)}",
        corpus=name,
        emotion=words["emotion"] or "",
        audio=None if audio is None else str(folder / audio),
        start=start,
        end=end,
        extra={
            key: cell for key, cell in row.items() if key not in known and cell not in ("", None)
        },
        **{key: words[key] for key in _WORDS},
    )


def _id_of(audio: str, start: float | None) -> str:
    own_id = Path(audio).with_suffix("").as_posix().lstrip("/")
    return own_id if start is None else f"{own_id}@{start:g}"


def _word(row: dict[str, Any], key: str, where: str) -> str | None:
    cell = row.get(key)
    if cell is None or cell == "":
        return None
    if isinstance(cell, bool) or not isinstance(cell, str | int | float):
        raise SerError(f"{where}: {key} is {cell!r}; allowed: text or a number")
    return str(cell)


def _seconds(row: dict[str, Any], key: str, where: str) -> float | None:
    cell = _word(row, key, where)
    if cell is None:
        return None
    try:
        seconds = float(cell)
    except ValueError:
        seconds = math.nan
    if not (math.isfinite(seconds) and seconds >= 0):
        raise SerError(f"{where}: {key} is {cell!r}; allowed: seconds, 0 or more, such as 1.25")
    return seconds


INFO = CorpusInfo(
    name="table",
    description="a CSV, TSV or JSONL file of one's own with the columns audio and emotion",
    read=read,
    licence="that of the recordings it lists",
    citation="",
    url="",
    labels=None,
)

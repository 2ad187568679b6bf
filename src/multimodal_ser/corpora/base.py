"""corpus folder → corpora: what every reader shares: its description, finding files, odd bytes."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from multimodal_ser.common.files import parse_json
from multimodal_ser.corpora.utterance import Corpus, Utterance
from multimodal_ser.errors import SerError

SOUND = (".wav", ".flac", ".ogg", ".opus", ".mp3")
VIDEO = (".mp4",)
NOTE = "note: "  # begins a line of `left_out` about something that is kept
NO_FILE = "no such file"
EMPTY = "empty file (0 bytes)"
_GIT_LFS = "a Git LFS pointer, not sound: run `git lfs pull` in the corpus folder"

_POINTER_SIZE = 1024  # the specification's upper bound for a pointer file
_POINTER_START = b"version https://git-lfs"
# Windows-1252 in both of the ways it gets lost: as stray bytes between UTF-8 (surrogate-escaped)
# and as the control characters U+0080 to U+009F that a Latin-1 reading leaves behind.
_WINDOWS_1252 = {
    place + byte: bytes([byte]).decode("cp1252", "replace")
    for place, first in ((0, 0x80), (0xDC00, 0x80))
    for byte in range(first, 0xA0 if place == 0 else 0x100)
}


@dataclass(frozen=True)
class CorpusInfo:
    """What CORPORA says of a corpus.

    Attributes:
        name: the corpus's name in commands, ids and class sets.
        description: one line.
        read: ``read(root, **options) -> Corpus``; it looks at names and sizes, never at sound.
        licence: under which terms its owners give it.
        citation: BibTeX; empty where there is nothing to cite (a table of the user's own).
        url: where to ask for it.
        labels: the class set to use unless another is asked for; None for a table.
        attribute_scale: least and greatest value of its `Utterance.attributes`; None where it has
            none, or where that differs from table to table.
        speakers: how many people speak; None where that is not known.
        parts: its official split, in words; empty where it has none.
        traps: what is known to mislead: labels, speakers, files.
    """

    name: str
    description: str
    read: Callable[..., Corpus]
    licence: str
    citation: str = ""
    url: str = ""
    labels: str | None = None
    attribute_scale: tuple[float, float] | None = None
    speakers: int | None = None
    parts: str = ""
    traps: str = ""

    @property
    def cited(self) -> str:
        """The citation in short, such as "Busso and others, 2008"."""
        author = re.search(r"author\s*=\s*\{+(.*?)\}+,\n", self.citation, re.DOTALL)
        year = re.search(r"year\s*=\s*\{(\d+)", self.citation)
        if author is None or year is None:
            return ""
        names = re.split(r"\s+and\s+", author[1])
        more = " and others" if len(names) > 1 else ""
        return f"{names[0].split(',')[0]}{more}, {year[1]}"


@cache
def _citations() -> dict[str, str]:
    """Key → entry of ``citations.bib``."""
    text = (Path(__file__).parent / "citations.bib").read_text("utf-8")
    return {one.split("{", 1)[1].split(",", 1)[0]: one for one in text.strip().split("\n\n")}


def cite(key: str) -> str:
    """The BibTeX entry of ``citations.bib`` with a key."""
    return _citations()[key]


def traps_of(said: str | None) -> str:
    """What a reader's module says of known traps.

    >>> traps_of("Reads it. Known traps: a; b.")
    'a; b.'
    """
    found = re.search(r"Known traps?:\s*(.*)", said or "", re.DOTALL)
    return " ".join(found[1].split()).replace("``", "`") if found else ""


def decode_text(raw: bytes) -> str:
    r"""Decodes text that is UTF-8 in some places and Windows-1252 in others.

    >>> decode_text(b"\xc3\xa9lan isn\x92t \xc2\x92")
    'élan isn’t ’'
    """
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):  # as spreadsheets save text
        return raw.decode("utf-16", "replace")
    return raw.decode("utf-8-sig", "surrogateescape").translate(_WINDOWS_1252)


def read_text(path: Path) -> str:
    """Reads a text file whose encoding may be mixed, with plain line ends."""
    return decode_text(path.read_bytes()).replace("\r\n", "\n").replace("\r", "\n")


def read_csv_rows(path: Path, needed: Iterable[str], index: str = "") -> list[dict[str, str]]:
    """Reads a corpus's own CSV file; cells are stripped, missing ones are empty.

    Args:
        path: of the file.
        needed: columns that must be there.
        index: how to call the column without a name, which R writes; it is left out otherwise.

    Raises:
        SerError: a column of `needed` is missing.
    """
    reader = csv.DictReader(io.StringIO(read_text(path)))
    columns = [name.strip() for name in reader.fieldnames or ()]
    if missing := [name for name in needed if name not in columns]:
        raise SerError(
            f"{path}: has the columns {columns}, but {missing} are needed; "
            "take the file from the corpus's own release"
        )
    reader.fieldnames = columns = [name or index for name in columns]
    return [
        {name: (row.get(name) or "").strip() for name in columns if name}  # an index has no name
        for row in reader
    ]


def json_of(path: Path, text: str | bytes) -> dict[str, Any]:
    """A JSON object that stands in a file.

    Raises:
        SerError: it is none.
    """
    try:
        return dict(parse_json(text))
    except (ValueError, TypeError) as error:
        raise SerError(f"{path}: no JSON object ({error}); fetch the file again") from error


def is_hidden(path: Path) -> bool:
    """Whether a file is no part of a corpus: macOS's ``._name`` companions and dot files."""
    return path.name.startswith(".")


def files(folder: Path, suffixes: Iterable[str] = SOUND) -> list[Path]:
    """A folder's files with one of the suffixes, sorted; hidden files are no part of it."""
    if not folder.is_dir():
        return []
    allowed = set(suffixes)
    return sorted(
        path for path in folder.iterdir() if path.suffix.lower() in allowed and not is_hidden(path)
    )


def fault(path: Path) -> str | None:
    """Says why a file cannot be a recording, judged by its size and first bytes; None if it may."""
    if not path.is_file():
        return NO_FILE
    size = path.stat().st_size
    if size == 0:
        return EMPTY
    if size < _POINTER_SIZE:
        with path.open("rb") as file:
            if file.read(len(_POINTER_START)) == _POINTER_START:
                return _GIT_LFS
    return None


def require_folder(root: Path, corpus: str) -> Path:
    """Returns `root`, or raises SerError where it is no folder."""
    if not root.is_dir():
        raise SerError(f"no folder {root}; give the folder that {corpus} was unpacked into")
    return root


def finish(
    corpus: str, root: Path, utterances: list[Utterance], left_out: list[str], *, by_id: bool = True
) -> Corpus:
    """Checks what was read, and sorts it by id; a table's rows keep their order.

    Raises:
        SerError: two utterances have one id, such as those of a wav beside a flac; or nothing
            usable is left, and the message says whether Git LFS pointers are why.
    """
    if not utterances:
        reason = "; ".join(left_out[:3]) or "nothing in it looks like it"
        if pointers := sum(line.endswith(_GIT_LFS) for line in left_out):
            reason = f"all {pointers} recordings are Git LFS pointers: run `git lfs pull`"
        raise SerError(f"no {corpus} recordings in {root}: {reason}")
    _refuse_twins(utterances)
    rows = sorted(utterances, key=lambda row: row.id) if by_id else utterances
    return Corpus(rows, left_out)


def _refuse_twins(utterances: Iterable[Utterance]) -> None:
    first: dict[str, Utterance] = {}
    twins = [(first[row.id], row) for row in utterances if first.setdefault(row.id, row) is not row]
    if twins:
        one, other = twins[0]
        raise SerError(
            f"{len(twins)} utterances have the id of another: {one.id!r} is both {one.audio} and "
            f"{other.audio}; keep one file of each recording in the folder"
        )

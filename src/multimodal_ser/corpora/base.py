"""Shared by all corpus readers: descriptions, finding files, broken encodings, raters' votes."""

from __future__ import annotations

import codecs
import csv
import filecmp
import io
import os
import re
from collections import defaultdict
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import zip_longest
from pathlib import Path
from statistics import fmean
from typing import Any

from multimodal_ser.common.files import parse_json
from multimodal_ser.corpora.labels import BUILT_IN_CORPORA
from multimodal_ser.corpora.utterance import Corpus, Utterance
from multimodal_ser.errors import SerError, counted, some_of

SOUND = (".wav", ".flac", ".ogg", ".opus", ".mp3")
VIDEO = (".mp4",)
Raters = dict[str, dict[str, Any]]
"""Rater → ``emotion`` (a list of words), ``second`` (secondary words), a level,
arousal, valence, dominance. It is stored as ``raters`` in an utterance's ``extra``."""
Lost = list[tuple[str, str]]
"""File and line of an answer of a rater that does not vote, and why."""
NOTE = "note: "  # starts a line of `left_out` about something that is kept nevertheless
NO_FILE = "no such file"
EMPTY = "empty file (0 bytes)"
_GIT_LFS = "a Git LFS pointer, not sound: run `git lfs pull` in the corpus folder"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_POINTER_SIZE = 1024  # the specification's upper bound for a pointer file
_POINTER_START = b"version https://git-lfs"
# Windows-1252 in both of the ways it gets lost: as the control characters U+0080 to U+009F that a
# Latin-1 reading leaves behind, and as stray bytes in UTF-8 (surrogate-escaped).
_CP1252 = bytes(range(0x80, 0x100)).decode("cp1252", "replace")
_WINDOWS_1252 = {
    **dict(zip(range(0x80, 0xA0), _CP1252, strict=False)),
    **dict(zip(range(0xDC80, 0xDD00), _CP1252, strict=True)),
}


@dataclass(frozen=True)
class CorpusInfo:
    """The description of a corpus in CORPORA.

    Attributes:
        name: the corpus's name in commands, ids and class sets.
        description: one line.
        read: ``read(root, **options) -> Corpus``; it looks at names and sizes and decodes no audio.
        licence: the terms under which it is released.
        citation: BibTeX; empty if there is nothing to cite (a table of the user's own).
        url: where to get it.
        labels: the default class set; None for a table.
        attribute_scale: smallest and largest value of its `Utterance.attributes`; None if it has
            none, or if that differs from table to table.
        speakers: number of speakers; None if unknown.
        parts: its official split, in words; empty if it has none.
        traps: known pitfalls of labels, speakers and files.
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
        """The citation in short form, such as "Busso and others, 2008"."""
        author = re.search(r"author\s*=\s*\{+(.*?)\}+,\n", self.citation, re.DOTALL)
        year = re.search(r"year\s*=\s*\{(\d+)", self.citation)
        if author is None or year is None:
            return ""
        names = re.split(r"\s+and\s+", author[1])
        more = " and others" if len(names) > 1 else ""
        return f"{names[0].split(',')[0]}{more}, {year[1]}"


@cache
def facts() -> dict[str, dict[str, Any]]:
    """What is known of each corpus apart from its reader: the content of ``corpora.json``."""
    return dict(parse_json((Path(__file__).parent / "corpora.json").read_text("utf-8")))


def person(written: str) -> dict[str, Any]:
    """Sex and age of a speaker from the form that they have in ``corpora.json``.

    >>> person("male:31"), person("female")
    ({'sex': 'male', 'age': 31}, {'sex': 'female'})
    """
    sex, _, age = written.partition(":")
    return {"sex": sex, **({"age": int(age)} if age else {})}


@cache
def citations() -> dict[str, str]:
    """Returns the BibTeX entries of ``citations.bib`` by key."""
    text = (Path(__file__).parent / "citations.bib").read_text("utf-8")
    return {one.split("{", 1)[1].split(",", 1)[0]: one for one in text.strip().split("\n\n")}


def decode_text(raw: bytes) -> str:
    r"""Decodes text that is UTF-8 in some places and Windows-1252 in others.

    >>> decode_text(b"\xc3\xa9lan isn\x92t \xc2\x92")
    'élan isn’t ’'
    """
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):  # as spreadsheets save text
        return raw.decode("utf-16", "replace")
    # surrogateescape keeps each stray byte as U+DC80 to U+DCFF, so that the table can still
    # translate it
    return raw.decode("utf-8-sig", "surrogateescape").translate(_WINDOWS_1252)


def read_text(path: Path) -> str:
    """Reads a text file whose encoding may be mixed, with plain line ends."""
    return decode_text(path.read_bytes()).replace("\r\n", "\n").replace("\r", "\n")


def read_csv_rows(path: Path, needed: Sequence[str], index: str = "") -> list[dict[str, str]]:
    """Reads a corpus's own CSV file; cells are stripped, missing ones are empty.

    Args:
        path: of the file.
        needed: columns that must be there.
        index: how to call the column without a name, which R writes; it is left out otherwise.

    Raises:
        SerError: a column is missing, a quote is left open, or a row has more cells than columns,
            or none for one that is needed.
    """
    reader = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
    try:
        filled = [(reader.line_num, cells) for cells in reader if any(map(str.strip, cells))]
    except csv.Error as error:  # such a quote would swallow the rows after it
        raise SerError(f"{path}:{reader.line_num}: {error}; fetch the file again") from error
    (_, header), *lines = filled or [(1, [])]
    columns = [name.strip() or index for name in header]
    if missing := [name for name in (*needed, index) if name and name not in columns]:
        raise SerError(
            f"{path}: has the columns {columns}, but {missing} are needed; "
            "take the file from the corpus's own release"
        )
    least = max((columns.index(name) + 1 for name in (*needed, index) if name), default=0)
    for number, cells in lines:
        # cells after one comma too many, or too few, are those of other columns
        if len(cells) < least or any(cell.strip() for cell in cells[len(columns) :]):
            raise SerError(
                f"{path}:{number}: has {len(cells)} cells where the header has {len(columns)}; "
                "fetch the file again, or put cells that hold a comma in double quotes"
            )
    rows = [dict(zip_longest(columns, cells[: len(columns)], fillvalue="")) for _, cells in lines]
    # the column of an index has no name
    return [{name: cell.strip() for name, cell in row.items() if name} for row in rows]


def json_of(path: Path, text: str | bytes) -> dict[str, Any]:
    """Parses a JSON object; the path is for error messages.

    Raises:
        SerError: it is not a JSON object.
    """
    try:
        return dict(parse_json(text))
    except (ValueError, TypeError) as error:
        raise SerError(f"{path}: no JSON object ({error}); fetch the file again") from error


def is_hidden(path: Path) -> bool:
    """Whether a file does not belong to a corpus: macOS's ``._name`` companions and dot files."""
    return path.name.startswith(".")


def files(folder: Path, suffixes: Iterable[str] = SOUND) -> list[Path]:
    """Returns a folder's files with one of the suffixes, sorted, without hidden files."""
    if not folder.is_dir():
        return []
    allowed = set(suffixes)
    return sorted(
        path for path in folder.iterdir() if path.suffix.lower() in allowed and not is_hidden(path)
    )


def sound_at(path: Path) -> Path:
    """The recording that a table names, or the one beside it with another ending, such as .flac."""
    if path.is_file():
        return path
    others = [path.with_suffix(end) for suffix in SOUND for end in (suffix, suffix.upper())]
    return next((one for one in others if one.is_file()), path)


def fault(path: Path) -> str | None:
    """Says why a file cannot be a recording, by its size and first bytes; None if it may be one."""
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


def check_name(name: str) -> str:
    """Returns a user's corpus name, or raises SerError if it is not allowed."""
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


def require_folder(root: Path, corpus: str, *holds: str) -> Path:
    """Returns `root`, or the only folder in it that looks like the corpus.

    Args:
        root: what the user gave.
        corpus: its name in messages.
        holds: patterns of which the corpus's folder contains one. Archives often unpack into a
            folder of their own; if `root` has none of these and one folder in it does, that is it.

    Raises:
        SerError: `root` is not a folder, or several folders in it look like the corpus.
    """
    if not root.is_dir():
        raise SerError(f"no folder {root}; give the folder that {corpus} was unpacked into")

    def fits(folder: Path) -> bool:
        return any(next(folder.glob(pattern), None) for pattern in holds)

    if not holds or fits(root):
        return root
    deeper = sorted(path for path in root.iterdir() if path.is_dir() and fits(path))
    if len(deeper) > 1:
        names = ", ".join(path.name for path in deeper)
        raise SerError(f"{root}: several folders in it look like {corpus}: {names}; give one")
    return deeper[0] if deeper else root


def by_stem(paths: Iterable[Path], prefix: str) -> dict[str, Path]:
    """Returns recordings by their name without ending.

    Args:
        paths: of recordings.
        prefix: what comes before the name in an id, for messages.

    Raises:
        SerError: two usable files have one name, such as a wav and a flac of one recording.
    """
    found: dict[str, Path] = {}
    for path in paths:
        other = found.get(path.stem)
        # a usable copy beside a broken one replaces it; of two usable ones, none can be chosen
        if other is None or fault(other):
            found[path.stem] = path
        elif not fault(path):
            raise SerError(
                f"{prefix}{path.stem} is both {other} and {path}; keep one file of each recording"
            )
    return found


def finish(
    corpus: str, root: Path, found: Iterable[Utterance | str], *, by_id: bool = True
) -> Corpus:
    """Checks what a reader found, and sorts the utterances by id.

    Args:
        corpus: its name in messages.
        root: the folder or file that was read.
        found: utterances, and a line for everything else that says why it is left out. Of
            utterances that are equal in everything (a table repeats a line, or a folder of the
            corpus is there twice) the first is kept.
        by_id: False keeps the order, as for the rows of a table.

    Raises:
        SerError: two utterances have the same id, such as a wav and a flac of one recording; or
            nothing usable is left (the message says if Git LFS pointers are the reason).
    """
    found = list(found)
    utterances = [one for one in found if isinstance(one, Utterance)]
    left_out = [one for one in found if isinstance(one, str)]
    if not utterances:
        reason = "; ".join(left_out[:3]) or "no file in it is named as in that corpus"
        if pointers := sum(line.endswith(_GIT_LFS) for line in left_out):
            reason = f"all {pointers} recordings are Git LFS pointers: run `git lfs pull`"
        raise SerError(f"no {corpus} recordings in {root}: {reason}")
    first: dict[str, Utterance] = {}
    again = [row for row in utterances if first.setdefault(row.id, row) is not row]
    pairs = [(first[row.id], row) for row in again]
    twins = [pair for pair in pairs if pair[0] != pair[1] and not _is_copy(*pair)]
    # of two recordings with one id, one could be in the training and the other in the test part
    if twins:
        one, other = twins[0]
        what = f"both {one.audio} and {other.audio}; keep one file of each recording in the folder"
        if one.audio == other.audio:
            what = f"listed twice, in different ways, for {one.audio}; correct the corpus's table"
        count = counted(len(twins), "utterance")
        raise SerError(f"{count} with the id of another: {one.id!r} is {what}")
    for one, row in pairs:
        what = "the same again"
        if row != one:
            folder = Path(os.path.relpath(Path(str(row.audio)).parent, root))
            what = f"a second copy, in {folder.as_posix()}"
        left_out.append(f"{row.id}: {what}")
    rows = sorted(first.values(), key=lambda row: row.id) if by_id else [*first.values()]
    return Corpus(rows, left_out)


def _is_copy(one: Utterance, other: Utterance) -> bool:
    """Whether two utterances differ only in the folder of one and the same file."""
    own, copy = Path(str(one.audio)), Path(str(other.audio))
    same = replace(other, audio=one.audio) == one and own.name == copy.name
    return same and filecmp.cmp(own, copy, shallow=False)


def votes_of(answers: Iterable[Mapping[str, Any]]) -> dict[str, int | float]:
    """Counts one vote per rater; a rater who chose several words gives each an equal share.

    Args:
        answers: each rater's answer, such as the values of `Raters`.

    >>> votes_of([{"emotion": ["neu"]}, {"emotion": ["neu", "ang"]}, {"arousal": 3.0}])
    {'neu': 1.5, 'ang': 0.5}
    """
    votes: dict[str, float] = defaultdict(float)
    for answer in answers:
        words = dict.fromkeys(answer.get("emotion", ()))
        for word in words:
            votes[word] += 1 / len(words)
    return {word: int(n) if n.is_integer() else round(n, 6) for word, n in votes.items()}


def put_answer(raters: Raters, who: str, answer: Mapping[str, Any], where: str, lost: Lost) -> None:
    """Adds a rater's answer; one that does not vote, or takes the place of another, is `lost`."""
    before = raters.get(who, {}).get("emotion")
    if not answer.get("emotion"):
        lost.append((where, "without an emotion"))
        raters.setdefault(who, {**answer})
        return
    if before and before != answer["emotion"]:
        lost.append((where, "unlike an earlier one of the same rater, which does not count"))
    raters[who] = {**answer}


def unlisted(raters: Iterable[str], listed: Container[str], table: str) -> list[str]:
    """A note about rated recordings that the corpus's table lists not, or by another name."""
    names = [one for one in raters if one not in listed]
    rated = f"{counted(len(names), 'rated recording')} not in {table}"
    return [f"{NOTE}{rated}, whose votes are not used: {some_of(names)}"] if names else []


def lost_votes(lost: Lost) -> list[str]:
    """Returns a note for each reason, with the first lines.

    >>> lost_votes([("a.csv:2", "without an emotion"), ("a.csv:7", "without an emotion")])
    ['note: 2 answers of raters without an emotion: a.csv:2, a.csv:7']
    """
    places: dict[str, list[str]] = defaultdict(list)
    for where, reason in lost:
        places[reason].append(where)
    return [
        f"{NOTE}{counted(len(lines), 'answer')} of raters {reason}: {some_of(lines)}"
        for reason, lines in places.items()
    ]


def means_of(answers: Iterable[Mapping[str, Any]], names: Iterable[str]) -> dict[str, float]:
    """Returns the mean of each number, such as arousal, over the raters who gave it.

    >>> means_of([{"arousal": 3.0}, {"arousal": 4.0}, {"emotion": ["neu"]}], ["arousal", "valence"])
    {'arousal': 3.5}
    """
    given = list(answers)
    values_of = {name: [one[name] for one in given if name in one] for name in names}
    return {name: fmean(values) for name, values in values_of.items() if values}


def most_chosen(votes: Mapping[str, float]) -> str | None:
    """Returns the word that most raters chose; None for a tie or without votes.

    >>> most_chosen({"joy": 2, "anger": 1}), most_chosen({"joy": 1, "anger": 1})
    ('joy', None)
    """
    first = [word for word, count in votes.items() if count == max(votes.values())]
    return first[0] if len(first) == 1 else None

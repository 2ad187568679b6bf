"""Turns rows of cells into utterances: the last step of all readers of tables."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from multimodal_ser.common.files import ENDINGS
from multimodal_ser.common.spelling import is_missing, spelling_notes, tidy
from multimodal_ser.corpora.base import NO_FILE, NOTE, check_name, fault, files, finish, most_chosen
from multimodal_ser.corpora.cells import Cells
from multimodal_ser.corpora.columns import (
    NONE,
    SPELLINGS,
    Meaning,
    as_number,
    asked_of_speakers,
    check_times,
    rating,
    seconds,
    understood,
)
from multimodal_ser.corpora.columns import votes as parse_votes
from multimodal_ser.corpora.labels import OTHER_LABELS, shared_word
from multimodal_ser.corpora.utterance import ATTRIBUTES, PREDICTED, SPLITS, Corpus, Utterance
from multimodal_ser.errors import SerError, counted

NEEDED = ("audio", "emotion")
_ROUNDING = 1e-3  # of probabilities in a table
_SHOWN = 80  # characters of a wrong cell
# Names that `ser analyze` and diarisers give to the speakers of one recording.
_NUMBERED = re.compile(r"(?:speaker|channel)[ _]\d+", re.IGNORECASE)
_RATED = (*ATTRIBUTES, "votes")  # a model can learn these even where there is no emotion
_OPTIONAL = tuple(name for name in SPELLINGS if name not in NEEDED)

_WORDS = ("text", "speaker", "session", "dialogue", "split")
_PART_SPELLINGS = {"training": "train", "val": "dev", "valid": "dev", "validation": "dev",
         "development": "dev", "testing": "test"}  # fmt: skip


def of_cells(
    name: str,
    path: Path,
    cells: Cells,
    columns: Sequence[str] = (),
    *,
    own_words: bool = False,
    audio_dir: str = ".",
) -> Corpus:
    """Recognises the columns of a table and reads its rows.

    Args:
        name: the corpus's name in ids and results.
        path: the table's file.
        cells: its rows.
        columns: ``start=von`` if the column start is called von, ``start=none`` if there is none.
        audio_dir: to which its audio paths are relative; itself relative to the file's folder, or,
            where none of the recordings is there, to the current folder.
        own_words: keep the rows' order and their words for emotions, instead of sorting by id and
            translating emotions into the words that class sets share.

    Raises:
        SerError: a column is missing, the name is taken, a cell cannot be read, or an id occurs
            twice; the message gives line number and column.
    """
    where = f"{path}:1"
    meaning = understood(where, cells.columns, columns)
    table = _Table(check_name(name), path, meaning, own_words, path.parent / audio_dir)
    _check_needed(where, cells.columns, table.meaning)
    notes = [*cells.notes, *table.meaning.notes, *check_times(where, cells, table.meaning)]
    if not table.has_any(cells) and (here := replace(table, folder=Path(audio_dir))).has_any(cells):
        table = here
        notes.append(f"recordings are read from {here.folder.absolute()}, not from {path.parent}")
    notes += asked_of_speakers(cells, table.meaning)
    utterances, left_out = _utterances(table, cells)
    utterances, numbered = _with_persons(utterances)
    if numbered:
        notes.append(
            f"{counted(numbered, 'speaker')} that `ser analyze` had numbered got the name of the "
            "recording too: the same number is another person's in another recording"
        )
    if _are_predicted(utterances):
        utterances = [replace(row, extra={**row.extra, "label": PREDICTED}) for row in utterances]
        notes.append(
            "the labels are a model's predictions, as the columns of their probabilities show: no "
            "result on them tells how often a model is right"
        )
    for column, count in table.missing.items():
        notes.append(f"read as empty: {counted(count, 'cell')} of {column} with nan, null or None")
    notes += [f"{own!r} was read as {word}" for own, word in sorted(table.translated.items())]
    if table.renamed:
        written, found = next(iter(table.renamed.items()))
        notes.append(
            f"{counted(len(table.renamed), 'recording')} found under names with another ending or "
            f"in other capitals, such as {found} for {written}"
        )
    for kind, names in (
        ("speaker", [row.speaker for row in utterances]),
        ("emotion", [row.emotion for row in utterances]),
    ):
        notes += spelling_notes(kind, names)
    sentences = [f"{NOTE}{note}" for note in notes]
    return finish(name, path, [*utterances, *left_out, *sentences], by_id=not own_words)


def _with_persons(rows: Sequence[Utterance]) -> tuple[list[Utterance], int]:
    """In a table of predicted segments, adds the recording to speakers that have only numbers."""
    named, persons = [*rows], set()
    for place, row in enumerate(rows):
        if _NUMBERED.fullmatch(row.speaker or "") and any(key[:2] == "p_" for key in row.extra):
            person = f"{row.speaker} of {row.audio}"
            named[place] = replace(row, speaker=person)
            persons.add(person)
    return named, len(persons)


def _are_predicted(rows: Sequence[Utterance]) -> bool:
    """Whether the emotions are those of the highest probability beside them, as `ser predict` does.

    Predictions below a threshold, or without speech, have other words; somebody's corrections
    differ from the probabilities.
    """
    named = [row for row in rows if row.emotion not in OTHER_LABELS]
    pairs = [(row.emotion, _most_probable(row.extra)) for row in named]
    return bool(named) and all(own in (word, shared_word(word)) for own, word in pairs)


def _most_probable(extra: Mapping[str, Any]) -> str:
    """The class of the highest probability, which is the confidence; empty if a row has none."""
    given = extra.get("probabilities")
    if not isinstance(given, Mapping):
        given = {key[2:]: cell for key, cell in extra.items() if key.startswith("p_")}
    try:
        shares = {str(word): float(cell) for word, cell in given.items()}
        sure = float(extra.get("confidence", "nan"))
    except (ValueError, TypeError):
        return ""
    best = max(shares, key=lambda word: shares[word], default="")
    # with a column of predictions beside it, the emotion is somebody's annotation
    shown = len(shares) > 1 and "label" not in extra and abs(shares[best] - sure) <= _ROUNDING
    return best if shown else ""


def of_rows(
    name: str,
    path: Path,
    rows: Iterable[Mapping[str, Any]],
    columns: Sequence[str] = (),
    notes: Sequence[str] = (),
) -> Corpus:
    """Calls `of_cells` for rows that are not from a text file; they are numbered from 1."""
    numbered = [
        (number, {key: cell for key, cell in row.items() if cell is not None})
        for number, row in enumerate(rows, 1)
    ]
    names = list(dict.fromkeys(key for _, row in numbered for key in row))
    return of_cells(name, path, Cells(numbered, names, list(notes)), columns)


@dataclass
class _Table:
    """What all rows of a table share.

    Attributes:
        missing: by column, the number of cells with words such as "nan".
        translated: the table's word for an emotion → the word that class sets share.
        renamed: name of a recording in the table → the name of its file, where they differ.
        listed: by folder, the names of its recordings by `_plain` name.
    """

    name: str
    path: Path
    meaning: Meaning
    own_words: bool
    folder: Path
    missing: Counter[str] = field(default_factory=Counter)
    translated: dict[str, str] = field(default_factory=dict)
    renamed: dict[str, str] = field(default_factory=dict)
    listed: dict[Path, dict[str, list[str]]] = field(default_factory=dict)

    def file(self, audio: str) -> Path:
        """Finds the file of a path in the table.

        It is looked for as it is written, with other slashes, in the other Unicode form, and, if
        there is one such recording in its folder, with another ending or in other capitals.
        """
        # tables come from Windows (backslashes) and macOS (file names in decomposed Unicode)
        spellings = [audio, audio.replace("\\", "/")]
        spellings += [unicodedata.normalize(form, spellings[1]) for form in ("NFC", "NFD")]
        paths = [self.folder / spelling for spelling in spellings]
        for path in paths:
            if path.is_file():
                return path
        # labels say .wav, or nothing, and the recordings were converted to flac since
        near = self._beside(paths[1])
        if len(near) != 1:
            return paths[0]
        self.renamed[paths[1].name] = near[0]
        return paths[1].with_name(near[0])

    def has_any(self, cells: Cells) -> bool:
        """Whether any of the recordings that the rows name is there."""
        named = (self.meaning.cell(row, "audio") for _, row in cells.rows)
        return any(isinstance(one, str) and one and self.file(one).is_file() for one in named)

    def _beside(self, path: Path) -> list[str]:
        """Recordings in the folder of a path that is not there, which may be the one meant."""
        if path.parent not in self.listed:
            names: dict[str, list[str]] = defaultdict(list)
            for one in files(path.parent, ENDINGS):
                names[_plain(one.name)].append(one.name)
            self.listed[path.parent] = dict(names)
        return self.listed[path.parent].get(_plain(path.name), [])

    def word(self, own: str) -> str:
        """Returns the shared word for an emotion, or the table's own if those are kept."""
        if self.own_words or not own or shared_word(own) == own:
            return own
        return self.translated.setdefault(own, shared_word(own))


def _check_needed(where: str, columns: Sequence[str], meaning: Meaning) -> None:
    missing = [name for name in NEEDED if name not in meaning.column]
    rated = [name for name in _RATED if name in meaning.column]
    if rated and "emotion" in meaning.absent:
        missing.remove("emotion")
    if "id" in meaning.column and "audio" in meaning.absent:  # words, or features, alone
        missing.remove("audio")
    if missing:
        none = ""
        if missing == ["emotion"] and rated:
            none = f", or --columns emotion={NONE} if there is {' and '.join(rated)} alone"
        if missing == ["audio"]:
            none = f", or --columns audio={NONE} if a column id tells words or features apart"
        raise SerError(
            f"{where}: has the columns {list(columns)}: {missing} missing; needed: "
            f"{', '.join(NEEDED)}; optional: {', '.join(_OPTIONAL)}; others are kept in extra; say "
            f"which column it is with --columns {missing[0]}=NAME{none}"
        )


def _utterances(table: _Table, cells: Cells) -> tuple[list[Utterance], list[str]]:
    first: dict[str, tuple[int, str | None]] = {}
    utterances: list[Utterance] = []
    left_out: list[str] = []
    for number, row in cells.rows:
        made = _utterance(table, row, f"{table.path}:{number}")
        if made.id in first:
            line, audio = first[made.id]
            column = table.meaning.column.get("id")
            by_user = column and table.path.is_file()  # not a reader's own rows, without --columns
            raise SerError(
                f"{table.path}:{number}: the id {made.id!r} of {made.audio} is already that of "
                f"line {line}, {audio}; give each row its own in a column id, and keep one row and "
                "one file of each recording"
                + (f"; if {column!r} is no id: --columns id={NONE}" if by_user else "")
            )
        first[made.id] = number, made.audio
        reason = None if made.audio is None else fault(Path(made.audio))
        if made.audio is None and made.text is None and "audio" not in table.meaning.absent:
            reason = "neither audio nor words"
        if not made.emotion:
            reason = "no emotion"
        if reason:
            left_out.append(f"{made.id} (line {number}): {reason}")
        else:
            utterances.append(made)
    if not utterances and {line.rpartition(": ")[2] for line in left_out} == {NO_FILE}:
        _, audio = next(iter(first.values()))
        raise SerError(
            f"{table.path}: none of its {len(left_out)} recordings is there; the first is looked "
            f"for at {audio}; correct the column {table.meaning.column['audio']!r}, or give the "
            "folder that a table's paths are relative to with --audio-dir"
        )
    return utterances, left_out


def _utterance(table: _Table, row: Mapping[str, Any], where: str) -> Utterance:
    words = {key: _word(table, row, key, where) for key in (*NEEDED, "id", *_WORDS)}
    audio, own_id = words["audio"], words["id"]
    start, end = _stretch(table.meaning, row, where)
    attributes, votes = _rated(table, row, where)
    part = (words["split"] or "").casefold()
    words["split"] = part_named(part)
    if part and not words["split"]:
        raise SerError(
            f"{where}: split {part!r}; allowed: {', '.join(SPLITS)} or empty, also "
            f"{', '.join(_PART_SPELLINGS)}; if the column is something else: --columns split={NONE}"
        )
    if audio is None and own_id is None:
        raise SerError(f"{where}: no audio; a row of words alone needs the columns id and text")
    return Utterance(
        id=f"{table.name}/{own_id or _id_of(str(audio), start)}",
        corpus=table.name,
        emotion=table.word(words["emotion"] or "") or _rated_as(attributes, votes),
        audio=None if audio is None else str(table.file(audio)),
        start=start,
        end=end,
        text=words["text"],
        speaker=words["speaker"],
        session=words["session"],
        dialogue=words["dialogue"],
        split=words["split"],
        attributes=attributes,
        votes=votes,
        extra=_extra(table.meaning, row, whole=start is None and end is None),
    )


def part_named(word: str) -> str | None:
    """The official part that a word means, such as ``dev`` for ``Validation``; None for no part."""
    part = word.casefold()
    part = _PART_SPELLINGS.get(part, part)
    return part if part in SPLITS else None


def _rated(
    table: _Table, row: Mapping[str, Any], where: str
) -> tuple[dict[str, float], dict[str, float]]:
    """Returns a row's attributes and its votes."""
    meaning = table.meaning
    cells = {name: meaning.cell(row, name) for name in _RATED}
    given = {
        name: cell
        for name, cell in cells.items()
        if cell is not None and not (isinstance(cell, str) and is_missing(cell))
    }
    cell_of_votes = given.pop("votes", None)
    attributes = {name: rating(where, meaning.column[name], cell) for name, cell in given.items()}
    votes: dict[str, float] = defaultdict(float)
    if cell_of_votes is not None:
        for own, count in parse_votes(where, meaning.column["votes"], cell_of_votes).items():
            votes[table.word(own)] += count  # two spellings of one emotion are added up
    return attributes, dict(votes)


def _rated_as(attributes: Mapping[str, float], votes: Mapping[str, float]) -> str:
    """Returns the word for a row without an emotion; empty if nobody rated it.

    >>> _rated_as({}, {"anger": 2, "joy": 1}), _rated_as({}, {"anger": 1, "joy": 1})
    ('anger', 'no agreement')
    >>> _rated_as({"arousal": 0.5}, {}), _rated_as({}, {})
    ('no label', '')
    """
    if votes:
        return most_chosen(votes) or "no agreement"
    return "no label" if attributes else ""


def _stretch(
    meaning: Meaning, row: Mapping[str, Any], where: str
) -> tuple[float | None, float | None]:
    """Returns start and end of a row's segment, in seconds."""

    def time_in(column: str | None, name: str) -> float | None:
        cell = None if column is None else row.get(column)
        cell = None if isinstance(cell, str) and is_missing(cell) else cell
        return seconds(where, column or name, cell, meaning.scale.get(name, 1.0))

    start = time_in(meaning.column.get("start"), "start")
    end = time_in(meaning.column.get("end"), "end")
    if start is not None and end is None and meaning.length:
        length = time_in(meaning.length, "length")
        end = None if length is None else start + length
    if end is not None and end <= (start or 0.0):
        raise SerError(f"{where}: end {end} is not after start {start or 0.0}; both are in seconds")
    return start, end


def _extra(meaning: Meaning, row: Mapping[str, Any], *, whole: bool) -> dict[str, Any]:
    """Returns the other columns; a whole recording's length becomes ``duration`` in seconds."""
    known = {*meaning.column.values()}
    extra = {key: cell for key, cell in row.items() if key not in known and cell not in ("", None)}
    if whole and meaning.length in extra:
        cell = extra.pop(meaning.length)
        if (length := as_number(cell, meaning.scale["length"])) >= 0:
            extra["duration"] = length
        elif not is_missing(str(cell)):  # a word, such as short
            extra[meaning.length] = cell
    return extra


def _plain(name: str) -> str:
    """A recording's name by which it is compared: without ending, in small letters.

    >>> _plain("Ses01F_impro01.WAV"), _plain("MSP-PODCAST_0001.5")
    ('ses01f_impro01', 'msp-podcast_0001.5')
    """
    path = Path(name)
    own = path.stem if path.suffix.lower() in ENDINGS else name
    return unicodedata.normalize("NFC", own).casefold()


def _id_of(audio: str, start: float | None) -> str:
    path = Path(audio.replace("\\", "/"))
    # a number after a point counts utterances; no kind of file is called so
    path = path if path.suffix[1:].isdecimal() else path.with_suffix("")
    own_id = tidy(path.as_posix().lstrip("/"))
    return own_id if start is None else f"{own_id}@{start:.10g}"  # to 0.1 ms after a day


def _word(table: _Table, row: Mapping[str, Any], key: str, where: str) -> str | None:
    """Returns a cell as text; None if it is empty or a word for a missing value."""
    cell = table.meaning.cell(row, key)
    if cell is None or cell == "":
        return None
    if isinstance(cell, bool) or not isinstance(cell, str | int | float):
        column = table.meaning.column[key]
        shown = repr(cell)[:_SHOWN]  # a cell may hold a recording
        hint = "; read the data set with: ser manifest huggingface" if key == "audio" else ""
        raise SerError(f"{where}: {column} is {shown}; allowed: text or a number{hint}")
    # a file's name is kept in the Unicode form that it has
    text = str(cell).strip() if key == "audio" else tidy(str(cell))
    if is_missing(text):
        table.missing[key] += bool(text)
        return None
    return text

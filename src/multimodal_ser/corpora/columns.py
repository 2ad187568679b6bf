"""Recognises the columns of a table by usual spellings, and converts times to seconds."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from multimodal_ser.corpora.cells import Cells, check_commas
from multimodal_ser.errors import SerError, one_of, refuse_twice

SPELLINGS = {
    "audio": "path file filename filepath audiopath audiofile audiofilepath wav wavpath wavfile "
             "recording clip fname audioname audiofilename soundfile wavname",
    "emotion": "label labels emotionlabel emo emotions emotionname emotionclass emoclass class "
               "category",
    "id": "uttid utteranceid segmentid",
    "text": "transcript transcription sentence utterance words",
    "speaker": "speakerid speakername spk spkid spkr spkrid actor actorid actorname subject "
               "subjectid talker talkerid participant participantid person personid clientid",
    "session": "sessionid",
    "dialogue": "dialog dialogueid dialogid conversation conversationid",
    "start": "starttime startat begin begintime onset tstart tmin xmin from",
    "end": "endtime endat stop stoptime offset tend tmax xmax to",
    "split": "set subset partition splitset",
    "arousal": "activation emoact",
    "valence": "emoval",
    "dominance": "emodom", "votes": "",
}  # fmt: skip
NONE = "none"  # as a column's name: the table has no such column
_LENGTHS = ("duration", "dur", "length", "len")  # the last ones may also count words
_UNITS = {"s": 1.0, "sec": 1.0, "secs": 1.0, "second": 1.0, "seconds": 1.0,
          "ms": 1e-3, "msec": 1e-3, "millis": 1e-3, "milliseconds": 1e-3}  # fmt: skip
# Times in these units need a sampling or frame rate that the table may not give.
_COUNTED = ("sample", "samples", "frame", "frames")
_WORDS = re.compile(r"[^\W_]+")
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")  # between the words of startTime
_PERSON = re.compile(
    r"speak|spk|actor|subject|talker|person|voice|client|user|patient|caller|child"
    r"|sprecher|locut|hablante|parlante"
)
_TIMELY = re.compile(
    r"time|start|begin|onset|stop|finish|offset|anfang|d[ée]but|inicio|(\b|_)m?s(ec)?\b"
)
_CLOCK = re.compile(r"(?:(?:(\d+) days? )?(\d+):)?(\d+):(\d+(?:[.,]\d+)?)")
# In 1:3,2:4 the comma stands between two votes, in anger:1,5 joy:2 in a number.
_VOTE = re.compile(r"\s*([^\s:,;][^:,;]*?)\s*:\s*(\d+(?:[.,]\d+)?)(?!\w|\s*:)\s*[,;]?")
_NUMBER = re.compile(r"\d+(?:[.,]\d*)?(?:[eE][-+]?\d+)?|[.,]\d+")


@dataclass(frozen=True)
class Meaning:
    """The meaning of a table's columns.

    Attributes:
        column: our name → the table's.
        scale: our name → seconds per unit, for times.
        absent: our names of columns that the user says the table does not have.
        length: the column with the length of a segment, if there is one.
        notes: which columns were recognised by another spelling.
    """

    column: Mapping[str, str]
    scale: Mapping[str, float]
    absent: frozenset[str] = frozenset()
    length: str | None = None
    notes: Sequence[str] = field(default_factory=list)

    def cell(self, row: Mapping[str, Any], name: str) -> Any:
        """Returns a row's cell by our name of the column; None if there is none."""
        return row.get(self.column[name]) if name in self.column else None


def understood(where: str, columns: Sequence[str], given: Sequence[str] = ()) -> Meaning:
    """Recognises what each column means.

    Args:
        where: the table, for errors.
        columns: its own names.
        given: ``ours=theirs``, or ``ours=none`` for what the table does not have.

    Raises:
        SerError: a column occurs twice, several could have the same meaning, times are counted
            in samples, or a given column does not exist.
    """
    if twice := sorted(name for name, count in Counter(columns).items() if count > 1):
        raise SerError(f"{where}: has the columns {list(columns)}: {twice} more than once")
    stated = _stated(where, columns, given)
    named: dict[str, str] = {}
    scale: dict[str, float] = {}
    free = [name for name in columns if name not in stated.values()]
    for ours, spellings in SPELLINGS.items():
        if ours in stated:
            fitting = [] if stated[ours] == NONE else [stated[ours]]
        else:
            fitting = _fitting(where, ours, spellings.split(), free)
        if len(fitting) > 1:
            raise SerError(
                f"{where}: the columns {fitting} could all mean {ours}; choose one with "
                f"--columns {ours}={fitting[0]}"
            )
        for name in fitting:
            named[ours], scale[ours] = name, _unit(name)[1]
    length = next((name for word in _LENGTHS for name in free if _unit(name)[0] == word), None)
    if length and "end" in named and "start" not in named and _unit(named["end"])[0] == "offset":
        # "offset" is read as the end of a segment, but beside a duration it is the start
        named["start"], scale["start"] = named.pop("end"), scale.pop("end")
    if length:
        scale["length"] = _unit(length)[1]
    notes = [
        f"the column {name!r} was read as {ours}" for ours, name in named.items() if name != ours
    ]
    if length and "start" in named and "end" not in named and length != _LENGTHS[0]:
        notes.append(f"the column {length!r} was read as the length of each segment")
    absent = frozenset(ours for ours, theirs in stated.items() if theirs == NONE)
    return Meaning(named, scale, absent, length, notes)


def _stated(where: str, columns: Sequence[str], given: Sequence[str]) -> dict[str, str]:
    refuse_twice("--columns", given)
    stated = {}
    for item in given:
        ours, _, theirs = item.partition("=")
        if ours not in SPELLINGS:
            raise SerError(one_of("column", ours, SPELLINGS) + "; write it as --columns start=von")
        if theirs != NONE and theirs not in columns:
            raise SerError(f"{where}: {one_of(f'column for {ours}', theirs, [*columns, NONE])}")
        stated[ours] = theirs
    return stated


def _fitting(where: str, ours: str, spellings: Sequence[str], free: Sequence[str]) -> list[str]:
    """Returns the columns that could have a meaning; those in our own spelling exclude others."""
    if ours in free:
        return [ours]
    plain = [name for name in free if _unit(name)[0] == ours]
    if plain:
        return plain
    fitting = [name for name in free if _unit(name)[0] in spellings]
    if ours in ("start", "end"):
        for name in free:
            words = [word.casefold() for word in _WORDS.findall(_HUMP.sub(" ", name))]
            if words[:1] == [ours] and words[-1] in _COUNTED:
                raise SerError(
                    f"{where}: the column {name!r} is in {words[-1]}, but seconds are needed: "
                    f"write them to a column {ours}, or leave it out with --columns {ours}={NONE}"
                )
    return fitting


def _unit(column: str) -> tuple[str, float]:
    """Splits a column's name into a form without case, gaps and unit, and the unit in seconds.

    >>> _unit("Start Time (ms)"), _unit("onset_s"), _unit("startMs"), _unit("Emotion")
    (('starttime', 0.001), ('onset', 1.0), ('start', 0.001), ('emotion', 1.0))
    """
    words = [word.casefold() for word in _WORDS.findall(_HUMP.sub(" ", column))]
    if len(words) > 1 and words[-1] in _UNITS:
        return "".join(words[:-1]), _UNITS[words[-1]]
    return "".join(words), 1.0


def seconds(where: str, name: str, cell: Any, scale: float = 1.0) -> float | None:
    """Parses a cell as seconds: 1.25, 1,25 (a decimal comma), 00:01.250, 0 days 00:00:01.25.

    Raises:
        SerError: the cell is anything else.

    >>> [seconds("t.csv:2", "start", cell) for cell in ("0:01:02,5", "1,25", "0 days 00:00:01.25")]
    [62.5, 1.25, 1.25]
    """
    if cell is None or cell == "" or (isinstance(cell, float) and math.isnan(cell)):
        return None
    value = math.nan
    if isinstance(cell, int | float) and not isinstance(cell, bool):
        value = float(cell)
    elif isinstance(cell, str):
        if clock := _CLOCK.fullmatch(cell):
            days, hours, minutes = (int(part or 0) for part in clock.groups()[:3])
            value, scale = 60 * (60 * (24 * days + hours) + minutes) + _number(clock[4]), 1.0
        elif _NUMBER.fullmatch(cell):
            value = _number(cell)
    value *= scale
    if not (math.isfinite(value) and value >= 0):
        raise SerError(
            f"{where}: {name} is {cell!r}; allowed: seconds, 0 or more, such as 1.25; if the "
            f"column is no time, leave it out with --columns, such as --columns start={NONE}"
        )
    return value


def _number(text: str) -> float:
    return float(text.replace(",", "."))


def rating(where: str, column: str, cell: Any) -> float:
    """Parses a cell as a number on any scale: -0.5, 3,25 (a decimal comma).

    Raises:
        SerError: the cell is anything else.

    >>> rating("t.csv:2", "valence", "-0,5")
    -0.5
    """
    value = math.nan
    if isinstance(cell, int | float) and not isinstance(cell, bool):
        value = float(cell)
    elif isinstance(cell, str) and _NUMBER.fullmatch(cell.lstrip("+-")):
        value = _number(cell)
    if not math.isfinite(value):
        raise SerError(
            f"{where}: {column} is {cell!r}; allowed: a number; if the column is not a rating, "
            f"leave it out with --columns, such as --columns arousal={NONE}"
        )
    return value


def votes(where: str, column: str, cell: Any) -> dict[str, float]:
    """Parses a cell as votes per word: ``anger:3 no agreement:2``, or an object.

    Raises:
        SerError: the cell is anything else, or nobody voted.

    >>> votes("t.csv:2", "votes", "anger:2 no agreement:2 anger:1")
    {'anger': 3.0, 'no agreement': 2.0}
    >>> votes("t.csv:2", "votes", "1:3,2:4"), votes("t.csv:2", "votes", "anger:1,5 joy:2")
    ({'1': 3.0, '2': 4.0}, {'anger': 1.5, 'joy': 2.0})
    """
    if isinstance(cell, str) and not _VOTE.sub("", cell).strip():
        given = [(word, _number(count)) for word, count in _VOTE.findall(cell)]  # or one per rater
        cell = {word: sum(count for own, count in given if own == word) for word, _ in given}
    if not isinstance(cell, dict):
        raise SerError(
            f"{where}: {column} is {cell!r}; allowed: anger:3 neutral:2, or an object in JSONL; if "
            f"the column is something else: --columns votes={NONE}"
        )
    # Parquet stores all words of the column in each row, without a number where nobody chose one
    cell = {word: count for word, count in cell.items() if count is not None}
    counts = {word: rating(where, column, count) for word, count in cell.items()}
    if not counts or min(counts.values()) < 0 or not sum(counts.values()):
        raise SerError(f"{where}: {column} is {cell!r}; allowed: raters, 0 or more, not all 0")
    return counts


def check_times(where: str, cells: Cells, meaning: Meaning) -> list[str]:
    """Looks for columns that seem to be times of segments but were not recognised.

    Returns:
        Sentences about such columns if each row has its own recording.

    Raises:
        SerError: a comma may separate thousands, or rows of one recording would each be all of it.
    """
    check_commas(where, cells, *map(meaning.column.get, ("start", "end")), meaning.length)
    if {"start", "end"} & {*meaning.column, *meaning.absent}:
        return []
    known = {*meaning.column.values(), meaning.length}
    values = {
        name: [as_number(row.get(name)) for _, row in cells.rows]
        for name in cells.columns
        if name not in known
    }
    values = {name: found for name, found in values.items() if found and min(found) >= 0}
    files = Counter(str(meaning.cell(row, "audio")) for _, row in cells.rows)
    shared = sum(count for count in files.values() if count > 1)
    timely = [name for name in values if _TIMELY.search(name.casefold())]
    # two columns of numbers may be start and end, whatever their names, if the first is smaller in
    # every row
    pairs = [
        (one, other)
        for one in values
        for other in values
        if one != other and all(a < b for a, b in zip(values[one], values[other], strict=True))
    ]
    asked = list(pairs[0]) if pairs and shared else timely
    if not asked:
        return []
    given = [f"{ours}={name}" for ours, name in zip(("start", "end"), asked, strict=False)]
    remedy = (
        f"if they are times in seconds: --columns {' '.join(given)}; if not: --columns start={NONE}"
    )
    if shared:
        raise SerError(
            f"{where}: {shared} rows name a recording that other rows name too, and the columns "
            f"{asked} look like times but are not read as start and end; {remedy}"
        )
    return [f"the columns {asked} look like times; {remedy}"]


def asked_of_speakers(cells: Cells, meaning: Meaning) -> list[str]:
    """Returns a sentence about columns that may name the speaker, if none was recognised."""
    if "speaker" in {*meaning.column, *meaning.absent}:
        return []
    known = {*meaning.column.values()}
    likely = [name for name in cells.columns if name not in known and _PERSON.search(name.lower())]
    if not likely:
        return []
    return [
        f"the columns {likely} may name the speaker, but none of them is read; if one does: "
        f"--columns speaker={likely[0]}; if none does: --columns speaker={NONE}"
    ]


def as_number(cell: Any, scale: float = 1.0) -> float:
    """Returns a cell as seconds, and -1 if it is empty or anything else."""
    try:
        number = seconds("", "", cell, scale)
    except SerError:
        return -1.0
    return -1.0 if number is None else number

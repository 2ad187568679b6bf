"""The utterance, the record shared by all later steps, and manifests, which store it."""

from __future__ import annotations

import math
import re
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from multimodal_ser.common.files import parse_json, readable_json, written_aside
from multimodal_ser.common.spelling import tidy
from multimodal_ser.errors import SerError


@dataclass(frozen=True, slots=True)
class Utterance:
    """One segment of speech by one speaker, with its corpus's annotations.

    Attributes:
        id: unique over all corpora: ``<corpus>/<the corpus's own id>``.
        corpus: the corpus's name in CORPORA, or the name given to a table.
        emotion: the corpus's own word; `labels.py` maps it to a class.
        audio: path of the recording, absolute or relative to the manifest; None if there is none.
        text: the words, without time stamps; None if there are none.
        speaker: the speaker's name, unique within the corpus.
        session: recording session (IEMOCAP), kept within one part of a split.
        dialogue: conversation (IEMOCAP, MELD), kept within one part of a split.
        start: start of the utterance in `audio`, in seconds; None for the whole file.
        end: end of the utterance in `audio`, in seconds.
        split: the corpus's official part, ``train``, ``dev`` or ``test``.
        attributes: ``arousal``, ``valence``, ``dominance``, as far as given, on the corpus's own
            scale (`CorpusInfo.attribute_scale`); the mean if there are several raters.
        votes: the corpus's own words → number of raters who chose them; a rater who chose several
            gives each an equal share. Empty if individual raters are unknown.
        extra: all other annotations: each rater's answer, level, sex, age …
        content: hash of the recording's bytes, which extraction stores in the manifest next to
            its features; it is not compared when two utterances are compared.
    """

    id: str
    corpus: str
    emotion: str
    audio: str | None = None
    text: str | None = None
    speaker: str | None = None
    session: str | None = None
    dialogue: str | None = None
    start: float | None = None
    end: float | None = None
    split: str | None = None
    attributes: Mapping[str, float] = field(default_factory=dict)
    votes: Mapping[str, int | float] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)
    content: str | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Corpus:
    """The result of reading a corpus folder.

    Attributes:
        utterances: sorted by id.
        left_out: one line per file or table row that is not an utterance, with the reason.
    """

    utterances: list[Utterance]
    left_out: list[str] = field(default_factory=list)


SPLITS = ("train", "dev", "test")  # the parts that a corpus may have
ATTRIBUTES = ("arousal", "valence", "dominance")
ABSENT = "absent"  # an utterance's content where its recording cannot be read
PREDICTED = "predicted"  # as `extra["label"]`: the emotion is a prediction of a model
GROUPS = ("speaker", "session", "dialogue")  # what a split keeps within one part
# Half of a character: a byte of a file's name that is no UTF-8, or a part of an emoji cut in two.
_HALF = re.compile("[\ud800-\udfff]")
_FIELDS = tuple(item.name for item in fields(Utterance))
_NEEDED = ("id", "corpus", "emotion")
_MAPPINGS = ("attributes", "votes", "extra")
_REPEATED = ("corpus", "emotion", *GROUPS, "split")


def write_manifest(utterances: Iterable[Utterance], path: Path) -> None:
    """Writes one JSON object per line, with absolute audio paths; complete or absent.

    Raises:
        SerError: it could not be read again: an id occurs twice, or a field has a wrong value.
    """
    utterances = [*utterances]
    check_utterances(utterances)
    with written_aside(path) as partial, partial.open("w", encoding="utf-8") as file:
        for utterance in utterances:
            row = _fields_of(utterance)
            if utterance.audio is not None:
                row["audio"] = str(Path(utterance.audio).absolute())
            file.write(readable_json(row) + "\n")


def check_utterances(utterances: Iterable[Utterance], kind: type[SerError] = SerError) -> None:
    """Raises an error for an id that occurs twice, or a value that no manifest may have."""
    _check_unique(utterances, "the utterances", kind)
    for utterance in utterances:
        if fault := _fault(_fields_of(utterance)):
            raise kind(f"{utterance.id!r}: {fault}")


def _fields_of(utterance: Utterance) -> dict[str, Any]:
    named = {name: getattr(utterance, name) for name in _FIELDS}
    return {name: value for name, value in named.items() if value not in (None, {})}


def read_manifest(path: Path) -> list[Utterance]:
    """Reads a manifest; relative audio paths refer to the manifest's folder.

    Raises:
        SerError: the file is missing or empty, a line is not a JSON object, a field is unknown or
            missing, or an id occurs twice; the message gives the line number.
    """
    if not path.is_file():
        raise SerError(f"no manifest at {path}; make one with: ser manifest CORPUS --out {path}")
    utterances = []
    with path.open("rb") as file:
        for number, raw in enumerate(file, 1):
            if raw.strip():
                utterances.append(_parse(raw, f"{path}:{number}", path.parent))
    if not utterances:
        raise SerError(f"{path}: holds no utterances; make it with: ser manifest")
    _check_unique(utterances, path)
    return utterances


def _check_unique(
    utterances: Iterable[Utterance], where: object, kind: type[SerError] = SerError
) -> None:
    repeated = [key for key, count in Counter(row.id for row in utterances).items() if count > 1]
    if repeated:
        raise kind(f"{where}: ids must be unique, but these occur twice: {repeated[:5]}")


def _parse(raw: bytes, where: str, folder: Path) -> Utterance:
    try:
        row = parse_json(raw.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise SerError(
            f"{where}: is no UTF-8 (byte {error.start} of the line); save the manifest as UTF-8, "
            "or make it with: ser manifest"
        ) from error
    except ValueError as error:
        raise SerError(
            f"{where}: not a JSON object ({error}); one object a line is read"
        ) from error
    if not isinstance(row, dict) or not {*_NEEDED} <= row.keys():
        raise SerError(f"{where}: an object with at least id, corpus and emotion is needed")
    if unknown := sorted(row.keys() - set(_FIELDS)):
        raise SerError(
            f"{where}: unknown fields {unknown}; known: {', '.join(_FIELDS)}; put others in extra"
        )
    if fault := _fault(row):
        raise SerError(f"{where}: {fault}")
    if row.get("audio") is not None:
        row["audio"] = str(folder / row["audio"])  # an absolute path stays as it is
    # a manifest is kept in memory as a whole, so strings that rows share are interned
    repeated = {key: row[key] for key in _REPEATED if key in row}
    mappings = {key: _interned(row[key]) for key in _MAPPINGS if key in row}
    return Utterance(**row | _interned(repeated) | mappings)


def _fault(row: Mapping[str, Any]) -> str:
    """Says what is wrong with a row's values; empty if nothing is."""
    for key in (*GROUPS, "id", "corpus", "emotion", "audio", "text", "split", "content"):
        value = row.get(key)
        if value is None and key not in _NEEDED:
            continue
        if not isinstance(value, str):
            return f'{key} is {value!r}; allowed: text, such as "{value}"'
        # an empty name would be one speaker of all utterances whose speaker is unknown
        if key in (*_NEEDED, *GROUPS) and not value.strip():
            allowed = "text" if key in _NEEDED else "text, or null where it is unknown"
            return f"{key} is empty; allowed: {allowed}"
        # names are compared as text: "Anna " and "Anna" would be two speakers, of whom one could be
        # in the training and the other in the test part
        if key in (*GROUPS, "id", "emotion") and value != tidy(value):
            return f"{key} is {value!r}; allowed: no space around it, and Unicode composed (NFC)"
        if "\0" in value:
            return f"{key} is {value!r}; allowed: text without the character 0"
        # only names of files may hold bytes that are no UTF-8, which no other file could store
        if key != "audio" and _HALF.search(value):
            return f"{key} is {value!r}; allowed: text in UTF-8; rename the file or correct the row"
    for key in ("start", "end"):
        value = row.get(key)
        if value is not None and not (_is_number(value) and value >= 0):
            return f"{key} is {value!r}; allowed: a number of seconds, 0 or more, such as 1.25"
    end = row.get("end")
    if end is not None and end <= (row.get("start") or 0):
        return f"end is {end!r}; allowed: more than start, {row.get('start') or 0!r}"
    if row.get("split") not in (None, *SPLITS):
        return f"split is {row['split']!r}; allowed: {', '.join(SPLITS)}"
    for key in _MAPPINGS:
        if not isinstance(row.get(key, {}), dict):
            return f"{key} is {row[key]!r}; allowed: an object"
    return _fault_of_ratings(row.get("attributes", {}), row.get("votes", {}))


def _fault_of_ratings(attributes: Mapping[str, Any], votes: Mapping[str, Any]) -> str:
    if unknown := sorted(attributes.keys() - {*ATTRIBUTES}):
        return f"attributes has {unknown}; allowed: {', '.join(ATTRIBUTES)}; put others in extra"
    for key, values, least in (("attributes", attributes, -math.inf), ("votes", votes, 0.0)):
        for name, value in values.items():
            if not (_is_number(value) and value >= least):
                allowed = "a number of raters, 0 or more" if key == "votes" else "a number"
                return f"{key} of {name!r} is {value!r}; allowed: {allowed}"
    if votes and not sum(votes.values()):
        return f"votes is {dict(votes)!r}: nobody voted; leave it out"
    return ""


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _interned(row: dict[str, Any]) -> dict[str, Any]:
    return {
        sys.intern(key): sys.intern(value) if isinstance(value, str) else value
        for key, value in row.items()
    }

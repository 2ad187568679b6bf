"""MSP-IMPROV folder → Utterance: improvised scenes of pairs of actors, four classes.

Reads ``Evalution.txt`` (the release spells it so; ``Evaluation.txt`` is accepted too): one line per
turn with the winning class and mean activation, valence, dominance and naturalness from 1 to 5,
followed by one line per rater; and ``session?/S01A/P/MSP-IMPROV-S01A-F01-P-FM01.wav``: sentence 01
with target emotion A, said by F01 of session 01, kind P (R: read; T: target sentence, improvised;
S: the other turns of an improvisation; P: conversation between scenes).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from multimodal_ser.common.files import files_below
from multimodal_ser.corpora import base
from multimodal_ser.corpora.labels import shared_word
from multimodal_ser.corpora.utterance import ATTRIBUTES, Corpus, Utterance
from multimodal_ser.errors import SerError

MSP_IMPROV_EMOTIONS = {
    "A": "anger", "H": "happiness", "S": "sadness", "N": "neutral", "O": "other",
    "X": "no agreement",
}  # fmt: skip
_NUMBERS = r"\s*".join(rf"{letter}:\s*(\d+(?:\.\d+)?|NaN)\s*;" for letter in "AVDN")
_TURN = re.compile(rf"UTD-IMPROV-([\w-]+)\.avi;\s*([A-Z]);\s*{_NUMBERS}")
_RATER = re.compile(rf"([^;]+);\s*([^;]+);\s*(.*?);\s*{_NUMBERS}")
_NAME = re.compile(r"S(\d\d)([AHSN])-([FM])(\d\d)-([PRST])-(.+)")
_VALUES = (*ATTRIBUTES, "naturalness")


def read_msp_improv(root: Path) -> Corpus:
    """Reads the folder that holds ``Evalution.txt`` and the sessions.

    Raises:
        SerError: no such folder or table, or no recording.
    """
    root = base.require_folder(Path(root), "MSP-IMPROV", "Evalution.txt", "Evaluation.txt")
    spelt = [root / "Evalution.txt", root / "Evaluation.txt"]
    tables = [path for path in spelt if path.is_file()]
    if not tables:
        raise SerError(f"no {root / 'Evalution.txt'}; give the folder of MSP-IMPROV's release")
    named = [path for path in files_below(root) if path.match("MSP-IMPROV-*")]
    sound = base.by_stem((p for p in named if p.suffix.lower() in base.SOUND), "msp-improv/")
    recordings = {stem.removeprefix("MSP-IMPROV-"): path for stem, path in sound.items()}
    found: list[Utterance | str] = []
    lost: base.Lost = []
    for own_id, letter, values, raters in _turns(tables[0], found, lost):
        path = recordings.pop(own_id, None)
        name = _NAME.fullmatch(own_id)
        reason = "no such file" if path is None else base.fault(path)
        if name is None or letter not in MSP_IMPROV_EMOTIONS:
            reason = f"class {letter!r}, or not named as MSP-IMPROV names its turns"
        if path is None or name is None or reason:
            found.append(f"msp-improv/{own_id}: {reason}")
        else:
            found.append(_utterance(path, name, letter, values, raters))
    found += [f"msp-improv/{own_id}: no row in {tables[0].name}" for own_id in recordings]
    return base.finish("MSP-IMPROV", root, [*found, *base.lost_votes(lost)])


def _turns(
    table: Path, found: list[Utterance | str], lost: base.Lost
) -> Iterator[tuple[str, str, dict[str, float], base.Raters]]:
    """Yields name, class, mean attributes and each rater's answer."""
    turn: tuple[str, str, dict[str, float], base.Raters] | None = None
    for number, text in enumerate(base.read_text(table).split("\n"), 1):
        line, where = text.strip(), f"{table.name}:{number}"
        if line.startswith("UTD-IMPROV-"):
            if turn:
                yield turn
            turn, head = None, _TURN.match(line)
            if head:
                turn = head[1], head[2], _values(head.groups()[2:]), {}
            else:
                found.append(f"{where}: not of the shape name; class; A:1; V:1; D:1; N:1;")
        elif turn and (rater := _RATER.match(line)):
            who, word, second, *numbers = rater.groups()
            answer: dict[str, Any] = {"emotion": [shared_word(word)], **_values(numbers)}
            answer["second"] = [shared_word(one) for one in second.split(",") if one.strip()]
            base.put_answer(turn[3], who.strip(), answer, where, lost)
        elif turn and line:
            lost.append((where, "not of the shape rater; emotion; second; A:1; V:1; D:1; N:1;"))
    if turn:
        yield turn


def _values(numbers: Iterable[str]) -> dict[str, float]:
    pairs = zip(_VALUES, numbers, strict=True)
    values = {name: float(number) for name, number in pairs if number != "NaN"}
    if "arousal" in values:  # the table counts from 1, very active, to 5, very passive
        values["arousal"] = round(6 - values["arousal"], 6)
    return values


def _utterance(
    path: Path, name: re.Match[str], letter: str, values: dict[str, float], raters: base.Raters
) -> Utterance:
    sentence, target, sex, session, kind, _ = name.groups()
    extra: dict[str, Any] = {
        "intended": MSP_IMPROV_EMOTIONS[target],
        "sentence": sentence,
        "kind": kind,
    }
    extra |= {"sex": {"F": "female", "M": "male"}[sex], "raters": raters}
    if "naturalness" in values:
        extra["naturalness"] = values["naturalness"]
    return Utterance(
        id=f"msp-improv/{name[0]}",
        corpus="msp-improv",
        emotion=MSP_IMPROV_EMOTIONS[letter],
        audio=str(path),
        speaker=sex + session,
        session=session,
        # in improvised scenes the actors react to each other, so the turns of a scene stay in one
        # part of a split; those of read sentences are another group
        dialogue=f"{session}-{sentence}{target}-{'R' if kind == 'R' else 'I'}",
        attributes={key: value for key, value in values.items() if key in ATTRIBUTES},
        votes=base.votes_of(raters.values()),
        extra=extra,
    )

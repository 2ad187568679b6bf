"""IEMOCAP folder → Utterance: five sessions of two actors, scripted and improvised dialogues.

Reads ``Session*/dialog/EmoEvaluation/*.txt`` (labels), ``dialog/transcriptions/*.txt`` (words) and
``sentences/wav/<dialogue>/<id>.wav`` (one file per utterance; flac, ogg and mp3 are read too).
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from multimodal_ser.corpora import base
from multimodal_ser.corpora.labels import shared_word
from multimodal_ser.corpora.utterance import Corpus, Utterance
from multimodal_ser.errors import SerError

_NUMBER = r"(-?\d+(?:\.\d+)?)"
_LABEL = re.compile(
    rf"\[{_NUMBER}\s*-\s*{_NUMBER}\]\s+(Ses\d\d[FM]_\w+_[FM]\w*)\s+(\w+)\s+"
    rf"\[{_NUMBER},\s*{_NUMBER},\s*{_NUMBER}\]\s*$"
)
_RATER = re.compile(r"([CA])-([EFM]\d+)\s*:?\s*(.*?)\s*(?:\((.*)\)[\s;]*)?$", re.IGNORECASE)
_VALUES = {"val": "valence", "act": "arousal", "dom": "dominance"}
_VALUE = re.compile(r"(val|act|dom)\s+(\d+(?:\.\d+)?)")
_WORDS_OF_RATERS = {
    "anger": "ang", "happiness": "hap", "excitement": "exc", "sadness": "sad", "neutral": "neu",
    "frustration": "fru", "surprise": "sur", "fear": "fea", "disgust": "dis", "other": "oth",
}  # fmt: skip
# With or without times and colon; lines without an utterance's id ("M: …") belong to none.
_WORDS = re.compile(r"(Ses\d\d[FM]_\w+)\s*(?:\[[\d.\s-]*\])?\s*:?\s*(.*?)\s*$")


def read_iemocap(root: Path) -> Corpus:
    """Reads the release folder, or the one that holds it (``IEMOCAP_full_release``).

    Raises:
        SerError: no session in it, no utterance, or two recordings of one.
    """
    root = base.require_folder(Path(root), "IEMOCAP", "Session[1-5]")
    sessions = sorted(path for path in root.glob("Session[1-5]") if path.is_dir())
    if not sessions:
        raise SerError(
            f"{root}: holds no folder Session1 … Session5; give IEMOCAP's release folder "
            "(IEMOCAP_full_release)"
        )
    found = [row for session in sessions for row in _read_session(session)]
    for number in sorted(set("12345") - {path.name[-1] for path in sessions}):
        found.append(f"Session{number}: no such folder")
    if wordless := sum(isinstance(row, Utterance) and row.text is None for row in found):
        found.append(f"{base.NOTE}{wordless} utterances have no words in dialog/transcriptions")
    return base.finish("IEMOCAP", root, found)


def _read_session(session: Path) -> list[Utterance | str]:
    words = _read_words(session / "dialog" / "transcriptions")
    folders = sorted((session / "sentences" / "wav").glob("Ses*"))
    sound = base.by_stem((path for folder in folders for path in base.files(folder)), "iemocap/")
    found: list[Utterance | str] = []
    lost: base.Lost = []
    for path in base.files(session / "dialog" / "EmoEvaluation", [".txt"]):
        raters: base.Raters = {}  # of the label that was read last
        for number, text in enumerate(base.read_text(path).split("\n"), 1):
            line, where = text.strip(), f"{path.name}:{number}"
            if line.startswith("["):
                raters = {}
                if label := _LABEL.match(line):
                    found.append(_utterance(label, session, sound, words, raters))
                else:
                    found.append(f"{where}: not of the shape [time] id label [v, a, d]")
            elif rater := _RATER.match(line):
                _rate(raters, rater, where, lost)
            elif line and not line.startswith("%"):
                lost.append((where, "not of the shape C-E1: emotion; or A-E1: val 1; …"))
    found = [one if isinstance(one, str) else _with_votes(one) for one in found]
    labelled = {row.audio for row in found if isinstance(row, Utterance)}
    unlabelled = (name for name, path in sound.items() if str(path) not in labelled)
    return [*found, *base.lost_votes(lost)] + [
        f"iemocap/{name}: no label in EmoEvaluation"
        for name in unlabelled
        if base.fault(sound[name]) is None
    ]


def _rate(raters: base.Raters, line: re.Match[str], where: str, lost: base.Lost) -> None:
    kind, who, rating, remark = line.groups()
    who, answer = who.upper(), raters.get(who.upper(), {})
    new: dict[str, Any] = {"remark": remark} if remark else {}
    if kind.upper() == "A":
        values = {_VALUES[name]: float(value) for name, value in _VALUE.findall(rating.lower())}
        raters[who] = answer | values | new
        return
    spelt = [word.strip() for word in re.split("[;,/]", rating) if word.strip()]
    codes = [_WORDS_OF_RATERS.get(shared_word(word), "") for word in spelt]
    new["emotion"] = [code for code in codes if code]
    # what a rater typed instead of an emotion is no vote; the actors F1 and M1 have none
    typed = [word for word, code in zip(spelt, codes, strict=True) if not code]
    lost, where = (lost if who.startswith("E") else []), " ".join([where, *map(repr, typed)])
    base.put_answer(raters, who, answer | new, where, lost)
    if typed and new["emotion"]:
        lost.append((where, "with words beside an emotion that are none of IEMOCAP's"))


def _with_votes(row: Utterance) -> Utterance:
    raters = row.extra.get("raters", {})
    # only the evaluators E1 … vote; the actors F1 and M1 rated themselves
    votes = base.votes_of(answer for who, answer in raters.items() if who.startswith("E"))
    return replace(row, votes=votes)


def _read_words(folder: Path) -> dict[str, str]:
    words: dict[str, str] = {}
    for path in base.files(folder, [".txt"]):
        for line in base.read_text(path).split("\n"):
            if match := _WORDS.match(line.strip()):
                # a few transcripts repeat an utterance; the first one counts
                words.setdefault(match[1], match[2])
    return words


def _utterance(
    label: re.Match[str],
    session: Path,
    sound: dict[str, Path],
    words: dict[str, str],
    raters: base.Raters,
) -> Utterance | str:
    start, end, own_id, emotion, valence, arousal, dominance = label.groups()
    dialogue, turn = own_id.rsplit("_", 1)
    audio = sound.get(own_id) or session / "sentences" / "wav" / dialogue / f"{own_id}.wav"
    if reason := base.fault(audio):
        return f"iemocap/{own_id}: {reason}"
    return Utterance(
        id=f"iemocap/{own_id}",
        corpus="iemocap",
        emotion=emotion,
        audio=str(audio),
        text=words.get(own_id) or None,
        speaker=own_id[:5] + turn[0],
        session=own_id[:5],
        dialogue=dialogue,
        attributes={
            "valence": float(valence),
            "arousal": float(arousal),
            "dominance": float(dominance),
        },
        extra={
            "sex": {"F": "female", "M": "male"}[turn[0]],
            "dialogue_start": float(start),
            "dialogue_end": float(end),
            "raters": raters,
        },
    )

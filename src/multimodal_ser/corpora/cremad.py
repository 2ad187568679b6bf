"""CREMA-D folder → Utterance: 91 actors, 12 sentences, 6 emotions, votes of many listeners.

Reads ``AudioWAV/1001_DFA_ANG_XX.wav`` (actor, sentence, intended emotion, level) and
``VideoDemographics.csv``; and, in the same folder or in ``processedResults``, ``summaryTable.csv``
(the most chosen emotion) and ``finishedResponses.csv`` (which emotion each listener chose, and how
strong it was from 0 to 100) or ``tabulatedVotes.csv`` (how often each was chosen). Votes are those
of listeners who heard the voice without seeing the face.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

from multimodal_ser.corpora import base
from multimodal_ser.corpora.columns import rating
from multimodal_ser.corpora.utterance import Corpus, Utterance
from multimodal_ser.errors import SerError, one_of

CREMAD_SENTENCES: dict[str, str] = base.facts()["cremad"]["texts"]
_VOTES = ("intended", "voice")

_NAME = re.compile(r"(\d{4})_([A-Z]{3})_(ANG|DIS|FEA|HAP|NEU|SAD)_(LO|MD|HI|XX)")
_LETTERS = {"A": "ANG", "D": "DIS", "F": "FEA", "H": "HAP", "N": "NEU", "S": "SAD"}
_SILENT = {"1076_MTI_SAD_XX"}  # recordings without sound in the release itself
_TABLES = ("", "processedResults", "data/InfoAndStats/processedResults")
# queryType of answers to the voice alone; with it, row numbers of tabulatedVotes.csv begin.
_VOICE = "1"
_QUERIES = (_VOICE, "2", "3")  # the others: the face, and both
_VOTE_COLUMNS = {"VoiceVote": "voice", "FaceVote": "face", "MultiModalVote": "multimodal"}


def read_cremad(root: Path, audio_dir: str = "AudioWAV", votes: str = "intended") -> Corpus:
    """Reads the corpus.

    Args:
        root: the folder that holds `audio_dir` and the tables.
        audio_dir: folder of recordings, wav, flac, ogg or mp3. ``AudioRebuilt`` contains audio
            rebuilt from spectrograms; each utterance's ``extra["audio"]`` then says so.
        votes: ``intended`` uses the emotion that the actor was asked to express, ``voice`` the one
            that most raters chose without seeing the face; ties are left out.

    Raises:
        SerError: folder, recordings or (for ``voice``) the table of votes are missing.
    """
    root = base.require_folder(Path(root), "CREMA-D", audio_dir)
    if votes not in _VOTES:
        raise SerError(one_of("kind of votes", votes, _VOTES))
    recordings = _find(root, audio_dir)
    table = _read_votes(root, needed=votes == "voice")
    lost: base.Lost = []
    raters = _read_raters(root, lost)
    tallies = {} if raters else _read_tallies(root)
    people = _read_people(root)
    found: list[Utterance | str] = []
    for path in recordings:
        row = _utterance(path, table, people, votes)
        if isinstance(row, Utterance):
            own_id = _own_id(path)
            ratings = raters.get(own_id, {})
            extra = {**row.extra, "raters": ratings} if ratings else row.extra
            tally = base.votes_of(ratings.values()) or tallies.get(own_id, {})
            row = replace(row, votes=tally, extra=extra)
        found.append(row)
    absent = sorted(table.keys() - {_own_id(path) for path in recordings})
    found += [f"cremad/{one}: in summaryTable.csv, no file in {audio_dir}" for one in absent]
    return base.finish("CREMA-D", root / audio_dir, [*found, *base.lost_votes(lost)])


def _find(root: Path, audio_dir: str) -> list[Path]:
    if not (root / audio_dir).is_dir():
        folders = sorted(path.name for path in root.iterdir() if path.is_dir()) or "none"
        raise SerError(
            f"{root}: has no folder {audio_dir!r}; its folders: {folders}; name the one with the "
            "recordings as audio_dir, or give CREMA-D's own folder"
        )
    return base.files(root / audio_dir, base.SOUND)


def _table(root: Path, name: str) -> Path:
    places = [root / folder / name for folder in _TABLES]
    return next((path for path in places if path.is_file()), places[0])


def _read_raters(root: Path, lost: base.Lost) -> dict[str, base.Raters]:
    """Returns by clip and rater the emotion chosen from the voice, and its strength, 0 to 100."""
    path = _table(root, "finishedResponses.csv")
    raters: dict[str, base.Raters] = defaultdict(dict)
    if path.is_file():
        columns = ["localid", "queryType", "clipName", "respEmo", "respLevel"]
        for number, row in enumerate(base.read_csv_rows(path, columns), 2):
            where = f"{path.name}:{number}"
            # other answers are about the face, with or without the voice
            if row["queryType"] == _VOICE:
                if row["respEmo"] not in _LETTERS:
                    lost.append((where, "without an emotion"))
                    continue
                answer: dict[str, Any] = {"emotion": [_LETTERS[row["respEmo"]]]}
                if row["respLevel"].replace(".", "", 1).isdigit():
                    answer["level"] = float(row["respLevel"])
                base.put_answer(raters[row["clipName"]], row["localid"], answer, where, lost)
            elif row["queryType"] not in _QUERIES:
                lost.append((where, f"with a queryType that is none of {', '.join(_QUERIES)}"))
    return raters


def _read_tallies(root: Path) -> dict[str, dict[str, int]]:
    path = _table(root, "tabulatedVotes.csv")
    if not path.is_file():
        return {}
    return {
        row["fileName"]: {
            word: int(rating(f"{path}:{number}", letter, row[letter]))
            for letter, word in _LETTERS.items()
            if row[letter] != "0"
        }
        for number, row in enumerate(
            base.read_csv_rows(path, ["fileName", "numResponses", *_LETTERS], index="row"), 2
        )
        if row["row"].startswith(_VOICE)
    }


def _read_votes(root: Path, needed: bool) -> dict[str, dict[str, str]]:
    path = _table(root, "summaryTable.csv")
    if path.is_file():
        return {row["FileName"]: row for row in base.read_csv_rows(path, ["FileName", "VoiceVote"])}
    if needed:
        raise SerError(
            f"{path}: missing, but votes='voice' needs it; it is part of CREMA-D's release"
        )
    return {}


def _read_people(root: Path) -> dict[str, dict[str, str]]:
    path = root / "VideoDemographics.csv"
    if not path.is_file():
        return {}
    return {row["ActorID"]: row for row in base.read_csv_rows(path, ["ActorID", "Age", "Sex"])}


def _utterance(
    path: Path, table: dict[str, dict[str, str]], people: dict[str, dict[str, str]], votes: str
) -> Utterance | str:
    """Returns one file's utterance, or the line that says why it has none."""
    own_id = _own_id(path)
    name = _NAME.fullmatch(own_id)
    if name is None or name[2] not in CREMAD_SENTENCES:
        return f"cremad/{path.stem}: not named ACTOR_SENTENCE_EMOTION_LEVEL"
    if reason := base.fault(path):
        return f"cremad/{path.stem}: {reason}"
    if own_id in _SILENT:
        return f"cremad/{path.stem}: silent in the corpus's own release"
    actor, sentence, intended, level = name.groups()
    row = table.get(own_id, {})
    emotion = intended if votes == "intended" else _LETTERS.get(row.get("VoiceVote", ""))
    if emotion is None:
        if row:
            return f"cremad/{path.stem} ({row['VoiceVote']}): the votes tie"
        return f"cremad/{path.stem}: no votes in summaryTable.csv"
    extra = {"level": level, "intended": intended, **_votes(row), **_person(people.get(actor, {}))}
    if votes == "voice":
        extra["label"] = "voice votes"
    if path.parent.name == "AudioRebuilt":
        extra["audio"] = "rebuilt"
    return Utterance(
        id=f"cremad/{own_id}",
        corpus="cremad",
        emotion=emotion,
        audio=str(path),
        text=CREMAD_SENTENCES[sentence],
        speaker=actor,
        extra=extra,
    )


def _own_id(path: Path) -> str:
    # some files are named _X where the tables say _XX
    return path.stem + "X" if path.stem.endswith("_X") else path.stem


def _votes(row: dict[str, str]) -> dict[str, Any]:
    given: dict[str, Any] = {}
    for column, kind in _VOTE_COLUMNS.items():
        if vote := row.get(column):
            given[f"{kind}_vote"] = vote
        if level := row.get(column.replace("Vote", "Level")):
            # Tied classes have a level each, as in 60:55.
            where = f"the row of {row['FileName']} in summaryTable.csv"
            levels = [rating(where, f"{kind} level", part) for part in level.split(":")]
            given[f"{kind}_level"] = levels
    return given


def _person(row: dict[str, str]) -> dict[str, Any]:
    given: dict[str, Any] = {
        key.lower(): row[key].lower() for key in ("Sex", "Race", "Ethnicity") if row.get(key)
    }
    if row.get("Age"):
        where = f"the row of {row['ActorID']} in VideoDemographics.csv"
        given["age"] = int(rating(where, "Age", row["Age"]))
    return given

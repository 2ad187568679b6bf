"""MSP-Podcast folder → Utterance: speech from podcasts, eight classes and three attributes.

Reads ``Labels/labels_consensus.csv`` (FileName, EmoClass, EmoAct, EmoVal, EmoDom, SpkrID, Gender,
Split_Set), ``Audios/`` and, if present, ``Transcripts/*.txt`` and each rater's annotation in
``Labels/labels_detailed.csv``, in the columns EmoClass_Major, EmoClass_Second, EmoAct, EmoVal and
EmoDom or, in some releases, in the single column EmoDetail.
"""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path
from typing import Any

from multimodal_ser.corpora import base
from multimodal_ser.corpora.columns import rating
from multimodal_ser.corpora.labels import shared_word
from multimodal_ser.corpora.utterance import Corpus, Utterance
from multimodal_ser.errors import SerError

MSP_PODCAST_EMOTIONS = {
    "A": "anger", "S": "sadness", "H": "happiness", "U": "surprise", "F": "fear", "D": "disgust",
    "C": "contempt", "N": "neutral", "O": "other", "X": "no agreement",
}  # fmt: skip
_DETAIL = re.compile(r"(\w+); (.*?); (.*); A:([\d.]+); V:([\d.]+); D:([\d.]+);")
_PARTS = {"train": "train", "development": "dev", "validation": "dev", "test1": "test"}
_ATTRIBUTES = {"EmoAct": "arousal", "EmoVal": "valence", "EmoDom": "dominance"}
_NEEDED = ("FileName", "EmoClass", "SpkrID", "Split_Set")


def read_msp_podcast(root: Path) -> Corpus:
    """Reads the folder that holds ``Labels`` and ``Audios``.

    Raises:
        SerError: folder, table or recordings are missing, or a class is unknown.
    """
    root = base.require_folder(Path(root), "MSP-Podcast", "Labels")
    table = root / "Labels" / "labels_consensus.csv"
    if not table.is_file() and table.with_name("labels_concensus.csv").is_file():
        table = table.with_name("labels_concensus.csv")
    if not table.is_file():
        raise SerError(f"no {table}; give the folder that MSP-Podcast's release was unpacked into")
    found: list[Utterance | str] = []
    lost: base.Lost = []
    raters = _read_raters(table.with_name("labels_detailed.csv"), lost)
    listed = set()
    for number, row in enumerate(base.read_csv_rows(table, _NEEDED), 2):
        path = base.sound_at(root / "Audios" / row["FileName"])
        listed.add(row["FileName"])
        part = _PARTS.get(row["Split_Set"].casefold())
        # parts without public labels have no class that could be checked
        if part and row["EmoClass"] not in MSP_PODCAST_EMOTIONS:
            raise SerError(
                f"{table}:{number}: EmoClass {row['EmoClass']!r}; "
                f"allowed: {', '.join(MSP_PODCAST_EMOTIONS)}"
            )
        reason = base.fault(path) or (None if part else f"of {row['Split_Set']}, no official part")
        if reason:
            found.append(f"msp-podcast/{path.stem}: {reason}")
        else:
            found.append(_utterance(row, path, part, raters.get(row["FileName"], {})))
    found += [*base.unlisted(raters, listed, table.name), *base.lost_votes(lost)]
    return base.finish("MSP-Podcast", root, found)


def _read_raters(path: Path, lost: base.Lost) -> dict[str, base.Raters]:
    """Returns by recording and rater the emotion, further emotions and attributes."""
    raters: dict[str, base.Raters] = defaultdict(dict)
    for number, row in enumerate(
        base.read_csv_rows(path, ["FileName"]) if path.is_file() else (), 2
    ):
        if detail := _DETAIL.match(row.get("EmoDetail", "")):
            worker, first, second, *numbers = detail.groups()
        else:
            worker = row.get("Workers") or row.get("WorkerID") or row.get("Worker") or str(number)
            first, second = row.get("EmoClass_Major", ""), row.get("EmoClass_Second", "")
            numbers = [row.get(name, "") for name in _ATTRIBUTES]
        answer: dict[str, Any] = {}
        if first.startswith("Other"):
            answer = {"emotion": ["other"], "remark": first}
        elif first:
            answer = {"emotion": [shared_word(first)]}
        named = [shared_word(word.strip().removeprefix("Other-")) for word in second.split(",")]
        answer["second"] = [word for word in named if word]
        values = zip(("arousal", "valence", "dominance"), numbers, strict=True)
        answer |= {name: rating(f"{path}:{number}", name, value) for name, value in values if value}
        base.put_answer(raters[row["FileName"]], worker, answer, f"{path.name}:{number}", lost)
    return raters


def _utterance(row: dict[str, str], path: Path, part: str | None, raters: base.Raters) -> Utterance:
    words = path.parents[1] / "Transcripts" / f"{path.stem}.txt"
    extra: dict[str, Any] = {"code": row["EmoClass"]}
    if raters:
        extra["raters"] = raters
    if row.get("Gender", "Unknown") != "Unknown":
        extra["sex"] = row["Gender"].lower()
    return Utterance(
        id=f"msp-podcast/{path.stem}",
        corpus="msp-podcast",
        emotion=MSP_PODCAST_EMOTIONS[row["EmoClass"]],
        audio=str(path),
        text=base.read_text(words).strip() or None if words.is_file() else None,
        # "Unknown" is no speaker: as a name it would tie unrelated recordings together
        speaker=None if row["SpkrID"].casefold() in ("", "unknown") else row["SpkrID"],
        split=part,
        votes=base.votes_of(raters.values()),
        attributes={
            name: rating(f"the row of {row['FileName']} in labels_consensus.csv", key, row[key])
            for key, name in _ATTRIBUTES.items()
            if row.get(key)
        },
        extra=extra,
    )

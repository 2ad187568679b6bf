"""MELD folder → Utterance: dialogues of a television series, with their words.

Reads ``train|dev|test_sent_emo.csv`` and the clips of ``train_splits``, ``dev_splits_complete`` and
``output_repeated_splits_test``, next to the tables or in folders ``train``, ``dev`` and ``test``
(as the release unpacks).
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

from multimodal_ser.corpora import base
from multimodal_ser.corpora.labels import MELD_7
from multimodal_ser.corpora.utterance import Corpus, Utterance
from multimodal_ser.errors import SerError

_CLIP_FOLDERS = {
    "train": "train_splits",
    "dev": "dev_splits_complete",
    "test": "output_repeated_splits_test",
}
_KNOWN_BROKEN = {"train/dia125_utt3", "dev/dia110_utt7", "test/dia38_utt4", "test/dia220_utt0"}

_CLIP = re.compile(r"dia\d+_utt\d+")
_STAMP = re.compile(r"(\d+):(\d+):(\d+(?:[.,]\d+)?)")
_COLUMNS = ("Utterance", "Speaker", "Emotion", "Dialogue_ID", "Utterance_ID")


def read_meld(root: Path) -> Corpus:
    """Reads whichever splits are there.

    Raises:
        SerError: no table of a split, or no utterance.
    """
    tables_in = (f"{at}{split}_sent_emo.csv" for split in _CLIP_FOLDERS for at in ("", f"{split}/"))
    root = base.require_folder(Path(root), "MELD", *tables_in)
    tables = {split: path for split in _CLIP_FOLDERS if (path := _table(root, split))}
    if not tables:
        raise SerError(
            f"{root}: holds none of train_sent_emo.csv, dev_sent_emo.csv and test_sent_emo.csv; "
            "take them from MELD's release"
        )
    missing = [f"{split}_sent_emo.csv" for split in _CLIP_FOLDERS if split not in tables]
    found: list[Utterance | str] = [f"{base.NOTE}there is no {name}" for name in missing]
    for split, table in tables.items():
        clips, others = _clips(root, split)
        found += others
        if not clips:
            found.append(
                f"{base.NOTE}no clips in {_CLIP_FOLDERS[split]}: only the words of {split} are kept"
            )
        rows = _read_split(table, split, clips)
        found += [*rows, *_doubtful(split, rows)]
    return base.finish("MELD", root, found)


def _table(root: Path, split: str) -> Path | None:
    places = (root / f"{split}_sent_emo.csv", root / split / f"{split}_sent_emo.csv")
    return next((path for path in places if path.is_file()), None)


def _clips(root: Path, split: str) -> tuple[dict[str, Path], list[str]]:
    """Returns a part's clips by name, and a line for each other file in the folder."""
    for folder in (root / _CLIP_FOLDERS[split], root / split / _CLIP_FOLDERS[split]):
        inside = base.files(folder, base.VIDEO + base.SOUND)
        named = [path for path in inside if _CLIP.fullmatch(path.stem)]
        clips = base.by_stem(named, f"meld/{split}/")
        if clips:
            return clips, [
                f"{split}/{path.stem}: not named diaD_uttU (a duplicate)"
                for path in inside
                if path.stem not in clips
            ]
    return {}, []


def _read_split(table: Path, split: str, clips: dict[str, Path]) -> list[Utterance | str]:
    """Returns an utterance per table row, or the line that says why it has none."""
    made: list[Utterance | str] = []
    unused = set(clips)
    for number, row in enumerate(base.read_csv_rows(table, _COLUMNS), 1):
        clip = f"dia{row['Dialogue_ID']}_utt{row['Utterance_ID']}"
        own_id = f"{split}/{clip}"
        unused.discard(clip)
        if not _CLIP.fullmatch(clip):
            made.append(f"{table.name} row {number}: Dialogue_ID or Utterance_ID is not a number")
        elif row["Emotion"] not in MELD_7:
            made.append(f"meld/{own_id}: emotion {row['Emotion']!r} is not one of MELD's seven")
        elif clips and (reason := base.fault(clips[clip]) if clip in clips else "no such clip"):
            known = ", as known of some releases" if own_id in _KNOWN_BROKEN else ""
            made.append(f"meld/{own_id}: {reason}{known}")
        else:
            made.append(_utterance(row, split, own_id, clips.get(clip)))
    made += [f"meld/{split}/{clip}: no row in {table.name}" for clip in sorted(unused)]
    return made


def _utterance(row: dict[str, str], split: str, own_id: str, clip: Path | None) -> Utterance:
    extra: dict[str, Any] = {}
    if row.get("Sentiment"):
        extra["sentiment"] = row["Sentiment"]
    for column in ("Season", "Episode"):
        if row.get(column, "").isdecimal():
            extra[column.lower()] = int(row[column])
    if (length := _seconds(row.get("EndTime")) - _seconds(row.get("StartTime"))) > 0:
        extra["duration"] = round(length, 3)  # of the clip, which `ser check` compares
    return Utterance(
        id=f"meld/{own_id}",
        corpus="meld",
        emotion=row["Emotion"],
        audio=None if clip is None else str(clip),
        text=row["Utterance"] or None,
        speaker=row["Speaker"] or None,
        # dialogues are numbered anew in every part
        dialogue=f"{split}/dia{row['Dialogue_ID']}",
        split=split,
        extra=extra,
    )


def _seconds(stamp: str | None) -> float:
    """Converts a time such as 00:16:16,059 to seconds; NaN if it is not one."""
    match = _STAMP.fullmatch(stamp or "")
    if match is None:
        return math.nan
    hours, minutes, seconds = (float(part.replace(",", ".")) for part in match.groups())
    return 3600 * hours + 60 * minutes + seconds


def _doubtful(split: str, rows: list[Utterance | str]) -> list[str]:
    """Notes clips that are kept although they are broken in some releases."""
    kept = {row.id for row in rows if isinstance(row, Utterance) and row.audio is not None}
    return [
        f"{base.NOTE}meld/{own_id} is broken in some releases; `ser check` opens it"
        for own_id in sorted(_KNOWN_BROKEN)
        if own_id.startswith(f"{split}/") and f"meld/{own_id}" in kept
    ]

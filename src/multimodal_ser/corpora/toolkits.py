"""Manifests of toolkits → Utterance: a Kaldi data folder, or lhotse's JSON lines.

A Kaldi folder holds ``wav.scp``, ``utt2spk``, ``utt2emo`` (or ``utt2emotion``, ``utt2label``) and,
where there are such, ``segments``, ``text`` and ``spk2gender`` (or ``utt2gender``); or a folder
for each part (``train``, ``dev``, ``test``) does. Relative paths are looked up in the folder and in
every folder above it, because in Kaldi they are relative to the folder in which a recipe was run.

Of lhotse, ``*recordings*.jsonl`` with ``*supervisions*.jsonl`` are read, or otherwise
``*cuts*.jsonl``, each also as ``.jsonl.gz``. A supervision's emotion is a field of its own or one
of its ``custom`` fields. A file's name that contains ``train``, ``dev`` or ``test`` tells the part.
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from multimodal_ser.corpora.base import is_hidden, json_of, read_text, require_folder, sound_at
from multimodal_ser.corpora.labels import sex_of
from multimodal_ser.corpora.rows import of_rows, part_named
from multimodal_ser.corpora.utterance import Corpus
from multimodal_ser.errors import SerError, counted, some_of

_EMOTIONS = ("utt2emo", "utt2emotion", "utt2label")
_PART = re.compile(r"(?:^|[_.-])(train|dev|valid|validation|test)(?=[_.-]|$)")
_KEPT = ("id", "text", "speaker", "gender", "language")
_NEEDED = {
    "recordings": {"id", "sources"},
    "supervisions": {"id", "recording_id", "start", "duration"},
    "cuts": {"id", "start"},
}
_NUMBER = re.compile(r"-?\d+(?:\.\d*)?")
_TIMES = 6  # decimals of a second: sums of floats such as 0.1 + 0.2 would leave noise in manifests


def read_kaldi(root: Path, name: str | None = None) -> Corpus:
    """Reads a data folder, or all data folders in it.

    Args:
        root: the folder.
        name: the corpus's name in ids and results; None for the folder's.

    Raises:
        SerError: ``wav.scp`` or the emotions are missing, an entry has no recording, or an
            utterance is in two of the folders.
    """
    root = require_folder(Path(root), "a Kaldi data folder")
    folders = [path.parent for path in sorted([*root.glob("wav.scp"), *root.glob("*/wav.scp")])]
    if not folders:
        raise SerError(f"{root}: no wav.scp in it or in its folders; give a Kaldi data folder")
    notes: list[str] = []
    rows, first = [], dict[str, Path]()
    for folder in folders:
        for row in _rows(folder, "" if folder == root else folder.name, notes):
            # such as in train and in a subset of it, train_10k
            if (other := first.setdefault(row["id"], folder)) != folder:
                raise SerError(
                    f"{folder}: its utterance {row['id']!r} is also in {other}; give one of the "
                    "folders as --root, or keep those that share no utterance"
                )
            rows.append(row)
    if on_one := sum(row.pop("on_one") for row in rows):
        notes.append(
            f"{on_one} segments name a channel; of a recording with several, their mean is read"
        )
    return of_rows(name or root.resolve().name, root / "wav.scp", rows, notes=notes)


def _rows(folder: Path, part: str, notes: list[str]) -> Iterator[dict[str, Any]]:
    emotions = next((_map(folder / file) for file in _EMOTIONS if (folder / file).is_file()), None)
    if emotions is None:
        raise SerError(
            f"{folder}: has none of {', '.join(_EMOTIONS)}; write one with lines UTTERANCE EMOTION"
        )
    recordings = _map(folder / "wav.scp")
    segments = _map(folder / "segments") or {key: key for key in recordings}
    speakers, words = _map(folder / "utt2spk"), _map(folder / "text")
    genders, of_speaker = _map(folder / "utt2gender"), _map(folder / "spk2gender")
    if lone := sorted(emotions.keys() - segments.keys()):
        labels = f"{counted(len(lone), 'emotion')} of {folder.name} without a recording"
        notes.append(f"{labels} in wav.scp or segments: {some_of(lone)}")
    for key, segment in segments.items():
        recording, *times = segment.split() or [""]
        if len(times) == 1 or (times and not all(map(_NUMBER.fullmatch, times[:2]))):
            raise SerError(
                f"{folder / 'segments'}: {key!r} is {segment!r}; allowed: the recording, start and "
                "end in seconds (-1 is its end), and perhaps a channel"
            )
        path = recordings.get(recording, "")
        if not path or path.endswith("|"):
            what = f"the command {path!r}" if path else "nothing"
            raise SerError(
                f"{folder / 'wav.scp'}: has {what} for {recording!r}; write the sound to files and "
                "name them there"
            )
        speaker = speakers.get(key)
        yield {
            "id": key,
            "audio": str(find(folder, path)),
            "emotion": emotions.get(key, ""),
            "speaker": speaker,
            "text": words.get(key),
            "split": part_named(part),
            "start": float(times[0]) if times else None,
            "end": float(times[1]) if times and float(times[1]) != -1 else None,
            "on_one": len(times) > 2,
            "sex": sex_of(genders.get(key, of_speaker.get(speaker or ""))) or None,
        }


def _map(path: Path) -> dict[str, str]:
    """Maps the first word of each line to the rest of it; empty if the file is missing."""
    if not path.is_file():
        return {}
    rest: dict[str, str] = {}
    for number, line in enumerate(read_text(path).expandtabs(1).split("\n"), 1):
        key, _, value = line.strip().partition(" ")
        # taking the last of two lines would silently change a label
        if key and rest.setdefault(key, value.strip()) != value.strip():
            raise SerError(
                f"{path}:{number}: {key!r} is {value.strip()!r} here, but {rest[key]!r} in a line "
                "above; keep one line of each"
            )
    return rest


def find(folder: Path, path: str) -> Path:
    """Finds a relative path below a folder or any folder above it, also with another ending."""
    folder = folder.absolute()  # the paths in rows must not depend on the current folder
    places = [folder / path, *(above / path for above in folder.parents)]
    there = [place for place in places if place.is_file()] or [*map(sound_at, places)]
    return next((place for place in there if place.is_file()), places[0])


def read_lhotse(root: Path, name: str | None = None) -> Corpus:
    """Reads all manifests of a folder.

    Args:
        root: their folder; relative paths are looked for below it and above it.
        name: the corpus's name in ids and results; None for the folder's.

    Raises:
        SerError: there are no manifests, a supervision's recording is in none of them, or lhotse
            alters a recording when it reads it.
    """
    root = require_folder(Path(root), "lhotse's manifests")
    recordings: dict[str, dict[str, Any]] = {}
    for _, row in _objects(root, "recordings"):
        other = recordings.setdefault(row["id"], row)
        if other["sources"] != row["sources"]:  # taking either would pair sound and label wrongly
            raise SerError(
                f"{root}: the recording {row['id']!r} is {other['sources']} in one manifest and "
                f"{row['sources']} in another; read each part's manifests from a folder of its own"
            )
    rows = [_row(root, part, one, recordings) for part, one in _objects(root, "supervisions")]
    if not rows:
        rows = [
            _row(root, part, {**one, "start": cut["start"] + one["start"]}, cut)
            for part, cut in _objects(root, "cuts")
            for one in cut.get("supervisions", ())
        ]
    if not rows:
        raise SerError(
            f"{root}: no *recordings*.jsonl(.gz) with *supervisions*.jsonl(.gz), and no "
            "*cuts*.jsonl(.gz); give the folder with lhotse's manifests"
        )
    mixed = sum(row.pop("mixed") for row in rows)
    notes = [f"{mixed} segments are on one channel of several, whose mean is read"] if mixed else []
    return of_rows(name or root.resolve().name, root / "supervisions", rows, notes=notes)


def _objects(root: Path, kind: str) -> Iterator[tuple[str | None, dict[str, Any]]]:
    found = [*root.glob(f"*{kind}*.jsonl"), *root.glob(f"*{kind}*.jsonl.gz")]
    for path in sorted(path for path in found if not is_hidden(path)):
        part = _PART.search(path.name.partition(".jsonl")[0].lower())
        opener = gzip.open if path.suffix == ".gz" else open
        try:
            with opener(path, "rt", encoding="utf-8-sig") as file:
                lines = list(file)
        except (OSError, EOFError, ValueError, zlib.error) as error:
            raise SerError(f"{path}: cannot be read ({error}); fetch the file again") from error
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            row = json_of(Path(f"{path}:{number}"), line)
            transforms = (row.get("recording") or row).get("transforms") or ()
            changes = [one.get("name") for one in transforms if one.get("name") != "Resample"]
            if row.get("tracks"):
                changes.append("mixing of several cuts")
            if changes:  # of speed they move the times, too: they are not those of the file
                raise SerError(
                    f"{path}:{number}: the sound of {row.get('id')!r} is made when lhotse reads it "
                    f"({changes[0]}), and is in no file; write it with lhotse's save_audios, or "
                    "leave out what was altered for training"
                )
            if lacking := sorted(_NEEDED[kind] - row.keys()):
                raise SerError(f"{path}:{number}: lacks {', '.join(lacking)}; write it with lhotse")
            yield part[1] if part else None, row


def _row(
    root: Path, part: str | None, one: Mapping[str, Any], recordings: Mapping[str, Any]
) -> dict[str, Any]:
    """Returns a supervision's row; `recordings` is a cut if the supervision is part of one."""
    recording = recordings.get(one["recording_id"]) or recordings.get("recording") or {}
    source = recording.get("sources", [{}])[0]
    if source.get("type") != "file":
        raise SerError(
            f"{root}: the supervision {one['id']!r} belongs to the recording "
            f"{one['recording_id']!r}, whose source is {source or 'in none of the manifests'}; "
            "only sources of the type file can be read: lhotse's save_audios writes them"
        )
    custom = one.get("custom") or {}
    start, length = one["start"], one["duration"]
    # durations are rounded in manifests; a segment that covers the file is stored as the whole file
    whole = start == 0 and abs(length - recording.get("duration", length)) < 0.01
    extra = {key: value for key, value in custom.items() if isinstance(value, str | int | float)}
    spoken = one.get("channel", 0)
    spoken = {*spoken} if isinstance(spoken, list) else {spoken}
    channels = {*(recording.get("channel_ids") or source.get("channels") or spoken)}
    return {
        **extra,
        "mixed": len(channels) > 1 and channels != spoken,
        **{key: one.get(key) for key in _KEPT},
        "audio": str(find(root, source["source"])),
        "emotion": one.get("emotion") or custom.get("emotion") or "",
        "split": part,
        "start": None if whole else round(max(start, 0.0), _TIMES),
        "end": None if whole else round(start + length, _TIMES),
    }

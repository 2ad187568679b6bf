"""Kaldi data folder → Utterance: ``wav.scp``, ``utt2spk``, ``utt2emo`` and related files.

The folder holds these files directly, or in a folder for each part (``train``, ``dev``, ``test``).
``segments``, ``text`` and ``utt2gender`` are read too. The emotion is in ``utt2emo``,
``utt2emotion`` or ``utt2label``. Relative paths are looked up in the folder and in every folder
above it, because in Kaldi they are relative to the folder in which a recipe was run. Known trap: An
entry of ``wav.scp`` may be a command that ends in ``|``; no command is run.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from multimodal_ser.corpora.base import CorpusInfo, read_text, require_folder, traps_of
from multimodal_ser.corpora.rows import PART_SPELLINGS, of_rows
from multimodal_ser.corpora.utterance import SPLITS, Corpus
from multimodal_ser.errors import SerError

_EMOTIONS = ("utt2emo", "utt2emotion", "utt2label")


def read_kaldi(root: Path, name: str | None = None) -> Corpus:
    """Reads a data folder, or all data folders in it.

    Args:
        root: the folder.
        name: the corpus's name in ids and results; None for the folder's.

    Raises:
        SerError: ``wav.scp`` or the emotions are missing, or an entry has no recording.
    """
    root = require_folder(Path(root), "a Kaldi data folder")
    folders = [path.parent for path in sorted([*root.glob("wav.scp"), *root.glob("*/wav.scp")])]
    if not folders:
        raise SerError(f"{root}: no wav.scp in it or in its folders; give a Kaldi data folder")
    rows = [
        row for folder in folders for row in _rows(folder, "" if folder == root else folder.name)
    ]
    return of_rows(name or root.resolve().name, root / "wav.scp", rows)


def _rows(folder: Path, part: str) -> Iterator[dict[str, Any]]:
    emotions = next((_map(folder / file) for file in _EMOTIONS if (folder / file).is_file()), None)
    if emotions is None:
        raise SerError(f"{folder}: none of {', '.join(_EMOTIONS)}; lines are: UTTERANCE EMOTION")
    recordings = _map(folder / "wav.scp")
    segments = _map(folder / "segments") or {key: key for key in recordings}
    speakers, words = _map(folder / "utt2spk"), _map(folder / "text")
    sexes = {"f": "female", "m": "male"}
    genders = _map(folder / "utt2gender")
    for key, segment in segments.items():
        recording, *times = segment.split()
        path = recordings.get(recording, "")
        if not path or path.endswith("|"):
            what = f"the command {path!r}" if path else "nothing"
            raise SerError(
                f"{folder / 'wav.scp'}: has {what} for {recording!r}; write the sound to files and "
                "name them there"
            )
        gender = genders.get(key, "").lower()
        yield {
            "id": key,
            "audio": str(find(folder, path)),
            "emotion": emotions.get(key, ""),
            "speaker": speakers.get(key),
            "text": words.get(key),
            "split": part if part.casefold() in (*SPLITS, *PART_SPELLINGS) else None,
            "start": float(times[0]) if times else None,
            "end": float(times[1]) if times else None,
            "sex": sexes.get(gender[:1]),
        }


def _map(path: Path) -> dict[str, str]:
    """Maps the first word of each line to the rest of it; empty if the file is missing."""
    if not path.is_file():
        return {}
    pairs = (line.strip().partition(" ") for line in read_text(path).expandtabs(1).split("\n"))
    return {key: value.strip() for key, _, value in pairs if key}


def find(folder: Path, path: str) -> Path:
    """Finds a relative path below a folder or any folder above it."""
    folder = folder.absolute()  # the rows' paths must not depend on where they are read from
    places = [folder / path, *(above / path for above in folder.parents)]
    return next((place for place in places if place.is_file()), places[0])


KALDI = CorpusInfo(
    name="kaldi",
    description="a Kaldi data folder with utt2emo",
    read=read_kaldi,
    licence="that of the recordings",
    url="https://kaldi-asr.org/doc/data_prep.html",
    traps=traps_of(__doc__),
)

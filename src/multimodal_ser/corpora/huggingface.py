"""Reads a Hugging Face data set with an audio column: its Parquet or Arrow files in a folder.

Reads the ``.parquet`` files of a data set's folder, as on the hub, or the ``.arrow`` files
that ``save_to_disk`` writes, with the class names of a ClassLabel. The part is in a file's name
(``train-00000-of-00001.parquet``) or that of its folder. Audio embedded in the table is written
once, unchanged, to ``audio_dir``. Nothing is downloaded: get the folder with
``huggingface_hub.snapshot_download``.

RESD (dialogues in Russian that 20 actors improvised) is such a data set, or a folder with
``train.csv`` and ``test.csv`` with folders of the same names.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from multimodal_ser.common.files import files_below, write_file
from multimodal_ser.corpora.base import json_of, read_csv_rows, require_folder
from multimodal_ser.corpora.parquet import read_metadata, read_parquet
from multimodal_ser.corpora.rows import of_rows, part_named
from multimodal_ser.corpora.utterance import Corpus
from multimodal_ser.errors import SerError

_WORD = re.compile(r"[A-Za-z]+")
_KINDS = (".parquet", ".arrow")
_MAGIC = {b"RIFF": ".wav", b"fLaC": ".flac", b"OggS": ".ogg", b"ID3": ".mp3", b"\xff": ".mp3"}


def read_huggingface(
    root: Path,
    name: str | None = None,
    *,
    audio_dir: str = "recordings",
    columns: Sequence[str] = (),
) -> Corpus:
    """Reads a data set's folder, or one file of it.

    Args:
        root: the folder, or a ``.parquet`` file.
        name: the corpus's name in ids and results; None for the folder's.
        audio_dir: where audio embedded in the table is written, below `root` unless absolute.
        columns: ``emotion=style`` for a column of another name.

    Raises:
        SerError: files or pyarrow are missing, or there is no column of audio or emotions.
    """
    root = Path(root)
    folder = root.parent if root.is_file() else root
    files = sorted(_files(root)) if root.is_dir() else [root]
    if not files or files[0].suffix not in _KINDS:
        raise SerError(
            f"{root}: no .parquet and no .arrow file{' in it' if root.is_dir() else ''}; give a "
            "data set's folder, or read one with metadata.csv or metadata.jsonl, and an unpacked "
            ".tar, as a table: ser manifest table"
        )
    # configurations of a data set have files of the same names, each in its folder
    named, out = Counter((_part(path), path.stem) for path in files), folder / audio_dir
    places = [
        out if named[_part(path), path.stem] == 1 else out / path.relative_to(folder)
        for path in files
    ]
    rows = [row for path, place in zip(files, places, strict=True) for row in _rows(path, place)]
    repeated = Counter(row["id"] for row in rows)
    for number, row in enumerate(rows):
        if repeated[row["id"]] > 1:
            row["id"] = f"{row['id']}-{number:06}"
    return of_rows(name or root.resolve().stem, folder / files[0].name, rows, columns)


def _files(root: Path) -> Iterator[Path]:
    # files that start with "cache-" are results of map and filter, not the data
    paths = [path for path in files_below(root) if not path.name.startswith("cache-")]
    return (path for kind in _KINDS for path in paths if path.suffix == kind)


def _rows(path: Path, out: Path) -> Iterator[dict[str, Any]]:
    features, part, column = _features(path), _part(path), ""
    for number, cells in enumerate(read_parquet(path)):
        column = column or _column_of_sound(path, features, cells)
        sound = cells.pop(column) or {}
        own_name = str(sound.get("path") or cells.pop("path", None) or f"{path.stem}-{number:06}")
        audio = own_name
        # files are named by their row, since two folders may use the same names
        if sound.get("bytes"):
            audio = _kept(sound["bytes"], out / (part or "") / f"{path.stem}-{number:06}")
        row = {name: _named(features.get(name, {}), cell) for name, cell in cells.items()}
        row = {name: cell for name, cell in row.items() if isinstance(cell, str | int | float)}
        key = "/".join(filter(None, [part, str(row.get("id", PurePosixPath(own_name).stem))]))
        yield {**row, "id": key, "audio": audio, "split": part or row.get("split")}


def _part(path: Path) -> str | None:
    """Returns the part of a file: train-00000-of-00001.parquet, or train/0000.parquet."""
    words = [_WORD.match(name) for name in (path.name, path.parent.name)]
    return next((word[0] for word in words if word and part_named(word[0])), None)


def _features(path: Path) -> dict[str, Mapping[str, Any]]:
    metadata = read_metadata(path).get(b"huggingface")
    features = json_of(path, metadata).get("info", {}).get("features", {}) if metadata else {}
    return {name: kind for name, kind in features.items() if isinstance(kind, dict)}


def _named(feature: Mapping[str, Any], cell: Any) -> Any:
    """Returns the class name behind a ClassLabel's number; None for -1 (no label)."""
    if feature.get("_type") != "ClassLabel" or not isinstance(cell, int):
        return cell
    return dict(enumerate(feature.get("names", ()))).get(cell)


def _column_of_sound(
    path: Path, features: Mapping[str, Mapping[str, Any]], cells: Mapping[str, Any]
) -> str:
    for name, cell in cells.items():
        declared = features.get(name, {}).get("_type") == "Audio"
        if declared or (isinstance(cell, dict) and {"bytes", "path"} <= cell.keys()):
            return name
    raise SerError(
        f"{path}: has the columns {[*cells]}, none of them with audio (bytes and path); if a "
        "column has paths of files, save the table as CSV and read it with: ser manifest table"
    )


def _kept(sound: bytes, path: Path) -> str:
    """Writes a recording unless it is there; the file's ending follows from its content."""
    ending = next((end for start, end in _MAGIC.items() if sound.startswith(start)), ".wav")
    path = path.with_name(path.name + ending)
    # another version of the data set may have another recording of the same size in this row
    if not path.is_file() or path.read_bytes() != sound:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, sound)
    return str(path.absolute())


def read_resd(root: Path, audio_dir: str = "recordings") -> Corpus:
    """Reads the folder.

    Args:
        root: the data set's folder.
        audio_dir: where audio embedded in the tables is written, below `root`.

    Raises:
        SerError: the folder or its files are missing, or pyarrow is missing for Parquet.
    """
    root = require_folder(Path(root), "RESD")
    if (root / "train.csv").is_file():
        read = of_rows("resd", root / "train.csv", _listed(root))
    else:
        read = read_huggingface(root, "resd", audio_dir=audio_dir)
    # 32_happiness_enthusiasm_h_120: dialogue 32, its two emotions, the one meant, the turn
    rows = [
        replace(row, dialogue=PurePosixPath(row.id).name.rsplit("_", 2)[0])
        for row in read.utterances
    ]
    return Corpus(rows, read.left_out)


def _listed(root: Path) -> Iterator[dict[str, str]]:
    for part in ("train", "test"):
        for row in read_csv_rows(root / f"{part}.csv", ["path", "emotion"]):
            own = f"{part}/{Path(row['path']).stem}"
            audio = f"{part}/{row['path']}"
            yield {"id": own, "audio": audio, "emotion": row["emotion"], "split": part}

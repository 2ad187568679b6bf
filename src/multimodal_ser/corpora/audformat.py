"""Reads an audformat database: ``db.yaml`` with ``db.<table>.csv`` or ``.parquet``.

A recording's row is joined from all tables that contain it: one has the speaker, another the
emotion. Tables of segments cut segments out of files; what is known of a whole file also holds for
its segments. What a scheme says about its labels (sex and age of a speaker, the words of a
sentence) is looked up. The official part comes from a table's split, or from ``.train.`` and the
like in its name. audformat's own package may read pickled copies of tables (``.pkl``), which can
run code; here none is read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from multimodal_ser.corpora.base import read_csv_rows, read_text, require_folder
from multimodal_ser.corpora.parquet import read_parquet
from multimodal_ser.corpora.rows import of_rows, part_named
from multimodal_ser.corpora.utterance import ATTRIBUTES, Corpus
from multimodal_ser.errors import SerError

_Key = tuple[str, float | None, float | None]  # file, start and end in seconds
_TIME = re.compile(r"(\d+) days? (\d+):(\d\d):(\d\d(?:\.\d+)?)")
_OURS = {"gender": "sex"}


def read_audformat(
    root: Path, name: str | None = None, *, tables: str = "*", columns: Sequence[str] = ()
) -> Corpus:
    """Reads the database.

    Args:
        root: the folder of ``db.yaml``.
        name: the corpus's name in ids and results; None for the database's.
        tables: names or patterns of the tables to read, such as
            ``files,emotion.categories.*.gold_standard``.
        columns: ``emotion=style`` for a column of another name.

    Raises:
        SerError: ``db.yaml`` or a table is missing, or two tables give a recording different
            values in columns of the same name.
    """
    root = require_folder(Path(root), "an audformat database")
    header = read_header(root)
    notes = [
        f"{name} is on a scale from {scheme['minimum']:g} to {scheme['maximum']:g}"
        for name, scheme in header.get("schemes", {}).items()
        if name in ATTRIBUTES
        and all(isinstance(scheme.get(end), int | float) for end in ("minimum", "maximum"))
    ]
    rows = joined_tables(root, header, tables)
    return of_rows(name or str(header["name"]), root / "db.yaml", rows, columns, notes)


def read_header(root: Path) -> dict[str, Any]:
    """Reads ``db.yaml``."""
    import yaml

    path = root / "db.yaml"
    if not path.is_file():
        raise SerError(f"no {path}; give the folder of an audformat database")
    try:
        # safe_load builds plain values only; yaml.load could run code of the file
        header = dict(yaml.safe_load(read_text(path)))
        return header | {"name": header["name"], "tables": dict(header["tables"])}
    except (yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        raise SerError(f"{path}: no header of an audformat database ({error!r})") from error


def joined_tables(root: Path, header: Mapping[str, Any], tables: str = "*") -> list[dict[str, Any]]:
    """Joins tables into one row per segment, and per file without segments."""
    patterns = [pattern.strip() for pattern in tables.split(",")]
    chosen = [name for name in header["tables"] if any(fnmatch(name, one) for one in patterns)]
    if not chosen:
        raise SerError(
            f"{root}: no table is called {tables!r}; it has: {', '.join(header['tables'])}"
        )
    joined: dict[_Key, dict[str, Any]] = {}
    source: dict[tuple[_Key, str], str] = {}
    for name in chosen:
        part = _part(header, name)
        for line in _lines(root, name):
            if "file" not in line:
                raise SerError(f"{root}: the table {name} has no column file; fetch it again")
            key = _key(line)
            cells = {name: _seconds(cell) for name, cell in line.items() if cell not in ("", None)}
            cells |= {"split": part} if part else {}
            for column, cell in cells.items():
                before = joined.setdefault(key, {}).setdefault(column, cell)
                first = source.setdefault((key, column), name)
                # taking the majority or the last table would silently change labels: the user must
                # choose
                if before != cell:
                    raise SerError(
                        f"{root}: for {key[0]}, the table {first} has {column} {before!r} and "
                        f"the table {name} {cell!r}; choose tables with --tables, such as "
                        f"--tables files,{first}"
                    )
    return _rows(root, header, joined)


def _rows(
    root: Path, header: Mapping[str, Any], labelled: Mapping[_Key, dict[str, Any]]
) -> list[dict[str, Any]]:
    cut = {file for file, start, _ in labelled if start is not None}
    labels = _labels(root, header)
    rows = []
    for (file, start, end), cells in labelled.items():
        # the file's own row only supplies values for its segments
        if start is None and file in cut:
            continue
        row = {**labelled.get((file, None, None), {}), **cells}
        for column in [column for column in row if column in labels]:
            label = labels[column].get(str(row[column]))
            if isinstance(label, str):
                row[column] = label
            else:
                for key, value in (label or {}).items():
                    row.setdefault(_OURS.get(key, key), value)
        rows.append({"audio": file, "start": start, "end": end, **row})
    return rows


def _labels(root: Path, header: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Returns by column and label what its scheme says: another word, or a mapping of values."""
    schemes = header.get("schemes", {})
    labels_of = {}
    for table in header["tables"].values():
        for column, described in (table.get("columns") or {}).items():
            labels = schemes.get((described or {}).get("scheme_id"), {}).get("labels")
            if isinstance(labels, str):  # the name of a table, whose first column is the label
                rows = _lines(root, labels)
                labels = {row.pop(next(iter(row))): row for row in rows}
            if isinstance(labels, dict):
                labels_of[column] = {str(label): value for label, value in labels.items()}
    return labels_of


def _part(header: Mapping[str, Any], name: str) -> str | None:
    """Returns the official part of a table: by its split, or by a word of its name."""
    split = header["tables"][name].get("split_id")
    split = header.get("splits", {}).get(split, {}).get("type", split)
    parts = [part_named(word) for word in [str(split), *name.split(".")]]
    return next(filter(None, parts), None)


def _lines(root: Path, name: str) -> list[dict[str, Any]]:
    path = root / f"db.{name}.csv"
    if path.is_file():
        return [dict(row) for row in read_csv_rows(path, ())]
    if path.with_suffix(".parquet").is_file():
        return list(read_parquet(path.with_suffix(".parquet")))
    raise SerError(
        f"{root}: has no db.{name}.csv and no db.{name}.parquet; fetch the database again"
    )


def _key(line: dict[str, Any]) -> _Key:
    """Removes file and times from a row and returns them; a missing end is the file's end."""
    start, end = (_seconds(line.pop(name, None)) or None for name in ("start", "end"))
    return str(line.pop("file")), start or (0.0 if end else None), end


def _seconds(cell: Any) -> Any:
    """Converts a duration as pandas writes it to seconds; returns anything else unchanged."""
    if not isinstance(cell, str) or not (found := _TIME.fullmatch(cell)):
        return cell
    days, hours, minutes, seconds = map(float, found.groups())
    return 86400 * days + 3600 * hours + 60 * minutes + seconds

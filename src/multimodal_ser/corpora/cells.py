"""Reads a table's file into rows of cells: encoding, separator, quotes.

Nothing is guessed silently: every assumption becomes a note, and the user has to give the encoding
if the bytes would be other letters in another one.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from multimodal_ser.common.files import parse_json
from multimodal_ser.common.spelling import tidy
from multimodal_ser.corpora.base import decode_text
from multimodal_ser.corpora.parquet import read_parquet
from multimodal_ser.errors import SerError

_Understood = Callable[[list[str]], bool]
_SEPARATORS = {".csv": ",", ".tsv": "\t", ".txt": "\t"}
_BY_NAME = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
# Byte order marks; UTF-32 first, because its mark begins with that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"),
)  # fmt: skip
_COMMON = (
    "gb18030", "big5", "cp932", "euc_jp", "cp949", "cp1250", "cp1251", "cp1252", "cp1253", "cp1254",
    "cp1255", "cp1256", "cp1257", "cp874", "koi8_r",
)  # fmt: skip
_THOUSANDS = re.compile(r"[1-9]\d{0,2}(?:,\d{3})+")
_LONGEST_CELL = 1 << 24  # characters; csv's default of 131,072 is too short for embedded JSON


@dataclass
class Cells:
    """The rows of a table.

    Attributes:
        rows: line number, and cell by column.
        columns: their names, in order; if rows are JSON objects, the names of all rows.
        notes: assumptions about the file's format that are not the default.
    """

    rows: list[tuple[int, dict[str, Any]]]
    columns: list[str]
    notes: list[str] = field(default_factory=list)


def read_cells(path: Path, encoding: str | None, fits: _Understood) -> Cells:
    """Reads the rows of a .csv, .tsv, .txt, .jsonl, .json or .parquet file that hold anything.

    Args:
        path: of the file.
        encoding: of its text; None to detect it.
        fits: whether a header's columns look like those of a table; this decides the separator.

    Raises:
        SerError: another ending, bytes that are no text or could be of several encodings, a row
            of another length than the header, or an open quote; with the line.
    """
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        return _of_objects([(n, _plain(row)) for n, row in enumerate(read_parquet(path), 1)], [])
    if suffix not in (".jsonl", ".json") and suffix not in _SEPARATORS:
        raise SerError(
            f"{path}: ends in {suffix!r}; allowed: .csv, .tsv, .txt, .jsonl, .json, .parquet; save "
            "other tables as .csv"
        )
    text, notes = read_words(path, encoding)
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if suffix in (".jsonl", ".json"):
        return _of_objects(list(_objects(path, text)), notes)
    usual = _SEPARATORS[suffix]
    separator, text, skipped = _separator(text, usual, fits)
    if separator != usual:
        notes.append(f"the cells of {path.name} are separated by {_BY_NAME[separator]}")
    lines = _lines(path, text, separator, skipped)
    columns = [tidy(cell) for cell in lines[0][1]] if lines else []
    rows = list(_rows(path, columns, lines[1:]))
    return Cells(rows, [name for name in columns if name], notes)


def check_commas(where: str, cells: Cells, *columns: str | None) -> None:
    """Raises SerError if commas in some cells of these columns may separate thousands: 1,234."""
    filled: list[tuple[int, str, str]] = []  # line, column, cell
    for line, row in cells.rows:
        for name in filter(None, columns):
            if cell := str(row.get(name, "")):
                filled.append((line, name, cell))
    commas = [entry for entry in filled if "," in entry[2]]
    # if every cell has a comma, or one has it as in 0,5, they are decimal commas
    if 0 < len(commas) < len(filled) and all(_THOUSANDS.fullmatch(cell) for _, _, cell in commas):
        line, name, cell = commas[0]
        raise SerError(
            f"{where.rpartition(':')[0]}:{line}: {name} is {cell!r}, which is "
            f"{cell.replace(',', '.', 1)} or {cell.replace(',', '')}; write the table's "
            "numbers without commas"
        )


def read_words(path: Path, encoding: str | None = None) -> tuple[str, list[str]]:
    """Reads a text file of unknown encoding, with notes if that is not plain UTF-8.

    Raises:
        SerError: the bytes are not text, or several encodings are possible.
    """
    raw = path.read_bytes()
    if encoding is not None:
        return _decoded(path, raw, encoding), []
    for mark, name in _MARKS:
        if raw.startswith(mark):
            if name == "utf-8-sig" and not _decodes(raw, name):
                return decode_text(raw), [f"{path.name} is UTF-8 with Windows-1252 between"]
            notes = [] if name == "utf-8-sig" else [f"{path.name} was read as {name}"]
            return _decoded(path, raw, name), notes
    if _decodes(raw, "utf-8") and b"\0" not in raw:
        return raw.decode("utf-8"), []
    if b"\0" in raw:
        if b"\0" not in raw.partition(b"\n")[0]:  # UTF-16 has it in every line
            line = raw.partition(b"\0")[0].count(b"\n") + 1
            raise SerError(f"{path}:{line}: has a zero byte: the file is damaged, fetch it again")
        # UTF-16 without a mark: Latin letters have a zero byte, second in little-endian order,
        # first in big-endian
        name = "utf-16-le" if raw[1::2].count(0) > raw[::2].count(0) else "utf-16-be"
        return _decoded(path, raw, name), [f"{path.name} was read as {name}"]
    if _is_mostly_utf8(raw):
        return decode_text(raw), [f"{path.name} is UTF-8 with Windows-1252 between"]
    name = _detected(path, raw)
    return _decoded(path, raw, name), [f"{path.name} was read as {name}; other: --encoding"]


def _decodes(raw: bytes, encoding: str) -> bool:
    try:
        raw.decode(encoding)
    except ValueError:
        return False
    return True


def _decoded(path: Path, raw: bytes, encoding: str) -> str:
    try:
        return raw.decode(encoding).removeprefix("\ufeff")
    except LookupError as error:
        raise SerError(
            f"there is no encoding {encoding!r}; give one such as utf-8, gb18030, shift_jis, cp1252"
        ) from error
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise SerError(
            f"{path}:{line}: is not {encoding} (byte {error.start}); give its encoding with "
            "--encoding, such as utf-8, gb18030, shift_jis or cp1252"
        ) from error


def _is_mostly_utf8(raw: bytes) -> bool:
    """Whether most letters beyond ASCII are valid UTF-8, with some stray bytes between."""
    text = raw.decode("utf-8", "surrogateescape")
    stray = sum("\udc80" <= letter <= "\udcff" for letter in text)
    return sum(letter > "\x7f" for letter in text) - stray > stray


def _detected(path: Path, raw: bytes) -> str:
    from charset_normalizer import from_bytes

    # lines in ASCII are the same in all candidate encodings and would only dilute the statistics
    telling = [line for line in raw.split(b"\n") if not line.isascii()]
    found = from_bytes(b"\n".join(telling), cp_isolation=list(_COMMON))
    names = [match.encoding for match in found if _decodes(raw, match.encoding)]
    texts = {name: raw.decode(name) for name in names}
    # several possible encodings do no harm as long as all give the same text
    if names and all(text == texts[names[0]] for text in texts.values()):
        return names[0]
    first = telling[0]
    line = raw.split(b"\n").index(first) + 1
    shown = "; ".join(f"{name}: {first.decode(name).strip()[:60]}" for name in names[:4])
    raise SerError(
        f"{path}:{line}: is no UTF-8, and its encoding cannot be determined"
        f"{f' ({shown})' if shown else ''}; give it with --encoding, such as gb18030, shift_jis "
        "or cp1252, or save the table as UTF-8"
    )


def _separator(text: str, usual: str, fits: _Understood) -> tuple[str, str, int]:
    """Returns separator, text without a line such as ``sep=;``, and the number of lines removed."""
    first, _, rest = text.partition("\n")
    # Excel writes and understands such a first line
    if first.lower().startswith("sep=") and first[4:5] in _BY_NAME:
        return first[4], rest, 1
    header = next((line for line in text.split("\n") if line.strip()), "")

    def columns(separator: str) -> list[str]:
        return next(csv.reader([header], delimiter=separator), [])

    candidates = (usual, *_BY_NAME)
    fitting = (one for one in candidates if fits([tidy(cell) for cell in columns(one)]))
    return next(fitting, usual), text, 0


def _lines(path: Path, text: str, separator: str, skipped: int) -> list[tuple[int, list[str]]]:
    """Returns the first line's number and the cells of each row that is not empty."""
    csv.field_size_limit(_LONGEST_CELL)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    lines, begin = [], 1 + skipped
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                lines.append((begin, cells))
            # a quoted cell may span lines: the row's first line is where a reader looks for an
            # error
            begin = reader.line_num + 1 + skipped
    except csv.Error as error:  # a quote that is never closed swallows the rest of the file
        raise SerError(f"{path}:{begin}: {error}; look for an open quote") from error
    return lines


def _rows(
    path: Path, columns: list[str], lines: list[tuple[int, list[str]]]
) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, cells in lines:
        spare = cells[len(columns) :]
        if len(cells) < len(columns) or any(cell.strip() for cell in spare):
            raise SerError(
                f"{path}:{number}: has {len(cells)} cells where the header has {len(columns)}, "
                f"the last of them {cells[-1]!r}; put cells that hold the separator in double "
                "quotes"
            )
        named = zip(columns, cells, strict=False)
        yield number, {name: cell.strip() for name, cell in named if name}


def _objects(path: Path, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of JSON lines, or of the list in a .json, each with its number from 1."""
    for number, row in _values(path, text):
        if not isinstance(row, dict):
            raise SerError(f"{path}:{number}: not a JSON object, but {type(row).__name__}")
        yield number, _tidied(row)


def _values(path: Path, text: str) -> Iterator[tuple[int, Any]]:
    if path.suffix.lower() == ".json" and text.lstrip()[:1] == "[":
        try:
            rows = parse_json(text)
        except ValueError as error:
            raise SerError(f"{path}: neither a JSON list nor JSON lines ({error})") from error
        yield from enumerate(rows, 1)
        return
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = parse_json(line)
        except ValueError as error:
            raise SerError(f"{path}:{number}: not a JSON object ({error})") from error
        yield number, row


def _tidied(row: dict[str, Any]) -> dict[str, Any]:
    return {tidy(name): tidy(v) if isinstance(v, str) else v for name, v in row.items()}


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """A row of Parquet as JSON has it: pandas' NaN is no value; dates and bytes are text."""
    kept = {name: cell for name, cell in row.items() if cell == cell}  # NaN differs from itself

    def text(cell: object) -> str:
        return cell.decode("utf-8", "replace") if isinstance(cell, bytes) else str(cell)

    return _tidied(json.loads(json.dumps(kept, default=text)))


def _of_objects(rows: list[tuple[int, dict[str, Any]]], notes: list[str]) -> Cells:
    return Cells(rows, list(dict.fromkeys(name for _, row in rows for name in row)), notes)

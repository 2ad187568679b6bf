"""User's .npy, .npz, .parquet, .csv, .pkl or .pt file → rows, each a vector or a matrix.

numpy is never allowed to unpickle, and pickles are read by `pickle_reader.py`, which runs nothing.
"""

from __future__ import annotations

import logging
import re
import zipfile
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from string import Formatter
from typing import Any

import numpy as np

from multimodal_ser.common.arrays import Array
from multimodal_ser.common.files import parse_json
from multimodal_ser.common.spelling import is_missing, tidy
from multimodal_ser.corpora.cells import check_commas, read_cells, read_words
from multimodal_ser.corpora.columns import SPELLINGS
from multimodal_ser.corpora.parquet import pyarrow_for
from multimodal_ser.errors import FeatureError, one_of
from multimodal_ser.features.pickle_reader import read_pickle
from multimodal_ser.features.pool import ModalityName

_log = logging.getLogger(__name__)
_NUMBERED = re.compile(r"(id|idx|code|nr|num|number|class|level0|0)$")  # pandas: index_level_0
_ID_KEYS, _LABEL_KEYS = ("id", "ids", "utterance_id"), ("label", "labels")
# Columns by which rows can be named, in other capitals too: of ids, then of recordings. MELD's
# Utterance_ID is none, since it counts anew in each dialogue.
_NAMING = (
    "id", "ids", "uttid", "segmentid", "file", "path", "filename", "filepath", "audiofile",
    "audiopath", "wav", "wavfile", "wavpath", "fname",
)  # fmt: skip
_UNREADABLE = (ValueError, EOFError, OSError, KeyError, TypeError, MemoryError, zipfile.BadZipFile)
_MOST_KEYS = 50  # arrays of all utterances to choose from in one file
_OF_IDS = (".txt", ".csv", ".tsv", ".json")
_WITH_ENTRIES = (".npz", ".parquet", ".pkl", ".pickle", ".pt", ".pth")  # of which --key names one
_WITH_COLUMNS = (".parquet", ".csv", ".tsv")  # of which --id-format makes ids
# Beside padded arrays of the key: which of their rows are real, or how many are.
_MASKS = ("{}_mask", "{}_attention_mask", "attention_mask", "mask")
_LENGTHS = (
    "{}_lengths", "{}_length", "{}_lens", "lengths", "length", "lens", "n_frames", "num_frames",
)  # fmt: skip
_TURNED = (
    "; or, if each is of one utterance, give all one width: as [tokens, dim], not as [dim, time]"
)
_NO_FEATURES = ("fold", "index", "unnamed", "sex", "gender", "age")
_GUESSES: dict[ModalityName, tuple[str, ...]] = {
    "audio": ("audio_embed", "audio_features", "audio_embedding", "audio"),
    "text": ("text_embed", "text_features", "text_embedding", "text"),
}


@dataclass(frozen=True)
class Rows:
    """The content of a user's feature file.

    Attributes:
        values: one per row: a vector [dim] or a matrix [tokens, dim].
        ids: one per row; None if the file has none.
        labels: one integer per row, if the file has some; they are only checked.
        key: which array, column or dict entry the values are; empty if there is only one.
        names: of the features, if each has a column of its own.
    """

    values: Sequence[Any] | Array
    ids: Sequence[str] | None = None
    labels: Sequence[int] | None = None
    key: str = ""
    names: Sequence[str] = ()


def read_feature_rows(
    path: Path, modality: ModalityName, key: str | None = None, id_format: str | None = None
) -> Rows:
    """Reads the rows of a file according to the ending of its name.

    Args:
        path: .npy, .npz, .parquet, .csv, .tsv, .pkl, .pickle, .pt or .pth.
        modality: decides which entry is guessed if there are several.
        key: array (.npz), column (.parquet) or dict entry (.pkl) to read; None guesses.
        id_format: how an id is made from the columns of a table, such as ``"my/{name}"``.

    Raises:
        FeatureError: the file is missing or damaged, has an unknown ending or pickled objects, or
            lacks the entry (the message lists those that it has); or a file of its kind has neither
            entries to choose by `key` nor columns for `id_format`.
    """
    if not path.is_file():
        raise FeatureError(f"no file at {path}; give a file of features: {', '.join(_READERS)}")
    if path.suffix.lower() not in _READERS:
        raise FeatureError(one_of(f"ending of {path.name}:", path.suffix, _READERS))
    _check_used(path, "--key", key, _WITH_ENTRIES)
    _check_used(path, "--id-format", id_format, _WITH_COLUMNS)
    rows = _READERS[path.suffix.lower()](path, modality, key, id_format)
    if not isinstance(rows.values, list | tuple | np.ndarray) or (
        isinstance(rows.values, np.ndarray) and not rows.values.ndim
    ):
        raise FeatureError(f"{path.name}: {rows.key or 'it'} holds one value instead of rows")
    return rows


def _check_used(path: Path, option: str, given: str | None, endings: Sequence[str]) -> None:
    """Raises FeatureError if an option is given that means nothing for a file of this kind."""
    if given is not None and path.suffix.lower() not in endings:
        raise FeatureError(
            f"{path.name}: {option} {given} means nothing for a {path.suffix} file, but for "
            f"{', '.join(endings)}; leave it out"
        )


def read_ids(path: Path, id_format: str | None = None) -> list[str]:
    """Reads a list of ids that belongs to the rows of features, one per row.

    Args:
        path: .txt (one per line), .json (a list) or .csv / .tsv with a header.
        id_format: how an id is made from the columns of a table, such as
            ``"meld/dev/dia{Dialogue_ID}_utt{Utterance_ID}"``; None reads the column of ids, or
            that of the recordings.

    Raises:
        FeatureError: the file is missing, has another ending, is not a list, or lacks a column, or
            it is no table and a format is given.
    """
    if not path.is_file():
        raise FeatureError(f"no ids at {path}; give a {', '.join(_OF_IDS)} file")
    suffix = path.suffix.lower()
    if suffix not in _OF_IDS:
        raise FeatureError(one_of("kind of ids", path.suffix, _OF_IDS))
    _check_used(path, "--id-format", id_format, _WITH_COLUMNS)
    if suffix == ".json":
        return _json_ids(path, read_words(path)[0])
    if suffix == ".txt":
        return [tidy(line) for line in read_words(path)[0].split("\n") if line.strip()]

    def named(columns: list[str]) -> bool:
        return set() < _ids_by(columns, id_format)[1] <= {*columns}

    table = read_cells(path, None, named)
    id_format, _ = _ids_by(table.columns, id_format)
    return [tidy(_format_id(path, row, id_format)) for _, row in table.rows]


def _format_id(path: Path, row: Mapping[str, Any], id_format: str | None) -> str:
    """Makes an id from the columns of one row.

    >>> _format_id(Path("a.csv"), {"Dialogue_ID": "3", "Utterance_ID": "1"}, "dia{Dialogue_ID}")
    'dia3'
    """
    try:
        return (id_format or "{id}").format_map(row)
    except (KeyError, ValueError, IndexError, AttributeError) as error:
        raise FeatureError(
            f"{path.name}: the id {id_format or '{id}'!r} cannot be made of its columns "
            f"{', '.join(map(str, row))} ({error!r}); give --id-format with column names in braces"
        ) from error


def _json_ids(path: Path, text: str) -> list[str]:
    try:
        ids = parse_json(text)
    except ValueError as error:
        raise FeatureError(f"{path.name}: no JSON ({error}); a list of ids is read") from error
    if not isinstance(ids, list):
        raise FeatureError(f"{path.name}: holds a {type(ids).__name__}; a list of ids is read")
    return [tidy(str(item)) for item in ids]


def _read_npy(path: Path, modality: ModalityName, key: str | None, id_format: str | None) -> Rows:
    loaded = _load_numpy(path, lambda found: found)
    if not isinstance(loaded, np.ndarray):
        raise FeatureError(f"{path.name}: is a .npz archive; give it that ending")
    return Rows(loaded)


def _read_npz(path: Path, modality: ModalityName, key: str | None, id_format: str | None) -> Rows:
    arrays: dict[str, Array] = _load_numpy(path, dict)
    ids = next((arrays[name] for name in _ID_KEYS if name in arrays), None)
    numbers = {name: array for name, array in arrays.items() if array.dtype.kind in "fiu"}
    usual = {*_GUESSES[modality]} & {*numbers}
    # of one utterance each: all are vectors, or matrices, of one width; or there are too many to be
    # choices, and widths that differ are told later
    alike = {(array.ndim, array.shape[-1:]) for array in numbers.values()}
    of_each = (len(numbers) > 2 and len(alike) == 1) or len(numbers) > _MOST_KEYS
    if ids is None and key is None and of_each and not usual:
        return Rows([*numbers.values()], [*numbers])
    masks = _mask_names(numbers)
    names = [name for name in numbers if numbers[name].ndim >= 2 and name not in masks]
    each = len(names) > 2 and len({numbers[name].shape[-1] for name in names}) > 1
    key = _choose(path, names, key, modality, _TURNED if each else "")
    if ids is None:  # of another name: the only array with a text of its own for each row
        texts = [one for one in arrays.values() if one.dtype.kind in "US" and one.ndim == 1]
        texts = [one for one in texts if len({*one.tolist()}) == len(one) == len(arrays[key])]
        ids = texts[0] if len(texts) == 1 else None
    if ids is not None and ids.dtype.kind == "S":  # bytes, which str() would show as b'…'
        ids = np.char.decode(ids, "utf-8", "replace")
    values = _real_rows(path, arrays, key)
    return Rows(values, None if ids is None else [str(item) for item in ids], key=key)


def _mask_names(keys: Iterable[str]) -> list[str]:
    """Names that a mask or lengths for one of the keys may have, such as ``audio_mask``."""
    return [spelling.format(key) for key in keys for spelling in (*_MASKS, *_LENGTHS)]


def _real_rows(path: Path, columns: Mapping[str, Any], key: str) -> Any:
    """The values of a key without the padding that a mask, or lengths, beside them tell.

    An encoder's outputs for padding are not zero: taken for speech or words, they would be learnt.
    """
    values = columns[key]
    for name in _mask_names([key]):
        if name not in columns:
            continue
        kept = _kept_rows(values, columns[name])
        if kept is None:
            _log.warning(
                "%s: %r does not say which rows of %r are padding and is not used",
                path.name,
                name,
                key,
            )
            continue
        before, after = [len(_matrix_of(row)) for row in values], [len(one) for one in kept]
        if cut := sum(left < had for left, had in zip(after, before, strict=True)):
            # how many are kept shows lengths that count something else, such as seconds
            _log.warning(
                "%s: padding of %d of %d utterances is left out, by %r: of at most %d rows, %d to "
                "%d are kept",
                path.name, cut, len(kept), name, max(before), min(after), max(after),
            )  # fmt: skip
        return kept
    return values


def _matrix_of(row: Any) -> Array:
    array = np.asarray(row)
    return array[0] if array.ndim == 3 and len(array) == 1 else array


def _kept_rows(values: Any, told: Any) -> list[Array] | None:
    """Each row's matrix without its padding; None if `told` fits to none, or not to all."""
    kept: list[Array] = []
    try:
        for row, real in zip(values, told, strict=True):
            matrix, which = _matrix_of(row), np.asarray(real).reshape(-1)
            if matrix.ndim != 2 or which.dtype.kind not in "biuf":
                return None
            if which.size == len(matrix) and which.size > 1 and set(which.tolist()) <= {0, 1}:
                kept.append(matrix[which.astype(bool)])
            elif which.size == 1 and which[0] == int(which[0]) and 0 <= which[0] <= len(matrix):
                kept.append(matrix[: int(which[0])])
            else:
                return None
    except (TypeError, ValueError):
        return None
    return kept


def _load_numpy(path: Path, take: Callable[[Any], Any]) -> Any:
    try:
        loaded = np.load(path, allow_pickle=False)  # an object array could run any code
        if isinstance(loaded, np.lib.npyio.NpzFile):
            with loaded:
                return take(loaded)
        return take(loaded)
    except _UNREADABLE as error:
        raise FeatureError(
            f"{path.name}: cannot be read ({error}); save plain arrays with numpy.save or "
            "numpy.savez, no objects: numbers as numpy.stack(rows), ids as numpy.array(ids, str)"
        ) from error


def _read_parquet(
    path: Path, modality: ModalityName, key: str | None, id_format: str | None
) -> Rows:
    pyarrow = pyarrow_for(path, FeatureError)
    try:
        table = pyarrow.parquet.read_table(path)
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise FeatureError(f"{path.name}: is not a parquet file, or damaged ({error})") from error
    kinds = {field.name: field.type for field in table.schema}
    id_format, used = _ids_by(kinds, id_format)
    plain = table.select([name for name in kinds if name in used]).to_pylist()
    ids = [_format_id(path, _decoded(row), id_format) for row in plain] if used else None
    lists = [name for name, kind in kinds.items() if pyarrow.types.is_nested(kind)]
    if lists or key:
        key = _choose(path, lists, key, modality)
        return Rows(table.column(key).to_pylist(), ids, key=key)
    types = pyarrow.types
    numbers = {
        name: table.column(name).to_numpy()
        for name, kind in kinds.items()
        if types.is_floating(kind) or types.is_integer(kind)
    }
    return replace(_wide(path, kinds, numbers, used), ids=ids)


def _decoded(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row with text for bytes, as which some programs store it."""
    return {k: v.decode("utf-8", "replace") if isinstance(v, bytes) else v for k, v in row.items()}


def _read_csv(path: Path, modality: ModalityName, key: str | None, id_format: str | None) -> Rows:
    table = read_cells(path, None, lambda columns: len(columns) > 1)
    id_format, used = _ids_by(table.columns, id_format)
    rows = [row for _, row in table.rows]
    ids = [tidy(_format_id(path, row, id_format)) for row in rows] if used else None
    numbers: dict[str, Array] = {}
    for name in table.columns:
        with suppress(ValueError):  # a column of words; nan is refused later
            cells = ["nan" if is_missing(row[name]) else row[name] for row in rows]
            column = np.array([float(cell.replace(",", ".")) for cell in cells])
            numbers |= {} if np.isnan(column).all() else {name: column}
    commas = [name for name in numbers if any("," in row[name] for row in rows)]
    check_commas(f"{path}:1", table, *commas)
    return replace(_wide(path, table.columns, numbers, used), ids=ids)


def _ids_by(columns: Collection[str], id_format: str | None) -> tuple[str | None, set[str]]:
    """The format of ids, by default a column of ids or recordings, and the columns in it.

    >>> _ids_by(["File Name", "ID", "f0"], None), _ids_by(["f0"], None)
    (('{ID}', {'ID'}), (None, set()))
    """
    own = [name for name in _ID_KEYS if name in columns]
    own += [name for key in _NAMING for name in columns if _squeezed(name) == key]
    id_format = id_format or next((f"{{{name}}}" for name in own), None)
    return id_format, {name for _, name, _, _ in Formatter().parse(id_format or "") if name}


def _squeezed(column: str) -> str:
    return re.sub(r"[\W_]", "", column).casefold()


def _wide(
    path: Path, columns: Iterable[str], numbers: Mapping[str, Array], used: Collection[str]
) -> Rows:
    """The rows of a table that has one feature in each column.

    Columns that number the emotions, the speakers or the rows are no features: a model would learn
    from them what it must not know.
    """
    known = {*used, *SPELLINGS, *" ".join(SPELLINGS.values()).split(), *_NO_FEATURES}
    plain = {name: _NUMBERED.sub("", _squeezed(name)) for name in columns}
    taken = [name for name in numbers if not {_squeezed(name), plain[name]} & known]
    if not taken:
        raise FeatureError(f"{path.name}: no column of lists or numbers among {', '.join(plain)}")
    left = ", ".join(name for name in plain if name not in taken and name not in used)
    shown = ", ".join(taken if len(taken) < 6 else [*taken[:2], "…", taken[-1]])
    shown += f"; not as features: {left}" if left else ""
    _log.warning("%s: %d columns are features: %s", path.name, len(taken), shown)
    return Rows(np.stack([numbers[name] for name in taken], axis=1), names=taken)


def _read_pickle(
    path: Path, modality: ModalityName, key: str | None, id_format: str | None
) -> Rows:
    content = read_pickle(path)
    if isinstance(content, list) and content and all(isinstance(row, dict) for row in content):
        shared = [name for name in content[0] if all(name in row for row in content)]
        columns = {str(name): [row[name] for row in content] for name in shared}
        return _from_columns(path, columns, key, modality)
    if isinstance(content, dict) and content:
        if key in content or any(name in content for name in _GUESSES[modality]):
            return _from_columns(path, content, key, modality)
        if all(isinstance(value, np.ndarray | list) for value in content.values()):
            return Rows(list(content.values()), [str(name) for name in content])
    if isinstance(content, np.ndarray) or (isinstance(content, list) and content):
        return Rows(content)
    raise FeatureError(
        f"{path.name}: holds a {type(content).__name__}; a list of dicts, a dict of arrays, or a "
        "list of arrays is read"
    )


def _from_columns(
    path: Path, columns: Mapping[str, Any], key: str | None, modality: ModalityName
) -> Rows:
    others = {*_ID_KEYS, *_LABEL_KEYS, *_mask_names(map(str, columns))}
    names = [str(name) for name in columns if name not in others]
    key = _choose(path, names, key, modality)
    ids = next((columns[name] for name in _ID_KEYS if name in columns), None)
    labels = next((columns[name] for name in _LABEL_KEYS if name in columns), None)
    return Rows(
        _real_rows(path, columns, key),
        None if ids is None else [str(item) for item in ids],
        None if labels is None else _integers(path, labels),
        key,
    )


def _integers(path: Path, labels: Sequence[Any]) -> list[int]:
    try:
        return [int(np.asarray(label).reshape(()).item()) for label in labels]
    except (ValueError, TypeError) as error:
        raise FeatureError(f"{path.name}: its labels are not integers ({error})") from error


def _choose(
    path: Path, names: Sequence[str], key: str | None, modality: ModalityName, hint: str = ""
) -> str:
    """The given entry, the only one, or the one that usually has such a name."""
    if not names:
        raise FeatureError(f"{path.name}: has no array [rows, dim] of real numbers")
    guesses = [name for name in _GUESSES[modality] if name in names] or list(names)
    if key is None and (len(names) == 1 or guesses != list(names)):
        return guesses[0]
    if key is None:
        raise FeatureError(f"{path.name}: has {', '.join(names)}; choose one with --key{hint}")
    if key not in names:
        raise FeatureError(f"{path.name}: {one_of('entry', key, names)}; choose it with --key")
    return key


_READERS: dict[str, Callable[[Path, ModalityName, str | None, str | None], Rows]] = {
    ".npy": _read_npy,
    ".npz": _read_npz,
    ".parquet": _read_parquet,
    ".csv": _read_csv,
    ".tsv": _read_csv,
    ".pkl": _read_pickle,
    ".pickle": _read_pickle,
    ".pt": _read_pickle,
    ".pth": _read_pickle,
}

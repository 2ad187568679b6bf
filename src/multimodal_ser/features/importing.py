"""User's feature rows → features/<corpus>/<name>.safetensors, matched by utterance id."""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

from multimodal_ser.common.arrays import Array
from multimodal_ser.common.spelling import tidy
from multimodal_ser.corpora.labels import CLASS_SETS, ClassSet, class_set
from multimodal_ser.corpora.utterance import Utterance
from multimodal_ser.encoders.exposure import stated
from multimodal_ser.errors import FeatureError, counted, one_of
from multimodal_ser.features import content
from multimodal_ser.features.extract import one_corpus
from multimodal_ser.features.fitted import fitted_note
from multimodal_ser.features.pool import ModalityName, Pool, check_pooling, keep_tokens
from multimodal_ser.features.rows import Rows, read_feature_rows, read_ids
from multimodal_ser.features.store import FeatureHeader, feature_path, write_store

_log = logging.getLogger(__name__)
# endings of recordings and features, which ids in users' files may have instead of the manifest's
_ENDINGS = (".wav", ".flac", ".mp3", ".ogg", ".opus", ".m4a", ".mp4", ".npy", ".npz", ".pt", ".csv")
_LARGEST = 1e32  # a training adds up as many values as there are utterances, in float32
_LEAST_FLOAT16 = 1e-6  # below, its steps of 6e-8 are large
_FOLDERS = 3  # of a recording's path that distinguish files of one name


@dataclass(frozen=True)
class ImportResult:
    """The result of an import.

    Attributes:
        path: the feature file.
        done: utterances with features.
        missing: ids of the manifest without a row, or with one that holds nothing.
        unknown: ids of the file that the manifest does not have; their rows are not used.
    """

    path: Path
    done: int
    missing: Sequence[str]
    unknown: Sequence[str]


def import_features(
    source: Path,
    utterances: Sequence[Utterance],
    out: Path,
    name: str,
    modality: ModalityName,
    *,
    key: str | None = None,
    ids: Path | None = None,
    id_format: str | None = None,
    rows: Literal["ids", "manifest"] = "ids",
    labels: Sequence[str] | None = None,
    tokens: int | None = None,
    pool: Pool = "mean",
    dtype: str = "float32",
    trained_on: Sequence[str] = (),
    overwrite: bool = False,
) -> ImportResult:
    """Imports a user's features: one vector or [tokens, dim] matrix per utterance.

    Args:
        source: .npy, .npz, .parquet, .csv, .pkl or .pt (see `read_feature_rows`), or a folder with
            a .npy for each utterance; no pickle is executed.
        utterances: of one corpus.
        out: the features folder; the file is ``out/<corpus>/<name>.safetensors``.
        name: name of the features, in place of an encoder.
        modality: ``audio`` or ``text``.
        key: which array, column or dict entry; None guesses if there is no doubt.
        ids: a file with one id per row, if the source has none (see `read_ids`). Ids may leave
            out the corpus in front.
        id_format: how an id is made from the columns of `ids` (or of a .parquet source).
        rows: ``ids`` matches by id; ``manifest`` takes row i for the i-th utterance, which needs
            equal counts.
        labels: the order of classes that the integer labels in a pickle stand for. They are only
            checked against the manifest; without `labels` they are ignored.
        tokens: largest number of rows per utterance; None keeps all.
        pool: how a single token is made, ``mean`` or ``first``.
        dtype: ``float16`` or ``float32``, as stored.
        trained_on: what the training of the extractor saw, as ``corpus=labels``, ``=unlabelled``,
            ``=no`` or ``=unknown``; corpora not named are unknown.
        overwrite: replace a finished file.

    Raises:
        FeatureError: the rows cannot be read or matched, differ in width, or contradict the
            manifest's labels.
    """
    corpus = one_corpus(utterances)
    path = feature_path(out, corpus, name)
    _check_settings(path, modality, tokens, pool, overwrite)
    seen = stated(trained_on)
    utterances = content.with_content(utterances)
    table = _read_source(source, modality, key, None if ids else id_format)
    places, unknown = _match(source, table, utterances, ids, id_format, rows)
    if labels is not None:
        _check_labels(source, table, utterances, places, labels)
    found = {row: _matrix(source, row, table.values[at]) for row, at in places.items()}
    arrays = {row: array for row, array in found.items() if len(array)}
    _check_widths(source, arrays)
    arrays = _unpadded(source, arrays)
    _check_values(source, arrays, name, dtype)
    content.check_numbers(source, arrays, utterances, table.names)
    if note := fitted_note(name, arrays, utterances):
        _log.warning("%s", note)
    missing = [row.id for row in utterances if row.id not in arrays]
    inputs = content.inputs_of(utterances, modality)
    header = FeatureHeader(
        corpus=corpus, encoder=name, modality=modality, dim=next(iter(arrays.values())).shape[1],
        rate=0.0, weights="", layers=table.key, pool=pool, dtype=dtype,
        tokens=tokens or max(len(array) for array in arrays.values()),
        source=content.digest([content.file_hash(source), table.key, inputs]), inputs=inputs,
        exposure=dict(seen.corpora), emotion_labels=seen.emotion_labels,
        truncated=sum(modality == "text" and 1 < (tokens or 0) < len(a) for a in arrays.values()),
        failures={
            key: f"{'its row is empty' if key in found else 'it has no row'} in {source.name}"
            for key in missing
        },
    )  # fmt: skip
    kept = ((row, keep_tokens(a, modality, header.tokens, pool)) for row, a in arrays.items())
    write_store(path, header, kept)
    content.keep_manifest(utterances, path.parent)
    return ImportResult(path, len(arrays), missing, unknown)


def _read_source(
    source: Path, modality: ModalityName, key: str | None, id_format: str | None
) -> Rows:
    if not source.is_dir():
        return read_feature_rows(source, modality, key, id_format)
    # as FunASR writes them: a file for each utterance, named by its id or its recording
    # macOS writes hidden files such as ._a.npy beside those on other systems' disks
    files = sorted(path for path in source.rglob("*.npy") if not path.name.startswith("."))
    if not files:
        raise FeatureError(f"{source}: holds no .npy; give one for each utterance, or one file")
    ids = [path.relative_to(source).with_suffix("").as_posix() for path in files]
    return Rows([read_feature_rows(path, modality, key, id_format).values for path in files], ids)


def _check_settings(
    path: Path, modality: str, tokens: int | None, pool: str, overwrite: bool
) -> None:
    if path.exists() and not overwrite:
        raise FeatureError(f"{path} exists; choose another --name, or replace it with --overwrite")
    if modality not in get_args(ModalityName):
        raise FeatureError(one_of("modality", modality, get_args(ModalityName)))
    check_pooling(1 if tokens is None else tokens, pool)


def _match(
    source: Path,
    table: Rows,
    utterances: Sequence[Utterance],
    ids: Path | None,
    id_format: str | None,
    rows: str,
) -> tuple[dict[str, int], list[str]]:
    """Row of each of the manifest's ids, in its order; and the ids that it does not have."""
    if rows not in ("ids", "manifest"):
        raise FeatureError(one_of("rows", rows, ["ids", "manifest"]))
    if rows == "manifest":
        _check_count(source, len(table.values), "the manifest", len(utterances))
        return {row.id: place for place, row in enumerate(utterances)}, []
    found = read_ids(ids, id_format) if ids else table.ids and [tidy(key) for key in table.ids]
    if found is None:
        raise FeatureError(
            f"{source.name}: has no ids; give a parallel file with --ids, the column of a table "
            "with --id-format, such as '{name}', or, if row i is the i-th utterance of the "
            "manifest, --rows manifest"
        )
    _check_count(source, len(table.values), ids.name if ids else "its ids", len(found))
    full, known = _resolved(found, utterances), {row.id for row in utterances}
    if repeated := [key for key, count in Counter(full).items() if count > 1]:
        raise FeatureError(f"{source.name}: ids must be unique, but these repeat: {repeated[:5]}")
    at = {key: place for place, key in enumerate(full)}
    places = {row.id: at[row.id] for row in utterances if row.id in at}
    if not places:
        raise FeatureError(
            f"{source.name}: none of its {len(found)} ids, such as {found[:2]}, is in the "
            f"manifest, whose ids look like {[row.id for row in utterances[:2]]}; change them "
            "with --ids and --id-format"
        )
    return places, [given for given, key in zip(found, full, strict=True) if key not in known]


def _resolved(found: Sequence[str], utterances: Sequence[Utterance]) -> list[str]:
    """The utterance that each of a file's ids means; an id that means none stays as it is.

    Ids in users' files often lack the corpus that this project puts in front, or are the names of
    the recordings, in whatever folder they were. Where folders have files of one name, the last
    folders count, too.
    """
    corpus, known, ends = utterances[0].corpus, set(), defaultdict(set)
    for row in utterances:
        known.add(row.id)
        path = _file_of(row.audio or "")
        for name in {path.name, path.stem} - {""}:
            for end in _ends(path.with_name(name)):
                ends[end].add(row.id)
    meant, nearest = [], Counter[str]()
    for key in found:
        own = [one for one in (key, f"{corpus}/{key}") if one in known]
        named = _file_of(key)
        spelt = [named, named.with_suffix("")] if named.suffix.lower() in _ENDINGS else [named]
        end = next((end for path in spelt for end in _ends(path) if end in ends), ())
        # An id of the manifest is nearer than any end of a path.
        own, near = (own, _FOLDERS + 2) if own else ([*ends[end]], len(end))
        if not own:  # an id with the ending of a file, where the manifest names no recordings
            own = [one for one in (f"{spelt[-1]}", f"{corpus}/{spelt[-1]}") if one in known]
        meant.append((own[0], near) if len(own) == 1 else (key, 0))
        nearest[meant[-1][0]] = max(near, nearest[meant[-1][0]])
    # Two ids may mean one utterance: then only the nearer one does, such as the file itself and not
    # a file of the same name in another folder.
    return [
        own if near == nearest[own] else key for key, (own, near) in zip(found, meant, strict=True)
    ]


def _file_of(path: str) -> PurePosixPath:
    return PurePosixPath(tidy(path.replace("\\", "/")))


def _ends(path: PurePosixPath) -> list[tuple[str, ...]]:
    """The last parts of a path, the longest first."""
    return [path.parts[-count:] for count in range(min(len(path.parts), _FOLDERS + 1), 0, -1)]


def _check_widths(source: Path, arrays: Mapping[str, Array]) -> None:
    """Raises FeatureError unless all arrays [tokens, dim] are of one width; logs their shape."""
    first: dict[int, str] = {}
    for key, array in arrays.items():
        first.setdefault(array.shape[1], key)
    rows = sorted({len(array) for array in arrays.values()})
    if len(first) > 1:
        (width, one), (other, another), *_ = first.items()
        hint = f"; all have {rows[0]} rows: if they are [dim, time], transpose them"
        raise FeatureError(
            f"{source.name}: {one!r} has {width} features and {another!r} has {other}; give each "
            "utterance a vector [dim], or a matrix [tokens, dim], of one width"
            + (hint if rows[0] == rows[-1] > 1 else "")
        )
    if rows and rows[-1] > 1:  # which are time steps cannot be told from matrices of one shape
        _log.info("%s: %d features at up to %d time steps", source.name, *first, rows[-1])


def _unpadded(source: Path, arrays: dict[str, Array]) -> dict[str, Array]:
    """Leaves out rows of zeros at the end, with which arrays of one length are padded."""
    ends = {key: _end_of(a.any(1)) for key, a in arrays.items()}
    if len({len(a) for a in arrays.values()}) != 1:
        return arrays
    if all(end == len(arrays[key]) for key, end in ends.items()):
        _warn_of_padded_columns(source, arrays)
        return arrays
    _log.warning(
        "%s: rows of zeros at the end of %d of %d utterances are taken for padding and left out",
        source.name, sum(end < len(arrays[key]) for key, end in ends.items()), len(arrays),
    )  # fmt: skip
    return {key: a[: ends[key]] for key, a in arrays.items()}


def _end_of(used: ArrayLike) -> int:
    """The place after the last row or column that is not zero; 1 if all are zero."""
    places = np.flatnonzero(used)
    return int(places[-1]) + 1 if len(places) else 1


def _warn_of_padded_columns(source: Path, arrays: Mapping[str, Array]) -> None:
    """Warns of matrices of one shape that end in zeros as [dim, time] does where it is padded."""
    ends = [_end_of(a.any(0)) for a in arrays.values()]
    (rows, columns), *_ = (array.shape for array in arrays.values())
    if rows > 1 and len({*ends}) > 2 and np.median(ends) < columns:
        _log.warning(
            "%s: %d to %d of the %d columns hold numbers, and the others at the end are zeros, as "
            "in arrays [dim, time] that are padded; %d columns are read as features, and %d rows "
            "as time steps: if it is the other way, transpose them",
            source.name, min(ends), max(ends), columns, columns, rows,
        )  # fmt: skip


def _check_values(source: Path, arrays: Mapping[str, Array], name: str, dtype: str) -> None:
    """Warns of utterances whose features are zeros; raises FeatureError for none or odd values."""
    if not arrays:
        raise FeatureError(f"{source.name}: the rows of all utterances are empty")
    odd = [key for key, array in arrays.items() if not np.isfinite(array).all()]
    if odd:
        raise FeatureError(
            f"{odd[0]}: {name!r} gave NaN or infinite values, and so do {len(odd)} of "
            f"{len(arrays)} rows of {source.name}; leave these rows out, and their utterances are "
            "listed as without features"
        )
    if dtype == "float16":
        largest = np.max([np.abs(array).max(0) for array in arrays.values()], 0)
        if lost := int(((largest > 0) & (largest < _LEAST_FLOAT16)).sum()):
            raise FeatureError(
                f"{source.name}: {lost} of {len(largest)} features are below {_LEAST_FLOAT16:g} in "
                "all utterances, where float16 keeps hardly a digit: use --dtype float32"
            )
    if zeros := [key for key, array in arrays.items() if not array.any()]:
        _log.warning(
            "%s: the features of %s, such as %s, are all zero; if that stands for a failure, leave "
            "these rows out", source.name, counted(len(zeros), "utterance"), zeros[0],
        )  # fmt: skip


def _check_count(source: Path, count: int, other: str, wanted: int) -> None:
    if count != wanted:
        raise FeatureError(
            f"{source.name}: has {count} rows, but {other} has {wanted}; which row belongs to "
            "which utterance is then unknown: give one id per row with --ids"
        )


def _matrix(source: Path, key: str, value: Any) -> Array:
    if value is None:  # Parquet's null: a row that holds nothing
        return np.empty((0, 0), np.float32)
    try:
        array = np.asarray(value)
        if array.ndim == 3 and len(array) == 1:  # the batch of one that an encoder returns
            array = array[0]
        if array.dtype.kind not in "fiub" or array.ndim not in (1, 2) or not array.shape[-1]:
            raise ValueError(f"{array.dtype} of shape {list(array.shape)}")
        array = np.atleast_2d(array)
        with np.errstate(over="ignore"):  # what overflows becomes infinite
            stored = array.astype(np.float32)
    except (ValueError, TypeError) as error:
        raise FeatureError(
            f"{source.name}: the row of {key!r} is not a vector [dim] or a matrix [tokens, dim] of "
            f"numbers: {error}"
        ) from error
    if beyond := array[(np.abs(stored) > _LARGEST) & np.isfinite(array)].tolist():
        raise FeatureError(
            f"{source.name}: the row of {key!r} has {beyond[0]:.4g}; allowed: up to {_LARGEST:g}, "
            "beyond which sums overflow in float32; scale the features, or take their logarithm"
        )
    return stored


def _check_labels(
    source: Path,
    table: Rows,
    utterances: Sequence[Utterance],
    places: dict[str, int],
    order: Sequence[str],
) -> None:
    """Compares the integer labels of a pickle, in the given order, with the manifest's emotions.

    This finds the defect of the original's files: a class order that differs between corpora.
    """
    if table.labels is None or len(table.labels) != len(table.values):
        raise FeatureError(f"{source.name}: has no label for each row; leave out the class order")
    classes = _class_set_for(utterances[0].corpus, order)
    for row in utterances:
        if row.id not in places:
            continue
        label, truth = table.labels[places[row.id]], classes.class_of(row.corpus, row.emotion)
        stated = order[label] if 0 <= label < len(order) else "no class"
        if stated != truth:
            raise FeatureError(
                f"{source.name}: row {places[row.id]} has label {label}, which is {stated!r} in "
                f"the order {', '.join(order)}, but {row.id!r} is {row.emotion!r} ({truth}) in "
                "the manifest; correct the order of classes, or which row belongs to which id"
            )


def _class_set_for(corpus: str, order: Sequence[str]) -> ClassSet:
    """The class set that maps the corpus's own words to these classes, whatever their order."""
    for known in CLASS_SETS.values():
        if corpus in known.words and sorted(known.classes) == sorted(order):
            return known
    return class_set(",".join(order))

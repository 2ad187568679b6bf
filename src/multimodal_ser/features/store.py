"""features/<corpus>/<encoder>.safetensors: one tensor [tokens, dim] per utterance, and a header.

The layout is that of safetensors (length of the JSON, the JSON, raw data). It is written by this
module so that a corpus never has to fit into memory. The safetensors library reads the files too,
except for headers above 100 MB, which half a million recordings have.
"""

from __future__ import annotations

import json
import math
import os
import re
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from multimodal_ser.common.arrays import Array
from multimodal_ser.common.files import parse_json, removed_at_end, written_aside
from multimodal_ser.config.record import Encoding
from multimodal_ser.encoders.base import UNDECLARED, Exposure
from multimodal_ser.errors import FeatureError, one_of
from multimodal_ser.features.pool import ModalityName

_FORMAT = 1
STORED_DTYPES = {"float16": ("F16", "<f2"), "float32": ("F32", "<f4")}  # safetensors', numpy's
_KEY = "multimodal_ser"
_LARGEST_FLOAT16 = 65504.0
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_AGAIN = "make it again with --overwrite"


@dataclass(frozen=True, kw_only=True)
class FeatureHeader(Encoding):
    """What a feature file records about how it was made.

    Attributes:
        corpus: whose utterances these are.
        modality: ``audio`` or ``text``.
        rate: frames per second before averaging; 0 for text and imported features.
        source: sha256 of `inputs`; for imported features also of the bytes of their file.
        inputs: id → hash of the section of sound or the words that were encoded (for an import, of
            those in its manifest); empty in files of older versions.
        exposure: corpus name → what the encoder's training saw of it; ``*`` is every corpus that is
            not named.
        emotion_labels: whether the encoder's training saw emotion labels of any corpus.
        truncated: utterances with more words than `tokens`, or than the encoder reads, whose last
            words were cut.
        failures: id → reason why it has no features.
        audio_hashes: id → sha256 of the decoded samples; empty for text and imported features.
        prints: id → `fingerprint` of the decoded samples, which copies share.
    """

    corpus: str
    modality: ModalityName
    rate: float
    dtype: str = "float16"
    source: str = ""
    inputs: Mapping[str, str] = field(default_factory=dict)
    exposure: Mapping[str, Exposure] = field(default_factory=dict)
    emotion_labels: Exposure = UNDECLARED
    truncated: int = 0
    failures: Mapping[str, str] = field(default_factory=dict)
    audio_hashes: Mapping[str, str] = field(default_factory=dict)
    prints: Mapping[str, str] = field(default_factory=dict)
    version: int = _FORMAT


def feature_path(out: Path, corpus: str, encoder: str) -> Path:
    """The feature file of a corpus and an encoder: ``out/<corpus>/<encoder>.safetensors``.

    Raises:
        FeatureError: a name cannot be a file name on all systems, or the encoder's is ``none``.

    >>> feature_path(Path("features"), "emodb", "minilm").as_posix()
    'features/emodb/minilm.safetensors'
    """
    for kind, name in (("corpus", corpus), ("encoder", encoder)):
        if not _FILE_NAME.fullmatch(name):
            raise FeatureError(
                f"the {kind} name {name!r} cannot be a file name; allowed: letters, digits, "
                "'.', '_' and '-', a letter or digit first"
            )
    if encoder == "none":  # `--audio none`
        raise FeatureError("no encoder can be called 'none', which stands for no features")
    return out / corpus / f"{encoder}.safetensors"


def write_store(path: Path, header: FeatureHeader, items: Iterable[tuple[str, Array]]) -> None:
    """Writes a feature file, complete or not at all.

    The same header and items give the same bytes. Only one item is in memory at a time.

    Args:
        path: the finished file.
        header: how it was made.
        items: utterance id and array of shape [tokens, dim], each id once.

    Raises:
        FeatureError: an array has another shape, NaN or infinite values, or values that
            `header.dtype` cannot hold; or an id occurs twice.
    """
    if header.dtype not in STORED_DTYPES:
        raise FeatureError(one_of("dtype", header.dtype, STORED_DTYPES))
    data = path.with_name(f".{path.name}.data")
    # The header comes first in the file but is only known at the end: the data goes to a file of
    # its own and is copied behind the header.
    with written_aside(path) as partial, removed_at_end(data):
        with data.open("wb") as file:
            tensors = _write_data(file, header, items)
        meta = {_KEY: json.dumps(asdict(header), ensure_ascii=False)}
        with partial.open("wb") as file, data.open("rb") as raw:
            text = json.dumps({"__metadata__": meta, **tensors}).encode()
            # safetensors aligns the data to eight bytes by spaces after the JSON.
            text += b" " * (-len(text) % 8)
            file.write(len(text).to_bytes(8, "little") + text)
            shutil.copyfileobj(raw, file, 1 << 20)
            file.flush()
            os.fsync(file.fileno())


def _write_data(
    file: BinaryIO, header: FeatureHeader, items: Iterable[tuple[str, Array]]
) -> dict[str, dict[str, Any]]:
    code, dtype = STORED_DTYPES[header.dtype]
    tensors: dict[str, dict[str, Any]] = {}
    end = 0
    for key, array in items:
        if key in tensors or key == "__metadata__":
            raise FeatureError(f"the id {key!r} cannot be used (twice); ids must be unique")
        check_array(key, array, header)
        begin, end = end, end + file.write(np.ascontiguousarray(array, dtype).tobytes())
        tensors[key] = {"dtype": code, "shape": list(array.shape), "data_offsets": [begin, end]}
    return tensors


def check_array(key: str, array: Array, header: FeatureHeader) -> None:
    """Raises FeatureError unless an array is [1 or more, dim], finite and fits the dtype."""
    if array.ndim != 2 or array.shape[1] != header.dim or not len(array):
        raise FeatureError(
            f"{key}: features of shape {list(array.shape)}; {header.encoder!r} gives "
            f"[1 or more, {header.dim}]"
        )
    if array.dtype.kind not in "fiub":
        raise FeatureError(f"{key}: {header.encoder!r} gave {array.dtype}; allowed: real numbers")
    if not np.isfinite(array).all():
        raise FeatureError(f"{key}: {header.encoder!r} gave NaN or infinite values")
    largest = float(np.abs(array).max())
    if header.dtype == "float16" and largest > _LARGEST_FLOAT16:
        raise FeatureError(
            f"{key}: {header.encoder!r} gave the value {largest:g}; float16 holds up to "
            f"{_LARGEST_FLOAT16:g}: use --dtype float32"
        )


class FeatureStore:
    """Reads a feature file; arrays are read from disk when they are needed.

    Attributes:
        path: the file.
        header: how it was made.
        ids: utterances that have features, in the order of the manifest.
    """

    def __init__(self, path: Path, header: FeatureHeader, places: Mapping[str, Any], data: int):
        self.path = path
        self.header = header
        self.ids: tuple[str, ...] = tuple(places)
        self._places = places
        self._data = data

    @classmethod
    def open(cls, path: Path) -> FeatureStore:
        """Opens a feature file and checks that it is complete.

        Raises:
            FeatureError: the file is missing, of another kind, of a later format, or damaged.
        """
        if not path.is_file():
            raise FeatureError(
                f"no features at {path}; make them with: ser extract, or ser import-features"
            )
        size = path.stat().st_size
        with path.open("rb") as file:
            length, first = int.from_bytes(file.read(8), "little"), file.read(1)
            # The length is checked before anything of that size is read.
            whole = first == b"{" and 0 < length <= size - 8
            text = first + file.read(length - 1) if whole else b""
        if not text:
            raise FeatureError(f"{path}: no feature file, or cut off in its header; {_AGAIN}")
        try:
            places = parse_json(text)
        except ValueError as error:
            raise FeatureError(f"{path}: its header is damaged ({error}); {_AGAIN}") from error
        header = _parse_header(path, places.pop("__metadata__", None))
        _check_places(path, places, header, size - 8 - length)
        return cls(path, header, places, 8 + length)

    @property
    def audio_hashes(self) -> Mapping[str, str]:
        """Id → sha256 of the decoded samples; empty for text and imported features."""
        return self.header.audio_hashes

    def __len__(self) -> int:
        return len(self.ids)

    def __contains__(self, key: object) -> bool:
        return key in self._places

    def __getitem__(self, key: str) -> Array:
        """Reads the features of one utterance: float32 [tokens, dim].

        Raises:
            FeatureError: the id has no features; the message has the reason if it is known.
        """
        if key not in self._places:
            reason = self.header.failures.get(key, "it was not in the manifest they were made from")
            raise FeatureError(f"{self.path}: no features for {key!r}: {reason}")
        place, dtype = self._places[key], STORED_DTYPES[self.header.dtype][1]
        begin, count = self._data + place["data_offsets"][0], math.prod(place["shape"])
        values = np.fromfile(self.path, dtype, count, offset=begin)
        return values.astype(np.float32).reshape(place["shape"])


def differences(header: FeatureHeader, wanted: Mapping[str, object]) -> str:
    """Describes which settings of a file are not the wanted ones; empty if all agree."""
    return ", ".join(
        f"{key} is {getattr(header, key)!r}, asked for {value!r}"
        for key, value in wanted.items()
        if getattr(header, key) != value
    )


def _parse_header(path: Path, meta: object) -> FeatureHeader:
    if not isinstance(meta, dict) or _KEY not in meta:
        raise FeatureError(
            f"{path}: a safetensors file, but no feature file; features are made by ser extract "
            "or ser import-features"
        )
    try:
        values = parse_json(meta[_KEY])
        version = values["version"]
        if version == _FORMAT:
            saw = {name: Exposure(**value) for name, value in values.pop("exposure").items()}
            labels = Exposure(**values.pop("emotion_labels", asdict(UNDECLARED)))
            # Files of older versions lack fields, which have defaults.
            known = {item.name for item in fields(FeatureHeader)}
            rest = {key: value for key, value in values.items() if key in known}
            return FeatureHeader(exposure=saw, emotion_labels=labels, **rest)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise FeatureError(f"{path}: its header is damaged ({error}); {_AGAIN}") from error
    raise FeatureError(
        f"{path}: is of format {version}, this version reads format {_FORMAT}; extract again, or "
        "install the version of multimodal-ser that wrote it"
    )


def _check_places(path: Path, places: dict[str, Any], header: FeatureHeader, size: int) -> None:
    """Checks that tensors are contiguous, complete, and of the header's type and width."""
    end = 0
    try:
        code, dtype = STORED_DTYPES[header.dtype]
        for place in places.values():
            tokens, dim = place["shape"]
            width = np.dtype(dtype).itemsize * tokens * dim
            fits = place["dtype"] == code and dim == header.dim and tokens > 0
            if not fits or place["data_offsets"] != [end, end + width]:
                raise FeatureError(f"{path}: its header contradicts itself; {_AGAIN}")
            end += width
    except (ValueError, TypeError, KeyError) as error:
        raise FeatureError(f"{path}: its header is damaged ({error!r}); {_AGAIN}") from error
    if end != size:
        raise FeatureError(f"{path}: holds {size} bytes of data instead of {end}; {_AGAIN}")

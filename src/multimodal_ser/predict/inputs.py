"""Recordings and words in any accepted form → waveforms and words, or an error for each."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from numbers import Real
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from multimodal_ser.audio import Source, read_audio, source_name
from multimodal_ser.common.arrays import Samples
from multimodal_ser.config.settings import SAMPLE_RATE
from multimodal_ser.errors import AudioError, SerError, counted

_log = logging.getLogger(__name__)

Recording: TypeAlias = "Source | tuple[NDArray[Any], int]"
# A recording, also in a mapping as `datasets` and transformers have it.
WrappedRecording: TypeAlias = "Recording | Mapping[str, Any]"
_RATE = "sampling_rate"  # key of the rate in Hz in recordings of datasets and transformers
LONG_SECONDS = 30.0  # one prediction for a longer recording averages over changing emotions


def as_list(source: object) -> Iterable[Any] | None:
    """The recordings of a source of several, possibly lazily; None if it is a single recording.

    Args:
        source: several recordings as a list, a tuple, an iterator, a column of `datasets`, or an
            array or column of paths; or a single recording: what `read_audio` takes, (array, rate
            in Hz), (rate, array) as SciPy returns it, or ``{"array", "sampling_rate"}`` as in
            `datasets`.

    Raises:
        SerError: it is a table or a mapping.
    """
    if with_rate(source) is not None or _is_wrapped(source):
        return None
    if isinstance(source, list | tuple):
        if any(_is_number(item) for item in source):
            raise SerError(
                f"a {type(source).__name__} of numbers is no recording; give the samples as "
                "(numpy.asarray(samples), rate in Hz)"
            )
        return list(source)
    if isinstance(source, Iterator) and not hasattr(source, "read"):
        return source
    # Objects of other libraries are recognised by their attributes, so that none is imported.
    kind = getattr(getattr(source, "dtype", None), "kind", "")
    table = hasattr(source, "columns") and hasattr(source, "dtypes")
    if isinstance(source, Mapping) and {"array", "raw", "path", "bytes"} & source.keys():
        raise SerError(
            f"a recording of {', '.join(map(str, source))}; allowed: array (or raw) and "
            f"{_RATE} in Hz, or bytes and path"
        )
    if isinstance(source, Mapping) or table or hasattr(source, "column_names"):
        raise SerError(
            f"{type(source).__name__} is a table; give one column of recordings, such as "
            "table['path'] or dataset['audio']; one recording is {'array', 'sampling_rate'}"
        )
    if hasattr(source, "__array__") and kind in ("O", "U", "S", "T"):
        return np.asarray(source).ravel().tolist()
    if hasattr(source, "__array__") and not kind and not hasattr(source, "detach"):
        return list(source)  # type: ignore[call-overload]  # such as pandas's column of strings
    one = isinstance(source, str | bytes | bytearray | memoryview | Path)
    row = hasattr(source, "__getitem__") and hasattr(source, "__len__")
    if row and not one and not hasattr(source, "__array__") and not hasattr(source, "read"):
        return (source[place] for place in range(len(source)))  # type: ignore[index,arg-type]
    return None


def _is_wrapped(source: object) -> bool:
    """Whether `source` is one recording as in `datasets` or transformers' pipelines."""
    if not isinstance(source, Mapping):
        return False
    # a table has lists in place of the path and the bytes
    encoded = isinstance(source.get("path"), str | Path) or isinstance(source.get("bytes"), bytes)
    return _RATE in source or (encoded and not {"array", "raw"} & source.keys())


def unwrapped(source: Any) -> Any:
    """A recording of `datasets` or transformers as (array, rate in Hz), a path or bytes.

    Decoded recordings are ``{"array" or "raw", "sampling_rate"}`` or a decoder of torchcodec;
    encoded ones are ``{"bytes", "path"}``.
    """
    if hasattr(source, "get_all_samples"):
        samples = source.get_all_samples()  # torchcodec's data is [channels, samples]
        return np.asarray(samples.data).T, int(samples.sample_rate)
    if not _is_wrapped(source):
        return source
    if _RATE in source:
        array, rate = source.get("array", source.get("raw")), source[_RATE]
        if array is None or not _is_number(rate):
            raise SerError(
                f"a recording with {_RATE}={rate!r} and {'no' if array is None else 'an'} array; "
                "both are needed: the samples, and their rate in Hz"
            )
        return np.asarray(array), rate
    return source["path"] if source.get("bytes") is None else source["bytes"]


def path_of(source: WrappedRecording) -> str | None:
    """The path of a recording, also beside its samples as in `datasets`; None if it has none."""
    path = source.get("path") if isinstance(source, Mapping) else source
    return str(path) if isinstance(path, str | Path) else None


def with_rate(source: object) -> tuple[Any, Any] | None:
    """(array, rate in Hz) if `source` is such a pair, in either order; else None."""
    if not (isinstance(source, tuple) and len(source) == 2):
        return None
    # (array, rate) of soundfile and (rate, array) of SciPy: the number is the rate.
    if hasattr(source[0], "__array__") and (source[1] is None or isinstance(source[1], str)):
        raise SerError(f"(array, {source[1]!r}) has no rate; give (array, rate in Hz as a number)")
    for array, rate in (source, source[::-1]):
        if _is_number(rate) and not _is_number(array):
            if isinstance(array, list | tuple) and array and _is_number(array[0]):
                array = np.asarray(array)
            if hasattr(array, "__array__"):
                return array, rate.item() if hasattr(rate, "item") else rate
    return None


def _is_number(value: object) -> bool:
    """Whether it is a number, also as an array or tensor without dimensions."""
    return isinstance(value, Real) or (hasattr(value, "__array__") and np.ndim(value) == 0)


def read_recording(
    source: WrappedRecording, sample_rate: int | None = None, warnings: list[str] | None = None
) -> Samples | SerError:
    """Decodes a recording to mono at 16 kHz; returns the error if it cannot be read.

    Args:
        source: one recording, see `as_list`.
        sample_rate: rate in Hz of an array that is given without one.
        warnings: gets what is odd about the recording, which is logged, too.
    """
    warnings = [] if warnings is None else warnings

    def warn(line: str) -> None:
        _log.warning(line)
        warnings.append(line.removeprefix(f"{name}: "))

    name = "<array>"
    try:
        source = unwrapped(source)
        pair = with_rate(source)
        name = source_name(pair[0] if pair else source)
        if pair:
            wave = read_audio(pair[0], sample_rate=pair[1])
        elif hasattr(source, "__array__") and sample_rate is None:
            raise AudioError("<array>: an array has no sample rate; give (array, rate in Hz)")
        else:
            given = sample_rate if hasattr(source, "__array__") else None
            wave = read_audio(source, sample_rate=given, warn=warn)  # type: ignore[arg-type]
    except SerError as error:
        return error
    except OSError as error:
        return AudioError(f"{name}: cannot be read ({error})")
    seconds = len(wave) / SAMPLE_RATE
    if seconds > LONG_SECONDS:
        warn(f"{name}: one prediction for {seconds:.0f} s; `ser analyze` shows emotions over time")
    return wave


def given_texts(texts: Sequence[str | None] | None, count: int) -> list[str | None]:
    """The texts as a list with one entry per recording; blank texts become None."""
    if isinstance(texts, str):
        raise SerError(f"one text for {counted(count, 'recording')}; give a list of as many")
    given = [None] * count if texts is None else list(texts)
    if len(given) != count:
        raise SerError(
            f"{counted(len(given), 'text')} for {counted(count, 'recording')}; give as many, or "
            "None"
        )
    if odd := [text for text in given if not (text is None or isinstance(text, str))]:
        raise SerError(f"a text is {type(odd[0]).__name__}; allowed: strings and None")
    return [text if text and text.strip() else None for text in given]

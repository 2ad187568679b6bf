"""Any source → float32 at 16 kHz, mono or channel by channel: files, bytes and arrays.

libsndfile reads wav, flac, mp3, ogg and AIFF; `av` (extra ``video``) reads mp4, mkv, avi and
everything else that FFmpeg reads. The content decides, not the ending of the name.
Second 5 of the result is second 5 of the file as a player plays it: while a video has no sound yet,
the result is silent. Files are read to their end, whatever their headers claim; if the two differ,
a warning says so. A file that cannot be read raises an `AudioError` whose message starts with its
name.
"""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import numpy as np
import soxr
from numpy.typing import NDArray

from multimodal_ser.audio import decode
from multimodal_ser.audio.decode import RATES, AudioInfo, Sound, opened, span
from multimodal_ser.audio.sound import OVER, READ_FRAMES, MonoMix, joined_blocks, to_rate
from multimodal_ser.common.arrays import Samples
from multimodal_ser.config.settings import SAMPLE_RATE
from multimodal_ser.errors import AudioError

Source: TypeAlias = "str | Path | bytes | BinaryIO | NDArray[Any]"

Warn: TypeAlias = Callable[[str], None]

_log = logging.getLogger(__name__)
_MAX_CHANNELS = 64  # an array that seems to have more is probably transposed
_BLOCK_SECONDS = 30


def read_audio(
    source: Source,
    *,
    sample_rate: int | None = None,
    start: float | None = None,
    end: float | None = None,
    warn: Warn | None = _log.warning,
) -> Samples:
    """Reads a recording, or a part of it, as mono float32 at 16 kHz.

    Args:
        source: path, bytes, binary file object, or an array or tensor [samples], [samples,
            channels] or [1, samples]. Integer arrays (8, 16, 32 bits) are scaled to ±1; floats
            are kept as they are and refused beyond ±2, which is another scale.
        sample_rate: rate of an array in Hz; required for arrays, and not allowed for other sources,
            whose header states it.
        start: where to begin, in seconds; None is the beginning.
        end: where to stop, in seconds; None is the end. It may lie up to half a second beyond.
        warn: called with warnings for the user, such as a header that claims another length; None
            if the recording is read again elsewhere, so that the user is warned once.

    Returns:
        Samples of shape [time], the mean of all channels.

    Raises:
        AudioError: the source is missing, is not audio, is empty or not finite, or `start` and
            `end` do not lie within it.
    """
    name = source_name(source)
    begin = start or 0.0
    if not (math.isfinite(begin) and 0 <= begin < (math.inf if end is None else end)):
        raise AudioError(f"{name}: start={start}, end={end} s; allowed: 0 ≤ start < end")
    if hasattr(source, "__array__"):
        mono, rate = _cut_array(name, source, sample_rate, start, end)
    else:
        _refuse_rate(name, sample_rate)
        with opened(name, source) as sound:
            mono, rate = decode.read_sound(sound, start, end), sound.rate
            _warn_of_notes(sound, warn)
    if not len(mono):
        after = f" after {start:g} s" if start else ""
        raise AudioError(f"{name}: holds no sound{after} (0 samples)")
    check_scale(name, mono)
    return _resample(name, mono, rate)


def read_blocks(
    source: Source,
    *,
    sample_rate: int | None = None,
    warn: Warn | None = _log.warning,
    mixed: bool = True,
) -> Iterator[Samples]:
    """Reads a recording of any length as float32 at 16 kHz, about half a minute at a time.

    Concatenated, the blocks are what `read_audio` returns; memory use is bounded.

    Args:
        source: as for `read_audio`.
        sample_rate: as for `read_audio`.
        warn: as for `read_audio`; called after the last block.
        mixed: whether channels are mixed to mono; otherwise they are kept.

    Yields:
        Samples of shape [time], or [time, channels] if channels are kept; never empty.

    Raises:
        AudioError: as `read_audio`, as soon as a block shows it.
    """
    name = source_name(source)
    if hasattr(source, "__array__"):
        sound, rate = _cut_array(name, source, sample_rate, None, None, mixed)
        size = _BLOCK_SECONDS * max(rate, 1)
        parts = (sound[start : start + size] for start in range(0, len(sound), size))
        yield from _joined_blocks(_resampled(name, parts, rate))
        return
    _refuse_rate(name, sample_rate)
    with opened(name, source, mixed) as file:
        yield from _joined_blocks(_resampled(name, file.blocks(), file.rate))
        _warn_of_notes(file, warn)


def audio_info(path: str | Path | bytes | BinaryIO, *, count: bool = True) -> AudioInfo:
    """Reads rate, channels and length from the header.

    Args:
        path: path, bytes or binary file object.
        count: decode the file if the header does not state the length; otherwise it is 0.

    Raises:
        AudioError: as in `read_audio`, as far as the header shows it.
    """
    with opened(source_name(path), path) as sound:
        return decode.header_of(sound, count)


def audio_hash(samples: NDArray[Any]) -> str:
    """The sha256 of decoded float32 samples: equal recordings, whatever their file format.

    >>> audio_hash(np.zeros(2))[:8]
    'af5570f5'
    """
    return hashlib.sha256(np.ascontiguousarray(samples, "<f4").tobytes()).hexdigest()


def source_name(source: object) -> str:
    """The name by which messages and warnings call a recording."""
    if isinstance(source, str | Path):
        return Path(source).name or str(source)
    if isinstance(source, bytes | bytearray | memoryview):
        return getattr(source, "name", "<bytes>")
    if hasattr(source, "__array__"):
        return "<array>"
    given = getattr(source, "name", None)
    return Path(given).name if isinstance(given, str) and given else "<stream>"


def _refuse_rate(name: str, sample_rate: int | None) -> None:
    if sample_rate is not None:
        raise AudioError(f"{name}: sample_rate={sample_rate} was given, but it is for arrays only")


def _warn_of_notes(sound: Sound, warn: Warn | None) -> None:
    if warn is None:
        return
    for note in sound.notes:
        warn(f"{sound.name}: {note}")


def check_scale(name: str, samples: NDArray[Any]) -> None:
    """Refuses sound whose full scale is not ±1; files, arrays and streams share this rule.

    Args:
        name: of the source, for the message.
        samples: floats of any shape.

    Raises:
        AudioError: a sample is not finite, or beyond ±2.
    """
    peak = float(np.abs(samples).max(initial=0))  # NaN where there is one
    if not math.isfinite(peak):
        raise AudioError(
            f"{name}: holds NaN or infinite samples; repair or leave out the recording"
        )
    if peak > OVER:
        raise AudioError(
            f"{name}: its samples reach ±{peak:g}; allowed: floats of ±1 (up to ±{OVER:g} where "
            "a codec overshoots); divide them by their full scale, which is 32768 for 16 bits"
        )


def _cut_array(
    name: str, source: object, rate: int | None,
    start: float | None, end: float | None, mixed: bool = True,
) -> tuple[Samples, int]:  # fmt: skip
    if rate is None:
        raise AudioError(f"{name}: an array has no sample rate; pass sample_rate= in Hz")
    array = _as_array(name, source)
    _check_rate(name, rate)
    first, last = span(name, start, end, int(rate), len(array))
    cut = _scaled(name, array[first:last])
    if not mixed:
        return cut.reshape(len(cut), -1), int(rate)
    # as a file of the same samples is mixed
    blocks = (cut[start : start + READ_FRAMES] for start in range(0, len(cut), READ_FRAMES))
    return joined_blocks(map(MonoMix(), blocks)), int(rate)


def _as_array(name: str, source: Any) -> NDArray[Any]:
    """[samples] or [samples, channels]; a tensor of one channel may be [1, samples]."""
    try:
        if hasattr(source, "detach"):  # a tensor; numpy has no bfloat16
            source = source.detach().cpu()
            source = source.float() if source.is_floating_point() else source
        array: NDArray[Any] = np.asarray(source)
    except (TypeError, ValueError, RuntimeError) as error:  # such as nested lists
        raise AudioError(
            f"{name}: is not an array that numpy can hold ({error}); pass float32 samples"
        ) from error
    if array.ndim not in (1, 2):
        raise AudioError(
            f"{name}: has shape {array.shape}; allowed: [samples] or [samples, channels]"
        )
    if array.ndim == 2 and array.shape[0] == 1:
        array = array[0]
    if array.ndim == 2 and array.shape[1] > min(_MAX_CHANNELS, max(array.shape[0], 2)):
        raise AudioError(
            f"{name}: has shape {array.shape}, read as [samples, channels]; transpose it"
        )
    return array


def _scaled(name: str, array: NDArray[Any]) -> Samples:
    kind, bits = array.dtype.kind, 8 * array.dtype.itemsize
    if kind == "f":
        with np.errstate(over="ignore"):  # what overflows becomes inf and is refused as such
            return array.astype(np.float32)
    if kind not in "iu" or bits > 32:  # signed and unsigned integers
        raise AudioError(
            f"{name}: has dtype {array.dtype}; allowed: floats and integers of 8, 16 or 32 bits "
            "(wider ones do not say what full scale is)"
        )
    # Unsigned integers are centred: 8-bit sound is silent at 128. Double precision keeps all 32
    # bits.
    full = 2.0 ** (bits - 1)
    centred = array.astype(np.float64) - (full if kind == "u" else 0.0)
    return (centred / full).astype(np.float32)


def _check_rate(name: str, rate: object) -> None:
    try:
        whole = not isinstance(rate, bool) and rate == int(rate)  # type: ignore[call-overload]
    except (TypeError, ValueError, OverflowError):
        whole = False
    if not whole:
        raise AudioError(f"{name}: sample_rate={rate!r}; allowed: whole numbers of Hz")
    if rate not in RATES:
        raise AudioError(f"{name}: has a rate of {rate} Hz; allowed: {RATES[0]} to {RATES[-1]} Hz")


def _resample(name: str, mono: Samples, rate: int) -> Samples:
    _check_rate(name, rate)
    if rate != SAMPLE_RATE:
        try:
            mono = soxr.resample(mono, rate, SAMPLE_RATE, quality="HQ")
        except (RuntimeError, ValueError, TypeError) as error:
            raise AudioError(f"{name}: cannot be resampled from {rate} Hz: {error}") from error
        if not len(mono):
            raise AudioError(f"{name}: is too short to be resampled from {rate} Hz to 16 kHz")
    return np.ascontiguousarray(mono, dtype=np.float32)


def _resampled(name: str, blocks: Iterable[Samples], rate: int) -> Iterator[Samples]:
    """Resamples block by block, carrying the filter's state, to the result of a single pass."""
    _check_rate(name, rate)
    convert = None
    samples_in = samples_out = 0
    for block in blocks:
        check_scale(name, block)
        if convert is None:
            convert = to_rate(rate, SAMPLE_RATE, block.shape[1] if block.ndim > 1 else 1)
        resampled = convert(block, False)
        samples_in += len(block)
        samples_out += len(resampled)
        yield resampled
    if not samples_in or convert is None:
        raise AudioError(f"{name}: holds no sound (0 samples)")
    if rate != SAMPLE_RATE:  # the resampler holds back its last samples until it is told of the end
        resampled = convert(block[:0], True)
        samples_out += len(resampled)
        yield resampled
    if not samples_out:
        raise AudioError(f"{name}: is too short to be resampled from {rate} Hz to 16 kHz")


def _joined_blocks(parts: Iterable[Samples]) -> Iterator[Samples]:
    """Joins the codec's frames of some milliseconds into blocks of about half a minute."""
    held: list[Samples] = []
    count = 0
    for part in parts:
        held.append(part)
        count += len(part)
        if count >= _BLOCK_SECONDS * SAMPLE_RATE:
            yield np.ascontiguousarray(np.concatenate(held), dtype=np.float32)
            held, count = [], 0
    if count:
        yield np.ascontiguousarray(np.concatenate(held), dtype=np.float32)

"""The bytes of a file → mono float32 blocks at the file's own rate, through libsndfile or FFmpeg.

Only `audio` uses this; it adds arrays, the checks of the samples and the way to 16 kHz.
"""

from __future__ import annotations

import io
import math
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import soundfile

from multimodal_ser._sources import (
    ALLOWED,
    container_kind,
    ends_within_ogg_page,
    located,
    peek,
    refuse_text,
)
from multimodal_ser.errors import AudioError

Samples: TypeAlias = npt.NDArray[np.float32]

RATES = range(1_000, 1_000_001)
_BLOCK = 1 << 18  # frames decoded at a time: a header's word is never trusted with memory
_PAST_END = 0.5  # seconds that `end` may lie beyond the recording: annotations are rounded
_CONTAINER_SLACK = 0.25  # seconds by which a container's stated duration may be wrong


@dataclass(frozen=True)
class AudioInfo:
    """What a recording's header says.

    Attributes:
        sample_rate: frames a second as stored, Hz.
        channels: number of channels as stored.
        frames: samples per channel as stored; an estimate for containers such as mp4.
        duration: seconds.
    """

    sample_rate: int
    channels: int
    frames: int
    duration: float


def span(
    name: str, start: float | None, end: float | None, rate: int, frames: int | None
) -> tuple[int, int | None]:
    """First and last frame of a part; `frames` is None where the length is unknown."""
    first = round((start or 0.0) * rate)
    last = None if end is None or math.isinf(end) else round(end * rate)
    if frames is None:
        return first, last
    if (first and first >= frames) or (last and last > frames + _PAST_END * rate):
        raise AudioError(
            f"{name}: start={start}, end={end} s lie beyond its {frames / rate:.3f} s; "
            "correct the times or the path"
        )
    return first, frames if last is None else min(last, frames)


def to_mono(samples: Samples) -> Samples:
    if samples.ndim == 1:
        return samples
    if samples.shape[1] == 1:
        return samples[:, 0]
    with np.errstate(invalid="ignore", over="ignore"):  # inf and NaN are refused by name later
        return np.asarray(samples.mean(axis=1, dtype=np.float32))


@contextmanager
def opened(name: str, source: object) -> Iterator[_Sndfile | _Container]:
    where = located(name, source)
    try:
        head = peek(where, 0)
        kind = container_kind(head)
        refuse_text(name, head)
        sound = _Container(name, where, kind) if kind else _Sndfile(name, where)
        with sound.file:
            yield sound
    except _library_errors() as error:
        # soundfile puts the path before what libsndfile says; only the latter is news.
        reason = str(getattr(error, "error_string", error)).strip().rstrip(".")
        raise AudioError(
            f"{name}: cannot be read as audio ({reason or type(error).__name__}); the file is "
            f"truncated, damaged or of another format. Allowed: {ALLOWED}"
        ) from error


def _library_errors() -> tuple[type[BaseException], ...]:
    plain = (RuntimeError, ValueError, TypeError, OSError, EOFError, soundfile.SoundFileError)
    av = sys.modules.get("av")  # absent as long as no container was opened
    return (*plain, av.FFmpegError) if av else plain


def _joined(blocks: Iterable[Samples]) -> Samples:
    return np.concatenate([np.zeros(0, np.float32), *blocks])


def _cut_short(name: str, decoded: float, claimed: float, unit: str) -> AudioError:
    return AudioError(
        f"{name}: is truncated: its header claims {claimed:.10g} {unit}, it holds {decoded:.10g}; "
        "fetch it again"
    )


class _ForwardFile(soundfile.SoundFile):  # type: ignore[misc]
    """soundfile seeks after every read to where the header says, which fails if that is wrong."""

    def seekable(self) -> bool:
        return False


class _Sndfile:
    """A file that libsndfile reads."""

    def __init__(self, name: str, where: Path | io.BytesIO) -> None:
        self.name, self.where = name, where
        self.file = _ForwardFile(where)
        self.rate: int = self.file.samplerate
        self._check_header()
        stated = self.file.frames < 1 << 62 and (self.file.format != "MP3" or self._counts_frames())
        self.frames: int | None = self.file.frames if stated else None

    @property
    def info(self) -> AudioInfo:
        frames = len(self.read(None, None)) if self.frames is None else self.frames
        return AudioInfo(self.rate, self.file.channels, frames, frames / self.rate)

    def _check_header(self) -> None:
        """A size beyond the end is quietly corrected by libsndfile; its log tells."""
        log = self.file.extra_info
        for claimed, held in re.findall(r"(?:data|SSND) *: (\d+) \(should be (\d+)\)", log):
            # Writers to a pipe cannot know the size: they leave 0 or the greatest number.
            if int(held) < int(claimed) < 0x7FFF0000:
                raise _cut_short(self.name, int(held), int(claimed), "bytes")
        if self.file.format == "OGG" and ends_within_ogg_page(self.where):
            raise AudioError(f"{self.name}: is truncated within its last page; fetch it again")

    def _counts_frames(self) -> bool:
        """Whether an mp3 states its length; else libsndfile guesses it from the first bit rate."""
        head = peek(self.where, 0)
        if head[:3] == b"ID3":
            size = sum((byte & 0x7F) << 7 * (3 - i) for i, byte in enumerate(head[6:10]))
            head = peek(self.where, 10 + size)
        return any(tag in head for tag in (b"Xing", b"Info", b"VBRI"))

    def read(self, start: float | None, end: float | None) -> Samples:
        first, last = span(self.name, start, end, self.rate, self.frames)
        if self.frames is None:
            mono = _joined(self._blocks(last))
            first, last = span(self.name, start, end, self.rate, len(mono))
            return mono[first:last]
        self.file.seek(first)
        mono = _joined(self._blocks(self.frames if last is None else last - first))
        if last is not None and len(mono) < last - first:
            raise _cut_short(self.name, first + len(mono), self.frames, "samples")
        return mono

    def blocks(self) -> Iterator[Samples]:
        """The whole recording, a few seconds at a time."""
        count = 0
        if self.frames is not None:
            self.file.seek(0)  # as `read` does: some decoders then differ in the last bit
        for block in self._blocks(self.frames):
            count += len(block)
            yield block
        if self.frames is not None and count < self.frames:
            raise _cut_short(self.name, count, self.frames, "samples")

    def _blocks(self, frames: int | None) -> Iterator[Samples]:
        left = frames
        while left is None or left > 0:
            size = _BLOCK if left is None else min(left, _BLOCK)
            block = to_mono(self.file.read(size, dtype="float32", always_2d=True))
            if not len(block):
                return
            yield block
            left = None if left is None else left - len(block)


class _Container:
    """The first sound track of a file that FFmpeg reads."""

    def __init__(self, name: str, where: Path | io.BytesIO, kind: str) -> None:
        try:
            import av
        except ImportError as error:
            raise AudioError(
                f"{name}: is a video or mp4 container; reading it needs "
                "`pip install 'multimodal-ser[video]'`"
            ) from error
        self.name = name
        self.file: Any = av.open(str(where) if isinstance(where, Path) else where, format=kind)
        if not self.file.streams.audio:
            raise AudioError(f"{name}: has no sound track")
        self.stream: Any = self.file.streams.audio[0]
        self.rate: int = self.stream.rate
        stated: Any = self.stream.duration
        self.frames: int | None = (
            round(stated * self.stream.time_base * self.rate) if stated else None
        )

    @property
    def info(self) -> AudioInfo:
        whole = (self.file.duration or 0) / 1e6  # the container's own, in microseconds
        frames = round(whole * self.rate) if self.frames is None else self.frames
        return AudioInfo(self.rate, self.stream.channels, frames, frames / self.rate)

    def read(self, start: float | None, end: float | None) -> Samples:
        first, last = span(self.name, start, end, self.rate, self.info.frames or None)
        stop = self.frames if end is None else last
        blocks = []
        for at, block in self._decoded(first):
            blocks.append(block[max(0, first - at) : None if stop is None else max(0, stop - at)])
            if stop is not None and at + len(block) >= stop:
                break
        mono = _joined(blocks)
        slack = _CONTAINER_SLACK * self.rate
        if self.frames is not None and stop is not None and len(mono) < stop - first - slack:
            raise _cut_short(self.name, first + len(mono), self.frames, "samples")
        return mono

    def blocks(self) -> Iterator[Samples]:
        """The whole recording, a frame of the codec at a time."""
        count = 0
        for at, block in self._decoded(0):
            held = len(block) if self.frames is None else max(0, self.frames - at)
            count = at + min(len(block), held)
            yield block[:held]
        if self.frames is not None and count < self.frames - _CONTAINER_SLACK * self.rate:
            raise _cut_short(self.name, count, self.frames, "samples")

    def _decoded(self, first: int) -> Iterator[tuple[int, Samples]]:
        """Blocks from `first` or before it on, and where each begins, in frames."""
        import av

        origin = next((frame.time for frame in self.file.decode(self.stream)), None) or 0.0
        # Decoders need some sound ahead before theirs is right.
        ahead = max(0.0, first / self.rate - 0.2)
        self.file.seek(int((origin + ahead) / self.stream.time_base), stream=self.stream)
        planar, at = av.AudioResampler(format="fltp"), -1
        for frame in self.file.decode(self.stream):
            if at < 0:
                at = max(0, round(((frame.time or 0.0) - origin) * self.rate))
            for part in planar.resample(frame):
                block = to_mono(np.asarray(part.to_ndarray().T, np.float32))
                yield at, block
                at += len(block)

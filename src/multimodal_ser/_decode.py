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

from multimodal_ser.errors import AudioError

Samples: TypeAlias = npt.NDArray[np.float32]

RATES = range(1_000, 1_000_001)
_BLOCK = 1 << 18  # frames decoded at a time: a header's word is never trusted with memory
_PAST_END = 0.5  # seconds that `end` may lie beyond the recording: annotations are rounded
_CONTAINER_SLACK = 0.25  # seconds by which a container's stated duration may be wrong
_OGG_PAGE = 27 + 255 + 255 * 255  # the longest, in bytes
_LFS = b"version https://git-lfs.github.com/spec/"
_ALLOWED = "wav, flac, mp3, ogg, AIFF; with the extra 'video' also mp4, m4a, mov, mkv, webm, avi"


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
    where = _located(name, source)
    try:
        head = _peek(where, 0)
        kind = _container_kind(head)
        _refuse_text(name, head)
        sound = _Container(name, where, kind) if kind else _Sndfile(name, where)
        with sound.file:
            yield sound
    except _library_errors() as error:
        # soundfile puts the path before what libsndfile says; only the latter is news.
        reason = str(getattr(error, "error_string", error)).strip().rstrip(".")
        raise AudioError(
            f"{name}: cannot be read as audio ({reason or type(error).__name__}); the file is "
            f"truncated, damaged or of another format. Allowed: {_ALLOWED}"
        ) from error


def _library_errors() -> tuple[type[BaseException], ...]:
    plain = (RuntimeError, ValueError, TypeError, OSError, EOFError, soundfile.SoundFileError)
    av = sys.modules.get("av")  # absent as long as no container was opened
    return (*plain, av.FFmpegError) if av else plain


def _located(name: str, source: object) -> Path | io.BytesIO:
    """An absolute path that is a file, or the bytes: no other scheme can reach a decoder."""
    if isinstance(source, str | Path):
        path = Path(source).absolute()
        if path.is_dir():
            raise AudioError(f"{name}: is a folder, not a recording; pass one of its files")
        if not path.is_file():
            raise AudioError(f"{name}: no such file; looked for {path}")
        if path.stat().st_size == 0:
            raise AudioError(f"{name}: is empty (0 bytes); fetch it again")
        return path
    data = source.read() if hasattr(source, "read") else source
    if not isinstance(data, bytes):
        raise AudioError(
            f"{name}: gives {type(data).__name__}; allowed: a path, bytes, a file object opened "
            "in binary mode, or an array with sample_rate="
        )
    if not data:
        raise AudioError(f"{name}: is empty (0 bytes); fetch it again")
    return io.BytesIO(data)


def _peek(where: Path | io.BytesIO, offset: int, size: int = 4096) -> bytes:
    """`size` bytes from `offset` on, which counts from the end where it is negative."""
    with (
        io.BytesIO(where.getvalue()) if isinstance(where, io.BytesIO) else where.open("rb") as file
    ):
        length = file.seek(0, io.SEEK_END)
        file.seek(max(0, offset + length if offset < 0 else offset))
        return file.read(size)


def _ends_within_ogg_page(where: Path | io.BytesIO) -> bool:
    tail = _peek(where, -_OGG_PAGE, _OGG_PAGE)
    page = tail[tail.rfind(b"OggS") :]
    header = 27 + (page[26] if len(page) > 26 else 1)
    return len(page) < header + sum(page[27:header])


def _container_kind(head: bytes) -> str | None:
    """The name of FFmpeg's reader: named, so that no playlist can lead it to other files."""
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
        return "mov"
    if head[:4] == b"\x1aE\xdf\xa3":
        return "matroska"
    return "avi" if head[:4] == b"RIFF" and head[8:12] == b"AVI " else None


def _refuse_text(name: str, head: bytes) -> None:
    if head.startswith(_LFS):
        raise AudioError(
            f"{name}: is a Git LFS pointer, not the sound itself; run `git lfs pull` in its folder"
        )
    if head.isascii() and not any(byte < 9 for byte in head):
        raise AudioError(f"{name}: is text, not audio; allowed: {_ALLOWED}")


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
        if self.file.format == "OGG" and _ends_within_ogg_page(self.where):
            raise AudioError(f"{self.name}: is truncated within its last page; fetch it again")

    def _counts_frames(self) -> bool:
        """Whether an mp3 states its length; else libsndfile guesses it from the first bit rate."""
        head = _peek(self.where, 0)
        if head[:3] == b"ID3":
            size = sum((byte & 0x7F) << 7 * (3 - i) for i, byte in enumerate(head[6:10]))
            head = _peek(self.where, 10 + size)
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
        at, mono = self._decoded(first, stop)
        mono = mono[max(0, first - at) : None if stop is None else max(0, stop - at)]
        slack = _CONTAINER_SLACK * self.rate
        if self.frames is not None and stop is not None and len(mono) < stop - first - slack:
            raise _cut_short(self.name, first + len(mono), self.frames, "samples")
        return mono

    def _decoded(self, first: int, stop: int | None) -> tuple[int, Samples]:
        """Decodes from before `first` to `stop` or later; also where that begins, in frames."""
        import av

        origin = next((frame.time for frame in self.file.decode(self.stream)), None) or 0.0
        # Decoders need some sound ahead before theirs is right.
        ahead = max(0.0, first / self.rate - 0.2)
        self.file.seek(int((origin + ahead) / self.stream.time_base), stream=self.stream)
        planar, blocks = av.AudioResampler(format="fltp"), []
        at, count = -1, 0
        for frame in self.file.decode(self.stream):
            if at < 0:
                at = max(0, round(((frame.time or 0.0) - origin) * self.rate))
            for part in planar.resample(frame):
                blocks.append(to_mono(np.asarray(part.to_ndarray().T, np.float32)))
                count += len(blocks[-1])
            if stop is not None and at + count >= stop:
                break
        return max(0, at), _joined(blocks)

"""The bytes of a file → float32 blocks at the file's own rate, by libsndfile or FFmpeg.

libsndfile reads what it can, FFmpeg (extra ``video``) the rest. The length in a header is compared
with what is there but never trusted: files are read to their end.

Only `audio` uses this; it adds arrays, the checks of samples and the conversion to 16 kHz.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeAlias

import soundfile

from multimodal_ser.audio.container import Container, other_tracks
from multimodal_ser.audio.framing import lost_ogg_pages, ogg_tracks
from multimodal_ser.audio.headers import Ranges, cut_short, joins
from multimodal_ser.audio.sndfile import Sndfile, other_length
from multimodal_ser.audio.sound import apart, joined_blocks, other_channels, to_rate
from multimodal_ser.audio.sources import (
    READABLE,
    Where,
    is_known,
    located,
    media_kind,
    part,
    past_tags,
    peek,
    refuse_text,
)
from multimodal_ser.common.arrays import Samples
from multimodal_ser.errors import AudioError, counted

RATES = range(1_000, 1_000_001)  # Hz: anything else is a damaged header or a mistake
_BLOCK = 1 << 18  # frames per call: no memory is reserved by what a header claims
_PAST_END = 0.5  # seconds that `end` may be beyond the recording, since annotations are rounded


@dataclass(frozen=True)
class AudioInfo:
    """What the header of a recording says.

    Attributes:
        sample_rate: as stored, in Hz.
        channels: number of channels as stored.
        frames: samples per channel by the header; counted, or 0, if it does not say.
        duration: seconds.
        kind: container and codec in the words of libsndfile or FFmpeg, such as ``WAV/PCM_16`` or
            ``mov/aac``; empty for several recordings in one file.
    """

    sample_rate: int
    channels: int
    frames: int
    duration: float
    kind: str = ""


def header_of(sound: Sound, count: bool) -> AudioInfo:
    """Rate, channels and length from the header, or the length by decoding if `count`."""
    frames = sound.claimed or 0
    if sound.claimed is None and count:
        frames = sum(len(block) for block in sound.blocks())
    return AudioInfo(sound.rate, sound.channels, frames, frames / sound.rate, sound.kind)


def read_sound(sound: Sound, start: float | None, end: float | None) -> Samples:
    """The sound from second `start` to second `end`; AudioError if they are beyond it."""
    first, last = _edges(start, end, sound.rate)
    blocks: list[Samples] = []
    count = 0
    for block in sound.blocks(first):
        blocks.append(block)
        count += len(block)
        if last is not None and count >= last - first:
            break
    if (first and not count) or (
        last is not None and first + count < last - _PAST_END * sound.rate
    ):
        length = (first + count) if count else (sound.claimed or 0)
        raise _beyond(sound.name, start, end, length / sound.rate)
    return joined_blocks(blocks)[: None if last is None else last - first]


def _edges(start: float | None, end: float | None, rate: int) -> tuple[int, int | None]:
    """The first sample of a part and the one after its last; None for the end of the recording."""
    last = None if end is None or math.isinf(end) else round(end * rate)
    return round((start or 0.0) * rate), last


def span(
    name: str, start: float | None, end: float | None, rate: int, frames: int
) -> tuple[int, int]:
    """The first sample of a part and the one after its last, in an array of `frames`."""
    first, last = _edges(start, end, rate)
    if (first and first >= frames) or (last and last > frames + _PAST_END * rate):
        raise _beyond(name, start, end, frames / rate)
    return first, frames if last is None else min(last, frames)


def _beyond(name: str, start: float | None, end: float | None, seconds: float) -> AudioError:
    """The error for a part that does not exist."""
    return AudioError(
        f"{name}: start={start}, end={end} s lie beyond its {seconds:.3f} s; "
        "correct the times or the path"
    )


@contextmanager
def opened(name: str, source: object, mixed: bool = True) -> Iterator[Sound]:
    """Opens a recording of any format; errors of the libraries become an AudioError.

    Args:
        name: for messages.
        source: path, bytes or binary file object.
        mixed: whether its blocks are mixed to mono, [time]; otherwise [time, channels].
    """
    try:
        where = past_tags(located(name, source))
        refuse_text(name, where)
        parts = joins(where, peek(where, 0))
        if len(parts) == 1 and len(parts[0]) > 1:  # without its empty chunks
            where = part(where, parts[0])
        several = len(parts) > 1
        sound = _Chain(name, where, mixed, parts) if several else _single(name, where, mixed)
        try:
            yield sound
        finally:
            sound.close()
    except _library_errors() as error:
        # soundfile's message begins with the path, as the message here does; error_string is
        # libsndfile's alone.
        message = getattr(error, "error_string", None) or getattr(error, "strerror", None) or error
        reason = str(message).strip().rstrip(".")
        bare = ""
        # of such a file, libsndfile's reason is about what it guesses it to be
        if isinstance(error, soundfile.LibsndfileError) and not is_known(peek(where, 0)):
            reason = "Format not recognised"
            bare = (
                ". Samples without a header (.raw, .pcm) state no rate: make a wav of them first, "
                "as `ffmpeg -f s16le -ar 8000 -ac 1 -i a.raw a.wav` does of 16 bits at 8 kHz"
            )
        elif reason.startswith("File does not exist"):  # libsndfile, of an mp3 without a frame
            reason = "Format not recognised"
        raise AudioError(
            f"{name}: cannot be read as audio ({reason or type(error).__name__}); the file is "
            f"truncated, damaged or of another format. Allowed: {READABLE}{bare}"
        ) from error


def _single(name: str, where: Where, mixed: bool) -> Sound:
    """Opens one recording, and notes parts that are missing, which decoders skip silently."""
    sound, head = _opened_by_any(name, where, mixed), peek(where, 0)
    if isinstance(sound, Container) and (sizes := cut_short(where, head)):
        sound.notes.append(other_length(sizes[1], sizes[0], "bytes"))
    if isinstance(sound, Sndfile) and head[:4] == b"OggS" and (count := ogg_tracks(where)) > 1:
        sound.notes.append(other_tracks(count, 1))
    if head[:4] == b"OggS" and (lost := lost_ogg_pages(where)):
        sound.notes.append(
            f"skips {counted(lost, 'damaged or missing page')}: what follows comes too early"
        )
    return sound


def _opened_by_any(name: str, where: Where, mixed: bool) -> Sound:
    """Opens one recording with libsndfile if possible, otherwise with FFmpeg."""
    if media_kind(peek(where, 0)):
        return Container(name, where, mixed)
    try:
        sound = Sndfile(name, where, mixed)
    except (soundfile.SoundFileError, TypeError) as error:
        try:
            return Container(name, where, mixed)
        except _failures():
            # libsndfile's reason; FFmpeg's are about its guesses of the format
            raise error from None
    if not sound.stops_early:
        return sound
    sound.close()
    return Container(name, where, mixed)


def _library_errors() -> tuple[type[BaseException], ...]:
    plain = (RuntimeError, ValueError, TypeError, OSError, EOFError, soundfile.SoundFileError)
    av = sys.modules.get("av")  # not imported unless a container was opened
    return (*plain, av.FFmpegError) if av else plain


def _failures() -> tuple[type[BaseException], ...]:
    return (AudioError, *_library_errors())


class _Chain:
    """Several recordings in sequence in one file, such as an Ogg file made by `cat`."""

    def __init__(self, name: str, where: Where, mixed: bool, parts: Sequence[Ranges]) -> None:
        self.name, self.where, self.mixed, self.parts = name, where, mixed, parts
        with self._opened(0) as first:
            self.rate: int = first.rate
            self.channels: int = first.channels
        self.claimed: int | None = None
        self.kind = ""
        self.notes = [f"holds {len(parts)} recordings one after another; all are read"]

    def close(self) -> None:
        """Nothing to do: each recording is closed after it is read."""

    @contextmanager
    def _opened(self, number: int) -> Iterator[Sound]:
        sound = _single(self.name, part(self.where, self.parts[number]), self.mixed)
        try:
            yield sound
        finally:
            sound.close()

    def blocks(self, first: int = 0) -> Iterator[Samples]:
        """The sound of all recordings from sample `first` on, at the rate of the first one."""
        at = 0
        for number in range(len(self.parts)):
            for block in self._blocks_of(number):
                if at + len(block) > first:
                    yield block[max(0, first - at) :]
                at += len(block)

    def _blocks_of(self, number: int) -> Iterator[Samples]:
        try:
            with self._opened(number) as sound:
                width = 1 if self.mixed else self.channels
                convert, mix = to_rate(sound.rate, self.rate, width), apart(width)
                note = other_channels(width, sound.channels)
                if not self.mixed and sound.channels != width and note not in self.notes:
                    self.notes.append(note)
                block = None
                for block in sound.blocks():
                    block = block if self.mixed else mix(block)
                    yield convert(block, False)
                if block is not None:
                    yield convert(block[:0], True)
                self.notes += [note for note in sound.notes if note not in self.notes]
        except _failures() as error:
            if not number:
                raise
            self.notes.append(f"recording {number + 1} in it cannot be read ({error})")


Sound: TypeAlias = Container | Sndfile | _Chain
"""An open recording with its `name`, `kind`, `rate` in Hz and number of `channels` as stored.

`claimed` is the number of samples per channel by its header, None if it does not say. `notes` are
warnings for the user, complete once the recording was read to its end."""

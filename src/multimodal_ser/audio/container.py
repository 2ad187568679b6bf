"""Files that FFmpeg reads (extra ``video``) → mono float32 blocks at the times they state.

A player plays the sound of a video when the times of its packets say so. Sound that begins late,
and packets that are missing, are therefore silence here: each second of the result is that second
of the video.

Only `decode` uses this.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from multimodal_ser.audio.sound import (
    OVER,
    Mix,
    MonoMix,
    apart,
    joined_blocks,
    other_channels,
    silence,
    to_rate,
)
from multimodal_ser.audio.sources import Patched, Where, media_kind, peek
from multimodal_ser.common.arrays import Samples
from multimodal_ser.errors import AudioError, counted, to_install

# The readers that FFmpeg may choose from. None of them follows a playlist to other files or URLs.
_READERS = (
    "mov,matroska,avi,asf,flv,mpegts,mpeg,aac,ac3,eac3,amr,amrnb,amrwb,gsm,ogg,mp3,wav,w64,aiff,"
    "au,caf,flac,wv,ape,tta,mpc,mpc8,tak,rm,dts,dtshd,loas,nut,mxf,wtv,voc,nistsphere,ircam,qcp,"
    "xwma,dsf,oma,ilbc,spx,ast,adx,swf,mmf,dv,aea,dss,epaf,pvf,sox,gxf,smjpeg,spdif,apm,argo_asf,"
    "kvag,iff,avr,truehd,mlp,shn,osq,qoa,bonk,amv,ivf,3dostr,psxstr,vqf,ac4,lc3"
)
_CHECKED = {"flac", "wavpack", "tta", "ape"}  # every frame has a checksum that is never wrong
_TIMED = {  # formats with usable time stamps
    "mov", "matroska", "asf", "flv", "mpegts", "mpeg", "nut", "wtv", "ogg", "rm", "avi", "flac",
}  # fmt: skip
_BEGINS = {"avi"}  # only the start of a track is stored; FFmpeg counts later times from it
_FREE = {"mpegts", "mpeg", "wtv", "ogg"}  # their clocks may start at any time, not only at 0
_EDITED = {"mov", "matroska"}  # these state the delay of an encoder
_STATED = {"mov", "matroska", "asf", "nut"}  # they store their duration; for others it is estimated
# FFmpeg writes wrong durations into these; `headers.cut_short` finds what is missing by their size.
_SIZED = {"asf"}
_DELAY = 0.1  # seconds: the delay of an encoder shifts the first sound or picture by less
_CUT = 60.0  # seconds: a file whose first packet is later was cut out of a longer one
_JITTER = 0.01  # seconds: rounding of times
_DEFAULT = 1  # FFmpeg's flag AV_DISPOSITION_DEFAULT
_LONGEST = 3600.0  # seconds without a packet; a longer gap means that the clock has jumped
_BACK = 0.5  # seconds that overlapping packets may lose in all; if they lose more, times are wrong
_AHEAD = 2.0  # seconds that are decoded before a seek's target: decoders need a start-up


def other_tracks(count: int, read: int) -> str:
    """The note about a file with several sound tracks, and which of them is read, from 1."""
    return (
        f"has {count} sound tracks; only track {read} is read; save another one as a file of its "
        "own to read it"
    )


class Container:
    """A file, and its sound track that players take: the default one, or the first."""

    def __init__(self, name: str, where: Where, mixed: bool = True) -> None:
        try:
            import av
        except ImportError as error:
            kind = media_kind(peek(where, 0)) or "of a format that libsndfile does not read"
            raise AudioError(f"{name}: is {kind}; to read it: {to_install('video')}") from error
        self.name, self.where, self.av = name, where, av
        self.notes: list[str] = []
        self.damaged, self.jumps, self.reached, self.spare = 0, 0, 0.0, 0
        self._files = ExitStack()
        try:
            self._open()
            first = next(iter(self._frames()), None)
        except BaseException:
            self.close()  # the caller gets no object that it could close
            raise
        rate = first.sample_rate if first is not None else self.stream.rate
        self.rate: int = rate or 16_000
        self.channels: int = first.layout.nb_channels if first is not None else 1
        self._mix: Mix = MonoMix() if mixed else apart(self.channels)
        self._nothing = self._mix(np.zeros((0, self.channels), np.float32))
        if (count := len(self.file.streams.audio)) > 1:
            read = self.file.streams.audio.index(self.stream) + 1
            self.notes.append(other_tracks(count, read))
        self.kind = f"{self.format}/{self.stream.codec_context.name}"
        self.origin = self._origin()
        # Without time stamps, FFmpeg guesses the duration (in microseconds) by the first bit rates.
        whole = (self.file.duration or 0) / 1e6 if self.format in _TIMED else 0.0
        self.claimed: int | None = round(whole * self.rate) or None

    def close(self) -> None:
        """Closes the file."""
        self._files.close()

    def blocks(self, first: int = 0) -> Iterator[Samples]:
        """The sound from sample `first` on, one frame of the codec at a time."""
        self._open()
        self.damaged, self.jumps, self.reached = 0, 0, 0.0
        self.spare = round(_BACK * self.rate)
        self.origin = self._origin()
        start = self._seek(first)
        for position, block in self._placed_blocks(self._timed_blocks(), start):
            if position + len(block) > first:
                yield block[max(0, first - position) :]
        self._note_problems()

    def _open(self) -> None:
        self.close()
        where = self.where
        raw = self._files.enter_context(where.open("rb")) if isinstance(where, Path) else where
        raw.seek(0)
        # FFmpeg may not open anything else: media files can refer to other files and to URLs.
        limits = {"format_whitelist": _READERS, "protocol_whitelist": "none"}
        # Tags are not read, so those that are no UTF-8 need not matter. PyAV 19 no longer minds
        # them, nor takes the argument.
        old = int(self.av.__version__.split(".")[0]) < 19
        tags: dict[str, Any] = {"metadata_errors": "ignore"} if old else {}
        self.file: Any = self._files.enter_context(
            self.av.open(Patched(raw, {}), options=limits, **tags)
        )
        self.format = self.file.format.name.split(",")[0]
        tracks = self.file.streams.audio
        usable = [track for track in tracks if track.codec_context is not None]
        # players take the track that is marked as default, or the first one
        marked = [track for track in usable if int(track.disposition) & _DEFAULT]
        self.stream: Any = next(iter(marked or usable), None)
        if self.stream is not None and self.stream.codec_context.name in _CHECKED:
            # otherwise FFmpeg silently gives noise in place of a damaged frame
            self.stream.codec_context.options = {"err_detect": "crccheck+explode"}
        if self.stream is None:
            raise AudioError(
                f"{self.name}: its sound has a codec that FFmpeg cannot decode; convert it to wav"
                if tracks
                else f"{self.name}: has no sound track"
            )

    def _origin(self) -> float | None:
        """The file's time at second 0 of the recording; None for files without a clock."""
        if self.format not in _TIMED:
            return None
        begins = (self.file.start_time or 0) / 1e6
        pictures = [s for s in self.file.streams.video if s.start_time is not None]
        if not (pictures or self.format in _FREE or begins > _CUT):
            return 0.0
        if not pictures or (begins == 0 and self.format in _EDITED):
            return begins
        first = float(pictures[0].start_time * pictures[0].time_base)
        # Either the encoder's delay or a picture that really comes later. The two cannot be told
        # apart, and the middle is wrong by half of it at most.
        return (begins + first) / 2 if 0 <= first - begins <= _DELAY else begins

    def _seek(self, first: int) -> int | None:
        """Seeks to a place before sample `first` if the format allows it.

        Returns:
            None after a seek, since only time stamps tell where it led; 0 if reading starts at 0.
        """
        begin = first / self.rate - _AHEAD
        if self.origin is None or self.format not in _STATED or begin <= 0:
            return 0
        time = int((self.origin + begin) / self.stream.time_base)
        try:
            self.file.seek(time, stream=self.stream)
        except self.av.FFmpegError:
            self._open()
            return 0
        return None

    def _frames(self) -> Iterator[Any]:
        """Decodes to the end; damaged packets are counted and skipped."""
        packets = self.file.demux()
        while True:
            try:
                packet = next(packets, None)
            except (self.av.FFmpegError, EOFError) as error:
                reason = getattr(error, "strerror", None) or error
                self.notes.append(f"ends in damaged data ({reason}); what is before it is read")
                return
            except IndexError:  # of PyAV, at the end of the file
                self.notes.append("another track begins on the way in it; that one is not read")
                return
            if packet is None:
                return
            if packet.pts is not None and packet.time_base:
                end = packet.pts + (packet.duration or 0)
                self.reached = max(self.reached, float(end * packet.time_base))
            if packet.stream.index != self.stream.index:
                continue
            try:
                for frame in packet.decode():
                    # some packets, such as WavPack's in Matroska, do not state how long they last
                    if frame.sample_rate:
                        end = (frame.time or 0.0) + frame.samples / frame.sample_rate
                        self.reached = max(self.reached, end)
                    yield frame
            except self.av.FFmpegError:
                self.damaged += 1

    def _timed_blocks(self) -> Iterator[tuple[float | None, Samples]]:
        """Blocks at the track's rate, each with its time in the file in seconds."""
        kind: Any = None
        plain: Any = None
        convert: Any = None
        for frame in self._frames():
            # A track may change its format in between, and then needs other resamplers.
            if kind != (frame.format.name, frame.layout.name, frame.sample_rate):
                kind = frame.format.name, frame.layout.name, frame.sample_rate
                # PyAV crashes on planes of more than seven channels; packed, there is only one.
                plain = self.av.AudioResampler(format="flt")
                if convert is not None:
                    yield None, convert(self._nothing, True)
                width = self._nothing.shape[1] if self._nothing.ndim > 1 else 1
                convert = to_rate(frame.sample_rate, self.rate, width)
                now, kept = frame.layout.nb_channels, self._nothing.ndim > 1
                note = other_channels(self.channels, now)
                if kept and now != self.channels and note not in self.notes:
                    self.notes.append(note)
            time = frame.time
            # this class places the sound; the resampler would insert silence of its own
            frame.pts = None
            # A codec may turn damaged data into any value, which does not mean another scale.
            scale = np.inf if self.stream.codec_context.name.startswith("pcm") else OVER
            parts = (
                self._mix(np.clip(p.to_ndarray().reshape(p.samples, -1), -scale, scale))
                for p in plain.resample(frame)
            )
            yield time, convert(joined_blocks((self._nothing, *parts)), False)
        if convert is not None:
            yield None, convert(self._nothing, True)

    def _placed_blocks(
        self, blocks: Iterable[tuple[float | None, Samples]], start: int | None
    ) -> Iterator[tuple[int, Samples]]:
        """Places blocks at their times: yields each with its position in samples.

        Args:
            blocks: with their times in the file.
            start: expected position of the first block; None if only its time tells it.
        """
        position, begun = start, False
        for (time, block), next_time in _with_next(blocks):
            late = 0
            has_times = not (begun and self.format in _BEGINS)
            if self.origin is not None and time is not None and has_times:
                stated = round((time - self.origin) * self.rate)
                if position is None:
                    position = max(0, stated)
                late = self._lateness(stated - position, position, block, next_time, begun)
            position = position or 0
            for gap in silence(late, block):
                yield position, gap
                position += len(gap)
            block = block[max(0, -late) :]
            yield position, block
            position, begun = position + len(block), True

    def _lateness(
        self, late: int, position: int, block: Samples, next_time: float | None, begun: bool
    ) -> int:
        """By how many samples a block really is late (early if negative); `late` is by its time.

        A single odd time is only rounding by the codec: the time after it must differ as well.
        """
        small = _JITTER * self.rate
        if begun and next_time is not None:
            end = position + len(block)
            later = round((next_time - (self.origin or 0.0)) * self.rate) - end
            if abs(later) <= small or (later > 0) != (late > 0):
                return 0
        if begun and abs(late) <= small:
            return 0
        # Without pictures, the first block is late only by the encoder's delay: it is second 0.
        delayed = late <= _DELAY * self.rate and not self.file.streams.video
        # A FLAC stream that was recorded from its middle on counts from its lost beginning.
        if not begun and late > 0 and (delayed or self.format == "flac"):
            self.origin = (self.origin or 0.0) + late / self.rate
            return 0
        # The clock has jumped: the sound is continued without a gap, and the origin moves along.
        if late > _LONGEST * self.rate or late < -self.spare:
            self.origin = (self.origin or 0.0) + late / self.rate
            self.jumps += 1
            return 0
        self.spare += min(late, 0) if begun else 0
        return late

    def _note_problems(self) -> None:
        if self.damaged:
            self.notes.append(f"left out: {counted(self.damaged, 'damaged packet')}")
        if self.jumps:
            self.notes.append(
                f"its clock jumps {counted(self.jumps, 'time')}; the sound is read as one piece"
            )
        if self.format not in _STATED or self.format in _SIZED or not self.claimed:
            return
        begins, whole = (self.file.start_time or 0) / 1e6, self.claimed / self.rate
        # Matroska counts its duration from 0, also where its first packet is later.
        begins = 0.0 if self.format != "mov" and begins < whole else begins
        # The last picture may last longer than is known.
        least = 1.0 if self.file.streams.video else 0.25
        if self.reached < begins + whole - max(least, 0.02 * whole):
            self.notes.append(
                f"its header claims {whole:.2f} s, it holds {max(0.0, self.reached - begins):.2f}; "
                "what is there is read: it may be truncated"
            )


def _with_next(
    blocks: Iterable[tuple[float | None, Samples]],
) -> Iterator[tuple[tuple[float | None, Samples], float | None]]:
    """Each item with the time of the item after it; None for the last."""
    previous = None
    for item in blocks:
        if previous is not None:
            yield previous, item[0]
        previous = item
    if previous is not None:
        yield previous, None

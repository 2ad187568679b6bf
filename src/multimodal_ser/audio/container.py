"""What FFmpeg reads (extra ``video``) → mono float32 blocks at the times that the file gives them.

A player shows a video's sound when its packets' times say so: sound that begins late, and packets
that are missing, are silence here. So a second of the result is that second of the video.

Only `decode` uses this.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from multimodal_ser.audio.sound import apart, joined_blocks, silence, to_mono, to_rate
from multimodal_ser.audio.sources import Where, media_kind, peek
from multimodal_ser.common.arrays import Samples
from multimodal_ser.errors import AudioError, to_install

# The readers that FFmpeg may choose from: none that follows a playlist to other files.
_READERS = (
    "mov,matroska,avi,asf,flv,mpegts,mpeg,aac,ac3,eac3,amr,amrnb,amrwb,gsm,ogg,mp3,wav,w64,aiff,"
    "au,caf,flac,wv,ape,tta,mpc,mpc8,tak,rm,dts,dtshd,loas,nut,mxf,wtv,voc,nistsphere,ircam,qcp,"
    "xwma,dsf,oma,ilbc,spx,ast,adx,swf,mmf,dv,aea,dss,epaf,pvf,sox,gxf,smjpeg,spdif,apm,argo_asf,"
    "kvag,iff,avr,truehd,mlp,shn,osq,qoa,bonk,amv,ivf,3dostr,psxstr,vqf,ac4,lc3"
)
_TIMED = {"mov", "matroska", "asf", "flv", "mpegts", "mpeg", "nut", "wtv", "ogg", "rm", "avi"}
_BEGINS = {"avi"}  # these say when a track begins; their later times are counted, not stored
_FREE = {"mpegts", "mpeg", "wtv", "ogg"}  # their clocks begin anywhere
_EDITED = {"mov", "matroska"}  # these say what an encoder's delay is
_STATED = {"mov", "matroska", "asf", "nut"}  # their durations are no guesses
_DELAY = 0.1  # seconds by which an encoder's delay may move the first sound or picture
_CUT = 60.0  # a file whose first packet comes later is a piece of a longer one
_JITTER = 0.01  # seconds by which times are rounded
_LONGEST = 3600.0  # seconds without a packet; beyond that the clock has jumped
_BACK = 0.5  # seconds in all that overlapping packets lose; beyond that the times are wrong
_AHEAD = 2.0  # seconds that decoders need before their sound is right


class Container:
    """The first sound track that FFmpeg can decode."""

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
            self.close()  # nobody else can: the caller gets no object
            raise
        rate = first.sample_rate if first is not None else self.stream.rate
        self.rate: int = rate or 16_000
        self.channels: int = first.layout.nb_channels if first is not None else 1
        self._mix = to_mono if mixed else apart(self.channels)
        self._nothing = self._mix(np.zeros((0, self.channels), np.float32))
        self.origin = self._origin()
        whole = (self.file.duration or 0) / 1e6  # microseconds
        self.claimed: int | None = round(whole * self.rate) or None

    def close(self) -> None:
        """Closes the file."""
        self._files.close()

    def blocks(self, first: int = 0) -> Iterator[Samples]:
        """The sound from sample `first` on, a frame of the codec at a time."""
        self._open()
        self.damaged, self.jumps, self.reached = 0, 0, 0.0
        self.spare = round(_BACK * self.rate)
        self.origin = self._origin()
        start = self._sought(first)
        for at, block in self._placed(self._timed(), start):
            if at + len(block) > first:
                yield block[max(0, first - at) :]
        self._compare()

    def _open(self) -> None:
        self.close()
        where = self.where
        raw = self._files.enter_context(where.open("rb")) if isinstance(where, Path) else where
        raw.seek(0)
        limits = {"format_whitelist": _READERS, "protocol_whitelist": "none"}
        self.file: Any = self._files.enter_context(
            self.av.open(raw, options=limits, metadata_errors="ignore")
        )
        self.format = self.file.format.name.split(",")[0]
        tracks = self.file.streams.audio
        self.stream: Any = next((s for s in tracks if s.codec_context is not None), None)
        if self.stream is None:
            raise AudioError(
                f"{self.name}: its sound has a codec that FFmpeg cannot decode; convert it to wav"
                if tracks
                else f"{self.name}: has no sound track"
            )

    def _origin(self) -> float | None:
        """The time in the file that is the recording's second 0; None where it has no clock."""
        if self.format not in _TIMED:
            return None
        begins = (self.file.start_time or 0) / 1e6
        pictures = [s for s in self.file.streams.video if s.start_time is not None]
        if not (pictures or self.format in _FREE or begins > _CUT):
            return 0.0
        if not pictures or (begins == 0 and self.format in _EDITED):
            return begins
        first = float(pictures[0].start_time * pictures[0].time_base)
        # An encoder's delay, or a picture that really comes later? The middle is off by half.
        return (begins + first) / 2 if 0 <= first - begins <= _DELAY else begins

    def _sought(self, first: int) -> int | None:
        """Goes near sample `first` where that is quick; None where reading begins at 0 instead."""
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
        """Decodes to the end; what is damaged is counted and left out."""
        packets = self.file.demux()
        while True:
            try:
                packet = next(packets, None)
            except (self.av.FFmpegError, EOFError) as error:
                self.notes.append(f"ends in damaged data ({error}); what is before it is read")
                return
            if packet is None:
                return
            if packet.pts is not None and packet.time_base:
                end = packet.pts + (packet.duration or 0)
                self.reached = max(self.reached, float(end * packet.time_base))
            if packet.stream.index != self.stream.index:
                continue
            try:
                yield from packet.decode()
            except self.av.FFmpegError:
                self.damaged += 1

    def _timed(self) -> Iterator[tuple[float | None, Samples]]:
        """Frames as blocks at the track's rate, each with its time in the file, seconds."""
        kind: Any = None
        plain: Any = None
        convert: Any = None
        for frame in self._frames():
            if kind != (frame.format.name, frame.layout.name, frame.sample_rate):
                kind = frame.format.name, frame.layout.name, frame.sample_rate
                plain = self.av.AudioResampler(format="fltp")
                if convert is not None:
                    yield None, convert(self._nothing, True)
                width = self._nothing.shape[1] if self._nothing.ndim > 1 else 1
                convert = to_rate(frame.sample_rate, self.rate, width)
            time = frame.time
            frame.pts = None  # times are minded here, not by the resampler
            parts = (
                self._mix(np.asarray(p.to_ndarray().T, np.float32)) for p in plain.resample(frame)
            )
            yield time, convert(joined_blocks((self._nothing, *parts)), False)
        if convert is not None:
            yield None, convert(self._nothing, True)

    def _placed(
        self, blocks: Iterable[tuple[float | None, Samples]], start: int | None
    ) -> Iterator[tuple[int, Samples]]:
        """Blocks where their times put them, and each one's place in samples.

        Args:
            blocks: times in the file and samples.
            start: where the first block is expected; None where its time alone says it.
        """
        at, begun = start, False
        for (time, block), following in _with_next(blocks):
            off = 0
            if self.origin is not None and time is not None and self._says_when(begun):
                if at is None:
                    at = max(0, round((time - self.origin) * self.rate))
                off = round((time - self.origin) * self.rate) - at
                off = self._moved(off, at, block, following, begun)
            at = at or 0
            for gap in silence(off, block):
                yield at, gap
                at += len(gap)
            block = block[max(0, -off) :]
            yield at, block
            at, begun = at + len(block), True

    def _says_when(self, begun: bool) -> bool:
        return not (begun and self.format in _BEGINS)

    def _moved(
        self, off: int, at: int, block: Samples, following: float | None, begun: bool
    ) -> int:
        """By how many samples a block is late (or, below 0, early), if it really is.

        A single odd time is a codec's rounding: the following one must be off as well.
        """
        small = _JITTER * self.rate
        if begun and following is not None:
            later = round((following - (self.origin or 0.0)) * self.rate) - at - len(block)
            if abs(later) <= small or (later > 0) != (off > 0):
                return 0
        if begun and abs(off) <= small:
            return 0
        if not begun and 0 < off <= _DELAY * self.rate and not self.file.streams.video:
            self.origin = (self.origin or 0.0) + off / self.rate  # an encoder's delay
            return 0
        if off > _LONGEST * self.rate or off < -self.spare:
            self.origin = (self.origin or 0.0) + off / self.rate
            self.jumps += 1
            return 0
        self.spare += min(off, 0) if begun else 0
        return off

    def _compare(self) -> None:
        if self.damaged:
            self.notes.append(f"{self.damaged} damaged packets are left out")
        if self.jumps:
            self.notes.append(f"its clock jumps {self.jumps} times; the sound is read as one piece")
        if self.format not in _STATED or not self.claimed:
            return
        begins, whole = (self.file.start_time or 0) / 1e6, self.claimed / self.rate
        if self.reached < begins + whole - max(1.0, 0.02 * whole):
            self.notes.append(
                f"its header claims {whole:.2f} s, it holds {max(0.0, self.reached - begins):.2f}; "
                "what is there is read: it may be truncated"
            )


def _with_next(
    blocks: Iterable[tuple[float | None, Samples]],
) -> Iterator[tuple[tuple[float | None, Samples], float | None]]:
    """Each item with the time of the item after it."""
    waiting = None
    for item in blocks:
        if waiting is not None:
            yield waiting, item[0]
        waiting = item
    if waiting is not None:
        yield waiting, None

"""Files that libsndfile reads → mono float32 blocks, to their end whatever their headers claim.

Only `decode` uses this.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import soundfile

from multimodal_ser.audio.container import Container
from multimodal_ser.audio.framing import ends_within_ogg_page, mp3_begin, mp3_length
from multimodal_ser.audio.headers import UNKNOWN_SIZE, misspelt, overstated, repadded, understated
from multimodal_ser.audio.sound import READ_FRAMES, Mix, MonoMix, apart
from multimodal_ser.audio.sources import EMPTY_TAG, Patched, Where, peek
from multimodal_ser.common.arrays import Samples
from multimodal_ser.errors import AudioError


def other_length(held: int, claimed: int, unit: str) -> str:
    """The note about a file with another length than it states."""
    cut = ": it may be truncated" if held < claimed else ""
    return f"its header claims {claimed} {unit}, it holds {held}; what is there is read{cut}"


class _ForwardFile(soundfile.SoundFile):  # type: ignore[misc]
    """A file without soundfile's seek after each read, which fails if a header is wrong."""

    def seekable(self) -> bool:
        return False

    def can_seek(self) -> bool:
        return bool(super().seekable())


class Sndfile:
    """A file that libsndfile reads.

    Attributes:
        stops_early: whether libsndfile would stop before the end of this mp3 file, or read
            block headers of this VOC file as sound.
    """

    def __init__(self, name: str, where: Where, mixed: bool = True) -> None:
        self.name, self.where, self.mixed, self.notes = name, where, mixed, list[str]()
        total = _stated_samples(peek(where, 0))
        self._raw: Any = where.open("rb") if isinstance(where, Path) else where
        try:
            self.file = _ForwardFile(self._source())
        except BaseException:
            self._close_raw()  # the caller gets no object that it could close
            raise
        self.rate: int = self.file.samplerate
        self.channels: int = self.file.channels
        self.kind = f"{self.file.format}/{self.file.subtype}"
        self._mix: Mix = MonoMix() if mixed else apart(self.channels)
        self._check_header(where)
        if self.file.subtype.startswith("MPEG"):  # also in WAV
            states_length, self.stops_early = mp3_length(where)
        else:
            states_length = True
            self.stops_early = "multi-seg" in self.file.extra_info  # its log about a VOC file
        stated = self.file.frames if self.file.frames < 1 << 62 and states_length else None
        self.claimed: int | None = total or stated

    def close(self) -> None:
        """Closes the file."""
        self.file.close()
        self._close_raw()

    def _close_raw(self) -> None:
        if isinstance(self.where, Path):
            self._raw.close()

    def _source(self) -> Any:
        """The file without the lengths at which libsndfile would stop too early."""
        where, patches = self.where, dict[int, bytes]()
        head = peek(where, 0, 26)
        if head[:4] == b"fLaC" and len(head) > 21:  # 0 means unknown: it then reads to the end
            patches = {21: bytes([head[21] & 0xF0]) + bytes(4)}
        elif (begin := mp3_begin(where)) is not None:
            # libsndfile knows an mp3 file without a name by one tag at its beginning.
            return Patched(self._raw, {}, begin, EMPTY_TAG)
        elif found := understated(where):
            patches, size, rest = found
            stated = f"only {size} bytes of sound" if size else "no length"
            self.notes.append(
                f"its header states {stated} (did its recorder crash?); all {rest} bytes are read"
            )
        patches |= misspelt(where)
        if head[:4] == b"BW64":  # the same chunks by another name
            patches |= {0: b"RF64"}
        return Patched(self._raw, patches, *(repadded(where) or ()))

    def _check_header(self, where: Where) -> None:
        """Notes a size beyond the end, which libsndfile corrects silently but writes to its log."""
        log = self.file.extra_info
        sizes = r"(?:data|SSND|Data Size|riff) *: (\d+) \(should be (\d+)\)"
        for claimed, held in re.findall(sizes, log):
            # Writers to a pipe cannot know the size: they leave 0 or the greatest number.
            if int(held) < int(claimed) < UNKNOWN_SIZE:
                self._cut_short(int(held), int(claimed), "bytes")
        if self.file.format == "RF64" and (other := overstated(where)):
            self._cut_short(other[1], other[0], "bytes")
        for stated, held in re.findall(r"Bytes/sec *: ([1-9]\d*) \(should be (\d+)\)", log):
            self.notes.append(
                f"its header contradicts itself: {self.rate} Hz are {held} bytes per second, not "
                f"{stated}; it is read at {self.rate} Hz: listen to it to check"
            )
        if self.file.format == "OGG" and ends_within_ogg_page(where):
            self.notes.append("is truncated within its last page; what is before it is read")

    def _cut_short(self, held: int, claimed: int, unit: str) -> None:
        self.notes.append(other_length(held, claimed, unit))

    def blocks(self, first: int = 0) -> Iterator[Samples]:
        """The sound from sample `first` on, about a second at a time."""
        at = 0
        stated = min(self.claimed or 0, self.file.frames)
        seeks = self.claimed is not None and first <= stated and self.file.can_seek()
        while True:
            try:
                if seeks:
                    # Also to 0: after a seek some decoders differ in the last bit; all must agree.
                    at, seeks = int(self.file.seek(first)), False
                block = self._mix(self.file.read(READ_FRAMES, dtype="float32", always_2d=True))
            except soundfile.SoundFileError as error:
                yield from self._rest(max(at, first), error)
                return
            if not len(block):
                break
            if at + len(block) > first:
                yield block[max(0, first - at) :]
            at += len(block)
        if self.claimed is not None and at != self.claimed:
            self._cut_short(at, self.claimed, "samples")

    def _rest(self, at: int, error: Exception) -> Iterator[Samples]:
        """The sound after a place where libsndfile gives up; FFmpeg skips what is damaged."""
        reason = str(getattr(error, "error_string", error)).strip().rstrip(".")
        self.notes.append(f"is truncated or damaged ({reason}); what can be decoded is read")
        begin = at
        try:
            # closed also where the caller wants no further block, or FFmpeg fails on the way
            with closing(Container(self.name, self.where, self.mixed)) as other:
                for block in other.blocks(at):
                    yield block
                    at += len(block)
        except AudioError:  # FFmpeg is not here, or reads nothing of it
            if not begin:
                raise error from None
        if self.claimed is not None and at != self.claimed:
            self._cut_short(at, self.claimed, "samples")


def _stated_samples(head: bytes) -> int:
    """Samples per channel by the header of FLAC (36 bits) or NIST SPHERE; 0 if it states none."""
    if head[:4] == b"fLaC" and len(head) >= 26:
        return int.from_bytes(head[21:26], "big") & ((1 << 36) - 1)
    match = re.search(rb"\nsample_count -i (\d+)", head) if head[:7] == b"NIST_1A" else None
    return int(match[1]) if match else 0

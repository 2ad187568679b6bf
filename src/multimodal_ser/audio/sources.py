"""A path, bytes or file object → what a decoder reads, and its format by its first bytes."""

from __future__ import annotations

import io
import mmap
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TypeAlias

from multimodal_ser.common.files import LFS_POINTER
from multimodal_ser.errors import AudioError

Where: TypeAlias = "Path | io.BytesIO"
View: TypeAlias = "memoryview | mmap.mmap"

# Formats that libsndfile misreads behind a tag that is meant for mp3 files.
_TAGGED = (b"RIFF", b"RF64", b"FORM", b"fLaC", b"OggS", b"caff", b".snd", b"riff")
_PLAIN = (*_TAGGED, b"RIFX", b"BW64", b"Creative Voice File", b"NIST_1A")
EMPTY_TAG = b"ID3\4\0\0\0\0\0\x0a" + bytes(10)  # an ID3v2 tag with nothing but padding
_ID3V1 = 128  # bytes
_SEARCHED = 1 << 20  # bytes that are searched for the changes of a transfer in text mode
_CHANCE = 16  # such changes may occur by chance
READABLE = (
    "wav, flac, mp3, ogg, AIFF, AU, CAF, W64; with the extra 'video' all that FFmpeg reads, such "
    "as mp4, m4a, mov, mkv, webm, avi, ts, flv, wma, wmv, aac, ac3, amr, gsm"
)
# Formats that only FFmpeg reads, by their first bytes. The names are for messages; FFmpeg itself
# recognises the formats on its own.
_MEDIA: dict[str, Callable[[bytes], bool]] = {
    "an MP4, M4A or QuickTime file": lambda head: head[4:8]
    in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"styp", b"moof"),
    "a Matroska or WebM file": lambda head: head[:4] == b"\x1aE\xdf\xa3",
    "an AVI file": lambda head: head[:4] == b"RIFF" and head[8:12] == b"AVI ",
    "a WMA, WMV or ASF file": lambda head: head[:4] == b"\x30\x26\xb2\x75",
    "an FLV file": lambda head: head[:4] == b"FLV\x01",
    "an MPEG transport stream": lambda head: any(
        all(head[first + step * n : first + step * n + 1] == b"\x47" for n in range(4))
        for first, step in ((0, 188), (4, 192), (0, 204))
    ),
    "an MPEG program stream": lambda head: head[:4] == b"\0\0\x01\xba",
    "AMR speech": lambda head: head[:5] == b"#!AMR",
    "AAC (ADTS)": lambda head: head[:1] == b"\xff" and head[1:2] in b"\xf0\xf1\xf8\xf9",
    "AC-3": lambda head: head[:2] == b"\x0b\x77",
    "DTS": lambda head: head[:4] == b"\x7f\xfe\x80\x01",
    "raw GSM 06.10": lambda head: len(head) >= 99 and all(b >> 4 == 0xD for b in head[:99:33]),
    "a NUT file": lambda head: head[:4] == b"nut/",
    "RealMedia": lambda head: head[:4] in (b".RMF", b".ra\xfd"),
    "WavPack": lambda head: head[:4] == b"wvpk",
    "Monkey's Audio": lambda head: head[:4] == b"MAC ",
    "True Audio": lambda head: head[:4] == b"TTA1",
    "Musepack": lambda head: head[:4] == b"MPCK" or head[:3] == b"MP+",
}  # fmt: skip


def located(name: str, source: object) -> Where:
    """An absolute path of a file, or the bytes: no URL or other scheme can reach a decoder."""
    if isinstance(source, str | Path):
        path = Path(source).absolute()
        if not str(source):
            raise AudioError("the name of the recording is empty; give the path of a file")
        if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", str(source)) and not path.exists():
            raise AudioError(
                f"{name}: is an address, not a file; give a path or bytes, or the content on "
                "standard input, -"
            )
        try:
            if path.is_dir():
                raise AudioError(f"{name}: is a folder, not a recording; pass one of its files")
            if path.exists() and not path.is_file():
                raise AudioError(
                    f"{name}: is a pipe or device, no file; give its content on standard input, -"
                )
            if not path.is_file():
                raise AudioError(f"{name}: no such file; looked for {path}")
            if path.stat().st_size == 0:
                raise AudioError(f"{name}: is empty (0 bytes); fetch it again")
        except (OSError, ValueError) as error:  # a name too long, or with a zero byte
            reason = getattr(error, "strerror", None) or error
            raise AudioError(f"{name[:80]}: cannot be a file's name ({reason})") from error
        return path
    try:
        data = source.read() if hasattr(source, "read") else source
    except (OSError, ValueError) as error:  # closed, or opened for text or for writing
        raise AudioError(
            f"{name}: cannot be read ({error}); give a file object opened in binary mode, 'rb'"
        ) from error
    data = bytes(data) if isinstance(data, bytearray | memoryview) else data
    if not isinstance(data, bytes):
        raise AudioError(
            f"{name}: gives {type(data).__name__}; allowed: a path, bytes, a file object opened "
            "in binary mode, or an array with sample_rate="
        )
    if not data:
        again = "; was it read before? then seek(0)" if hasattr(source, "read") else ""
        raise AudioError(f"{name}: is empty (0 bytes){again or '; fetch it again'}")
    return io.BytesIO(data)


@contextmanager
def content(where: Where) -> Iterator[View]:
    """A view of all bytes, without a copy."""
    if isinstance(where, io.BytesIO):
        with where.getbuffer() as view:
            yield view
        return
    with where.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
        yield view


def peek(where: Where, offset: int, size: int = 4096) -> bytes:
    """`size` bytes from `offset` on; a negative offset counts from the end."""
    with content(where) as view:
        first = max(0, offset + len(view) if offset < 0 else offset)
        return bytes(view[first : first + size])


def part(where: Where, ranges: Sequence[tuple[int, int]]) -> io.BytesIO:
    """The bytes of the (first, last) ranges, copied."""
    with content(where) as view:
        return io.BytesIO(b"".join(bytes(view[first:last]) for first, last in ranges))


def past_tags(where: Where) -> Where:
    """The recording without tags of mp3 files: ID3v2 before other formats, ID3v1 after FLAC."""
    with content(where) as view:
        begin, end = after_id3(view), len(view)
        flac = view[begin : begin + 4] == b"fLaC"
        end -= _ID3V1 if flac and bytes(view[-_ID3V1:]).startswith(b"TAG") else 0
        whole = begin == 0 and end == len(view)
    head = peek(where, begin)
    if whole or not (head.startswith(_TAGGED) or media_kind(head)):
        return where
    return part(where, [(begin, end)])


def after_id3(view: View, at: int = 0) -> int:
    """The position behind the ID3v2 tags that begin at `at`, if there are any."""
    while view[at : at + 3] == b"ID3" and at + 10 <= len(view):
        # Sizes are "synchsafe", seven bits in each byte, so that no byte looks like the start of a
        # frame; a footer repeats the 10 bytes of the header.
        size = sum((byte & 0x7F) << 7 * (3 - i) for i, byte in enumerate(view[at + 6 : at + 10]))
        at += 10 + size + (10 if view[at + 5] & 0x10 else 0)
    return at


def media_kind(head: bytes) -> str | None:
    """The name of a format that only FFmpeg reads; None if libsndfile should try first."""
    return next((name for name, fits in _MEDIA.items() if fits(head)), None)


def is_other(head: bytes) -> bool:
    """Whether first bytes are those of a format that is read, but not of an mp3 file."""
    return head.startswith(_PLAIN) or media_kind(head) is not None


def is_known(head: bytes) -> bool:
    """Whether first bytes are those of a format that is read."""
    frame = head[:1] == b"\xff" and head[1:2] >= b"\xe0"  # of MPEG audio
    return frame or head.startswith(b"ID3") or is_other(head)


def refuse_text(name: str, where: Where) -> None:
    """Raises AudioError for text, Git LFS pointers, and sound that was copied as text."""
    data = peek(where, 0, _SEARCHED)
    head = data[:4096]
    if head.startswith(LFS_POINTER):
        raise AudioError(
            f"{name}: is a Git LFS pointer, not the sound itself; run `git lfs pull` in its folder"
        )
    if head.isascii() and not any(byte < 9 for byte in head) and not head.startswith(b"#!AMR"):
        raise AudioError(f"{name}: is text, not audio; allowed: {READABLE}")
    # Text mode puts a carriage return before every line feed, or U+FFFD in place of bytes that are
    # no UTF-8. In sound, few line feeds follow a carriage return, and U+FFFD hardly occurs.
    pairs = data.count(b"\r\n")
    alone = data.count(b"\r") - pairs
    if (pairs == data.count(b"\n") and min(pairs, alone) > _CHANCE) or (
        data.count(b"\xef\xbf\xbd") > _CHANCE
    ):
        raise AudioError(
            f"{name}: was altered by a transfer in text mode; copy it again in binary mode"
        )


class Patched:
    """A binary file that reads with other bytes in some places; nothing is copied or written.

    It has no name: libsndfile and FFmpeg would take any bytes for sound whose name ends in .au or
    .gsm, for example.

    Args:
        file: the file.
        bytes_at: position in the file → the bytes that are read there.
        begin: position in the file before which `before` is read instead of what is there.
        before: these bytes.
    """

    def __init__(
        self, file: BinaryIO, bytes_at: Mapping[int, bytes], begin: int = 0, before: bytes = b""
    ) -> None:
        self.file, self.bytes_at, self.before = file, bytes_at, before
        self._shift = begin - len(before)
        self._at = 0

    def seek(self, offset: int, whence: int = 0) -> int:
        """As a file's `seek`."""
        if whence == 1:
            offset += self._at
        elif whence == 2:
            offset += self.file.seek(0, 2) - self._shift
        self._at = offset
        return self._at

    def tell(self) -> int:
        """As a file's `tell`."""
        return self._at

    def read(self, size: int = -1) -> bytes:
        """As a file's `read`, with the other bytes."""
        first = self.before[self._at :][: size if size >= 0 else None]
        start = self.file.seek(max(self._at, len(self.before)) + self._shift)
        found = bytearray(self.file.read(size - len(first) if size >= 0 else -1))
        for at, wanted in self.bytes_at.items():
            for place, byte in enumerate(wanted, at - start):
                if 0 <= place < len(found):
                    found[place] = byte
        self._at += len(first) + len(found)
        return first + bytes(found)

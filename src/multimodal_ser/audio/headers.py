"""What headers say of lengths, where decoders believe them: joined files, crashed recorders.

`cat a.ogg b.ogg` is a legal Ogg file, and mp3, flac and wav files are joined in the same way.
Decoders stop at the length that the first header states. Only `decode` uses this.
"""

from __future__ import annotations

import mmap
import re
import struct
from collections.abc import Iterator
from itertools import pairwise

from multimodal_ser.audio.sources import Where, content

_OGG_BEGINS = re.compile(rb"OggS\0[\x02\x03\x06\x07]")  # the flag of a stream's first page
_FLAC_BEGINS = re.compile(rb"fLaC[\0\x80]\0\0\x22")  # the block of 34 bytes that comes first
_CHUNKS = {b"RIFF": "<I", b"RIFX": ">I", b"FORM": ">I"}
_ID3 = 10  # bytes of its header


def joins(where: Where, head: bytes) -> list[tuple[int, int]]:
    """The (first, last) bytes of each recording of a file that holds several, one after another.

    Args:
        where: the file.
        head: its first bytes.
    """
    with content(where) as view:
        size = len(view)
        if head[:4] == b"OggS":
            starts = list(_ogg_starts(view))
        elif head[:4] == b"fLaC":
            starts = [match.start() for match in _FLAC_BEGINS.finditer(view)]
        elif head[:4] in _CHUNKS:
            starts = list(_chunk_starts(view, head[:4]))
        else:
            starts = [0]
    edges = [0, *(start for start in starts if start), size]
    return list(pairwise(edges))


def _ogg_starts(view: memoryview | mmap.mmap) -> Iterator[int]:
    """Streams that sound at the same time begin side by side; a new recording begins after data."""
    follows = 0
    for match in _OGG_BEGINS.finditer(view):
        start = match.start()
        if start != follows:
            yield start
        header = start + 27 + (view[start + 26] if start + 26 < len(view) else 0)
        follows = header + sum(view[start + 27 : header])


def _chunk_starts(view: memoryview | mmap.mmap, kind: bytes) -> Iterator[int]:
    at = 0
    while bytes(view[at : at + 4]) == kind and at + 12 <= len(view):
        yield at
        (length,) = struct.unpack(_CHUNKS[kind], view[at + 4 : at + 8])
        at += 8 + length + length % 2


def unfinished_wav(where: Where) -> tuple[int, int] | None:
    """Where the header of a WAV file states no sound although some follows, and how much.

    Recorders that crash leave 0 where the size of the sound belongs. A chunk of 0 bytes that
    another chunk follows is no such case: the file is empty.

    Returns:
        The place of the size, and the bytes that follow it; None for all other files.
    """
    with content(where) as view:
        at = 12
        while at + 8 <= len(view):
            name, (length,) = bytes(view[at : at + 4]), struct.unpack("<I", view[at + 4 : at + 8])
            if name != b"data":
                at += 8 + length + length % 2
                continue
            rest = len(view) - at - 8
            if length == 0 and rest and not _is_chunk(bytes(view[at + 8 : at + 16]), rest):
                return at + 4, rest
            return None
    return None


def _is_chunk(head: bytes, rest: int) -> bool:
    printable = head[:4].isascii() and head[:4].decode("ascii").isprintable()
    return len(head) == 8 and printable and struct.unpack("<I", head[4:])[0] <= rest - 8


def flac_total(head: bytes) -> int:
    """Samples per channel that a FLAC header states; 0 where it states none."""
    return int.from_bytes(head[21:26], "big") & ((1 << 36) - 1) if len(head) >= 26 else 0


def mp3_length(where: Where) -> tuple[bool, bool]:
    """Whether an mp3 file states its length, and whether more mp3 follows after that length.

    The length stands in the first frame, with the tag Xing, Info or VBRI.
    """
    with content(where) as view:
        start = 0
        while bytes(view[start : start + 3]) == b"ID3" and start + _ID3 <= len(view):
            start += _ID3 + sum(
                (byte & 0x7F) << 7 * (3 - i) for i, byte in enumerate(view[start + 6 : start + 10])
            )
        frame = bytes(view[start : start + 4096])
        if not (tag := re.search(rb"Xing|Info|VBRI", frame)):
            return False, False
        stated = _stated_bytes(frame[tag.start() :])
        tail = bytes(view[start + stated : start + stated + 4]) if stated else b""
    sync = len(tail) > 1 and tail[0] == 0xFF and tail[1] & 0xE0 == 0xE0
    return True, sync or tail[:3] == b"ID3"


def _stated_bytes(tag: bytes) -> int:
    """Bytes of the mp3 frames by its first frame; 0 where they are not stated."""
    if tag[:4] == b"VBRI":
        return int.from_bytes(tag[10:14], "big")
    flags = int.from_bytes(tag[4:8], "big")
    at = 8 + (4 if flags & 1 else 0)  # behind the number of frames
    return int.from_bytes(tag[at : at + 4], "big") if flags & 2 else 0

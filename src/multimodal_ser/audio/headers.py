"""Lengths in headers that decoders would believe: of joined files and of crashed recorders.

`cat a.ogg b.ogg` makes a legal Ogg file, and other formats can be joined in the same way. Decoders
stop at the length that the first header states. Only `decode` uses this.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Literal, NamedTuple, TypeAlias

from multimodal_ser.audio.mp3 import View
from multimodal_ser.audio.sources import Where, content

_OGG_BEGINS = re.compile(rb"OggS\0[\x02\x03\x06\x07]")  # with the flag of a stream's first page
_Order: TypeAlias = Literal["big", "little"]
# Where chunks begin, the bytes and order of their sizes, and the name of the one with the sound.
_CHUNKS: dict[bytes, tuple[int, int, _Order, bytes]] = {
    b"RIFF": (12, 4, "little", b"data"),
    b"RF64": (12, 4, "little", b"data"),
    b"BW64": (12, 4, "little", b"data"),
    b"FORM": (12, 4, "big", b"SSND"),
    b"caff": (8, 8, "big", b"data"),
}
_TRAILER = 4096  # bytes behind the sound that may be anything
_OGG_PAGE = re.compile(rb"OggS\0")
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
_FLAC_BEGINS = re.compile(rb"fLaC[\0\x80]\0\0\x22")  # followed by STREAMINFO, 34 bytes


def joins(where: Where, head: bytes) -> list[tuple[int, int]]:
    """The (first, last) bytes of each recording in a file that holds one or several in sequence.

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
        else:  # formats whose parts state their own length
            walks = [walk for (at, magic), walk in _WALKS.items() if head[at:].startswith(magic)]
            starts = list(walks[0](view)) if walks else [0]
    edges = [0, *(start for start in starts if start), size]
    return list(pairwise(edges))


def _ogg_starts(view: View) -> Iterator[int]:
    """Starts of recordings: simultaneous streams begin on adjacent pages, new ones after data."""
    follows = 0
    for match in _OGG_BEGINS.finditer(view):
        start = match.start()
        if start != follows:
            yield start
        header = start + 27 + (view[start + 26] if start + 26 < len(view) else 0)
        follows = header + sum(view[start + 27 : header])


def lost_ogg_pages(where: Where) -> int:
    """How many pages of an Ogg file are damaged or missing: decoders skip them without a word."""
    lost, follows, sound = 0, 0, True
    number: dict[bytes, int] = {}
    with content(where) as view:
        for match in _OGG_PAGE.finditer(view):
            start = match.start()
            if start < follows or start + 27 > len(view):
                continue
            header = start + 27 + view[start + 26]
            end = header + sum(view[start + 27 : header])
            page = bytes(view[start:end])
            sound = end > len(view) or _page_hash(page) == int.from_bytes(page[22:26], "little")
            if sound:
                stream, own = page[14:18], int.from_bytes(page[18:22], "little")
                lost += max(0, own - number.get(stream, own))
                number[stream], follows = own + 1, end
    return lost + (not sound)  # the last one is followed by none that shows that it is missing


def _page_hash(page: bytes) -> int:
    """The checksum of an Ogg page (RFC 3533), whose bits are in the reverse of zlib's order."""
    bits = (page[:22] + bytes(4) + page[26:]).translate(_REVERSED)
    return int(f"{zlib.crc32(bits, 0xFFFF_FFFF) ^ 0xFFFF_FFFF:032b}"[::-1], 2)


def _number(view: View, at: int, size: int = 4, order: _Order = "big") -> int:
    return int.from_bytes(view[at : at + size], order)


def _riff_starts(view: View) -> Iterator[int]:
    kind, at = bytes(view[:4]), 0
    while bytes(view[at : at + 4]) == kind and at + 12 <= len(view):
        yield at
        length = _number(view, at + 4, order="little" if kind == b"RIFF" else "big")
        # Chunks of RIFF and AIFF are padded to an even length.
        at += 8 + length + length % 2


def _mp4_starts(view: View) -> Iterator[int]:
    at = 0
    while at + 8 <= len(view):
        length = _number(view, at)
        if bytes(view[at + 4 : at + 8]) == b"ftyp":
            yield at
        if length == 1:  # the size is in the following 64 bits
            length = _number(view, at + 8, 8)
        if length < 8:  # 0: up to the end of the file
            return
        at += length


def _flv_starts(view: View) -> Iterator[int]:
    at = 0
    while at + 11 <= len(view):
        if bytes(view[at : at + 4]) == b"FLV\x01":
            yield at
            at += max(9, _number(view, at + 5)) + 4
        else:
            at += 11 + _number(view, at + 1, 3) + 4


def _caf_starts(view: View) -> Iterator[int]:
    at = 0
    while at + 8 <= len(view):
        if bytes(view[at : at + 4]) == b"caff":
            yield at
            at += 8
        else:  # a size of -1 means up to the end
            at += 12 + _number(view, at + 4, 8)


def _au_starts(view: View) -> Iterator[int]:
    at = 0
    while bytes(view[at : at + 4]) == b".snd":
        yield at
        at += max(24, _number(view, at + 4)) + _number(view, at + 8)


def _wavpack_starts(view: View) -> Iterator[int]:
    at = 0
    while bytes(view[at : at + 4]) == b"wvpk":
        first = _number(view, at + 16, order="little") == 0  # index of the block's first sample
        # flag: first of its channels
        if first and _number(view, at + 24, order="little") >> 11 & 1:
            yield at
        at = _after_tag(view, at + 8 + _number(view, at + 4, order="little"))


def _after_tag(view: View, at: int) -> int:
    """The position behind an APE tag, if there is one at `at`."""
    if bytes(view[at : at + 8]) != b"APETAGEX":
        return at
    return at + 32 + _number(view, at + 12, order="little")


def _tta_starts(view: View) -> Iterator[int]:
    at = 0
    while bytes(view[at : at + 4]) == b"TTA1":
        yield at
        rate, samples = (_number(view, at + place, order="little") for place in (10, 14))
        # A TTA frame lasts 256 / 245 s; a table of frame sizes and a checksum follow the header.
        frames = -(-samples * 245 // (256 * rate)) if rate else 0
        table = at + 22
        sizes = (_number(view, table + 4 * n, order="little") for n in range(frames))
        if table + 4 * frames > len(view):
            return
        at = _after_tag(view, table + 4 * frames + 4 + sum(sizes))


_WALKS: dict[tuple[int, bytes], Callable[[View], Iterator[int]]] = {
    (0, b"RIFF"): _riff_starts,
    (0, b"RIFX"): _riff_starts,
    (0, b"FORM"): _riff_starts,
    (4, b"ftyp"): _mp4_starts,
    (0, b"FLV\x01"): _flv_starts,
    (0, b"caff"): _caf_starts,
    (0, b".snd"): _au_starts,
    (0, b"wvpk"): _wavpack_starts,
    (0, b"TTA1"): _tta_starts,
}


class Understated(NamedTuple):
    """A header that states less sound than follows it.

    Attributes:
        patch: position of the length, and the bytes that state all that follows.
        stated: bytes of sound by the header.
        rest: bytes that follow.
    """

    patch: dict[int, bytes]
    stated: int
    rest: int


def understated(where: Where) -> Understated | None:
    """Finds a header that states less sound than follows; None for all other files.

    Recorders that crash leave 0 in place of the size of the sound, or the size of a while ago.
    Sound of the stated size that is followed by another chunk, a tag or padding is whole.
    """
    with content(where) as view:
        found = _sound_size(view)
        if found is None:
            return None
        at, size, order, begin = found
        stated, rest = _number(view, at, size, order), len(view) - begin
        if stated >= rest or _is_whole(view, begin, stated):
            return None
        most = min(rest, (1 << 8 * size) - 2)  # the greatest number means that it is not known
        return Understated({at: most.to_bytes(size, order)}, stated, rest)


def _sound_size(view: View) -> tuple[int, int, _Order, int] | None:
    """Position, bytes and order of the size of the sound, and where what it counts begins."""
    if view[:4] == b".snd":
        return 8, 4, "big", _number(view, 4)
    if (form := _CHUNKS.get(bytes(view[:4]))) is None:
        return None
    at, size, order, sound = form
    while at + 4 + size <= len(view):
        name, length = bytes(view[at : at + 4]), _number(view, at + 4, size, order)
        begin = at + 4 + size
        if name == sound and length == 0xFFFF_FFFF and view[12:16] == b"ds64":
            return 28, 8, order, begin  # RF64 has it in a first chunk of 64-bit sizes
        if name == sound:
            return at + 4, size, order, begin
        at = begin + length + (length % 2 if size == 4 else 0)
    return None


def _is_whole(view: View, begin: int, stated: int) -> bool:
    """Whether what follows the stated sound is something else than more of it."""
    end = begin + stated
    if stated and (len(view) - end < _TRAILER or not any(view[end : end + _TRAILER])):
        return True
    padded = end + stated % 2
    return any(_is_chunk(bytes(view[at : at + 8]), len(view) - at) for at in (end, padded))


def _is_chunk(head: bytes, rest: int) -> bool:
    if head.startswith((b"TAG", b"ID3", b"APETAGEX")):
        return True
    printable = head[:4].isascii() and head[:4].decode("ascii").isprintable()
    # the order of RIFF, of AIFF, and CAF's 64 bits, whose upper half is 0
    sizes = [struct.unpack(order, head[4:])[0] for order in ("<I", ">I")] if len(head) == 8 else []
    return printable and any(size <= rest - 8 for size in sizes)


def flac_total(head: bytes) -> int:
    """Samples per channel by a FLAC header (36 bits of STREAMINFO); 0 if it states none."""
    return int.from_bytes(head[21:26], "big") & ((1 << 36) - 1) if len(head) >= 26 else 0

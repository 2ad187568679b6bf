"""The pages of an Ogg file: where recordings begin, and what is damaged or missing.

Only `headers`, `sndfile` and `decode` use this.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator

from multimodal_ser.audio.mp3 import View
from multimodal_ser.audio.sources import Where, content, peek

_OGG_BEGINS = re.compile(rb"OggS\0[\x02\x03\x06\x07]")  # with the flag of a stream's first page
_OGG_PAGE = re.compile(rb"OggS\0")
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
_LONGEST = 27 + 255 + 255 * 255  # bytes of the longest page: header, segment table, segments


def ogg_starts(view: View) -> Iterator[int]:
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


def ends_within_ogg_page(where: Where) -> bool:
    """Whether an Ogg file stops in the middle of a page."""
    # A page states its length in a table of segments; the last page must be as long as it states.
    tail = peek(where, -_LONGEST, _LONGEST)
    page = tail[tail.rfind(b"OggS") :]
    header = 27 + (page[26] if len(page) > 26 else 1)
    return len(page) < header + sum(page[27:header])

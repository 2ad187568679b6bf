"""The frames of an mp3 file and the pages of an Ogg file: where recordings begin, what is missing.

Joined recordings, tags between them and frames of another rate make libsndfile stop where the first
recording of an mp3 file ends. Only `decode`, `headers` and `sndfile` use this.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

from multimodal_ser.audio.sources import View, Where, after_id3, content, is_other, peek

# kbit/s by index, for MPEG 1 layers 1, 2, 3 and MPEG 2 layers 1, 2 and 3 (ISO/IEC 11172-3, 13818-3)
_KBITS = {
    (True, 1): (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_RATES = (44_100, 48_000, 32_000)  # Hz, of MPEG 1; half of it for MPEG 2, a quarter for 2.5
_SLOWER = {3: 1, 2: 2, 0: 4}  # divisor of the rate, by the two version bits of a header
_SYNC = re.compile(rb"\xff[\xe2-\xff]")  # eleven bits that are 1 begin a frame
_SURE = 4  # frames in a row that are not in a file by chance
_NEAR = 1 << 17  # bytes after the tags within which the first frame must begin
_OGG_BEGINS = re.compile(rb"OggS\0[\x02\x03\x06\x07]")  # with the flag of a stream's first page
_OGG_SOUND = (b"\x01vorbis", b"OpusHead", b"\x7fFLAC", b"fLaC", b"Speex   ")
_OGG_PAGE = re.compile(rb"OggS\0")
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
_LONGEST = 27 + 255 + 255 * 255  # bytes of the longest page: header, segment table, segments


class Frame(NamedTuple):
    """One frame: its position, size in bytes, layer, rate and channels, and its bits per second."""

    at: int
    size: int
    kind: tuple[int, int, int]
    speed: int


def mp3_begin(where: Where) -> int | None:
    """Where the first frame of an mp3 file begins, behind tags and whatever else; else None."""
    with content(where) as view:
        if is_other(bytes(view[:1024])):
            return None
        first = list(islice(_frames(view), _SURE))
    ends = [frame.at + frame.size for frame in first]
    follow = [one.at for one in first[1:]] == ends[:-1] and len(first) == _SURE
    return first[0].at if follow else None


def mp3_length(where: Where) -> tuple[bool, bool]:
    """Whether mp3 frames state their length, and whether a decoder may stop before their end.

    The length is in the first frame, in a tag Xing, Info or VBRI. Without it, decoders estimate the
    length from the size and the first bit rates, which is wrong where the bit rate varies.
    """
    with content(where) as view:
        frames = _frames(view)
        if (first := next(frames, None)) is None:
            return False, False
        stated = _stated_frames(bytes(view[first.at : first.at + first.size]))
        count, broken, end = 0, False, first.at + first.size
        speeds = set[int]()  # without the first frame's, which may be a tag's own
        for frame in frames:
            count += 1
            speeds.add(frame.speed)
            broken |= frame.at != end or frame.kind != first.kind
            end = frame.at + frame.size
    return stated is not None, broken or (count > stated + 1 if stated else len(speeds) > 1)


def _frames(view: View) -> Iterator[Frame]:
    """All frames of an mp3 file, none of another: the first must be followed by one of its kind."""
    at = after_id3(view)
    last = min(len(view), at + _NEAR)
    while (found := _begins(view, at, last)) is not None:
        frame: Frame | None = found
        while frame is not None:
            yield frame
            at = frame.at + frame.size
            frame = _frame(view, at)
        at = after_id3(view, at)
        last = len(view)


def _begins(view: View, first: int, last: int) -> Frame | None:
    for match in _SYNC.finditer(view, first, last):
        frame = _frame(view, match.start())
        following = frame and _frame(view, frame.at + frame.size)
        if frame and following and following.kind[:2] == frame.kind[:2]:
            return frame
    return None


def _frame(view: View, at: int) -> Frame | None:
    """The frame whose header is at a position; None if there is none."""
    head = int.from_bytes(view[at : at + 4], "big")
    if at + 4 > len(view) or head >> 21 != 0x7FF:
        return None
    # The bits of a header, ISO/IEC 11172-3, 2.4.1.3.
    version, layer, rate = head >> 19 & 3, 4 - (head >> 17 & 3), head >> 10 & 3
    bits, padding = head >> 12 & 15, head >> 9 & 1
    if version == 1 or layer == 4 or rate == 3 or bits in (0, 15):
        return None
    hertz = _RATES[rate] // _SLOWER[version]
    per_second = 1000 * _KBITS[version == 3, layer][bits]
    # Layer 1 has 384 samples per frame in slots of 4 bytes; layer 2 and MPEG 1's layer 3 have 1,152
    # samples, MPEG 2's layer 3 has 576: samples / 8 bits · bit rate / sample rate.
    if layer == 1:
        size = 4 * (12 * per_second // hertz + padding)
    else:
        size = (144 if version == 3 or layer == 2 else 72) * per_second // hertz + padding
    return Frame(at, size, (layer, hertz, 1 if head >> 6 & 3 == 3 else 2), per_second)


def _stated_frames(frame: bytes) -> int | None:
    """The number of following frames by the tag; 0 if it does not say, None without a tag."""
    if not (tag := re.search(rb"Xing|Info|VBRI", frame)):
        return None
    text = frame[tag.start() :]
    if text[:4] == b"VBRI":
        return int.from_bytes(text[14:18], "big")
    return int.from_bytes(text[8:12], "big") if text[7:8] and text[7] & 1 else 0


def ogg_starts(view: View) -> Iterator[int]:
    """Starts of recordings: simultaneous streams begin on adjacent pages, new ones after data."""
    follows = 0
    for match in _OGG_BEGINS.finditer(view):
        start = match.start()
        if start != follows:
            yield start
        header = start + 27 + (view[start + 26] if start + 26 < len(view) else 0)
        follows = header + sum(view[start + 27 : header])


def ogg_tracks(where: Where) -> int:
    """How many streams of sound an Ogg file has at a time; libsndfile reads only the first."""
    count, at = 0, 0
    with content(where) as view:
        while _OGG_BEGINS.match(view, at):
            header = at + 27 + (view[at + 26] if at + 26 < len(view) else 0)
            count += bytes(view[header : header + 8]).startswith(_OGG_SOUND)
            at = header + sum(view[at + 27 : header])
    return count


def lost_ogg_pages(where: Where) -> int:
    """How many pages of an Ogg file are damaged or missing: decoders skip them silently."""
    lost, follows, sound = 0, 0, True
    number: dict[bytes, int] = {}  # of the next page, by stream
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
    # A damaged page is counted when the next one's number leaves a gap; the last has no next one.
    return lost + (not sound)


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

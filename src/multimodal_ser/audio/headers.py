"""Wrong lengths in headers, which decoders would believe: joined files, crashed recorders.

`cat a.ogg b.ogg` makes a legal Ogg file, and other formats can be joined in the same way. Decoders
stop at the length that the first header states. Only `decode` uses this.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator
from itertools import pairwise, takewhile
from typing import Literal, NamedTuple, TypeAlias

from multimodal_ser.audio.framing import ogg_starts
from multimodal_ser.audio.sources import View, Where, content

_Order: TypeAlias = Literal["big", "little"]
# Where chunks begin, the bytes and order of their sizes, and the name of the one with the sound.
_CHUNKS: dict[bytes, tuple[int, int, _Order, bytes]] = {
    b"RIFF": (12, 4, "little", b"data"),
    b"RF64": (12, 4, "little", b"data"),
    b"BW64": (12, 4, "little", b"data"),
    b"FORM": (12, 4, "big", b"SSND"),
    b"caff": (8, 8, "big", b"data"),
}
_TRAILER = 4096  # bytes: fewer than these after the sound are no sound, whatever they are
_NOT_ZERO = re.compile(rb"[^\0]")
# The first bytes of a recording by format; FLAC begins with its block STREAMINFO of 34 bytes.
_BEGINS = {
    b"fLaC": re.compile(rb"fLaC[\0\x80]\0\0\x22"),
    b"#!AM": re.compile(rb"#!AMR(?:-WB)?\n"),
    b"RIFF": re.compile(rb"RIFF.{4}WAVE[ -~]{4}", re.DOTALL),
}
UNKNOWN_SIZE = 0x7FFF_0000  # sizes from here on are written to a pipe, before they are known
_SLACK = 16  # bytes of padding that may be missing at the end
# The end of a part, and whether the part is the first of a recording; None where there is no part.
_Step: TypeAlias = "tuple[int, bool] | None"
Ranges: TypeAlias = "list[tuple[int, int]]"  # (first, last) bytes


class _Chunk(NamedTuple):
    """A chunk: where it and its content begin, its stated length, its end, whether it is sound."""

    at: int
    begin: int
    length: int
    end: int
    sound: bool


def joins(where: Where, head: bytes) -> list[Ranges]:
    """The bytes of each recording in a file that holds one or several in sequence.

    Args:
        where: the file.
        head: its first bytes.
    """
    with content(where) as view:
        size = len(view)
        # Where recordings that were joined begin, and where the last one ends.
        edges = [0, *(start for start in _starts(view, head) if start), size]
        chunks = [] if len(edges) > 2 else [chunk for chunk in _chunks(view) if chunk.sound]
        if len(chunks) < 2:
            return [[edge] for edge in pairwise(edges)]
        # Recorders that reserve, resume or close twice leave chunks without sound.
        sounds = [chunk for chunk in chunks if not _is_empty(view, chunk)] or chunks[:1]
    # Several chunks of sound behind one header: each is read as if it were the only one, with the
    # header and the chunks in between, but without the other chunks of sound.
    others = [(0, chunks[0].at), *((one.end, after.at) for one, after in pairwise(chunks))]
    ends = [(one.at, one.end if one.length else size) for one in sounds]
    return [[*(edge for edge in others if edge[0] < edge[1]), end] for end in ends]


def _starts(view: View, head: bytes) -> list[int]:
    """Where the recordings of a joined file begin; 0 may be missing."""
    if head[:4] == b"OggS":
        return list(ogg_starts(view))
    pattern = _BEGINS.get(head[:4])
    if pattern and head[:4] != b"RIFF":
        return [match.start() for match in pattern.finditer(view)]
    parts = list(_elements(view, head))  # formats whose parts state their own length
    if pattern and (not parts or parts[-1][1] < len(view)):  # written to a pipe, or crashed
        return [match.start() for match in pattern.finditer(view)]
    return [at for at, _, new in parts if new]


def cut_short(where: Where, head: bytes) -> tuple[int, int] | None:
    """The size that a file's parts state and its smaller real one; None if nothing is missing."""
    with content(where) as view:
        stated = max((end for _, end, _ in _elements(view, head)), default=0)
        return (stated, len(view)) if stated > len(view) + _SLACK else None


def _number(view: View, at: int, size: int = 4, order: _Order = "big") -> int:
    return int.from_bytes(view[at : at + size], order)


def _elements(view: View, head: bytes) -> Iterator[tuple[int, int, bool]]:
    """Parts of a file: where each begins and ends, and whether it begins a recording."""
    steps = [step for (at, magic), step in _STEPS.items() if head[at:].startswith(magic)]
    at = 0
    while steps and at < len(view) and (found := steps[0](view, at)):
        yield at, *found
        at = found[0]


def _riff(view: View, at: int) -> _Step:
    kind = bytes(view[:4])
    length = _number(view, at + 4, order="little" if kind == b"RIFF" else "big")
    if bytes(view[at : at + 4]) != kind or length >= UNKNOWN_SIZE:
        return None
    # Chunks of RIFF and AIFF are padded to an even length. A long AVI file continues in others.
    return at + 8 + length + length % 2, bytes(view[at + 8 : at + 12]) == bytes(view[8:12])


def _mp4(view: View, at: int) -> _Step:
    length, name = _number(view, at), bytes(view[at + 4 : at + 8])
    if length == 1:  # the size is in the following 64 bits
        length = _number(view, at + 8, 8)
    # 0: up to the end of the file
    return (at + length, name == b"ftyp") if length >= 8 and _is_name(name) else None


def _flv(view: View, at: int) -> _Step:
    if bytes(view[at : at + 4]) == b"FLV\x01":
        return at + max(9, _number(view, at + 5)) + 4, True
    kinds = (8, 9, 18)  # sound, pictures, data
    return (at + 15 + _number(view, at + 1, 3), False) if view[at] in kinds else None


def _caf(view: View, at: int) -> _Step:
    name, length = bytes(view[at : at + 4]), _number(view, at + 4, 8)
    if name == b"caff":
        return at + 8, True
    # a size of -1 means up to the end
    return (at + 12 + length, False) if _is_name(name) and length >> 63 == 0 else None


def _au(view: View, at: int) -> _Step:
    length = _number(view, at + 8)
    if bytes(view[at : at + 4]) != b".snd" or length >= UNKNOWN_SIZE:
        return None
    return at + max(24, _number(view, at + 4)) + length, True


def _ebml(view: View, at: int) -> _Step:
    """The header or the segment of Matroska; a size has as many bytes as its leading zeros say."""
    name, count = bytes(view[at : at + 4]), 9 - _number(view, at + 4, 1).bit_length()
    most = (1 << 7 * count) - 1  # all bits 1: not known
    length = _number(view, at + 4, count) & most
    if name not in (b"\x1aE\xdf\xa3", b"\x18S\x80g") or length == most:
        return None
    return at + 4 + count + length, name == bytes(view[:4])


def _guids(view: View, at: int) -> _Step:
    """ASF and Sony Wave64: a name of 16 bytes, and a size that includes name and size."""
    length = _number(view, at + 16, 8, "little")
    new = bytes(view[at : at + 16]) == bytes(view[:16])
    return (at + length, new) if 24 <= length < 1 << 62 else None


def _wavpack(view: View, at: int) -> _Step:
    if bytes(view[at : at + 4]) != b"wvpk":
        return None
    first = _number(view, at + 16, order="little") == 0  # index of the block's first sample
    # flag: first of its channels
    new = first and bool(_number(view, at + 24, order="little") >> 11 & 1)
    return _after_tag(view, at + 8 + _number(view, at + 4, order="little")), new


def _after_tag(view: View, at: int) -> int:
    """The position behind an APE tag, if there is one at `at`."""
    if bytes(view[at : at + 8]) != b"APETAGEX":
        return at
    return at + 32 + _number(view, at + 12, order="little")


def _tta(view: View, at: int) -> _Step:
    if bytes(view[at : at + 4]) != b"TTA1":
        return None
    rate, samples = (_number(view, at + place, order="little") for place in (10, 14))
    # A TTA frame lasts 256 / 245 s; a table of frame sizes and a checksum follow the header.
    frames = -(-samples * 245 // (256 * rate)) if rate else 0
    table = at + 22
    if table + 4 * frames > len(view):
        return table + 4 * frames, True
    sizes = (_number(view, table + 4 * n, order="little") for n in range(frames))
    return _after_tag(view, table + 4 * frames + 4 + sum(sizes)), True


_STEPS: dict[tuple[int, bytes], Callable[[View, int], _Step]] = {
    (0, b"RIFF"): _riff,
    (0, b"RIFX"): _riff,
    (0, b"FORM"): _riff,
    (4, b"ftyp"): _mp4,
    (0, b"FLV\x01"): _flv,
    (0, b"caff"): _caf,
    (0, b".snd"): _au,
    (0, b"\x1aE\xdf\xa3"): _ebml,
    (0, b"\x30\x26\xb2\x75"): _guids,
    (0, b"riff\x2e\x91\xcf\x11"): _guids,
    (0, b"wvpk"): _wavpack,
    (0, b"TTA1"): _tta,
}


def misspelt(where: Where) -> dict[int, bytes]:
    """Position → usual name of the chunk of sound if its name is in another case; else empty."""
    with content(where) as view:
        at = next((chunk.at for chunk in _chunks(view) if chunk.sound), None)
        usual = b"" if at is None else _CHUNKS[bytes(view[:4])][3]
        return {} if at is None or view[at : at + 4] == usual else {at: usual}


def repadded(where: Where) -> tuple[int, bytes] | None:
    """Where the chunk of sound begins, and what is before it with the padding that is missing.

    None if none is missing: chunks of odd sizes are followed by a byte that libsndfile passes over.
    """
    with content(where) as view:
        chunks = list(takewhile(lambda chunk: not chunk.sound, _chunks(view)))
        parts = [bytes(view[chunk.at : chunk.end]) for chunk in chunks]
        if view[:4] == b"caff" or not any(len(part) % 2 for part in parts):
            return None
        padded = b"".join(part + bytes(len(part) % 2) for part in parts)
        return chunks[-1].end, bytes(view[: chunks[0].at]) + padded


def understated(where: Where) -> tuple[dict[int, bytes], int, int] | None:
    """Finds a header that states less sound than follows; None for all other files.

    Recorders that crash leave 0 in place of the size of the sound, or an earlier size. If another
    chunk, a tag or padding follows the stated size, the size is right.

    Returns:
        The position of the size and bytes that state all that follows; the stated and real sizes.
    """
    with content(where) as view:
        field = _sound_size(view)
        if field is None:
            return None
        at, size, order, begin = field
        stated, rest = _number(view, at, size, order), len(view) - begin
        if stated >= rest or _is_whole(view, begin, stated):
            return None
        most = min(rest, (1 << 8 * size) - 2)  # the greatest number means that it is not known
        return {at: most.to_bytes(size, order)}, stated, rest


def overstated(where: Where) -> tuple[int, int] | None:
    """The size of the sound by the header and its smaller real one; None if nothing is missing."""
    with content(where) as view:
        if (field := _sound_size(view)) is None:
            return None
        at, size, order, begin = field
        stated, rest = _number(view, at, size, order), len(view) - begin
        return (stated, rest) if rest + _SLACK < stated < 1 << 62 else None


def _sound_size(view: View) -> tuple[int, int, _Order, int] | None:
    """Position, bytes and byte order of the field with the sound's size; where the sound begins."""
    if view[:4] == b".snd":
        return 8, 4, "big", _number(view, 4)
    chunk = next((chunk for chunk in _chunks(view) if chunk.sound), None)
    if chunk is None:
        return None
    _, size, order, _ = _CHUNKS[bytes(view[:4])]
    if chunk.length == 0xFFFF_FFFF and view[12:16] == b"ds64":
        return 28, 8, order, chunk.begin  # RF64 has it in a first chunk of 64-bit sizes
    return chunk.at + 4, size, order, chunk.begin


def _chunks(view: View) -> Iterator[_Chunk]:
    """The chunks of a WAV, AIFF or CAF file."""
    at, size, order, sound = _CHUNKS.get(bytes(view[:4]), (len(view), 4, "big", b""))
    had_sound = False
    # What follows the first chunk of sound may be more of it, and is searched for chunks only.
    while at + 4 + size <= len(view) and not (had_sound and not _is_name(bytes(view[at : at + 4]))):
        length, begin = _number(view, at + 4, size, order), at + 4 + size
        end = begin + length
        # A byte pads an odd chunk, which some programs leave out.
        if size == 4 and length % 2 and not (_is_sound(view, end, sound) or _follows(view, end)):
            end += 1
        is_sound = _is_sound(view, at, sound)
        # Behind an empty chunk of sound, zeros may pad the header up to the chunk that is filled.
        if is_sound and not length and (more := _NOT_ZERO.search(view, begin)):
            end = more.start() if _is_sound(view, more.start(), sound) else end
        yield _Chunk(at, begin, length, min(end, len(view)), is_sound)
        at, had_sound = end, had_sound or is_sound


def _follows(view: View, at: int) -> bool:
    return _is_chunk(bytes(view[at : at + 8]), len(view) - at)


def _is_sound(view: View, at: int, name: bytes) -> bool:
    return bytes(view[at : at + 4]).upper() == name.upper()


def _is_empty(view: View, chunk: _Chunk) -> bool:
    """Whether a chunk is empty; a crashed recorder states 0 as well, but its sound follows."""
    rest = len(view) - chunk.begin
    following = bytes(view[chunk.end : chunk.end + 8])
    return not chunk.length and (rest < 8 or _is_chunk(following, rest))


def _is_whole(view: View, begin: int, stated: int) -> bool:
    """Whether the stated size is right: what follows it is not sound."""
    end = begin + stated
    if stated and (len(view) - end < _TRAILER or not any(view[end : end + _TRAILER])):
        return True
    padded = end + stated % 2
    return _follows(view, end) or _follows(view, padded)


def _is_chunk(head: bytes, rest: int) -> bool:
    if head.startswith((b"TAG", b"ID3", b"APETAGEX")):
        return True
    # sizes are little endian in RIFF and big endian in AIFF; of CAF's 64 bits, the upper half is 0
    sizes = [struct.unpack(order, head[4:])[0] for order in ("<I", ">I")] if len(head) == 8 else []
    return _is_name(head[:4]) and any(size <= rest - 8 for size in sizes)


def _is_name(four: bytes) -> bool:
    return len(four) == 4 and four.isascii() and four.decode("ascii").isprintable()

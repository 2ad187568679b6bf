"""A path, bytes or file object → the place a decoder reads, and what its first bytes say it is.

Only `_decode` uses this.
"""

from __future__ import annotations

import io
from pathlib import Path

from multimodal_ser.errors import AudioError

_OGG_PAGE = 27 + 255 + 255 * 255  # the longest, in bytes
_LFS = b"version https://git-lfs.github.com/spec/"
ALLOWED = "wav, flac, mp3, ogg, AIFF; with the extra 'video' also mp4, m4a, mov, mkv, webm, avi"


def located(name: str, source: object) -> Path | io.BytesIO:
    """An absolute path that is a file, or the bytes: no other scheme can reach a decoder."""
    if isinstance(source, str | Path):
        path = Path(source).absolute()
        if path.is_dir():
            raise AudioError(f"{name}: is a folder, not a recording; pass one of its files")
        if not path.is_file():
            raise AudioError(f"{name}: no such file; looked for {path}")
        if path.stat().st_size == 0:
            raise AudioError(f"{name}: is empty (0 bytes); fetch it again")
        return path
    data = source.read() if hasattr(source, "read") else source
    if not isinstance(data, bytes):
        raise AudioError(
            f"{name}: gives {type(data).__name__}; allowed: a path, bytes, a file object opened "
            "in binary mode, or an array with sample_rate="
        )
    if not data:
        raise AudioError(f"{name}: is empty (0 bytes); fetch it again")
    return io.BytesIO(data)


def peek(where: Path | io.BytesIO, offset: int, size: int = 4096) -> bytes:
    """`size` bytes from `offset` on, which counts from the end where it is negative."""
    with (
        io.BytesIO(where.getvalue()) if isinstance(where, io.BytesIO) else where.open("rb") as file
    ):
        length = file.seek(0, io.SEEK_END)
        file.seek(max(0, offset + length if offset < 0 else offset))
        return file.read(size)


def ends_within_ogg_page(where: Path | io.BytesIO) -> bool:
    tail = peek(where, -_OGG_PAGE, _OGG_PAGE)
    page = tail[tail.rfind(b"OggS") :]
    header = 27 + (page[26] if len(page) > 26 else 1)
    return len(page) < header + sum(page[27:header])


def container_kind(head: bytes) -> str | None:
    """The name of FFmpeg's reader: named, so that no playlist can lead it to other files."""
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
        return "mov"
    if head[:4] == b"\x1aE\xdf\xa3":
        return "matroska"
    return "avi" if head[:4] == b"RIFF" and head[8:12] == b"AVI " else None


def refuse_text(name: str, head: bytes) -> None:
    if head.startswith(_LFS):
        raise AudioError(
            f"{name}: is a Git LFS pointer, not the sound itself; run `git lfs pull` in its folder"
        )
    if head.isascii() and not any(byte < 9 for byte in head):
        raise AudioError(f"{name}: is text, not audio; allowed: {ALLOWED}")

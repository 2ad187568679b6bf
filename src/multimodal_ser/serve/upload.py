"""Request → the bytes and words of the recording, in memory only and within the limits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from dataclasses import dataclass

from fastapi import Request
from python_multipart.exceptions import FormParserError
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from multimodal_ser.serve.admission import Admission, Arriving
from multimodal_ser.serve.refusals import RefusedError
from multimodal_ser.serve.settings import Settings

_RAW = ("audio/", "video/", "application/octet-stream", "application/ogg", "application/mp4")
_FRAMING = 16_384  # bytes that a multipart body may have besides its file
_ALLOWED = (
    "allowed: multipart/form-data with the field `file` (and, if wanted, `text`), or the "
    "recording itself as body with a Content-Type such as audio/wav"
)


@dataclass(frozen=True)
class Upload:
    """The content of a request: the bytes of a recording, and its words if given."""

    data: bytes
    text: str | None


async def read_upload(request: Request, admission: Admission, text: str | None) -> Upload:
    """Reads the body of a request and checks the limits while it arrives.

    Args:
        request: the request.
        admission: the limits, and the places for arriving bodies.
        text: words from the query string, for bodies that are the recording itself.

    Raises:
        RefusedError: 408, 413, 415, 422, 429 or 503.
    """
    settings = admission.settings
    async with admission.arrive() as arriving:
        upload = await _in_time(_parsed(request, admission, arriving, text), arriving, settings)
    if not upload.data:
        raise RefusedError(422, f"the recording is empty (0 bytes); {_ALLOWED}")
    if upload.text and len(upload.text) > settings.max_text:
        raise RefusedError(
            422, f"text has {len(upload.text)} characters; allowed: {settings.max_text}"
        )
    return upload


def is_recording(content_type: str) -> bool:
    """Whether a Content-Type is that of a body which is the recording itself."""
    return _kind(content_type).startswith(_RAW)


def _kind(content_type: str) -> str:
    return content_type.split(";")[0].strip().lower()


async def _in_time(
    reading: Coroutine[None, None, Upload], arriving: Arriving, settings: Settings
) -> Upload:
    task, dropped = asyncio.create_task(reading), asyncio.create_task(arriving.dropped.wait())
    try:
        first = asyncio.FIRST_COMPLETED
        await asyncio.wait({task, dropped}, timeout=settings.upload_seconds, return_when=first)
        if task.done():
            return task.result()
        raise RefusedError(
            408,
            f"the body did not arrive within {settings.upload_seconds:g} s, or arrived slower than "
            "those of others; send it again",
            {"Connection": "close"},
        )
    finally:
        task.cancel()
        dropped.cancel()


async def _parsed(
    request: Request, admission: Admission, arriving: Arriving, text: str | None
) -> Upload:
    settings = admission.settings
    kind = _kind(request.headers.get("content-type", ""))
    if kind == "multipart/form-data":
        stream = _limited(request, admission, arriving, settings.max_bytes + _FRAMING)
        return await _form(request, stream, settings, text)
    if not is_recording(kind):
        raise RefusedError(415, f"Content-Type is {kind[:80] or 'missing'}; {_ALLOWED}")
    stream = _limited(request, admission, arriving, settings.max_bytes)
    return Upload(b"".join([chunk async for chunk in stream]), text)


async def _limited(
    request: Request, admission: Admission, arriving: Arriving, most: int
) -> AsyncGenerator[bytes, None]:
    settings = admission.settings
    stated = request.headers.get("content-length", "")
    if stated.isdecimal() and int(stated[:20]) > most:
        raise _too_large(settings)
    async for chunk in request.stream():
        arriving.add(len(chunk))
        admission.check_room()
        if arriving.size > most:
            raise _too_large(settings)
        yield chunk


def _too_large(settings: Settings) -> RefusedError:
    return RefusedError(
        413,
        f"the recording is larger than {settings.max_mb:g} MB; send a shorter one, or a "
        "compressed format such as flac or mp3",
        {"Connection": "close"},
    )


async def _form(
    request: Request, stream: AsyncGenerator[bytes, None], settings: Settings, text: str | None
) -> Upload:
    parser = MultiPartParser(
        request.headers, stream, max_files=1, max_fields=4, max_part_size=4 * settings.max_text + 64
    )
    # As large as the stream may be, so that the parser never writes an upload to a temporary file.
    parser.spool_max_size = settings.max_bytes + _FRAMING
    try:
        form = await parser.parse()
    except (MultiPartException, FormParserError, ValueError, LookupError, TypeError) as error:
        reason = getattr(error, "message", "") or type(error).__name__
        raise RefusedError(
            422, f"the multipart body cannot be read ({reason}); {_ALLOWED}"
        ) from None
    try:
        given = form.get("file")
        if unknown := [name for name in form if name not in ("file", "text")]:
            raise RefusedError(
                422,
                f"unknown field {unknown[0][:40]!r}; {_ALLOWED}; settings are parameters of the "
                "address, such as ?hop=0.5",
            )
        words = [*form.getlist("text"), *([] if text is None else [text])]
        if len(words) > 1:
            raise RefusedError(422, f"text is given {len(words)} times; allowed: once")
        if not isinstance(given, UploadFile):
            raise RefusedError(422, f"no file in the field `file`; {_ALLOWED}")
        data = await given.read()
    finally:
        await form.close()
    if len(data) > settings.max_bytes:
        raise _too_large(settings)
    return Upload(data, next((one for one in words if isinstance(one, str)), None))

"""Live sound over a WebSocket → running estimates, segments, and finally the timeline."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from fastapi import WebSocket
from starlette.websockets import WebSocketDisconnect

from multimodal_ser.audio.sound import MonoMix, to_rate
from multimodal_ser.common.arrays import Samples
from multimodal_ser.common.files import parse_json
from multimodal_ser.config.settings import SAMPLE_RATE
from multimodal_ser.errors import SerError
from multimodal_ser.serve.admission import check_key
from multimodal_ser.serve.refusals import RefusedError, refusal
from multimodal_ser.serve.scheduling import Work
from multimodal_ser.timeline import Point, Segment, Stream, Timeline

if TYPE_CHECKING:
    from multimodal_ser.serve.app import Service

KINDS = {"s16": "<i2", "f32": "<f4"}
_RATES, _CHANNELS = range(8_000, 48_001), (1, 2)
_BEGIN = (
    'a stream begins with a text message such as {"rate": 16000, "format": "s16", "channels": 1}; '
    "format: s16 or f32, little-endian; rate: 8000 to 48000; channels: 1 or 2; also window, hop"
)
CLOSED = {401: 1008, 422: 1003, 429: 1013, 503: 1012, 408: 1001, 413: 1009}


@dataclass(frozen=True)
class Sent:
    """The format in which a client sends its sound."""

    rate: int
    kind: str
    channels: int
    window: float
    hop: float

    @classmethod
    def read(cls, message: Any) -> Sent:
        """Reads the first message.

        Raises:
            RefusedError: 422.
        """
        if not isinstance(message, dict):
            raise RefusedError(422, f"the first message is no JSON object; {_BEGIN}")
        rate, channels = message.get("rate", SAMPLE_RATE), message.get("channels", 1)
        kind = message.get("format", "s16")
        window, hop = message.get("window", 3.0), message.get("hop", 1.0)
        valid = {
            "rate": _is_number(rate) and rate in _RATES,
            "format": isinstance(kind, str) and kind in KINDS,
            "channels": _is_number(channels) and channels in _CHANNELS,
            "window": _is_number(window),
            "hop": _is_number(hop),
            "key": True,
        }
        # an unknown name, such as sample_rate instead of rate, is an error too
        if wrong := [name for name in (*message, *valid) if not valid.get(name)]:
            given = json.dumps(message.get(wrong[0]))[:40]
            raise RefusedError(422, f"{wrong[0][:40]} is {given}; {_BEGIN}")
        return cls(int(rate), kind, int(channels), float(window), float(hop))

    @property
    def size(self) -> int:
        """Bytes of one sample of all channels."""
        return np.dtype(KINDS[self.kind]).itemsize * self.channels

    def samples(self, data: bytes) -> Samples:
        """The sound of whole samples, [time, channels] at its own rate."""
        sound = np.frombuffer(data, KINDS[self.kind]).reshape(-1, self.channels)
        scale = 32_768 if self.kind == "s16" else 1
        return sound.astype(np.float32) / np.float32(scale)


def _is_number(value: object) -> bool:
    return type(value) in (int, float)  # isinstance would take True for a number


async def live(socket: WebSocket, service: Service) -> None:
    """Serves one client from its first message to its last; see docs/conversations.md."""
    try:
        with service.streams.enter(service.admission.stopping):
            await socket.accept()
            timeline = await _answer(socket, service)
        # A client that has its last message may begin its next stream at once.
        await _send(socket, {"type": "timeline", **timeline.as_dict()})
        await socket.close(1000)
    except SerError as error:
        status = error.status if isinstance(error, RefusedError) else 422
        with suppress(RuntimeError, WebSocketDisconnect):  # gone, or never accepted
            if socket.application_state.name == "CONNECTED":
                await _send(socket, {"type": "error", **refusal(status, str(error))})
            await socket.close(CLOSED.get(status, 1011))
    except WebSocketDisconnect:
        pass  # the client has gone


async def _begin(socket: WebSocket, service: Service) -> tuple[Sent, Stream]:
    """Reads the first message, which describes the sound and may hold the key."""
    message = _json(await _message(socket, service.settings.header_seconds))
    # Browsers cannot set headers of a WebSocket, so the key may come in the first message.
    if isinstance(message, dict) and isinstance(message.get("key"), str):
        socket.scope["headers"].append((b"x-api-key", message["key"].encode("latin-1", "replace")))
        socket.__dict__.pop("_headers", None)  # starlette caches the headers that it has parsed
    check_key(socket, service.settings)
    sent = Sent.read(message)
    stream = Stream(service.predictor, window=sent.window, hop=sent.hop)
    await _send(socket, {"type": "ready", "model": service.predictor.name,
                         "labels": list(service.predictor.labels)})  # fmt: skip
    return sent, stream


async def _answer(socket: WebSocket, service: Service) -> Timeline:
    """Sends estimates and segments as the sound comes in; returns the whole timeline."""
    sent, stream = await _begin(socket, service)
    work, convert = Work(math.inf), to_rate(sent.rate, SAMPLE_RATE)
    sent_segments = 0

    def push(sound: Samples, last: bool) -> list[Point | Segment]:
        with service.computing.turn(work):
            return stream.push(convert(sound, last))

    async def hear(sound: Samples, last: bool = False) -> None:
        nonlocal sent_segments
        for item in await service.off_loop(push, sound, last):
            sent_segments += isinstance(item, Segment)
            await _send(socket, _as_message(item))

    async for sound in _sounds(socket, service, sent):
        await hear(sound)
    await hear(np.zeros(0, np.float32), last=True)

    def finish() -> Timeline:
        with service.computing.turn(work):
            return stream.finish()

    timeline = await service.off_loop(finish)
    for item in timeline.segments[sent_segments:]:
        await _send(socket, _as_message(item))
    return timeline


async def _sounds(socket: WebSocket, service: Service, sent: Sent) -> AsyncIterator[Samples]:
    """The sound of a client's messages, piece by piece, until it or the server ends the stream.

    Raises:
        RefusedError: the stream is too long, or ends in another way than it should.
    """
    limits, seconds, rest, mix = service.settings, 0.0, b"", MonoMix()
    while (message := await _message(socket, limits.stream_quiet_seconds)).get("bytes") is not None:
        data = rest + message["bytes"]  # a message may end within a sample
        whole = len(data) - len(data) % sent.size
        sound, rest = sent.samples(data[:whole]), data[whole:]
        seconds += len(sound) / sent.rate
        if seconds > limits.stream_seconds:
            raise RefusedError(
                413, f"the stream is longer than {limits.stream_seconds:g} s; begin another"
            )
        if len(sound):
            yield mix(sound)
        if service.admission.stopping:
            break
    end = _json(message) if message.get("bytes") is None else {"end": True}
    if not (isinstance(end, dict) and end.get("end") is True):
        raise RefusedError(422, 'a stream ends with the text message {"end": true}')
    service.metrics.decoded.inc(seconds)


async def _message(socket: WebSocket, seconds: float) -> dict[str, Any]:
    try:
        message = await asyncio.wait_for(socket.receive(), seconds)
    except asyncio.TimeoutError:
        raise RefusedError(408, f"nothing came for {seconds:g} s") from None
    if message["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(message.get("code", 1006))
    return dict(message)


def _json(message: dict[str, Any]) -> Any:
    try:
        return parse_json(message.get("text") or "")
    except ValueError:
        return None


def _as_message(item: Point | Segment) -> dict[str, Any]:
    return {"type": "segment" if isinstance(item, Segment) else "estimate", **item.as_dict()}


async def _send(socket: WebSocket, message: dict[str, Any]) -> None:
    await socket.send_text(json.dumps(message, ensure_ascii=False))

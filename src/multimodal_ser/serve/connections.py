"""Sockets → requests: the number of open connections, and the time that clients may take."""

from __future__ import annotations

import asyncio
import json
import resource
from http import HTTPStatus
from typing import Any

import h11
from uvicorn import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from multimodal_ser.serve.middleware import HEADERS
from multimodal_ser.serve.refusals import refusal
from multimodal_ser.serve.settings import Settings

BACKLOG = 64  # connections that asyncio accepts before it handles those it has


class ConnectionLimits:
    """All open connections; the one that has been idle longest makes room for a new one.

    Attributes:
        open: connections in the order in which they became idle.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)  # a connection is an open file
        self.most = min(settings.max_connections, max(8, files // 4))
        self.open: dict[LimitedProtocol, None] = {}

    def admit(self, new: LimitedProtocol) -> None:
        """Admits a connection, or refuses it if all others are at work."""
        peer = new.peer
        # One client cannot take all connections: beyond its share its own idle ones are closed.
        if sum(one.peer == peer for one in self.open) >= self.settings.max_per_client:
            self._close_idle(peer)  # if none of the client's is idle, the limit for all applies
        if len(self.open) >= self.most and not self._close_idle(None):
            new.refuse(503, f"{len(self.open)} connections are open; try again in a second")
            return
        self.open[new] = None

    def leave(self, old: LimitedProtocol) -> None:
        """Removes a connection that has ended."""
        self.open.pop(old, None)

    def _close_idle(self, peer: str | None) -> bool:
        for one in self.open:
            if one.idle and peer in (None, one.peer):
                self.leave(one)
                one.transport.abort()
                return True
        return False


class LimitedProtocol(H11Protocol):
    """uvicorn's protocol with additional time limits.

    The header of a request must arrive within `header_seconds` of the connection's start or of its
    first byte, and a client must read its response within the same time; a body has a time limit of
    its own in `read_upload`.
    """

    def __init__(
        self, config: Config, server_state: ServerState, app_state: dict[str, Any], **how: Any
    ) -> None:
        super().__init__(config, server_state, app_state, **how)
        self.limits: ConnectionLimits = config.app.state.service.connections  # type: ignore[union-attr]
        self.peer = ""
        self._timer: asyncio.TimerHandle | None = None

    @property
    def idle(self) -> bool:
        """Whether nothing is computed: the header is incomplete, or the client does not read."""
        at_work = self.cycle is not None and not self.cycle.response_complete
        return not at_work or self.flow.write_paused

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Starts waiting for a header."""
        super().connection_made(transport)
        self.peer = str((transport.get_extra_info("peername") or ("",))[0])
        self._wait()
        self.limits.admit(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Frees the place of the connection."""
        self._stop_waiting()
        self.limits.leave(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Stops waiting once the header is complete."""
        super().data_received(data)
        upgraded = self.transport.get_protocol() is not self  # to a WebSocket
        if upgraded or not self.idle:
            self._stop_waiting()
        elif self._timer is None:
            self._wait()

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        """Hands a WebSocket over to its own protocol, which sends pings; `Streams` counts them."""
        self._stop_waiting()
        self.limits.leave(self)
        super().handle_websocket_upgrade(event)

    def on_response_complete(self) -> None:
        """Limits the time for the rest of a body whose response is already sent."""
        super().on_response_complete()
        if self in self.limits.open:  # idle from now on, and so the last in the order of `open`
            self.limits.open[self] = self.limits.open.pop(self)
        if self.conn.their_state is h11.SEND_BODY:
            self._wait()

    def pause_writing(self) -> None:
        """Starts waiting for a client that does not read its response."""
        super().pause_writing()
        self._wait()

    def resume_writing(self) -> None:
        """Stops waiting: the client reads again."""
        super().resume_writing()
        self._stop_waiting()

    def send_400_response(self, msg: str) -> None:
        """Refuses malformed HTTP, with the same JSON as all errors."""
        self.refuse(400, msg)

    def refuse(self, status: int, message: str) -> None:
        """Sends an error without calling the application, and closes the connection."""
        begun = self.cycle is not None and self.cycle.response_started
        if begun and not self.cycle.response_complete:
            self.transport.abort()  # an error would end up in the middle of the response
            return
        content = json.dumps(refusal(status, message)).encode()
        head = {**HEADERS, "Content-Type": "application/json", "Connection": "close",
                "Content-Length": str(len(content)), "Retry-After": "1"}  # fmt: skip
        lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}"]
        lines += [f"{name}: {value}" for name, value in head.items()]
        self.transport.write("\r\n".join([*lines, "", ""]).encode() + content)
        self.transport.close()

    def _wait(self) -> None:
        self._stop_waiting()
        self._timer = self.loop.call_later(self.limits.settings.header_seconds, self._late)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _late(self) -> None:
        self._timer = None
        if self.flow.write_paused or self.conn.their_state is h11.SEND_BODY:
            self.transport.abort()
        elif self.idle and not self.transport.is_closing():
            seconds = self.limits.settings.header_seconds
            self.refuse(408, f"the request's header did not arrive within {seconds:g} s")

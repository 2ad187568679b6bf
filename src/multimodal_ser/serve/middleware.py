"""Checks the origin of every request, adds security headers, and logs it."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from multimodal_ser.serve.metrics import Metrics
from multimodal_ser.serve.origins import check_origin
from multimodal_ser.serve.refusals import RefusedError, body

_log = logging.getLogger("multimodal_ser.serve")

CONTENT_SECURITY_POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "media-src 'self' blob:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ]
)
HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "microphone=(self), camera=(), geolocation=()",
    "Cache-Control": "no-cache",
}


class RequestMiddleware:
    """Adds headers and logs method, route, status and time, but no names, words or addresses.

    A path without a route is logged as ``unmatched``, since it may contain anything.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, hosts: Sequence[str] = ()) -> None:
        self.app, self.metrics, self.hosts = app, metrics, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles a request of the ASGI protocol."""
        if scope["type"] == "websocket":
            await self._stream(scope, receive, send)
            return
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, status = time.perf_counter(), 0
        # HEAD is answered as GET is; the web server leaves out the body
        asked = {**scope, "method": "GET"} if scope["method"] == "HEAD" else scope

        async def answered(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            check_origin(scope, self.hosts)
            await self.app(asked, receive, answered)
        except RefusedError as error:
            await body(error.status, str(error), error.headers)(scope, receive, answered)
        except Exception:
            if not status:
                told = body(500, "the server failed; its log says why")
                await told(scope, receive, answered)
            raise
        finally:
            about = {**asked, "method": scope["method"]}
            self._log(about, status or 500, time.perf_counter() - began)

    async def _stream(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles a WebSocket: the same checks, and a line in the log."""
        began = time.perf_counter()
        try:
            check_origin(scope, self.hosts)
        except RefusedError:
            await send({"type": "websocket.close", "code": 1008})  # before it is open: a plain 403
            return
        try:
            await self.app(scope, receive, send)
        finally:
            self._log({**scope, "method": "GET"}, 101, time.perf_counter() - began)

    def _log(self, scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", None) or "unmatched"
        method = scope["method"] if scope["method"] in _METHODS else "other"
        measured = scope.get("state", {}).get("measured", {})
        self.metrics.answered(method, route, status, seconds)
        self.metrics.heard.inc(measured.get("seconds", 0.0))
        fields = {
            "method": method,
            "route": route,
            "status": status,
            "ms": round(1000 * seconds, 1),
            **measured,
        }
        _log.log(logging.ERROR if status >= 500 and status != 503 else logging.INFO, "request",
                extra={"fields": fields})  # fmt: skip


_METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}

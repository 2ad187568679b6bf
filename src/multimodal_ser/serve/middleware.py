"""Checks the origin of every request, adds security headers, and logs it.

Only pages of this server, under a name of its own, may send requests.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Sequence
from ipaddress import ip_address
from urllib.parse import SplitResult, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from multimodal_ser.serve.metrics import Metrics
from multimodal_ser.serve.refusals import RefusedError, body

_PORTS = {"http": 80, "https": 443}
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
_METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}


def check_origin(scope: Scope, hosts: Sequence[str]) -> None:
    """Refuses requests that a page from elsewhere sends through a visitor's browser.

    With a foreign name in Host, such a page can reach a server on this machine under the page's own
    name (DNS rebinding). IP addresses, localhost and the machine's name cannot be redirected in
    this way. A foreign Origin means a page that posts across sites.

    Args:
        scope: of the request.
        hosts: further names of the server.

    Raises:
        RefusedError: 421 for a foreign host, 403 for a foreign origin.
    """
    headers = Headers(scope=scope)
    host = headers.get("host")
    # the scheme is only there for parsing; that of the page, below, decides the default port
    here = _split(f"http://{host}") if host is not None else None
    own = {"localhost", socket.gethostname().lower(), *(name.lower() for name in hosts)}
    if scope.get("server"):
        own.add(str(scope["server"][0]).lower())
    if host is not None and not (here and _is_own(here.hostname or "", own)):
        raise RefusedError(
            421,
            f"the host {host[:80]!r} is not this server's; allowed: an address in figures, "
            "localhost, this machine's name, or a name that it was started with: --host-name NAME",
        )
    origin = headers.get("origin")
    if origin is None:
        return
    there = _split(origin)
    named = bool(there and there.hostname in {name.lower() for name in hosts})
    if not (there and (named or (here and _place(there) == _place(here, there.scheme)))):
        raise RefusedError(
            403,
            f"the page at {origin[:80]!r} may not ask this server; allowed: its own pages, and "
            "those of names that it was started with: --host-name NAME",
        )


def _is_own(name: str, own: set[str]) -> bool:
    if name in own or name.endswith(".localhost"):
        return True
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def _split(address: str) -> SplitResult | None:
    try:
        parts = urlsplit(address)
        _ = parts.port  # raises ValueError if it is not a number
        return parts if parts.hostname else None
    except ValueError:
        return None


def _place(parts: SplitResult, scheme: str | None = None) -> tuple[str | None, int | None]:
    return parts.hostname, parts.port or _PORTS.get(scheme or parts.scheme)


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
        except asyncio.CancelledError:
            # the server stops, and has waited for this request as long as it does for any
            if status:
                raise
            message = "the server stopped before the request was finished; send it again"
            late = body(503, message, {"Retry-After": "30"})
            await late(scope, receive, answered)
        except Exception:
            if not status:
                failure = body(500, "the server failed; its log says why")
                await failure(scope, receive, answered)
            raise
        finally:
            # the router notes the route in `asked`; the method is the one that was sent
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
        self.metrics.decoded.inc(measured.get("seconds", 0.0))
        fields = {
            "method": method,
            "route": route,
            "status": status,
            "ms": round(1000 * seconds, 1),
            **measured,
        }
        _log.log(logging.ERROR if status >= 500 and status != 503 else logging.INFO, "request",
                extra={"fields": fields})  # fmt: skip

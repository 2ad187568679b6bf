"""Which web pages may send requests: those of this server, under a name of its own."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from ipaddress import ip_address
from urllib.parse import SplitResult, urlsplit

from starlette.datastructures import Headers
from starlette.types import Scope

from multimodal_ser.serve.refusals import RefusedError

_PORTS = {"http": 80, "https": 443}


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

"""Who may come in: the API key, the number inside, and whether the server is stopping."""

from __future__ import annotations

import hmac
from collections.abc import Iterator
from contextlib import contextmanager

from fastapi import Request

from multimodal_ser.serve.refusals import RefusedError
from multimodal_ser.serve.settings import Settings


class Gate:
    """Counts the requests inside; refuses those too many and those that come while stopping.

    Attributes:
        inside: requests at work or waiting.
        stopping: set when the server has been told to stop.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.inside = 0
        self.stopping = False

    @contextmanager
    def enter(self) -> Iterator[None]:
        """Holds a place while a request is answered.

        Raises:
            RefusedError: 429 or 503.
        """
        if self.stopping:
            raise RefusedError(
                503,
                "the server is stopping; send the request again to the next one",
                {"Retry-After": "5", "Connection": "close"},
            )
        most = self.settings.max_requests
        if self.inside >= most:
            raise RefusedError(
                429,
                f"{self.inside} requests are inside; allowed: {most}; try again in a second",
                {"Retry-After": "1"},
            )
        self.inside += 1
        try:
            yield
        finally:
            self.inside -= 1


def check_key(request: Request, settings: Settings) -> None:
    """Compares the request's key with the server's in constant time.

    Raises:
        RefusedError: 401.
    """
    if settings.api_key is None:
        return
    scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
    given = bearer if scheme.lower() == "bearer" else request.headers.get("x-api-key", "")
    # Headers are Latin-1 in starlette; the key may be any text.
    if not hmac.compare_digest(given.strip().encode("latin-1", "replace"), _bytes(settings)):
        raise RefusedError(
            401,
            "the API key is missing or wrong; send it as `Authorization: Bearer KEY` or "
            "`X-API-Key: KEY`",
            {"WWW-Authenticate": "Bearer"},
        )


def _bytes(settings: Settings) -> bytes:
    return (settings.api_key or "").strip().encode()

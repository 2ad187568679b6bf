"""Which requests are admitted: the API key, the limits, and whether the server is stopping."""

from __future__ import annotations

import asyncio
import hmac
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from starlette.requests import HTTPConnection

from multimodal_ser.serve.refusals import RefusedError
from multimodal_ser.serve.settings import Settings

# A sender is slow if it sent nothing for _QUIET seconds, or if its mean rate after _GRACE seconds
# is below _RATE bytes per second.
_QUIET, _GRACE, _RATE = 0.3, 2.0, 8_000
_AGAIN = {"Retry-After": "1", "Connection": "close"}  # headers of a refusal for lack of a place


class Arriving:
    """The body of a request while it arrives.

    Attributes:
        size: bytes that have arrived.
        dropped: set when its place is given to another request.
    """

    def __init__(self) -> None:
        self.began = self.last = time.monotonic()
        self.size, self.dropped = 0, asyncio.Event()

    def add(self, size: int) -> None:
        """Counts bytes."""
        self.size += size
        self.last = time.monotonic()

    def rate(self) -> float:
        """Mean bytes per second so far."""
        return self.size / (time.monotonic() - self.began + 1e-3)

    def slow(self) -> bool:
        """Whether its place may be given to another request."""
        now = time.monotonic()
        low_rate = now - self.began > _GRACE and self.rate() < _RATE
        return not self.dropped.is_set() and (low_rate or now - self.last > _QUIET)


class RequestPlace:
    """The place of an admitted request, which takes another one if its recording is long."""

    def __init__(self, admission: Admission) -> None:
        self._admission, self._long, self._left = admission, False, False

    def lengthen(self) -> None:
        """Takes one of the places for long work, so that short requests keep theirs.

        Raises:
            RefusedError: 429.
        """
        admission, most = self._admission, self._admission.settings.max_long
        # Decoding threads call this as soon as a recording turns out to be long.
        with admission.lock:
            if self._long or self._left:
                return
            if admission.long >= most:
                raise RefusedError(
                    429,
                    f"{admission.long} long recordings are being processed; allowed: {most}; try "
                    "again in half a minute, or send a shorter one",
                    {"Retry-After": "30"},
                )
            admission.long += 1
            self._long = True

    def leave(self) -> None:
        """Returns the place for long work, if it was taken."""
        with self._admission.lock:
            self._admission.long -= self._long
            self._long, self._left = False, True


class Admission:
    """Counts admitted requests; refuses those beyond the limits and those that come while stopping.

    Attributes:
        active: requests that are processed or wait for it.
        long: those of them with long recordings.
        arriving: bodies that are arriving.
        stopping: set when the server is told to stop.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.active = self.long = 0
        self.lock = threading.Lock()
        self.arriving: list[Arriving] = []
        self.stopping = False

    @property
    def requests(self) -> int:
        """The number of requests that arrive or are admitted."""
        return len(self.arriving) + self.active

    @asynccontextmanager
    async def arrive(self) -> AsyncIterator[Arriving]:
        """Holds a place while a body arrives; if all are taken, the slowest sender loses its place.

        Raises:
            RefusedError: 429 or 503.
        """
        self._check()
        full = len(self.arriving) >= self.settings.max_uploads
        if full and not any(body.slow() for body in self.arriving):
            # After a short wait it is known which of them send nothing.
            await asyncio.sleep(_QUIET)
            self._check()
        if len(self.arriving) >= self.settings.max_uploads:
            self._drop_slowest()
        body = Arriving()
        self.arriving.append(body)
        try:
            yield body
        finally:
            self.arriving.remove(body)

    @contextmanager
    def enter(self) -> Iterator[RequestPlace]:
        """Holds a place while a request is answered.

        Raises:
            RefusedError: 429 or 503.
        """
        self._check()
        place = RequestPlace(self)
        self.active += 1
        try:
            yield place
        finally:
            self.active -= 1
            place.leave()

    def _check(self) -> None:
        if self.stopping:
            raise RefusedError(
                503,
                "the server is stopping; send the request again to the next one",
                {"Retry-After": "5", "Connection": "close"},
            )
        most = self.settings.max_requests
        if self.active >= most:
            raise RefusedError(
                429,
                f"{self.active} requests are being processed; allowed: {most}; try again in a "
                "second",
                _AGAIN,
            )

    def _drop_slowest(self) -> None:
        slow = [body for body in self.arriving if body.slow()]
        if not slow:
            raise RefusedError(
                429,
                f"{len(self.arriving)} uploads are on their way; allowed: "
                f"{self.settings.max_uploads}; try again in a second",
                _AGAIN,
            )
        min(slow, key=Arriving.rate).dropped.set()

    def check_room(self) -> None:
        """Limits the memory that arriving bodies take together.

        Raises:
            RefusedError: 429.
        """
        held = sum(body.size for body in self.arriving)
        if held > self.settings.most_arriving:
            raise RefusedError(
                429, f"uploads of {held / 1e6:.0f} MB are on their way, which is all that this "
                "server takes at a time; try again in a second", _AGAIN,
            )  # fmt: skip


def check_key(request: HTTPConnection, settings: Settings) -> None:
    """Compares the request's key with the server's in constant time.

    Raises:
        RefusedError: 401.
    """
    if settings.api_key is None:
        return
    scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
    given = bearer if scheme.lower() == "bearer" else request.headers.get("x-api-key", "")
    # Headers are Latin-1 in starlette; the key may be any text.
    key = settings.api_key.strip().encode()
    if not hmac.compare_digest(given.strip().encode("latin-1", "replace"), key):
        raise RefusedError(
            401,
            "the API key is missing or wrong; send it as `Authorization: Bearer KEY` or "
            "`X-API-Key: KEY`",
            {"WWW-Authenticate": "Bearer"},
        )

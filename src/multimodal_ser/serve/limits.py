"""The cost of a request: what is refused before work begins, and when work is stopped."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from typing import Any

from fastapi import Request, Response
from starlette.requests import ClientDisconnect

from multimodal_ser.serve.refusals import RefusedError
from multimodal_ser.serve.scheduling import Work, timed_out
from multimodal_ser.serve.settings import Settings

LONG_BYTES = 2_000_000  # larger uploads need a place for long work, before their length is known


def check_work(seconds: float, window: float, hop: float, settings: Settings) -> None:
    """Refuses a timeline whose windows have more sound together than is allowed, before it begins.

    Raises:
        RefusedError: 422.
    """
    window = min(window, seconds)
    # Overlapping windows are predicted once each: a small hop multiplies the work.
    heard = window * (1 + max(0.0, seconds - window) / hop)
    most = settings.most_heard
    if heard <= most:
        return
    # The hop with which the same window would be allowed, rounded up.
    wider = -(-window * (seconds - window) // max(most - window, 1e-9))
    raise RefusedError(
        422,
        f"window={window:g} s every hop={hop:g} s of {seconds:.0f} s are {heard:.0f} s of sound to "
        f"hear; allowed: {most:g} s; take a hop of {wider:.0f} s or more, a shorter window, or a "
        "shorter recording",
    )


async def unless_gone(
    request: Request, work: Work, answer: Coroutine[Any, Any, Response]
) -> Response:
    """Waits for a response; stops the work when the time is over or the client has gone.

    Raises:
        RefusedError: 504.
        ClientDisconnect: the client has gone.
    """
    answering, gone = asyncio.create_task(answer), asyncio.create_task(_gone(request))
    try:
        await asyncio.wait(
            {answering, gone},
            timeout=max(0.0, work.ends - time.monotonic()),
            return_when=asyncio.FIRST_COMPLETED,
        )
        if answering.done():
            return answering.result()
        if gone.done():
            raise ClientDisconnect
        raise timed_out(work.limit)
    finally:
        work.unwanted = True
        answering.cancel()
        gone.cancel()


async def _gone(request: Request) -> None:
    """Returns when the client closes the connection; its body was read before."""
    while (await request.receive())["type"] != "http.disconnect":
        pass

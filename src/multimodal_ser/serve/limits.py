"""What one request may cost, and when its work ends: before it begins, in time, with its client."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from typing import Any

from fastapi import Request, Response
from starlette.requests import ClientDisconnect

from multimodal_ser.serve.refusals import RefusedError
from multimodal_ser.serve.settings import Settings
from multimodal_ser.serve.turns import Work, late

LONG_BYTES = 2_000_000  # an upload that takes a place for long work before its length is known


def check_work(seconds: float, window: float, hop: float, settings: Settings) -> None:
    """Refuses a timeline whose windows hold more sound than is allowed, before it begins.

    Raises:
        RefusedError: 422.
    """
    window = min(window, seconds)
    heard = window * (1 + max(0.0, seconds - window) / hop)
    most = settings.most_heard
    if heard <= most:
        return
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
    """Waits for an answer; stops the work when the time is over or the client has gone.

    Raises:
        RefusedError: 504.
        ClientDisconnect: nobody waits any more.
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
        raise late(work.limit)
    finally:
        work.unwanted = True
        answering.cancel()
        gone.cancel()


async def _gone(request: Request) -> None:
    """Ends when the client closes the connection; its body has been read before."""
    while (await request.receive())["type"] != "http.disconnect":
        pass

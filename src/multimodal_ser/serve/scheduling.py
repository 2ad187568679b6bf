"""Scheduling: requests compute in turns, so that short ones do not wait for long ones.

What costs too much is refused before work begins, and work stops when nobody waits for it.
"""

from __future__ import annotations

import asyncio
import heapq
import math
import threading
import time
from collections.abc import Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count
from typing import Any, cast

from fastapi import Request, Response
from starlette.requests import ClientDisconnect

from multimodal_ser.common.arrays import Samples
from multimodal_ser.config.settings import SAMPLE_RATE
from multimodal_ser.encoders.base import between_passes, packed
from multimodal_ser.serve.refusals import RefusedError
from multimodal_ser.serve.settings import Settings
from multimodal_ser.timeline.speakers import Diariser, Turn
from multimodal_ser.timeline.track import Word
from multimodal_ser.timeline.words import Words

TURN_SAMPLES = 60 * SAMPLE_RATE  # samples per turn of the network: about a second on a CPU
_CHECK_SECONDS = 0.25  # seconds between checks whether a waiting request is still wanted
LONG_BYTES = 2_000_000  # larger uploads need a place for long work, before their length is known


class Work:
    """The computing of one request.

    Attributes:
        spent: seconds of computing that it has had.
        unwanted: set when nobody waits for the result any more.
    """

    def __init__(self, seconds: float) -> None:
        self.ends, self.limit = time.monotonic() + seconds, seconds
        self.spent, self.unwanted = 0.0, False

    def check(self) -> None:
        """Stops work whose result nobody waits for.

        Raises:
            RefusedError: 499 if the client has gone, 504 if the time is over.
        """
        if self.unwanted:
            raise RefusedError(499, "the client closed the connection")
        if time.monotonic() > self.ends:
            raise timed_out(self.limit)


def timed_out(limit: float) -> RefusedError:
    """The error for a request whose time is over."""
    return RefusedError(
        504,
        f"the request took longer than {limit:g} s, which is the most that is allowed; send a "
        "shorter recording, or try again when the server has less to do",
        {"Retry-After": "30"},
    )


class Scheduler:
    """Grants turns in order of arrival, where the time a request has already had counts as delay.

    A request of many turns is therefore overtaken by newer ones after each turn, but still advances
    if new ones keep coming.
    """

    def __init__(self, places: int = 1) -> None:
        self._free = places
        self._changed = threading.Condition()
        self._queue: list[tuple[float, int]] = []
        self._numbers = count()

    @contextmanager
    def turn(self, work: Work) -> Iterator[HeldTurn]:
        """Waits for a turn and holds it; yields a `HeldTurn` that lets others compute in between.

        Raises:
            RefusedError: see `Work.check`.
        """
        pause = HeldTurn(self, work)
        pause.begin()
        try:
            yield pause
        finally:
            pause.end()

    def take(self, work: Work) -> None:
        """Waits for a turn."""
        with self._changed:
            # Time already spent counts as a later arrival; the number breaks ties in order of
            # arrival.
            ticket = (time.monotonic() + work.spent, next(self._numbers))
            heapq.heappush(self._queue, ticket)
            try:
                while not (self._free and self._queue[0] == ticket):
                    work.check()
                    self._changed.wait(_CHECK_SECONDS)
                work.check()
                self._free -= 1
            finally:
                # a request that nobody wants any more may leave from the middle of the queue
                self._queue.remove(ticket)
                heapq.heapify(self._queue)
                self._changed.notify_all()

    def give(self) -> None:
        """Ends a turn."""
        with self._changed:
            self._free += 1
            self._changed.notify_all()


class HeldTurn:
    """A held turn; calling it releases the turn and waits for the next one."""

    def __init__(self, turns: Scheduler, work: Work) -> None:
        self._turns, self._work = turns, work
        self._began: float | None = None

    def __call__(self, *_: object) -> None:
        """Lets others have a turn in between.

        Raises:
            RefusedError: see `Work.check`.
        """
        self.end()
        self.begin()

    @property
    def spent(self) -> float:
        """Seconds of computing that the request has had."""
        return self._work.spent

    def begin(self) -> None:
        """Waits for the turn."""
        self._turns.take(self._work)
        self._began = time.monotonic()

    def end(self) -> None:
        """Releases the turn, if it is held."""
        if self._began is not None:
            self._work.spent += time.monotonic() - self._began
            self._began = None
            self._turns.give()


class Yielding:
    """A predictor that pauses between calls of its network and otherwise behaves the same."""

    def __init__(self, predictor: Any, pause: HeldTurn) -> None:
        self._predictor, self._pause = predictor, pause

    def __getattr__(self, name: str) -> Any:
        return getattr(self._predictor, name)

    def waves(
        self,
        waves: Sequence[Samples],
        texts: Sequence[str | None] | None = None,
        /,
        *,
        speech: bool = False,
    ) -> list[Any]:
        """Like `Predictor.waves`, with about a minute of sound at a time."""
        predictions: list[Any] = []
        with self._pausing():
            for part in _parts([len(wave) for wave in waves]):
                if predictions:
                    self._pause()
                words = texts and [texts[place] for place in part]
                given = [waves[place] for place in part]
                predictions += self._predictor.waves(given, words, speech=speech)
        return predictions

    def channel_of(self, waves: Sequence[Samples], *, speech: bool = False) -> Any:
        """Like `Predictor.channel_of`."""
        with self._pausing():
            return self._predictor.channel_of(waves, speech=speech)

    def adapted(self, channel: Any) -> Yielding:
        """Like `Predictor.adapted`, and pauses like this one."""
        return Yielding(self._predictor.adapted(channel), self._pause)

    @contextmanager
    def _pausing(self) -> Iterator[None]:
        """Lets the networks pause, too, which call `between_passes` within and between batches."""
        token = between_passes.set(self._pause)
        try:
            yield
        finally:
            between_passes.reset(token)


def yielding_words(words: Words, pause: HeldTurn) -> Words:
    """A recogniser that pauses before each piece of sound."""

    def recognise(samples: Samples) -> Sequence[Word]:
        pause()
        return words(samples)

    recognise.multilingual = getattr(words, "multilingual", True)  # type: ignore[attr-defined]
    return recognise


def yielding_diariser(options: Mapping[str, Any], pause: HeldTurn) -> dict[str, Any]:
    """Settings of `analyze` whose diariser pauses before each block of sound."""
    diariser = options.get("speakers")

    def pausing(blocks: Iterator[Samples], count: int | None) -> Iterable[Turn]:
        def paused() -> Iterator[Samples]:
            for block in blocks:
                pause()
                yield block

        return cast(Diariser, diariser)(paused(), count)

    return {**options, "speakers": diariser and pausing}


def _parts(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Yields the places of consecutive items that fill a turn, at least one.

    >>> list(_parts([TURN_SAMPLES // 2, TURN_SAMPLES // 2, 1, 2 * TURN_SAMPLES, 1]))
    [[0, 1], [2], [3], [4]]
    """

    def full(part: list[int], place: int) -> bool:
        return sum(lengths[one] for one in (*part, place)) > TURN_SAMPLES

    return packed(range(len(lengths)), full)


def check_work(seconds: float, window: float, hop: float, settings: Settings) -> None:
    """Refuses a timeline whose windows have more sound together than is allowed, before it begins.

    Raises:
        RefusedError: 422.
    """
    window = min(window, seconds)
    # Overlapping windows are predicted once each: a small hop multiplies the work.
    predicted = window * (1 + max(0.0, seconds - window) / hop)
    most = settings.most_heard
    if predicted <= most:
        return
    # The hop, rounded up, with which the same window would be allowed.
    wider = math.ceil(window * (seconds - window) / max(most - window, 1e-9))
    raise RefusedError(
        422,
        f"window={window:g} s every hop={hop:g} s of {seconds:.0f} s are {math.ceil(predicted)} s "
        f"of sound to predict; allowed: {most:g} s; take a hop of {wider} s or more, a shorter "
        "window, or a shorter recording",
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

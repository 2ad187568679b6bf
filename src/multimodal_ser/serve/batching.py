"""Concurrent predictions of short recordings → one call of the network.

While a batch is computed, the requests that arrive make the next one; only the first request to an
idle server waits for others.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from multimodal_ser.common.arrays import Samples
from multimodal_ser.encoders.base import packed
from multimodal_ser.predict.prediction import Prediction
from multimodal_ser.predict.predictor import Predictor
from multimodal_ser.serve.scheduling import TURN_SAMPLES, Scheduler, Work


@dataclass(eq=False)
class _Item:
    wave: Samples
    text: str | None
    outcome: asyncio.Future[Prediction]


class Batcher:
    """Collects waveforms that arrive at about the same time into batches.

    Args:
        predictor: predicts lists of waveforms.
        turns: decide who may compute.
        most: largest number of recordings in a batch; 1 disables batches.
        wait: seconds that the first request waits for others.
    """

    def __init__(self, predictor: Predictor, turns: Scheduler, most: int, wait: float) -> None:
        self.predictor, self.turns, self.most, self.wait = predictor, turns, most, wait
        self._waiting: list[_Item] = []
        self._task: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, "ser-network")

    async def __call__(self, wave: Samples, text: str | None = None) -> Prediction:
        """The prediction of one waveform [time].

        Raises:
            SerError: this waveform cannot be predicted; the others of its batch are.
        """
        item = _Item(wave, text, asyncio.get_running_loop().create_future())
        self._waiting.append(item)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._drain())
        return await item.outcome

    def close(self) -> None:
        """Ends the thread."""
        self._thread.shutdown(wait=True)

    async def _drain(self) -> None:
        loop = asyncio.get_running_loop()
        if self.most > 1 and len(self._waiting) < self.most:
            await asyncio.sleep(self.wait)
        while self._waiting:
            batch = self._next()
            outcomes = await loop.run_in_executor(self._thread, self._in_turn, batch)
            for item, outcome in zip(batch, outcomes, strict=True):
                if item.outcome.done():
                    continue
                if isinstance(outcome, Exception):
                    item.outcome.set_exception(outcome)
                else:
                    item.outcome.set_result(outcome)

    def _next(self) -> list[_Item]:
        """The next batch, of at most one turn's sound; items whose client has gone are dropped."""

        def full(batch: list[_Item], item: _Item) -> bool:
            return sum(len(one.wave) for one in (*batch, item)) > TURN_SAMPLES

        waiting = [item for item in self._waiting if not item.outcome.done()]
        batch = next(packed(waiting[: self.most], full), [])
        self._waiting = waiting[len(batch) :]
        return batch

    def _in_turn(self, batch: Sequence[_Item]) -> list[Prediction | Exception]:
        with self.turns.turn(Work(math.inf)):
            return self._outcomes(batch)

    def _outcomes(self, batch: Sequence[_Item]) -> list[Prediction | Exception]:
        if not batch:
            return []
        try:
            waves, texts = [item.wave for item in batch], [item.text for item in batch]
            return list(self.predictor.waves(waves, texts))
        except Exception as error:  # noqa: BLE001 - raised again in the request that it belongs to
            if len(batch) == 1:
                return [error]
            # A faulty waveform must not fail the requests of others: the batch is repeated one by
            # one.
            return [self._outcomes([item])[0] for item in batch]

"""The progress bar of long loops: how much is done, how fast, and the time that remains."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class ProgressBar:
    """Counts utterances and seconds of sound, and shows them if there is a progress bar."""

    def __init__(self, bar: Progress | None, label: str, total: int, done: int) -> None:
        self._bar = bar
        self._count, self._seconds, self._begin = 0, 0.0, time.monotonic()
        if bar is not None:
            self._task = bar.add_task(label, total=total, completed=done, rate="")

    def advance(self, count: int, seconds: float) -> None:
        """Adds finished utterances, and the seconds of sound in them (0 for text)."""
        if self._bar is None:
            return
        self._count += count
        self._seconds += seconds
        passed = max(time.monotonic() - self._begin, 1e-3)
        rate = f"{self._count / passed:.1f} utterances/s"
        if self._seconds:
            rate += f" · {self._seconds / passed:.1f} × real time"
        self._bar.update(self._task, advance=count, rate=rate)


@contextmanager
def progress_bar(label: str, total: int, done: int, show: bool) -> Iterator[ProgressBar]:
    """Opens a progress bar on standard error, if that is a terminal and `show` is true."""
    console = Console(stderr=True)
    if not (show and console.is_terminal):
        yield ProgressBar(None, label, total, done)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bar:
        yield ProgressBar(bar, label, total, done)

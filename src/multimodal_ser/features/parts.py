"""A running extraction: its hidden folder, with one file per finished chunk, and its progress bar.

The files survive a kill, so that a rerun resumes.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from multimodal_ser.common.arrays import Array
from multimodal_ser.common.files import write_file
from multimodal_ser.corpora.utterance import Utterance
from multimodal_ser.errors import FeatureError
from multimodal_ser.features.store import FeatureHeader, FeatureStore, write_store

_log = logging.getLogger(__name__)


class Parts:
    """The parts of one feature file, each written aside and renamed, so complete or absent.

    Attributes:
        folder: ``.<encoder>.parts`` beside the feature file.
        chunks: the utterances of each part, in the order of the manifest.
    """

    def __init__(self, path: Path, chunks: Sequence[Sequence[Utterance]], fingerprint: str) -> None:
        self.folder = work_folder(path)
        self.chunks = chunks
        # Parts of other settings, or of another order of utterances, must not be mixed with new
        # ones.
        note = self.folder / "settings"
        if self.folder.exists() and not (note.exists() and note.read_text() == fingerprint):
            _log.info("discarding %s: parts made with other settings or utterances", self.folder)
            shutil.rmtree(self.folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        if not note.exists():
            write_file(note, fingerprint)

    def write(self, index: int, header: FeatureHeader, arrays: Mapping[str, Array]) -> None:
        """Writes one part, in the order of its chunk."""
        ordered = [(row.id, arrays[row.id]) for row in self.chunks[index] if row.id in arrays]
        write_store(self._path(index), header, ordered)

    def missing(self) -> list[int]:
        """Indices of the parts that are missing or damaged, in order."""
        return [index for index in range(len(self.chunks)) if not self._complete(index)]

    def stores(self) -> list[FeatureStore]:
        """Opens all parts, in order."""
        return [FeatureStore.open(self._path(index)) for index in range(len(self.chunks))]

    def _path(self, index: int) -> Path:
        return self.folder / f"{index:06d}.safetensors"

    def _complete(self, index: int) -> bool:
        if not self._path(index).exists():
            return False
        try:
            FeatureStore.open(self._path(index))
        except FeatureError as error:
            _log.info("making a part again: %s", error)
            return False
        return True


def work_folder(path: Path) -> Path:
    """The folder of the parts of a feature file while it is being made."""
    return path.with_name(f".{path.stem}.parts")


def merge_parts(
    path: Path, header: FeatureHeader, stores: Sequence[FeatureStore], order: Sequence[Utterance]
) -> FeatureStore:
    """Writes all parts into one feature file, one utterance at a time.

    Args:
        path: of the finished file.
        header: the settings that all parts share.
        stores: the parts; a later one takes precedence over an earlier one.
        order: the utterances in the manifest's order.
    """
    # A later failure removes an earlier success: its features were of other content.
    having: dict[str, FeatureStore] = {}
    failures: dict[str, str] = {}
    for store in stores:
        for key in store.header.failures:
            having.pop(key, None)
        failures.update(store.header.failures)
        having.update(dict.fromkeys(store.ids, store))
    hashes = {k: v for store in stores for k, v in store.audio_hashes.items() if k in having}
    prints = {k: v for store in stores for k, v in store.header.prints.items() if k in having}

    def items() -> Iterator[tuple[str, Array]]:
        for row in order:
            if row.id in having:
                yield row.id, having[row.id][row.id]

    whole = replace(
        header,
        truncated=sum(store.header.truncated for store in stores),
        failures={row.id: failures[row.id] for row in order if row.id not in having},
        audio_hashes={row.id: hashes[row.id] for row in order if row.id in hashes},
        prints={row.id: prints[row.id] for row in order if row.id in prints},
    )
    write_store(path, whole, items())
    return FeatureStore.open(path)


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

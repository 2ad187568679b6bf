"""Many recordings → the files of each, in the same folder tree, and tables over all of them.

What is done is recorded in a journal, one line per recording, so that rerunning resumes an
interrupted run. Memory does not grow with the recordings: at the end the journal is read again.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from multimodal_ser.common.cluster import run_on_ray
from multimodal_ser.common.files import Journal, written_aside
from multimodal_ser.errors import SerError
from multimodal_ser.predict.lots import identity
from multimodal_ser.timeline.analysis import Progressed, analyze
from multimodal_ser.timeline.overview import Overview, summary_page
from multimodal_ser.timeline.places import Place
from multimodal_ser.timeline.tables import SEGMENTS, index_row, segment_rows, writer_of
from multimodal_ser.timeline.track import Timeline
from multimodal_ser.timeline.writers import WRITERS, made

JOURNAL, INDEX, SUMMARY = ".analyzed.jsonl", "index.csv", "summary.html"


@dataclass(frozen=True)
class AnalysisRecipe:
    """How every recording is analysed.

    Attributes:
        predictor: from `load`.
        settings: of `analyze`.
        formats: keys of `writers.WRITERS`.
        told: the settings in words for the journal, where those without plain values are named.
    """

    predictor: Any
    settings: Mapping[str, Any]
    formats: Sequence[str]
    told: str = ""

    @property
    def name(self) -> str:
        """Identifies the recipe: it differs for other settings, formats, models or versions."""
        return identity(self.predictor, self.told, list(self.formats))


class Done(NamedTuple):
    """The result of a recording: a timeline and the content of its files by ending, or a reason."""

    place: Place
    timeline: Timeline | None
    files: Mapping[str, bytes]
    reason: str = ""


def analyzed(recipe: AnalysisRecipe, place: Place, on_progress: Progressed | None = None) -> Done:
    """Analyses one recording and makes its files; a failure is returned with its reason."""
    try:
        found = analyze(
            place.path, recipe.predictor, on_progress=on_progress, **dict(recipe.settings)
        )
        found = replace(found, source=place.source)
        return Done(place, found, dict(made(found, Path(place.path), recipe.formats)))
    except (SerError, OSError) as error:
        return Done(place, None, {}, str(error).removeprefix(f"{Path(place.path).name}: "))


def kept(done: Done, out: Path) -> None:
    """Writes the files of one recording, each complete or not at all."""
    for ending, content in done.files.items():
        with written_aside(out / (done.place.name + ending)) as partial:
            partial.write_bytes(content)


class Folder:
    """A folder of timelines that records what is done.

    Args:
        out: where to write.
        recipe: how every recording is analysed.
        found: the recordings, in the order of the tables.
    """

    def __init__(self, out: Path, recipe: AnalysisRecipe, found: Sequence[Place]) -> None:
        self.out, self.recipe, self.found = out, recipe, found
        self._journal, self._recipe_name = Journal(out / JOURNAL), recipe.name
        lines = self._journal.places
        # source → where its line begins in the journal
        self._done = {
            place.source: lines[key]
            for place in found
            if (key := self._key(place)) in lines and self._there(place)
        }
        self.failures: dict[str, str] = {}

    @property
    def waiting(self) -> list[Place]:
        """The recordings that are not analysed yet."""
        return [place for place in self.found if place.source not in self._done]

    def run(self, engine: str, tell: Callable[[Place], Any]) -> Iterator[Done]:
        """Analyses the remaining recordings and stores each result at once.

        Args:
            engine: ``local`` or ``ray``.
            tell: returns a progress context for a recording, for the local engine.
        """
        if engine == "ray":
            for done in run_on_ray(analyzed, self.recipe, self.waiting):
                yield self._keep(done)
            return
        for place in self.waiting:
            with tell(place) as on_progress:
                done = analyzed(self.recipe, place, on_progress)
            yield self._keep(done)

    def finish(self) -> list[Path]:
        """Writes index, segments and summary of everything that is done; returns the files."""
        labels = tuple(self.recipe.predictor.labels)
        scale = getattr(self.recipe.predictor, "scale", None)
        overview = Overview(labels, scale)
        index, segments = self.out / INDEX, self.out / SEGMENTS
        with (
            written_aside(index) as first,
            written_aside(segments) as second,
            first.open("w", encoding="utf-8", newline="") as table,
            writer_of(second, labels, scale) as add,
        ):
            rows = csv.writer(table, lineterminator="\n")
            rows.writerow(index_row(None, labels, scale))
            for row in self._rows():
                rows.writerow(index_row(row, labels, scale))
                add(segment_rows(row, labels, scale))
                overview.add(row)
        # what was made with other settings is not done any more
        self._journal.keep(self._lines())
        summary = self.out / SUMMARY
        pages = "html" in self.recipe.formats
        with written_aside(summary) as partial:
            partial.write_text(summary_page(overview, pages), encoding="utf-8")
        return [index, segments, summary]

    def _keep(self, done: Done) -> Done:
        if done.timeline is None:
            self.failures[done.place.source] = done.reason
            return done
        kept(done, self.out)
        told = {
            "source": done.place.source, "name": done.place.name, "key": self._key(done.place),
            "reason": "", "timeline": {**done.timeline.as_dict(), "track": [], "words": []},
        }  # fmt: skip
        # Files first, journal second: a line in the journal means that the files are complete.
        self._done[done.place.source] = self._journal.add(told)
        return done

    def _there(self, place: Place) -> bool:
        endings = [WRITERS[kind][0] for kind in self.recipe.formats]
        return all((self.out / (place.name + ending)).is_file() for ending in endings)

    def _key(self, place: Place) -> str:
        """Identifies recording, recipe and the file's state: it differs if the file has changed."""
        file = Path(place.path)
        if not file.is_file():
            return ""
        about = file.stat()
        return f"{self._recipe_name} {about.st_size} {about.st_mtime_ns} {place.source}"

    def _lines(self) -> list[int]:
        """Where the lines of what is done begin, in the order of the recordings."""
        return [self._done[place.source] for place in self.found if place.source in self._done]

    def _rows(self) -> Iterator[dict[str, Any]]:
        lines = self._journal.read(self._lines())
        for place in self.found:
            if place.source in self._done:
                yield next(lines)
            else:
                reason = self.failures.get(place.source, "not analysed")
                yield {"source": place.source, "name": place.name, "reason": reason}

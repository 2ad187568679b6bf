"""Many recordings → the files of each, in the same folder tree, and tables over all of them.

What is done is recorded in a journal, one line per recording, so that rerunning resumes an
interrupted run. Memory does not grow with the recordings: at the end the journal is read again.
"""

from __future__ import annotations

import csv
import errno
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from multimodal_ser.common.cluster import run_on_ray
from multimodal_ser.common.files import Journal, file_state, made_folder, write_file, written_aside
from multimodal_ser.errors import SerError
from multimodal_ser.predict.resumable import identity
from multimodal_ser.timeline.analysis import Progressed, analyze
from multimodal_ser.timeline.places import STDIN_NAME, Place
from multimodal_ser.timeline.tables import (
    SEGMENTS,
    Overview,
    index_row,
    segment_rows,
    summary_page,
    writer_of,
)
from multimodal_ser.timeline.track import Timeline
from multimodal_ser.timeline.writers import WRITERS, rendered

_BEGUN = "begun "  # key of a line before the name whose files are being written
JOURNAL, INDEX, SUMMARY = ".analyzed.jsonl", "index.csv", "summary.html"
# errors of writing that concern one recording alone, such as a name that is too long with an ending
_ITS_NAME = (errno.ENAMETOOLONG, errno.EISDIR, errno.ENOTDIR, errno.EEXIST)


@dataclass(frozen=True)
class AnalysisRecipe:
    """How every recording is analysed.

    Attributes:
        predictor: from `load`.
        settings: of `analyze`.
        formats: keys of `writers.WRITERS`.
        described: the settings in words for the journal; it names those without plain values.
        out: folder for the files; None if they are written elsewhere.
    """

    predictor: Any
    settings: Mapping[str, Any]
    formats: Sequence[str]
    described: str = ""
    out: Path | None = None

    @property
    def name(self) -> str:
        """Identifies the recipe: it differs for other settings, formats, models or versions."""
        return identity(self.predictor, self.described, list(self.formats))


class AnalysisResult(NamedTuple):
    """The result of a recording: a timeline and the content of its files by ending, or a reason."""

    place: Place
    timeline: Timeline | None
    files: Mapping[str, bytes]
    reason: str = ""


def analyze_place(
    recipe: AnalysisRecipe, place: Place, on_progress: Progressed | None = None
) -> AnalysisResult:
    """Analyses one recording and makes its files; a failure is returned with its reason."""
    try:
        # warnings about the recording are among the timeline's notes, which are shown and stored
        found = analyze(
            place.path, recipe.predictor, on_progress=on_progress, warn=None,
            **dict(recipe.settings),
        )  # fmt: skip
        found = replace(found, source=place.source)
        # what came through standard input is in a file that does not last
        lasts = place.source != STDIN_NAME
        folder = (recipe.out / place.name).parent if recipe.out and lasts else None
    except (SerError, OSError) as error:
        return AnalysisResult(place, None, {}, _reason(place, error))
    files: dict[str, bytes] = {}
    try:
        for ending, content in rendered(found, Path(place.path), recipe.formats, folder):
            files[ending] = content
    except (SerError, OSError) as error:
        # Such as a recording that was removed meanwhile, whose sound the page shows. The formats
        # that are ready are written all the same: what was analysed is not lost.
        ready = f"; written: {' '.join(files)}" if files else ""
        return AnalysisResult(place, found, files, f"{_reason(place, error)}{ready}")
    return AnalysisResult(place, found, files)


def _reason(place: Place, error: Exception) -> str:
    return str(error).removeprefix(f"{Path(place.path).name}: ")


class JournalKey(NamedTuple):
    """What a line of the journal is about; another recipe or state: the recording is to be redone.

    Attributes:
        recipe: the recipe's name.
        state: size and time of the recording, see `file_state`; empty if it is gone.
        source: the recording's name relative to the given folders.
        name: of its files.
        path: where it was read from.
    """

    recipe: str
    state: str
    source: str
    name: str
    path: str


class Folder:
    """A folder of timelines that records what is done.

    Args:
        out: where to write.
        recipe: how every recording is analysed.
        found: the recordings, in the order of the tables.

    Raises:
        SerError: it holds files of another recording that would have the same name, or it cannot
            be written to.
    """

    def __init__(self, out: Path, recipe: AnalysisRecipe, found: Sequence[Place]) -> None:
        self.out, self.recipe = out, recipe
        made_folder(out)
        self._journal, self._recipe_name = Journal(out / JOURNAL), recipe.name
        # name → the last line about it, and where it begins in the journal
        self._lines = {
            made.name: (made, place)
            for key, place in self._journal.places.items()
            if (made := _journal_key(key)) is not None
        }
        keys = self._journal.places
        self._begun = {key.removeprefix(_BEGUN) for key in keys if key.startswith(_BEGUN)}
        self.found = [self._free(place) for place in found]
        self._done = {
            place.name: self._lines[place.name][1] for place in self.found if self._is_done(place)
        }
        self.failures: dict[str, str] = {}

    @property
    def waiting(self) -> list[Place]:
        """The recordings that are not analysed yet."""
        return [place for place in self.found if place.name not in self._done]

    @property
    def others(self) -> list[int]:
        """Where the lines of recordings of earlier commands begin."""
        ours = {place.name for place in self.found}
        return [line for name, (_, line) in self._lines.items() if name not in ours]

    def run(self, engine: str, tell: Callable[[Place], Any]) -> Iterator[AnalysisResult]:
        """Analyses the remaining recordings and stores each result at once.

        Args:
            engine: ``local`` or ``ray``.
            tell: returns a progress context for a recording, for the local engine.
        """
        if engine == "ray":
            for done in run_on_ray(analyze_place, self.recipe, self.waiting):
                yield self.keep(done)
            return
        for place in self.waiting:
            with tell(place) as on_progress:
                done = analyze_place(self.recipe, place, on_progress)
            yield self.keep(done)

    def refuse_other_tables(self) -> None:
        """Refuses to replace the user's own index.csv, or another file with the name of a table.

        Raises:
            SerError: such a file exists, and nothing was analysed into the folder before.
        """
        if not self._journal.places:
            self._refuse([self.out / name for name in (INDEX, SEGMENTS, SUMMARY)])

    def _refuse(self, files: Iterable[Path]) -> None:
        for file in files:
            if os.path.lexists(file):  # False where a name is too long
                raise SerError(
                    f"{file}: exists, and is not known to be of an earlier `ser analyze`, which "
                    "would replace it; move it, or give another folder as --out"
                )

    def finish(self) -> list[Path]:
        """Writes index, segments and summary of everything that is done; returns the files."""
        labels = tuple(self.recipe.predictor.labels)
        scale = getattr(self.recipe.predictor, "scale", None)
        overview = Overview(labels, scale)
        if also := getattr(self.recipe.predictor, "also", None):
            labels += also.labels
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
        begun = [
            line
            for key, line in self._journal.places.items()
            if key.startswith(_BEGUN) and key.removeprefix(_BEGUN) not in self._done
        ]
        self._journal.keep([*self.others, *begun, *self._ours()])
        summary = self.out / SUMMARY
        write_file(summary, summary_page(overview, "html" in self.recipe.formats))
        return [index, segments, summary]

    def keep(self, done: AnalysisResult) -> AnalysisResult:
        """Writes the files of one recording, and then its line in the journal."""
        reason = done.reason
        try:
            with ExitStack() as written:
                # reversed, since the last one that is opened gets its name first
                for ending, content in reversed(list(done.files.items())):
                    file = self.out / (done.place.name + ending)
                    written.enter_context(written_aside(file)).write_bytes(content)
                if done.files and done.place.name not in self._lines:
                    # The files get their names after this line: if the command is killed between,
                    # a rerun knows that they are not the user's.
                    self._journal.add({"key": _BEGUN + done.place.name})
        except SerError as error:
            if getattr(error.__cause__, "errno", None) not in _ITS_NAME:
                raise  # no other recording could be written either
            reason = str(error)
        if done.timeline is None or reason:
            self.failures[done.place.name] = reason
            return AnalysisResult(done.place, None, {}, reason)
        timeline = {**done.timeline.as_dict(), "track": [], "words": []}
        if "attributes" in timeline:  # of which the tables have the mean alone
            timeline["attributes"] = {"overall": timeline["attributes"]["overall"]}
        line = {
            "source": done.place.source, "name": done.place.name,
            "key": "\0".join(self._about(done.place)), "reason": "",
            "timeline": timeline,
        }  # fmt: skip
        # Files first, journal second: a line in the journal means that the files are complete.
        self._done[done.place.name] = self._journal.add(line)
        return done

    def _about(self, place: Place) -> JournalKey:
        state = " ".join(map(str, file_state(Path(place.path)) or ()))
        path = os.path.abspath(place.path)  # noqa: PTH100 - links keep the names that the user gave
        return JournalKey(self._recipe_name, state, place.source, place.name, path)

    def _is_done(self, place: Place) -> bool:
        files = self._files(place, self.recipe.formats)
        if place.name not in self._lines or not all(file.is_file() for file in files):
            return False
        now, made = self._about(place), self._lines[place.name][0]
        return bool(now.state) and made[:3] == now[:3]

    def _files(self, place: Place, formats: Iterable[str]) -> list[Path]:
        return [self.out / (place.name + WRITERS[kind].ending) for kind in formats]

    def _free(self, place: Place) -> Place:
        """The recording, named so that its files replace none of another one that still exists.

        It keeps its name, or takes the whole one with its ending: ``call.wav`` after ``call.mp3``.
        """
        named = place._replace(name=place.source)
        other = self._taken(place)
        if other is None:
            if place.name not in self._lines and place.name not in self._begun:
                self._refuse(self._files(place, self.recipe.formats))
            return place
        if other.source != place.source and self._taken(named) is None:
            return named
        raise SerError(
            f"{self.out / place.name}: files of {other.path}, which those of {place.path} would "
            "replace; give another folder as --out"
        )

    def _taken(self, place: Place) -> JournalKey | None:
        """The journal key of another recording that has this one's file names already, or None."""
        made = self._lines[place.name][0] if place.name in self._lines else None
        now = self._about(place)
        if made is None or now.state in ("", made.state):
            return None
        if not any(file.is_file() for file in self._files(place, WRITERS)):
            return None
        elsewhere = Path(made.path).exists() and not Path(made.path).samefile(now.path)
        return made if elsewhere else None

    def _ours(self) -> list[int]:
        """Offsets in the journal of the finished recordings' lines, in the order of `found`."""
        return [self._done[place.name] for place in self.found if place.name in self._done]

    def _rows(self) -> Iterator[dict[str, Any]]:
        lines = self._journal.read(self._ours())
        for place in self.found:
            if place.name in self._done:
                yield next(lines)
            else:
                reason = self.failures.get(place.name, "not analysed")
                yield {"source": place.source, "name": place.name, "reason": reason}


def _journal_key(key: str) -> JournalKey | None:
    parts = key.split("\0")
    return JournalKey(*parts) if len(parts) == len(JournalKey._fields) else None

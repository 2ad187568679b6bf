"""Writes results.md and results.json from a list of experiments and their runs.

No number on the page is typed by hand. The list, which is written by hand, says which experiments
to show, under which titles, and which commands made them. The numbers are kept as JSON beside the
page, so that the page can be rendered again without the runs; tables whose runs are not given
keep their numbers.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args, get_origin

import numpy as np
from cattrs import BaseValidationError, Converter, transform_error

from multimodal_ser.common.files import parse_json, write_file
from multimodal_ser.errors import SerError
from multimodal_ser.report.compute import summarise
from multimodal_ser.report.layout import markdown_table
from multimodal_ser.report.summary import Summary
from multimodal_ser.runs.folder import tasks_of

_log = logging.getLogger(__name__)
# Tables show at most four digits; nine keep them exact and leave out the noise of the last bits,
# which differs between machines and would make every rerun a diff.
_DIGITS = 9


@dataclass(frozen=True)
class Listed:
    """One table of the page.

    Attributes:
        title: its heading.
        experiment: name of the experiment's folder.
        commands: that made it; if empty, the command that the experiment recorded.
        note: a sentence below the heading.
        manifests: of the tested corpora, for scores by sex and age: file names, looked for in
            the folders of runs.
    """

    title: str
    experiment: str
    commands: tuple[str, ...] = ()
    note: str = ""
    manifests: tuple[str, ...] = ()


@dataclass(frozen=True)
class Page:
    """A page: its title, its introduction, its tables."""

    title: str
    introduction: str
    tables: tuple[Listed, ...]


def read_list(path: Path) -> Page:
    """Reads the list of tables: JSON with ``title``, ``introduction`` and ``tables``.

    Raises:
        SerError: the file is missing or not such JSON, or a table lacks title or experiment.
    """
    try:
        found = parse_json(path.read_text(encoding="utf-8"))
        tables = tuple(_listed(one) for one in found["tables"])
        page = Page(str(found["title"]), str(found.get("introduction", "")), tables)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SerError(
            f"{path}: not a list of tables ({error!r}); give JSON: title, introduction, and tables "
            "with title, experiment and, optionally, commands, note, manifests"
        ) from error
    names = [table.experiment for table in page.tables]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise SerError(f"{path}: lists {', '.join(twice)} twice; list each experiment once")
    return page


def _listed(entry: Mapping[str, Any]) -> Listed:
    lists = {key: tuple(entry.get(key, ())) for key in ("commands", "manifests")}
    return Listed(**{**entry, **lists})


def _found_in(runs: Sequence[Path]) -> Page:
    """Returns a page with every experiment in folders of runs, by name.

    Raises:
        SerError: there is no experiment.
    """
    found = [
        path.parent.relative_to(folder).as_posix() if path.parent != folder else folder.name
        for folder in runs
        for path in sorted(folder.rglob("experiment.json"))
    ]
    names = dict.fromkeys(found)
    if not names:
        raise SerError(
            f"no experiment in {', '.join(map(str, runs)) or 'no folder'}; give --runs FOLDER, "
            "which holds what ser train and ser experiment wrote, or a list: --tables FILE"
        )
    return Page("Results", "", tuple(Listed(name, name) for name in names))


def write_results(runs: Sequence[Path], listed: Path | None, out: Path) -> Path:
    """Writes the page, and its numbers as JSON next to it.

    Args:
        runs: folders that hold experiments' folders.
        listed: the list of tables; None for every experiment in `runs`.
        out: the page to write, such as docs/results.md; the JSON has the same name.

    Returns:
        The page's path.

    Raises:
        SerError: an experiment of the list has neither runs nor a record in the existing JSON.
    """
    page = _found_in(runs) if listed is None else read_list(listed)
    path = out.with_suffix(".json")
    records = read_records(path) if path.is_file() else {}
    kept = {}
    for table in page.tables:
        folder = _find(runs, table.experiment)
        if folder is not None:
            manifests = [_manifest(runs, name) for name in table.manifests]
            found = [
                as_record(summarise(folder, manifests=manifests, task=task))
                for task in tasks_of(folder) or (None,)
            ]
            kept[table.experiment] = found if len(found) > 1 else found[0]
        elif table.experiment in records:
            _log.info("%s: no runs given; keeping its numbers from the last time", table.experiment)
            kept[table.experiment] = records[table.experiment]
        else:
            raise SerError(
                f"{listed}: lists {table.experiment!r}, which has no runs in "
                f"{', '.join(map(str, runs)) or 'any folder'} and no numbers in {path}; give the "
                "folder that holds it"
            )
    # `allow_nan=False`: Python would write NaN, which is no JSON; `as_record` has turned it into
    # null
    text = json.dumps(kept, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    shown = render(page, kept)
    write_file(path, text)
    write_file(out, shown)
    return out


def read_records(path: Path) -> dict[str, Any]:
    """Reads the numbers that belong to a page.

    Raises:
        SerError: the file is not such JSON.
    """
    try:
        return dict(parse_json(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise SerError(f"{path}: not the numbers of a page ({error}); delete it") from error


def _find(runs: Sequence[Path], name: str) -> Path | None:
    """The folder of an experiment, if it is there.

    Raises:
        SerError: two folders of runs have an experiment of this name: one would not be shown.
    """
    places = [folder if folder.name == name else folder / name for folder in runs]
    found = {place.resolve(): place for place in places if place.is_dir()}
    if len(found) > 1:
        raise SerError(
            f"several experiments are called {name}: {', '.join(map(str, found.values()))}; rename "
            "one, or leave its folder out of --runs"
        )
    return next(iter(found.values()), None)


def _manifest(runs: Sequence[Path], name: str) -> Path:
    places = [folder / name for folder in runs]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise SerError(
            f"no manifest {name} in {', '.join(map(str, runs))}; put it beside the experiments"
        )
    return found


def render(page: Page, records: Mapping[str, Any]) -> str:
    """Renders the page from its list and its numbers alone."""
    parts = [f"# {page.title}", page.introduction]
    for table in page.tables:
        found = records[table.experiment]  # of two tasks a list, with the record of each
        summaries = [from_record(one) for one in (found if isinstance(found, list) else [found])]
        parts += [f"## {table.title}", table.note, _commands(table, summaries[0])]
        parts += [markdown_table(summary) for summary in summaries]
    return "\n\n".join(part.strip("\n") for part in parts if part) + "\n"


def _commands(table: Listed, summary: Summary) -> str:
    commands = table.commands or ((summary.command,) if summary.command else ())
    return "\n".join(["```", *commands, "```"]) if commands else ""


def as_record(summary: Summary) -> dict[str, Any]:
    """Turns a summary into JSON values; numbers keep nine digits, and NaN becomes null."""
    return _CONVERTER.unstructure(summary)


def from_record(record: Mapping[str, Any]) -> Summary:
    """Turns a record back into the summary it was made from.

    Raises:
        SerError: the record does not fit this version of the package.
    """
    try:
        return _CONVERTER.structure(record, Summary)
    except BaseValidationError as error:
        reasons = "; ".join(transform_error(error))
        raise SerError(
            f"the record of {record.get('name')!r} does not fit this version ({reasons}); "
            "regenerate it from its runs"
        ) from error


def _is_array(kind: Any) -> bool:
    return (get_origin(kind) or kind) is np.ndarray


def _converter() -> Converter:
    """Builds the converter: JSON has no NaN, so null means NaN unless the number may be None."""
    made = Converter(forbid_extra_keys=True, unstruct_collection_overrides={tuple: list})
    made.register_structure_hook(float, lambda value, _: math.nan if value is None else value)
    made.register_unstructure_hook(
        float, lambda value: None if math.isnan(value) else round(value, _DIGITS)
    )
    made.register_structure_hook(float | None, lambda value, _: value)
    # cattrs knows no NumPy arrays; the second type argument of NDArray[X] is the element type
    made.register_structure_hook_func(
        _is_array, lambda value, kind: np.array(value, dtype=get_args(get_args(kind)[1])[0])
    )
    made.register_unstructure_hook_func(_is_array, lambda value: made.unstructure(value.tolist()))
    return made


_CONVERTER = _converter()

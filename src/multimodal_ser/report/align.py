"""Runs → systems that were tested on the very same utterances, and what is missing for more.

Scores may be set side by side only where folds and utterances agree. Whatever has to be left
out for that is said in words.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multimodal_ser.errors import SerError
from multimodal_ser.report.read import Run

BASELINES = ("linear", "svm")
Cells = dict[tuple[str, int], Run]


@dataclass(frozen=True, eq=False)
class Sample:
    """The rows that every system of a table is scored on; all folds together.

    Attributes:
        keys: fold and utterance id of each row, [N].
        truth: class ids, [N].
        groups: the cluster of each row, 0 … S-1, [N].
        clusters: how many clusters there are, S.
        by: what a cluster is, ``speaker`` or ``utterance``.
    """

    keys: tuple[tuple[str, str], ...]
    truth: NDArray[np.int64]
    groups: NDArray[np.int64]
    clusters: int
    by: str


@dataclass(frozen=True, eq=False)
class System:
    """One model with one setting, on the table's sample.

    Attributes:
        name: the model's name; where one model has several settings, with what differs.
        model: the model's name alone.
        seeds: its seeds that are complete, K.
        runs: the runs that stand behind it.
        probabilities: [K, N, C].
        settings: its configuration, flattened.
    """

    name: str
    model: str
    seeds: tuple[int, ...]
    runs: tuple[Run, ...]
    probabilities: NDArray[np.float64]
    settings: Mapping[str, str]


@dataclass(frozen=True, eq=False)
class Aligned:
    """Systems over one sample, the folds behind them, and sentences on what is missing."""

    systems: tuple[System, ...]
    sample: Sample
    folds: tuple[str, ...]
    missing: tuple[str, ...]


def align(runs: Sequence[Run]) -> Aligned:
    """Puts runs into systems over the folds and utterances that they share.

    Raises:
        SerError: the runs disagree on classes, split or test rows, or no fold is common to all.
    """
    _check_alike(runs)
    cells = _by_system(runs)
    folds = _common_folds(cells)
    missing = _missing_folds(cells, folds, runs[0].config["split"])
    seeds = sorted({seed for runs_of in cells.values() for _, seed in runs_of})
    systems, sample = [], None
    for name, runs_of in cells.items():
        complete = tuple(s for s in seeds if all((fold, s) in runs_of for fold in folds))
        missing += _missing_seeds(name, runs_of, folds, seeds, complete)
        if not complete:
            continue
        sample = sample or _sample([runs_of[fold, complete[0]] for fold in folds], folds)
        systems.append(_system(name, runs_of, folds, complete, sample))
    if sample is None:
        raise SerError(
            "no model has one seed that is complete on all common folds; let `ser train` finish"
        )
    return Aligned(tuple(systems), sample, folds, tuple(missing))


def _check_alike(runs: Sequence[Run]) -> None:
    first = runs[0]
    for run in runs:
        if run.classes != first.classes:
            raise SerError(
                f"{run.folder} has the classes {list(run.classes)}, {first.folder} has "
                f"{list(first.classes)}; one report needs one class set: keep them in two folders"
            )
        if run.config["split"]["hash"] != first.config["split"]["hash"]:
            raise SerError(
                f"{run.folder} and {first.folder} were made with different splits "
                f"({run.config['split']['hash']}, {first.config['split']['hash']}); one report "
                "needs one split: keep them in two folders"
            )


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Turns nested settings into one level with dotted names, values as text.

    >>> flatten({"train": {"lr": 0.001, "layers": [2, 3]}, "text": None})
    {'train.lr': '0.001', 'train.layers': '[2, 3]', 'text': 'none'}
    """
    flat: dict[str, str] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        elif isinstance(value, str):
            flat[prefix + key] = value
        elif isinstance(value, list) and all(isinstance(one, str) for one in value):
            flat[prefix + key] = ", ".join(value)
        else:
            flat[prefix + key] = "none" if value is None else json.dumps(value, ensure_ascii=False)
    return flat


_NOT_A_SETTING = ("seed", "fold", "marks", "versions", "parameters", "split", "labels")


def _settings(run: Run) -> dict[str, str]:
    return flatten({k: v for k, v in run.config.items() if k not in _NOT_A_SETTING})


def _by_system(runs: Sequence[Run]) -> dict[str, Cells]:
    """Groups runs that differ in nothing but fold and seed."""
    variants: dict[str, dict[str, list[Run]]] = {}
    for run in runs:
        key = json.dumps(_settings(run), sort_keys=True)
        variants.setdefault(run.model, {}).setdefault(key, []).append(run)
    systems: dict[str, Cells] = {}
    for model, groups in variants.items():
        settings = [_settings(group[0]) for group in groups.values()]
        for group, own in zip(groups.values(), settings, strict=True):
            systems[_name(model, own, settings)] = _cells(group)
    return systems


def _name(model: str, own: Mapping[str, str], all_settings: Sequence[Mapping[str, str]]) -> str:
    names = sorted({key for settings in all_settings for key in settings})
    differing = [
        f"{key.rsplit('.', 1)[-1]} {own.get(key, 'none')}"
        for key in names
        if len({settings.get(key) for settings in all_settings}) > 1
    ]
    return f"{model} ({', '.join(differing)})" if differing else model


def _cells(runs: Sequence[Run]) -> Cells:
    cells: Cells = {}
    for run in runs:
        if run.cell in cells:
            raise SerError(
                f"{run.folder} and {cells[run.cell].folder} are the same model, fold and seed; "
                "delete one of them"
            )
        cells[run.cell] = run
    return cells


def _common_folds(systems: Mapping[str, Cells]) -> tuple[str, ...]:
    folds = {name: {fold for fold, _ in cells} for name, cells in systems.items()}
    common = set.intersection(*folds.values())
    if not common:
        have = "; ".join(f"{name}: {', '.join(sorted(has))}" for name, has in folds.items())
        raise SerError(f"the models have no fold in common ({have}); let `ser train` finish")
    return tuple(sorted(common))


def _missing_folds(
    systems: Mapping[str, Cells], common: Sequence[str], split: Mapping[str, Any]
) -> list[str]:
    lines = []
    every = {fold for cells in systems.values() for fold, _ in cells}
    for name, cells in systems.items():
        if lacking := sorted(every - {fold for fold, _ in cells}):
            lines.append(f"{name} has no run of {_listed('fold', lacking)}")
    if len(common) < len(every):
        lines.append(
            f"the table covers {len(common)} of {len(every)} folds, those that every model has"
        )
    planned = split.get("folds")
    if isinstance(planned, int) and len(every) < planned:
        lines.append(f"{len(every)} of the split's {planned} folds have been run")
    return lines


def _missing_seeds(
    name: str,
    cells: Cells,
    folds: Sequence[str],
    seeds: Sequence[int],
    complete: Sequence[int],
) -> list[str]:
    lines = []
    for seed in sorted({seed for _, seed in cells} - set(complete)):
        lacking = [fold for fold in folds if (fold, seed) not in cells]
        lines.append(f"{name}, seed {seed}, lacks {_listed('fold', lacking)}: seed {seed} left out")
    if not complete:
        lines.append(f"{name} has no complete seed and is left out of the table")
    elif len(complete) < len(seeds) and next(iter(cells.values())).model not in BASELINES:
        has = ", ".join(str(seed) for seed in complete)
        lines.append(f"{name} counts {len(complete)} of {len(seeds)} seeds ({has})")
    return lines


def _listed(what: str, names: Sequence[str]) -> str:
    shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    return f"{what}{'s' if len(names) > 1 else ''} {shown}"


def _sample(runs: Sequence[Run], folds: Sequence[str]) -> Sample:
    keys = [(fold, name) for fold, run in zip(folds, runs, strict=True) for name in run.ids]
    speakers = [speaker for run in runs for speaker in run.speakers]
    known = all(speakers)
    names = speakers if known else [name for _, name in keys]
    distinct, groups = np.unique(np.array(names), return_inverse=True)
    return Sample(
        keys=tuple(keys),
        truth=np.concatenate([run.truth for run in runs]),
        groups=groups.astype(np.int64),
        clusters=len(distinct),
        by="speaker" if known else "utterance",
    )


def _system(
    name: str, cells: Cells, folds: Sequence[str], seeds: tuple[int, ...], sample: Sample
) -> System:
    grid = [[cells[fold, seed] for fold in folds] for seed in seeds]
    for row in grid:
        keys = tuple((fold, i) for fold, run in zip(folds, row, strict=True) for i in run.ids)
        truth = np.concatenate([run.truth for run in row])
        if keys != sample.keys or not np.array_equal(truth, sample.truth):
            raise SerError(
                f"{name}, seed {row[0].cell[1]}: its test rows are not those of the other runs "
                f"(see {row[0].folder}); delete the runs that used other data and train again"
            )
    return System(
        name=name,
        model=grid[0][0].model,
        seeds=seeds,
        runs=tuple(run for row in grid for run in row),
        probabilities=np.stack([np.concatenate([r.probabilities for r in row]) for row in grid]),
        settings=_settings(grid[0][0]),
    )

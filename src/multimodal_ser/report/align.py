"""Groups runs into systems that were tested on exactly the same utterances.

Scores can be compared only where the folds and utterances are the same. Whatever is left out for
that reason is listed in sentences.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from multimodal_ser.common.arrays import Floats, Ints
from multimodal_ser.errors import SerError
from multimodal_ser.report import naming
from multimodal_ser.runs.folder import Repeat, Run
from multimodal_ser.runs.predictions import corpus_of

_Cells = dict[tuple[str, Repeat], Run]


@dataclass(frozen=True, eq=False)
class Sample:
    """The test rows that every system of a table is scored on, over all folds.

    Attributes:
        keys: fold and utterance id of each row, [N].
        truth: class ids, [N]; -1 where an utterance has none.
        groups: the cluster of each row, 0 … S-1, [N].
        clusters: how many clusters there are, S.
        by: what a cluster is, ``speaker`` or ``utterance``.
        nameless: how many utterances lack a speaker although others have one; those of a corpus
            are one cluster.
        names: of the classes, or of the attributes.
        task: one of `settings.TASKS`.
        targets: votes per class, or true values of attributes, [N, C]; None for plain classes.
        headline: the score that systems are compared by.
        corpora: that the utterances' ids name, "" where one names none.
    """

    keys: tuple[tuple[str, str], ...]
    truth: Ints
    groups: Ints
    clusters: int
    by: str
    nameless: int = 0
    names: tuple[str, ...] = ()
    task: str = "classes"
    targets: Floats | None = None
    headline: str = "UA"
    corpora: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class System:
    """One model with one configuration, evaluated on the table's sample.

    Attributes:
        name: the name shown to readers; where several systems share it, with what differs.
        model: the model's name alone.
        kind: the name without the share of the target's labels.
        share: how much of the target corpus's labels it was trained on, where that was varied.
        repeats: its complete seeds and draws, K.
        runs: the runs it consists of.
        probabilities: [K, N, C]; for attributes, the predicted values.
        settings: its configuration, flattened.
    """

    name: str
    model: str
    kind: str
    share: naming.Share | None
    repeats: tuple[Repeat, ...]
    runs: tuple[Run, ...]
    probabilities: Floats
    settings: Mapping[str, str]

    @property
    def baseline(self) -> bool:
        """Whether the system is a baseline."""
        return self.runs[0].config.train.of_baseline


@dataclass(frozen=True, eq=False)
class Aligned:
    """Systems over one sample, the folds they cover, and sentences on what is missing."""

    systems: tuple[System, ...]
    sample: Sample
    folds: tuple[str, ...]
    missing: tuple[str, ...]


def align(runs: Sequence[Run]) -> Aligned:
    """Groups runs into systems over the folds and utterances that all of them have.

    Raises:
        SerError: the runs disagree on classes, split or test rows, or no fold is common to all.
    """
    _check_alike(runs)
    variety = naming.Variety.of(runs)
    cells = _by_system(runs, variety)
    folds, missing = _common_folds(cells, runs[0].config.split.folds)
    # systems that were trained on different amounts of labels may have been run with different
    # seeds; what is missing is judged among systems that got the same amount
    planned: dict[naming.Share | None, set[Repeat]] = {}
    for run in runs:
        planned.setdefault(naming.share(run), set()).add(run.repeat)
    systems, sample = [], None
    for name, runs_of in cells.items():
        repeats = sorted(planned[naming.share(next(iter(runs_of.values())))])
        complete = tuple(r for r in repeats if all((fold, r) in runs_of for fold in folds))
        missing += _missing_repeats(name, runs_of, folds, repeats, complete)
        if not complete:
            continue
        # every system is checked against the first one's rows in `_system`, so any of them can
        # define the sample
        sample = sample or _sample([runs_of[fold, complete[0]] for fold in folds], folds)
        systems.append(_system(name, runs_of, folds, complete, sample, variety))
    if sample is None:
        raise SerError(
            "no model has one seed that is complete on all common folds; let `ser train` finish"
        )
    return Aligned(tuple(systems), sample, folds, tuple(missing))


def _check_alike(runs: Sequence[Run]) -> None:
    first = runs[0]
    for run in runs:
        own, wanted = run.config, first.config
        for what, one, other in (
            ("classes", own.labels.classes, wanted.labels.classes),
            ("tasks", own.labels.task, wanted.labels.task),
            ("splits", own.split.hash, wanted.split.hash),
        ):
            if one != other:
                raise SerError(
                    f"{run.folder} and {first.folder} were made with different {what} ({one}, "
                    f"{other}); one report needs the same for all runs: keep them in two folders"
                )


def _by_system(runs: Sequence[Run], variety: naming.Variety) -> dict[str, _Cells]:
    """Groups runs that differ only in fold, seed and draw, under a name for readers."""
    # two steps: equal short names first, then a suffix for the settings that tell equals apart
    called: dict[tuple[str, naming.Share | None], dict[str, list[Run]]] = {}
    for run in runs:
        key = json.dumps(naming.settings_of(run), sort_keys=True)
        name = naming.kind(run, variety), naming.share(run)
        called.setdefault(name, {}).setdefault(key, []).append(run)
    systems: dict[str, _Cells] = {}
    for (kind, share), groups in called.items():
        alike = [naming.settings_of(group[0]) for group in groups.values()]
        for group, own in zip(groups.values(), alike, strict=True):
            systems[naming.full_name(kind, share, own, alike)] = _cells(group)
    return systems


def _cells(runs: Sequence[Run]) -> _Cells:
    # two runs in one cell would both be "the" result of that fold and seed; picking one silently
    # would hide that their configurations differ
    cells: _Cells = {}
    for run in runs:
        cell = run.config.fold, run.repeat
        if cell in cells:
            own, found = vars(run.config), vars(cells[cell].config)
            other = [key for key in sorted(own) if own[key] != found[key]]
            both = f"{run.folder} and {cells[cell].folder} are the same model, fold and seed"
            if not other:
                raise SerError(f"{both} with the same settings, as after copying; delete one")
            raise SerError(
                f"{both}, made with other {', '.join(other)}; run the same command again, which "
                "sets aside what was made with other content, or delete one of them"
            )
        cells[cell] = run
    return cells


def _common_folds(
    systems: Mapping[str, _Cells], planned: int | None
) -> tuple[tuple[str, ...], list[str]]:
    """Returns the folds that all systems have, and sentences on those that some lack."""
    folds = {name: {fold for fold, _ in cells} for name, cells in systems.items()}
    common = set.intersection(*folds.values())
    if not common:
        have = "; ".join(f"{name}: {', '.join(sorted(has))}" for name, has in folds.items())
        raise SerError(f"the models have no fold in common ({have}); let `ser train` finish")
    every = set.union(*folds.values())
    lines = [
        f"{name} has no run of {_listed('fold', sorted(every - has))}"
        for name, has in folds.items()
        if has < every
    ]
    if len(common) < len(every):
        lines.append(
            f"the table covers {len(common)} of {len(every)} folds, those that every model has"
        )
    if planned is not None and len(every) < planned:
        lines.append(f"{len(every)} of the split's {planned} folds have been run")
    return tuple(sorted(common)), lines


def _missing_repeats(
    name: str,
    cells: _Cells,
    folds: Sequence[str],
    planned: Sequence[Repeat],
    complete: Sequence[Repeat],
) -> list[str]:
    lines = []
    for repeat in sorted({repeat for _, repeat in cells} - set(complete)):
        lacking = [fold for fold in folds if (fold, repeat) not in cells]
        seed, draw = repeat
        which = f"seed {seed}, draw {draw}" if any(one for _, one in planned) else f"seed {seed}"
        lines.append(f"{name}, {which}, lacks {_listed('fold', lacking)}: {which} left out")
    if not complete:
        lines.append(f"{name} has no complete seed and is left out of the table")
    # baselines are deterministic: one seed is all they need, so fewer seeds are not reported
    elif len(complete) < len(planned) and not next(iter(cells.values())).config.train.of_baseline:
        has = ", ".join(str(seed) for seed, _ in complete)
        if any(draw for _, draw in planned):
            lines.append(f"{name} counts {len(complete)} of {len(planned)} seeds and draws")
        else:
            lines.append(f"{name} counts {len(complete)} of {len(planned)} seeds ({has})")
    return lines


def _listed(what: str, names: Sequence[str]) -> str:
    shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    return f"{what}{'s' if len(names) > 1 else ''} {shown}"


def _sample(runs: Sequence[Run], folds: Sequence[str]) -> Sample:
    keys = [(fold, name) for fold, run in zip(folds, runs, strict=True) for name in run.ids]
    # the cluster is the unit that the jackknife leaves out. Utterances whose speaker is not known
    # may be one person's: as one cluster they cannot make an interval too narrow, however many
    # they are. If no speaker is known at all, each utterance is a cluster, and the report warns
    speakers = [speaker for run in runs for speaker in run.speakers]
    known = any(speakers)
    pairs = list(zip(speakers, (name for _, name in keys), strict=True))
    names = [speaker or corpus_of(name) if known else name for speaker, name in pairs]
    distinct, groups = np.unique(np.array(names), return_inverse=True)
    corpora = tuple(sorted({corpus_of(name) for _, name in keys}))
    return Sample(
        keys=tuple(keys),
        truth=np.concatenate([run.truth for run in runs]),
        groups=groups.astype(np.int64),
        clusters=len(distinct),
        by="speaker" if known else "utterance",
        nameless=len({name for speaker, name in pairs if known and not speaker}),
        names=runs[0].config.labels.classes,
        task=runs[0].config.labels.task,
        targets=_targets(runs),
        headline=naming.headline_name(runs[0].config.labels.task, corpora),
        corpora=corpora,
    )


def _targets(runs: Sequence[Run]) -> Floats | None:
    found = [run.targets for run in runs if run.targets is not None]
    return np.concatenate(found) if found else None


def _system(
    name: str,
    cells: _Cells,
    folds: Sequence[str],
    repeats: tuple[Repeat, ...],
    sample: Sample,
    variety: naming.Variety,
) -> System:
    # one row per repeat, folds side by side: concatenating a row gives predictions for the whole
    # sample
    grid = [[cells[fold, repeat] for fold in folds] for repeat in repeats]
    for row in grid:
        keys = tuple((fold, i) for fold, run in zip(folds, row, strict=True) for i in run.ids)
        truth = np.concatenate([run.truth for run in row])
        # equal ids are not enough: labels may have been read from another version of the corpus
        targets = _targets(row)
        same = targets is None or np.array_equal(targets, sample.targets)  # type: ignore[arg-type]
        if keys != sample.keys or not np.array_equal(truth, sample.truth) or not same:
            raise SerError(
                f"{name}, seed {row[0].repeat[0]}: its test rows are not those of the other runs "
                f"(see {row[0].folder}); delete the runs that used other data and train again"
            )
    return System(
        name=name,
        model=grid[0][0].config.model,
        kind=naming.kind(grid[0][0], variety),
        share=naming.share(grid[0][0]),
        repeats=repeats,
        runs=tuple(run for row in grid for run in row),
        probabilities=np.stack([np.concatenate([r.probabilities for r in row]) for row in grid]),
        settings=naming.settings_of(grid[0][0]),
    )

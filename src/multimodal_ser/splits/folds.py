"""Fold, Split and split files: the ids of each part, a hash, and leaks; few-shot, EmoBox's."""

from __future__ import annotations

import hashlib
import json
import random
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from multimodal_ser.common.files import parse_json, write_file
from multimodal_ser.common.spelling import alike
from multimodal_ser.corpora.base import read_text
from multimodal_ser.corpora.labels import BUILT_IN_CORPORA
from multimodal_ser.corpora.rows import part_named
from multimodal_ser.corpora.utterance import GROUPS, Utterance
from multimodal_ser.errors import SplitError, one_of

PARTS = ("train", "validation", "test")
# Share of a fold's utterances outside its test part, for schemes without a validation part.
VALIDATION_SHARE = 0.1
_FEW_VALIDATION_SHARE = 0.2  # share of few-shot utterances, class by class


@dataclass(frozen=True)
class Fold:
    """The ids of the parts of one fold; no id is in two of them."""

    name: str
    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]

    @property
    def learnt(self) -> tuple[str, ...]:
        """The ids that a model learns from or is selected by."""
        return (*self.train, *self.validation)


@dataclass(frozen=True)
class Split:
    """Named folds and what leaks between their parts.

    Attributes:
        name: the scheme with its options, such as ``speaker-5``.
        folds: in order.
        leaks: a sentence for each overlap that was found and allowed.
        notes: other sentences that a reader of results should know.
    """

    name: str
    folds: tuple[Fold, ...]
    leaks: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def hash(self) -> str:
        """First 12 hexadecimal digits of the sha256 of the folds' ids."""
        rows = json.dumps([asdict(fold) for fold in self.folds], separators=(",", ":"))
        return hashlib.sha256(rows.encode()).hexdigest()[:12]


def write_split(split: Split, path: Path) -> None:
    """Writes a split with its hash as JSON, complete or not at all."""
    write_file(path, json.dumps({**asdict(split), "hash": split.hash}, indent=1))


def read_split(path: Path) -> Split:
    """Reads a split file and checks its hash.

    Raises:
        SplitError: it is not a split file, or its ids do not match its hash.
    """
    try:
        row = parse_json(read_text(path))
        folds = tuple(
            Fold(fold["name"], *(tuple(fold[part]) for part in PARTS)) for fold in row["folds"]
        )
        split = Split(row["name"], folds, tuple(row["leaks"]), tuple(row.get("notes", ())))
        stated = row["hash"]
    except (ValueError, KeyError, TypeError) as error:
        raise SplitError(
            f"{path}: neither a split file ({error!r}) nor lists of speakers for train, dev and "
            "test; write a split file with: ser split"
        ) from error
    if split.hash != stated:
        raise SplitError(
            f"{path}: its ids have the hash {split.hash}, it states {stated}: the file was "
            "changed; make it again with ser split, or correct the stated hash"
        )
    return split


def listed_speakers(path: Path) -> dict[str, list[str]] | None:
    """The speakers of each part that a JSON file lists: ``train``, ``dev`` (or not) and ``test``.

    The parts may have other usual names, such as ``validation``.

    Returns:
        Part → speakers; None where the file is of another kind, such as a split file.
    """
    try:
        row = parse_json(read_text(path))
    except ValueError:
        return None
    if not isinstance(row, dict):
        return None
    row = {part_named(part) or part: row[part] for part in row}
    if not {"train", "test"} <= row.keys() <= {"train", "dev", "test"}:
        return None
    if wrong := [part for part, names in row.items() if not isinstance(names, list) or not names]:
        raise SplitError(
            f"{path}: {wrong[0]} is not a list of speakers; allowed: names in [ ], one or more"
        )
    return {part: [str(name) for name in names] for part, names in row.items()}


@dataclass(frozen=True)
class Few:
    """Which few utterances of a fold's training part are given (few-shot).

    Attributes:
        unit: ``percent`` of every class, or ``shots``: utterances of every class.
        amount: the percentage, or the number.
        draw: number of the random draw; smaller amounts of a draw are subsets of its larger ones.
    """

    unit: str
    amount: float
    draw: int

    def __post_init__(self) -> None:
        if self.unit not in ("percent", "shots"):
            raise SplitError(one_of("unit", self.unit, ("percent", "shots")))
        if self.unit == "percent" and not 0 < self.amount <= 100:
            raise SplitError(f"a percentage is more than 0 and at most 100, not {self.amount}")
        if self.unit == "shots" and self.amount < 2:
            raise SplitError(
                f"{self.amount:g} shots of a class cannot give training and validation; take 2 "
                "or more"
            )

    def of(self, keys: Sequence[str], name: str) -> list[str]:
        """Draws from the ids of a class."""
        # The whole class is shuffled, seeded by draw and class: a smaller amount is the beginning
        # of a larger one.
        drawn = random.Random(f"{self.draw}/{name}").sample(sorted(keys), len(keys))  # noqa: S311
        if self.unit == "percent":
            return drawn[: max(1, round(len(keys) * self.amount / 100))]
        if len(keys) < self.amount:
            raise SplitError(
                f"{self.amount:g} shots of every class were asked for; there are only "
                f"{len(keys)} of {name!r}"
            )
        return drawn[: int(self.amount)]


def few_fold(fold: Fold, classes: Mapping[str, str], few: Few) -> Fold:
    """A fold with few training ids and the same test part.

    A fifth of every class's few utterances (at least one, if there are two) is used for validation.
    The fold's own validation part is not used: with few labels, there would not be one.

    Args:
        fold: the whole fold.
        classes: id → class name.
        few: the amount and the draw.

    Raises:
        SplitError: a class has too few utterances, or nothing is left for validation.
    """
    of_class = defaultdict(list)
    for key in fold.train:
        of_class[classes[key]].append(key)
    train: list[str] = []
    validation: list[str] = []
    for name in sorted(of_class):
        drawn = few.of(of_class[name], name)
        # A class with one utterance trains: it would be missing from the classifier otherwise.
        held = 0 if len(drawn) < 2 else max(1, round(len(drawn) * _FEW_VALIDATION_SHARE))
        validation += drawn[:held]
        train += drawn[held:]
    if not validation:
        raise SplitError(
            f"fold {fold.name}: {few.amount:g} {few.unit} are {len(train)} utterances, one of a "
            "class, and leave none for validation; take more"
        )
    return Fold(fold.name, tuple(sorted(train)), tuple(sorted(validation)), fold.test)


def emobox_folds(utterances: Sequence[Utterance], folder: Path) -> tuple[list[Fold], str]:
    """Reads folds from ``<folder>/fold_K/<corpus>_{train,valid,test}_fold_K.jsonl``.

    Returns:
        The folds, and a note if rows of the benchmark are missing from the utterances (otherwise
        empty): a result on the others is not one of the benchmark.
    """
    known = {row.id: row for row in utterances}
    folds, listed = [], set()
    for part in sorted(folder.glob("fold_*"), key=lambda path: (len(path.name), path.name)):
        rows = {side: _emobox_ids(part, side) for side in ("train", "valid", "test")}
        listed |= {key for keys in rows.values() for key in keys}
        ids = {side: tuple(key for key in keys if key in known) for side, keys in rows.items()}
        if not ids["test"] or not ids["train"]:
            raise SplitError(f"{part}: no train or test rows of these utterances; see {folder}")
        if not ids["valid"]:
            ids["train"], ids["valid"] = hold_out([known[key] for key in ids["train"]])
        folds.append(Fold(part.name, ids["train"], ids["valid"], ids["test"]))
    if not folds:
        raise SplitError(f"{folder}: no fold_1, fold_2 … folders with EmoBox's JSONL files")
    if not (absent := len(listed - known.keys())):
        return folds, ""
    return folds, (
        f"{absent} of the {len(listed)} rows that EmoBox lists in {folder.name} have no features "
        "or no class here: this is no result of that benchmark"
    )


def _emobox_ids(part: Path, side: str) -> list[str]:
    keys = []
    for path in sorted(part.glob(f"*_{side}_{part.name}.jsonl")):
        for number, line in enumerate(read_text(path).splitlines(), 1):
            try:
                row = parse_json(line)
                keys.append(_emobox_id(row["dataset"], row["key"], Path(row["wav"])))
            except (ValueError, KeyError, TypeError) as error:
                raise SplitError(f"{path}:{number}: not an EmoBox row ({error!r})") from error
    return keys


def _emobox_id(dataset: str, key: str, wav: Path) -> str:
    """The id of one of the benchmark's rows.

    Its keys differ from the ids of this project's readers, so the file name is used instead.
    """
    from multimodal_ser.corpora.emobox import OURS, utterance_id  # only these folds need it

    if dataset not in BUILT_IN_CORPORA:  # read from the benchmark's own lists
        return f"{OURS.get(dataset, dataset)}/{utterance_id(dataset, key)}"
    meld = {"train_splits": "train/", "dev_splits_complete": "dev/"}
    part = meld.get(wav.parent.name, "test/") if dataset == "meld" else ""
    # CREMA-D spells this one file without its second X; the reader of CREMA-D repairs it.
    stem = {"1040_ITH_SAD_X": "1040_ITH_SAD_XX"}.get(wav.stem, wav.stem)
    return f"{dataset}/{part}{stem}"


def hold_out(utterances: Sequence[Utterance]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Holds out whole speakers (or sessions, or dialogues) of a training part for validation.

    Where there is one alone, utterances are held out, which a note on the split tells.

    Returns:
        The ids that stay, and the held-out ids, which are at least VALIDATION_SHARE of all.
    """
    several = (
        name
        for name in GROUPS
        if all(getattr(row, name) for row in utterances)
        and len({alike(str(getattr(row, name))) for row in utterances}) > 1
    )
    group = next(several, "id")
    spelt: dict[str, str] = {}  # spellings of one name are one group
    for name in sorted(str(getattr(row, group)) for row in utterances):
        spelt.setdefault(alike(name), name)
    group_of = {row.id: spelt[alike(str(getattr(row, group)))] for row in utterances}
    names = sorted(spelt.values())
    random.Random(0).shuffle(names)  # noqa: S311 - a split, not a secret
    counts = Counter(group_of.values())
    held: set[str] = set()
    for name in names[: max(1, len(names) - 1)]:
        if sum(counts[taken] for taken in held) >= VALIDATION_SHARE * len(utterances):
            break
        held.add(name)
    inside = tuple(row.id for row in utterances if group_of[row.id] not in held)
    return inside, tuple(row.id for row in utterances if group_of[row.id] in held)

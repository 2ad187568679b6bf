"""The JSONL folds of the EmoBox benchmark (Ma et al., 2024) → Folds."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from multimodal_ser.common.files import parse_json
from multimodal_ser.common.spelling import alike
from multimodal_ser.corpora.base import read_text
from multimodal_ser.corpora.labels import BUILT_IN_CORPORA
from multimodal_ser.corpora.utterance import GROUPS, Utterance
from multimodal_ser.errors import SplitError
from multimodal_ser.splits.folds import VALIDATION_SHARE, Fold


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


def hold_out(
    utterances: Sequence[Utterance],
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Holds out whole speakers (or sessions, or dialogues) of a training part for validation.

    Returns:
        The ids that stay, and the held-out ids, which are at least VALIDATION_SHARE of all.
    """
    group = next((g for g in GROUPS if all(getattr(row, g) for row in utterances)), "id")
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

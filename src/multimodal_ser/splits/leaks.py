"""folds → what stands on two sides of them: an error, unless it is accepted by name, or a note."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from multimodal_ser.common.spelling import alike, said_of_spellings
from multimodal_ser.corpora.utterance import GROUPS, Utterance
from multimodal_ser.errors import SplitError
from multimodal_ser.splits.folds import Fold

OVERLAPS = (*GROUPS, "recording", "fold")
_VALIDATED = ("speaker", "recording")  # said where training and validation share them


def check_folds(
    folds: Sequence[Fold],
    utterances: Sequence[Utterance],
    allowed: Collection[str],
    sounds: Mapping[str, str],
) -> tuple[list[str], list[str]]:
    """Looks for what a fold's test part shares with what a model learns from.

    Args:
        folds: of one split.
        utterances: those that the ids name.
        allowed: overlaps to accept, of OVERLAPS.
        sounds: id → what the recording sounds like; equal ones are copies of each other.

    Returns:
        A sentence for each overlap that was accepted, and one for each thing that a reader should
        know without its being a leak.

    Raises:
        SplitError: ids that are unknown, stand twice in a fold or are missing from a part; or an
            overlap that was not accepted.
    """
    known = {row.id: row for row in utterances}
    for fold in folds:
        _check_parts(fold, known)
    leaks, notes = [], []
    for kind in (*GROUPS, "recording"):
        value = _values(kind, known, sounds)
        tested = [
            _values_of(fold.test, value) & _values_of((*fold.train, *fold.validation), value)
            for fold in folds
        ]
        place = f"{kind}s stand both in a test part and in its training or validation part"
        leaks += _sentences(place, kind, tested, kind in allowed)
        if kind in _VALIDATED:
            validated = [
                _values_of(fold.train, value) & _values_of(fold.validation, value) for fold in folds
            ]
            place = (
                f"{kind}s stand both in a training part and in its validation part, so that an "
                "epoch is picked on what was learnt from"
            )
            notes += _sentences(place, kind, validated, True)
    leaks += _tested_twice(folds, "fold" in allowed)
    for kind in GROUPS:
        notes += [
            f"{said}: taken for one"
            for said in said_of_spellings(kind, (getattr(row, kind) for row in utterances))
        ]
    return leaks, notes


def _values_of(keys: Iterable[str], value: Callable[[str], str | None]) -> set[str]:
    return {found for found in map(value, keys) if found is not None}


def _values(
    kind: str, known: Mapping[str, Utterance], sounds: Mapping[str, str]
) -> Callable[[str], str | None]:
    if kind == "recording":
        return sounds.get

    def value(key: str) -> str | None:
        name = getattr(known[key], kind)
        return None if name is None else f"{known[key].corpus}/{alike(name)}"

    return value


def _sentences(place: str, kind: str, shared: Sequence[set[str]], allowed: bool) -> list[str]:
    names = set().union(*shared)
    if not names:
        return []
    touched = sum(bool(one) for one in shared)
    sentence = f"{len(names)} {place} (in {touched} of {len(shared)} folds)"
    if not allowed:
        raise SplitError(
            f"{sentence}, such as {min(names)!r}; split by {kind}, or accept it and have every "
            f"result say so: --allow {kind}"
        )
    return [sentence]


def _tested_twice(folds: Sequence[Fold], allowed: bool) -> list[str]:
    tested = Counter(key for fold in folds for key in fold.test)
    twice = sorted(key for key, count in tested.items() if count > 1)
    if not twice:
        return []
    sentence = f"{len(twice)} utterances are tested by several folds and count more than once"
    if not allowed:
        raise SplitError(
            f"{sentence}, such as {twice[0]!r}; give each a test part of its own, or accept it and "
            "have every result say so: --allow fold"
        )
    return [sentence]


def _check_parts(fold: Fold, known: Mapping[str, Utterance]) -> None:
    counts = Counter((*fold.train, *fold.validation, *fold.test))
    if twice := [key for key, count in counts.items() if count > 1]:
        raise SplitError(
            f"fold {fold.name}: the id {twice[0]!r} occurs twice; list each utterance once"
        )
    if strange := [key for key in counts if key not in known]:
        raise SplitError(
            f"fold {fold.name}: {len(strange)} ids are not among the {len(known)} utterances that "
            f"have features and a class, such as {strange[0]!r}; make the split from this "
            "manifest and class set"
        )
    for part in ("train", "validation", "test"):
        if not getattr(fold, part):
            raise SplitError(f"fold {fold.name}: its {part} part is empty")


def shared_between(
    learnt: Sequence[Utterance], tested: Sequence[Utterance], sounds: Mapping[str, str]
) -> tuple[list[str], list[str]]:
    """What the tested utterances of one corpus share with the learnt ones of another.

    Args:
        learnt: what a model learns from, or chooses its epoch by.
        tested: what it is tested on.
        sounds: id → what the recording sounds like; equal ones are copies of each other.

    Returns:
        The tested ids that are learnt from, as they are or as copies, and a sentence on speakers
        of one name: whether they are one person, only who knows the corpora can say.
    """
    known = {row.id for row in learnt} | {sounds.get(row.id, row.id) for row in learnt}
    copies = sorted(row.id for row in tested if {row.id, sounds.get(row.id)} & known)
    voices = {alike(row.speaker) for row in learnt if row.speaker is not None}
    both = {alike(row.speaker) for row in tested if row.speaker is not None} & voices
    if not both:
        return copies, []
    return copies, [
        f"{len(both)} tested speakers have the name of one that another corpus is learnt from, "
        f"such as {min(both)!r}: if they are the same people, this is no test on new speakers"
    ]

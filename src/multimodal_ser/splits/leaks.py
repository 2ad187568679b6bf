"""utterances, folds → what the parts of a fold share, and what else a reader of results must know.

What they share is an error, unless it is allowed by name.
"""

from __future__ import annotations

import math
import os
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence

from multimodal_ser.common.spelling import alike, spelling_notes
from multimodal_ser.corpora.utterance import ABSENT, GROUPS, Utterance
from multimodal_ser.errors import SplitError
from multimodal_ser.splits.folds import PARTS, Fold

# A number after another needs a unit or a sign between them, `(?!\d)`: if digits could be divided
# in several ways, the search would try them all, and would not end on a name of forty digits.
_CHANGE = (
    r"(?:augment(?:ed|ation)?|aug|nois[ey]|speed|sp(?=\d)|tempo|pitch|stretch(?:ed)?|reverb(?:ed)?|rir"
    r"|vol(?:ume)?|gain|shift(?:ed)?|vtlp|copy)(?:(?:[-_][-+]?|\+)?\d[\d.]*(?:db|hz|x|(?!\d)))*"
)
_ALTERED_END = re.compile(rf"(.+?)(?:[-_. ]+{_CHANGE})+", re.IGNORECASE)
_ALTERED_BEGINNING = re.compile(rf"(?:{_CHANGE}[-_. ]+)+(.+)", re.IGNORECASE)
_ALTERED_FOLDER = re.compile(_CHANGE, re.IGNORECASE)
_UNALTERED = ("clean", "original", "orig", "raw")  # folders of recordings beside altered ones
OVERLAPS = (*GROUPS, "recording", "fold")
_MUCH = 0.05  # of the utterances
_ONE_PLACE = (
    "one conversation and one room, perhaps the same voices; with the file as its dialogue, a "
    "corpus can be split by dialogue"
)
_OVERLAP = 0.2  # of the shorter utterance, above which two of one recording share their sound


def check_folds(
    folds: Sequence[Fold],
    utterances: Sequence[Utterance],
    allowed: Collection[str],
    sounds: Mapping[str, str],
) -> tuple[list[str], list[str]]:
    """Looks for overlaps between the test part of a fold and its training and validation parts.

    Args:
        folds: of one split.
        utterances: those with these ids.
        allowed: overlaps to accept, from OVERLAPS.
        sounds: id → a name of its sound; recordings with equal names are copies of each other.

    Returns:
        A sentence for each overlap that was allowed, and notes on what a reader should know
        although it is not a leak.

    Raises:
        SplitError: an id is unknown, occurs twice in a fold or a part is empty; two folds have one
            name; or an overlap was not allowed.
    """
    known = {row.id: row for row in utterances}
    called = Counter(fold.name for fold in folds)
    if same := [name for name, count in called.items() if count > 1]:
        # runs are told apart by the names of their folds
        raise SplitError(
            f"{called[same[0]]} folds are called {same[0]!r}; give each fold a name of its own"
        )
    for fold in folds:
        _check_parts(fold, known)
    leaks, notes = _overlaps(folds, utterances, allowed, sounds)
    leaks += _tested_twice(folds, "fold" in allowed)
    notes += _of_one_file(folds, utterances)
    notes += _left_out(folds, utterances)
    notes += _never_tested(folds)
    for kind in GROUPS:
        notes += [
            f"{sentence}: taken for one"
            for sentence in spelling_notes(kind, (getattr(row, kind) for row in utterances))
        ]
    return leaks, notes


def _overlaps(
    folds: Sequence[Fold],
    utterances: Sequence[Utterance],
    allowed: Collection[str],
    sounds: Mapping[str, str],
) -> tuple[list[str], list[str]]:
    """Sentences on speakers, sessions, dialogues and recordings that parts of a fold share.

    Leaks into a test part come first, then what training and validation parts share.
    """
    leaks, notes = [], []
    recordings = _with_overlaps(sounds, utterances)
    for kind in (*GROUPS, "recording"):
        named = recordings if kind == "recording" else _named_groups(kind, utterances)
        parts = [
            [{named[key] for key in getattr(fold, part) if key in named} for part in PARTS]
            for fold in folds
        ]
        # Training and validation together: a model is selected by the validation part, so that test
        # utterances must be foreign to both.
        tested = [test & (train | validation) for train, validation, test in parts]
        place = f"{kind}s stand both in a test part and in its training or validation part"
        leaks += _sentences(place, kind, tested, kind in allowed, named)
        if kind in ("speaker", "recording"):
            validated = [train & validation for train, validation, _ in parts]
            place = (
                f"{kind}s stand both in a training part and in its validation part, so that an "
                "epoch is picked on what was learnt from"
            )
            notes += _sentences(place, kind, validated, True, named)
    return leaks, notes


def _named_groups(kind: str, utterances: Sequence[Utterance]) -> dict[str, str]:
    """Id → speaker, session or dialogue, in its first spelling, for utterances that have one."""
    # By corpus: equal names of two corpora are different people, unless somebody knows better.
    written: dict[tuple[str, str], str] = {}
    return {
        row.id: written.setdefault((row.corpus, alike(name)), f"{row.corpus}/{name}")
        for row in utterances
        if (name := getattr(row, kind)) is not None
    }


def _with_overlaps(sounds: Mapping[str, str], utterances: Sequence[Utterance]) -> dict[str, str]:
    """Id → a name of its sound: one name for utterances that overlap in a recording or are copies.

    So windows that are cut with an overlap count as one recording, and touching turns do not.
    """
    joined: dict[str, str] = {}  # name of a sound → that of one that it overlaps with

    def named(key: str) -> str:
        name = sounds.get(key, key)
        while name in joined:
            name = joined[name]
        return name

    for one, other in (*_overlapping(utterances), *copies_by_name(utterances)):
        if named(one) != named(other):
            joined[named(other)] = named(one)
    keys = {*sounds, *(row.id for row in utterances)} if joined else sounds
    return {key: named(key) for key in keys}


def copies_by_name(utterances: Sequence[Utterance]) -> Iterator[tuple[str, str]]:
    """Pairs of an utterance and an altered copy of it, by what augmentation adds to names.

    Fingerprints do not find all copies: at another speed or pitch, speech has another one.
    """
    known = {row.id for row in utterances}
    for key in sorted(known):
        folder, _, name = key.rpartition("/")
        above, _, inner = folder.rpartition("/")
        without = [
            f"{key.removesuffix(name)}{found[1]}"
            for pattern in (_ALTERED_END, _ALTERED_BEGINNING)
            if (found := pattern.fullmatch(name))
        ]
        if _ALTERED_FOLDER.fullmatch(inner):
            without += [f"{above}/{name}", *(f"{above}/{one}/{name}" for one in _UNALTERED)]
        yield from ((one, key) for one in without if one in known)


def _overlapping(utterances: Sequence[Utterance]) -> Iterator[tuple[str, str]]:
    """Pairs of ids of utterances that share much of their sound, in one recording."""
    files: dict[str, list[tuple[float, float, str]]] = defaultdict(list)
    for row in utterances:
        if row.audio is not None:
            end = math.inf if row.end is None else row.end
            files[_recording(row)].append((row.start or 0.0, end, row.id))
    for cut in (sorted(rows) for rows in files.values() if len(rows) > 1):
        # a file that many utterances name as a whole is a placeholder for recordings elsewhere
        cuts = any(start or end < math.inf for start, end, _ in cut)
        if not cuts and len(cut) > max(3, _MUCH * len(utterances)):
            continue
        for place, (start, end, key) in enumerate(cut):
            for other_start, other_end, other in cut[place + 1 :]:
                if other_start >= end:
                    break
                shorter = min(end - start, other_end - other_start)
                both = min(end, other_end) - other_start
                # infinite where both last to the end of the file
                if both == math.inf or both > _OVERLAP * shorter:
                    yield key, other


def _of_one_file(folds: Sequence[Fold], utterances: Sequence[Utterance]) -> list[str]:
    """A note on files that are cut into utterances of a test part and of what is learnt from."""
    cut = _cut_from(utterances)
    both = [
        {cut[key] for key in fold.test if key in cut}
        & {cut[key] for key in fold.learnt if key in cut}
        for fold in folds
    ]
    if not (files := set().union(*both)):
        return []
    ids = sorted(key for key, file in cut.items() if file == min(files))
    return [
        f"{len(files)} files hold utterances both of a test part and of its training or validation "
        f"part (in {sum(map(bool, both))} of {len(folds)} folds), such as {ids[0]!r} and "
        f"{ids[-1]!r}: {_ONE_PLACE}"
    ]


def _cut_from(utterances: Sequence[Utterance]) -> dict[str, str]:
    """Id → recording, of utterances that are stretches of one."""
    return {
        row.id: _recording(row)
        for row in utterances
        if row.audio is not None and (row.start or row.end is not None)
    }


def _recording(row: Utterance) -> str:
    """The recording that an utterance is in: the hash of its bytes if it is known, or its path."""
    return (row.content != ABSENT and row.content) or os.path.normpath(str(row.audio))


def _sentences(
    place: str, kind: str, shared: Sequence[set[str]], allowed: bool, named: Mapping[str, str]
) -> list[str]:
    names = set().union(*shared)
    if not names:
        return []
    touched = sum(bool(one) for one in shared)
    sentence = f"{len(names)} {place} (in {touched} of {len(shared)} folds)"
    if not allowed:
        such, remedy = repr(min(names)), f"split by {kind}"
        if kind == "recording":
            ids = sorted(key for key, sound in named.items() if sound == min(names))
            such, remedy = " and ".join(map(repr, ids[:3])), "keep one of them in the manifest"
        raise SplitError(
            f"{sentence}, such as {such}; {remedy}, or accept it and have every result say so: "
            f"--allow {kind}"
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


def _never_tested(folds: Sequence[Fold]) -> list[str]:
    never = {key for one in folds for key in one.train} - {key for one in folds for key in one.test}
    # a single fold tests a part only; several should test every utterance once
    if not never or len(folds) < 2:
        return []
    return [f"{len(never)} utterances, such as {min(never)!r}, are tested by no fold"]


def _left_out(folds: Sequence[Fold], utterances: Sequence[Utterance]) -> list[str]:
    placed = {key for fold in folds for key in (*fold.learnt, *fold.test)}
    out = [row for row in utterances if row.id not in placed]
    if not out:
        return []
    whole = {row.speaker for row in out} - {row.speaker for row in utterances if row.id in placed}
    speakers = f" (all those of {len(whole)} speakers among them)" if whole - {None} else ""
    return [
        f"{len(out)} of {len(utterances)} utterances, such as {out[0].id!r}{speakers}, are in no "
        "part of the split: they are neither learnt from nor tested"
    ]


def _check_parts(fold: Fold, known: Mapping[str, Utterance]) -> None:
    counts = Counter((*fold.learnt, *fold.test))
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
    for part in PARTS:
        if not getattr(fold, part):
            raise SplitError(f"fold {fold.name}: its {part} part is empty")


def shared_between(
    learnt: Sequence[Utterance], tested: Sequence[Utterance], sounds: Mapping[str, str]
) -> tuple[list[str], list[str]]:
    """Finds what tested utterances of one corpus share with learnt ones of another.

    Args:
        learnt: utterances that a model learns from, or that choose its epoch.
        tested: utterances that it is tested on.
        sounds: id → a name of its sound; recordings with equal names are copies of each other.

    Returns:
        The tested ids that are also learnt from: unchanged, as copies, or as stretches of one
        recording that overlap; and notes on other stretches of one recording, and on speakers with
        equal names, since only somebody who knows the corpora can say whether they are one person.
    """
    known: set[str | None] = {row.id for row in learnt}
    known |= {sounds.get(row.id, row.id) for row in learnt}
    ids = {row.id for row in learnt}, {row.id for row in tested}
    for one, other in _overlapping([*learnt, *tested]):
        for first, second in ((one, other), (other, one)):
            if first in ids[0] and second in ids[1]:
                known.add(second)
    copies = sorted(row.id for row in tested if {row.id, sounds.get(row.id)} & known)
    notes, files = [], set(_cut_from(learnt).values())
    if cut := sorted(key for key, file in _cut_from(tested).items() if file in files):
        notes = [
            f"{len(cut)} tested utterances, such as {cut[0]!r}, are cut from files that another "
            "corpus is learnt from: one conversation and one room, perhaps the same voices"
        ]
    voices = {alike(row.speaker) for row in learnt if row.speaker is not None}
    tested_voices = {alike(row.speaker): row.speaker for row in tested if row.speaker is not None}
    both = sorted(name for key, name in tested_voices.items() if key in voices)
    if not both:
        return copies, notes
    return copies, [
        *notes,
        f"{len(both)} tested speakers have the name of one that another corpus is learnt from, "
        f"such as {both[0]!r}: if they are the same people, this is no test on new speakers",
    ]

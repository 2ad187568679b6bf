"""utterances → folds of ids, each with a training, a validation and a test part.

Every split is checked. A speaker, session, dialogue or recording that is both in a fold's test part
and in what the model learns from is an error, unless that overlap is allowed by name; then the
split records it, and every result made with the split says so.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from multimodal_ser.common.spelling import alike
from multimodal_ser.corpora.utterance import GROUPS, Utterance
from multimodal_ser.errors import SplitError, counted, one_of
from multimodal_ser.splits.folds import (
    PARTS,
    VALIDATION_SHARE,
    Fold,
    Split,
    emobox_folds,
    hold_out,
    listed_speakers,
    read_split,
)
from multimodal_ser.splits.leaks import OVERLAPS, check_folds


@dataclass(frozen=True)
class Scheme:
    """A way to split, and the overlaps that its name already implies.

    Attributes:
        make: utterances, number of folds → folds.
        about: a description in one line.
        admits: overlaps that need no --allow, since the name says them.
    """

    make: Callable[[Sequence[Utterance], int | None], list[Fold]]
    about: str
    admits: tuple[str, ...] = ()


def make_split(
    utterances: Sequence[Utterance],
    scheme: str,
    *,
    folds: int | None = None,
    allow: Iterable[str] = (),
    sounds: Mapping[str, str] | None = None,
) -> Split:
    """Builds a split and checks it.

    Args:
        utterances: those that have a class; nothing else is split.
        scheme: key in SCHEMES, a split file written by `write_split`, a JSON file that lists the
            speakers of each part (``train``, ``dev``, ``test``) as audEERING publishes them, or a
            folder of the EmoBox benchmark's JSONL folds.
        folds: number of folds for the schemes by group; None makes one fold per group.
        allow: overlaps to accept, from OVERLAPS.
        sounds: id → a name of its sound, see `fingerprints.same_sounds`; recordings with equal
            names are copies of each other.

    Raises:
        SplitError: the scheme is unknown, there are too few groups, an id is in two parts, or there
            is an overlap that was not allowed.
    """
    utterances = sorted(utterances, key=lambda row: row.id)  # whatever the order on disk
    allowed, notes = set(allow), []
    if unknown := sorted(allowed - set(OVERLAPS)):
        raise SplitError(one_of("overlap", unknown[0], OVERLAPS))
    if folds is not None and scheme not in GROUPS:
        raise SplitError(
            f"--folds {folds}: the split {scheme!r} has folds of its own; leave --folds out, or "
            f"split by {', '.join(GROUPS)}"
        )
    if scheme in SCHEMES:
        made = SCHEMES[scheme].make(utterances, folds)
        allowed |= set(SCHEMES[scheme].admits)
        name = scheme if folds is None else f"{scheme}-{folds}"
    elif Path(scheme).is_dir():
        made, absent = emobox_folds(utterances, Path(scheme))
        name = f"emobox-{Path(scheme).name}"
        if absent:
            name, notes = f"part of {name}", [absent]
        allowed |= set(OVERLAPS)
    elif Path(scheme).is_file():
        if speakers := listed_speakers(Path(scheme)):
            (fold, notes), name = _by_list(utterances, speakers, scheme), Path(scheme).stem
            made = [fold]
        else:
            split = read_split(Path(scheme))
            made, name, notes = list(split.folds), split.name, list(split.notes)
    else:
        raise SplitError(one_of("split", scheme, SCHEMES) + "; or give a split file or folder")
    leaks, more = check_folds(made, utterances, allowed, sounds or {})
    return Split(name, tuple(made), tuple(leaks), tuple(dict.fromkeys([*notes, *more])))


def _by_group(group: str, utterances: Sequence[Utterance], folds: int | None) -> list[Fold]:
    """Keeps every speaker, session or dialogue within one part."""
    members = _members(utterances, group)
    if len(members) < 3:
        listed = "list one as train and the other as test in a JSON file, or "
        raise SplitError(
            f"{counted(len(members), group)} cannot give training, validation and test parts; at "
            f"least 3 are needed; {listed if group == 'speaker' and len(members) == 2 else ''}"
            f"{_instead_of(group, utterances)}"
        )
    if folds is None:
        bins = [[name] for name in sorted(members)]
        names = [f"{group}={name}" for (name,) in bins]
    else:
        bins = _balanced(members, folds, group)
        names = [str(k) for k in range(folds)]
    return [_fold(name, k, bins, members, utterances) for k, name in enumerate(names)]


def _members(utterances: Sequence[Utterance], group: str) -> dict[str, list[str]]:
    """Group → ids; speakers and dialogues are distinguished by corpus.

    Spellings of a name that differ only in case, accents, spaces or zeros count as one group.
    """
    # Two corpora may both have a speaker "03", who are different people.
    several = len({row.corpus for row in utterances}) > 1
    members, spellings = defaultdict(list), defaultdict(set)
    if without := [row.id for row in utterances if getattr(row, group) is None]:
        raise SplitError(
            f"{len(without)} of {len(utterances)} utterances, such as {without[0]!r}, have no "
            f"{group}, so they cannot be split by {group}; fill in the column of the table, leave "
            f"these rows out, or {_instead_of(group, utterances)}"
        )
    for row in utterances:
        name = getattr(row, group)
        members[row.corpus, alike(name)].append(row.id)
        spellings[row.corpus, alike(name)].add(name)
    named = {key: " / ".join(sorted(found)) for key, found in spellings.items()}
    return {
        f"{key[0]}/{named[key]}" if several else named[key]: ids for key, ids in members.items()
    }


def _instead_of(group: str, utterances: Sequence[Utterance]) -> str:
    """What else to split by: the other groups that every utterance has, and a file."""
    others = [
        one for one in GROUPS
        if one != group and all(getattr(row, one) is not None for row in utterances)
    ]  # fmt: skip
    file = "give a split file, which names each utterance's part"
    return f"split by one of: {', '.join(others)}, or {file}" if others else file


def _balanced(members: Mapping[str, list[str]], folds: int, group: str) -> list[list[str]]:
    """Distributes groups over folds: the largest group first, into the smallest fold.

    The result does not depend on the order of files on disk; ties are broken by name.
    """
    if not 2 <= folds <= len(members):
        raise SplitError(
            f"{folds} folds by {group} were asked for; there are {len(members)} {group}s, so "
            f"2 to {len(members)} folds are possible"
        )
    bins: list[list[str]] = [[] for _ in range(folds)]
    sizes = [0] * folds
    for name in sorted(members, key=lambda name: (-len(members[name]), name)):
        smallest = min(range(folds), key=lambda k: (sizes[k], k))
        bins[smallest].append(name)
        sizes[smallest] += len(members[name])
    return bins


def _fold(
    name: str,
    tested: int,
    bins: Sequence[Sequence[str]],
    members: Mapping[str, list[str]],
    utterances: Sequence[Utterance],
) -> Fold:
    """Tests one bin; following groups are for validation until they are a tenth of the rest."""
    # Starting after the tested bin, so that every group is in the validation part of some fold.
    order = [group for k in range(1, len(bins)) for group in bins[(tested + k) % len(bins)]]
    if len(order) < 2:
        raise SplitError(
            f"fold {name} leaves one group for training and validation; ask for more folds"
        )
    wanted = VALIDATION_SHARE * sum(len(members[group]) for group in order)
    part = dict.fromkeys((key for group in bins[tested] for key in members[group]), "test")
    held = 0
    # The last group always remains for training.
    for group in order[:-1]:
        if held < wanted:
            part.update(dict.fromkeys(members[group], "validation"))
            held += len(members[group])
    sides = {
        side: tuple(row.id for row in utterances if part.get(row.id, "train") == side)
        for side in PARTS
    }
    return Fold(name, **sides)


def _by_list(
    utterances: Sequence[Utterance], speakers: Mapping[str, Sequence[str]], path: str
) -> tuple[Fold, list[str]]:
    """One fold of speakers that a file lists by part, and a note on those without utterances."""
    part: dict[str, str] = {}
    for side, names in speakers.items():
        for name in names:
            # a speaker in two parts would leak, or silently leave one of them
            if part.setdefault(alike(name), side) != side:
                raise SplitError(
                    f"{path}: the speaker {name!r} is in {part[alike(name)]} and in {side}; keep "
                    "each speaker in one part"
                )
    rows = defaultdict(list)
    for row in utterances:
        if row.speaker is not None and (named := part.get(alike(row.speaker))):
            rows[named].append(row)
    if empty := [side for side in speakers if not rows[side]]:
        called = sorted({str(row.speaker) for row in utterances})[:3]
        raise SplitError(
            f"{path}: none of its {empty[0]} speakers, such as {speakers[empty[0]][0]!r}, speaks "
            f"here; these utterances have speakers such as {', '.join(called)}"
        )
    ids = {side: tuple(row.id for row in found) for side, found in rows.items()}
    if "dev" not in ids:
        ids["train"], ids["dev"] = hold_out(rows["train"])
    present = {alike(row.speaker) for found in rows.values() for row in found if row.speaker}
    absent = [name for names in speakers.values() for name in names if alike(name) not in present]
    fold = Fold(Path(path).stem, ids["train"], ids["dev"], ids["test"])
    if not absent:
        return fold, []
    listed = f"{len(absent)} speakers that {Path(path).name} lists, such as {absent[0]!r}"
    return fold, [f"{listed}, do not speak here"]


def _official(utterances: Sequence[Utterance], folds: int | None) -> list[Fold]:
    """The corpus's own parts; if it has no dev part, whole groups are held out of train."""
    parts = {
        name: _ids(utterances, lambda row: row.split, name) for name in ("train", "dev", "test")
    }
    from multimodal_ser.corpora import CORPORA  # imported here: it loads every reader

    without = not any("dev" in CORPORA[r.corpus].parts for r in utterances if r.corpus in CORPORA)
    if without and not parts["dev"] and parts["train"] and parts["test"]:
        parts["train"], parts["dev"] = hold_out([r for r in utterances if r.split == "train"])
    if empty := [name for name, keys in parts.items() if not keys]:
        raise SplitError(
            f"the official split needs train, dev and test parts; {empty} have no utterances here: "
            "read all of the corpus's tables, or split by: " + ", ".join(GROUPS)
        )
    return [Fold("official", *parts.values())]


def _iemocap_original(utterances: Sequence[Utterance], folds: int | None) -> list[Fold]:
    sides = {"Ses01": 0, "Ses02": 0, "Ses03": 0, "Ses04": 1, "Ses05": 2}
    if strange := {row.session for row in utterances} - sides.keys():
        raise SplitError(f"iemocap-original splits IEMOCAP's sessions {[*sides]}, not {strange}")
    parts = [_ids(utterances, lambda row: sides[row.session or ""], side) for side in range(3)]
    return [Fold("sessions 1-3 / 4 / 5", *parts)]


def _shuffled(utterances: Sequence[Utterance], folds: int | None) -> list[Fold]:
    """80 / 10 / 10 % of the files, shuffled, as the original did with CREMA-D."""
    # Sorted by `make_split`, so that nothing depends on the order of files on disk, as the
    # original's split did.
    keys = [row.id for row in utterances]
    random.Random(42).shuffle(keys)  # noqa: S311 - a split, not a secret
    first, second = round(0.8 * len(keys)), round(0.9 * len(keys))
    parts = keys[:first], keys[first:second], keys[second:]
    return [Fold("shuffled", *(tuple(sorted(part)) for part in parts))]


def _ids(
    utterances: Sequence[Utterance], side: Callable[[Utterance], object], wanted: object
) -> tuple[str, ...]:
    return tuple(row.id for row in utterances if side(row) == wanted)


SCHEMES: dict[str, Scheme] = {
    **{
        group: Scheme(partial(_by_group, group), f"whole {group}s, left out in turn")
        for group in GROUPS
    },
    "official": Scheme(_official, "the corpus's own train, dev and test", ("speaker",)),
    "iemocap-original": Scheme(_iemocap_original, "IEMOCAP's sessions 1-3 / 4 / 5"),
    "cremad-original": Scheme(_shuffled, "files shuffled 80/10/10: speakers leak", OVERLAPS),
}

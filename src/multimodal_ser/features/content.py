"""manifest → what is encoded of each utterance, and a hash of it.

Of words, that may be those of the dialogue around an utterance, too. Speakers are letters there: A
is the speaker of the utterance itself, the others follow in the order in which they appear when
going back. So a model learns who answers whom, but no names.

Features belong to the content: to a recording's bytes or to the words, whatever the files are
called and wherever they are. Recordings are read anew each time, since a file's samples can change
while its size and time stay the same.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import islice, pairwise
from pathlib import Path
from string import ascii_uppercase

import numpy as np

from multimodal_ser.common.arrays import LEAST_SPREAD, Bools, Singles
from multimodal_ser.common.files import sha256_of
from multimodal_ser.common.spelling import alike
from multimodal_ser.corpora.utterance import (
    ABSENT,
    ATTRIBUTES,
    GROUPS,
    Utterance,
    read_manifest,
    write_manifest,
)
from multimodal_ser.encoders.base import InContext
from multimodal_ser.errors import FeatureError, SerError, counted
from multimodal_ser.features.pool import ModalityName
from multimodal_ser.features.store import FeatureStore

_log = logging.getLogger(__name__)
_JUDGED = ("emotion", *GROUPS, "split", "attributes", "votes")  # decide labels and splits
_DIGITS = 16  # hexadecimal digits: 64 bits are enough to distinguish the recordings of a corpus
# How far from the median a value may be, in times the distance within which nine in ten are. Means
# of encoders' vectors reach 11, eGeMAPS and other functionals of openSMILE hundreds.
_FAR = 1000
_READERS = 4  # threads that read files; hashing releases the interpreter's lock


def in_context(rows: Sequence[Utterance], before: int, after: int = 0) -> list[Utterance]:
    """The utterances in their order, with the words of the dialogue around their own words.

    Args:
        rows: utterances of one corpus; those without words are not part of any context.
        before: largest number of utterances of the same dialogue before each.
        after: largest number of utterances after each; predictions then have to wait for them.

    Raises:
        FeatureError: no utterance has a dialogue, or a number is negative.

    >>> lines = [("Ann", "Hi!"), ("Bob", "Hello."), ("Ann", "So?")]
    >>> rows = [
    ...     Utterance(f"a/{n}", "a", "joy", text=words, speaker=who, dialogue="d")
    ...     for n, (who, words) in enumerate(lines)
    ... ]
    >>> [row.text for row in in_context(rows, 2)]
    ['A: Hi!', 'B: Hi! A: Hello.', 'A: Hi! B: Hello. A: So?']
    """
    if before < 0 or after < 0:
        raise FeatureError(f"a context of {before} and {after} utterances; allowed: 0 or more")
    spoken = [row for row in rows if (row.text or "").strip()]
    dialogues = turns_of(spoken)
    if not dialogues:
        raise FeatureError(
            "--context reads the words of a dialogue, and no utterance has a dialogue and words; "
            "leave it out, or add both to the manifest"
        )
    found = {}
    # An utterance of no dialogue is read as one of a single utterance: encoded like the others.
    for turns in [*dialogues, *([row] for row in spoken if row.dialogue is None)]:
        for place, row in enumerate(turns):
            around = turns[max(0, place - before) : place], turns[place + 1 : place + 1 + after]
            found[row.id] = replace(row, text=_joined(row, *around))
    return [found.get(row.id, row) for row in rows]


def turns_of(rows: Sequence[Utterance]) -> list[list[Utterance]]:
    """The utterances of each dialogue, in the order in which they are said."""
    dialogues: dict[tuple[str, str], list[Utterance]] = defaultdict(list)
    for row in rows:
        if row.dialogue is not None:
            dialogues[row.corpus, row.dialogue].append(row)
    return [sorted(turns, key=_order) for turns in dialogues.values()]


def context_notes(before: int, after: int, what: str = "words") -> list[str]:
    """The note to show beside results that depend on more than the utterance itself.

    >>> context_notes(3, 0)
    ['the words of up to 3 utterances before are read too']
    >>> context_notes(1, 0)
    ['the words of up to 1 utterances before are read too']
    """
    sides = {"before": before, "after": after}
    # In these words also for 1: they are part of a run's record, and others would make it again.
    amounts = " and ".join(f"up to {n} utterances {side}" for side, n in sides.items() if n)
    return [f"the {what} of {amounts} are read too"] if amounts else []


def doubt_of_order(rows: Sequence[Utterance]) -> str:
    """Says in how many dialogues it is not known who speaks first; empty if it is known in all.

    >>> rows = [Utterance(f"a/{key}", "a", "joy", dialogue="d") for key in ("F000", "M000", "F001")]
    >>> doubt_of_order(rows)[:55]
    'the order of the utterances is not known in 1 dialogue,'
    >>> doubt_of_order(rows[::2])
    ''
    """
    # of each dialogue, the first two that may be the other way round
    unsure: list[tuple[Utterance, Utterance]] = []
    for turns in turns_of(rows):
        equal = (p for p in pairwise(turns) if _order(p[0])[:2] == _order(p[1])[:2])
        unsure += islice(equal, 1)
    if not unsure:
        return ""
    one, other = unsure[0]
    return (
        f"the order of the utterances is not known in {counted(len(unsure), 'dialogue')}, such as "
        f"that of {one.id!r} and {other.id!r}, whose times and numbers in their ids are the same: "
        "what is read as said before may be said later; add a column start"
    )


def _order(row: Utterance) -> tuple[float, list[int], str]:
    """Sort key of a turn: its start time if it is known, then the numbers in its id, then the id.

    Letters come last, since they often tell who speaks: F_000, M_001, F_002.
    """
    start = row.extra.get("dialogue_start", row.start)
    return start or 0.0, [int(number) for number in re.findall(r"\d+", row.id)], row.id


def _joined(row: Utterance, before: Sequence[Utterance], after: Sequence[Utterance]) -> InContext:
    letters = {_who(row): "A"}
    for turn in (*reversed(before), *after):
        letters.setdefault(_who(turn), ascii_uppercase[min(len(letters), len(ascii_uppercase) - 1)])
    words = [[f"{letters[_who(one)]}: {one.text}" for one in side] for side in (before, after)]
    return InContext(" ".join([*words[0], "A: "]), str(row.text), " ".join(["", *words[1]]))


def _who(row: Utterance) -> str:
    """The speaker in whatever spelling; somebody else where none is known."""
    return alike(row.speaker) if row.speaker else row.id


def with_content(utterances: Sequence[Utterance]) -> list[Utterance]:
    """The utterances, each with the hash of its recording's bytes as `content`."""
    paths = sorted({row.audio for row in utterances if row.audio is not None})
    # Sorted paths and a map: the order of results does not depend on the threads.
    with ThreadPoolExecutor(_READERS) as pool:
        hashes = dict(zip(paths, pool.map(file_hash, paths), strict=True))
    return [
        row if row.audio is None else replace(row, content=hashes[row.audio]) for row in utterances
    ]


def keep_manifest(utterances: Sequence[Utterance], folder: Path) -> None:
    """Writes the manifest beside a corpus's features, and logs what was otherwise in the last one.

    All feature files of the folder are read with this manifest: its labels and speakers become
    theirs.
    """
    path, changes = folder / "manifest.jsonl", ""
    if path.is_file():
        try:
            changes = _changes(read_manifest(path), utterances)
        except SerError as error:
            changes = f"it could not be read ({error})"
    if changes:
        _log.warning(
            "%s, which all features in that folder are read with, is replaced: %s", path, changes
        )
    write_manifest(utterances, path)


def _changes(before: Iterable[Utterance], after: Iterable[Utterance]) -> str:
    """Says how many utterances are new, gone, or have another value of a field."""
    old, new = ({row.id: row for row in rows} for rows in (before, after))
    both = [(old[key], new[key]) for key in old.keys() & new.keys()]
    counts = {
        f"with another {name}": sum(getattr(a, name) != getattr(b, name) for a, b in both)
        for name in _JUDGED
    }
    counts |= {"gone": len(old.keys() - new.keys()), "new": len(new.keys() - old.keys())}
    listed = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
    return f"of its utterances {listed}" if listed else ""


def digest(value: object) -> str:
    """The sha256 of a value as JSON."""
    return hashlib.sha256(json.dumps(value, ensure_ascii=False).encode()).hexdigest()


def file_hash(path: str | Path) -> str:
    """The first 16 digits of the sha256 of a file's bytes; `ABSENT` if it cannot be read."""
    try:
        return sha256_of(Path(path))[:_DIGITS]
    except OSError:
        return ABSENT


def _input_of(row: Utterance, modality: ModalityName) -> str:
    """A hash of what is encoded of an utterance: its section of the recording, or its words."""
    what = [row.text] if modality == "text" else [row.content, row.start, row.end]
    return digest(what)[:_DIGITS]


def inputs_of(utterances: Iterable[Utterance], modality: ModalityName) -> dict[str, str]:
    """Id → `_input_of`, in the order of the ids."""
    found = {row.id: _input_of(row, modality) for row in utterances}
    return {key: found[key] for key in sorted(found)}


def changed(
    known: Mapping[str, str], utterances: Iterable[Utterance], modality: ModalityName
) -> set[str]:
    """The ids of utterances whose content is not the one that features were made from.

    Args:
        known: id → `_input_of`, as stored in the feature file.
        utterances: with their present `content`.
        modality: of the features.
    """
    return {row.id for row in utterances if known.get(row.id) != _input_of(row, modality)}


def check_made_of(store: FeatureStore, rows: Sequence[Utterance]) -> None:
    """Raises FeatureError if features and manifest are of different recordings or words.

    A manifest may have been replaced under the same ids; its labels would then belong to other
    content than the features.
    """
    made_of = store.header.inputs
    if not made_of:  # the file does not state it
        return
    modality = store.header.modality
    around = store.header.context, store.header.context_after
    # Text features with context are made from the words of several utterances.
    given = in_context(rows, *around) if any(around) else rows
    known = [row for row in given if row.id in store and (modality == "text" or row.content)]
    if other := sorted(changed(made_of, known, modality)):
        what = "recordings" if modality == "audio" else "words"
        raise FeatureError(
            f"{store.path}: {len(other)} of its {len(store)} utterances, such as {other[0]!r}, "
            f"were made from other {what} than {store.path.parent / 'manifest.jsonl'} lists; make "
            f"them again from this manifest with ser extract --{modality}, or extract with the "
            "manifest that they were made from"
        )


def check_numbers(
    source: Path,
    arrays: Mapping[str, Singles] | FeatureStore,
    utterances: Sequence[Utterance],
    names: Sequence[str] = (),
) -> None:
    """Warns of features that are the labels, that models read as constants, and of far values.

    Raises:
        FeatureError: some of a table's columns, and not all, are labels; or all features are read
            as constants.
    """
    rows = [row for row in utterances if row.id in arrays]
    means = np.stack([arrays[row.id].mean(0) for row in rows])  # [N, D]
    varies = np.ptp(means, 0) > 0
    of_mean, least = LEAST_SPREAD
    size = np.abs(means.mean(0, dtype=np.float64))
    lost = varies & (means.std(0, dtype=np.float64) <= np.maximum(of_mean * size, least))
    labels = varies & _are_labels(means, rows)

    def some(chosen: Bools) -> str:
        which = names[int(chosen.argmax())] if names else f"number {chosen.argmax() + 1}"
        return f"{source.name}: {chosen.sum()} of {len(chosen)} features, such as {which}"

    label = f"{some(labels)}, tell the label exactly: a model reads it there; leave them out"
    constant = (
        f"{some(lost)}, vary too little beside their size, or by less than {least:g}, and are read "
        "as constants; subtract what they have in common, or multiply them"
    )
    among = labels.any() and not labels.all()
    if among and names:  # a table's columns are not all meant to be features
        raise FeatureError(label)
    if lost.all():
        raise FeatureError(constant)
    if among:
        _log.warning("%s", label)
    if lost.any():
        _log.warning("%s", constant)
    _warn_of_far_values(source, means, rows)


def _warn_of_far_values(source: Path, means: Singles, rows: Sequence[Utterance]) -> None:
    """Warns of single values that determine a feature's standard deviation."""
    middle = np.median(means, 0)
    far = np.abs(means - middle)
    usual = np.quantile(far, 0.9, axis=0)
    # A feature that is the same for nine in ten may be a count, and nothing is wrong with it.
    ratio = np.divide(far.max(0), usual, out=np.zeros_like(usual), where=usual > 0)
    if len(features := np.flatnonzero(ratio > _FAR)):
        worst = int(ratio.argmax())
        row = int(far[:, worst].argmax())
        _log.warning(
            "%s: in %s of %d a value is so far from the others that these hardly differ once "
            "standardised: feature %d of %s, counted from 0, is %.4g, and nine in ten are within "
            "%.4g of %.4g; if that is a failure, leave the row out, or limit the values",
            source.name, counted(len(features), "feature"), means.shape[1], worst,
            rows[row].id, means[row, worst], usual[worst], middle[worst],
        )  # fmt: skip


def _are_labels(means: Singles, rows: Sequence[Utterance]) -> Bools:
    """Whether each feature is a rating, or has one value in all utterances of an emotion, [D].

    Such a feature numbers the emotions, or is 1 for one emotion alone; no measurement of sound or
    words is like that.
    """
    words = np.array([row.emotion for row in rows])
    each = [np.ptp(means[words == word], 0) == 0 for word in {*words}]
    found = np.all(each, 0) & (len(rows) >= 2 * len(each))
    for name in ATTRIBUTES:
        values = np.array([row.attributes.get(name, np.nan) for row in rows])[:, None]
        found |= np.isclose(means, values).all(0)
    return np.asarray(found, bool)

"""utterances, folds → warnings about what is allowed but rarely intended.

Such data mislead: rare classes, speakers with a single class, names that mean "unknown", and folds
without some class. Overlaps between the parts of a fold are errors, see `splits.leaks`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

from multimodal_ser.common.spelling import UNSURE, alike, is_missing, spelling_notes
from multimodal_ser.corpora.utterance import GROUPS, Utterance
from multimodal_ser.errors import counted
from multimodal_ser.splits.folds import PARTS, Fold
from multimodal_ser.splits.leaks import copies_by_name


def cautions(
    utterances: Sequence[Utterance], class_of: Callable[[Utterance], str | None] | None = None
) -> list[str]:
    """Warnings about labels and names that are allowed but rarely intended.

    `class_of` gives the class of an utterance; by default it is the corpus's own word.
    """
    named = class_of or (lambda row: row.emotion)
    lines = []
    for corpus in sorted({row.corpus for row in utterances}):
        rows = [row for row in utterances if row.corpus == corpus and named(row) is not None]
        counts = Counter(str(named(row)) for row in rows)
        lines += [
            f"{corpus}: the class {name!r} has one utterance, which can be trained on or tested, "
            "not both"
            for name in sorted(counts)
            if counts[name] == 1
        ]
        lines += _of_one_class(corpus, rows, named, len(counts))
        altered = {copy: one for one, copy in copies_by_name(rows)}
        lines += [
            f"{corpus}: {counted(len(altered), 'utterance')} named as altered copies of others, "
            f"such as {copy!r} of {one!r}, for which splits take them"
            for copy, one in sorted(altered.items())[:1]
        ]
        for kind in (*GROUPS, "emotion"):
            names = [getattr(row, kind) for row in rows]
            lines += [f"{corpus}: {one}" for one in spelling_notes(kind, names)]
            # such a name may stand for several people, or is a program's word for "missing"
            lines += [
                f"{corpus}: a {kind} is called {name!r}"
                for name in sorted({name for name in names if name is not None})
                if is_missing(name) or (kind in GROUPS and name.casefold() in UNSURE)
            ]
    return lines


def cautions_of_folds(
    folds: Iterable[Fold],
    class_of: Mapping[str, str],
    classes: Sequence[str],
    parts: Sequence[str] = PARTS,
) -> list[str]:
    """A warning for every class that is missing from one of `parts`, counted over the folds.

    `class_of` has the class of an id; utterances without a class are not in it.
    """
    lacking: dict[tuple[str, str], list[str]] = defaultdict(list)
    for fold in folds:
        for part in parts:
            has = {class_of.get(key) for key in getattr(fold, part)}
            for name in classes:
                if name not in has:
                    lacking[part, name].append(fold.name)
    return [
        f"no {name!r} in the {part} part of {len(names)} folds, such as {names[0]!r}"
        for (part, name), names in lacking.items()
    ]


def _of_one_class(
    corpus: str, rows: Iterable[Utterance], named: Callable[[Utterance], str | None], classes: int
) -> list[str]:
    """A warning about speakers with only one class, which their voice alone would tell."""
    found: dict[str, set[str | None]] = defaultdict(set)
    written: dict[str, str] = {}
    for row in rows:
        if row.speaker is not None:
            key = alike(row.speaker)
            found[key].add(named(row))
            written.setdefault(key, row.speaker)
    single = sorted(written[key] for key, words in found.items() if len(words) == 1)
    if classes < 2 or not single:
        return []
    return [
        f"{corpus}: {len(single)} of {len(found)} speakers have utterances of one class only, "
        f"such as {single[0]!r}: a model may learn to recognise the speaker instead"
    ]

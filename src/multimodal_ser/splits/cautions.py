"""utterances, folds → warnings of misleading data: rare classes, speakers with a single class."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence

from multimodal_ser.common.spelling import UNSURE, alike, is_missing, said_of_spellings
from multimodal_ser.corpora.utterance import GROUPS, Utterance
from multimodal_ser.splits.folds import Fold

_PARTS = ("train", "validation", "test")


def cautions(
    utterances: Sequence[Utterance], class_of: Callable[[Utterance], str | None] | None = None
) -> list[str]:
    """Warnings about labels and names that are allowed but rarely intended.

    Args:
        utterances: of a manifest.
        class_of: the class of an utterance; None for the corpus's own word.
    """
    named = class_of or (lambda row: row.emotion)
    said = []
    for corpus in sorted({row.corpus for row in utterances}):
        rows = [row for row in utterances if row.corpus == corpus and named(row) is not None]
        counts = Counter(str(named(row)) for row in rows)
        said += [
            f"{corpus}: the class {name!r} has one utterance: it is learnt from or tested, not both"
            for name in sorted(counts)
            if counts[name] == 1
        ]
        said += _of_one_class(corpus, rows, named, len(counts))
        for kind in (*GROUPS, "emotion"):
            names = [getattr(row, kind) for row in rows]
            said += [f"{corpus}: {one}" for one in said_of_spellings(kind, names)]
            empty = sorted(
                {name for name in names if name is not None and _says_nothing(kind, name)}
            )
            said += [f"{corpus}: a {kind} is called {name!r}" for name in empty]
    return said


def _says_nothing(kind: str, name: str) -> bool:
    """Whether a name may stand for several people, or is a program's word for "missing"."""
    return is_missing(name) or (kind in GROUPS and name.casefold() in UNSURE)


def _of_one_class(
    corpus: str,
    rows: Iterable[Utterance],
    named: Callable[[Utterance], str | None],
    classes: int,
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
        f"{corpus}: {len(single)} of {len(found)} speakers have utterances of one class alone, "
        f"such as {single[0]!r}: a model may learn who speaks instead"
    ]


def cautions_of_folds(
    folds: Iterable[Fold], class_of: dict[str, str], classes: Sequence[str]
) -> list[str]:
    """A warning for every class that is missing from a part, counted over the folds.

    Args:
        folds: of one split.
        class_of: id → class; utterances without a class are not in it.
        classes: of the class set.
    """
    lacking: dict[tuple[str, str], list[str]] = defaultdict(list)
    for fold in folds:
        for part in _PARTS:
            has = {class_of.get(key) for key in getattr(fold, part)}
            for name in classes:
                if name not in has:
                    lacking[part, name].append(fold.name)
    return [
        f"no {name!r} in the {part} part of {len(names)} folds, such as {names[0]!r}"
        for (part, name), names in lacking.items()
    ]

"""names as people write them → one spelling: what is a missing value, and which names are alike."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable

MISSING = frozenset(("nan", "<na>", "nat", "#n/a", "n/a", "null"))  # casefolded
_ACCENTS = re.compile("[\u0300-\u036f]")
_GAPS = re.compile(r"[\W_]+")
_ZEROS = re.compile(r"(?<!\d)0+(?=\d)")
_WHOLE = re.compile(r"(\d+)\.0+")


def tidy(text: str) -> str:
    r"""One form of Unicode, and no space around it.

    >>> tidy(" Jose\u0301 ") == "Jos\u00e9"
    True
    """
    return unicodedata.normalize("NFC", text).strip()


def is_missing(text: str) -> bool:
    """Whether a cell says that there is nothing, as programs write it.

    >>> [is_missing(text) for text in ("NaN", "<NA>", "None", "Nan Goldin", "")]
    [True, True, True, False, True]
    """
    return not text or text.casefold() in MISSING or text == "None"


def alike(name: str) -> str:
    r"""What stays of a name without case, accents, gaps and leading zeros.

    >>> [alike(name) for name in ("Anna", "anna ", "\u00c4nna", "spk_03", "spk 3", "03", "3.0")]
    ['anna', 'anna', 'anna', 'spk 3', 'spk 3', '3', '3']
    """
    plain = unicodedata.normalize("NFKC", name).strip()
    plain = _ACCENTS.sub("", unicodedata.normalize("NFD", plain)).casefold()
    whole = _WHOLE.fullmatch(plain)
    plain = _GAPS.sub(" ", whole[1] if whole else plain).strip()
    return unicodedata.normalize("NFC", _ZEROS.sub("", plain)) or name


def nearly_equal(names: Iterable[str | None]) -> list[list[str]]:
    """Groups of names that differ in case, accents, gaps or zeros alone.

    >>> nearly_equal(["anna", "Anna", "ben", None])
    [['Anna', 'anna']]
    """
    groups: dict[str, set[str]] = defaultdict(set)
    for name in names:
        if name is not None:
            groups[alike(name)].add(name)
    return [sorted(group) for group in groups.values() if len(group) > 1]


def said_of_spellings(kind: str, names: Iterable[str | None]) -> list[str]:
    """A sentence for each group of nearly equal names.

    >>> said_of_spellings("speaker", ["anna", "Anna"])
    ["the speakers 'Anna' and 'anna' differ in case, accents, spaces or zeros alone"]
    """
    return [
        f"the {kind}s {', '.join(map(repr, group[:-1]))} and {group[-1]!r} differ in case, "
        "accents, spaces or zeros alone"
        for group in nearly_equal(names)
    ]

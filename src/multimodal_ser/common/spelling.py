"""Compares names as people write them: what is a missing value, and which names are alike."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable

_MISSING = frozenset((  # casefolded
    "nan", "<na>", "nat", "#n/a", "n/a", "null", "(null)", "<null>", "nil", "#ref!", "#value!",
    "\\n", "-", "--", "?", "undefined",
))  # fmt: skip
_AS_WRITTEN = ("None", "NA")  # Python and R; in other letters they may be words
UNSURE = frozenset((  # names behind which several people may stand
    "unknown", "unk", "none", "na", "n.a.", "missing", "other", "various", "unspecified",
    "anonymous",
))  # fmt: skip
_MOST_GROUPS = 3  # of spellings that have a sentence each
_ACCENTS = re.compile("[\u0300-\u036f]")
_INVISIBLE = re.compile("[\ufe00-\ufe0f]")  # select one of several pictures of a letter
_ZEROS = re.compile(r"(?<!\d)0+(?=\d)")
_WHOLE = re.compile(r"(\d+)\.0+")
_TURN = re.compile(r"(?<=[^\d\s])(?=\d)")  # from letters to digits


def tidy(text: str) -> str:
    r"""Normalises Unicode (NFC) and strips surrounding space.

    >>> tidy(" Jose\u0301 ") == "Jos\u00e9"
    True
    """
    return unicodedata.normalize("NFC", text).strip()


def is_missing(text: str) -> bool:
    """Whether a cell is a missing value as programs write it.

    >>> [is_missing(text) for text in ("NaN", "<NA>", "None", "Nan Goldin", "")]
    [True, True, True, False, True]
    """
    return not text or text.casefold() in _MISSING or text in _AS_WRITTEN


def alike(name: str) -> str:
    r"""Reduces a name to a form without case, accents, gaps, leading zeros and invisible letters.

    >>> [alike(name) for name in ("Anna", "anna ", "\u00c4nna", "spk_03", "spk3", "03", "3.0")]
    ['anna', 'anna', 'anna', 'spk 3', 'spk 3', '3', '3']
    >>> alike("An\u200bna"), alike("\u0663")
    ('anna', '3')
    >>> alike("\u0930\u093e\u092e") == alike("\u0930\u0940\u092e")  # Ram, Rim: vowels are marks
    False
    """
    # NFKC joins what looks alike (full-width letters, ligatures), then NFD separates accents from
    # their letters so that they can be removed
    plain = "".join(_plain(letter) for letter in unicodedata.normalize("NFKC", name)).strip()
    plain = _ACCENTS.sub("", unicodedata.normalize("NFD", plain)).casefold()
    if whole := _WHOLE.fullmatch(plain):
        plain = whole[1]
    # punctuation and space, but not the vowels of Indic scripts (marks) or emoji, are gaps
    spaced = "".join(" " if unicodedata.category(one)[0] in "PZC" else one for one in plain)
    plain = " ".join(_TURN.sub(" ", spaced).split())
    return unicodedata.normalize("NFC", _ZEROS.sub("", plain)) or name


def _plain(letter: str) -> str:
    """Maps digits of every script to 0-9, and invisible letters such as U+200B to nothing."""
    if unicodedata.category(letter) == "Cf" or _INVISIBLE.match(letter):
        return ""
    return str(unicodedata.decimal(letter, letter))


def _nearly_equal(names: Iterable[str | None]) -> list[list[str]]:
    """Groups names that differ only in case, accents, gaps or zeros.

    >>> _nearly_equal(["anna", "Anna", "ben", None])
    [['Anna', 'anna']]
    """
    groups: dict[str, set[str]] = defaultdict(set)
    for name in names:
        if name is not None:
            groups[alike(name)].add(name)
    return [sorted(group) for group in groups.values() if len(group) > 1]


def spelling_notes(kind: str, names: Iterable[str | None]) -> list[str]:
    """Returns a sentence for each group of nearly equal names; of many groups, one for all.

    >>> spelling_notes("speaker", ["anna", "Anna"])
    ["the speakers 'Anna' and 'anna' differ in case, accents, spaces or zeros alone"]
    """
    groups = [
        f"{', '.join(map(repr, group[:-1]))} and {group[-1]!r}" for group in _nearly_equal(names)
    ]
    alone = "differ in case, accents, spaces or zeros alone"
    if len(groups) > _MOST_GROUPS:
        return [f"{len(groups)} {kind}s have several spellings, such as {groups[0]}, which {alone}"]
    return [f"the {kind}s {group} {alone}" for group in groups]

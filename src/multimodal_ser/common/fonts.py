"""Text of a figure → fonts that have its letters: names may be in any script, or hold emoji."""

from __future__ import annotations

import logging
import unicodedata
from collections.abc import Collection, Iterator
from functools import cache

from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, fontManager, get_font
from matplotlib.text import Text

from multimodal_ser.common.files import one_line

USUAL = "DejaVu Sans"  # comes with matplotlib
_NO_PICTURE = "CZ"  # categories of Unicode: control and format, separators
_SELECTORS = range(0xFE00, 0xFE10)  # of variants of the letter before
_log = logging.getLogger(__name__)
_told: set[int] = set()


def prepare_text(figure: Figure) -> None:
    """Makes a figure's text appear as it is: no formulas, and letters in fonts that have them.

    A warning names letters that no installed font has, once for each.
    """
    for text in _texts(figure):
        text.set_parse_math(False)  # between two signs of dollar, matplotlib would read a formula
        # SVG holds no control characters, which names of files may have
        written = "\n".join(map(one_line, text.get_text().split("\n")))
        text.set_text(written)
        if written.isascii():
            continue
        letters = {ord(letter) for letter in written if _has_picture(letter)}
        if lacking := frozenset(letters - _letters_of(findfont(USUAL))):
            families, unknown = _fonts_with(lacking)
            text.set_fontfamily([USUAL, *families])
            _tell(unknown - _told)


def _texts(figure: Figure) -> Iterator[Text]:
    for ax in figure.axes:
        yield from ax.get_xticklabels()
        yield from ax.get_yticklabels()
    for found in figure.findobj(Text):
        if isinstance(found, Text):
            yield found


def _has_picture(letter: str) -> bool:
    return unicodedata.category(letter)[0] not in _NO_PICTURE and ord(letter) not in _SELECTORS


@cache
def _letters_of(path: str) -> frozenset[int]:
    """The code points that a font file has; none of one that matplotlib cannot draw with."""
    try:
        return frozenset(get_font(path).get_charmap())
    except (RuntimeError, OSError):  # such as fonts of bitmaps, which colour emoji are
        return frozenset()


@cache
def _fonts_with(letters: frozenset[int]) -> tuple[tuple[str, ...], frozenset[int]]:
    """The fewest installed families that have these letters, and letters that none has."""
    families: list[str] = []
    left = set(letters)
    usable = {entry.name: entry.fname for entry in fontManager.ttflist}
    while left:
        has = {name: len(left & _letters_of(path)) for name, path in sorted(usable.items())}
        best = max(has, key=lambda name: has[name], default="")
        if not best or not has[best]:
            break
        families.append(best)
        left -= _letters_of(usable[best])
    return tuple(families), frozenset(left)


def _tell(letters: Collection[int]) -> None:
    if not letters:
        return
    _told.update(letters)
    shown = "".join(chr(letter) for letter in sorted(letters)[:20])
    _log.warning(
        "pictures show boxes in place of %s: no installed font has these letters; install one that "
        "does, such as Noto Sans CJK or Noto Emoji",
        shown,
    )

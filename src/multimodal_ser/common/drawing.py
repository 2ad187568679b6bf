"""Renders figures as PNG or inline SVG in one style.

Colours are the page's light theme. In SVG they are replaced by its CSS variables, so that the same
drawing follows the reader's light or dark setting. Text gets fonts that have its letters, since
names may be in any script, or hold emoji.
"""

from __future__ import annotations

import io
import logging
import re
import unicodedata
import warnings
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from functools import cache
from html import escape
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, fontManager, get_font
from matplotlib.text import Text

from multimodal_ser.common.files import one_line

INK = "#1b2330"
MUTED = "#667085"
LINE = "#d5dae2"
ACCENT = "#1f5fa8"
FILL = "#2463ab"
ON_FILL = "#fffffe"
PAPER = "#ffffff"
_VARIABLES = {
    INK: "--ink",
    MUTED: "--muted",
    LINE: "--line",
    ACCENT: "--accent",
    FILL: "--fill",
    ON_FILL: "--on-fill",
}
_USUAL = "DejaVu Sans"  # comes with matplotlib
_NO_PICTURE = "CZ"  # categories of Unicode: control and format, separators
_SELECTORS = range(0xFE00, 0xFE10)  # of variants of the letter before
_log = logging.getLogger(__name__)
_told: set[int] = set()
# No software and date in files: the same figure must give the same bytes, in tests and in git.
_NOTHING = dict.fromkeys(("Creator", "Date", "Format", "Type"))
_STYLE: Any = {  # matplotlib's own type for it differs from release to release
    "font.family": "sans-serif",
    "font.sans-serif": [_USUAL],
    "font.size": 9.5,
    "text.color": INK,
    "axes.edgecolor": LINE,
    "axes.labelcolor": MUTED,
    "axes.linewidth": 0.8,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": INK,
    "svg.fonttype": "none",
    "svg.hashsalt": "report",
}


@contextmanager
def _ready(figure: Figure) -> Iterator[None]:
    """The common style, in which the figure's text is prepared."""
    with mpl.rc_context(_STYLE), warnings.catch_warnings():
        # `_prepare_text` says it once, and with a remedy
        warnings.filterwarnings("ignore", r"Glyph \d+ .*missing from", UserWarning)
        _prepare_text(figure)
        yield


def png(figure: Figure, title: str) -> bytes:
    """Returns a figure as PNG on white, titled; the same figure gives the same bytes."""
    return _titled(figure, title, "png", dpi=160, metadata={"Software": None})


def print_svg(figure: Figure, title: str) -> bytes:
    """Returns a figure as an SVG file on white, titled; the same figure gives the same bytes."""
    return _titled(figure, title, "svg", metadata=_NOTHING)


def _titled(figure: Figure, title: str, kind: str, **how: Any) -> bytes:
    file = io.BytesIO()
    with mpl.rc_context(_STYLE):
        figure.suptitle(title, fontsize=8.5, color=MUTED)
        FigureCanvasAgg(figure)
    with _ready(figure):
        figure.savefig(file, format=kind, facecolor=PAPER, **how)
    return file.getvalue()


def svg(figure: Figure, description: str) -> str:
    """Returns a figure as inline SVG in the page's colours, with a description in words."""
    file = io.StringIO()
    with _ready(figure):
        figure.savefig(file, format="svg", transparent=True, metadata=_NOTHING)
    drawing = file.getvalue()
    drawing = drawing[drawing.index("<svg") :]
    # the fixed size is dropped and the viewBox kept: the page decides how wide the drawing is
    box = re.search(r'viewBox="([^"]+)"', drawing)
    opening = (
        f'<svg viewBox="{box[1] if box else "0 0 1 1"}" role="img" '
        f'aria-label="{escape(description, quote=True)}">'
    )
    drawing = opening + drawing[drawing.index(">") + 1 :]
    # Matplotlib's style rules would apply to every other figure of the page
    drawing = re.sub(r"<style[^>]*>.*?</style>", "", drawing, flags=re.DOTALL)
    drawing = re.sub(r'<g id="[^"]*">', "<g>", drawing)  # the same in every figure of a page
    drawing = re.sub(rf"'{_USUAL}'(?:, (?:'[^']+'|sans-serif))*", "var(--font)", drawing)
    drawing = drawing.replace("xlink:href", "href")
    for colour, variable in _VARIABLES.items():
        drawing = drawing.replace(colour, f"var({variable})")
    return drawing


def legend(ax: Axes) -> None:
    """Names the lines above the axes, in one row, without a frame."""
    with mpl.rc_context(_STYLE):
        ax.legend(loc="lower left", bbox_to_anchor=(0, 1.01), ncols=3, frameon=False, fontsize=9)


def canvas(
    width: float, height: float, columns: int = 1, rows: int = 1
) -> tuple[Figure, list[Axes]]:
    """Creates an empty figure in the common style, without pyplot's global state.

    Args:
        width: in inches.
        height: in inches.
        columns: number of axes in a row.
        rows: number of rows; all axes are returned in one list, row by row.
    """
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        axes = [figure.add_subplot(rows, columns, place + 1) for place in range(rows * columns)]
        for ax in axes:
            ax.spines[["top", "right"]].set_visible(False)
            ax.tick_params(length=0)
            ax.set_axisbelow(True)
    return figure, axes


def write_label(ax: Axes, x: float, y: float, text: str, **style: Any) -> None:
    """Writes a label in the common style at data coordinates."""
    with mpl.rc_context(_STYLE):
        ax.text(x, y, text, **{"color": INK, "va": "center", "fontsize": 9, **style})


def _prepare_text(figure: Figure) -> None:
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
        shown = (one for one in written if unicodedata.category(one)[0] not in _NO_PICTURE)
        letters = {ord(letter) for letter in shown} - {*_SELECTORS}
        if lacking := frozenset(letters - _letters_of(findfont(_USUAL))):
            families, unknown = _fonts_with(lacking)
            text.set_fontfamily([_USUAL, *families])
            _tell(unknown - _told)


def _texts(figure: Figure) -> Iterator[Text]:
    for ax in figure.axes:
        yield from ax.get_xticklabels()
        yield from ax.get_yticklabels()
    for found in figure.findobj(Text):
        if isinstance(found, Text):
            yield found


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

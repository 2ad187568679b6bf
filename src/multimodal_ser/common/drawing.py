"""Renders figures as PNG or inline SVG in one style.

Colours are the page's light theme. In SVG they are replaced by its CSS variables, so that the same
drawing follows the reader's light or dark setting.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from multimodal_ser.common.fonts import USUAL, prepare_text

INK, MUTED, LINE, ACCENT, FILL, ON_FILL, PAPER = (
    "#1b2330",
    "#667085",
    "#d5dae2",
    "#1f5fa8",
    "#2463ab",
    "#fffffe",
    "#ffffff",
)
_VARIABLES = {
    INK: "--ink",
    MUTED: "--muted",
    LINE: "--line",
    ACCENT: "--accent",
    FILL: "--fill",
    ON_FILL: "--on-fill",
}
_STYLE: Any = {  # matplotlib's own type for it differs from release to release
    "font.family": "sans-serif",
    "font.sans-serif": [USUAL],
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
        # `prepare_text` says it once, and with a remedy
        warnings.filterwarnings("ignore", r"Glyph \d+ .*missing from", UserWarning)
        prepare_text(figure)
        yield


def png(figure: Figure, title: str) -> bytes:
    """Returns a figure as PNG on white, titled; the same figure gives the same bytes."""
    file = io.BytesIO()
    with mpl.rc_context(_STYLE):
        figure.suptitle(title, fontsize=8.5, color=MUTED)
        FigureCanvasAgg(figure)
    with _ready(figure):
        # no software and date in the file: the same figure must give the same bytes, in tests and
        # in git
        figure.savefig(file, format="png", dpi=160, facecolor=PAPER, metadata={"Software": None})
    return file.getvalue()


def print_svg(figure: Figure, title: str) -> bytes:
    """Returns a figure as an SVG file on white, titled; the same figure gives the same bytes."""
    file = io.BytesIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with mpl.rc_context(_STYLE):
        figure.suptitle(title, fontsize=8.5, color=MUTED)
    with _ready(figure):
        figure.savefig(file, format="svg", facecolor=PAPER, metadata=nothing)
    return file.getvalue()


def svg(figure: Figure, description: str) -> str:
    """Returns a figure as inline SVG in the page's colours, with a description in words."""
    file = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with _ready(figure):
        figure.savefig(file, format="svg", transparent=True, metadata=nothing)
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
    drawing = re.sub(rf"'{USUAL}'(?:, (?:'[^']+'|sans-serif))*", "var(--font)", drawing)
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

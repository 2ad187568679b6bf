"""Timeline → a picture of waveform, segments and probabilities over time."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from multimodal_ser.drawing import INK, LINE, MUTED, PAPER, canvas, png
from multimodal_ser.palette import colour
from multimodal_ser.predict.prediction import UNCERTAIN
from multimodal_ser.timeline.track import Point, Segment, Timeline, clock

LETTER = 0.0075  # of the width: what a letter takes


def draw(timeline: Timeline, peaks: NDArray[np.float32], name: str) -> bytes:
    """Draws the picture, PNG.

    Args:
        timeline: from `analyze`.
        peaks: of the recording, from 0 to 1.
        name: of the recording.
    """
    figure, (ax,) = canvas(10, 4.6)
    ax.set_axis_off()
    rows = ax.get_subplotspec()
    assert rows is not None  # noqa: S101 - made so by canvas
    places = rows.subgridspec(3, 1, height_ratios=[2, 1, 4], hspace=0.08)
    wave, strip, curve = (figure.add_subplot(places[row]) for row in range(3))
    for part in (wave, strip, curve):
        part.set_xlim(0, max(timeline.duration, 1e-3))
        part.spines[["top", "right", "left"]].set_visible(False)
        part.spines["bottom"].set_color(LINE)
        part.tick_params(length=0, labelsize=8.5, labelcolor=MUTED)
    _waveform(wave, timeline, peaks)
    _strip(strip, timeline)
    _curves(curve, timeline)
    speech = sum(end - start for start, end in timeline.speech)
    title = f"{name} · {clock(timeline.duration)}, of it speech {clock(speech)}"
    return png(figure, f"{title} · model {timeline.model}".replace("$", r"\$"))


def _waveform(ax: Axes, timeline: Timeline, peaks: NDArray[np.float32]) -> None:
    time = (np.arange(len(peaks)) + 0.5) / len(peaks) * timeline.duration
    ax.fill_between(time, -peaks, peaks, color=MUTED, linewidth=0)
    ax.set_ylim(-max(0.05, float(peaks.max())), max(0.05, float(peaks.max())))
    _bare(ax)


def _strip(ax: Axes, timeline: Timeline) -> None:
    for s in timeline.segments:
        unsure = s.label == UNCERTAIN
        ax.barh(
            0, s.end - s.start, left=s.start, height=1,
            color=PAPER if unsure else colour(s.label),
            edgecolor=LINE if unsure else PAPER, linewidth=0.8, hatch="////" if unsure else None,
        )  # fmt: skip
        letters = (s.end - s.start) / timeline.duration / LETTER - 1
        if letters >= 3:
            _word(ax, s, s.label if letters >= len(s.label) else s.label[:3], unsure)
    ax.set_ylim(-0.5, 0.5)
    _bare(ax)


def _word(ax: Axes, segment: Segment, word: str, unsure: bool) -> None:
    ax.text(
        (segment.start + segment.end) / 2, 0, word.replace("$", r"\$"),
        ha="center", va="center", fontsize=8, clip_on=True, color=INK if unsure else PAPER,
        bbox={"facecolor": PAPER, "edgecolor": "none", "pad": 1.5} if unsure else None,
    )  # fmt: skip


def _curves(ax: Axes, timeline: Timeline) -> None:
    styles = itertools.cycle(("-", "--", "-.", ":"))
    runs = list(_runs(timeline))
    for label, style in zip(timeline.labels, styles, strict=False):
        name = label.replace("$", r"\$")
        for (start, end), run in zip(timeline.speech, runs, strict=True):
            values = [p.probabilities[label] for p in run]
            time = [start, *((p.start + p.end) / 2 for p in run), end]
            ax.plot(
                time, [values[0], *values, values[-1]], style, color=colour(label),
                linewidth=1.6, label=name,
            )  # fmt: skip
            name = "_" + name
    ax.set_ylim(0, 1)
    ax.set_yticks([0, 0.5, 1], ["0", "50 %", "100 %"])
    ax.grid(axis="y", color=LINE, linewidth=0.6)
    ax.xaxis.set_major_locator(MaxNLocator(8, steps=[1, 1.5, 3, 6, 10]))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda at, _: clock(at)))
    if timeline.track:
        ax.legend(
            loc="upper center", bbox_to_anchor=(0.5, -0.12), frameon=False, fontsize=8.5,
            ncols=min(8, len(timeline.labels)),
        )  # fmt: skip
    else:
        ax.text(0.5, 0.5, "no speech found", transform=ax.transAxes, ha="center", color=MUTED)


def _runs(timeline: Timeline) -> Iterator[list[Point]]:
    """The track's points, a list for each stretch of speech: no curve crosses a silence."""
    ends = np.array([end for _, end in timeline.speech])
    middles = np.array([(p.start + p.end) / 2 for p in timeline.track])
    places = np.searchsorted(ends, middles)
    for _, run in itertools.groupby(zip(places, timeline.track, strict=True), lambda pair: pair[0]):
        yield [point for _, point in run]


def _bare(ax: Axes) -> None:
    ax.set_xticks([])
    ax.set_yticks([])
    ax.spines["bottom"].set_visible(False)

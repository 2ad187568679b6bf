"""Timeline → a picture of waveform, segments and probabilities (or attributes) over time."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from statistics import fmean

import numpy as np
from matplotlib.axes import Axes

from multimodal_ser.common.arrays import Singles
from multimodal_ser.common.drawing import INK, LINE, MUTED, PAPER, canvas, png, print_svg
from multimodal_ser.predict.prediction import UNCERTAIN, label_colours
from multimodal_ser.timeline.annotations import ANYBODY, turns
from multimodal_ser.timeline.track import Segment, Timeline, clock

LETTER = 0.0075  # width of a letter, as a share of the picture's width
SEEN, SPANS = 300.0, 150  # longer recordings (seconds) are drawn as means over so many spans


def draw(timeline: Timeline, peaks: Singles, name: str, kind: str = "png") -> bytes:
    """Draws the picture.

    Args:
        timeline: from `analyze`.
        peaks: of the recording, from 0 to 1.
        name: of the recording.
        kind: ``png``, or ``svg`` for print.
    """
    lanes: list[str | None] = [one.name for one in timeline.speakers]
    lanes = lanes or [None]
    attributes = [] if timeline.attributes is None else [timeline.attributes]
    figure, (ax,) = canvas(10, 4.1 + 0.5 * len(lanes) + 2.6 * len(attributes))
    ax.set_axis_off()
    rows = ax.get_subplotspec()
    assert rows is not None  # noqa: S101 - made so by canvas
    # the legend of the classes stands between their curves and those of the attributes
    heights = [2, *([1] * len(lanes)), 4, *([1.6, 4] if attributes else [])]
    places = rows.subgridspec(len(heights), 1, height_ratios=heights, hspace=0.08)
    wave, *strips, curve = (figure.add_subplot(places[row]) for row in range(len(lanes) + 2))
    below = [figure.add_subplot(places[len(heights) - 1]) for _ in attributes]
    for part in (wave, *strips, curve, *below):
        part.set_xlim(0, max(timeline.duration, 1e-3))
        part.spines[["top", "right", "left"]].set_visible(False)
        part.spines["bottom"].set_color(LINE)
        part.tick_params(length=0, labelsize=8.5, labelcolor=MUTED)
    _waveform(wave, timeline, peaks)
    for strip, lane in zip(strips, lanes, strict=True):
        _strip(strip, timeline, lane)
    for axes, part_of in zip((curve, *below), (timeline, *attributes), strict=True):
        _curves(axes, part_of)
    title = f"{name} · {clock(timeline.duration)}, speech {clock(timeline.spoken)}"
    title = f"{title} · model {timeline.model}"
    return png(figure, title) if kind == "png" else print_svg(figure, title)


def _waveform(ax: Axes, timeline: Timeline, peaks: Singles) -> None:
    time = (np.arange(len(peaks)) + 0.5) / len(peaks) * timeline.duration
    ax.fill_between(time, -peaks, peaks, color=MUTED, linewidth=0)
    ax.set_ylim(-max(0.05, float(peaks.max())), max(0.05, float(peaks.max())))
    _bare(ax)


def _strip(ax: Axes, timeline: Timeline, lane: str | None) -> None:
    """The segments of a speaker; certain ones are drawn on top, with a visible minimum width."""
    least, hues = timeline.duration / 1500, label_colours(timeline.labels, timeline.scale)
    segments = [s for s in timeline.segments if s.speaker == lane]
    for s in sorted(segments, key=lambda s: s.label != UNCERTAIN):
        unsure = s.label == UNCERTAIN
        wide = (s.end - s.start) / max(timeline.duration, 1e-9) > 0.006
        ax.barh(
            0, max(s.end - s.start, least), left=s.start, height=1,
            color=(PAPER if wide else LINE) if unsure else hues[s.label][0],
            edgecolor=LINE if unsure else PAPER, linewidth=0.8 if wide else 0,
            hatch="////" if unsure and wide else None,
        )  # fmt: skip
        # A label is only written if it fits, in full or as three letters of each word.
        letters = (s.end - s.start) / timeline.duration / LETTER - 1
        short = " ".join(word[:3] for word in s.label.split())
        if letters >= len(short):
            _word(ax, s, s.label if letters >= len(s.label) else short, unsure)
    ax.set_ylim(-0.5, 0.5)
    _bare(ax)
    if lane is not None:
        name = lane if len(lane) <= 14 else lane[:13] + "…"
        ax.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=8.5, color=INK)


def _word(ax: Axes, segment: Segment, word: str, unsure: bool) -> None:
    ax.text(
        (segment.start + segment.end) / 2, 0, word,
        ha="center", va="center", fontsize=8, clip_on=True, color=INK if unsure else PAPER,
        bbox={"facecolor": PAPER, "edgecolor": "none", "pad": 1.5} if unsure else None,
    )  # fmt: skip


def _curves(ax: Axes, timeline: Timeline) -> None:
    styles = itertools.cycle(("-", "--", "-.", ":"))
    runs, hues = list(_runs(timeline)), label_colours(timeline.labels, timeline.scale)
    for label, style in zip(timeline.labels, styles, strict=False):
        name = label
        for time, shares in runs:
            values = [one[label] for one in shares]
            ax.plot(time, values, style, color=hues[label][0], linewidth=1.6, label=name)
            name = "_" + name
    ax.set_ylim(0, 1)
    ax.set_yticks([0, 0.5, 1], ["0", "50 %", "100 %"])
    if timeline.scale is not None:
        low, high = timeline.scale
        ax.set_yticks([0, 0.5, 1], [f"{one:g}" for one in (low, (low + high) / 2, high)])
    ax.grid(axis="y", color=LINE, linewidth=0.6)
    ax.set_xticks(*ticks(timeline.duration))
    if runs:
        ax.legend(
            loc="upper center", bbox_to_anchor=(0.5, -0.12), frameon=False, fontsize=8.5,
            ncols=min(8, len(timeline.labels)),
        )  # fmt: skip
    else:
        ax.text(0.5, 0.5, "no speech found", transform=ax.transAxes, ha="center", color=MUTED)


def ticks(duration: float) -> tuple[list[float], list[str]]:
    """Positions of at most nine ticks in seconds, and their labels, which are all different.

    >>> ticks(2.0)[1], ticks(3700)[1][-1]
    (['0:00.0', '0:00.5', '0:01.0', '0:01.5', '0:02.0'], '1:00:00')
    """
    steps = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600)
    step = next((one for one in steps if duration / one <= 8), 3600 * max(1, duration // 28_800))
    places = [step * k for k in range(int(duration / step + 1e-6) + 1)]
    if step >= 1:
        return places, [clock(at) for at in places]
    return places, [f"{int(at // 60)}:{at % 60:04.1f}" for at in places]


def _runs(timeline: Timeline) -> Iterator[tuple[list[float], list[dict[str, float]]]]:
    """Times and probabilities of each turn of each speaker: no curve crosses a silence.

    In long recordings turns are too short to be seen; there, means over equal spans are drawn.
    """
    if timeline.duration > SEEN:
        yield from _means(timeline, timeline.duration / SPANS)
        return
    for start, end, who in turns(timeline):
        points = [
            p for p in timeline.track
            if (p.speaker or ANYBODY) == who and start <= (p.start + p.end) / 2 <= end
        ]  # fmt: skip
        if points:
            shares = [p.probabilities for p in points]
            times = [start, *((p.start + p.end) / 2 for p in points), end]
            yield times, [shares[0], *shares, shares[-1]]


def _means(timeline: Timeline, span: float) -> Iterator[tuple[list[float], list[dict[str, float]]]]:
    bins: dict[int, list[dict[str, float]]] = {}
    for p in timeline.track:
        bins.setdefault(int((p.start + p.end) / 2 / span), []).append(p.probabilities)
    places = sorted(bins)
    for _, group in itertools.groupby(enumerate(places), lambda pair: pair[1] - pair[0]):
        run = [place for _, place in group]
        means = [
            {name: fmean(one[name] for one in bins[place]) for name in timeline.labels}
            for place in run
        ]
        times = [(place + 0.5) * span for place in run]
        yield [run[0] * span, *times, (run[-1] + 1) * span], [means[0], *means, means[-1]]


def _bare(ax: Axes) -> None:
    ax.set_xticks([])
    ax.set_yticks([])
    ax.spines["bottom"].set_visible(False)

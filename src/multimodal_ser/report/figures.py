"""Draws a report's figures: of models, classes and calibration, and of transfer.

Figures of transfer are the few-shot learning curve, adaptations, and embeddings on a plane.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from multimodal_ser.common.drawing import (
    ACCENT,
    FILL,
    INK,
    LINE,
    MUTED,
    ON_FILL,
    canvas,
    legend,
    write_label,
)
from multimodal_ser.common.palette import colour
from multimodal_ser.report import words
from multimodal_ser.report.naming import Share
from multimodal_ser.report.published import MARK, fits, tables_for
from multimodal_ser.report.summary import Cloud, Row, Score, Summary

_LINES = (  # colour and line style of the curves, in order; baselines are grey
    (ACCENT, "-"),
    ("#c98500", "--"),
    (INK, ":"),
    ("#0f8a6e", "-."),
    ("#bd3f9e", "--"),
)


def comparison(summary: Summary) -> Figure:
    """Draws every model's UA (or CCC) with its interval; small ticks are single seeds."""
    name = summary.headline
    figure, (ax,) = canvas(10.4, 0.75 + 0.42 * len(summary.rows))
    for place, row in enumerate(summary.rows):
        score = row.scores[name]
        colour = MUTED if row.baseline else ACCENT
        _whisker(ax, score, place, colour)
        ax.plot(
            [100 * value for value in score.values],
            np.full(len(score.values), place + 0.24),
            "|",
            color=colour,
            markersize=4,
            alpha=0.7,
        )
    if summary.baseline is not None:
        mean = 100 * summary.baseline.scores[name].mean
        ax.axvline(mean, color=MUTED, linewidth=0.8, linestyle=(0, (4, 3)), zorder=0)
    _rows(ax, [row.name for row in summary.rows], [row.scores[name] for row in summary.rows])
    ax.set_xlabel(f"{name} × 100" if name == "CCC" else f"{name} in %")
    return figure


def draw_recalls(summary: Summary) -> Figure:
    """Draws the best model's recall of each class, with the best baseline's as a ring."""
    figure, (ax,) = canvas(5.6, 0.75 + 0.42 * len(summary.classes))
    best, baseline = summary.best, summary.baseline
    for place, score in enumerate(best.recalls):
        _whisker(ax, score, place, ACCENT)
        if baseline is not None and baseline is not best:
            other = 100 * baseline.recalls[place].mean
            ax.plot(other, place, "o", markersize=7, color="none", markeredgecolor=MUTED)
    _rows(ax, summary.classes, best.recalls)
    ax.set_xlabel("recall in %")
    return figure


def _whisker(ax: Axes, score: Score, place: int, colour: str) -> None:
    if score.low is not None and score.high is not None:
        ax.plot([100 * score.low, 100 * score.high], [place, place], color=colour, linewidth=1.6)
    ax.plot(100 * score.mean, place, "o", color=colour, markersize=6.5)


def _rows(ax: Axes, names: Sequence[str], scores: Sequence[Score]) -> None:
    """Names the rows on the left and writes their numbers on the right."""
    ax.set_yticks(range(len(names)), names)
    # the upper end is the smaller number: the first row of the table is drawn at the top
    ax.set_ylim(len(names) - 0.4, -0.6)
    ends = [end for s in scores for end in (s.low, s.high, *s.values) if end is not None]
    known = [100 * end for end in ends if not np.isnan(end)] or [0.0, 100.0]
    # the intervals decide the range of the axis, for UA of good systems differs by a few points
    # only; never beyond 102 %, for shares end at 100
    margin = max(1.0, 0.04 * (max(known) - min(known)))
    ax.set_xlim(max(min(known) - margin, min(-2, *known)), min(max(known) + margin, 102))
    ax.grid(axis="x", color=LINE, linewidth=0.6)
    ax.spines[["left", "bottom"]].set_visible(False)
    for place, score in enumerate(scores):
        text = f"{words.percent(score.mean)}  {words.interval(score)}"
        write_label(ax, 1.02, place, text, transform=ax.get_yaxis_transform(), color=MUTED)


def draw_confusion(summary: Summary) -> Figure:
    """Draws the best model's confusion matrix: % of each true class, and counts below."""
    matrix = summary.best.confusion
    support = matrix.sum(1, keepdims=True)
    # a class without test utterances has support 0: its row stays 0 instead of NaN
    shares = np.divide(matrix, support, out=np.zeros_like(matrix), where=support > 0)
    size = len(summary.classes)
    figure, (ax,) = canvas(1.5 + 0.68 * size, 1.1 + 0.62 * size)
    for true, predicted in np.ndindex(matrix.shape):
        share = float(shares[true, predicted])
        corner = (predicted - 0.48, true - 0.48)
        ax.add_patch(Rectangle(corner, 0.96, 0.96, facecolor="none", edgecolor=LINE, lw=0.5))
        ax.add_patch(Rectangle(corner, 0.96, 0.96, facecolor=FILL, alpha=share, lw=0))
        # dark text on light fill and light text on dark fill; small shares recede
        colour = ON_FILL if share > 0.5 else INK if share >= 0.05 else MUTED
        weight = "bold" if true == predicted else "normal"
        write_label(
            ax,
            predicted,
            true - 0.12,
            f"{100 * share:.0f}",
            color=colour,
            ha="center",
            weight=weight,
        )
        count = f"{matrix[true, predicted]:.0f}"
        write_label(ax, predicted, true + 0.24, count, color=colour, ha="center", fontsize=7)
    ax.set_xticks(range(size), summary.classes, rotation=35, ha="right", rotation_mode="anchor")
    ax.set_yticks(range(size), summary.classes)
    ax.tick_params(axis="x", labelcolor=INK)
    ax.set(xlim=(-0.5, size - 0.5), ylim=(size - 0.5, -0.5), aspect="equal")
    ax.set(xlabel="predicted", ylabel="true")
    ax.spines[:].set_visible(False)
    return figure


def draw_reliability(summary: Summary) -> Figure:
    """Draws the best model's reliability diagram: accuracy against confidence.

    Source: Guo et al. (2017), "On calibration of modern neural networks", ICML.
    """
    figure, (ax,) = canvas(4.6, 4.3)
    ax.plot([0, 100], [0, 100], color=MUTED, linewidth=0.8, linestyle=(0, (4, 3)))
    write_label(ax, 17, 23, "calibrated", rotation=45, color=MUTED, fontsize=8, ha="center")
    baseline = summary.baseline
    if baseline is not None and baseline is not summary.best:
        _curve(ax, baseline, MUTED)
    _curve(ax, summary.best, ACCENT)
    ax.grid(color=LINE, linewidth=0.6)
    ax.set(xlim=(0, 101), ylim=(0, 101), aspect="equal")
    ax.set(xlabel="top probability in %", ylabel="correct predictions in %")
    ax.tick_params(labelcolor=MUTED)
    ax.spines[:].set_visible(False)
    return figure


def _curve(ax: Axes, row: Row, colour: str) -> None:
    curve = row.reliability
    # bins without predictions have no accuracy
    held = curve.count > 0
    x, y = 100 * curve.confidence[held], 100 * curve.accuracy[held]
    share = curve.count[held] / curve.count.sum()
    ax.plot(x, y, color=colour, linewidth=1.2, alpha=0.6)
    # the area of a dot shows how many predictions fall into its bin
    ax.scatter(x, y, s=12 + 300 * share, color=colour, alpha=0.85, linewidths=0)


def learning_curve(summary: Summary) -> Figure:
    """Draws each system's UA over the share of the target's labels, with intervals."""
    figure, (ax,) = canvas(8.6, 4.2)
    # evenly spaced positions, not a linear axis: shares such as 1, 5, 10 and 100 % would crowd at
    # the left
    places = {share: place for place, share in enumerate(summary.shares)}
    kinds = list(dict.fromkeys(row.kind for row in summary.rows if row.share is not None))
    grey = {row.kind for row in summary.rows if row.baseline}
    kinds.sort(key=lambda kind: (kind in grey, kind))
    for number, kind in enumerate(kinds):
        rows = [row for row in summary.rows if row.kind == kind and row.share is not None]
        rows.sort(key=lambda row: places[row.share] if row.share else 0)
        shade, style = (MUTED, "--") if kind in grey else _LINES[number % len(_LINES)]
        # shifted sideways so that the intervals of systems with similar scores stay visible
        shift = 0.05 * (number - (len(kinds) - 1) / 2)
        x = [places[row.share] + shift for row in rows if row.share]
        _shares_curve(ax, x, [row.scores["UA"] for row in rows], kind, shade, style)
    _published(ax, summary, places)
    ax.set_xticks(range(len(places)), [str(share) for share in places])
    ax.set_xlim(-0.35, len(places) - 0.65)
    ax.set(xlabel="labels of the target", ylabel="UA in %")
    ax.grid(axis="y", color=LINE, linewidth=0.6)
    ax.spines[:].set_visible(False)
    legend(ax)
    return figure


def _shares_curve(
    ax: Axes, x: Sequence[float], scores: Sequence[Score], name: str, colour: str, style: str
) -> None:
    means = [100 * score.mean for score in scores]
    ax.plot(x, means, style, color=colour, linewidth=1.4, marker="o", markersize=5, label=name)
    for place, score in zip(x, scores, strict=True):
        if score.low is not None and score.high is not None:
            ends = [100 * score.low, 100 * score.high]
            ax.plot([place, place], ends, color=colour, linewidth=1.2, alpha=0.7)


def _published(ax: Axes, summary: Summary, places: dict[Share, int]) -> None:
    """Marks the original's published numbers where the task is the same."""
    points = [
        (places[Share(row.percent, "percent")], 100 * row.scores["UA"])
        for table in tables_for(summary)
        for row in table.rows
        if row.percent is not None
        and Share(row.percent, "percent") in places
        and fits(row, table, summary)
    ]
    if points:
        x, y = zip(*points, strict=True)
        ax.plot(x, y, "x", color=MUTED, markersize=6, label=MARK)


def adaptation(summary: Summary) -> Figure:
    """Draws each method's UA with its interval, and lines at the methods it has to beat."""
    rows = sorted(summary.rows, key=lambda row: row.scores["UA"].mean)
    figure, (ax,) = canvas(8.6, 1.0 + 0.4 * len(rows))
    for place, row in enumerate(rows):
        score = row.scores["UA"]
        bar = row.baseline or _is_bar(row)
        ax.barh(place, 100 * score.mean, 0.62, color=MUTED if bar else ACCENT, alpha=0.55)
        if score.low is not None and score.high is not None:
            ends = [100 * score.low, 100 * score.high]
            ax.plot(ends, [place, place], color=INK, linewidth=1.4)
        text = f"{words.percent(score.mean)}  {words.interval(score)}"
        write_label(ax, 1.02, place, text, transform=ax.get_yaxis_transform(), color=MUTED)
    for row in (row for row in rows if _is_bar(row)):
        # the line lets a reader see at once which methods are better than no adaptation
        mean = 100 * row.scores["UA"].mean
        ax.axvline(mean, color=MUTED, linewidth=0.8, linestyle=(0, (4, 3)))
    # UA of a classifier that always predicts one class: recall 1 for it, 0 for all others
    chance = 100 / len(summary.classes)
    ax.axvline(chance, color=MUTED, linewidth=0.8, linestyle=":")
    write_label(ax, chance, len(rows) - 0.3, "chance", color=MUTED, fontsize=8, ha="center")
    ax.set_yticks(range(len(rows)), [row.name for row in rows])
    ax.set_xlabel("UA in %")
    ax.spines[["left", "bottom"]].set_visible(False)
    return figure


def _is_bar(row: Row) -> bool:
    """Whether a row is a reference that adaptations have to beat."""
    return row.kind.split(", ")[0] in ("none", "standardize") and not row.baseline


def projection(pair: Sequence[Cloud]) -> Figure:
    """Draws embeddings before and after adaptation: by corpus in the upper row, by class below."""
    figure, axes = canvas(9.6, 9.6, columns=2, rows=2)
    for column, cloud in enumerate(pair):
        _by_corpus(axes[column], cloud)
        _by_class(axes[2 + column], cloud)
    for ax in axes:
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(True)
    legend(axes[0])
    legend(axes[2])
    return figure


def _by_corpus(ax: Axes, cloud: Cloud) -> None:
    for name, rows, shade in (("source", ~cloud.target, MUTED), ("target", cloud.target, ACCENT)):
        x, y = cloud.points[rows].T
        ax.scatter(x, y, s=9, color=shade, alpha=0.6, linewidths=0, label=name)
    ax.set_xlabel(f"{cloud.name}: corpus predicted with {100 * cloud.told_apart:.0f} % accuracy")


def _by_class(ax: Axes, cloud: Cloud) -> None:
    for name in sorted(set(cloud.labels)):
        for rows, marker in ((~cloud.target, "o"), (cloud.target, "+")):
            x, y = cloud.points[rows & (cloud.labels == name)].T
            named = str(name) if marker == "o" else None
            ax.scatter(x, y, s=11, c=colour(str(name)), marker=marker, linewidths=0.7, label=named)
    ax.set_xlabel(f"{cloud.name}, by class: dots source, crosses target")


def clouds_text(pair: Sequence[Cloud]) -> str:
    """Describes the figure in words, for readers who cannot see it."""
    parts = [
        f"{cloud.name}: a linear classifier predicts the corpus with "
        f"{100 * cloud.told_apart:.0f} % accuracy (50 is chance)"
        for cloud in pair
    ]
    return f"Embeddings of source and target on a plane. {'; '.join(parts)}."

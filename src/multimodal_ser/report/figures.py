"""Draws a report's figures: comparison of models, recalls, confusion matrix, reliability."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import wrap

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
    write_label,
)
from multimodal_ser.report import words
from multimodal_ser.report.curves import adaptation, clouds_text, learning_curve, projection
from multimodal_ser.report.summary import Cloud, Row, Score, Summary

# The figures that are also written to files of their own; the others belong to their page.
ALONE = ("confusion", "reliability", "learning_curve", "adaptation", "projection")


def pictures(summary: Summary, clouds: Sequence[Cloud] = ()) -> dict[str, tuple[Figure, str]]:
    """Draws a report's figures, each with its content in words, for readers who cannot see it."""
    best, rows = summary.best, summary.rows
    listed = _listed([row.name for row in rows], [next(iter(row.scores.values())) for row in rows])
    found = {"comparison": (comparison(summary), f"{summary.headline} of each model. {listed}")}
    if summary.task != "attributes":
        # without the diagonal, which holds the correct predictions
        matrix = best.confusion * (1 - np.eye(len(best.confusion)))
        true, predicted = divmod(int(matrix.argmax()), len(matrix))
        found["recalls"] = (
            draw_recalls(summary),
            f"Recall of {best.name} per class. {_listed(summary.classes, best.recalls)}",
        )
        found["confusion"] = (
            draw_confusion(summary),
            f"Confusion matrix of {best.name}, in % of each true class. Most frequent mistake: "
            f"{summary.classes[true]} taken for {summary.classes[predicted]}, "
            f"{matrix[true, predicted]:.0f} times.",
        )
        found["reliability"] = (
            draw_reliability(summary),
            f"Share of right answers against top probability for {best.name}; expected "
            f"calibration error {words.percent(best.scores['ECE'].mean)} %.",
        )
    if len(summary.shares) > 1:
        alt = f"UA over the share of the target's labels. {listed}"
        found["learning_curve"] = learning_curve(summary), alt
    if summary.protocol == "adaptation":
        found["adaptation"] = adaptation(summary), f"UA by method. {listed}"
    if clouds:
        found["projection"] = projection(clouds), clouds_text(clouds)
    return found


def _listed(names: Sequence[str], scores: Sequence[Score]) -> str:
    return "; ".join(
        f"{name} {words.percent(score.mean)} {words.interval(score)}".strip()
        for name, score in zip(names, scores, strict=True)
    )


def title(summary: Summary, name: str = "confusion") -> str:
    """Returns a title for a figure outside the report: what it shows, and its numbers' leaks."""
    best = [summary.best.name] if name in ("confusion", "reliability") else []
    where = " + ".join(summary.corpora) or summary.name
    if summary.source:
        where = f"{' + '.join(summary.source)} → {where}"
    lines = [" · ".join([*best, where, summary.split])]
    if name in ("learning_curve", "adaptation"):
        lines.append(words.whiskers(summary))
    # a figure gets copied into slides without its report; the leaks must travel with it
    lines += [
        line for note in summary.notes if note.leak for line in wrap(words.note_line(note), 60)
    ]
    return "\n".join(lines)


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
    write_label(ax, 17, 23, "as sure as right", rotation=45, color=MUTED, fontsize=8, ha="center")
    baseline = summary.baseline
    if baseline is not None and baseline is not summary.best:
        _curve(ax, baseline, MUTED)
    _curve(ax, summary.best, ACCENT)
    ax.grid(color=LINE, linewidth=0.6)
    ax.set(xlim=(0, 101), ylim=(0, 101), aspect="equal")
    ax.set(xlabel="top probability in %", ylabel="right answers in %")
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

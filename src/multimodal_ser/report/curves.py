"""Draws the figures of transfer: the few-shot learning curve, adaptations, embeddings."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from multimodal_ser.common.drawing import ACCENT, INK, LINE, MUTED, canvas, legend, write_label
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
        _curve(ax, x, [row.scores["UA"] for row in rows], kind, shade, style)
    _published(ax, summary, places)
    ax.set_xticks(range(len(places)), [str(share) for share in places])
    ax.set_xlim(-0.35, len(places) - 0.65)
    ax.set(xlabel="labels of the target", ylabel="UA in %")
    ax.grid(axis="y", color=LINE, linewidth=0.6)
    ax.spines[:].set_visible(False)
    legend(ax)
    return figure


def _curve(
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
    for name, rows, shade in (
        ("source", ~cloud.target, MUTED),
        ("target", cloud.target, ACCENT),
    ):
        x, y = cloud.points[rows].T
        ax.scatter(x, y, s=9, color=shade, alpha=0.6, linewidths=0, label=name)
    ax.set_xlabel(f"{cloud.name}: corpora told apart {100 * cloud.told_apart:.0f} %")


def _by_class(ax: Axes, cloud: Cloud) -> None:
    for name in sorted(set(cloud.labels)):
        for rows, marker in ((~cloud.target, "o"), (cloud.target, "+")):
            x, y = cloud.points[rows & (cloud.labels == name)].T
            named = str(name) if marker == "o" else None
            ax.scatter(x, y, s=11, c=colour(str(name)), marker=marker, linewidths=0.7, label=named)
    ax.set_xlabel(f"{cloud.name}, by class: dots source, crosses target")


def clouds_text(pair: Sequence[Cloud]) -> str:
    """Says in words what the picture shows, for readers who cannot see it."""
    parts = [
        f"{cloud.name}: a linear classifier tells the corpora apart in "
        f"{100 * cloud.told_apart:.0f} % (50 is chance)"
        for cloud in pair
    ]
    return f"Embeddings of source and target on a plane. {'; '.join(parts)}."

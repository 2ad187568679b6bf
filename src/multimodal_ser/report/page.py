"""Writes report.html: one page that loads nothing from outside itself."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup
from matplotlib.figure import Figure

from multimodal_ser.report import figures, words
from multimodal_ser.report.curves import clouds_told, label_shares
from multimodal_ser.report.layout import report_templates, template_values
from multimodal_ser.report.published import original
from multimodal_ser.report.summary import Cloud, Row, Score, Summary


def report_page(summary: Summary, clouds: Sequence[Cloud] = ()) -> str:
    """Writes the page: headline, tables with their notes, pictures, settings."""
    against = summary.baseline if summary.baseline is not summary.best else None
    return (
        report_templates()
        .get_template("report.html")
        .render(
            **template_values(summary),
            summary=summary,
            facts=_facts(summary),
            against=against,
            drawings=_drawings(summary, clouds),
            source=original().source,
            seen=clouds_told(clouds) if clouds else "",
            differing=_differing(summary),
        )
    )


def _facts(summary: Summary) -> list[tuple[str, str]]:
    best = summary.best
    names = list(best.scores)[:3]
    unit = "" if summary.task == "attributes" else " %"
    facts = [(f"{words.percent(best.scores[name].mean)}{unit}", name) for name in names]
    facts.append((f"{summary.utterances:,}", f"{summary.part} utterances"))
    if summary.by == "speaker":
        facts.append((f"{summary.clusters:,}", "speakers"))
    made = [(len(summary.folds), "folds"), (len(summary.seeds), "seeds")]
    if len(summary.draws) > 1:
        made.insert(1, (len(summary.draws), "draws"))
    facts.append((" × ".join(str(n) for n, _ in made), " × ".join(name for _, name in made)))
    return facts


def _drawings(summary: Summary, clouds: Sequence[Cloud]) -> dict[str, Markup]:
    score = summary.headline
    compared = figures.comparison(summary), f"{score} of each model. " + _told(summary.rows)
    pictures = {"comparison": compared}
    if summary.task != "attributes":
        pictures |= _of_classes(summary)
    if len(label_shares(summary)) > 1:
        alt = "UA over the share of the target's labels. " + _told(summary.rows)
        pictures["learning_curve"] = figures.learning_curve(summary), alt
    if summary.protocol == "adaptation":
        pictures["adaptation"] = figures.adaptation(summary), "UA by method. " + _told(summary.rows)
    if clouds:
        pictures["projection"] = figures.projection(clouds), clouds_told(clouds)
    return {
        # drawn here from escaped text, never taken from a run's files as markup
        name: Markup(figures.svg(figure, alt))  # noqa: S704
        for name, (figure, alt) in pictures.items()
    }


def _of_classes(summary: Summary) -> dict[str, tuple[Figure, str]]:
    """Draws the best model's predictions, if they are classes."""
    best = summary.best
    drawn = {
        "recalls": (
            figures.draw_recalls,
            f"Recall of {best.name} per class. " + _listed(summary.classes, best.recalls),
        ),
        "confusion": (
            figures.draw_confusion,
            f"Confusion matrix of {best.name}, in % of each true class. " + _mistaken(summary),
        ),
        "reliability": (
            figures.draw_reliability,
            f"Share of right answers against top probability for {best.name}; expected "
            f"calibration error {words.percent(best.scores['ECE'].mean)} %.",
        ),
    }
    return {name: (draw(summary), alt) for name, (draw, alt) in drawn.items()}


def _told(rows: Sequence[Row]) -> str:
    return _listed([row.name for row in rows], [next(iter(row.scores.values())) for row in rows])


def _listed(names: Sequence[str], scores: Sequence[Score]) -> str:
    return "; ".join(
        f"{name} {words.percent(score.mean)} {words.interval(score)}".strip()
        for name, score in zip(names, scores, strict=True)
    )


def _mistaken(summary: Summary) -> str:
    """Names the most frequent confusion, for readers who cannot see the matrix."""
    matrix = summary.best.confusion.copy()
    for place in range(len(matrix)):
        # the diagonal holds the correct predictions
        matrix[place, place] = 0
    true, said = divmod(int(matrix.argmax()), len(matrix))
    return (
        f"Most frequent mistake: {summary.classes[true]} taken for {summary.classes[said]}, "
        f"{matrix[true, said]:.0f} times."
    )


def _differing(summary: Summary) -> dict[str, list[str]]:
    """Returns the settings that differ between systems: name → one value per row."""
    names = sorted({key for row in summary.rows for key in row.settings} - {"model"})
    return {
        name: [row.settings.get(name, "–") for row in summary.rows]
        for name in names
        if name not in summary.settings
    }

"""Summary → sentences and cells: the wording that every format shares."""

from __future__ import annotations

import math

from multimodal_ser.report.summary import RESAMPLES, Note, Score, Summary, Versus

MINUS = "\N{MINUS SIGN}"


def percent(share: float, signed: bool = False) -> str:
    """Writes a share as percent with one digit; "–" where it is not defined.

    >>> percent(0.9123), percent(-0.004, signed=True), percent(float("nan"))
    ('91.2', '−0.4', '–')
    """
    if math.isnan(share):
        return "–"
    text = f"{100 * share:+.1f}" if signed else f"{100 * share:.1f}"
    return text.replace("-", MINUS)


def spread(score: Score) -> str:
    """Writes mean ± sd over seeds.

    >>> spread(Score((0.9, 0.92), 0.91, 0.014)), spread(Score((0.9,), 0.9, None))
    ('91.0 ± 1.4', '90.0 ± –')
    """
    sd = "–" if score.sd is None else percent(score.sd)
    return f"{percent(score.mean)} ± {sd}"


def bounds(low: float | None, high: float | None, signed: bool = False) -> str:
    """Writes an interval; empty where none could be estimated.

    >>> bounds(0.9, 0.951), bounds(-0.01, 0.02, signed=True), bounds(None, None)
    ('[90.0, 95.1]', '[−1.0, +2.0]', '')
    """
    if low is None or high is None:
        return ""
    return f"[{percent(low, signed)}, {percent(high, signed)}]"


def count(number: int, one: str, many: str | None = None) -> str:
    """Writes a number with its noun.

    >>> count(1, "speaker"), count(1200, "speaker"), count(2, "class", "classes")
    ('1 speaker', '1,200 speakers', '2 classes')
    """
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def p_value(p: float) -> str:
    """Writes a p value.

    >>> p_value(0.0312), p_value(0.0002)
    ('p = 0.031', 'p < 0.001')
    """
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def subject(summary: Summary) -> str:
    """Says what was tested: corpora, classes, split, utterances."""
    parts = [
        " + ".join(summary.corpora) or summary.name,
        f"{summary.labels} ({count(len(summary.classes), 'class', 'classes')})",
        f"{summary.split}, {count(len(summary.folds), 'fold')}",
        count(summary.utterances, f"{summary.part} utterance"),
    ]
    if summary.by == "speaker":
        parts.append(count(summary.clusters, "speaker"))
    return " · ".join(parts)


def verdict(versus: Versus, comparisons: int) -> str:
    """Says in one sentence whether a network beats the best baseline."""
    points = f"{percent(abs(versus.difference))} UA points"
    interval = bounds(versus.low, versus.high, signed=True)
    if versus.low is None or versus.high is None or versus.p is None:
        side = "above" if versus.difference > 0 else "below"
        return (
            f"{versus.name} is {points} {side} the best baseline, {versus.baseline}; whether that "
            "is chance cannot be estimated from one speaker."
        )
    proof = p_value(versus.p) + (f", Holm over {comparisons}" if comparisons > 1 else "")
    if versus.wins:
        return (
            f"{versus.name} beats the best baseline, {versus.baseline}, by {points} "
            f"{interval} ({proof})."
        )
    if versus.high < 0:
        return (
            f"{versus.name} does not beat the best baseline, {versus.baseline}: it is {points} "
            f"worse {interval} ({proof})."
        )
    return (
        f"{versus.name} does not beat the best baseline, {versus.baseline}: the difference of "
        f"{percent(versus.difference, signed=True)} UA points {interval} may be chance ({proof})."
    )


def verdicts(summary: Summary) -> list[str]:
    """Says of every network whether it beats the best baseline."""
    return [verdict(versus, len(summary.versus)) for versus in summary.versus]


def how_to_read(summary: Summary) -> tuple[str, str]:
    """Keeps the spread over seeds and the interval over the sample apart, in words."""
    return (
        f"± is over seeds; [ ] is the 95 % interval over {summary.by}s.",
        f"Scores in %, of all folds together; intervals from {RESAMPLES:,} bootstrap resamples.",
    )


def noted(note: Note) -> str:
    """Writes a leak or a mark so that nobody takes it for a detail."""
    return f"LEAK: {note.text}" if note.leak else note.text


def headline(summary: Summary) -> str:
    """Says the main result in one sentence."""
    best = summary.best
    score = best.scores["UA"]
    interval = bounds(score.low, score.high)
    reach = f"{best.name} reaches {percent(score.mean)} % UA{' ' + interval if interval else ''}"
    if len(summary.rows) == 1:
        return f"{reach}."
    if best is summary.baseline and summary.versus:
        return f"{reach}: the baseline is the highest of {len(summary.rows)} models."
    return f"{reach}, the highest of {len(summary.rows)} models."

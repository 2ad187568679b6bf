"""Formats a report's sentences and cells: the wording that every format shares."""

from __future__ import annotations

import math
from collections.abc import Sequence

from multimodal_ser.errors import counted
from multimodal_ser.report.published import MARK, PublishedTable
from multimodal_ser.report.summary import Group, Note, Row, Score, Summary, Versus

UNKNOWN = "cannot be known"
MINUS = "\N{MINUS SIGN}"


def percent(share: float, signed: bool = False) -> str:
    """Formats a share as percent with one digit; "–" if it is NaN.

    >>> percent(0.9123), percent(-0.004, signed=True), percent(float("nan")), percent(-1e-9)
    ('91.2', '−0.4', '–', '0.0')
    """
    if math.isnan(share):
        return "–"
    points = round(100 * share, 1) + 0.0  # −0.0 + 0.0 is 0.0
    return f"{points:+.1f}".replace("-", MINUS) if signed else f"{points:.1f}".replace("-", MINUS)


def with_sd(score: Score) -> str:
    """Writes mean ± sd over seeds and draws.

    >>> with_sd(Score((0.9, 0.92), 0.91, 0.014)), with_sd(Score((0.9,), 0.9, None))
    ('91.0 ± 1.4', '90.0 ± –')
    """
    sd = "–" if score.sd is None else percent(score.sd)
    return f"{percent(score.mean)} ± {sd}"


def _bounds(low: float | None, high: float | None, signed: bool = False) -> str:
    """Formats an interval; empty if it is unknown.

    >>> _bounds(0.9, 0.951), _bounds(-0.01, 0.02, signed=True), _bounds(None, None)
    ('[90.0, 95.1]', '[−1.0, +2.0]', '')
    """
    if low is None or high is None:
        return ""
    return f"[{percent(low, signed)}, {percent(high, signed)}]"


def interval(score: Score, unknown: str = f"[{UNKNOWN}]") -> str:
    """Formats a score's interval, or says that it is `unknown`; empty if the score is NaN.

    >>> interval(Score((0.9,), 0.9, None, 0.87, 0.951)), interval(Score((0.9,), 0.9, None))
    ('[87.0, 95.1]', '[cannot be known]')
    """
    if math.isnan(score.mean):
        return ""
    return _bounds(score.low, score.high) or unknown


def _p_value(p: float) -> str:
    """Writes a p value, with more digits where three would put it on the other side of 0.05.

    >>> _p_value(0.0312), _p_value(0.0002), _p_value(0.04961)
    ('p = 0.031', 'p < 0.001', 'p = 0.0496')
    """
    if p < 0.001:
        return "p < 0.001"
    written = (f"{p:.{digits}f}" for digits in range(3, 20))
    return f"p = {next(one for one in written if (float(one) < 0.05) == (p < 0.05))}"


def subject(summary: Summary) -> str:
    """Describes what was tested: corpora, classes, split, utterances."""
    corpora = " + ".join(summary.corpora) or summary.name
    what = f"{summary.labels} ({counted(len(summary.classes), 'class', 'classes')})"
    if summary.task != "classes":
        what = {"attributes": summary.labels, "distributions": f"votes over {what}"}[summary.task]
    parts = [
        f"{' + '.join(summary.source)} → {corpora}" if summary.source else corpora,
        what,
        f"{summary.split}, {counted(len(summary.folds), 'fold')}",
        counted(summary.utterances, f"{summary.part} utterance"),
    ]
    if summary.by == "speaker":
        parts.append(counted(summary.clusters, "speaker"))
    return " · ".join(parts)


def repeats(row: Row) -> str:
    """Formats how often a system was trained: seeds, or draws × seeds.

    >>> from types import SimpleNamespace as Row
    >>> repeats(Row(seeds=(0, 1), draws=(0,))), repeats(Row(seeds=(0, 1), draws=(0, 1, 2)))
    ('2', '3 draws × 2 seeds')
    """
    if len(row.draws) < 2:
        return str(len(row.seeds))
    return f"{counted(len(row.draws), 'draw')} × {counted(len(row.seeds), 'seed')}"


def verdict(
    versus: Versus, comparisons: int, headline: str = "UA", beside: Sequence[Versus] = ()
) -> str:
    """States in one sentence whether a system beats another, by the headline's score or its own.

    Args:
        versus: the comparison.
        comparisons: how many there are in its family.
        headline: the table's score.
        beside: the same two systems by further scores.
    """
    other = versus.role + versus.against
    points = f"{percent(abs(versus.difference))} {versus.score or headline} points"
    if versus.p is None:
        side = "above" if versus.difference > 0 else "below"
        # equal scores may differ in the last bits of their sums
        same = abs(versus.difference) < 1e-9
        gap = f"has the {versus.score or headline} of" if same else f"is {points} {side}"
        return f"{versus.name} {gap} {other}; whether that is chance {UNKNOWN}: {versus.unknown}."
    ends = _bounds(versus.low, versus.high, signed=True)
    proof = _p_value(versus.p) + (f", Holm over {comparisons}" if comparisons > 1 else "")
    if versus.mcnemar is not None:
        proof += f"; McNemar {_p_value(versus.mcnemar)}"
    for one in beside:
        gap = f"{one.score} {percent(one.difference, signed=True)}"
        proof += f"; {gap}" if one.p is None else f"; {gap}, {_p_value(one.p)}"
    if versus.wins:
        aside = f"{other}," if other.startswith("the best") else other
        return f"{versus.name} beats {aside} by {points} {ends} ({proof})."
    if versus.loses:
        return f"{versus.name} does not beat {other}: it is {points} worse {ends} ({proof})."
    return (
        f"{versus.name} does not beat {other}: the difference of "
        f"{percent(versus.difference, signed=True)} {versus.score or headline} points {ends} may "
        f"be chance ({proof})."
    )


def verdicts(summary: Summary, family: str | None = None) -> list[str]:
    """States the result of every comparison of one family, or of all.

    A family of several scores (those of votes) has one sentence for each pair of systems: on the
    first score, with the others in brackets.
    """
    lines = []
    for name in summary.families if family is None else (family,):
        own = [versus for versus in summary.versus if versus.family == name]
        first = [versus for versus in own if versus.score == own[0].score]
        known = [versus for versus in first if versus.p is not None]
        if len(known) > 1:
            lines.append(_tally(known))
        for one in first:
            pair = [v for v in own if (v.name, v.against) == (one.name, one.against)]
            lines.append(verdict(one, len(known), summary.headline, pair[1:]))
    return lines


def _tally(family: Sequence[Versus]) -> str:
    """States how many comparisons of a family are won, and by or against whom."""
    first = family[0]
    # one system against many names the beaten; many against one bar name the winners
    one_side = len({versus.name for versus in family}) == 1
    won = [versus.against if one_side else versus.name for versus in family if versus.wins]
    names = f": {'; '.join(won)}" if won else ""
    measure = f" ({first.score})" if first.score else ""
    done = "are beaten" if one_side else "are better"
    return (
        f"{first.family}{measure}: {len(won)} of {len(family)} {done} by more than chance{names}."
    )


def scores_legend(summary: Summary) -> list[str]:
    """Explains ± (spread over seeds) and [ ] (interval over the sample), which differ."""
    drawn = "draws of the few and seeds" if len(summary.draws) > 1 else "seeds"
    lines = [
        f"± is over {drawn}; [ ] is the 95 % interval over {summary.by}s.",
        {
            "classes": "Scores in %, of all folds together.",
            "distributions": "Scores times 100, of all folds together; JS and KL: lower is better.",
            "attributes": "Scores times 100, of all folds together; RMSE: lower is better.",
        }[summary.task],
        *summary.ceiling,
    ]
    intervals, *differences = summary.method
    return [*lines, intervals, *(differences if summary.versus else ())]


def whiskers(summary: Summary) -> str:
    """Explains the interval lines of a figure, or why there are none."""
    if all(row.scores[summary.headline].low is None for row in summary.rows):
        return (
            f"intervals over {summary.by}s {UNKNOWN} from {counted(summary.clusters, summary.by)}"
        )
    return f"lines are 95 % intervals over {summary.by}s"


def group_line(group: Group) -> str:
    """States how a group differs from all others, or why that is unknown."""
    if group.note:
        return group.note
    if group.difference is None or group.p is None:
        return ""
    low, high = group.difference.low, group.difference.high
    gap = f"{percent(group.difference.mean, signed=True)} {_bounds(low, high, signed=True)}"
    return f"{gap} {_p_value(group.p)}"


def groups_legend(summary: Summary) -> str:
    """Explains the table of groups."""
    return (
        "[ ] is the 95 % interval over the group's own speakers; the difference is "
        f"{summary.headline} in points from all other speakers, not paired; p (Welch's t) is "
        "corrected (Holm) over the groups."
    )


def published_legend(table: PublishedTable) -> str:
    """Explains a table of the original."""
    return f"{table.title}, {table.part} part: {MARK}."


def note_line(note: Note) -> str:
    """Formats a leak or a mark; a leak is marked so that nobody overlooks it."""
    return f"LEAK: {note.text}" if note.leak else note.text


def main_result(summary: Summary) -> str:
    """States the main result in one sentence."""
    best = summary.best
    score = best.scores[summary.headline]
    unit = f"% {summary.headline}" if summary.headline != "CCC" else "CCC, times 100,"
    reach = f"{best.name} reaches {percent(score.mean)} {unit} {interval(score)}"
    if len(summary.rows) == 1:
        return f"{reach}."
    if best is summary.baseline and summary.versus:
        return f"{reach}: the baseline is the highest of {len(summary.rows)} models."
    what = "models" if summary.protocol in ("in-domain", "ablation", "combined") else "systems"
    return f"{reach}, the highest of {len(summary.rows)} {what}."

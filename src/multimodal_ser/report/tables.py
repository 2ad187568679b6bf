"""Writes a report's CSV files."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence

from multimodal_ser.evaluation.metrics import OF_PROBABILITIES
from multimodal_ser.report import words
from multimodal_ser.report.published import PublishedTable, beside, tables_for
from multimodal_ser.report.scores import main_names, other_scores
from multimodal_ser.report.summary import Group, Row, Score, Summary, Versus


def csv_table(summary: Summary) -> str:
    """Writes one line per system for other programs: shares from 0 to 1, marks as columns."""
    parts = [summary] if summary.validation is None else [summary, summary.validation]
    return _csv([_csv_cells(row, part) for part in parts for row in part.rows])


def comparisons_csv(summary: Summary) -> str:
    """Writes one line per comparison."""
    parts = [summary] if summary.validation is None else [summary, summary.validation]
    return _csv([_csv_versus(one, part) for part in parts for one in part.versus])


def groups_csv(summary: Summary) -> str:
    """Writes one line per group and system."""
    return _csv([_csv_group(one) for one in summary.groups])


def published_csv(summary: Summary) -> str:
    """Writes one line per published row, with our result where the task is the same."""
    tables = tables_for(summary)
    return _csv([line for table in tables for line in _csv_published(table, summary)])


def _csv(lines: Sequence[Mapping[str, str]]) -> str:
    if not lines:
        return ""
    file = io.StringIO()
    writer = csv.DictWriter(file, list(lines[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return file.getvalue()


def _csv_cells(row: Row, summary: Summary) -> dict[str, str]:
    cells = {
        "model": row.name,
        "part": summary.part,
        "parameters": "" if row.parameters is None else str(row.parameters),
        "seeds": " ".join(str(seed) for seed in row.seeds),
        "draws": " ".join(str(draw) for draw in row.draws),
        "folds": str(len(summary.folds)),
        "utterances": str(summary.utterances),
        "clusters": str(summary.clusters),
        "effective_clusters": f"{summary.effective:.2f}",
        "clustered_by": summary.by,
    }
    names = *main_names(summary), *other_scores(summary.task)
    for name in names:
        cells |= _csv_score(name, row.score(name))
    # a row without recalls (attributes) writes no columns; any other number of them must match
    for name, recall in zip(summary.classes, row.recalls, strict=bool(row.recalls)):
        cells |= _csv_score(f"recall_{name}", recall)
    own = [note for note in summary.notes if note.letter in row.notes]
    cells["leaks"] = "; ".join(note.text for note in own if note.leak)
    cells["marks"] = "; ".join(note.text for note in own if not note.leak)
    cells["missing"] = "; ".join(summary.missing)
    cells["cautions"] = "; ".join(summary.cautions)
    return cells


def _csv_versus(versus: Versus, summary: Summary) -> dict[str, str]:
    score = summary.headline
    numbers = {
        f"{score}_difference_low": versus.low,
        f"{score}_difference_high": versus.high,
        "p_holm": versus.p,
        "p_mcnemar_holm": versus.mcnemar,
    }
    return {
        "part": summary.part,
        "family": versus.family,
        "model": versus.name,
        "against": versus.against,
        f"{score}_difference": _share(versus.difference),
        **{key: words.UNKNOWN if versus.unknown else _share(one) for key, one in numbers.items()},
        "why_unknown": versus.unknown,
    }


def _csv_group(group: Group) -> dict[str, str]:
    cells = {
        "by": group.by,
        "group": group.name,
        "model": group.system,
        "utterances": str(group.utterances),
        "clusters": str(group.clusters),
    }
    for name, one in group.scores.items():
        cells |= _csv_score(name, one)
    gap, score = group.difference, next(iter(group.scores))
    cells[f"{score}_difference"] = _share(gap.mean if gap else None)
    cells[f"{score}_difference_low"] = _share(gap.low if gap else None)
    cells[f"{score}_difference_high"] = _share(gap.high if gap else None)
    return cells | {"p_holm": _share(group.p), "note": group.note}


def _csv_published(table: PublishedTable, summary: Summary) -> list[dict[str, str]]:
    lines = []
    for row in table.rows:
        own = beside(row, table, summary)
        cells = {"table": table.title, "part": table.part, "published": row.name}
        cells |= {f"published_{key}": _share(row.scores.get(key)) for key in ("UA", "WA", "WF1")}
        cells["ours"] = own.name if own else ""
        empty = Score((), math.nan, None)
        lines.append(cells | _csv_score("ours_UA", own.scores["UA"] if own else empty))
    return lines


def _csv_score(name: str, score: Score) -> dict[str, str]:
    cells = {name: _share(score.mean), f"{name}_sd": _share(score.sd)}
    # ECE and its like have no interval at all, so they get no columns for one
    if name not in OF_PROBABILITIES:
        cells |= {f"{name}_low": _end(score, score.low), f"{name}_high": _end(score, score.high)}
    return cells


def _end(score: Score, end: float | None) -> str:
    """Writes an end of an interval, or that it is unknown."""
    return words.UNKNOWN if end is None and not math.isnan(score.mean) else _share(end)


def _share(value: float | None) -> str:
    return "" if value is None or math.isnan(value) else f"{value:.6f}"

"""run folders → the original's results JSON: its keys, and what is needed to judge them.

All scores are in percent. ``mean`` and ``std`` are over runs (seeds, and draws of the few);
``interval_95`` of a score is over the tested speakers, that of a difference over speakers and
seeds: they answer different questions. If one cannot be known, a sentence says so.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any

from multimodal_ser.common.files import written_aside
from multimodal_ser.report import Row, Score, Summary, summarise
from multimodal_ser.report.words import UNKNOWN

SCORES = ("UA", "WA", "WF1", "macro-F1")
SELECTION = {
    "in-domain": "the val rows choose the epoch",
    "combined": "the val rows of both corpora choose the epoch",
    "adaptation": "the source's val rows choose the epoch; no label of the target is used",
    "finetune": "the target's val rows choose the epoch of fine-tuning",
    "fewshot": "a fifth of the few chooses the epoch; the target's val rows are not used",
}


def write_results(
    output: Path,
    folder: Path,
    config: Mapping[str, Any],
    headline: str,
    parts: Mapping[str, str],
    renamed: Mapping[str, str] | None = None,
) -> Summary:
    """Computes an experiment's results from its runs' predictions and writes them.

    Args:
        output: the JSON file.
        folder: the experiment's run folders.
        config: the flags.
        headline: kind of the system whose scores stand at the top, as the original's do.
        parts: the original's word for a part → the part of the runs that it is.
        renamed: kind of system → what the original's table calls it.

    Returns:
        The summary of the test part, or of the only part there is.
    """
    summaries = {name: summarise(folder, part) for name, part in parts.items()}
    shown = summaries.get("test") or next(iter(summaries.values()))
    systems = _systems(summaries, renamed or {})
    first = next((row.name for row in shown.rows if row.kind == headline), shown.best.name)
    found = {
        "config": dict(config),
        "unit": "percent",
        "num_runs": len({seed for row in shown.rows for seed in row.seeds}),
        **systems[(renamed or {}).get(first, first)],
        "systems": systems,
        **_by_share(shown, systems, headline),
        **_by_corpus(shown),
        "comparisons": [_comparison(one) for one in shown.versus],
        "protocol": _protocol(summaries, shown, folder),
        "leaks": [note.text for note in shown.notes if note.leak],
        "marks": [note.text for note in shown.notes if not note.leak],
        "cautions": [*shown.missing, *shown.cautions],
        "versions": dict(shown.versions),
    }
    text = json.dumps(found, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    with written_aside(output) as partial:
        partial.write_text(text, encoding="utf-8")
    return shown


def _systems(summaries: Mapping[str, Summary], renamed: Mapping[str, str]) -> dict[str, Any]:
    found: dict[str, dict[str, Any]] = {}
    for part, summary in summaries.items():
        for row in summary.rows:
            record = found.setdefault(
                renamed.get(row.name, row.name),
                {"model": row.model, "seeds": list(row.seeds), "parameters": row.parameters,
                 "runs": [{"seed": s, "draw": d} for s, d in product(row.seeds, row.draws)]},
            )  # fmt: skip
            record[part] = {name: _score(row.scores[name]) for name in SCORES}
            for place, run in enumerate(record["runs"]):
                run[part] = {name: _percent(row.scores[name].values[place]) for name in SCORES}
    return found


def _score(score: Score) -> dict[str, Any]:
    ends = [_percent(score.low), _percent(score.high)] if score.low is not None else UNKNOWN
    return {"mean": _percent(score.mean), "std": _percent(score.sd), "interval_95": ends}


def _percent(share: float | None) -> float | None:
    return None if share is None or math.isnan(share) else round(100 * share, 4)


def _by_share(summary: Summary, systems: Mapping[str, Any], headline: str) -> dict[str, Any]:
    """The few-shot table: percentage → the fine-tuned model's record."""
    rows = [row for row in summary.rows if row.share and row.kind == headline]
    rows.sort(key=_amount)
    return {"percentages": {f"{_amount(row):g}": systems[row.name] for row in rows}} if rows else {}


def _amount(row: Row) -> float:
    return row.share.amount if row.share else 0.0


def _by_corpus(summary: Summary) -> dict[str, Any]:
    """Returns the scores on each of the corpora that were tested together."""
    found: dict[str, dict[str, Any]] = {}
    for group in summary.groups:
        if group.by == "corpus":
            scores = {name: _score(group.scores[name]) for name in SCORES if name in group.scores}
            found.setdefault(group.name, {})[group.system] = scores
    return {"by_corpus": found} if found else {}


def _comparison(versus: Any) -> dict[str, Any]:
    ends: Any
    if versus.unknown:
        unknown = f"{UNKNOWN}: {versus.unknown}"
        ends, p, exact = unknown, unknown, unknown
    else:
        ends = [_percent(versus.low), _percent(versus.high)]
        p, exact = versus.p, versus.mcnemar
    return {
        "system": versus.name,
        "against": versus.against,
        "UA_difference": _percent(versus.difference),
        "interval_95": ends,
        "p_holm": p,
        "mcnemar_p_holm": exact,
        "better_by_more_than_chance": versus.wins,
    }


def _protocol(summaries: Mapping[str, Summary], shown: Summary, folder: Path) -> dict[str, Any]:
    return {
        "experiment": shown.protocol,
        "source": list(shown.source),
        "corpora": list(shown.corpora),
        "classes": list(shown.classes),
        "split": shown.split,
        "split_hash": shown.split_hash,
        "scored": {name: f"{s.utterances} utterances" for name, s in summaries.items()},
        "interval": f"over the {shown.by}s of the scored rows: {shown.clusters}, as good as "
        f"{shown.effective:.1f} equal ones",
        "statistics": list(shown.method),
        "selection": SELECTION.get(shown.protocol, "rows that are not tested choose the epoch"),
        "runs": folder.as_posix(),
    }

"""Plans + finished runs → the runs of other content are set aside, and said.

One table shows one state of the data. A run of the same corpora whose labels, split or features
held other content is moved to ``set-aside`` in the experiment's folder; it comes back, without
being made again, when the same command meets the old content.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from multimodal_ser.files import parse_json
from multimodal_ser.report.read import SET_ASIDE
from multimodal_ser.runs import RunConfig, is_complete

log = logging.getLogger(__name__)

_IN_A_CELL = ("model", "seed", "fold", "corpora", "features", "train", "protocol")
_OPTIONS = ("encoder", "layers", "tokens", "pool", "dtype", "pooled_from")


def set_aside(out: Path, configs: Sequence[RunConfig]) -> list[Path]:
    """Moves finished runs of other content out of the way, and those of this content back.

    Args:
        out: the experiment's folder.
        configs: of the runs that the experiment has now.

    Returns:
        Where the runs that were moved away are now.
    """
    aside = out / SET_ASIDE
    for config in configs:
        if is_complete(aside / config.folder) and not is_complete(out / config.folder):
            (aside / config.folder).rename(out / config.folder)
    wanted = {config.folder for config in configs}
    present = list({_Content.of(asdict(config)): None for config in configs})
    cells = {_cell(asdict(config)) for config in configs}
    moved, why = [], set()
    for path in sorted(out.glob("*/config.json")):
        folder = path.parent
        if folder.name in wanted or folder.name.startswith("."):
            continue
        config = parse_json(path.read_text(encoding="utf-8"))
        reasons = _Content.of(config).differs_from(present)
        if reasons := reasons or ({"marks"} if _cell(config) in cells else set()):
            aside.mkdir(exist_ok=True)
            moved.append(folder.replace(aside / folder.name))
            why |= reasons
    if moved:
        log.warning(
            "%d runs in %s were made with other %s; they are set aside in %s, and the table shows "
            "the present ones only",
            *(len(moved), out, ", ".join(sorted(why)), aside),
        )
    return moved


def _cell(config: Mapping[str, Any]) -> str:
    """What two runs of one table cannot both be: model, settings, features, fold and seed."""
    kept = {key: config.get(key) for key in _IN_A_CELL}
    return json.dumps([kept, (config.get("source") or {}).get("corpora")], sort_keys=True)


@dataclass(frozen=True)
class _Content:
    """What data a run was made with: corpora, and ((what, with which options), its content)."""

    corpora: str
    parts: frozenset[tuple[tuple[str, str], str]]

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> _Content:
        """Reads a run's config; other options, such as pooled tokens, are no other content."""
        source = config.get("source") or {}
        found: dict[tuple[str, str], Any] = {
            ("labels", ""): [config["labels"].get(key) for key in ("classes", "hash")],
            ("split", ""): config["split"]["hash"],
            ("source labels", ""): source.get("labels"),
            ("source split", ""): (source.get("split") or {}).get("hash"),
        }
        for whose, part in (("", config), ("source ", source)):
            for side, described in (part.get("features") or {}).items():
                if described:
                    options = json.dumps([described.get(key) for key in _OPTIONS])
                    made = [described.get("weights"), described.get("content")]
                    found[f"{whose}{side} features", options] = made
        corpora = json.dumps([config.get("corpora"), source.get("corpora")])
        return cls(corpora, frozenset((key, json.dumps(value)) for key, value in found.items()))

    def differs_from(self, present: Sequence[_Content]) -> set[str]:
        """What differs from the nearest one of the same corpora; empty where they go together."""
        found = []
        for one in present:
            if one.corpora == self.corpora:
                theirs = dict(one.parts)
                found.append(
                    {key[0] for key, value in self.parts if theirs.get(key, value) != value}
                )
        return min(found, key=len, default=set())

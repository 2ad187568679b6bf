"""Plans + finished runs → runs of outdated data are moved aside, with a warning.

One table shows one state of the data. Runs of the same corpora whose labels, split or features had
other content are moved to ``set-aside`` in the experiment's folder. They are moved back, without
being made again, when the same command meets the old content.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from multimodal_ser.config.record import RunConfig, as_json
from multimodal_ser.errors import SerError
from multimodal_ser.runs.config_file import read_record
from multimodal_ser.runs.folder import SET_ASIDE, config_files, is_complete

_log = logging.getLogger(__name__)


def set_aside(out: Path, configs: Sequence[RunConfig]) -> list[Path]:
    """Moves finished runs of other content aside, and those of the present content back.

    Returns:
        The new places of the runs that were moved aside.
    """
    aside = out / SET_ASIDE
    for config in configs:
        if is_complete(aside / config.folder) and not is_complete(out / config.folder):
            (aside / config.folder).rename(out / config.folder)
    wanted = {config.folder for config in configs}
    # A dict instead of a set keeps the order, so that the same reasons are reported every time.
    present = list({_Content.of(config): None for config in configs})
    cells = {_cell(config): config.code for config in configs}
    moved, why = [], set()
    for path in config_files(out):
        folder = path.parent
        if folder.name in wanted:
            continue
        if reasons := _differences(path, present, cells):
            aside.mkdir(exist_ok=True)
            moved.append(folder.replace(aside / folder.name))
            why |= reasons
    if moved:
        made = f"{len(moved)} runs in {out} were made with other {', '.join(sorted(why))}"
        shown = f"they are set aside in {aside}, and the table shows only the present ones"
        _log.warning("%s; %s", made, shown)
    return moved


def _differences(path: Path, present: Sequence[_Content], cells: Mapping[str, str]) -> set[str]:
    """Why a finished run must not be in one table with the present ones; empty if it may be."""
    try:
        config = read_record(path).config
    except SerError:
        return {"versions of this project"}
    reasons = _Content.of(config).differs_from(present)
    if reasons or (code := cells.get(_cell(config))) is None:
        return reasons
    # Equal content but another folder name: the model's own code or the declared contamination (the
    # marks) has changed.
    return {"code" if code != config.code else "marks"}


def _cell(config: RunConfig) -> str:
    """Identifies a run within a table, by model, settings, features, fold and seed."""
    described = as_json(config)
    kept = ("model", "seed", "fold", "corpora", "features", "train", "protocol")
    source = config.source.corpora if config.source else None
    return json.dumps([{key: described[key] for key in kept}, source], sort_keys=True)


@dataclass(frozen=True)
class _Content:
    """The data that a run was made with.

    Attributes:
        corpora: names of its corpora and of its source's.
        parts: ((kind of data, options it was made with), hash of its content).
    """

    corpora: str
    parts: frozenset[tuple[tuple[str, str], str]]

    @classmethod
    def of(cls, config: RunConfig) -> _Content:
        """Reads a run's config; other options, such as pooled tokens, are not other content."""
        source = config.source
        found: dict[tuple[str, str], Any] = {
            ("labels", ""): [config.labels.classes, config.labels.hash],
            ("split", ""): config.split.hash,
            ("source labels", ""): source and source.labels,
            ("source split", ""): source and source.split.hash,
        }
        for whose, features in (("", config.features), ("source ", source and source.features)):
            for modality, described in (features or {}).items():
                if described:
                    # Features that differ only in width, version or content have the same options.
                    options = replace(described, weights="", content="", dim=0, version=0)
                    made = [described.weights, described.content]
                    found[f"{whose}{modality} features", json.dumps(as_json(options))] = made
        corpora = json.dumps([config.corpora, source and source.corpora])
        return cls(corpora, frozenset((key, json.dumps(value)) for key, value in found.items()))

    def differs_from(self, present: Sequence[_Content]) -> set[str]:
        """What differs from the most similar content of the same corpora; empty if nothing does.

        Runs of other corpora are never set aside: they are another experiment in the same folder.
        """
        found = []
        for one in present:
            if one.corpora == self.corpora:
                theirs = dict(one.parts)
                found.append(
                    {key[0] for key, value in self.parts if theirs.get(key, value) != value}
                )
        return min(found, key=len, default=set())

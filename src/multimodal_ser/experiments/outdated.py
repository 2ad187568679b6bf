"""Finished runs of outdated data → set-aside/, with a warning.

One table shows one state of the data, so runs of the same corpora whose labels, split or features
had other content are moved to ``set-aside`` in the experiment's folder. They are moved back,
without being made again, when the same command meets the old content.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from multimodal_ser.config.record import FeatureSpec, RunConfig, as_json
from multimodal_ser.errors import SerError, counted
from multimodal_ser.features.content import context_notes
from multimodal_ser.models.fusion import reads_dialogue
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
        made = f"{counted(len(moved), 'run')} in {out} made with other {', '.join(sorted(why))}"
        shown = f"set aside in {aside}, and the table shows only the present ones"
        _log.warning("%s; %s", made, shown)
    return moved


def _differences(path: Path, present: Sequence[_Content], cells: Mapping[str, str]) -> set[str]:
    """Why a finished run must not be in one table with the present ones; empty if it may be."""
    try:
        config = read_record(path).config
    except SerError:
        return {"versions of this project"}
    content = _Content.of(config)
    if reasons := content.differs_from(present):
        return reasons
    if content.is_marked_otherwise(present):
        return {"marks"}
    code = cells.get(_cell(config))
    # Equal content but another folder name: the model's own code has changed, or another mark.
    return set() if code is None else {"code" if code != config.code else "marks"}


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
        features: as the run read them.
        marks: sentences on the data, which all models that read these features share.
    """

    corpora: str
    parts: frozenset[tuple[tuple[str, str], str]]
    features: str
    marks: frozenset[str]

    @classmethod
    def of(cls, config: RunConfig) -> _Content:
        """Reads a run's config; other options, such as a layer, are not other content."""
        source, network = config.source, config.train.network
        found: dict[tuple[str, str], Any] = {
            ("labels", ""): [config.labels.classes, config.labels.hash],
            ("split", ""): [config.split.hash, config.split.leaks],
            ("source labels", ""): source and source.labels,
            ("source split", ""): source and [source.split.hash, source.split.leaks],
        }
        read = {"": config.features, "source ": source.features if source else {}}
        for whose, features in read.items():
            for modality, described in features.items():
                if described:
                    made = [described.weights, described.content]
                    found[f"{whose}{modality} features", _options(described)] = made
        corpora = json.dumps([config.corpora, source and source.corpora])
        parts = frozenset((key, json.dumps(value)) for key, value in found.items())
        around = []
        if network and reads_dialogue(config.model):
            around = context_notes(network.before, network.after, "features")
        marks = frozenset(config.marks) - {*around}
        return cls(corpora, parts, json.dumps(as_json(read)), marks)

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

    def is_marked_otherwise(self, present: Sequence[_Content]) -> bool:
        """Whether runs on the same data say something else of it, such as what an encoder saw."""
        same = [
            one.marks
            for one in present
            if (one.corpora, one.parts, one.features) == (self.corpora, self.parts, self.features)
        ]
        return bool(same) and self.marks not in same


def _options(described: FeatureSpec) -> str:
    """What tells apart feature files that may both be of the present data.

    Means of tokens, and features standardised by speaker, are made from the file in memory. Of
    imported features only the name is an option: the rest follows from what was imported.
    """
    options = replace(
        described, weights="", content="", dim=0, version=0, code="", by_speaker=False,
        tokens=described.pooled_from or described.tokens, pooled_from=None,
    )  # fmt: skip
    if not described.weights:
        options = FeatureSpec(described.encoder)
    return json.dumps(as_json(options))

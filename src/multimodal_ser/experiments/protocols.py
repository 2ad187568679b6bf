"""Corpora + splits → experiments without a source: in-domain, ablation, combined."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import torch

from multimodal_ser.baselines import BASELINES
from multimodal_ser.config import ModelConfig, TrainConfig, TuneConfig
from multimodal_ser.data import Side
from multimodal_ser.errors import SerError, SplitError, one_of
from multimodal_ser.experiments.pairs import check_comparable
from multimodal_ser.experiments.plans import Experiment, Plan, Stage, corpora, plan
from multimodal_ser.folds import Fold, Split
from multimodal_ser.leaks import shared_between
from multimodal_ser.material import MODALITIES, Material, pooled, sounds_of
from multimodal_ser.stacking import STACKED

ABLATED = ("text", "audio", "concat", "cross_attention", "stacked", "linear", "svm")
TOKENS = ("tokens", "pooled")


def plan_in_domain(
    material: Material,
    split: Split,
    models: Sequence[str],
    *,
    seeds: int,
    network: ModelConfig,
    schedule: TrainConfig,
    tune: TuneConfig | None = None,
) -> Experiment:
    """Plans a corpus's runs on itself: models × folds × seeds.

    Args:
        material: the corpus.
        split: its folds.
        models: keys in MODELS or BASELINES.
        seeds: of the networks; the baselines run once.
        network: the networks' knobs.
        schedule: the training's knobs.
        tune: fine-tune the audio encoder as one more model.

    Raises:
        SerError: an unknown model, or one whose side has no features, or an encoder that cannot
            be tuned.
    """
    plans = plan(material, split, models, seeds, network, schedule, tune=tune)
    said = {"models": list(models), **said_of(material, split, seeds, network, schedule)}
    said |= {"tune": asdict(tune)} if tune else {}
    return Experiment("in-domain", said, (Stage(tuple(plans), material),), {"split": split})


def said_of(
    material: Material, split: Split, seeds: int, network: ModelConfig, schedule: TrainConfig
) -> dict[str, Any]:
    """An experiment's common arguments, for `experiment.json`."""
    return {
        "corpora": corpora(material),
        "labels": material.labels.name,
        "split": {"name": split.name, "hash": split.hash},
        "seeds": seeds,
        "network": asdict(network),
        "schedule": asdict(schedule),
    }


def plan_ablation(
    material: Material,
    split: Split,
    *,
    seeds: int,
    network: ModelConfig,
    schedule: TrainConfig,
    tokens: Sequence[str] = TOKENS,
) -> Experiment:
    """Plans all models' runs on one corpus, same folds, seeds and hyper-parameters.

    Models whose side has no features are left out.

    Args:
        material: the corpus.
        split: its folds.
        seeds: of the networks.
        network: the networks' knobs.
        schedule: the training's knobs.
        tokens: ``tokens`` for the features as they are, ``pooled`` for one mean a side. The
            baselines read pooled features in any case and run once.

    Raises:
        SerError: an unknown kind of tokens, or none.
    """
    if strange := [name for name in tokens if name not in TOKENS] or not tokens:
        raise SerError(one_of("kind of tokens", strange, TOKENS))
    models = [name for name in ABLATED if _has_sides(name, material)]
    stages = []
    seen: set[object] = set()
    for kind in tokens:
        mine = pooled(material) if kind == "pooled" else material
        fresh = []
        for item in plan(mine, split, models, seeds, network, schedule, protocol="ablation"):
            if item.config.model in BASELINES:  # they pool what they are given
                key = item.config.model, item.fold.name
                fresh += [] if key in seen else [item]
                seen.add(key)
            elif item.config.folder not in seen:  # one token is a mean already
                fresh.append(item)
                seen.add(item.config.folder)
        stages.append(Stage(tuple(fresh), mine))
    said = {"tokens": list(tokens), **said_of(material, split, seeds, network, schedule)}
    return Experiment("ablation", said, tuple(stages), {"split": split})


def _has_sides(name: str, material: Material) -> bool:
    wanted = {"text": ("text",), "audio": ("audio",)}.get(name, MODALITIES)
    return name in (STACKED, *BASELINES) or all(
        material.features[side] is not None for side in wanted
    )


def plan_combined(
    materials_and_splits: Sequence[tuple[Material, Split]],
    *,
    model: str,
    seeds: int,
    network: ModelConfig,
    schedule: TrainConfig,
    allow: Collection[str] = (),
) -> Experiment:
    """Plans to train on several corpora at once, each drawn from equally often, and test on all.

    Fold k takes every corpus's k-th fold. The predictions hold every corpus's rows, whose ids
    begin with the corpus; logistic regression on all rows stands beside.

    Args:
        materials_and_splits: two or more corpora with the same number of folds.
        model: key in MODELS.
        seeds: of the network.
        network: its knobs.
        schedule: the training's knobs.
        allow: ``recording`` accepts that one corpus holds copies of another's.

    Raises:
        SerError: other class orders, features or numbers of folds; or recordings of one corpus
            that are tested stand in what is learnt from of another.
    """
    materials, splits = zip(*materials_and_splits, strict=True)
    if len(materials) < 2:
        raise SerError("a combined training needs two corpora or more")
    for other in materials[1:]:
        check_comparable(materials[0], other)
    material = merged(materials)
    split = _checked_across(merged_split(splits), materials, allow)
    plans = [
        _balanced(item)
        for item in plan(
            material, split, (model, "linear"), seeds, network, schedule, protocol="combined"
        )
    ]
    said = {"model": model, **said_of(material, split, seeds, network, schedule)}
    return Experiment("combined", said, (Stage(tuple(plans), material),), {"split": split})


def _balanced(item: Plan) -> Plan:
    if item.config.model in BASELINES:
        return item
    train = {**item.config.train, "balanced": True}
    return replace(item, config=replace(item.config, train=train))


def merged(materials: Sequence[Material]) -> Material:
    """Several corpora's utterances as one material; sides are padded to the longest."""
    parts = [one.examples for one in materials]
    ids = tuple(key for part in parts for key in part.ids)
    if len(set(ids)) != len(ids):
        raise SerError("the same utterances stand in two of the materials; give each corpus once")
    examples = replace(
        parts[0],
        ids=ids,
        text=Side.joined([part.text for part in parts]),
        audio=Side.joined([part.audio for part in parts]),
        label=torch.cat([part.label for part in parts]),
    )
    hashes: dict[str, str] = {}
    dropped: dict[str, int] = {}
    for one in materials:
        hashes.update(one.hashes)
        for reason, count in one.dropped.items():
            dropped[reason] = dropped.get(reason, 0) + count
    return replace(
        materials[0],
        utterances=[row for one in materials for row in one.utterances],
        examples=examples,
        features={side: _all_features(materials, side) for side in MODALITIES},
        hashes=hashes,
        marks=tuple(dict.fromkeys(mark for one in materials for mark in one.marks)),
        dropped=dropped,
        prints={key: value for one in materials for key, value in one.prints.items()},
    )


def _checked_across(split: Split, materials: Sequence[Material], allow: Collection[str]) -> Split:
    """The same split, with what its test parts share with other corpora's training."""
    sounds, found = sounds_of(*materials), []
    for fold in split.folds:
        tested, learnt = set(fold.test), {*fold.train, *fold.validation}
        for mine in materials:
            others = [row for one in materials if one is not mine for row in one.utterances]
            found.append(
                shared_between(
                    [row for row in others if row.id in learnt],
                    [row for row in mine.utterances if row.id in tested],
                    sounds,
                )
            )
    copies = sorted({key for keys, _ in found for key in keys})
    leaks, notes = [], list(dict.fromkeys(note for _, said in found for note in said))
    if copies:
        leaks = [
            f"{len(copies)} tested recordings stand, as they are or as copies, in what is learnt "
            "from of another corpus"
        ]
        if "recording" not in allow:
            raise SplitError(
                f"{leaks[0]}, such as {copies[0]!r}; take corpora that share none, or accept it "
                "and have every result say so: --allow recording"
            )
    return replace(split, leaks=(*split.leaks, *leaks), notes=(*split.notes, *notes))


def _all_features(materials: Sequence[Material], side: str) -> Mapping[str, Any] | None:
    """The first corpus's description, with the content of every corpus's own features."""
    first = materials[0].features[side]
    if first is None:
        return None
    contents = {", ".join(corpora(one)): one.features[side]["content"] for one in materials}
    return {**first, "content": contents}


def merged_split(splits: Sequence[Split]) -> Split:
    """Fold k of every split becomes one fold.

    Raises:
        SerError: the splits have different numbers of folds.
    """
    counts = [len(split.folds) for split in splits]
    if len(set(counts)) != 1:
        raise SerError(
            f"the corpora have {counts} folds; ask for the same number of each, such as --folds 5"
        )
    folds = []
    for group in zip(*(split.folds for split in splits), strict=True):
        names = dict.fromkeys(fold.name for fold in group)
        parts = {
            part: tuple(key for fold in group for key in getattr(fold, part))
            for part in ("train", "validation", "test")
        }
        folds.append(Fold(" + ".join(names), **parts))
    name = " + ".join(dict.fromkeys(split.name for split in splits))
    leaks, notes = (
        tuple(dict.fromkeys(said for split in splits for said in getattr(split, kind)))
        for kind in ("leaks", "notes")
    )
    return Split(name, tuple(folds), leaks, notes)

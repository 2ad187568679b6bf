"""Two materials → that they may meet in one experiment, or an error that shows both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

from multimodal_ser.config import ModelConfig, TrainConfig
from multimodal_ser.errors import FeatureError, SerError, SplitError, one_of
from multimodal_ser.experiments.plans import check_model, corpora, labels_hash, run_config
from multimodal_ser.folds import Fold, Split
from multimodal_ser.labels import check_same_order
from multimodal_ser.leaks import shared_between
from multimodal_ser.material import MODALITIES, Material, sounds_of
from multimodal_ser.models import MODELS
from multimodal_ser.runs import RunConfig

SAME = ("encoder", "weights", "layers", "tokens", "dim")  # of two corpora's features
# Imported ones name no weights; their files happen to have some entry and some number of tokens.
SAME_IMPORTED = ("encoder", "dim")


def check_comparable(first: Material, second: Material) -> None:
    """Raises where a model of one material would misread the other.

    Raises:
        LabelError: the classes stand in another order.
        FeatureError: features of another encoder, weights, layers, tokens or width.
    """
    check_same_order(first.labels, second.labels)
    for side in MODALITIES:
        mine, other = first.features[side], second.features[side]
        if (mine is None) != (other is None):
            has, lacks = (first, second) if other is None else (second, first)
            raise FeatureError(
                f"{_named(has)} has {side} features and {_named(lacks)} has none; extract them, "
                f"or leave that side out of both: --{side} none"
            )
        if mine is None or other is None:
            continue
        imported = not mine.get("weights") and not other.get("weights")
        same = SAME_IMPORTED if imported else SAME
        differing = [key for key in same if mine.get(key) != other.get(key)]
        if differing:
            raise FeatureError(
                f"{side} features differ: {_named(first)} has {_chosen(mine, differing)}, "
                f"{_named(second)} has {_chosen(other, differing)}; extract both alike, or where "
                "only the tokens differ, take their means: --tokens pooled"
            )


def _named(material: Material) -> str:
    return "+".join(corpora(material))


def _chosen(features: Mapping[str, Any], keys: list[str]) -> str:
    return ", ".join(f"{key} {features.get(key)!r}" for key in keys)


@dataclass(frozen=True)
class Pair:
    """A source that a model learns from, and a target that it is tested on.

    Of the source's split the first fold is used, its test part unread. Raises as
    `check_comparable`, and SplitError where the two share recordings or copies of them.
    """

    source: Material
    source_split: Split
    target: Material
    target_split: Split

    def __post_init__(self) -> None:
        check_comparable(self.source, self.target)
        copies, _ = self._shared
        if copies:
            raise SplitError(
                f"{len(copies)} recordings that the target is tested on stand in the source's "
                f"training or validation part, as they are or as copies, such as {copies[0]!r}; "
                "take two different corpora"
            )

    @cached_property
    def _shared(self) -> tuple[list[str], list[str]]:
        """Recordings of the target that the source has too, and what is said of their speakers."""
        learnt = {*self.source_fold.train, *self.source_fold.validation}
        tested = {key for fold in self.target_split.folds for key in fold.test}
        return shared_between(
            [row for row in self.source.utterances if row.id in learnt],
            [row for row in self.target.utterances if row.id in tested],
            sounds_of(self.source, self.target),
        )

    @property
    def source_fold(self) -> Fold:
        """The fold that source models learn from."""
        return self.source_split.folds[0]

    def described(self, run: str | None = None) -> dict[str, Any]:
        """What a run on the target says of its source.

        Args:
            run: folder name of the run that it begins with.
        """
        return {
            "corpora": corpora(self.source),
            "split": {
                "name": self.source_split.name,
                "hash": self.source_split.hash,
                "fold": self.source_fold.name,
                "leaks": list(self.source_split.leaks),
            },
            "labels": labels_hash(self.source),
            "features": self.source.features,
            "marks": list(self.source.marks),
            "run": run,
        }

    def config(
        self,
        protocol: str,
        model: str,
        fold: Fold,
        seed: int,
        train: Mapping[str, Any],
        run: str | None = None,
    ) -> RunConfig:
        """What a run on a fold of the target is."""
        return replace(
            run_config(self.target, self.target_split, model, fold, train),
            protocol=protocol,
            seed=seed,
            source=self.described(run),
            marks=self.marks,
        )

    @property
    def marks(self) -> list[str]:
        """What must stand beside numbers: the target's marks, the source's, its leaks."""
        leaks = [f"source {_named(self.source)}: {leak}" for leak in self.source_split.leaks]
        said = [*self.target_split.notes, *self.source_split.notes, *self._shared[1]]
        return list(dict.fromkeys([*self.target.marks, *self.source.marks, *leaks, *said]))


def check_network(model: str, *materials: Material) -> None:
    """Raises SerError unless `model` is a network that these materials have the sides for."""
    if model not in MODELS:
        raise SerError(one_of("network", model, MODELS))
    for material in materials:
        check_model(model, material)


def said_of_pair(
    pair: Pair, model: str, seeds: int, network: ModelConfig, schedule: TrainConfig
) -> dict[str, Any]:
    """A transfer's common arguments, for `experiment.json`."""
    domains = {
        "source": (pair.source, pair.source_split),
        "target": (pair.target, pair.target_split),
    }
    described = {
        name: {"corpora": corpora(one), "split": {"name": split.name, "hash": split.hash}}
        for name, (one, split) in domains.items()
    }
    settings = {"network": asdict(network), "schedule": asdict(schedule)}
    labels = pair.target.labels.name
    return {**described, "labels": labels, "model": model, "seeds": seeds, **settings}

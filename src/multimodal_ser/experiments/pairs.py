"""Source + target → a check that they can be in one experiment, and the plans of its runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from multimodal_ser.common.spelling import alike
from multimodal_ser.config.record import FeatureSpec, FewSpec, SourceSpec, SplitSpec
from multimodal_ser.corpora.labels import check_same_order
from multimodal_ser.dataset.material import Material, sounds_of
from multimodal_ser.errors import FeatureError, SerError, SplitError, one_of
from multimodal_ser.experiments.loading import named_classes
from multimodal_ser.experiments.plans import (
    Experiment,
    Plan,
    Stage,
    check_model,
    corpus_names,
    labels_hash,
    plan_runs,
    run_config,
    seeds_of,
    training_settings,
)
from multimodal_ser.experiments.transfer import Transfer
from multimodal_ser.models.fusion import MODELS
from multimodal_ser.splits.folds import Few, Fold, Split, few_fold
from multimodal_ser.splits.leaks import shared_between

# Fields in which the features of two corpora must agree, for a model of one to read the other.
_SAME = (
    "encoder", "weights", "layers", "tokens", "token", "dim", "prefix", "context", "context_after",
    "code",
)  # fmt: skip
# Imported features have no weights, and entries and token counts only by chance.
_SAME_IMPORTED = ("encoder", "dim")


def check_comparable(first: Material, second: Material) -> None:
    """Raises an error if a model of one material would misread the other.

    Raises:
        SplitError: both are of one corpus and share speakers.
        LabelError: the classes are in another order.
        FeatureError: encoder, weights, layers, tokens, width, dialogue context or code of the
            features differ.
    """
    voices = [
        {(row.corpus, alike(row.speaker)): row for row in one.utterances if row.speaker is not None}
        for one in (first, second)
    ]
    if both := sorted(voices[0].keys() & voices[1].keys()):
        raise SplitError(
            f"two folders hold utterances of {len(both)} speakers of one corpus, such as "
            f"{voices[0][both[0]].speaker!r} of {both[0][0]!r}, who would be learnt from and "
            "tested; take two different corpora, or other speakers"
        )
    check_same_order(first.labels, second.labels)
    for modality in first.features:
        own, other = first.features[modality], second.features[modality]
        if (own is None) != (other is None):
            has, lacks = (first, second) if other is None else (second, first)
            raise FeatureError(
                f"{_corpora_of(has)} has {modality} features and {_corpora_of(lacks)} has none; "
                f"extract them, or leave that modality out of both: --{modality} none"
            )
        if own is None or other is None:
            continue
        # Both imported: only name and width can be compared.
        same = _SAME if own.weights or other.weights else _SAME_IMPORTED
        differing = [key for key in same if getattr(own, key) != getattr(other, key)]
        if differing:
            raise FeatureError(
                f"{modality} features differ: {_corpora_of(first)} has "
                f"{_values_of(own, differing)}, {_corpora_of(second)} has "
                f"{_values_of(other, differing)}; extract both alike, or if only the tokens "
                "differ, use their means: --tokens pooled"
            )


def _corpora_of(material: Material) -> str:
    return "+".join(corpus_names(material))


def _values_of(features: FeatureSpec, keys: list[str]) -> str:
    return ", ".join(f"{key} {getattr(features, key)!r}" for key in keys)


@dataclass(frozen=True)
class Pair:
    """A source that a model learns from, and a target that it is tested on.

    Of the source's split only the first fold is used, without its test part. Raises the errors of
    `check_comparable`, and SplitError if the two share recordings or copies of them.
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
                f"{len(copies)} recordings of the target's test parts are also in the source's "
                f"training or validation part, unchanged or as altered copies, such as "
                f"{copies[0]!r}; take two different corpora"
            )

    @cached_property
    def _shared(self) -> tuple[list[str], list[str]]:
        """Recordings that source and target share, and notes about shared speakers."""
        learnt = set(self.source_fold.learnt)
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

    @property
    def marks(self) -> tuple[str, ...]:
        """Marks to show beside results: those of the target and the source, leaks and notes."""
        leaks = [f"source {_corpora_of(self.source)}: {leak}" for leak in self.source_split.leaks]
        notes = [*self.target_split.notes, *self.source_split.notes, *self._shared[1]]
        class_of = named_classes(self.source)
        learnt = {class_of.get(key) for key in self.source_fold.train}
        notes += [
            f"the source's training part has no {name!r}: a model of it cannot predict that"
            for name in self.source.labels.classes
            if name not in learnt
        ]
        return tuple(dict.fromkeys([*self.target.marks, *self.source.marks, *leaks, *notes]))

    def starts(self, options: Transfer, model: str) -> dict[int, Plan]:
        """Seed → the run that trains the source's model, shared by all runs that start from it."""
        check_network(model, self.source)
        first = replace(self.source_split, folds=(self.source_fold,))
        settings = options.seeds, options.network, options.schedule
        made = plan_runs(self.source, first, (model,), *settings, protocol="source")
        return {item.config.seed: item for item in made}

    def plans(
        self,
        options: Transfer,
        protocol: str,
        model: str,
        *,
        starts: Mapping[int, Plan] | None = None,
        few: Few | None = None,
        **how: Any,
    ) -> list[Plan]:
        """Lists the runs of a system: seeds × folds of the target.

        Args:
            options: seeds and settings.
            protocol: name of the protocol.
            model: key in MODELS or BASELINES.
            starts: the source's models by seed, if the systems start from them; without, they learn
                from the source's fold.
            few: which part of the target's training part is given, if not all of it.
            how: `parts` or `adaptation` of the run's `Training`.
        """
        folds = self.target_split.folds
        if few is not None:
            folds = tuple(few_fold(fold, named_classes(self.target), few) for fold in folds)
        train = replace(training_settings(model, options.network, options.schedule), **how)
        found = []
        for seed in seeds_of(model, options.seeds):
            # what is trained from scratch begins with no model, but is of the same experiment
            start = starts[seed].config.folder if starts and how["parts"] != "scratch" else None
            for fold in folds:
                if few is not None:
                    count = len(fold.train) + len(fold.validation)
                    train = replace(train, few=FewSpec(few.unit, few.amount, few.draw, count))
                config = replace(
                    run_config(self.target, self.target_split, model, fold, train),
                    protocol=protocol,
                    seed=seed,
                    source=self._described(start, model),
                    marks=self.marks,
                )
                # without models of the source to start from, an adaptation learns from its fold
                source = self.source_fold if starts is None else None
                found.append(Plan(config, fold, source_fold=source, start=start))
        return found

    def _described(self, run: str | None, model: str) -> SourceSpec:
        """What a run on the target records about its source, and the run that it starts from."""
        split = self.source_split
        return SourceSpec(
            corpora=corpus_names(self.source),
            split=SplitSpec(split.name, split.hash, fold=self.source_fold.name, leaks=split.leaks),
            labels=labels_hash(self.source, model),
            features=self.source.features,
            marks=self.source.marks,
            run=run,
        )

    def experiment(
        self,
        protocol: str,
        arguments: Mapping[str, Any],
        plans: Sequence[Plan],
        starts: Mapping[int, Plan] | None = None,
        *,
        adapts: bool = False,
    ) -> Experiment:
        """The runs as an experiment; models of the source are made first, if there are any."""
        domains = {
            "source": (self.source, self.source_split),
            "target": (self.target, self.target_split),
        }
        described = {
            name: {"corpora": corpus_names(one), "split": {"name": split.name, "hash": split.hash}}
            for name, (one, split) in domains.items()
        }
        described_all = {**arguments, **described, "labels": self.target.labels.name}
        first = (Stage(tuple(starts.values()), self.source),) if starts else ()
        own = Stage(tuple(plans), self.target, self.source if adapts else None)
        splits = {"split": self.target_split, "source-split": self.source_split}
        return Experiment(protocol, described_all, (*first, own), splits)


def check_network(model: str, *materials: Material) -> None:
    """Raises SerError unless `model` is a network and these materials have its modalities."""
    if model not in MODELS:
        raise SerError(one_of("network", model, MODELS))
    for material in materials:
        check_model(model, material)

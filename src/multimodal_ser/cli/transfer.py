"""What `ser experiment NAME` is asked with for the protocols from a source to a target."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from multimodal_ser.cli.protocols import Common, Tokens
from multimodal_ser.errors import SerError

if TYPE_CHECKING:
    from multimodal_ser.experiments import Experiment
    from multimodal_ser.folds import Split
    from multimodal_ser.material import Material


@dataclass(frozen=True, kw_only=True)
class Transfer(Common):
    """From a source to a target.

    Attributes:
        source: folder of the features to learn from.
        target: folder of the features to test on.
        features: in place of source and target, two corpora or more: every pair, both ways,
            each in a folder of its own within `out`.
        source_split: whose first fold is learnt from.
        target_split: all its folds are tested.
        source_folds: number of folds of the source's split.
        target_folds: number of folds of the target's split.
        tokens: the features as they are, or their means.
        model: text, audio, concat, cross_attention.
    """

    source: Path | None = None
    target: Path | None = None
    features: tuple[Path, ...] = ()
    source_split: str = "speaker"
    target_split: str = "speaker"
    source_folds: int | None = None
    target_folds: int | None = None
    tokens: Tokens = "tokens"
    model: str = "cross_attention"

    def planned(self) -> Iterator[tuple[Path, Experiment]]:
        """One experiment a pair."""
        for out, source, target in self.pairs():
            first = self.load(source, self.source_split, self.source_folds, self.tokens)
            second = self.load(target, self.target_split, self.target_folds, self.tokens)
            yield out, self.plan((*first, *second))

    def pairs(self) -> Iterator[tuple[Path, Path, Path]]:
        """Folder, source and target."""
        given = self.source is not None or self.target is not None
        if given == bool(self.features) or len(self.features) == 1:
            raise SerError(
                "give --source and --target, or two corpora or more with --features for every "
                "pair, both ways"
            )
        if self.features:
            for source, target in itertools.permutations(self.features, 2):
                yield self.out / f"{source.name}-to-{target.name}", source, target
        elif self.source is None or self.target is None:
            raise SerError("--source and --target go together")
        else:
            yield self.out, self.source, self.target

    def plan(self, domains: tuple[Material, Split, Material, Split]) -> Experiment:
        """The protocol's runs."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Adaptation(Transfer):
    """A source with labels, a target without.

    Attributes:
        methods: none, standardize, dann, mmd, coral.
        weight: of every alignment; each method's own where not given.
        standardize: standardise each corpus by itself before aligning.
    """

    methods: tuple[str, ...] = ("none", "standardize", "dann", "mmd", "coral")
    weight: float | None = None
    standardize: bool = True

    def plan(self, domains: tuple[Material, Split, Material, Split]) -> Experiment:
        """The protocol's runs."""
        from multimodal_ser.experiments import plan_adaptation

        return plan_adaptation(
            *domains,
            methods=self.methods,
            weight=self.weight,
            standardize=self.standardize,
            model=self.model,
            **self.settings,
        )


@dataclass(frozen=True, kw_only=True)
class Finetune(Transfer):
    """A source's model, trained further on the target; the same network from scratch beside it.

    Attributes:
        parts: all of the network, or its head.
    """

    parts: tuple[Literal["all", "head"], ...] = ("all", "head")

    def plan(self, domains: tuple[Material, Split, Material, Split]) -> Experiment:
        """The protocol's runs."""
        from multimodal_ser.experiments import plan_finetune

        return plan_finetune(*domains, parts=self.parts, model=self.model, **self.settings)


@dataclass(frozen=True, kw_only=True)
class Fewshot(Transfer):
    """A source's model, trained further on a few utterances of the target.

    Attributes:
        percentages: of every class of the target's training part.
        shots: utterances of every class instead.
        draws: how often the few are drawn.
        parts: all of the network, or its head.
    """

    percentages: tuple[float, ...] = (10, 20, 50, 100)
    shots: tuple[int, ...] = ()
    draws: int = 3
    parts: tuple[Literal["all", "head"], ...] = ("all",)

    def plan(self, domains: tuple[Material, Split, Material, Split]) -> Experiment:
        """The protocol's runs."""
        from multimodal_ser.experiments import plan_fewshot

        return plan_fewshot(
            *domains,
            percentages=self.percentages,
            shots=self.shots or None,
            draws=self.draws,
            parts=self.parts,
            model=self.model,
            **self.settings,
        )

"""The protocols from a source to a target: adaptation, fine-tuning, few-shot; see `protocols`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from multimodal_ser.errors import SerError, one_of
from multimodal_ser.experiments.protocols import Protocol

if TYPE_CHECKING:
    from multimodal_ser.dataset.material import Material
    from multimodal_ser.experiments.plans import Experiment
    from multimodal_ser.splits.folds import Few, Split

_Part = Literal["all", "head"]
TUNABLE: tuple[_Part, ...] = ("all", "head")


@dataclass(frozen=True, kw_only=True)
class Transfer(Protocol):
    """From a source to a target.

    Attributes:
        model: a network that `ser list` shows; where not given, cross_attention over sound and
            words, or audio or text, where the features are of one alone.
    """

    model: str | None = None

    def network_of(self, target: Material) -> str:
        """The network's name: what was asked for, or else what the target's features allow."""
        from multimodal_ser.experiments.plans import network_for

        return self.model or network_for(target)


@dataclass(frozen=True, kw_only=True)
class Adaptation(Transfer):
    """A source with labels, a target without.

    The source's first fold is learnt from and picks the epoch; of the target's training part only
    the features are used. Logistic regression on the source stands beside, with and without the
    target's statistics.

    Attributes:
        methods: those that `ser list` shows; all where not given.
        weight: of every alignment; each method's own where not given.
        standardize: standardise each corpus by itself before aligning.
    """

    methods: tuple[str, ...] = ()
    weight: float | None = None
    standardize: bool = True

    def plan(
        self, source: Material, source_split: Split, target: Material, target_split: Split
    ) -> Experiment:
        """Plans to learn on the source's first fold and to test on all folds of the target.

        Raises:
            SerError: other class orders or features, an unknown method or model.
        """
        from multimodal_ser.experiments.pairs import Pair, check_network
        from multimodal_ser.models.adapters import ADAPTERS

        pair = Pair(source, source_split, target, target_split)
        model = self.network_of(target)
        check_network(model, target)
        methods = self.methods or tuple(ADAPTERS)
        for name in methods:
            if name not in ADAPTERS:
                raise SerError(one_of("adaptation", name, ADAPTERS))
        systems = [(model, name) for name in methods]
        systems += [("linear", name) for name in methods if not ADAPTERS[name].aligns]
        plans = [
            plan
            for name, method in systems
            for plan in pair.plans(self, "adaptation", name, adaptation=self._of(method))
        ]
        return pair.experiment("adaptation", self.arguments | {"model": model}, plans, adapts=True)

    def _of(self, method: str) -> Any:
        """The settings as they act: what a method does not use reads as not used."""
        from multimodal_ser.config.settings import AdaptConfig
        from multimodal_ser.models.adapters import ADAPTERS

        kind = ADAPTERS[method]
        weight = kind.weight if self.weight is None else self.weight
        own = kind.standardizes or (kind.aligns and self.standardize)
        return AdaptConfig(method, weight if kind.aligns else 0.0, own)


@dataclass(frozen=True, kw_only=True)
class Finetune(Transfer):
    """A source's model, trained further on the target; the same network from scratch beside it.

    In the same table: the source's model as it is (``none``), and logistic regression on the
    target. A source model is made once a seed, on the source's first fold, and lies beside the
    runs. The target's inputs are standardised by what the model learns from there.

    Attributes:
        parts: all of the network, or its head: the classifier after the last attention.
    """

    parts: tuple[_Part, ...] = TUNABLE

    def plan(
        self, source: Material, source_split: Split, target: Material, target_split: Split
    ) -> Experiment:
        """Plans to train the source's models further on every fold of the target.

        Raises:
            SerError: other class orders or features, an unknown part or model.
        """
        from multimodal_ser.experiments.pairs import Pair

        pair = Pair(source, source_split, target, target_split)
        _check_parts(self.parts)
        model = self.network_of(target)
        starts = pair.starts(self, model)
        systems = [(model, part) for part in ("none", *self.parts, "scratch")]
        plans = [
            plan
            for name, part in [*systems, ("linear", "scratch")]
            for plan in pair.plans(self, "finetune", name, starts=starts, parts=part)
        ]
        said = self.arguments | {"model": model}
        return pair.experiment("finetune", said, plans, starts)


@dataclass(frozen=True, kw_only=True)
class Fewshot(Transfer):
    """A source's model, trained further on a few utterances of the target.

    Beside it the same network from scratch and logistic regression, on the same few. A fifth of
    the few validates: the target's validation part is not touched.

    Attributes:
        percentages: of every class of the target's training part.
        shots: utterances of every class instead.
        draws: how often the few are drawn.
        parts: all of the network, or its head.
    """

    percentages: tuple[float, ...] = (10, 20, 50, 100)
    shots: tuple[int, ...] = ()
    draws: int = 3
    parts: tuple[_Part, ...] = ("all",)

    @property
    def few(self) -> list[Few]:
        """Which few are drawn: every amount as often as `draws` says."""
        from multimodal_ser.splits.folds import Few

        unit, amounts = ("shots", self.shots) if self.shots else ("percent", self.percentages)
        return [Few(unit, amount, draw) for amount in amounts for draw in range(self.draws)]

    def plan(
        self, source: Material, source_split: Split, target: Material, target_split: Split
    ) -> Experiment:
        """Plans to train the source's models further on a few of every fold of the target.

        Raises:
            SerError: other class orders or features, an unknown part or model, or too few
                utterances of a class.
        """
        from multimodal_ser.experiments.pairs import Pair

        pair = Pair(source, source_split, target, target_split)
        _check_parts(self.parts)
        model = self.network_of(target)
        starts = pair.starts(self, model)
        systems = [(model, part) for part in (*self.parts, "scratch")]
        plans = [
            plan
            for few in self.few
            for name, part in [*systems, ("linear", "scratch")]
            for plan in pair.plans(self, "fewshot", name, starts=starts, few=few, parts=part)
        ]
        said = self.arguments | {"model": model}
        return pair.experiment("fewshot", said, plans, starts)


def _check_parts(parts: Sequence[str]) -> None:
    for name in parts:
        if name not in TUNABLE:
            raise SerError(one_of("part to tune", name, TUNABLE))

"""The protocols from a source to a target: adaptation, fine-tuning, few-shot; see `protocols`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from multimodal_ser.config.settings import AdaptConfig
from multimodal_ser.errors import SerError, one_of
from multimodal_ser.experiments.protocols import Protocol

if TYPE_CHECKING:
    from multimodal_ser.dataset.material import Material
    from multimodal_ser.experiments.pairs import Pair
    from multimodal_ser.experiments.plans import Experiment
    from multimodal_ser.splits.folds import Few, Split

_Part = Literal["all", "head"]
_TUNABLE: tuple[_Part, ...] = ("all", "head")


@dataclass(frozen=True, kw_only=True)
class Transfer(Protocol):
    """Options of the protocols that go from a source corpus to a target corpus.

    Attributes:
        model: a network that `ser list` shows; by default cross_attention for sound and words, or
            audio or text if there are features of one modality only.
    """

    model: str | None = None

    def plan(
        self, source: Material, source_split: Split, target: Material, target_split: Split
    ) -> Experiment:
        """Plans to learn from the source's first fold and to test on all folds of the target.

        Raises:
            SerError: class orders or features differ, a method, part or model is unknown, or a
                class has too few utterances for few-shot learning.
        """
        from multimodal_ser.experiments.pairs import Pair

        return self.experiment_of(Pair(source, source_split, target, target_split))

    def experiment_of(self, pair: Pair) -> Experiment:
        """Plans the runs of a protocol between two corpora."""
        raise NotImplementedError

    def network_of(self, target: Material) -> str:
        """The name of the network: the given one, or the one that the target's features allow."""
        from multimodal_ser.experiments.plans import network_for

        return self.model or network_for(target)


@dataclass(frozen=True, kw_only=True)
class Adaptation(Transfer):
    """Unsupervised domain adaptation: a source with labels, a target without.

    Models learn from the source's first fold, whose validation part chooses the epoch (methods with
    a loss keep the last one); of the target's training part only the features are used. Logistic
    regression on the source, with and without the target's statistics, is in the same table.

    Attributes:
        methods: methods that `ser list` shows; by default all.
        weight: of every alignment loss; by default each method's own.
        standardize: standardise each corpus by itself before aligning.
    """

    methods: tuple[str, ...] = ()
    weight: float | None = None
    standardize: bool = True

    def experiment_of(self, pair: Pair) -> Experiment:
        """Plans every method, for the network and, if it has no loss, for logistic regression."""
        from multimodal_ser.experiments.pairs import check_network
        from multimodal_ser.models.adapters import ADAPTERS

        model = self.network_of(pair.target)
        check_network(model, pair.target)
        methods = self.methods or tuple(ADAPTERS)
        for name in methods:
            if name not in ADAPTERS:
                raise SerError(one_of("adaptation", name, ADAPTERS))
        aligning = any(ADAPTERS[name].aligns for name in methods)
        if not aligning and (self.weight is not None or not self.standardize):
            raise SerError(
                "--weight and --no-standardize are settings of methods with a loss, and "
                f"{', '.join(methods)} have none; leave them out"
            )
        systems = [(model, name) for name in methods]
        # A baseline has no embedding to align: only methods without a loss apply to it.
        systems += [("linear", name) for name in methods if not ADAPTERS[name].aligns]
        plans = [
            plan
            for name, method in systems
            for plan in pair.plans(self, "adaptation", name, adaptation=self._of(method))
        ]
        return pair.experiment("adaptation", self.arguments | {"model": model}, plans, adapts=True)

    def _of(self, method: str) -> Any:
        """The settings of a method, with unused ones at fixed values.

        Otherwise runs that differ only in a setting without effect would have different names.
        """
        from multimodal_ser.models.adapters import ADAPTERS

        kind = ADAPTERS[method]
        weight = kind.weight if self.weight is None else self.weight
        # What the method really does, not what was asked: this is part of the run's hash.
        own = kind.standardizes or (kind.aligns and self.standardize)
        return AdaptConfig(method, weight if kind.aligns else 0.0, own)


@dataclass(frozen=True, kw_only=True)
class Finetune(Transfer):
    """Fine-tunes a source's model on the target, and trains the same network from scratch.

    The same table has the source's model as it is (``none``), and logistic regression on the
    target. The source's model is trained once per seed, on the source's first fold, and is kept
    beside the runs. Inputs are standardised by the target's training part.

    Attributes:
        parts: what is trained: all of the network, or its head (the classifier after the last
            attention).
    """

    parts: tuple[_Part, ...] = _TUNABLE

    def experiment_of(self, pair: Pair) -> Experiment:
        """Plans to fine-tune the source's models on every fold of the target."""
        return _tuned_runs(self, "finetune", ("none", *self.parts), [None], pair)


@dataclass(frozen=True, kw_only=True)
class Fewshot(Transfer):
    """Few-shot learning: fine-tunes a source's model on a few labelled utterances of the target.

    The same network from scratch and logistic regression learn from the same few utterances. A
    fifth of the few is used for validation; the target's own validation part is not used.

    Attributes:
        percentages: percentages of every class of the target's training part.
        shots: numbers of utterances of every class, instead of percentages.
        draws: how often the few are drawn at random.
        parts: what is trained: all of the network, or its head.
    """

    percentages: tuple[float, ...] = (10, 20, 50, 100)
    shots: tuple[int, ...] = ()
    draws: int = 3
    parts: tuple[_Part, ...] = ("all",)

    @property
    def few(self) -> list[Few]:
        """The random draws: `draws` of every amount."""
        from multimodal_ser.splits.folds import Few

        if self.shots and self.percentages != Fewshot.percentages:
            raise SerError("--shots and --percentages exclude each other; give one of them")
        unit, amounts = ("shots", self.shots) if self.shots else ("percent", self.percentages)
        if not amounts:
            raise SerError(
                "few-shot learning needs an amount, such as --percentages 10 or --shots 5"
            )
        return [Few(unit, amount, draw) for amount in amounts for draw in range(self.draws)]

    def experiment_of(self, pair: Pair) -> Experiment:
        """Plans to fine-tune the source's models on few utterances of every fold of the target."""
        return _tuned_runs(self, "fewshot", self.parts, self.few, pair)


def _tuned_runs(
    options: Finetune | Fewshot,
    protocol: str,
    parts: Sequence[str],
    given: Sequence[Few | None],
    pair: Pair,
) -> Experiment:
    """Plans to fine-tune the source's models, and systems that learn from the target alone.

    Args:
        options: the protocol's options.
        protocol: its name.
        parts: which parts of the source's models are trained.
        given: how much of the target's training part is given; None for all.
        pair: source and target.
    """
    for name in options.parts:
        if name not in _TUNABLE:
            raise SerError(one_of("part to tune", name, _TUNABLE))
    model = options.network_of(pair.target)
    starts = pair.starts(options, model)
    systems = [*((model, part) for part in (*parts, "scratch")), ("linear", "scratch")]
    plans = [
        plan
        for few in given
        for name, part in systems
        for plan in pair.plans(options, protocol, name, starts=starts, few=few, parts=part)
    ]
    return pair.experiment(protocol, options.arguments | {"model": model}, plans, starts)

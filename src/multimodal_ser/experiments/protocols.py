"""The protocols: what each is asked with, and which runs it plans. One class is one protocol.

`ser experiment NAME` reads these classes for its options, so this module imports nothing heavy:
what plans the runs is imported when a protocol plans.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from multimodal_ser.config.settings import ModelConfig, TrainConfig, TuneConfig
from multimodal_ser.errors import SerError, one_of

if TYPE_CHECKING:
    from multimodal_ser.dataset.material import Material
    from multimodal_ser.experiments.plans import Experiment
    from multimodal_ser.splits.folds import Split

Tokens = Literal["tokens", "pooled"]
TOKEN_CHOICES: tuple[Tokens, ...] = ("tokens", "pooled")
MOST_REPEATS = 1000  # seeds, or draws of the few: more is a slip of the finger


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """What every protocol is asked with.

    Attributes:
        seeds: of the networks; baselines draw nothing at random and run once.
        network: the network's knobs.
        schedule: the training's knobs.
    """

    seeds: int = 5
    network: ModelConfig = field(default_factory=ModelConfig)
    schedule: TrainConfig = field(default_factory=TrainConfig)

    def __post_init__(self) -> None:
        for name in ("seeds", "draws"):
            count = getattr(self, name, 1)
            if not 1 <= count <= MOST_REPEATS:
                raise SerError(f"{name} is a whole number from 1 to {MOST_REPEATS}, not {count}")

    @property
    def arguments(self) -> dict[str, Any]:
        """What `experiment.json` says that was asked for."""
        kept = [name for one in type(self).__mro__ for name in _knobs(one)]
        return {name: value for name, value in asdict(self).items() if name in kept}


def _knobs(one: type) -> Sequence[str]:
    """The fields that a protocol declares itself, not what a command line adds to it."""
    own = one.__module__.startswith("multimodal_ser.experiments.")
    return list(vars(one).get("__annotations__", ())) if own else ()


@dataclass(frozen=True, kw_only=True)
class InDomain(Protocol):
    """A corpus on itself: models, folds and seeds.

    Attributes:
        models: which ones; `ser list` names them. Where not given, stacked, the network that the
            features allow, and the baselines.
        tune_encoder: fine-tune the audio encoder with a head of its own, as one more model.
        tune: the fine-tuning's knobs.
    """

    models: tuple[str, ...] = ()
    tune_encoder: bool = False
    tune: TuneConfig = field(default_factory=TuneConfig)

    def systems(self, material: Material) -> tuple[str, ...]:
        """The models that stand in the table, each once."""
        from multimodal_ser.experiments.plans import network_for

        usual = () if self.models else ("stacked", network_for(material), "linear", "svm")
        return tuple(dict.fromkeys(self.models or usual))

    def plan(self, material: Material, split: Split) -> Experiment:
        """Plans models × folds × seeds.

        Raises:
            SerError: an unknown model, or one whose modality has no features, or an encoder that
                cannot be tuned.
        """
        from multimodal_ser.experiments.plans import (
            Experiment,
            Stage,
            domain_said,
            plan,
            systems_for,
        )

        tune = self.tune if self.tune_encoder else None
        systems = systems_for(material.task, self.systems(material), material)
        plans = plan(material, split, systems, self.seeds, self.network, self.schedule, tune=tune)
        said = self.arguments | domain_said(material, split)
        return Experiment("in-domain", said, (Stage(tuple(plans), material),), {"split": split})


@dataclass(frozen=True, kw_only=True)
class Ablation(Protocol):
    """All models on the same folds and seeds, with tokens and with pooled vectors.

    Models whose modality has no features are left out. The baselines read pooled features in any
    case and run once.

    Attributes:
        tokens: which inputs: as they are, their means, or both.
    """

    tokens: tuple[Tokens, ...] = TOKEN_CHOICES

    def plan(self, material: Material, split: Split) -> Experiment:
        """Plans all models' runs with the same folds, seeds and hyper-parameters.

        Raises:
            SerError: an unknown kind of tokens, or none.
        """
        from multimodal_ser.dataset.material import pooled
        from multimodal_ser.experiments import plans as planning
        from multimodal_ser.training.baselines import BASELINES

        if (
            strange := [name for name in self.tokens if name not in TOKEN_CHOICES]
            or not self.tokens
        ):
            raise SerError(one_of("kind of tokens", strange, TOKEN_CHOICES))
        models = planning.models_for(material)
        settings = self.seeds, self.network, self.schedule
        stages = []
        seen: set[object] = set()
        for kind in self.tokens:
            mine = pooled(material) if kind == "pooled" else material
            fresh = []
            for item in planning.plan(mine, split, models, *settings, protocol="ablation"):
                # baselines pool what they are given, and one token is its own mean: no second run
                own = (item.config.model, item.fold.name)
                key = own if item.config.model in BASELINES else item.config.folder
                fresh += [] if key in seen else [item]
                seen.add(key)
            stages.append(planning.Stage(tuple(fresh), mine))
        said = self.arguments | planning.domain_said(material, split)
        return planning.Experiment("ablation", said, tuple(stages), {"split": split})


@dataclass(frozen=True, kw_only=True)
class Combined(Protocol):
    """Several corpora in one training, each drawn from equally often, and tested one by one.

    Fold k takes every corpus's k-th fold. The predictions hold every corpus's rows, whose ids
    begin with the corpus; logistic regression on all rows stands beside.

    Attributes:
        model: a network that `ser list` shows; where not given, cross_attention over sound and
            words, or audio or text, where the features are of one alone.
    """

    model: str | None = None

    def plan(
        self, domains: Sequence[tuple[Material, Split]], allow: Collection[str] = ()
    ) -> Experiment:
        """Plans one training on two or more corpora with the same number of folds.

        Args:
            domains: the corpora and their splits.
            allow: ``recording`` accepts that one corpus holds copies of another's.

        Raises:
            SerError: other class orders, features or numbers of folds; or recordings of one corpus
                that are tested are learnt from in another.
        """
        from multimodal_ser.experiments import plans as planning
        from multimodal_ser.experiments.merging import merge_domains

        material, split = merge_domains(domains, allow)
        model = self.model or planning.network_for(material)
        plans = planning.plan(
            *(material, split, (model, "linear"), self.seeds, self.network, self.schedule),
            protocol="combined",
        )
        stage = planning.Stage(tuple(planning.balanced(item) for item in plans), material)
        said = self.arguments | {"model": model} | planning.domain_said(material, split)
        return planning.Experiment("combined", said, (stage,), {"split": split})

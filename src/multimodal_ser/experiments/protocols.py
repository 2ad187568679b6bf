"""The protocols: their options, and the runs that they plan. One class is one protocol.

`ser experiment NAME` derives its options from these classes, so this module imports nothing heavy;
the code that plans runs is imported in the `plan` methods.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from multimodal_ser.config.settings import ModelConfig, TrainConfig, TuneConfig
from multimodal_ser.errors import SerError, one_of

if TYPE_CHECKING:
    from multimodal_ser.dataset.material import Material
    from multimodal_ser.experiments.plans import Experiment, Stage
    from multimodal_ser.splits.folds import Split

TokenKind = Literal["tokens", "pooled"]
TOKEN_CHOICES: tuple[TokenKind, ...] = ("tokens", "pooled")
_MOST_REPEATS = 1000  # seeds or few-shot draws: a larger number is a typing error


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """The options that all protocols have.

    Attributes:
        seeds: number of seeds of the networks; baselines have no randomness and run once.
        network: settings of the network.
        schedule: settings of the training.
    """

    seeds: int = 5
    network: ModelConfig = field(default_factory=ModelConfig)
    schedule: TrainConfig = field(default_factory=TrainConfig)

    def __post_init__(self) -> None:
        for name in ("seeds", "draws"):
            count = getattr(self, name, 1)
            if not 1 <= count <= _MOST_REPEATS:
                raise SerError(f"{name} is a whole number from 1 to {_MOST_REPEATS}, not {count}")

    @property
    def arguments(self) -> dict[str, Any]:
        """The options as they are written to `experiment.json`."""
        # Fields of the command line (paths, engine, jobs) do not belong to the protocol.
        own = [one for one in type(self).__mro__ if one.__module__.startswith(__package__ or "")]
        kept = [name for one in own for name in vars(one).get("__annotations__", ())]
        return {name: value for name, value in asdict(self).items() if name in kept}


@dataclass(frozen=True, kw_only=True)
class InDomain(Protocol):
    """Training and test within one corpus: models × folds × seeds.

    Attributes:
        models: names of models, which `ser list` shows. By default stacked, the network that the
            features allow, and the baselines.
        tune_encoder: fine-tune the audio encoder with a head of its own, as one more model.
        tune: settings of the fine-tuning.
    """

    models: tuple[str, ...] = ()
    tune_encoder: bool = False
    tune: TuneConfig = field(default_factory=TuneConfig)

    def systems(self, material: Material) -> tuple[str, ...]:
        """The models of the table, each once."""
        from multimodal_ser.experiments.plans import network_for

        usual = () if self.models else ("stacked", network_for(material), "linear", "svm")
        return tuple(dict.fromkeys(self.models or usual))

    def plan(self, material: Material, split: Split) -> Experiment:
        """Plans models × folds × seeds.

        Raises:
            SerError: a model is unknown or its modality has no features, or an encoder cannot be
                fine-tuned.
        """
        from multimodal_ser.experiments.plans import Experiment, describe_domain

        if not self.tune_encoder and self.tune != TuneConfig():
            raise SerError("--tune.… are settings of a fine-tuned encoder: add --tune-encoder")
        tune = self.tune if self.tune_encoder else None
        stages = self._stages(material, split, tune)
        arguments = self.arguments | describe_domain(material, split)
        return Experiment("in-domain", arguments, stages, {"split": split})

    def _stages(
        self, material: Material, split: Split, tune: TuneConfig | None
    ) -> tuple[Stage, ...]:
        """The runs, of one task or two.

        Of two tasks, networks learn both. Baselines cannot: each task has its own, on the
        utterances that have a label for it, in the same folds.
        """
        from multimodal_ser.dataset import views
        from multimodal_ser.dataset.tasks import Both
        from multimodal_ser.experiments import plans as planning

        names = planning.models_of_task(material.task, self.systems(material), material)
        settings = self.seeds, self.network, self.schedule
        if not isinstance(material.labels, Both):
            plans = planning.plan_runs(material, split, names, *settings, tune=tune)
            return (planning.Stage(tuple(plans), material),)
        parts = [views.part_of(material, place) for place in (0, 1)]
        views.check_both_labelled(parts, split)
        marks = (*material.marks, *views.unlabelled(material, parts))
        material = replace(material, marks=marks)
        baselines = [name for name in names if planning.is_baseline(name)]
        networks = [name for name in names if name not in baselines]
        if not networks:
            raise SerError(
                f"--task {material.task}: {', '.join(names)} learn one task each; name a network "
                "too, such as --model stacked"
            )
        plans = planning.plan_runs(material, split, networks, *settings, tune=tune)
        stages = [planning.Stage(tuple(plans), material)]
        for part in (replace(part, marks=marks) for part in parts):
            own = planning.models_of_task(part.task, baselines, part)
            own = tuple(name for name in own if name in planning.known_models(part.task))
            usual = 1, self.network, replace(self.schedule, loss=None)
            plans = planning.plan_runs(part, views.part_of_split(split, part), own, *usual)
            # One table needs one split: the same folds, of which a task's baselines read a part.
            spec = planning.split_spec(split)
            whole = [replace(one, config=replace(one.config, split=spec)) for one in plans]
            stages.append(planning.Stage(tuple(whole), part))
        return tuple(stages)


@dataclass(frozen=True, kw_only=True)
class Ablation(Protocol):
    """All models on the same folds and seeds, with tokens and with pooled vectors.

    Models whose modality has no features are left out. The baselines always read pooled features,
    so they run once.

    Attributes:
        tokens: which inputs: ``tokens`` as they are, ``pooled`` to their means, or both.
    """

    tokens: tuple[TokenKind, ...] = TOKEN_CHOICES

    def plan(self, material: Material, split: Split) -> Experiment:
        """Plans the runs of all models with the same folds, seeds and hyper-parameters.

        Raises:
            SerError: a kind of tokens is unknown, or none is given.
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
            inputs = pooled(material) if kind == "pooled" else material
            fresh = []
            for item in planning.plan_runs(inputs, split, models, *settings, protocol="ablation"):
                # Baselines pool their inputs themselves, and where an utterance has one token,
                # "tokens" and "pooled" are the same run: neither is planned twice.
                own = (item.config.model, item.fold.name)
                key = own if item.config.model in BASELINES else item.config.folder
                fresh += [] if key in seen else [item]
                seen.add(key)
            stages.append(planning.Stage(tuple(fresh), inputs))
        arguments = self.arguments | planning.describe_domain(material, split)
        return planning.Experiment("ablation", arguments, tuple(stages), {"split": split})


@dataclass(frozen=True, kw_only=True)
class Combined(Protocol):
    """One training on several corpora, each drawn equally often, and tested on each of them.

    Networks are trained so, those of ``stacked`` too; its other experts and logistic regression
    learn from every row alike. Fold k consists of the k-th fold of every corpus. The predictions
    hold the rows of all corpora, whose ids begin with the corpus.

    Attributes:
        model: a network that `ser list` shows; by default cross_attention for sound and words, or
            audio or text if there are features of one modality only.
    """

    model: str | None = None

    def plan(
        self, domains: Sequence[tuple[Material, Split]], allow: Collection[str] = ()
    ) -> Experiment:
        """Plans one training on two or more corpora with the same number of folds.

        Args:
            domains: the corpora and their splits.
            allow: ``recording`` accepts that one corpus contains copies of another's recordings.

        Raises:
            SerError: class orders, features or numbers of folds differ; or recordings that are
                tested in one corpus are learnt from in another.
        """
        from multimodal_ser.experiments import plans as planning
        from multimodal_ser.experiments.merging import balanced, merge_domains

        material, split = merge_domains(domains, allow)
        model = self.model or planning.network_for(material)
        systems, settings = (model, "linear"), (self.seeds, self.network, self.schedule)
        plans = planning.plan_runs(material, split, systems, *settings, protocol="combined")
        stage = planning.Stage(tuple(balanced(item) for item in plans), material)
        arguments = self.arguments | {"model": model} | planning.describe_domain(material, split)
        return planning.Experiment("combined", arguments, (stage,), {"split": split})

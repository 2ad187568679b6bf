"""What `ser experiment NAME` is asked with for the protocols in one or several corpora."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from multimodal_ser.config import ModelConfig, TrainConfig
from multimodal_ser.errors import SerError

if TYPE_CHECKING:
    from multimodal_ser.experiments import Experiment
    from multimodal_ser.folds import Split
    from multimodal_ser.material import Material

Tokens = Literal["tokens", "pooled"]


@dataclass(frozen=True, kw_only=True)
class Common:
    """What every experiment is asked with.

    Attributes:
        out: the experiment's folder.
        labels: class set, such as common4.
        seeds: of the networks; baselines draw nothing at random and run once.
        allow: overlaps to accept, which every result then states.
        audio: which audio features, where there are several; none for none.
        text: which text features; none for none.
        forbid_emotion_trained: refuse features whose encoder saw emotion labels.
        jobs: processes that make runs side by side; one a processor, or one on a GPU, where not
            given.
        engine: local, or ray for a cluster (docs/cluster.md); the results are the same.
        device: where torch trains the networks, such as cpu or cuda.
        dry_run: list the names of the runs and make none.
        network: the network's knobs.
        schedule: the training's knobs.
    """

    out: Path
    labels: str
    seeds: int = 5
    allow: tuple[str, ...] = ()
    audio: str | None = None
    text: str | None = None
    forbid_emotion_trained: bool = False
    jobs: int | None = None
    engine: Literal["local", "ray"] = "local"
    device: str = "cpu"
    dry_run: bool = False
    network: ModelConfig = field(default_factory=ModelConfig)
    schedule: TrainConfig = field(default_factory=TrainConfig)

    def planned(self) -> Iterator[tuple[Path, Experiment]]:
        """Folder and experiment, one or several."""
        raise NotImplementedError

    @property
    def settings(self) -> dict[str, Any]:
        """What every planning function takes."""
        return {"seeds": self.seeds, "network": self.network, "schedule": self.schedule}

    def load(
        self, features: Path, split: str, folds: int | None, tokens: str = "tokens"
    ) -> tuple[Material, Split]:
        """A corpus and its split, said on standard error."""
        from multimodal_ser.experiments import load_domain, say_what

        material, made = load_domain(
            features,
            self.labels,
            split,
            folds=folds,
            allow=self.allow,
            audio=self.audio,
            forbid_emotion_trained=self.forbid_emotion_trained,
            text=self.text,
            tokens=tokens,
        )
        say_what(material, made)
        return material, made


@dataclass(frozen=True, kw_only=True)
class InDomain(Common):
    """A corpus on itself: models, folds and seeds.

    Attributes:
        features: folder of one corpus's features.
        split: speaker, session, dialogue, official, a split file, or a folder of EmoBox folds.
        folds: number of folds; one group is left out at a time where not given.
        tokens: the features as they are, or their means.
        models: stacked, text, audio, concat, cross_attention, linear, svm.
    """

    features: Path
    split: str = "speaker"
    folds: int | None = None
    tokens: Tokens = "tokens"
    models: tuple[str, ...] = ("stacked", "cross_attention", "linear", "svm")

    def planned(self) -> Iterator[tuple[Path, Experiment]]:
        """One experiment."""
        from multimodal_ser.experiments import plan_in_domain

        domain = self.load(self.features, self.split, self.folds, self.tokens)
        yield self.out, plan_in_domain(*domain, self.models, **self.settings)


@dataclass(frozen=True, kw_only=True)
class Ablation(Common):
    """All models on the same folds and seeds, with tokens and with pooled vectors.

    Attributes:
        features: folder of one corpus's features.
        split: speaker, session, dialogue, official, a split file, or a folder of EmoBox folds.
        folds: number of folds; one group is left out at a time where not given.
        tokens: which inputs: as they are, their means, or both.
    """

    features: Path
    split: str = "speaker"
    folds: int | None = None
    tokens: tuple[Tokens, ...] = ("tokens", "pooled")

    def planned(self) -> Iterator[tuple[Path, Experiment]]:
        """One experiment."""
        from multimodal_ser.experiments import plan_ablation

        domain = self.load(self.features, self.split, self.folds)
        yield self.out, plan_ablation(*domain, tokens=self.tokens, **self.settings)


@dataclass(frozen=True, kw_only=True)
class Combined(Common):
    """Several corpora in one training, each drawn from equally often.

    Attributes:
        features: folders of the corpora's features.
        split: one for all, or one a corpus.
        folds: number of folds, the same for all.
        tokens: the features as they are, or their means.
        model: text, audio, concat, cross_attention.
    """

    features: tuple[Path, ...]
    split: tuple[str, ...] = ("speaker",)
    folds: int | None = 5
    tokens: Tokens = "tokens"
    model: str = "cross_attention"

    def planned(self) -> Iterator[tuple[Path, Experiment]]:
        """One experiment."""
        from multimodal_ser.experiments import plan_combined

        splits = self.split * len(self.features) if len(self.split) == 1 else self.split
        if len(splits) != len(self.features):
            raise SerError(
                f"{len(self.features)} corpora and {len(splits)} splits; give one split for all, "
                "or one a corpus"
            )
        domains = [
            self.load(path, split, self.folds, self.tokens)
            for path, split in zip(self.features, splits, strict=True)
        ]
        yield self.out, plan_combined(domains, model=self.model, allow=self.allow, **self.settings)

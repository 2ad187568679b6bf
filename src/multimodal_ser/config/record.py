"""What decides a run's result, and what is kept beside it: the typed tree behind config.json.

`as_json` writes it and `runs.config_file` reads it; nobody else knows the file's layout.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from typing import Any, Literal, TypeAlias

from multimodal_ser.config.settings import AdaptConfig, ModelConfig, TrainConfig, TuneConfig

LAYOUT = 2  # of a run's model and record; a run of another is not complete, but made again
_OF_BASELINES = ("class_weights", "refit", "loss")  # what they read of a schedule
_NO_LOSS = ("loss", None)  # the task's own: left out, so that hashes of runs from before it stay
_LEFT_OUT = {"left out where it is the default": True}  # so that hashes of runs without it stay
LayerWeights: TypeAlias = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class ClassNames:
    """What a run's model tells.

    Attributes:
        name: of the class set, or the attributes with commas.
        classes: the classes in order, or the attributes.
        hash: of who has which of them.
        task: one of `config.TASKS`.
        scale: of attributes: the corpus's values that are 0 and 1 here.
    """

    name: str
    classes: tuple[str, ...]
    hash: str = ""
    task: str = field(default="classes", metadata=_LEFT_OUT)
    scale: tuple[float, float] | None = field(default=None, metadata=_LEFT_OUT)


@dataclass(frozen=True)
class FeatureSpec:
    """What the feature file of one modality says of itself.

    Attributes:
        encoder: key in ENCODERS, or the name of imported features.
        weights: sha256 of the encoder's weights; empty for imported features.
        layers: which layers stand side by side.
        tokens: the most tokens an utterance may have.
        pool: what one token is.
        dim: width of a token.
        dtype: as stored.
        version: of the feature file's format.
        content: hash of the tokens; several corpora's: corpus → hash.
        pooled_from: tokens in the file, where their mean is taken.
        context: utterances before in the dialogue that the encoder of words had in view.
        context_after: utterances after.
    """

    encoder: str
    weights: str = ""
    layers: str = ""
    tokens: int = 0
    pool: Literal["mean", "first"] = "mean"
    dim: int = 0
    dtype: str = "float32"
    version: int = 1
    content: str | Mapping[str, str] = ""
    pooled_from: int | None = field(default=None, metadata=_LEFT_OUT)
    context: int = field(default=0, metadata=_LEFT_OUT)
    context_after: int = field(default=0, metadata=_LEFT_OUT)


@dataclass(frozen=True)
class SplitSpec:
    """Name and hash of a split, how many folds it has or which one was used, and its leaks."""

    name: str
    hash: str
    folds: int | None = field(default=None, metadata=_LEFT_OUT)
    fold: str | None = field(default=None, metadata=_LEFT_OUT)
    leaks: tuple[str, ...] = ()


@dataclass(frozen=True)
class SourceSpec:
    """What was learnt from first, where other corpora are tested.

    Attributes:
        corpora: their names.
        split: whose first fold was used.
        labels: hash of who has which class.
        features: by modality.
        marks: sentences that stand beside every number.
        run: folder name of the run that the model begins with.
    """

    corpora: tuple[str, ...]
    split: SplitSpec
    labels: str = ""
    features: Mapping[str, FeatureSpec | None] = field(default_factory=dict)
    marks: tuple[str, ...] = ()
    run: str | None = None


@dataclass(frozen=True)
class FewSpec:
    """Which few labelled utterances of the target were given, and how many they were.

    Attributes:
        unit: ``percent`` of every class, or ``shots``: utterances of every class.
        amount: how many of them.
        draw: number of the draw.
        count: utterances, training and validation part together.
    """

    unit: str
    amount: float
    draw: int = 0
    count: int = 0


@dataclass(frozen=True)
class Training:
    """The hyper-parameters that decide a run's result.

    Attributes:
        schedule: of a network; baselines read two of its knobs.
        network: None for baselines and fine-tuned encoders.
        tune: of a fine-tuned encoder.
        adaptation: to a target without labels.
        parts: what of a source's model was trained further.
        few: how much of the target's labels was given.
        balanced: whether every corpus is drawn from equally often.
    """

    schedule: TrainConfig = field(default_factory=TrainConfig)
    network: ModelConfig | None = None
    tune: TuneConfig | None = None
    adaptation: AdaptConfig | None = None
    parts: str | None = None
    few: FewSpec | None = None
    balanced: bool = False

    @property
    def of_baseline(self) -> bool:
        """Whether they are of a baseline, which has no network and draws nothing at random."""
        return self.network is None and self.tune is None


@dataclass(frozen=True)
class RunConfig:
    """All that decides a run's result, and what stands beside its numbers.

    Attributes:
        model: its name.
        seed: of initialisation, data order and dropout.
        fold: the fold's name.
        labels: the class set.
        corpora: whose utterances these are.
        features: by modality, None where there are none.
        split: which one.
        marks: sentences that stand beside every number, such as contamination.
        train: the hyper-parameters.
        protocol: the kind of experiment; ``source`` for a model that others only begin with.
        source: the corpora that were learnt from first, where the tested ones are others.
        layout: which generation of models it was made with.
    """

    model: str
    seed: int
    fold: str
    labels: ClassNames
    corpora: tuple[str, ...]
    features: Mapping[str, FeatureSpec | None]
    split: SplitSpec
    marks: tuple[str, ...] = ()
    train: Training = field(default_factory=Training)
    protocol: str = "in-domain"
    source: SourceSpec | None = None
    layout: int = LAYOUT

    @property
    def hash(self) -> str:
        """First 8 hexadecimal digits of the sha256 of everything above."""
        text = json.dumps(as_json(self), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:8]

    @property
    def folder(self) -> str:
        """Name of the run's folder."""
        fold = re.sub(r"[^A-Za-z0-9]+", "-", self.fold).strip("-")
        return "-".join([self.model, *self._variant(), fold, f"seed{self.seed}", self.hash])

    def _variant(self) -> Iterator[str]:
        """What sets a run apart from others of its model, for people who list a folder."""
        if self.protocol == "source":
            yield "source"
        if self.train.adaptation:
            yield self.train.adaptation.method
        if self.train.parts:
            yield self.train.parts
        if few := self.train.few:
            yield f"{few.amount:g}{few.unit}-draw{few.draw}"


@dataclass(frozen=True)
class SavedAs:
    """A saved predictor's name, the least confidence of a label, and its classes."""

    name: str
    threshold: float
    labels: tuple[str, ...] = ()
    kind: str = "run"


@dataclass(frozen=True)
class Record:
    """A whole config.json.

    Attributes:
        config: what decides the run's result.
        parameters: of the model.
        versions: of the software that made it.
        predictor: what it was saved as, where it was.
        layer_weights: modality → layer of its encoder → the weight that the model learnt for it.
    """

    config: RunConfig
    parameters: int | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    predictor: SavedAs | None = None
    layer_weights: LayerWeights = field(default_factory=dict)


def as_json(value: Any) -> Any:
    """Turns a record, or any part of one, into what its file holds."""
    if isinstance(value, Record):
        rest: dict[str, Any] = {
            "parameters": value.parameters,
            "versions": dict(value.versions),
        }
        if value.layer_weights:
            rest["layer_weights"] = as_json(value.layer_weights)
        return {**as_json(value.config), **rest}
    if isinstance(value, Training):
        return _training_as_json(value)
    if is_dataclass(value) and not isinstance(value, type):
        shown = {one.name: getattr(value, one.name) for one in fields(value)}
        plain = {one.name: one.default for one in fields(value) if one.metadata == _LEFT_OUT}
        return {k: as_json(v) for k, v in shown.items() if k not in plain or v != plain[k]}
    if isinstance(value, Mapping):
        return {key: as_json(one) for key, one in value.items()}
    return list(value) if isinstance(value, tuple) else value


def _training_as_json(train: Training) -> dict[str, Any]:
    """One level for the schedule, whose knobs came first; what a run has not is left out."""
    if train.tune is not None:
        return asdict(train.tune)
    found = {key: one for key, one in asdict(train.schedule).items() if (key, one) != _NO_LOSS}
    if train.of_baseline:
        found = {key: one for key, one in found.items() if key in _OF_BASELINES}
    for name in ("network", "adaptation"):
        if part := getattr(train, name):
            found[name] = asdict(part)
    if train.parts is not None:
        found["parts"] = train.parts
    if few := train.few:
        found["few"] = {few.unit: few.amount, "draw": few.draw, "count": few.count}
    return found | ({"balanced": True} if train.balanced else {})

"""What decides the result of a run, and what is kept beside it: the typed form of config.json.

`as_json` writes it and `runs.config_file` reads it; no other module knows the layout of the file.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from typing import Any, Literal, TypeAlias

from multimodal_ser.config.settings import (
    LEFT_OUT,
    AdaptConfig,
    ModelConfig,
    TrainConfig,
    TuneConfig,
)

_LAYOUT = 2  # generation of models and records; runs of another generation are made again
_OF_BASELINES = ("class_weights", "refit", "loss")  # the fields of a schedule that baselines use
_NO_LOSS = ("loss", None)  # the task's default: left out, so that hashes of older runs stay
LayerWeights: TypeAlias = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class ClassNames:
    """The outputs of a run's model.

    Attributes:
        name: of the class set, or the attributes separated by commas; of two tasks, both with a +.
        classes: the classes in order, or the attributes, or both.
        hash: of which utterance has which of them.
        task: one of `settings.TASKS`.
        scale: for attributes, the corpus's values that correspond to 0 and 1.
    """

    name: str
    classes: tuple[str, ...]
    hash: str = ""
    task: str = field(default="classes", metadata=LEFT_OUT)
    scale: tuple[float, float] | None = field(default=None, metadata=LEFT_OUT)

    @property
    def values(self) -> int:
        """How many outputs are attributes; they are the last ones."""
        names = self.name.rpartition("+")[2]
        return names.count(",") + 1 if self.task.endswith("attributes") else 0

    @property
    def count(self) -> int:
        """How many outputs are classes; they are the first ones."""
        return len(self.classes) - self.values

    @property
    def parts(self) -> tuple[ClassNames, ...]:
        """The outputs of each task by itself."""
        if "+" not in self.task:
            return (self,)
        (first, second), (own, _, names) = self.task.split("+"), self.name.rpartition("+")
        attributes = ClassNames(names, self.classes[-self.values :], self.hash, second, self.scale)
        return ClassNames(own, self.classes[: -self.values], self.hash, first), attributes


@dataclass(frozen=True)
class Encoding:
    """How the features of one modality were made, as their file and the runs on them record it.

    Attributes:
        encoder: key in ENCODERS, or the name of imported features.
        weights: sha256 of the encoder's weights; empty for imported features, of whose extractor
            only the name is known.
        layers: the layers that are concatenated; for imported features the key in their file.
        tokens: largest number of tokens of an utterance; 1 is one pooled vector.
        pool: how a single token is made: the ``mean`` of all, or the ``first`` ([CLS]).
        dim: width of a token.
        dtype: ``float16`` or ``float32``, as stored.
        version: of the feature file's format.
        context: number of preceding utterances of the dialogue that the text encoder has read.
        context_after: number of following utterances.
        prefix: text before each sentence, such as E5's "query: ".
        compute_dtype: number format that the encoder computed in.
        code: hash of the code of an encoder from outside this package; empty for the others.
    """

    encoder: str
    weights: str = ""
    layers: str = ""
    tokens: int = 0
    pool: Literal["mean", "first"] = "mean"
    dim: int = 0
    dtype: str = "float32"
    version: int = 1
    context: int = field(default=0, metadata=LEFT_OUT)
    context_after: int = field(default=0, metadata=LEFT_OUT)
    prefix: str = field(default="", metadata=LEFT_OUT)
    compute_dtype: str = field(default="float32", metadata=LEFT_OUT)
    code: str = field(default="", metadata=LEFT_OUT)


@dataclass(frozen=True)
class FeatureSpec(Encoding):
    """The specification of the features of one modality that a run reads.

    Attributes:
        content: hash of the tokens; for several corpora, corpus → hash.
        pooled_from: number of tokens in the file, if their mean is used.
        by_speaker: whether each speaker's features were standardised by themselves.
    """

    content: str | Mapping[str, str] = ""
    pooled_from: int | None = field(default=None, metadata=LEFT_OUT)
    by_speaker: bool = field(default=False, metadata=LEFT_OUT)

    @property
    def token(self) -> str:
        """How a single token was made, ``mean`` or ``first``; empty if there are several."""
        if self.tokens != 1:
            return ""
        return "mean" if self.pooled_from else self.pool


@dataclass(frozen=True)
class SplitSpec:
    """Name and hash of a split, its number of folds or the fold that was used, and its leaks."""

    name: str
    hash: str
    folds: int | None = field(default=None, metadata=LEFT_OUT)
    fold: str | None = field(default=None, metadata=LEFT_OUT)
    leaks: tuple[str, ...] = ()


@dataclass(frozen=True)
class SourceSpec:
    """The source that was learnt from first, if other corpora are tested.

    Attributes:
        corpora: their names.
        split: the split whose first fold was used.
        labels: hash of which utterance has which class.
        features: by modality.
        marks: sentences that every result shows.
        run: folder name of the run that the model starts from.
    """

    corpora: tuple[str, ...]
    split: SplitSpec
    labels: str = ""
    features: Mapping[str, FeatureSpec | None] = field(default_factory=dict)
    marks: tuple[str, ...] = ()
    run: str | None = None


@dataclass(frozen=True)
class FewSpec:
    """The few labelled utterances of the target that were given (few-shot).

    Attributes:
        unit: ``percent`` of every class, or ``shots``: utterances of every class.
        amount: the percentage, or the number.
        draw: number of the random draw.
        count: number of utterances, training and validation part together.
    """

    unit: str
    amount: float
    draw: int = 0
    count: int = 0


@dataclass(frozen=True)
class Training:
    """The hyper-parameters that decide the result of a run.

    Attributes:
        schedule: of a network; baselines use three of its fields.
        network: None for baselines and fine-tuned encoders.
        tune: of a fine-tuned encoder.
        adaptation: to a target corpus without labels.
        parts: which part of a source's model was fine-tuned.
        few: how many labels of the target were given.
        balanced: whether every corpus is drawn equally often.
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
        """Whether these are a baseline's settings: without a network, and without randomness."""
        return self.network is None and self.tune is None


@dataclass(frozen=True)
class RunConfig:
    """Everything that decides the result of a run, and the sentences beside its numbers.

    Attributes:
        model: its name.
        seed: of initialisation, data order and dropout.
        fold: the fold's name.
        labels: the class set.
        corpora: the corpora of its utterances.
        features: by modality; None for a modality without features.
        split: the split.
        marks: sentences that every result shows, such as contamination.
        train: the hyper-parameters.
        protocol: the kind of experiment; ``source`` for a model that other runs only start from.
        source: the corpora that were learnt from first, if other corpora are tested.
        layout: the generation of models that it was made with.
        code: a hash of the source of a user's model, adaptation and loss; of `stacked`,
            which experts it has.
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
    layout: int = _LAYOUT
    code: str = field(default="", metadata=LEFT_OUT)

    @property
    def hash(self) -> str:
        """First 8 hexadecimal digits of the sha256 of everything above."""
        # Sorted keys: the hash must not depend on the order of fields in the source code.
        text = json.dumps(as_json(self), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:8]

    @property
    def folder(self) -> str:
        """Name of the run's folder."""
        # Fold names contain "=" and spaces, which not all file systems and shells take well.
        fold = re.sub(r"[^A-Za-z0-9]+", "-", self.fold[:100]).strip("-")
        model = re.sub(r"[^\w.-]+", "-", self.model).strip("-.")  # a name of the user's
        few, adaptation = self.train.few, self.train.adaptation
        variant = [  # tells runs of one model apart, for people who list the folders
            "source" if self.protocol == "source" else None,
            adaptation and adaptation.method,
            self.train.parts,
            few and f"{few.amount:g}{few.unit}-draw{few.draw}",
        ]
        named = [one for one in variant if one]
        return "-".join([model, *named, fold, f"seed{self.seed}", self.hash])


@dataclass(frozen=True)
class SavedAs:
    """Name, confidence threshold and classes of a saved predictor."""

    name: str
    threshold: float
    labels: tuple[str, ...] = ()
    kind: str = "run"


@dataclass(frozen=True)
class Record:
    """A whole config.json.

    Attributes:
        config: what decides the result of the run.
        parameters: number of parameters of the model.
        versions: of the software that made it.
        predictor: how it was saved, if it was.
        layer_weights: modality → layer of its encoder → the weight that the model learnt for it.
        predictions: sha256 of `predictions.csv` as it was written; empty in older records.
    """

    config: RunConfig
    parameters: int | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    predictor: SavedAs | None = None
    layer_weights: LayerWeights = field(default_factory=dict)
    predictions: str = ""


def as_json(value: Any) -> Any:
    """Turns a record, or any part of one, into the JSON of its file."""
    if isinstance(value, Record):
        rest: dict[str, Any] = {"parameters": value.parameters, "versions": dict(value.versions)}
        if value.layer_weights:
            rest["layer_weights"] = as_json(value.layer_weights)
        if value.predictions:
            rest["predictions"] = value.predictions
        return {**as_json(value.config), **rest}
    if isinstance(value, Training):
        return _training_as_json(value)
    if is_dataclass(value) and not isinstance(value, type):
        shown = {one.name: getattr(value, one.name) for one in fields(value)}
        # Later fields are left out at their default: the hashes that name older runs stay the same.
        plain = {one.name: one.default for one in fields(value) if one.metadata == LEFT_OUT}
        return {k: as_json(v) for k, v in shown.items() if k not in plain or v != plain[k]}
    if isinstance(value, Mapping):
        return {key: as_json(one) for key, one in value.items()}
    return list(value) if isinstance(value, tuple) else value


def dotted(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Joins the names of nested settings by dots.

    >>> dotted({"train": {"lr": 0.001, "layers": [2, 3]}, "text": None})
    {'train.lr': 0.001, 'train.layers': [2, 3], 'text': None}
    """
    flat: dict[str, Any] = {}
    for key, one in value.items():
        name = f"{prefix}{key}"
        flat |= dotted(one, f"{name}.") if isinstance(one, Mapping) else {name: one}
    return flat


def _training_as_json(train: Training) -> dict[str, Any]:
    """The fields of the schedule on the same level as the rest, since they came first.

    Parts that a run does not have are left out, so that hashes of older runs stay the same.
    """
    if train.tune is not None:
        return asdict(train.tune)
    found = {key: one for key, one in asdict(train.schedule).items() if (key, one) != _NO_LOSS}
    if train.of_baseline:
        found = {key: one for key, one in found.items() if key in _OF_BASELINES}
    for name in ("network", "adaptation", "parts"):
        if part := getattr(train, name):
            found[name] = as_json(part)
    if few := train.few:
        found["few"] = {few.unit: few.amount, "draw": few.draw, "count": few.count}
    return found | ({"balanced": True} if train.balanced else {})

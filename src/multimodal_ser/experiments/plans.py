"""Material + split + settings → Plan: one run to make, with everything that decides its result."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from multimodal_ser.config.record import ClassNames, RunConfig, SplitSpec, Training
from multimodal_ser.config.settings import ModelConfig, TrainConfig, TuneConfig
from multimodal_ser.dataset.examples import MODALITIES
from multimodal_ser.dataset.material import Material
from multimodal_ser.dataset.tasks import attributes_of
from multimodal_ser.dataset.views import check_single_tokens
from multimodal_ser.encoders.whisper import WHISPER_SIZES
from multimodal_ser.errors import SerError, one_of
from multimodal_ser.features.content import context_notes, doubt_of_order, turns_of
from multimodal_ser.models.fusion import MODELS, reads_dialogue
from multimodal_ser.runs.model_file import own_code
from multimodal_ser.splits.folds import Fold, Split
from multimodal_ser.training.baselines import BASELINES
from multimodal_ser.training.losses import LOSSES, loss_for
from multimodal_ser.training.regressors import REGRESSORS
from multimodal_ser.training.stacking import GENERATION, STACKED

_log = logging.getLogger(__name__)
_FIXED = "egemaps"  # an encoder without weights, which cannot be fine-tuned
_FUSION = "cross_attention"  # the default network for both modalities
TUNED = "tuned"  # the name of a model that is an encoder fine-tuned with its head


@dataclass(frozen=True)
class Plan:
    """One run to make.

    Attributes:
        config: everything that decides its result.
        fold: the fold that it is validated and tested on, and learns from unless it adapts.
        source_fold: the source's fold that it learns from instead, if it adapts.
        start: folder name of the run whose model it starts from.
    """

    config: RunConfig
    fold: Fold
    source_fold: Fold | None = None
    start: str | None = None


@dataclass(frozen=True)
class Stage:
    """Runs on one material; the stages of an experiment are made one after another."""

    plans: tuple[Plan, ...]
    material: Material
    source: Material | None = None


@dataclass(frozen=True)
class Experiment:
    """The runs of a protocol, before any is made.

    Attributes:
        protocol: its name.
        arguments: its settings, for `experiment.json`.
        stages: its runs.
        splits: file name → the split that is written there.
    """

    protocol: str
    arguments: Mapping[str, Any]
    stages: tuple[Stage, ...]
    splits: Mapping[str, Split]

    def __post_init__(self) -> None:
        if not self.plans:
            raise SerError("there is nothing to train; name a model, such as --model stacked")

    @property
    def plans(self) -> list[Plan]:
        """All runs, in the order in which they are made."""
        return [item for stage in self.stages for item in stage.plans]

    @property
    def names(self) -> list[str]:
        """The names of the run folders."""
        return [item.config.folder for item in self.plans]


def plan_runs(
    material: Material,
    split: Split,
    models: Sequence[str],
    seeds: int,
    network: ModelConfig,
    schedule: TrainConfig,
    *,
    protocol: str = "in-domain",
    tune: TuneConfig | None = None,
) -> list[Plan]:
    """Lists the runs of a corpus on itself: models × folds × seeds.

    The baselines have no randomness, so they run once per fold. An encoder that is fine-tuned is
    one more model.

    Raises:
        SerError: a model is unknown or its modality has no features, an encoder cannot be
            fine-tuned, or a loss is of another task.
    """
    for name in models:
        check_model(name, material)
    if any(map(reads_dialogue, models)) and (doubt := doubt_of_order(material.utterances)):
        _log.warning("%s", doubt)
    asked = loss_for(material.task, schedule.loss)
    # The default loss of classes is recorded as None, whether it was named or not: both are the
    # same run, and the names of runs from before there was a choice stay valid.
    usual = material.task == "classes" and asked == loss_for("classes", None)
    schedule = replace(schedule, loss=None if usual else asked)
    settings = {name: training_settings(name, network, schedule, material.task) for name in models}
    if tune is not None:
        if material.task != "classes":
            raise SerError("--tune-encoder fine-tunes for classes alone; leave --task out")
        _check_tunable(material, tune)
        settings[TUNED] = Training(tune=tune)
    return [
        Plan(
            replace(run_config(material, split, name, fold, train), seed=seed, protocol=protocol),
            fold,
        )
        for name, train in settings.items()
        for seed in seeds_of(name, seeds)
        for fold in split.folds
    ]


def is_baseline(model: str) -> bool:
    """Whether a model is a baseline: without a network and without randomness."""
    return model in BASELINES or model in REGRESSORS


def training_settings(
    model: str, network: ModelConfig, schedule: TrainConfig, task: str = "classes"
) -> Training:
    """The hyper-parameters that decide the result of a model; a baseline has no network.

    A baseline has a fixed loss. It cannot learn shares of votes, so it learns one class for
    each utterance.
    """
    if not is_baseline(model):
        if not reads_dialogue(model):  # sizes of a context that it ignores
            network = replace(network, before=ModelConfig.before, after=ModelConfig.after)
        return Training(schedule, network)
    loss = None
    if task == "distributions" and schedule.loss is not None:
        loss = "majority" if LOSSES[schedule.loss].learns == "truth" else schedule.loss
    return Training(replace(schedule, loss=loss))


def seeds_of(model: str, seeds: int) -> range:
    """The seeds of a model: a single one for models without randomness."""
    return range(1 if is_baseline(model) else seeds)


def run_config(
    material: Material, split: Split, model: str, fold: Fold, train: Training
) -> RunConfig:
    """The configuration of a run within one corpus; protocols replace the fields that differ."""
    labels, features, around = material.labels, material.features, []
    if train.tune:  # the weights of an encoder that is fine-tuned are float32
        features = {k: v and replace(v, compute_dtype="float32") for k, v in features.items()}
    if train.network is not None and reads_dialogue(model):
        around = context_notes(train.network.before, train.network.after, "features")
    own = own_code(model, train)
    return RunConfig(
        model=model,
        seed=0,
        fold=fold.name,
        labels=ClassNames(
            labels.name,
            tuple(labels.classes),
            labels_hash(material, model),
            material.task,
            attributes.scale if (attributes := attributes_of(labels)) else None,
        ),
        corpora=corpus_names(material),
        features=features,
        split=split_spec(split),
        marks=(*material.marks, *split.notes, *around),
        train=train,
        code="-".join(filter(None, (GENERATION if model == STACKED else "", own))),
    )


def split_spec(split: Split) -> SplitSpec:
    """A split as runs record it."""
    return SplitSpec(split.name, split.hash, len(split.folds), leaks=split.leaks)


def describe_domain(material: Material, split: Split) -> dict[str, Any]:
    """Corpus and split, for `experiment.json`."""
    return {
        "corpora": corpus_names(material),
        "labels": material.labels.name,
        "split": {"name": split.name, "hash": split.hash},
    }


def corpus_names(material: Material) -> tuple[str, ...]:
    """The names of a material's corpora."""
    return tuple(sorted({row.corpus for row in material.utterances}))


def labels_hash(material: Material, model: str) -> str:
    """A hash of every utterance's class and speaker, and of dialogues if the model reads them."""
    speakers = [row.speaker for row in material.utterances]
    examples = material.examples
    truth: list[object] = examples.label.tolist()
    if examples.target is not None:
        truth = [list(pair) for pair in zip(truth, examples.target.tolist(), strict=True)]
    # In the order of the ids, which `load_material` has sorted.
    rows: list[object] = list(zip(examples.ids, truth, speakers, strict=True))
    if reads_dialogue(model):
        rows += [[row.id for row in turns] for turns in turns_of(material.utterances)]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:12]


def _check_tunable(material: Material, tune: TuneConfig) -> None:
    """Raises SerError unless the features were made by encoders that can be fine-tuned."""
    for modality in ("text", "audio") if tune.modality == "both" else (tune.modality,):
        spec = material.features[modality]
        if spec and spec.by_speaker:
            raise SerError("--tune-encoder reads sound itself; leave --standardize-speakers out")
        if spec is None or not spec.weights or spec.encoder == _FIXED or spec.context:
            raise SerError(
                f"--tune-encoder fine-tunes {', '.join(WHISPER_SIZES.values())}, emotion2vec and "
                f"every encoder of transformers, without a context; these features are of "
                f"{spec.encoder if spec else f'no {modality} encoder'}; extract with "
                f"--{modality} ENCODER"
            )


def models_for(material: Material) -> list[str]:
    """The models of single utterances whose modalities have features, networks first."""
    known = [name for name in known_models(material.task) if not reads_dialogue(name)]
    return [name for name in known if not _lacking(name, material)]


def network_for(material: Material) -> str:
    """The fusion network; with features of one modality only, that modality's network (logged)."""
    missing = _lacking(_FUSION, material)
    if not missing:
        return _FUSION
    chosen = next(modality for modality in ("audio", "text") if modality not in missing)
    _log.info("there are no %s features, so the network is %r (--model)", missing[0], chosen)
    return chosen


def known_models(task: str = "classes") -> tuple[str, ...]:
    """All models that can be trained on features for a task."""
    if task == "attributes":
        return (*MODELS, *REGRESSORS)
    return (*MODELS, STACKED, *BASELINES) if task == "classes" else (*MODELS, *BASELINES)


def models_of_task(task: str, models: Sequence[str], material: Material) -> tuple[str, ...]:
    """The models, with those that can only predict classes replaced by ones for the task.

    For attributes, ``linear`` and ``svm`` become ridge and support vector regression. For all but
    classes, ``stacked`` becomes the network that reads all modalities.
    """
    if task == "classes":
        return tuple(models)
    # The stack's log-probability pool and scikit-learn's classifiers are for classes only.
    instead = {STACKED: network_for(material)} if STACKED in models else {}
    if task == "attributes":
        instead |= {"linear": "ridge", "svm": "svr"}
    return tuple(dict.fromkeys(instead.get(name, name) for name in models))


def _lacking(name: str, material: Material) -> list[str]:
    """The modalities that a network needs but that have no features; other models need none."""
    wanted = MODELS[name].modalities if name in MODELS else ()
    return [modality for modality in wanted if material.features[modality] is None]


def check_model(name: str, material: Material) -> None:
    """Raises SerError for an unknown model, or one whose modality has no features."""
    known = known_models(material.task)
    if name not in known:
        raise SerError(one_of("model", name, known))
    if name in MODELS:
        _check_modalities(name, getattr(MODELS[name], "modalities", None))
    for modality in _lacking(name, material):
        raise SerError(
            f"model {name!r} needs {modality} features and there are none; extract them with "
            f"ser extract --{modality} ENCODER, or choose another model: {', '.join(MODELS)}"
        )
    if reads_dialogue(name):
        check_single_tokens(material)


def _check_modalities(name: str, read: object) -> None:
    """Raises SerError unless what a model, perhaps a user's own, says that it reads is allowed."""
    if read is None:
        raise SerError(f"model {name!r} lacks its attribute 'modalities', see docs/models.md")
    if not isinstance(read, tuple | list) or not read or not {*read} <= {*MODALITIES}:
        raise SerError(
            f"model {name!r} has {read!r} as its attribute 'modalities'; allowed: ('text',), "
            "('audio',) or ('text', 'audio')"
        )

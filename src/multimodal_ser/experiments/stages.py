"""Material + split + models → the stages of an experiment on one corpus, of one task or two."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from multimodal_ser.config.settings import ModelConfig, TrainConfig, TuneConfig
from multimodal_ser.dataset.material import Material
from multimodal_ser.dataset.tasks import Both
from multimodal_ser.dataset.views import check_both_labelled, part_of, part_of_split, unlabelled
from multimodal_ser.errors import SerError
from multimodal_ser.experiments.plans import (
    Stage,
    is_baseline,
    known_models,
    network_for,
    plan_runs,
    split_spec,
)
from multimodal_ser.splits.folds import Split
from multimodal_ser.training.stacking import STACKED


def stages_of(
    material: Material,
    split: Split,
    systems: Sequence[str],
    seeds: int,
    network: ModelConfig,
    schedule: TrainConfig,
    tune: TuneConfig | None = None,
) -> tuple[Stage, ...]:
    """The runs of a corpus on itself.

    Of two tasks, networks learn both. Baselines cannot: each task has its own, on the utterances
    that have a label for it, in the same folds.

    Raises:
        SerError: a model is unknown or its modality has no features, an encoder cannot be
            fine-tuned, a loss is of another task, or a part of a fold lacks labels of a task.
    """
    names = systems_for(material.task, systems, material)
    if not isinstance(material.labels, Both):
        plans = plan_runs(material, split, names, seeds, network, schedule, tune=tune)
        return (Stage(tuple(plans), material),)
    parts = [part_of(material, place) for place in (0, 1)]
    check_both_labelled(parts, split)
    material = replace(material, marks=(*material.marks, *unlabelled(material, parts)))
    parts = [replace(part, marks=material.marks) for part in parts]
    networks = [name for name in names if not is_baseline(name)]
    if not networks:
        raise SerError(
            f"--task {material.task}: {', '.join(names)} learn one task each; name a network too, "
            "such as --model stacked"
        )
    plans = plan_runs(material, split, networks, seeds, network, schedule, tune=tune)
    stages = [Stage(tuple(plans), material)]
    for part in parts:
        own = systems_for(part.task, [name for name in names if is_baseline(name)], part)
        own = tuple(name for name in own if name in known_models(part.task))
        plans = plan_runs(
            part, part_of_split(split, part), own, 1, network, replace(schedule, loss=None)
        )
        # One table needs one split: the same folds, of which a task's baselines read a part.
        whole = [replace(one, config=replace(one.config, split=split_spec(split))) for one in plans]
        stages.append(Stage(tuple(whole), part))
    return tuple(stages)


def systems_for(task: str, models: Sequence[str], material: Material) -> tuple[str, ...]:
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

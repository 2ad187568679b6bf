"""UA on held-out speakers against seconds: which size, batch and schedule a network should have.

    python benchmarks/choices.py --features features/cremad --labels cremad6 --model audio

One row a setting, one knob turned at a time from the recommended one: the mean of the folds'
validation UA, which is what a choice may look at, and processor seconds a run.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import torch
import tyro

from multimodal_ser.config import ModelConfig, TrainConfig
from multimodal_ser.experiments import load_domain, one_thread
from multimodal_ser.models import MODELS, Dims, Ensemble
from multimodal_ser.train import fit

KNOBS: dict[str, tuple[object, ...]] = {
    "members": (1, 2, 4, 8),
    "hidden_dim": (48, 64, 96, 128),
    "batch_size": (32, 64, 128, 256),
    "epochs": (5, 10, 20, 40),
}
RATES = {32: 7e-4, 64: 1e-3, 128: 1.4e-3, 256: 2e-3}  # as the square root of the batch's size


@dataclass(frozen=True)
class Arguments:
    """What the benchmark is told."""

    features: Path
    labels: str
    split: str = "speaker"
    folds: int = 5
    model: str = "cross_attention"
    seeds: int = 1
    tokens: str = "tokens"
    allow: tuple[str, ...] = ()
    knobs: tuple[str, ...] = tuple(KNOBS)
    class_weights: bool = True
    base: tuple[int, int, int, int] = (4, 96, 64, 20)


def settings(arguments: Arguments) -> list[tuple[ModelConfig, TrainConfig]]:
    """The recommended setting and those that differ from it by one knob."""
    names = tuple(KNOBS)
    first = dict(zip(names, arguments.base, strict=True))
    rows = [first]
    rows += [
        {**first, name: value}
        for name in arguments.knobs
        for value in KNOBS[name]
        if value != first[name]
    ]
    return [
        (
            ModelConfig(members=row["members"], hidden_dim=row["hidden_dim"]),
            TrainConfig(
                epochs=row["epochs"],
                patience=row["epochs"],
                batch_size=row["batch_size"],
                learning_rate=RATES[row["batch_size"]],
                class_weights=arguments.class_weights,
            ),
        )
        for row in rows
    ]


def measure(arguments: Arguments) -> None:
    material, split = load_domain(
        arguments.features, arguments.labels, arguments.split, folds=arguments.folds,
        allow=arguments.allow, tokens=arguments.tokens,
    )  # fmt: skip
    examples = material.examples
    folds = [
        [
            examples.take([examples.places[key] for key in part])
            for part in (fold.train, fold.validation)
        ]
        for fold in split.folds
    ]
    dims = Dims(examples.text.dim, examples.audio.dim, len(material.labels.classes))
    print("| members | width | batch | epochs | parameters | validation UA | CPU s a run |")
    print("|---:|---:|---:|---:|---:|---:|---:|")
    for network, schedule in settings(arguments):
        begun, scores = time.process_time(), []
        for seed in range(arguments.seeds):
            for train, validation in folds:
                torch.manual_seed(seed)
                model = Ensemble(MODELS[arguments.model], dims, network)
                fitted = fit(model, train, validation, schedule, seed)
                scores.append(max(row["validation_ua"] for row in fitted.history[-3:]))
        seconds = (time.process_time() - begun) / len(scores)
        count = sum(p.numel() for p in model.parameters())
        print(
            f"| {network.members} | {network.hidden_dim} | {schedule.batch_size} "
            f"| {schedule.epochs} | {count:,} | {100 * sum(scores) / len(scores):.2f} "
            f"| {seconds:.1f} |",
            flush=True,
        )


if __name__ == "__main__":
    with one_thread():
        measure(tyro.cli(Arguments))

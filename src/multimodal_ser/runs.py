"""runs/<experiment>/<name>-<hash8>/: one fitted model with all it needs to be believed and reused.

A run folder is complete or absent: it is written aside and renamed. Its name holds a hash of
its config, so a run that is there already need not be made again.
"""

from __future__ import annotations

import csv
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from multimodal_ser import metrics
from multimodal_ser.baselines import BASELINES, Linear, Svm
from multimodal_ser.config import ModelConfig, TrainConfig
from multimodal_ser.errors import SerError, one_of
from multimodal_ser.files import parse_json, written_aside
from multimodal_ser.models import MODELS, Dims, Ensemble
from multimodal_ser.stacking import STACKED, Stacked, build_stacked
from multimodal_ser.train import Fitted
from multimodal_ser.tune import Tuned, save_tuned

VERSIONED = ("multimodal-ser", "torch", "scikit-learn", "numpy")
LAYOUT = 2  # of a run's model and record; a run of another is not complete, but made again
FILES = ("config.json", "history.jsonl", "predictions.csv", "metrics.json", "model.safetensors")


@dataclass(frozen=True)
class RunConfig:
    """All that decides a run's result, and what stands beside its numbers.

    Attributes:
        model: key in MODELS or BASELINES, or `stacked`.
        seed: of initialisation, data order and dropout.
        fold: the fold's name.
        labels: name and classes of the class set.
        corpora: whose utterances these are.
        features: ``audio`` and ``text``: what their feature files say of themselves, or None.
        split: name, hash, number of folds and leaks.
        marks: sentences that stand beside every number, such as contamination.
        train: hyper-parameters of training, and of the network where it is one; in transfer
            also ``adaptation``, ``parts`` and ``few``.
        protocol: the kind of experiment; ``source`` for a model that others only begin with.
        source: the corpora that were learnt from first, where the tested ones are others.
        layout: which generation of models it was made with.
    """

    model: str
    seed: int
    fold: str
    labels: Mapping[str, Any]
    corpora: Sequence[str]
    features: Mapping[str, Any]
    split: Mapping[str, Any]
    marks: Sequence[str]
    train: Mapping[str, Any]
    protocol: str = "in-domain"
    source: Mapping[str, Any] | None = None
    layout: int = LAYOUT

    @property
    def hash(self) -> str:
        """First 8 hexadecimal digits of the sha256 of everything above."""
        text = json.dumps(asdict(self), sort_keys=True)
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
        if adaptation := self.train.get("adaptation"):
            yield adaptation["method"]
        if parts := self.train.get("parts"):
            yield parts
        if few := self.train.get("few"):
            amount = next(f"{few[unit]:g}{unit}" for unit in ("percent", "shots") if unit in few)
            yield f"{amount}-draw{few['draw']}"


@dataclass(frozen=True)
class Answers:
    """What a model said of one part.

    Attributes:
        part: ``validation`` or ``test``.
        ids: utterance ids.
        speakers: who speaks; empty where unknown.
        labels: true class names.
        probabilities: float array [N, C].
    """

    part: str
    ids: Sequence[str]
    speakers: Sequence[str]
    labels: Sequence[str]
    probabilities: NDArray[np.float32]


def is_complete(folder: Path) -> bool:
    """Whether a run folder has all its files."""
    return all((folder / name).is_file() for name in FILES)


def write_run(
    experiment: Path, config: RunConfig, dims: Dims, fitted: Fitted, answers: Sequence[Answers]
) -> Path:
    """Writes a run folder aside and renames it.

    Args:
        experiment: the folder that holds the runs.
        config: what was run.
        dims: of the model's inputs.
        fitted: the model and its history.
        answers: of the validation and the test part.
    """
    folder = experiment / config.folder
    parameters = sum(p.numel() for p in fitted.model.parameters())
    versions = {name: version(name) for name in VERSIONED}
    described = {**asdict(config), "parameters": parameters, "versions": versions}
    rows = "".join(json.dumps(row) + "\n" for row in fitted.history)
    with written_aside(folder) as partial:
        partial.mkdir()
        _write_json(partial / "config.json", described)
        (partial / "history.jsonl").write_text(rows)
        _write_predictions(partial / "predictions.csv", config.labels["classes"], answers)
        _write_json(partial / "metrics.json", _scores(config.labels["classes"], answers))
        save_model(fitted.model, partial / "model.safetensors", config, dims)
    return folder


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _write_predictions(path: Path, classes: Sequence[str], answers: Iterable[Answers]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["id", "part", "speaker", "label", *(f"p_{name}" for name in classes)])
        for answer in answers:
            columns = (answer.ids, answer.speakers, answer.labels, answer.probabilities)
            for key, speaker, label, row in zip(*columns, strict=True):
                writer.writerow([key, answer.part, speaker, label, *(f"{p:.7f}" for p in row)])


def _scores(classes: Sequence[str], answers: Iterable[Answers]) -> dict[str, dict[str, float]]:
    """A copy for people who look into the folder; reports work from the predictions."""
    scores = {}
    for answer in answers:
        truth = [classes.index(label) for label in answer.labels]
        matrix = metrics.confusion(truth, answer.probabilities.argmax(1), len(classes))
        scores[answer.part] = {name: float(of(matrix)) for name, of in metrics.METRICS.items()}
    return scores


def save_model(model: nn.Module, path: Path, config: RunConfig, dims: Dims) -> None:
    """Writes a model's tensors with all that loading needs in the file's header.

    A fine-tuned encoder is a file of `tune.save_tuned`, which predictors read as they do the
    starter model.
    """
    if isinstance(model, Tuned):
        save_tuned(model, path, half=False)
        return
    header = {
        "model": config.model,
        "classes": list(config.labels["classes"]),
        "dims": dims._asdict(),
        "network": config.train.get("network"),
        "features": config.features,
    }
    # one entry: the library writes several in no fixed order, and equal runs should be equal bytes
    tensors = {k: v.contiguous() for k, v in model.state_dict().items()}
    path.write_bytes(save(tensors, {"run": json.dumps(header)}))


def load_model(path: Path) -> nn.Module:
    """Reads a run's model over features, ready to answer; `tune.load_tuned` reads encoders.

    Raises:
        SerError: not a model file of this project.
    """
    try:
        with safe_open(path, "pt") as file:
            header = parse_json((file.metadata() or {})["run"])
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        dims, name = Dims(**header["dims"]), header["model"]
        network = header["network"]
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise SerError(f"{path}: not a model of a run folder ({error!r})") from error
    model = build(name, dims, ModelConfig(**network) if network else ModelConfig(), state)
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise SerError(f"{path}: made by another version of this project; train again") from error
    return model.eval()


def build(
    name: str, dims: Dims, config: ModelConfig, state: Mapping[str, Tensor] | None = None
) -> Ensemble | Linear | Svm | Stacked:
    """A model by name, freshly initialised; a fitted svm's or stack's size stands in its state."""
    if name == "svm":
        pairs, vectors = state["dual"].shape if state else (0, 0)
        return Svm(dims, vectors=vectors, pairs=pairs)
    if name == STACKED:
        return build_stacked(dims, config, state or {})
    if name in BASELINES:
        return BASELINES[name](dims)
    if name not in MODELS:
        raise SerError(
            f"{one_of('model', name, (*MODELS, STACKED, *BASELINES))}; docs/models.md: add one"
        )
    return Ensemble(MODELS[name], dims, config)


def train_settings(name: str, network: ModelConfig, schedule: TrainConfig) -> dict[str, Any]:
    """The hyper-parameters that decide a model's result, for its config."""
    if name in BASELINES:
        return {"class_weights": schedule.class_weights, "refit": schedule.refit}
    return {**asdict(schedule), "network": asdict(network)}

"""The original's flags → the library's settings, and the folder of the runs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import tyro

from _original.inputs import Inputs, Reading, load_inputs
from _original.metadata import say
from _original.results import write_results
from multimodal_ser.config.settings import ModelConfig, TrainConfig
from multimodal_ser.corpora.labels import CLASS_SETS, ClassSet
from multimodal_ser.errors import SerError
from multimodal_ser.experiments.plans import Experiment as Planned
from multimodal_ser.experiments.running import make_experiment
from multimodal_ser.report import text_table

SAVED = Path("saved_models")
EMOTIONS = {"iemocap_4": "common4", "iemocap_6": "iemocap6"}
NETWORK, SCHEDULE = ModelConfig(), TrainConfig()


@dataclass(frozen=True)
class Flags:
    """The flags of every training script; defaults are the library's.

    Attributes:
        output: the JSON file with the results.
        num_runs: number of seeds.
        emotion_config: the class set.
        num_classes: checked against `emotion_config`.
        audio_dim: checked against the files.
        text_dim: checked against the files.
        hidden_dim: width of both modalities after projection.
        num_layers: number of blocks of cross-attention.
        num_heads: number of attention heads.
        dropout: share of activations dropped inside the network.
        members: number of networks in the ensemble; the original has 1.
        epochs: largest number of passes over the training set.
        patience: epochs without a better validation UA before stopping.
        least_steps: smallest number of steps, even if `epochs` gives fewer.
        batch_size: utterances per step.
        learning_rate: AdamW's peak rate.
        weight_decay: AdamW's decoupled decay.
        allow: overlaps to accept (speaker, session, dialogue, recording); results state them.
        jobs: processes that train in parallel; default: one per core.
    """

    output: Path = Path("results.json")
    num_runs: int = 5
    emotion_config: Literal["iemocap_4", "iemocap_6"] = "iemocap_4"
    num_classes: int | None = None
    audio_dim: int | None = None
    text_dim: int | None = None
    hidden_dim: int = NETWORK.hidden_dim
    num_layers: int = NETWORK.num_layers
    num_heads: int = NETWORK.num_heads
    dropout: float = NETWORK.dropout
    members: int = NETWORK.members
    epochs: int = SCHEDULE.epochs
    patience: int = SCHEDULE.patience
    least_steps: int = SCHEDULE.least_steps
    batch_size: int = SCHEDULE.batch_size
    learning_rate: float = SCHEDULE.learning_rate
    weight_decay: float = SCHEDULE.weight_decay
    allow: tuple[str, ...] = ()
    jobs: int | None = None

    @property
    def labels(self) -> ClassSet:
        """The class set.

        Raises:
            SerError: `num_classes` says otherwise.
        """
        labels = CLASS_SETS[EMOTIONS[self.emotion_config]]
        if self.num_classes not in (None, len(labels.classes)):
            raise SerError(
                f"--num_classes {self.num_classes}, but --emotion_config {self.emotion_config} has "
                f"{len(labels.classes)}: {', '.join(labels.classes)}"
            )
        return labels

    def settings(self) -> dict[str, Any]:
        """The settings that all experiments of the library have."""
        given = asdict(self)
        network = {key: given[key] for key in asdict(NETWORK) if key in given}
        schedule = {key: given[key] for key in asdict(SCHEDULE) if key in given}
        return {
            "network": ModelConfig(**network),
            "schedule": TrainConfig(**schedule),
            "seeds": self.num_runs,
        }


Given = tyro.conf.OmitArgPrefixes[Flags]
DEFAULT = Flags()


@dataclass(frozen=True)
class Experiment:
    """One call of a script: its flags, and its folder in saved_models/."""

    flags: Flags
    files: Mapping[str, Path]
    more: Mapping[str, Any] = field(default_factory=dict)

    @property
    def config(self) -> dict[str, Any]:
        """All flags, for the results file."""
        files = {key: path.as_posix() for key, path in self.files.items()}
        flags = {**asdict(self.flags), "output": self.flags.output.as_posix()}
        return {**files, **self.more, **flags}

    @property
    def folder(self) -> Path:
        """The folder of the runs, named by a hash of flags and files so that others never mix."""
        same = {k: v for k, v in self.config.items() if k not in ("output", "jobs")}
        hashes = [_hash(path) for path in self.files.values()]
        text = json.dumps([same, hashes], sort_keys=True)
        short = hashlib.sha256(text.encode()).hexdigest()[:8]
        return SAVED / f"{self.flags.output.stem}-{short}"

    def load(self, name: str, **parts: str) -> Inputs:
        """Reads one corpus: ``part=flag`` names the flags of its files."""
        files = {part: self.files[flag] for part, flag in parts.items()}
        flags = self.flags
        how = Reading(flags.labels, flags.text_dim, flags.audio_dim, flags.allow)
        return load_inputs(files, self.folder / "features" / name, how)

    def make(self, planned: Planned) -> None:
        """Makes the runs that are not complete yet."""
        make_experiment(planned, self.folder, jobs=self.flags.jobs)

    def write(self, headline: str, parts: Mapping[str, str], **more: Any) -> None:
        """Writes the results JSON and prints the table."""
        path = self.flags.output
        say(text_table(write_results(path, self.folder, self.config, headline, parts, **more)))
        say(f"wrote {path}; runs and models: {self.folder}")


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "missing"

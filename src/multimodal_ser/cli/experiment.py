"""Subcommands train and experiment: plan a protocol's runs, make them, print the table.

The protocols' own options are defined by the classes in `experiments.protocols`. This module
adds what the command line needs: where features are read from, where and how runs are made.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from multimodal_ser.cli.app import app, command_line, say
from multimodal_ser.common.files import locked
from multimodal_ser.config.settings import Task
from multimodal_ser.corpora.utterance import GROUPS
from multimodal_ser.errors import SerError
from multimodal_ser.experiments import protocols, transfer
from multimodal_ser.experiments.protocols import TokenKind

if TYPE_CHECKING:
    from multimodal_ser.dataset.material import Material
    from multimodal_ser.experiments.plans import Experiment
    from multimodal_ser.splits.folds import Split


@dataclass(frozen=True, kw_only=True)
class CorpusOptions:
    """The options of every command that trains on features.

    Attributes:
        out: the experiment's folder, such as runs/emodb.
        labels: class set such as emodb7, or classes in the order that you want: angry,calm.
        allow: overlaps between parts to accept: speaker, session, dialogue, recording, fold; every
            result then states them.
        audio: which audio features, if there are several; none to use no audio.
        text: which text features, if there are several; none to use no text.
        standardize_speakers: standardise each speaker's sound by that speaker's own recordings,
            without labels, in the test set too. Every result says so; such runs cannot predict.
        forbid_emotion_trained: refuse features whose encoder was trained on emotion labels.
        jobs: processes that make runs in parallel; default: one per processor, or one on a GPU.
    """

    out: Path
    labels: str
    allow: tuple[str, ...] = ()
    audio: str | None = None
    text: str | None = None
    standardize_speakers: bool = False
    forbid_emotion_trained: bool = False
    jobs: int | None = None

    def load(
        self, features: Path, split: str, folds: int | None, tokens: str = "tokens", **how: Any
    ) -> tuple[Material, Split]:
        """Loads a corpus and its split, for a task; describes them on standard error."""
        from multimodal_ser.experiments.loading import load_domain

        return load_domain(
            features,
            self.labels,
            split,
            folds=folds,
            allow=self.allow,
            audio=self.audio,
            text=self.text,
            tokens=tokens,
            standardize_speakers=self.standardize_speakers,
            forbid_emotion_trained=self.forbid_emotion_trained,
            **how,
        )


@dataclass(frozen=True, kw_only=True)
class ExperimentCommand(CorpusOptions):
    """The options of every experiment.

    Attributes:
        engine: local, or ray for a cluster (docs/cluster.md); both give the same results.
        device: device for torch, such as cpu or cuda; with --tune-encoder also several, such as
            cuda:0,cuda:1.
        dry_run: only list the names of the runs.
        log: tensorboard or mlflow (extras of the same names): also write settings, epochs and
            scores for these tools.
    """

    engine: Literal["local", "ray"] = "local"
    device: str = "cpu"
    dry_run: bool = False
    log: Literal["tensorboard", "mlflow"] | None = None

    def planned(self) -> Iterator[tuple[Path, Experiment]]:
        """Yields each experiment's folder and plan, one or several."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class OneCorpus(CorpusOptions):
    """The options of commands that train on one corpus.

    Attributes:
        features: folder of one corpus's features.
        split: one that `ser list` shows, such as speaker, a split file, a JSON file that lists the
            speakers of train, dev and test, or a folder of EmoBox folds.
        folds: number of folds; default: leave one group out at a time.
    """

    features: Path
    split: str = "speaker"
    folds: int | None = None


@dataclass(frozen=True, kw_only=True)
class InDomainCommand(OneCorpus, ExperimentCommand, protocols.InDomain):
    """Trains and tests on one corpus: models, folds and seeds.

    Attributes:
        tokens: the features as sequences of tokens, or their means.
        task: what to predict for an utterance, or two at once (docs/tasks.md); --labels then names
            attributes, such as arousal,valence, or both: common4+arousal,valence.
        scale: smallest and largest value of the attributes, if the corpus does not define them.
    """

    tokens: TokenKind = "tokens"
    task: Task = "classes"
    scale: tuple[float, float] | None = None

    def planned(self) -> Iterator[tuple[Path, Experiment]]:
        """One experiment."""
        task = {"task": self.task, "scale": self.scale}
        material, split = self.load(self.features, self.split, self.folds, self.tokens, **task)
        yield self.out, self.plan(material, split)


@dataclass(frozen=True, kw_only=True)
class Train(InDomainCommand):
    """The options of `ser train`: `ser experiment in-domain` with the recommended model.

    Attributes:
        models: models that `ser list` shows, or one of your own (docs/models.md); stacked is
            recommended.
        baselines: baselines in the same table; they are deterministic and run once.
    """

    models: Annotated[tuple[str, ...], tyro.conf.arg(name="model")] = ("stacked",)
    baselines: tuple[str, ...] = ("linear", "svm")

    def systems(self, material: Material) -> tuple[str, ...]:
        """Returns the models, then the baselines, each once."""
        return tuple(dict.fromkeys((*self.models, *self.baselines)))


@dataclass(frozen=True, kw_only=True)
class AblationCommand(OneCorpus, ExperimentCommand, protocols.Ablation):
    """Compares all models on the same folds and seeds, with tokens and with pooled vectors."""

    def planned(self) -> Iterator[tuple[Path, Experiment]]:
        """One experiment."""
        yield self.out, self.plan(*self.load(self.features, self.split, self.folds))


@dataclass(frozen=True, kw_only=True)
class CombinedCommand(ExperimentCommand, protocols.Combined):
    """Trains on several corpora together, sampling each equally often.

    Attributes:
        features: folders of the corpora's features.
        split: one for all corpora, or one per corpus.
        folds: number of folds, the same for all that are split by speaker, session or dialogue.
        tokens: the features as sequences of tokens, or their means.
    """

    features: tuple[Path, ...]
    split: tuple[str, ...] = ("speaker",)
    folds: int = 5
    tokens: TokenKind = "tokens"

    def planned(self) -> Iterator[tuple[Path, Experiment]]:
        """One experiment."""
        splits = self.split * len(self.features) if len(self.split) == 1 else self.split
        if len(splits) != len(self.features):
            raise SerError(
                f"{len(self.features)} corpora and {len(splits)} splits; give one split for all, "
                "or one per corpus"
            )
        domains = [
            # classes that all corpora lack are reported when they are merged
            self.load(path, split, self.folds if split in GROUPS else None, self.tokens, learnt=0)
            for path, split in zip(self.features, splits, strict=True)
        ]
        yield self.out, self.plan(domains, self.allow)


@dataclass(frozen=True, kw_only=True)
class TransferCommand(ExperimentCommand, transfer.Transfer):
    """Options of experiments that transfer from a source corpus to a target corpus.

    Attributes:
        source: features folder of the corpus to train on.
        target: features folder of the corpus to test on.
        features: instead of source and target, two corpora or more: every pair, in both directions,
            each in a folder of its own within `out`.
        source_split: split of the source; models are trained on its first fold.
        target_split: split of the target; all its folds are tested.
        source_folds: number of folds of the source's split.
        target_folds: number of folds of the target's split.
        tokens: the features as sequences of tokens, or their means.
    """

    source: Path | None = None
    target: Path | None = None
    features: tuple[Path, ...] = ()
    source_split: str = "speaker"
    target_split: str = "speaker"
    source_folds: int | None = None
    target_folds: int | None = None
    tokens: TokenKind = "tokens"

    def planned(self) -> Iterator[tuple[Path, Experiment]]:
        """Yields one experiment per pair."""
        # an adaptation reads no labels of the target
        learnt = 0 if isinstance(self, transfer.Adaptation) else None
        for out, source, target in self.pairs():
            of_source = source, self.source_split, self.source_folds, self.tokens
            of_target = target, self.target_split, self.target_folds, self.tokens
            yield (
                out,
                self.plan(*self.load(*of_source, learnt=1), *self.load(*of_target, learnt=learnt)),
            )

    def pairs(self) -> Iterator[tuple[Path, Path, Path]]:
        """Yields each pair's output folder, source and target."""
        alone = self.source or self.target
        if self.source and self.target and not self.features:
            yield self.out, self.source, self.target
        elif len({one.name for one in self.features}) == len(self.features) > 1 and not alone:
            for source, target in itertools.permutations(self.features, 2):
                yield self.out / f"{source.name}-to-{target.name}", source, target
        else:
            raise SerError(
                "give --source and --target together, or two corpora or more, in folders of "
                "different names, with --features for every pair, both ways"
            )


@dataclass(frozen=True, kw_only=True)
class AdaptationCommand(transfer.Adaptation, TransferCommand):
    """Adapts from a source corpus with labels to a target corpus without labels."""


@dataclass(frozen=True, kw_only=True)
class FinetuneCommand(transfer.Finetune, TransferCommand):
    """Fine-tunes a source's model on the target; also trains the same network from scratch."""


@dataclass(frozen=True, kw_only=True)
class FewshotCommand(transfer.Fewshot, TransferCommand):
    """Fine-tunes a source's model on a few labelled utterances of the target."""


Command = (
    Annotated[InDomainCommand, tyro.conf.subcommand("in-domain")]
    | Annotated[AblationCommand, tyro.conf.subcommand("ablation")]
    | Annotated[AdaptationCommand, tyro.conf.subcommand("adaptation")]
    | Annotated[CombinedCommand, tyro.conf.subcommand("combined")]
    | Annotated[FinetuneCommand, tyro.conf.subcommand("finetune")]
    | Annotated[FewshotCommand, tyro.conf.subcommand("fewshot")]
)


@app.command(name="experiment")
def experiment_command(name: Annotated[Command, tyro.conf.arg(name="")]) -> None:
    """Makes an experiment's runs and prints its table.

    Complete runs are kept; rerun the same command to resume.

    Args:
        name: which protocol.
    """
    for out, runs in make_experiments(name):
        say(f"{out}\n\n{_table(out, runs)}")


def make_experiments(command: ExperimentCommand) -> Iterator[tuple[Path, list[Path]]]:
    """Makes the runs of each experiment and yields its folder and theirs."""
    from multimodal_ser.experiments.running import make_experiment
    from multimodal_ser.runs.tracking import track

    for out, experiment in command.planned():
        runs = [out / name for name in experiment.names]
        if command.dry_run:
            say("\n".join(map(str, runs)))
            continue
        settings = {"engine": command.engine, "device": command.device, "command": command_line()}
        with locked(out):
            make_experiment(experiment, out, jobs=command.jobs, **settings)
        if command.log:
            say(f"to see the runs: {track(command.log, runs, out)}")
        yield out, runs


def _table(out: Path, runs: Sequence[Path]) -> str:
    from multimodal_ser.report import text_tables
    from multimodal_ser.runs.model_file import layer_lines

    return "\n".join([text_tables(out), *layer_lines(runs)])


@app.command(name="train")
def train_command(name: Annotated[Train, tyro.conf.arg(name="")]) -> None:
    """Trains models on every fold with every seed, and baselines; prints the table.

    Complete runs are kept: rerun the same command to resume.

    Args:
        name: what to train.
    """
    for out, runs in make_experiments(name):
        say(_table(out, runs))

"""Subcommands tune and explain: hyperparameter search, and what predictions are based on."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from multimodal_ser.cli.app import File, app, say
from multimodal_ser.cli.experiment import OneCorpus
from multimodal_ser.common.files import locked, write_file
from multimodal_ser.config.settings import ModelConfig, TrainConfig

if TYPE_CHECKING:
    from multimodal_ser.experiments.explain import Explanation

_SHOWN = 5  # features of each modality in the table


@dataclass(frozen=True, kw_only=True)
class Tune(OneCorpus):
    """The options of `ser tune`.

    Attributes:
        model: a network that `ser list` shows; default: the recommended one for the features.
        trials: settings tried per fold; the recommended ones are tried first.
        minutes: total time after which no new trial is started.
        seeds: number of seeds of the networks that are tested.
        device: device for torch, such as cpu or cuda.
        network: network settings of the first trial; those that are not searched keep their value.
        schedule: the same for the training settings.
    """

    model: str | None = None
    trials: int = 20
    minutes: float | None = None
    seeds: int = 3
    device: str = "cpu"
    network: ModelConfig = field(default_factory=ModelConfig)
    schedule: TrainConfig = field(default_factory=TrainConfig)


@app.command(name="tune")
def tune_command(name: Annotated[Tune, tyro.conf.arg(name="")]) -> None:
    """Tunes a network's hyperparameters with Optuna, per fold, on validation parts; then tests it.

    The table shows the tuned settings next to the recommended ones, over the same folds and seeds.
    Rerun the same command to resume. Needs the extra tune.

    Args:
        name: what to tune.
    """
    from multimodal_ser.experiments.tuning import TuningBudget, tune_hyperparameters
    from multimodal_ser.report import text_table, write_report

    material, split = name.load(name.features, name.split, name.folds)
    budget = TuningBudget(name.trials, name.minutes, name.seeds, name.jobs, name.device)
    knobs = name.network, name.schedule
    with locked(name.out):
        summary = tune_hyperparameters(material, split, name.out, budget, name.model, *knobs)
    say(text_table(summary))
    say(f"page: {write_report(summary, name.out / 'report')}")
    say(f"what was chosen: {name.out / 'chosen.json'}")


@app.command(name="explain")
def explain_command(
    run: File, /, features: Path, labels: str | None = None, seed: int = 0, out: Path | None = None
) -> None:
    """Shows which modality, which moments and which features a run's predictions are based on.

    Each one is removed from the run's test rows, and the true class's loss of log probability is
    printed, in nats; then how far attention departs from uniform. Both are compared with a network
    whose weights were shuffled: if the two are similar, the numbers say nothing about what was
    learned.

    Args:
        run: a run folder over features.
        features: the features folder that the run was trained on.
        labels: class set; default: the run's own.
        seed: of the random permutation of utterances.
        out: file for all numbers, as JSON.
    """
    from multimodal_ser.corpora.labels import class_set
    from multimodal_ser.experiments.explain import explain as explained

    found = explained(run, features, class_set(labels) if labels else None, seed)
    for line in _lines(found):
        say(line)
    if out is not None:
        write_file(out, json.dumps(asdict(found), indent=1) + "\n")


def _shown(loss: float | None) -> str:
    return "–" if loss is None else f"{loss:.3f}"


def _lines(found: Explanation) -> list[str]:
    lines = [f"{found.utterances} test utterances; what the true class loses, in nats"]
    for modality, losses in found.modalities.items():
        numbers = ", ".join(f"{what} {_shown(loss)}" for what, loss in losses.items())
        lines.append(f"{modality}: {numbers}")
        if losses["hidden"] is None:
            lines.append(f"  –: the network gives no finite outputs without {modality}")
        if modality in found.moments:
            shares = " ".join(map(_shown, found.moments[modality]))
            lines.append(f"  without a fifth of its tokens, first to last: {shares}")
        best = list(found.features[modality].items())[:_SHOWN]
        lines.append("  features: " + ", ".join(f"{name} {_shown(loss)}" for name, loss in best))
    # Adebayo et al. (2018), "Sanity checks for saliency maps": an explanation that survives random
    # weights shows the data and not what the model has learned
    lines.append(f"correlation with a network of shuffled weights: {found.likeness:.2f}")
    if found.attention:
        lines.append("attention to each fifth (and the learnt key), where 1 is uniform attention")
        for name, rows in found.attention.items():
            means = [sum(column) / len(rows) for column in zip(*rows, strict=True)]
            lines.append(f"  {name}: " + " ".join(f"{mean:.2f}" for mean in means))
        lines.append(f"its correlation with shuffled weights: {found.attention_likeness:.2f}")
    return lines

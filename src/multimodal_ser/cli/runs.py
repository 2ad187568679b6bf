"""Subcommands about runs: train, demo."""

from __future__ import annotations

from pathlib import Path

from multimodal_ser.cli.app import app, say
from multimodal_ser.config import ModelConfig, TrainConfig, TuneConfig


@app.command
def train(
    features: Path,
    labels: str,
    split: str,
    out: Path,
    model: tuple[str, ...] = ("stacked",),
    baselines: tuple[str, ...] = ("linear", "svm"),
    seeds: int = 5,
    folds: int | None = None,
    allow: tuple[str, ...] = (),
    audio: str | None = None,
    text: str | None = None,
    jobs: int | None = None,
    device: str = "cpu",
    tune_encoder: bool = False,
    forbid_emotion_trained: bool = False,
    network: ModelConfig = ModelConfig(),  # noqa: B008 - frozen
    schedule: TrainConfig = TrainConfig(),  # noqa: B008 - frozen
    tune: TuneConfig = TuneConfig(),  # noqa: B008 - frozen
) -> None:
    """Trains models on every fold with every seed, the baselines beside them, and prints the table.

    Complete runs are kept: the same command goes on where it was.

    Args:
        features: folder of one corpus's features.
        labels: class set such as emodb7, or your own as a comma list in its order.
        split: speaker, session, dialogue, official, iemocap-original, cremad-original, a split
            file, or a folder of EmoBox folds.
        out: the experiment's folder, such as runs/emodb.
        model: stacked (recommended), text, audio, concat, cross_attention, or one of your own
            (docs/models.md).
        baselines: linear, svm: they stand in every table.
        seeds: how many; the baselines draw nothing at random and run once.
        folds: number of folds; one group is left out at a time where not given.
        allow: overlaps to accept, which every result then states.
        audio: which audio features, where there are several; none for none.
        text: which text features; none for none.
        jobs: processes that make runs side by side; one a processor, or one on a GPU, where not
            given.
        device: where torch trains the networks, such as cpu or cuda.
        tune_encoder: fine-tune the audio encoder with a head of its own, as one more model.
        forbid_emotion_trained: refuse features whose encoder saw emotion labels.
        network: the network's knobs.
        schedule: the training's knobs.
        tune: the fine-tuning's knobs.
    """
    from multimodal_ser.experiments import train_table

    table = train_table(
        features=features,
        labels=labels,
        split=split,
        out=out,
        models=(*model, *(name for name in baselines if name not in model)),
        seeds=seeds,
        folds=folds,
        allow=allow,
        audio=audio,
        text=text,
        network=network,
        schedule=schedule,
        jobs=jobs,
        device=device,
        tune=tune if tune_encoder else None,
        forbid_emotion_trained=forbid_emotion_trained,
    )
    say(table)


@app.command
def demo(out: Path = Path("demo"), seeds: int = 1, open_page: bool = False) -> None:
    """Trains and evaluates on the features that are shipped: EmoDB, one speaker out at a time.

    Args:
        out: where runs and report go.
        seeds: of the network.
        open_page: show the report in a browser.
    """
    from multimodal_ser.experiments import demo as run_demo

    page, table = run_demo(out, seeds)
    say(table)
    say(f"report: {page}")
    if open_page:
        import webbrowser

        webbrowser.open(page.absolute().as_uri())

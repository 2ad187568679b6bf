"""run folders → TensorBoard or MLflow: settings, every epoch, scores. Only on request.

Everything that is written is in the run folders already; these are views of them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from multimodal_ser.common.files import parse_json
from multimodal_ser.config.record import dotted
from multimodal_ser.errors import SerError, to_install
from multimodal_ser.runs.folder import CONFIG, PREDICTIONS

_LONGEST = 500  # characters of a value: the limit of MLflow


def track(kind: str, folders: Sequence[Path], out: Path) -> str:
    """Writes runs for a viewer; runs that it already has are left unchanged.

    Args:
        kind: ``tensorboard`` or ``mlflow``.
        folders: complete run folders.
        out: the experiment's folder.

    Returns:
        The command that shows them.

    Raises:
        SerError: the viewer's package is not installed.
    """
    try:
        return TRACKERS[kind](folders, out)
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in TRACKERS:
            raise
        raise SerError(f"--log {kind} needs an extra: {to_install(kind)}") from error


def _tensorboard(folders: Sequence[Path], out: Path) -> str:
    import tensorboard  # noqa: F401 - its absence is reported here; torch's message has no remedy
    from torch.utils.tensorboard import SummaryWriter

    to = out / "tensorboard"
    for folder in folders:
        if (to / folder.name).is_dir():
            continue
        with SummaryWriter(str(to / folder.name)) as writer:
            rows = "\n".join(f"| {name} | {value} |" for name, value in _settings(folder).items())
            writer.add_text("settings", f"| setting | value |\n|---|---|\n{rows}")
            for name, value, epoch in _numbers(folder):
                writer.add_scalar(name, value, epoch)
    return f"tensorboard --logdir {to}"


def _mlflow(folders: Sequence[Path], out: Path) -> str:
    import mlflow

    place = f"sqlite:///{(out / 'mlflow.db').resolve()}"
    mlflow.set_tracking_uri(os.environ.get("MLFLOW_TRACKING_URI", place))
    experiment = mlflow.set_experiment(out.resolve().name)
    known = mlflow.search_runs([experiment.experiment_id], output_format="list")
    there = {run.info.run_name for run in known}
    for folder in folders:
        if folder.name in there:
            continue
        with mlflow.start_run(run_name=folder.name):
            mlflow.log_params(_settings(folder))
            for name, value, epoch in _numbers(folder):
                mlflow.log_metric(name, value, step=epoch)
            mlflow.set_tag("predictions", str((folder / PREDICTIONS).resolve()))
    return f"mlflow ui --backend-store-uri {mlflow.get_tracking_uri()}"


TRACKERS: dict[str, Callable[[Sequence[Path], Path], str]] = {
    "tensorboard": _tensorboard,
    "mlflow": _mlflow,
}


def _settings(folder: Path) -> dict[str, str]:
    """The config of a run, with its levels joined by dots."""
    config = dotted(parse_json((folder / CONFIG).read_text("utf-8")))
    return {name: str(value)[:_LONGEST] for name, value in config.items()}


def _numbers(folder: Path) -> Iterator[tuple[str, float, int]]:
    """Name, value and epoch of every number of a run: per epoch, then the scores of its parts."""
    epochs = 0
    for line in (folder / "history.jsonl").read_text("utf-8").splitlines():
        row = parse_json(line)
        epochs = int(row.pop("epoch", epochs))
        yield from ((name, float(value), epochs) for name, value in row.items() if _is(value))
    for part, scores in parse_json((folder / "metrics.json").read_text("utf-8")).items():
        yield from (
            (f"{part}/{name}", float(value), epochs) for name, value in scores.items() if _is(value)
        )


def _is(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)

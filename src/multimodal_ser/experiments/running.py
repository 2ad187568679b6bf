"""Plans → run folders, several at a time.

A complete run is not made again: rerun the same command to resume an interrupted experiment. Runs
of outdated data are set aside first, see `outdated`.
"""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch.multiprocessing
from rich.console import Console
from rich.progress import Progress

from multimodal_ser.common.cluster import run_on_ray
from multimodal_ser.common.devices import CPU, check_device, is_gpu
from multimodal_ser.common.files import write_file
from multimodal_ser.dataset.material import Material
from multimodal_ser.errors import SerError, one_of
from multimodal_ser.evaluation.metrics import check_scores
from multimodal_ser.experiments.failures import Failure, raise_failures, sendable, try_run
from multimodal_ser.experiments.fitting import RunContext
from multimodal_ser.experiments.outdated import set_aside
from multimodal_ser.experiments.plans import Experiment, Plan, Stage
from multimodal_ser.features.chunks import ENGINES
from multimodal_ser.runs.folder import is_complete, read_description
from multimodal_ser.splits.folds import write_split

# Set once per worker process: plans are then sent to it without the data.
_worker: dict[str, RunContext] = {}
_log = logging.getLogger(__name__)


def make_experiment(
    experiment: Experiment,
    out: Path,
    *,
    jobs: int | None = None,
    engine: str = "local",
    device: str = CPU,
    command: str | None = None,
) -> list[Path]:
    """Makes an experiment's runs that are not complete yet, with one progress display.

    With several jobs, each process first runs the calling script, with another ``__name__``: call
    this behind ``if __name__ == "__main__":``, and what need not be done in each process, too.

    Args:
        experiment: what to make.
        out: its folder; `experiment.json` is written there first.
        jobs: number of processes, see `run_all`.
        engine: where the processes run, see `run_all`.
        device: where torch trains, see `run_all`.
        command: the command line of the experiment, for the report.

    Returns:
        The run folders of the protocol; models that they start from are in the same place.

    Raises:
        SerError: the folder holds the runs of another protocol, or there is no such device or
            engine.
        Exception: that of the first run that failed, after all others have been made.
    """
    _check_devices(experiment, device)
    for count in {item.config.labels.count for item in experiment.plans} - {0}:
        check_scores(count)
    _write_description(experiment, out, command)
    set_aside(out, [item.config for item in experiment.plans])
    for name, split in experiment.splits.items():
        write_split(split, out / f"{name}.json")
    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(experiment.protocol, total=len(experiment.plans))
        failures = _make_stages(
            experiment.stages, out, jobs, engine, device, lambda folder: bar.advance(task)
        )
    raise_failures(failures, len(experiment.plans))
    own = [one for one in experiment.plans if one.config.protocol == experiment.protocol]
    return [out / one.config.folder for one in own]


def _check_devices(experiment: Experiment, device: str) -> None:
    devices = device.split(",")
    for name in devices:
        check_device(name)
    if len(devices) > 1 and not any(item.config.train.tune for item in experiment.plans):
        raise SerError(f"--device {device}: several devices are for --tune-encoder; give one")


def _write_description(experiment: Experiment, out: Path, command: str | None) -> None:
    path = out / "experiment.json"
    described: dict[str, Any] = {
        "protocol": experiment.protocol,
        "arguments": dict(experiment.arguments),
    }
    for other, own in zip(_kinds(read_description(out)), _kinds(described), strict=True):
        if other and other != own:
            raise SerError(
                f"{out} holds the runs of {other!r}, which cannot be in one table with those of "
                f"{own!r}; give another --out"
            )
    out.mkdir(parents=True, exist_ok=True)
    if command:
        described["command"] = command
    write_file(path, json.dumps(described, indent=1, ensure_ascii=False) + "\n")


def _kinds(described: Mapping[str, Any]) -> tuple[str, str]:
    """The protocol and the tested corpora of an experiment; empty if they are not known."""
    arguments = described.get("arguments", {})
    tested = arguments.get("target", arguments).get("corpora", ())
    return described.get("protocol", ""), " + ".join(tested)


def run_all(
    plans: Sequence[Plan],
    material: Material,
    out: Path,
    *,
    source: Material | None = None,
    jobs: int | None = None,
    engine: str = "local",
    device: str = CPU,
    on_run: Callable[[Path], None] = lambda folder: None,
) -> list[Path]:
    """Makes every run that is not complete yet; returns the run folders in the plans' order.

    On the CPU a run computes on one thread, so its result does not depend on how many runs are made
    at the same time: by default one per processor, or a single one on a GPU. On a Ray cluster,
    whose nodes have `out` under the same path, the cluster decides that, not `jobs`. Plans with a
    source fold learn from `source`, and `material` is then the target. Of several devices, as in
    ``cuda:0,cuda:1``, each takes its share of every batch when an encoder is fine-tuned; baselines
    are fitted on the CPU. `on_run` gets the folder of each run, also if it was already complete.

    Raises:
        Exception: that of the first run that failed, after all others have been made.
    """
    stage = Stage(tuple(plans), material, source)
    raise_failures(_make_stages([stage], out, jobs, engine, device, on_run), len(plans))
    return [out / item.config.folder for item in plans]


def _make_stages(
    stages: Sequence[Stage],
    out: Path,
    jobs: int | None,
    engine: str,
    device: str,
    on_run: Callable[[Path], Any],
) -> list[Failure]:
    """Makes the runs of all stages; returns those that failed, each of which is logged at once.

    The failure of a single run is not logged, because its error is raised right after.
    """
    if engine not in ENGINES:
        raise SerError(one_of("engine", engine, ENGINES))
    out.mkdir(parents=True, exist_ok=True)
    alone = sum(len(stage.plans) for stage in stages) == 1
    failures: list[Failure] = []
    # Runs that failed, and those that start from one of them and therefore cannot be made.
    lost: set[str | None] = set()
    for stage in stages:
        lost |= {one.config.folder for one in stage.plans if one.start in lost}
        ready = [one for one in stage.plans if one.config.folder not in lost]
        context = RunContext(stage.material, stage.source, out.resolve(), tuple(device.split(",")))
        for made in _make_runs(ready, context, engine, jobs):
            if not isinstance(made, Failure):
                on_run(made)
                continue
            failures.append(made)
            lost.add(made.run)
            if not alone:
                reason = (str(made.error).strip().splitlines() or [type(made.error).__name__])[0]
                _log.error("%s failed (%s); the other runs continue", made.run, reason)
    return failures


def _make_runs(
    plans: Sequence[Plan], context: RunContext, engine: str, jobs: int | None
) -> Iterator[Path | Failure]:
    """Yields the folders of complete runs, then those of the others as they are made."""
    # Complete folders are results: rerunning the command makes only what is missing.
    complete = {item.config.folder: is_complete(context.out / item.config.folder) for item in plans}
    yield from (context.out / folder for folder, there in complete.items() if there)
    todo = [item for item in plans if not complete[item.config.folder]]
    on_gpu = is_gpu(context.device)
    if engine == "ray":
        yield from run_on_ray(try_run, context, todo, gpus=len(context.devices) * on_gpu)
        return
    single = on_gpu or len(context.devices) > 1
    jobs = min(jobs or (1 if single else os.cpu_count() or 1), len(todo))
    # A single job stays in this process: no start of a worker, and errors keep their traceback.
    if jobs <= 1:
        yield from (try_run(context, item) for item in todo)
        return
    # torch's multiprocessing shares tensors between processes instead of copying them.
    processes = _processes(context.device)
    with ProcessPoolExecutor(jobs, processes, _start_worker, (context,)) as pool:
        yield from pool.map(_make_in_worker, todo)


def _processes(device: str) -> Any:
    """How worker processes are started.

    They are not forked from this process, since a copy of a process with threads (OpenMP, CUDA) can
    deadlock. On Linux they are forked from one that has done their imports, which take seconds, and
    nothing else. Elsewhere, and for a GPU, which an import might start, each does its own.
    """
    if sys.platform != "linux" or device != CPU:
        return torch.multiprocessing.get_context("spawn")
    processes = torch.multiprocessing.get_context("forkserver")
    # torch._dynamo is imported by the first optimiser of a process.
    processes.set_forkserver_preload([__name__, "torch._dynamo"])
    return processes


def _start_worker(context: RunContext) -> None:
    _worker["this"] = context
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Ends a worker whose parent was killed: nobody else would stop it or use its results."""
    if parent := multiprocessing.parent_process():
        parent.join()
        os._exit(1)


def _make_in_worker(item: Plan) -> Path | Failure:
    made = try_run(_worker["this"], item)
    return sendable(made) if isinstance(made, Failure) else made

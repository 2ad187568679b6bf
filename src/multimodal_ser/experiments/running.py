"""Plans → run folders, several at a time.

A complete run is not made again: rerun the same command to resume an interrupted experiment.
"""

from __future__ import annotations

import json
import multiprocessing
import os
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
from multimodal_ser.common.files import written_aside
from multimodal_ser.dataset.material import Material
from multimodal_ser.errors import SerError, one_of
from multimodal_ser.experiments.fitting import RunContext, make_run
from multimodal_ser.experiments.outdated import set_aside
from multimodal_ser.experiments.plans import Experiment, Plan
from multimodal_ser.features.chunks import ENGINES
from multimodal_ser.runs.folder import is_complete, read_description
from multimodal_ser.splits.folds import write_split


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

    The folder's `experiment.json` is written first, with the command for the report. The other
    options are those of `run_all`.

    Returns:
        The run folders of the protocol; models that they start from are in the same place.

    Raises:
        SerError: the folder holds the runs of another protocol, or there is no such device or
            engine.
    """
    _check_devices(experiment, device)
    _write_description(experiment, out, command)
    set_aside(out, [item.config for item in experiment.plans])
    for name, split in experiment.splits.items():
        write_split(split, out / f"{name}.json")
    folders = []
    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(experiment.protocol, total=len(experiment.plans))
        for stage in experiment.stages:
            made = run_all(
                stage.plans,
                stage.material,
                out,
                source=stage.source,
                jobs=jobs,
                engine=engine,
                device=device,
                on_run=lambda folder: bar.advance(task),
            )
            wanted = [item.config.protocol == experiment.protocol for item in stage.plans]
            folders += [folder for folder, own in zip(made, wanted, strict=True) if own]
    return folders


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
    with written_aside(path) as partial:
        partial.write_text(json.dumps(described, indent=1, ensure_ascii=False) + "\n", "utf-8")


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
    """Makes every run that is not complete yet.

    On the CPU a run computes on one thread, so its result does not depend on how many runs are made
    at the same time.

    Args:
        plans: from `plan_runs` or an experiment.
        material: the corpus that they were planned from; the target, if there is a source.
        out: the experiment's folder.
        source: the corpus that plans with a source fold learn from.
        jobs: number of processes that make runs side by side; by default one per processor, or a
            single one on a GPU.
        engine: ``local`` for processes of this machine; ``ray`` for a Ray cluster whose nodes have
            the experiment's folder under the same path, where the cluster and not `jobs` decides
            how many runs are made at a time.
        device: where torch trains the networks, such as ``cpu`` or ``cuda``; the baselines are
            fitted on the CPU. Of several, as in ``cuda:0,cuda:1``, each takes its share of every
            batch when an encoder is fine-tuned.
        on_run: called with the folder of each run, also if it was already complete.

    Returns:
        The run folders, in the order of the plans.
    """
    out.mkdir(parents=True, exist_ok=True)
    folders = [out / item.config.folder for item in plans]
    # Complete folders are results: rerunning the command makes only what is missing.
    todo = [item for item, folder in zip(plans, folders, strict=True) if not is_complete(folder)]
    for folder in filter(is_complete, folders):
        on_run(folder)
    if engine not in ENGINES:
        raise SerError(one_of("engine", engine, ENGINES))
    context = RunContext(material, source, out.resolve(), tuple(device.split(",")))
    if engine == "ray":
        made = run_on_ray(make_run, context, todo, gpus=len(context.devices) * is_gpu(device))
    else:
        alone = is_gpu(device) or len(context.devices) > 1
        made = _make_runs(todo, context, jobs or (1 if alone else os.cpu_count() or 1))
    for folder in made:
        on_run(folder)
    return folders


def _make_runs(todo: Sequence[Plan], context: RunContext, jobs: int) -> Iterator[Path]:
    # A single job stays in this process: no start of a worker, and errors keep their traceback.
    if min(jobs, len(todo)) <= 1:
        yield from (make_run(context, item) for item in todo)
        return
    # torch's multiprocessing shares tensors between processes instead of copying them. Processes
    # are spawned, since a forked copy of a process with threads (OpenMP, CUDA) can deadlock.
    processes = torch.multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(jobs, len(todo)), processes, _start_worker, (context,)) as pool:
        yield from pool.map(_make_in_worker, todo)


_worker: dict[str, RunContext] = {}  # set once per worker process, so that each plan travels alone


def _start_worker(context: RunContext) -> None:
    _worker["this"] = context
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Ends a worker whose parent was killed: nobody else would stop it or use its results."""
    if parent := multiprocessing.parent_process():
        parent.join()
        os._exit(1)


def _make_in_worker(item: Plan) -> Path:
    return make_run(_worker["this"], item)

"""Plans → run folders, several at a time.

A run that is complete is not made again, so an interrupted experiment goes on where it was.
"""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch.multiprocessing
from rich.console import Console
from rich.progress import Progress

from multimodal_ser.cluster import run_on_ray
from multimodal_ser.devices import CPU, check_device, is_gpu
from multimodal_ser.errors import SerError, one_of
from multimodal_ser.experiments.bundle import Bench, make_bundle
from multimodal_ser.experiments.memory import most_together
from multimodal_ser.experiments.plans import Experiment, Plan
from multimodal_ser.features.engines import ENGINES
from multimodal_ser.files import written_aside
from multimodal_ser.folds import write_split
from multimodal_ser.material import Material
from multimodal_ser.models import MODELS
from multimodal_ser.runs import is_complete

WAITING = 0.1  # share of its steps at most that a run waits for others of its bundle


def make(
    experiment: Experiment,
    out: Path,
    *,
    jobs: int | None = None,
    engine: str = "local",
    device: str = CPU,
    together: int | None = None,
    command: str | None = None,
) -> list[Path]:
    """Makes an experiment's runs that are not complete yet, with one progress display.

    Args:
        experiment: what to make.
        out: its folder; `experiment.json` is written there first.
        jobs: processes that make runs side by side, see `run_all`.
        engine: where they run, see `run_all`.
        device: where torch trains, see `run_all`.
        together: runs at most that are trained as one computation, see `run_all`.
        command: the command that asked for it, for the report.

    Returns:
        The protocol's run folders; models that they only start from lie beside them.

    Raises:
        SerError: the folder holds another protocol's runs, or there is no such device or engine.
    """
    check_device(device)
    _write_description(experiment, out, command)
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
                together=together,
                on_run=lambda folder: bar.advance(task),
            )
            wanted = [item.config.protocol == experiment.protocol for item in stage.plans]
            folders += [folder for folder, own in zip(made, wanted, strict=True) if own]
    return folders


def _write_description(experiment: Experiment, out: Path, command: str | None) -> None:
    path = out / "experiment.json"
    if path.is_file():
        other = json.loads(path.read_text(encoding="utf-8")).get("protocol")
        if other != experiment.protocol:
            raise SerError(
                f"{out} holds the runs of {other!r}, and one table cannot show them beside those "
                f"of {experiment.protocol!r}; give another --out"
            )
    out.mkdir(parents=True, exist_ok=True)
    described = {"protocol": experiment.protocol, "arguments": dict(experiment.arguments)}
    if command:
        described["command"] = command
    with written_aside(path) as partial:
        partial.write_text(json.dumps(described, indent=1, ensure_ascii=False) + "\n", "utf-8")


def run_all(
    plans: Sequence[Plan],
    material: Material,
    out: Path,
    *,
    source: Material | None = None,
    jobs: int | None = None,
    engine: str = "local",
    device: str = CPU,
    together: int | None = None,
    on_run: Callable[[Path], None] = lambda folder: None,
) -> list[Path]:
    """Makes every run that is not complete yet.

    On the CPU a run computes on one thread, so its result does not depend on how many are made at a
    time.

    Args:
        plans: from `plan` or an experiment.
        material: what they were planned from; the target, where there is a source.
        out: the experiment's folder.
        source: what plans with a source fold learn from.
        jobs: processes that make runs side by side; None for one a processor, and for one on a
            GPU.
        engine: ``local`` for processes of this machine, ``ray`` for a Ray cluster whose nodes
            see the experiment's folder under the same path; there, None for `jobs` makes every
            run by itself.
        device: where torch trains the networks, such as ``cpu`` or ``cuda``; the baselines are
            fitted on the CPU.
        together: runs at most that are trained as one computation; 1 is one by one; None is as
            many as `most_together` says. Never more than fit into the memory.
        on_run: called with each run's folder, also when it was complete already.

    Returns:
        The run folders, in the plans' order.
    """
    out.mkdir(parents=True, exist_ok=True)
    folders = [out / item.config.folder for item in plans]
    todo = [item for item, folder in zip(plans, folders, strict=True) if not is_complete(folder)]
    for folder in filter(is_complete, folders):
        on_run(folder)
    if engine not in ENGINES:
        raise SerError(one_of("engine", engine, ENGINES))
    bench = Bench(material, source, out.resolve(), device)
    beside = jobs or (1 if is_gpu(device) else os.cpu_count() or 1)

    def most(item: Plan) -> int:
        return most_together(bench, item, beside, together)

    if engine == "ray":
        work = bundles(todo, jobs or len(todo), most)
        made = run_on_ray(make_bundle, bench, work, gpus=int(is_gpu(device)))
    else:
        made = _made(bundles(todo, beside, most), bench, beside)
    for done in made:
        for folder in done:
            on_run(folder)
    return folders


def _made(work: Sequence[Sequence[Plan]], bench: Bench, jobs: int) -> Iterator[list[Path]]:
    if min(jobs, len(work)) <= 1:
        yield from (make_bundle(bench, bundle) for bundle in work)
        return
    # torch's reducer shares the features between the processes instead of copying them
    context = torch.multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(jobs, len(work)), context, _work_on, (bench,)) as pool:
        yield from pool.map(_make_in_worker, work)


_worker: dict[str, Bench] = {}  # what a worker process works on


def _work_on(bench: Bench) -> None:
    _worker["this"] = bench
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A killed parent cannot stop its workers, and nobody would take up what they compute."""
    if parent := multiprocessing.parent_process():
        parent.join()
        os._exit(1)


def _make_in_worker(bundle: Sequence[Plan]) -> list[Path]:
    return make_bundle(_worker["this"], bundle)


def bundles(plans: Sequence[Plan], jobs: int, most: Callable[[Plan], int]) -> list[list[Plan]]:
    """Puts runs together that `train.fit_all` can train as one; the others stay alone.

    Together are networks of one kind, size and schedule, whose epochs have about as many steps:
    a run that has fewer waits for the rest. There are as many bundles as processes at least.

    Args:
        plans: of the runs.
        jobs: processes.
        most: how many runs like this one may stand in a bundle.
    """
    alike: dict[object, list[Plan]] = {}
    longest: dict[str, int] = {}
    for item in sorted(plans, key=_steps, reverse=True):
        shape = _shape(item)
        if shape is None:
            alike[item.config.folder] = [item]
            continue
        if _steps(item) < (1 - WAITING) * longest.get(shape, 0) or shape not in longest:
            longest[shape] = _steps(item)
        alike.setdefault((shape, longest[shape]), []).append(item)
    made = []
    for group in alike.values():
        count = max(math.ceil(len(group) / most(group[0])), min(jobs, len(group)))
        made += [group[place::count] for place in range(count)]
    return made


def _shape(item: Plan) -> str | None:
    """What networks that are trained together have in common; None for what has no network."""
    train = {key: value for key, value in item.config.train.items() if key != "few"}
    if item.config.model not in MODELS or train.get("parts") == "none":
        return None
    return json.dumps([item.config.model, train])


def _steps(item: Plan) -> int:
    rows = len((item.source_fold or item.fold).train)
    size: int = item.config.train.get("batch_size", 1)
    return math.ceil(rows / size)

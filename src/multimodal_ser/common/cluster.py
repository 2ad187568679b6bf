"""Applies one function to many items: on the threads of this process, or on a Ray cluster.

Every item is computed on a single thread wherever it runs, so that results do not depend on how
many are computed in parallel, nor where.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, redirect_stdout
from itertools import islice
from threading import Event, current_thread
from typing import Any, TypeVar

from multimodal_ser.errors import SerError, import_extra

_log = logging.getLogger(__name__)

_MOST_THREADS = 1024
_NEEDED = "the engine 'local' needs nothing, and the engine 'ray' an extra"
_Common = TypeVar("_Common")
Item = TypeVar("Item")
Result = TypeVar("Result")


def run_on_threads(
    work: Callable[[_Common, Item], Result],
    shared: _Common,
    items: Sequence[Item],
    *,
    threads: int | None,
    stop: Event | None = None,
) -> Iterator[Result]:
    """Applies a function to every item, on several threads of this process.

    Args:
        work: the function; it is called from several threads at once.
        shared: its first argument.
        items: its second argument, one at a time.
        threads: number of items at a time, each on one thread; None for torch's number of threads.
        stop: is set when no more results are needed, for work that can end early.

    Yields:
        Results in order of completion; those that are there are yielded before another's error.

    Raises:
        SerError: `threads` is not in 1 to 1024. What the work raises is raised as it is.
    """
    import torch

    before = torch.get_num_threads()
    threads = before if threads is None else threads
    if not 1 <= threads <= _MOST_THREADS:
        raise SerError(f"threads={threads}; allowed: 1 to {_MOST_THREADS}")
    waiting = iter(items)
    running: set[Future[Result]] = set()
    pool = ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))
    try:
        while True:
            # one item more than threads waits in the queue, so that no thread is idle while the
            # caller handles a result; never all items, whose results would pile up in memory
            for item in islice(waiting, threads + 1 - len(running)):
                running.add(pool.submit(work, shared, item))
            if not running:
                return
            done, running = wait(running, return_when=FIRST_COMPLETED)
            # False sorts before True: finished results are yielded before an error ends the loop
            for future in sorted(done, key=lambda future: future.exception() is not None):
                yield future.result()
    finally:
        if stop is not None:
            stop.set()
        pool.shutdown(cancel_futures=True)
        # torch's thread number belongs to the process, not to the thread: restore it for the caller
        torch.set_num_threads(before)


def run_on_ray(
    work: Callable[[_Common, Item], Result],
    shared: _Common,
    items: Iterable[Item],
    *,
    retries: int = 3,
    gpus: int = 0,
) -> Iterator[Result]:
    """Applies a function to every item as Ray tasks with one CPU each.

    Uses a Ray that is already initialised, or the one that RAY_ADDRESS names; otherwise starts one
    on this machine and shuts it down at the end.

    Args:
        work: the function; the workers must be able to import it.
        shared: its first argument, sent to each worker once.
        items: its second argument, one at a time.
        retries: how often an item is retried after its worker died.
        gpus: GPUs that an item needs in addition to its CPU.

    Yields:
        Results in order of completion; those that are there are yielded before another's error.

    Raises:
        SerError: Ray is not installed, cannot be reached, or an item's workers died again and
            again. What the work raises is raised as it is.
    """
    ray = import_extra("ray", _NEEDED, "ray")
    own: Any = _OwnOutput(sys.stdout)
    with redirect_stdout(own), _connected(ray):
        if gpus > ray.cluster_resources().get("GPU", 0):
            _log.warning("every item needs %d GPU and Ray has none (yet): waiting for one", gpus)
        task = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=retries)(_on_worker)
        held = [ray.put(shared)]  # in a list, Ray hands over the reference and not a copy
        waiting = iter(items)
        running: set[Any] = set()
        try:
            while True:
                # twice the cluster's CPUs: the waiting half makes an autoscaling cluster grow
                most = 2 * max(1, int(ray.cluster_resources().get("CPU", 1)))
                for item in islice(waiting, max(0, most - len(running))):
                    running.add(task.remote(work, held, item))
                if not running:
                    return
                # the first call waits for any result, the second collects all others that are ready
                # by then
                first, _ = ray.wait(list(running))
                done, _ = ray.wait(list(running), num_returns=len(running), timeout=0)
                done = list(dict.fromkeys([*first, *done]))
                running.difference_update(done)
                yield from _results(ray, done)
        finally:
            # the caller stopped early or an error ended the loop: don't leave tasks running on the
            # cluster
            for reference in running:
                ray.cancel(reference, force=True)


class _OwnOutput:
    """Standard output for the program's own lines: those of Ray's threads go to standard error.

    Ray prints the errors of its node manager to the driver's standard output, in a thread called
    ``ray_listen_error_messages`` (`print_to_stdstream` in ``ray/_private/worker.py``). No setting
    turns this off; between the lines of a result it would damage what reads them.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        by_ray = current_thread().name.startswith("ray_")
        stream = sys.stderr if by_ray else self._stream
        return int(stream.write(text))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def _connected(ray: Any) -> Iterator[None]:
    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # otherwise Ray warns that CUDA_VISIBLE_DEVICES will no longer be overridden for tasks without
    # GPU
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    address = os.environ.get("RAY_ADDRESS") or "local"
    try:
        ray.init(address, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:  # Ray's own for a node that does not start in time
        raise SerError(
            f"Ray at {address!r} cannot be used ({error}); set RAY_ADDRESS to a running cluster, "
            "or unset it to start Ray on this machine"
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def _results(ray: Any, done: Sequence[Any]) -> Iterator[Any]:
    failed: Exception | None = None
    for reference in done:
        try:
            result = ray.get(reference)
        except ray.exceptions.RayTaskError as error:
            failed = error.cause if isinstance(error.cause, Exception) else error
        except ray.exceptions.RayError as error:
            failed = SerError(
                f"an item's workers died again and again ({type(error).__name__}: "
                f"{str(error).strip().splitlines()[0]}); give each more memory, or start fewer a "
                "node; what is complete is kept: rerun the same command to resume"
            )
        else:
            yield result
    if failed is not None:
        raise failed


# The shared argument that this worker received last, by its reference. One entry: a model may fill
# most of the worker's memory.
_shared: dict[str, Any] = {}


def _on_worker(work: Callable[[Any, Any], Any], held: Sequence[Any], item: Any) -> Any:
    import torch

    torch.set_num_threads(1)
    key = held[0].hex()
    if key not in _shared:
        _shared.clear()
        _shared[key] = import_extra("ray", _NEEDED, "ray").get(held[0])
    return work(_shared[key], item)

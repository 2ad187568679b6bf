"""Fine-tuning on several devices: a process for each, by Lightning Fabric (extra ``gpus``).

Every process learns from its share of each batch, and torch averages the gradients. The result is
that of one process with the same batches, up to rounding and the random numbers of dropout and
augmentation.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.multiprocessing.spawn import ProcessRaisedException

from multimodal_ser.errors import SerError, to_install

_Made = TypeVar("_Made")


@dataclass(frozen=True)
class DeviceShare:
    """The share of one process in a training; by default it is the only one.

    Attributes:
        rank: number of the process; 0 writes the files.
        world: number of processes.
        fabric: Lightning's `Fabric`, if there are several.
    """

    rank: int = 0
    world: int = 1
    fabric: Any = None

    def of(self, rows: Any) -> Any:
        """This process's share of a sequence: every `world`-th item."""
        return rows[self.rank :: self.world]

    def learner(self, model: nn.Module) -> Any:
        """The model whose gradients are averaged over all processes in the backward pass."""
        if not self.fabric:
            return model
        averaging = self.fabric.setup_module(model)
        averaging.mark_forward_method("logits")  # called in place of `forward`
        return averaging

    def summed(self, values: Tensor) -> Tensor:
        """The sum of a tensor over all processes."""
        if not self.fabric:
            return values
        return self.fabric.all_reduce(values, reduce_op="sum")


def run_on_devices(devices: Sequence[str], work: Callable[[DeviceShare, str], _Made]) -> _Made:
    """Calls ``work(share, device)`` in a process for each device; returns what the first one does.

    Args:
        devices: all CPUs, or GPUs with their numbers.
        work: a function of a module, or a `partial` of one, since spawning pickles it.

    Raises:
        SerError: the extra is missing, the devices are of different kinds, or a process failed.
    """
    if not find_spec("lightning_fabric"):
        raise SerError(f"several devices need an extra: {to_install('gpus')}")
    from lightning_fabric import Fabric
    from lightning_fabric.strategies.ddp import DDPStrategy

    kinds = {torch.device(device).type for device in devices}
    if len(kinds) > 1:
        raise SerError(f"--device {','.join(devices)}: give devices of one kind, CPUs or GPUs")
    # Otherwise torch waits for a gradient of every parameter; what comes after the last layer that
    # is read has none.
    strategy = DDPStrategy(start_method="spawn", find_unused_parameters=True)
    kind, numbers = kinds.pop(), [torch.device(device).index or 0 for device in devices]
    which: Any = len(devices) if kind == "cpu" else numbers
    fabric: Any = Fabric(accelerator=kind, devices=which, strategy=strategy)
    try:
        made: _Made = fabric.launch(_in_process, work)
    except ProcessRaisedException as error:
        # The message has the whole traceback of the process; its last line says what happened.
        last = str(error).strip().splitlines()[-1]
        raise SerError(re.sub(r"^\S+Error: ", "", last)) from error
    return made


def _in_process(fabric: Any, work: Callable[[DeviceShare, str], _Made]) -> _Made:
    if fabric.device.type == "cpu":
        torch.set_num_threads(1)  # as every run on the CPU, see `experiments.fitting.one_thread`
    return work(DeviceShare(fabric.global_rank, fabric.world_size, fabric), str(fabric.device))

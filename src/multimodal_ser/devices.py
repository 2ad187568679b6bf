"""where torch computes: is it there, and how much memory does it have."""

from __future__ import annotations

import os
from pathlib import Path

from multimodal_ser.errors import SerError

CPU = "cpu"
_UNKNOWN = 8 * 2**30  # bytes
_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")  # of a container


def check_device(name: str) -> str:
    """Returns the name of a device that torch can compute on here.

    Args:
        name: torch's, such as ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.

    Raises:
        SerError: there is none of that name; the message lists those that are there.
    """
    if name == CPU:
        return name
    import torch

    try:
        torch.empty(1, device=name).cpu()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        without = " (this torch is built without CUDA)" if torch.version.cuda is None else ""
        raise SerError(
            f"cannot compute on device {name!r} here{without}; there is: {', '.join(devices())}"
        ) from error
    return name


def devices() -> list[str]:
    """The devices of this machine, as torch names them."""
    import torch

    found = [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    return [CPU, *found, *(["mps"] if torch.backends.mps.is_available() else [])]


def is_gpu(name: str) -> bool:
    """Whether a device is a GPU of its own memory."""
    return name.startswith("cuda")


def memory_of(name: str) -> int:
    """Bytes of memory: what a GPU has left, or all that this machine or container has."""
    if is_gpu(name):
        import torch

        return int(torch.cuda.mem_get_info(name)[0])
    known = hasattr(os, "sysconf")  # not on Windows
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if known else _UNKNOWN
    limit = _CGROUP_LIMIT.read_text().strip() if _CGROUP_LIMIT.is_file() else "max"
    return min(whole, int(limit)) if limit.isdigit() else whole

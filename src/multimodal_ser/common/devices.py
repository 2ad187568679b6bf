"""Torch's devices, the number formats of a CPU, and the threads of numpy."""

from __future__ import annotations

import ctypes
import os
import sys
from functools import cache
from pathlib import Path

from threadpoolctl import ThreadpoolController

from multimodal_ser.errors import SerError

CPU = "cpu"
_BFLOAT16 = {"avx512_bf16", "amx_bf16", "bf16"}  # x86's and Arm's words for products in hardware


def check_device(name: str) -> str:
    """Returns the name of a device if torch can compute on it here.

    Args:
        name: torch's, such as ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.

    Raises:
        SerError: the device is not available; the message lists those that are.
    """
    if name == CPU:
        return name
    import torch

    try:
        # allocating and copying back fails for devices that exist by name only, such as a GPU whose
        # driver is missing
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
    """Whether a device is a GPU with its own memory."""
    return name.startswith("cuda")


def native_bfloat16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether this machine's CPU has bfloat16 matrix instructions; known on Linux only."""
    return cpuinfo.is_file() and not _BFLOAT16.isdisjoint(cpuinfo.read_text().split())


def limit_caches() -> None:
    """Keeps memory from growing with the number of different batch shapes.

    oneDNN compiles its kernels for every shape of batch and caches 1,024 of them; every recording
    has another length, so the cache is cut to 16. glibc raises its threshold for giving memory
    back to the system up to 32 MiB as large blocks are freed (mallopt(3), M_MMAP_THRESHOLD), and
    every thread then keeps such blocks; a fixed threshold of 64 KiB stops that. It costs time, as
    the system clears every page of a block that is taken again. With 4 MiB and a single arena
    extraction was faster, but its memory grew with the corpus (`benchmarks/extraction.py`).
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "16")
    set_option = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if set_option is not None:
        set_option(-3, 1 << 16)  # -3 is M_MMAP_THRESHOLD in malloc.h


@cache
def numpy_threads() -> tuple[ThreadpoolController, int]:
    """The library of numpy's matrix products, and the number of threads that it is set to.

    Its threads wait for each other by spinning. If other programs keep the cores busy, a product on
    two threads takes ten times as long as on one: use ``library.limit(limits=1)`` and divide larger
    pieces of work.
    """
    library = ThreadpoolController().select(user_api="blas")
    return library, max([one["num_threads"] for one in library.info()], default=1)

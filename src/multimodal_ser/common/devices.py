"""where torch computes: is it there, and which number formats it multiplies itself."""

from __future__ import annotations

from pathlib import Path

from multimodal_ser.errors import SerError

CPU = "cpu"
_BFLOAT16 = {"avx512_bf16", "amx_bf16", "bf16"}  # x86's and Arm's words for products in hardware


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


def native_bfloat16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether this machine's CPU multiplies bfloat16 matrices itself; known on Linux only."""
    return cpuinfo.is_file() and not _BFLOAT16.isdisjoint(cpuinfo.read_text().split())

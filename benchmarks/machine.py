"""Describes hardware and versions: the line above every table of a benchmark."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import torch

PACKAGES = ("multimodal-ser", "torch")


def machine(device: str = "cpu", packages: Sequence[str] = PACKAGES) -> str:
    """Describes the processor or GPU, and the versions of packages.

    Args:
        device: torch's name of it; a GPU is named in addition to the processor.
        packages: packages whose versions are printed.
    """
    made_of = [f"{processor()}, {processors()} processors, {platform.system()}"]
    if device.startswith("cuda"):
        made_of.append(torch.cuda.get_device_name(device))
    versions = [f"Python {platform.python_version()}"]
    versions += [f"{name} {version(name)}" for name in packages]
    threads = torch.get_num_threads()
    return "; ".join([*made_of, ", ".join(versions), f"{threads} threads of torch, {device}"])


def processor() -> str:
    """Returns the processor's own name, or else the architecture's."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    known = names[0] if names else platform.processor()
    return f"{known} ({platform.machine()})" if known else platform.machine()


def processors() -> int:
    """Returns how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1

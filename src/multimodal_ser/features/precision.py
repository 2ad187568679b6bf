"""Which number format an encoder computes in where nobody asked for one."""

from __future__ import annotations

from pathlib import Path

from multimodal_ser.encoders.base import Encoder

_BFLOAT16 = {"avx512_bf16", "amx_bf16", "bf16"}  # x86's and Arm's words for products in hardware


def native_bfloat16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether this machine's CPU multiplies bfloat16 matrices itself; known on Linux only."""
    return cpuinfo.is_file() and not _BFLOAT16.isdisjoint(cpuinfo.read_text().split())


def default_dtype(encoder: str, device: str) -> str | None:
    """What an encoder should compute in; None leaves it to the encoder.

    bfloat16 where the CPU has it natively, for the encoders whose bfloat16 is tested to agree with
    float32 (emotion2vec: cosine of frames ≥ 0.9999).
    """
    takes = encoder.startswith("emotion2vec")
    return "bfloat16" if takes and device == "cpu" and native_bfloat16() else None


def computed_in(encoder: Encoder) -> str:
    """The number format that a loaded encoder computes in, such as ``float32``."""
    return str(getattr(encoder, "dtype", "float32")).removeprefix("torch.")

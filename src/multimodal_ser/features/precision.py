"""The default number format that an encoder computes in."""

from __future__ import annotations

from multimodal_ser.common.devices import native_bfloat16


def default_dtype(encoder: str, device: str) -> str | None:
    """The default number format of an encoder; None leaves it to the encoder.

    bfloat16 if the CPU has instructions for it, for encoders whose bfloat16 is tested to agree with
    float32 (emotion2vec: cosine of frames ≥ 0.9999).
    """
    takes = encoder.startswith("emotion2vec")
    return "bfloat16" if takes and device == "cpu" and native_bfloat16() else None

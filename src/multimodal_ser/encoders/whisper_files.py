"""Whisper's weights → tensors of the encoder under our names, from safetensors or CTranslate2.

The layout of a CTranslate2 file, little endian: version u32, specification (u16 length,
zero-terminated), revision u32, count u32, then for each tensor its name, rank u8, dimensions u32,
type u8, bytes u32 and data. Only the encoder's tensors are read, and every size is checked first.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor

from multimodal_ser.common.files import parse_json
from multimodal_ser.errors import EncoderError

_DTYPES = {0: "<f4", 1: "<i1", 2: "<i2", 3: "<i4", 4: "<f2"}
_MOST_TENSORS, _MOST_RANK = 100_000, 4  # a damaged header must not claim any more

_CTRANSLATE2 = (
    (r"layer_(\d+)/self_attention/layer_norm/", r"blocks.\1.norm1."),
    (r"layer_(\d+)/self_attention/linear_0/", r"blocks.\1.qkv."),
    (r"layer_(\d+)/self_attention/linear_1/", r"blocks.\1.out."),
    (r"layer_(\d+)/ffn/layer_norm/", r"blocks.\1.norm2."),
    (r"layer_(\d+)/ffn/linear_0/", r"blocks.\1.up."),
    (r"layer_(\d+)/ffn/linear_1/", r"blocks.\1.down."),
    (r"position_encodings/encodings", "positions"),
    (r"(conv[12])/", r"\1."),
    (r"layer_norm/", "norm."),
    (r"gamma$", "weight"),
    (r"beta$", "bias"),
)
_TRANSFORMERS = (
    (r"layers\.(\d+)\.self_attn_layer_norm\.", r"blocks.\1.norm1."),
    (r"layers\.(\d+)\.self_attn\.out_proj\.", r"blocks.\1.out."),
    (r"layers\.(\d+)\.self_attn\.", r"blocks.\1."),
    (r"layers\.(\d+)\.final_layer_norm\.", r"blocks.\1.norm2."),
    (r"layers\.(\d+)\.fc1\.", r"blocks.\1.up."),
    (r"layers\.(\d+)\.fc2\.", r"blocks.\1.down."),
    (r"embed_positions\.weight", "positions"),
    (r"^layer_norm\.", "norm."),
)


def read_encoder(name: str, file: Path) -> tuple[dict[str, Tensor], int]:
    """Reads the encoder's tensors, float32, and its number of attention heads.

    Args:
        name: the encoder, for messages.
        file: ``model.safetensors`` with a ``config.json`` beside it, or CTranslate2's model.bin.

    Raises:
        EncoderError: the file is damaged, or is not a Whisper of these layouts.
    """
    from safetensors import SafetensorError

    try:
        read = _from_safetensors if file.suffix == ".safetensors" else _from_ctranslate2
        return read(file)
    except (OSError, ValueError, KeyError, TypeError, struct.error, SafetensorError) as error:
        raise EncoderError(
            f"{name}: {file} cannot be read as Whisper's weights ({error}); it is damaged or of "
            "another layout; allowed: transformers' model.safetensors with its config.json, and "
            "CTranslate2's model.bin in float32 or float16"
        ) from error


def _renamed(name: str, rules: tuple[tuple[str, str], ...]) -> str:
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name


def _from_safetensors(file: Path) -> tuple[dict[str, Tensor], int]:
    from safetensors import safe_open

    config = parse_json((file.parent / "config.json").read_text(encoding="utf-8"))
    if config.get("model_type") != "whisper":
        raise ValueError(f"its config.json says model_type {config.get('model_type')!r}")
    heads = int(config["encoder_attention_heads"])
    state: dict[str, Tensor] = {}
    with safe_open(file, framework="pt") as tensors:
        for full in tensors.keys():  # noqa: SIM118 - not a dict
            short = re.sub(r"^(model\.)?encoder\.", "", full)
            if short != full:
                state[_renamed(short, _TRANSFORMERS)] = tensors.get_tensor(full).float()
    for prefix in sorted({key.split("q_proj")[0] for key in state if "q_proj" in key}):
        _stack(state, prefix)
    return state, heads


def _stack(state: dict[str, Tensor], prefix: str) -> None:
    """Stacks query, key and value of a block in one matrix; Whisper's key has no bias."""
    state.setdefault(f"{prefix}k_proj.bias", torch.zeros_like(state[f"{prefix}q_proj.bias"]))
    for kind in ("weight", "bias"):
        parts = [state.pop(f"{prefix}{part}_proj.{kind}") for part in "qkv"]
        state[f"{prefix}qkv.{kind}"] = torch.cat(parts)


def _from_ctranslate2(file: Path) -> tuple[dict[str, Tensor], int]:
    state: dict[str, Tensor] = {}
    with file.open("rb") as stream:
        for full, tensor in _tensors(stream, file.stat().st_size):
            state[_renamed(full.removeprefix("encoder/"), _CTRANSLATE2)] = tensor
    return state, int(state.pop("num_heads").item())


def _tensors(stream: BinaryIO, size: int) -> Iterator[tuple[str, Tensor]]:
    """Yields the encoder's tensors of a CTranslate2 file of `size` bytes."""
    _take(stream, "<I")
    specification = _string(stream)
    if specification != "WhisperSpec":
        raise ValueError(f"its specification is {specification[:40]!r}, not 'WhisperSpec'")
    _, count = _take(stream, "<II")
    if count > _MOST_TENSORS:
        raise ValueError(f"it claims {count} tensors")
    for _ in range(count):
        name = _string(stream)
        (rank,) = _take(stream, "<B")
        if rank > _MOST_RANK:
            raise ValueError(f"{name!r} claims {rank} dimensions")
        shape = _take(stream, f"<{rank}I")
        code, length = _take(stream, "<BI")
        if length > size - stream.tell():
            raise ValueError(f"{name!r} reaches beyond the end of the file")
        if name.startswith("encoder/"):
            yield name, _tensor(name, shape, code, stream.read(length))
        else:
            stream.seek(length, 1)


def _tensor(name: str, shape: tuple[int, ...], code: int, data: bytes) -> Tensor:
    # Integers occur as single numbers such as num_heads; a whole matrix of them is quantised.
    if code not in _DTYPES or (code in (1, 2, 3) and shape not in ((), (1,))):
        raise ValueError(f"{name!r} has type {code}; allowed: float32 and float16")
    dtype = np.dtype(_DTYPES[code])
    if prod(shape) * dtype.itemsize != len(data):
        raise ValueError(f"{name!r} of shape {shape} has {len(data)} bytes")
    return torch.from_numpy(np.frombuffer(data, dtype).reshape(shape).astype(np.float32))


def _string(stream: BinaryIO) -> str:
    (length,) = _take(stream, "<H")
    raw = stream.read(length)
    if len(raw) < length or not raw.endswith(b"\0"):
        raise ValueError("a name is cut off")
    return raw[:-1].decode("utf-8")


def _take(stream: BinaryIO, layout: str) -> tuple[int, ...]:
    return struct.unpack(layout, stream.read(struct.calcsize(layout)))

"""The values that a pickle may hold: placeholders while it is read, and the arrays they become.

Sizes, offsets and lengths in a pickle are only claims: all are checked against the bytes that are
there before numpy sees them.
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np

from multimodal_ser.common.arrays import Array
from multimodal_ser.errors import FeatureError

_T = TypeVar("_T")
_CORES = ("numpy.core", "numpy._core")  # names of the module before and since numpy 2
_STORAGES = {
    "HalfStorage": "<f2", "FloatStorage": "<f4", "DoubleStorage": "<f8", "BFloat16Storage": "bf16",
    "ByteStorage": "|u1", "CharStorage": "|i1", "ShortStorage": "<i2", "IntStorage": "<i4",
    "LongStorage": "<i8", "BoolStorage": "|b1",
}  # fmt: skip
_NUMBERS = {f"{kind}{size}" for kind in "biuf" for size in (1, 2, 4, 8)} - {"b2", "b4", "b8", "f1"}


@dataclass
class DType:
    """A numpy dtype as it is pickled: its code, such as ``f4``, and its byte order."""

    code: str
    order: str = "|"

    def numpy(self) -> np.dtype[Any]:
        """Returns the dtype; only numbers, truth values and text are allowed."""
        is_text = self.code[:1] in ("U", "S") and self.code[1:].isdecimal()
        if self.code not in _NUMBERS and not is_text:
            kind = brief(self.code)
            raise FeatureError(f"refused: an array of type {kind} holds no numbers or text")
        return np.dtype((self.order if self.order in "<>" else "") + self.code)


@dataclass
class PickledArray:
    """A numpy array or scalar as it is pickled; `data` is bytes, or a list for object arrays."""

    dtype: DType | None = None
    shape: tuple[int, ...] = ()
    order: str = "C"
    data: Any = b""


@dataclass
class Storage:
    """The memory of tensors; its `data` comes later in a file than the tensors."""

    code: str
    key: str
    count: int
    data: bytes | None = None


@dataclass
class Tensor:
    """A view of a storage: offset, size and stride in elements."""

    storage: Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


@dataclass(frozen=True)
class Builder:
    """A placeholder for a name that a pickle may ask for; only REDUCE calls `make`."""

    make: Callable[..., Any]


def brief(value: object) -> str:
    """A few characters of a value, however large it is when written out."""
    short = reprlib.Repr()
    short.maxlevel = 2
    return short.repr(value)[:80]


def expect(value: Any, kind: type[_T]) -> _T:
    """Returns the value, or raises TypeError if it is of another kind."""
    if not isinstance(value, kind):
        raise TypeError(f"{type(value).__name__} where {kind.__name__} belongs")
    return value


def whole_number(value: Any) -> int:
    """Returns a size, or raises ValueError if it is not one."""
    if not isinstance(value, int) or not 0 <= value < 1 << 63:
        raise ValueError(f"{brief(value)} where a size belongs")
    return value


def sizes(values: Any) -> tuple[int, ...]:
    """Returns a shape, or raises ValueError or TypeError if it is not one."""
    if len(expect(values, tuple)) > 64:
        raise ValueError(f"{len(values)} dimensions")
    return tuple(whole_number(value) for value in values)


def itemsize(code: str) -> int:
    """Bytes per element of a storage."""
    return 2 if code == "bf16" else np.dtype(code).itemsize


def _frombuffer(data: Any, dtype: Any, shape: Any, order: Any, *_: Any) -> PickledArray:
    return PickledArray(expect(dtype, DType), sizes(shape), "F" if order == "F" else "C", data)


def _ordered(pairs: Any = ()) -> dict[Any, Any]:
    if not all(isinstance(key, str | int) for key, _ in pairs):
        raise ValueError("a key is neither text nor number")
    return dict(pairs)


def _encode(text: Any, encoding: Any) -> bytes:
    if encoding != "latin1":
        raise ValueError(f"text in the encoding {encoding!r}")
    return str(expect(text, str)).encode("latin1")


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> Tensor:
    """Makes a view after checking that every one of its elements is within the storage."""
    tensor = Tensor(expect(storage, Storage), whole_number(offset), sizes(size), sizes(stride))
    if len(tensor.size) != len(tensor.stride) or math.prod(tensor.size) > tensor.storage.count:
        raise ValueError(f"a tensor of size {size} in a storage of {tensor.storage.count}")
    # The element with the largest index: strides are not negative, see `whole_number`.
    last = sum((n - 1) * step for n, step in zip(tensor.size, tensor.stride, strict=True))
    if math.prod(tensor.size) and tensor.offset + last >= tensor.storage.count:
        raise ValueError(f"a tensor reaches beyond its storage of {tensor.storage.count}")
    return tensor


BUILDERS = {
    "collections.OrderedDict": Builder(_ordered),
    "_codecs.encode": Builder(_encode),
    "builtins.bytes": Builder(lambda: b""),
    "__builtin__.bytes": Builder(lambda: b""),
    "builtins.bytearray": Builder(lambda data=b"", *_: bytes(expect(data, bytes))),
    "__builtin__.bytearray": Builder(lambda data=b"", *_: _encode(data, "latin1")),
    "numpy.ndarray": Builder(lambda *_: PickledArray()),
    "numpy.dtype": Builder(lambda code, *_: DType(expect(code, str))),
    "torch._utils._rebuild_tensor_v2": Builder(_tensor),
    "torch._utils._rebuild_parameter": Builder(lambda data, *_: expect(data, Tensor)),
    "torch.Size": Builder(lambda values: sizes(tuple(values[:65]))),
    **{f"{module}.{name}": Builder(partial(Storage, code)) for name, code in _STORAGES.items()
       for module in ("torch", "torch.storage")},
    **{f"{core}.multiarray._reconstruct": Builder(lambda *_: PickledArray()) for core in _CORES},
    **{f"{core}.multiarray.scalar": Builder(
        lambda dtype, data: PickledArray(expect(dtype, DType), (), "C", data)
    ) for core in _CORES},
    **{f"{core}.numeric._frombuffer": Builder(_frombuffer) for core in _CORES},
}  # fmt: skip


def plain(value: Any, seen: dict[int, Any]) -> Any:
    """Replaces placeholders by numpy arrays, each once, so that shared objects stay shared."""
    if isinstance(value, str | bytes | int | float | None):
        return value
    if id(value) not in seen:
        seen[id(value)] = None  # ends the recursion for a list that contains itself
        seen[id(value)] = _convert(value, seen)
    return seen[id(value)]


def _convert(value: Any, seen: dict[int, Any]) -> Any:
    if isinstance(value, dict):
        return {key: plain(item, seen) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(plain(item, seen) for item in value)
    if isinstance(value, Tensor):
        return _lay_out(value)
    if isinstance(value, PickledArray) and value.dtype is not None:
        if value.dtype.code == "O8":
            return plain(expect(value.data, list), seen)
        return _array(value, value.dtype.numpy())
    raise FeatureError("refused: it holds a type instead of values")


def _array(value: PickledArray, dtype: np.dtype[Any]) -> Array:
    data = expect(value.data, bytes)
    if len(data) != dtype.itemsize * math.prod(value.shape):
        raise ValueError(f"{len(data)} bytes for an array of shape {value.shape}")
    flat = np.frombuffer(data, dtype)
    return flat.reshape(value.shape, order="F" if value.order == "F" else "C")


def _lay_out(tensor: Tensor) -> Array:
    storage = tensor.storage
    data = expect(storage.data, bytes)
    if len(data) != storage.count * itemsize(storage.code):
        raise ValueError(f"{len(data)} bytes for a storage of {storage.count}")
    # numpy has no bfloat16: its 16 bits are the upper half of a float32, so a shift converts it.
    short = storage.code == "bf16"
    flat: Array = np.frombuffer(data, "<u2" if short else storage.code)
    steps = [step * flat.itemsize for step in tensor.stride]
    part = np.lib.stride_tricks.as_strided(
        flat[tensor.offset :], tensor.size, steps, writeable=False
    )
    return (part.astype("<u4") << 16).view("<f4") if short else part

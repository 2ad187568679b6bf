"""The values that a pickle may hold: placeholders while it is read, and the arrays they become.

Sizes, offsets and lengths in a pickle are only claims: all are checked against the bytes that are
there before numpy sees them. What is counted is limited, too: a few bytes can refer to themselves
until they fill any memory.
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import numpy as np

from multimodal_ser.common.arrays import Array
from multimodal_ser.errors import FeatureError

DEPTH = 64  # lists within lists
STEPS = 30_000_000  # instructions; each can make an object, and a million rows of lists need fewer
MEMO = 10_000_000  # objects that a pickle can refer to again
NUMBERS = 100_000_000  # in the content when written out, or 16 per byte of the file if more
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


@dataclass
class PickleBudget:
    """The remaining budget of one file while it is read.

    Attributes:
        size: of the file in bytes.
        steps: remaining instructions.
        copies: bytes that were made from others, such as from text in the oldest layout. Each byte
            of the file occurs once, and those of a tensor within a pickle are copied twice.
    """

    size: int
    steps: int = field(default_factory=lambda: STEPS)
    copies: int = 0

    def step(self) -> None:
        """Counts an instruction."""
        self.steps -= 1
        if self.steps < 0:
            raise _too_much(f"it has more than {STEPS:,} instructions")

    def copy(self, size: int) -> None:
        """Counts bytes that are made from others."""
        self.copies += size
        if self.copies > 4 * self.size + 1_000:
            raise _too_much("it makes more bytes of itself than it has")


class Memo(dict[int, Any]):
    """The objects that a pickle can refer to again, limited in number."""

    def __setitem__(self, place: int, value: Any) -> None:
        if len(self) >= MEMO:
            raise _too_much(f"it refers to more than {MEMO:,} objects")
        super().__setitem__(place, value)


def check_pickle_key(key: object) -> None:
    """Refuses keys other than text and numbers: hashing nested tuples can take forever."""
    parts = key if isinstance(key, tuple) else (key,)
    if not all(isinstance(part, str | bytes | int | float | None) for part in parts):
        raise FeatureError(f"refused: a key is {brief(key)}; allowed: text and numbers")


def check_extent(value: Any, size: int) -> None:
    """Refuses content that is nested too deeply, or too large when it is written out.

    Args:
        value: the result of a reader, which may contain one object many times.
        size: of the file in bytes.
    """
    most, known = max(NUMBERS, 16 * size), dict[int, tuple[int, int]]()

    def weigh(item: Any, above: int) -> tuple[int, int]:
        """The count of numbers within an item, and their depth."""
        if isinstance(item, str | bytes):
            return 1 + len(item) // 8, 0
        if isinstance(item, int | float | None):
            return 1, 0
        # Each object is visited once, however often it occurs; its count is added every time. This
        # finds "billion laughs" files without writing them out.
        if id(item) not in known:
            known[id(item)] = 0, 0  # ends the recursion for an object that contains itself
            known[id(item)] = total(item, above)
        return known[id(item)]

    def total(item: Any, above: int) -> tuple[int, int]:
        parts = [weigh(part, above + 1) for part in _within(item)] if above <= DEPTH else []
        count = _own(item) + sum(count for count, _ in parts)
        depth = 1 + max((depth for _, depth in parts), default=0)
        if above > DEPTH or depth > DEPTH:
            raise _too_much(f"it is nested more than {DEPTH} deep")
        if count > most:
            raise _too_much(f"written out it holds more than {most:,} numbers")
        return count, depth

    weigh(value, 0)


def _within(item: Any) -> list[Any]:
    if isinstance(item, dict):
        return [*item, *item.values()]
    if isinstance(item, list | tuple):
        return list(item)
    return [item.data] if isinstance(item, PickledArray) and isinstance(item.data, list) else []


def _own(item: Any) -> int:
    if isinstance(item, Tensor):
        return 1 + math.prod(item.size)
    return 1 + math.prod(item.shape) if isinstance(item, PickledArray) else 1


def _too_much(reason: str) -> FeatureError:
    return FeatureError(f"refused: {reason}; save the rows as .npz or .parquet instead")

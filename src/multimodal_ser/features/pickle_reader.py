"""Users' .pkl and .pt files → plain arrays, lists and dicts, without running anything.

A pickle is a program. This reader interprets its instructions itself. Instructions that can call
something are replaced, and the names that a pickle may ask for are not looked up but mapped to
builders written here. Nothing is imported and nothing of torch or numpy is called on behalf of a
pickle, so that whatever cannot be read is refused before it could do anything.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from multimodal_ser.errors import FeatureError
from multimodal_ser.features.pickle_values import (
    BUILDERS,
    Builder,
    DType,
    Memo,
    PickleBudget,
    PickledArray,
    Storage,
    brief,
    check_extent,
    check_pickle_key,
    expect,
    itemsize,
    plain,
    sizes,
    whole_number,
)

_DAMAGE = (
    ArithmeticError, AssertionError, AttributeError, EOFError, LookupError, MemoryError,
    RuntimeError, TypeError, ValueError, pickle.UnpicklingError, struct.error, zipfile.BadZipFile,
)  # fmt: skip
_LEGACY = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."  # first bytes of torch's files before 1.6
# Instructions that only build plain values; all others are refused or replaced below.
_OPCODES = (
    "PROTO", "FRAME", "STOP", "MARK", "POP", "POP_MARK", "DUP", "NONE", "NEWTRUE", "NEWFALSE",
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT",
    "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE",
    "BINUNICODE8", "EMPTY_LIST", "LIST", "APPEND", "APPENDS", "EMPTY_TUPLE", "TUPLE", "TUPLE1",
    "TUPLE2", "TUPLE3", "EMPTY_DICT", "DICT", "SETITEM", "SETITEMS", "GET", "BINGET",
    "LONG_BINGET", "PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE", "GLOBAL", "STACK_GLOBAL", "PERSID",
    "BINPERSID",
)  # fmt: skip


def read_pickle(path: Path) -> Any:
    """Reads a pickle, or a file of torch.save, that holds features.

    Args:
        path: a file made by pickle (any protocol) or by torch.save (zip or the older layout).

    Returns:
        Dicts, lists, tuples, strings and numbers as they are; tensors and arrays as numpy arrays.

    Raises:
        FeatureError: the pickle asks for anything else, which is named and was not run; or it
            is damaged.
    """
    data = path.read_bytes()
    budget = PickleBudget(len(data))
    try:
        if data.startswith(b"PK\x03\x04"):
            value = _read_zip(data, budget)
        elif data.startswith(_LEGACY):
            value = _read_legacy(data, budget)
        else:
            value = _Reader(io.BytesIO(data), budget).load()
        check_extent(value, len(data))
        return plain(value, {})
    except FeatureError as error:
        raise FeatureError(f"{path.name}: {error}") from None
    except _DAMAGE as error:
        raise FeatureError(
            f"{path.name}: no pickle of features, or damaged ({type(error).__name__}: {error}); "
            "save the rows as .npz or .parquet instead"
        ) from error


class _Reader(pickle._Unpickler):
    """The standard library's own interpreter, without any instruction that could run something.

    The one written in Python is used because its instructions can be removed, and because a forged
    memo index makes the one written in C reserve gigabytes.
    """

    stack: list[Any]

    def __init__(
        self,
        file: io.BytesIO,
        budget: PickleBudget,
        storages: dict[str, list[Storage]] | None = None,
    ) -> None:
        """Prepares to read one pickle; the storages that it names are added to `storages`."""
        super().__init__(file)
        self.memo = Memo()
        self.budget, self.storages = budget, {} if storages is None else storages
        self.dispatch = _Dispatch(_KNOWN, budget)  # type: ignore[misc]

    def find_class(self, module: str, name: str) -> Builder:
        if (module, name) == ("torch.storage", "_load_from_bytes"):
            return Builder(lambda data: _read_legacy(expect(data, bytes), self.budget))
        builder = BUILDERS.get(f"{module}.{name}")
        if builder is None:
            raise FeatureError(
                f"refused: it asks for {module[:80]}.{name[:80]}, and nothing in it was run; "
                "allowed are tensors, arrays, numbers and strings in lists and dicts: save the "
                "rows as .npz or .parquet instead"
            )
        return builder

    def persistent_load(self, pid: Any) -> Storage:
        kind, storage, key, _device, count = pid[:5]
        if kind != "storage" or not isinstance(storage, Builder) or not isinstance(key, str):
            raise FeatureError(f"refused: it refers to {brief(kind)} outside of the file")
        made = expect(storage.make(key, whole_number(count)), Storage)
        self.storages.setdefault(key, []).append(made)
        return made

    def load_reduce(self) -> None:
        arguments, builder = self.stack.pop(), self.stack.pop()
        if not isinstance(builder, Builder) or not isinstance(arguments, tuple):
            raise FeatureError("refused: it calls something other than a tensor, array or dict")
        made = builder.make(*arguments)
        if isinstance(made, bytes):
            self.budget.copy(len(made))
        self.stack.append(made)

    def load_build(self) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(target, DType):
            if state[3] is not None or state[2] is not None:
                raise FeatureError("refused: it holds arrays with named fields")
            target.order = str(state[1])
        elif isinstance(target, PickledArray):
            _, shape, dtype, fortran, target.data = state
            target.shape, target.dtype = sizes(shape), expect(dtype, DType)
            target.order = "F" if fortran else "C"
        elif not isinstance(target, dict):  # the state of a dict is bookkeeping of torch
            raise FeatureError("refused: it sets attributes on something other than an array")

    def load_setitem(self) -> None:
        check_pickle_key(self.stack[-2])
        super().load_setitem()  # type: ignore[misc]

    def load_setitems(self) -> None:
        # Since the last mark the stack holds keys and values in turn.
        for key in self.stack[::2]:
            check_pickle_key(key)
        super().load_setitems()  # type: ignore[misc]

    def load_dict(self) -> None:
        for key in self.stack[::2]:
            check_pickle_key(key)
        super().load_dict()  # type: ignore[misc]

    def load_bytearray8(self) -> None:
        (length,) = struct.unpack("<Q", self.read(8))  # type: ignore[attr-defined]
        self.stack.append(self.read(length))  # type: ignore[attr-defined]

    def load_inst(self) -> None:
        module, name = (self.readline()[:-1].decode() for _ in range(2))  # type: ignore[attr-defined]
        self.find_class(module, name)
        raise FeatureError(f"refused: it makes an instance of {module[:80]}.{name[:80]}")


class _Dispatch(dict[int, Callable[[Any], None]]):
    """The instructions of one reader; each use is counted against the budget."""

    def __init__(self, known: dict[int, Callable[[Any], None]], budget: PickleBudget) -> None:
        super().__init__(known)
        self._budget = budget

    def __getitem__(self, opcode: int) -> Callable[[Any], None]:
        self._budget.step()
        return super().__getitem__(opcode)

    def __missing__(self, opcode: int) -> Callable[[Any], None]:
        known = pickletools.code2op.get(chr(opcode))  # type: ignore[attr-defined]
        if known is None:
            raise pickle.UnpicklingError(f"{opcode} is no instruction of a pickle")
        raise FeatureError(f"refused: the instruction {known.name} is not needed for features")


_KNOWN: dict[int, Callable[[Any], None]] = {
    **{getattr(pickle, name)[0]: pickle._Unpickler.dispatch[getattr(pickle, name)[0]]
       for name in _OPCODES},
    pickle.REDUCE[0]: _Reader.load_reduce,
    pickle.BUILD[0]: _Reader.load_build,
    pickle.SETITEM[0]: _Reader.load_setitem,
    pickle.SETITEMS[0]: _Reader.load_setitems,
    pickle.DICT[0]: _Reader.load_dict,
    pickle.BYTEARRAY8[0]: _Reader.load_bytearray8,
    pickle.INST[0]: _Reader.load_inst,
}  # fmt: skip


def _read_legacy(data: bytes, budget: PickleBudget) -> Any:
    """torch.save before 1.6, and storages in a plain pickle of tensors: five pickles, then data."""
    budget.copy(len(data))
    file = io.BytesIO(data)
    storages: dict[str, list[Storage]] = {}
    _, _, system, result, keys = (_Reader(file, budget, storages).load() for _ in range(5))
    if system.get("little_endian") is not True:
        raise FeatureError("refused: its numbers are big-endian; save the rows as .npz instead")
    for key in keys:
        (count,) = struct.unpack("<q", file.read(8))
        content = file.read(max(count * itemsize(storages[key][0].code), 0))
        for storage in storages[key]:
            storage.data = content
    return result


def _read_zip(data: bytes, budget: PickleBudget) -> Any:
    """torch.save since 1.6: a zip of one pickle and one file per storage."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        names = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        if len(names) != 1 or any(item.compress_type for item in archive.infolist()):
            raise FeatureError("refused: a zip file, but not one of torch.save")
        folder = names[0].removesuffix("data.pkl")
        order = f"{folder}byteorder"
        if order in archive.namelist() and archive.read(order) != b"little":
            raise FeatureError("refused: its numbers are big-endian; save the rows as .npz")
        storages: dict[str, list[Storage]] = {}
        result = _Reader(io.BytesIO(archive.read(names[0])), budget, storages).load()
        for key, same in storages.items():
            content = archive.read(f"{folder}data/{key}")
            for storage in same:
                storage.data = content
    return result

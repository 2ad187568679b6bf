"""Reads rows of Parquet and Arrow files with pyarrow (extra ``parquet``)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from multimodal_ser.errors import SerError, import_extra

_ROWS = 256  # at a time: their cells may hold whole recordings


def read_parquet(path: Path) -> Iterator[dict[str, Any]]:
    """Yields the rows of a ``.parquet`` file, or of an ``.arrow`` file in Arrow's stream format.

    Durations are given in seconds.

    Raises:
        SerError: pyarrow is missing, or the file is invalid.
    """
    pyarrow = pyarrow_for(path)
    try:
        for batch in _batches(path, pyarrow):
            names = [field.name for field in batch.schema]
            columns = [_cells(column, pyarrow) for column in batch.columns]
            for cells in zip(*columns, strict=True):
                yield dict(zip(names, cells, strict=True))
    except (pyarrow.ArrowException, OSError) as error:
        raise SerError(f"{path}: cannot be read ({error}); fetch the file again") from error


def read_metadata(path: Path) -> dict[bytes, bytes]:
    """Returns the metadata that the writer of a file stored in its schema."""
    pyarrow = pyarrow_for(path)
    try:
        if path.suffix == ".parquet":
            schema = pyarrow.parquet.read_schema(path)
        else:
            with pyarrow.memory_map(str(path)) as source:
                schema = pyarrow.ipc.open_stream(source).schema
    except (pyarrow.ArrowException, OSError) as error:
        raise SerError(f"{path}: cannot be read ({error}); fetch the file again") from error
    return dict(schema.metadata or {})


def pyarrow_for(path: Path, kind: type[SerError] = SerError) -> Any:
    """Imports pyarrow, or raises an error of this kind that says how to install it."""
    why = f"{path.name}: reading {path.suffix} needs an extra"
    pyarrow = import_extra("pyarrow", why, "parquet", kind)
    import_extra("pyarrow.parquet", why, "parquet", kind)  # an attribute of the above from now on
    return pyarrow


def _batches(path: Path, pyarrow: Any) -> Iterator[Any]:
    if path.suffix == ".parquet":
        with pyarrow.parquet.ParquetFile(path) as file:
            yield from file.iter_batches(batch_size=_ROWS)
    else:
        with pyarrow.memory_map(str(path)) as source:
            yield from pyarrow.ipc.open_stream(source)


def _cells(column: Any, pyarrow: Any) -> list[Any]:
    if not pyarrow.types.is_duration(column.type):
        return list(column.to_pylist())
    counts = column.cast(pyarrow.int64()).to_pylist()  # a Timedelta would need pandas
    unit = {"s": 1, "ms": 1e3, "us": 1e6, "ns": 1e9}[column.type.unit]
    return [None if count is None else count / unit for count in counts]

"""Tables and matrices as addresses of columns, without a copy of what is float already."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from rayforest.errors import InputError
from rayforest.forest.kernel import Columns

Data = pa.Table | pa.RecordBatch | NDArray[Any] | Any
"""An Arrow table or record batch, a numpy matrix of either order, or whatever speaks Arrow's stream protocol, such as a
Polars frame."""


@dataclass(frozen=True, eq=False)
class Block:
    """Rows of one piece of memory a column."""

    rows: int
    columns: Columns
    owners: tuple[Any, ...]
    """Keep the memory alive."""


def count_rows(data: Data) -> int:
    """Rows of a table or matrix."""
    return len(data)


def blocks(data: Data, n_features: int | None, n_used: int) -> Iterator[Block]:
    """The data's rows in order.

    Args:
        data: one column a feature, in the order of training.
        n_features: columns that the data must have, if the model says so.
        n_used: columns that the data must have at least.

    Raises:
        InputError: another number of columns, or a column that holds no numbers.
    """
    table = data if isinstance(data, np.ndarray | pa.RecordBatch | pa.Table) else _as_table(data)
    width = table.shape[1] if isinstance(table, np.ndarray) and table.ndim == 2 else getattr(table, "num_columns", -1)
    if width != n_features if n_features is not None else width < n_used:
        expected = f"{n_features}" if n_features is not None else f"at least {n_used}"
        found = f"{width}" if width >= 0 else f"an array of {table.ndim} dimensions"
        raise InputError("The data does not fit the model.", expected=f"{expected} columns", found=found)
    if isinstance(table, np.ndarray):
        yield _matrix_block(table)
    elif isinstance(table, pa.RecordBatch):
        yield _batch_block(table)
    else:
        for batch in table.to_batches():
            yield _batch_block(batch)


def _as_table(data: Any) -> Any:
    if hasattr(data, "__arrow_c_stream__") or hasattr(data, "__arrow_c_array__"):
        return pa.table(data)
    raise InputError(
        "The tree kernel cannot read this data.",
        expected="an Arrow table or record batch, a Polars frame, or a numpy matrix",
        found=type(data).__name__,
    )


def _matrix_block(matrix: NDArray[Any]) -> Block:
    if matrix.dtype not in {np.dtype(np.float64), np.dtype(np.float32)}:
        if matrix.dtype.kind not in "biuf":
            raise InputError(
                "The matrix holds no numbers.", expected="float64, float32 or integers", found=str(matrix.dtype)
            )
        matrix = matrix.astype(np.float64)
    rows, width = matrix.shape
    step = matrix.strides[1] if width else 0
    columns = Columns(
        address=matrix.ctypes.data + step * np.arange(width, dtype=np.int64),
        stride=np.full(width, matrix.strides[0], dtype=np.int64),
        is_float32=np.full(width, matrix.dtype == np.float32),
        validity=np.zeros(width, dtype=np.int64),
        validity_bit=np.zeros(width, dtype=np.int64),
    )
    return Block(rows, columns, (matrix,))


def _batch_block(batch: pa.RecordBatch) -> Block:
    arrays = tuple(_as_float(batch.column(i), batch.schema.field(i).name) for i in range(batch.num_columns))
    width = len(arrays)
    columns = Columns(
        address=np.empty(width, dtype=np.int64),
        stride=np.empty(width, dtype=np.int64),
        is_float32=np.empty(width, dtype=np.bool_),
        validity=np.zeros(width, dtype=np.int64),
        validity_bit=np.zeros(width, dtype=np.int64),
    )
    for i, array in enumerate(arrays):
        validity, values = array.buffers()
        size = 4 if pa.types.is_float32(array.type) else 8
        columns.address[i] = (values.address if values is not None else 0) + array.offset * size
        columns.stride[i], columns.is_float32[i] = size, size == 4
        if validity is not None and array.null_count:
            columns.validity[i], columns.validity_bit[i] = validity.address, array.offset
    return Block(batch.num_rows, columns, arrays)


def _as_float(array: pa.Array, name: str) -> pa.Array:
    kind = array.type
    if pa.types.is_float64(kind) or pa.types.is_float32(kind):
        return array
    if pa.types.is_null(kind) or pa.types.is_boolean(kind):
        array, kind = array.cast(pa.int8()), pa.int8()
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return array.cast(pa.float64(), safe=False)
    raise InputError(f"Column {name!r} holds no numbers.", expected="floats, integers or booleans", found=str(kind))

"""Tables and matrices as addresses of columns, without a copy of what is float already."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from rayforest.errors import InputError
from rayforest.forest.layout import ADDRESS, IS_FLOAT32, STRIDE, VALIDITY, VALIDITY_BIT

Data = Any
"""An Arrow table or record batch, a numpy matrix of either order, or whatever speaks Arrow's stream protocol, such as a
Polars frame."""


_FLOATS = np.dtype(np.float64), np.dtype(np.float32)


class Block(NamedTuple):
    """Rows of one piece of memory a column."""

    rows: int
    base: int
    """Address from which the columns count."""
    columns: int
    """Address of int64 [features, 5], see `layout.ADDRESS`."""
    owners: tuple[Any, ...]
    """Keep the memory alive."""


def address_of(array: NDArray[Any]) -> int:
    """Where the array's first item lies. numpy's own answer takes a microsecond, of the five that one row takes."""
    address: int = pa.py_buffer(array).address if array.flags.forc else array.ctypes.data
    return address


def count_rows(data: Data) -> int:
    """Rows of a table or matrix."""
    return len(data)


def blocks(data: Data, n_features: int | None, n_used: int) -> Iterable[Block]:
    """The data's rows in order.

    Args:
        data: one column a feature, in the order of training.
        n_features: columns that the data must have, if the model says so.
        n_used: columns that the data must have at least.

    Raises:
        InputError: another number of columns, or a column that holds no numbers.
    """
    if isinstance(data, np.ndarray):
        return (_matrix_block(data, n_features, n_used),)
    table = _as_table(data)
    _check_width(table.num_columns, n_features, n_used)
    return map(_batch_block, table.to_batches())


def _check_width(width: int, n_features: int | None, n_used: int) -> None:
    if width != n_features if n_features is not None else width < n_used:
        expected = f"{n_features}" if n_features is not None else f"at least {n_used}"
        raise InputError(
            "the data does not fit the model",
            expected=f"{expected} columns",
            found=f"{width}",
            next_step="give one column a feature, in the order of training",
        )


def _as_table(data: Any) -> Any:
    if isinstance(data, pa.Table):
        return data
    if hasattr(data, "__arrow_c_stream__") or hasattr(data, "__arrow_c_array__"):
        return pa.table(data)
    raise InputError(
        "the tree kernel cannot read this data",
        expected="an Arrow table or record batch, a Polars frame, or a numpy matrix",
        found=type(data).__name__,
        next_step="convert it first, for example with pyarrow.table or numpy.asarray",
    )


def _matrix_block(matrix: NDArray[Any], n_features: int | None, n_used: int) -> Block:
    if matrix.ndim != 2:
        raise InputError(
            "the data is no matrix",
            expected="[rows, features]",
            found=str(list(matrix.shape)),
            next_step="reshape it; one row is row.reshape(1, -1)",
        )
    if matrix.dtype not in _FLOATS:
        if matrix.dtype.kind not in "biuf":
            raise InputError(
                "the matrix holds no numbers",
                expected="float64, float32 or integers",
                found=str(matrix.dtype),
                next_step="convert it first: matrix.astype(numpy.float64), with categories as their codes",
            )
        matrix = matrix.astype(np.float64)
    rows, width = matrix.shape
    at, columns = _matrix_columns(width, matrix.strides, matrix.itemsize, n_features, n_used)
    return Block(rows, address_of(matrix), at, (matrix, columns))


@lru_cache(maxsize=64)
def _matrix_columns(
    width: int, strides: tuple[int, int], itemsize: int, n_features: int | None, n_used: int
) -> tuple[int, NDArray[np.int64]]:
    """The columns of a matrix and their address: calls with a few rows come with one form, which fits the model."""
    _check_width(width, n_features, n_used)
    columns = np.empty((width, 5), dtype=np.int64)
    columns[:] = (0, strides[0], itemsize == 4, 0, 0)
    columns[:, ADDRESS] = strides[1] * np.arange(width)
    return columns.ctypes.data, columns


def _batch_block(batch: pa.RecordBatch) -> Block:
    arrays = tuple(_as_float(batch.column(i), batch.schema.field(i).name) for i in range(batch.num_columns))
    columns = np.zeros((len(arrays), 5), dtype=np.int64)
    for column, array in zip(columns, arrays, strict=True):
        validity, values = array.buffers()
        size = 4 if pa.types.is_float32(array.type) else 8
        column[ADDRESS] = (values.address if values is not None else 0) + array.offset * size
        column[STRIDE], column[IS_FLOAT32] = size, size == 4
        if validity is not None and array.null_count:
            column[VALIDITY], column[VALIDITY_BIT] = validity.address, array.offset
    return Block(batch.num_rows, 0, columns.ctypes.data, (*arrays, columns))


def _as_float(array: pa.Array, name: str) -> pa.Array:
    kind = array.type
    if pa.types.is_float64(kind) or pa.types.is_float32(kind):
        return array
    if pa.types.is_null(kind) or pa.types.is_boolean(kind):
        array, kind = array.cast(pa.int8()), pa.int8()
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return array.cast(pa.float64(), safe=False)
    raise InputError(
        f"column {name!r} holds no numbers",
        expected="floats, integers or booleans",
        found=str(kind),
        next_step="give the numbers of training, for categories their codes",
    )

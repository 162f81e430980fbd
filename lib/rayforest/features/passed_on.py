"""Key and carried columns on their way through: from what a file stores to the one type that they have in the output.

A column that is stored in that type already is handed on as it is. Another is converted, and a value that would not
come back the same fails its row: an integer that a double does not hold, a time beyond the reach of nanoseconds.
"""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from rayforest.features.contract import ColumnContract, Verdicts, is_missing
from rayforest.kinds import Kind
from rayforest.tables.columnar import kind_of
from rayforest.tables.common_type import TYPE_OF_KIND
from rayforest.tables.conversion import frame_of, inexact_integer, to_kind


def passed_on(
    table: pa.Table, field: pa.Field, column: ColumnContract | None, verdicts: Verdicts
) -> pa.ChunkedArray | pa.Array:
    """A raw column in its output type.

    Args:
        table: raw rows.
        field: name and output type, from `TableSchema.stored_type`.
        column: its contract, where it has one; says how text is read.
        verdicts: on the rows of the table; rows are failed here.
    """
    stored = table.column(field.name)
    if stored.type.equals(field.type):
        return stored
    kind, own = kind_of(field), kind_of(pa.field(field.name, stored.type))
    if kind is None or own is None:
        raise TypeError(f"{stored.type} does not become {field.type}")
    if kind is own or (own is Kind.BOOLEAN and kind is Kind.NUMBER) or pa.types.is_null(stored.type):
        values, changed = _converted(stored, field.type)
    else:
        values, unread, changed = _read(stored, kind, column)
        values = values.cast(field.type)
        verdicts.fail(
            unread.to_numpy() & ~verdicts.failed, f"{field.name} is not a {kind}"
        )  # the contract says it once
    verdicts.fail(changed, f"{field.name} would change as {field.type}, the type that fits all files")
    return values


def _read(
    stored: pa.ChunkedArray, kind: Kind, column: ColumnContract | None
) -> tuple[pa.ChunkedArray | pa.Array, pl.Series, pl.Series]:
    """Values of another kind, as CAST reads them; which of them do not read, and which are others there."""
    frame = frame_of(pa.table({"value": stored}))
    dtype, value = frame.schema["value"], pl.col("value")
    value = column.plain(value, dtype) if column is not None else value
    read = to_kind(value, dtype, kind, column.format if column else None)
    if kind is Kind.STRING and dtype.is_integer():
        read = value.cast(pl.String)
    changed = inexact_integer(value, dtype) if kind is Kind.NUMBER else pl.lit(value=False)
    missing = is_missing(dtype, replace(column or ColumnContract("value", kind), name="value"))
    done = frame.select(
        read.alias("read"), (read.is_null() & ~missing).fill_null(value=False).alias("unread"), changed.alias("changed")
    )
    values = done["read"]
    if kind is Kind.TIMESTAMP:
        values = values.dt.replace_time_zone("UTC")
    return (
        values.to_arrow(compat_level=pl.CompatLevel.oldest()).cast(TYPE_OF_KIND[kind]),
        done["unread"],
        done["changed"],
    )


def _converted(stored: pa.ChunkedArray, target: pa.DataType) -> tuple[pa.ChunkedArray, pl.Series]:
    """Values of the same kind in another type, and which of them are others there."""
    if pa.types.is_boolean(stored.type):
        stored = stored.cast(pa.int8())
    if pa.types.is_decimal(stored.type) and pa.types.is_floating(target):
        return stored.cast(target), _changed_decimals(stored)
    try:
        return stored.cast(target), pl.repeat(value=False, n=len(stored), eager=True)
    except pa.ArrowInvalid:  # a value does not fit: find out which
        values = stored.cast(target, safe=False)
    changed = pc.not_equal(values.cast(stored.type, safe=False), stored)
    if pa.types.is_integer(stored.type):  # the largest integers come back although they changed
        limit = 2.0**63 if pa.types.is_signed_integer(stored.type) else 2.0**64
        changed = pc.or_(changed, pc.greater_equal(pc.abs(values), limit))
    return values, frame_of(pa.table({"changed": changed}))["changed"]


def _changed_decimals(stored: pa.ChunkedArray) -> pl.Series:
    """Decimals of more digits than a double keeps."""
    return pl.Series(
        [None if v is None else Decimal(repr(float(v))) != v for v in stored.to_pylist()], dtype=pl.Boolean
    )

"""Columns that a file stores with types (Parquet, Arrow): their kinds, and rows of them as raw batches."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from rayforest.data.kinds import Kind
from rayforest.data.raw import BrokenRow, RawBatch
from rayforest.data.row_text import json_rows
from rayforest.errors import InputError, did_you_mean

_EXTENSION = b"ARROW:extension:name"


def kind_of(field: pa.Field) -> Kind | None:
    """The kind of a stored column; None for those that are not read.

    These are nested, binary, time-of-day and extension types, and decimals of more than 38 digits.
    """
    stored = field.type
    if isinstance(stored, pa.BaseExtensionType) or _EXTENSION in (field.metadata or {}):
        return None
    if pa.types.is_dictionary(stored):
        stored = stored.value_type
    if pa.types.is_boolean(stored):
        return Kind.BOOLEAN
    if pa.types.is_integer(stored) or pa.types.is_floating(stored) or pa.types.is_decimal(stored):
        return Kind.NUMBER if not pa.types.is_decimal256(stored) else None  # Polars has none of 39 digits and more
    if pa.types.is_timestamp(stored) or pa.types.is_date(stored):
        return Kind.TIMESTAMP
    if _is_text(stored) or pa.types.is_string_view(stored) or pa.types.is_null(stored):
        return Kind.STRING
    return None


def decoded_names(schema: pa.Schema) -> pa.Schema:
    """The schema, once its names have been read: in a damaged file they may not be UTF-8.

    Raises:
        UnicodeDecodeError: a name is not UTF-8.
    """
    return schema if schema.names else pa.schema([])


def check_names(uri: str, columns: tuple[str, ...], schema: pa.Schema) -> None:
    """Refuse columns that a file does not have, has twice, or has in a type that is not read."""
    refused = _first_refused(columns, schema)
    if refused is None:
        return
    column, count = refused
    if count == 0:
        raise InputError(
            f"{uri} has no column {column!r}",
            found=f"{len(schema)} columns",
            next_step=did_you_mean(column, schema.names),
        )
    if count > 1:
        raise InputError(f"{uri} has {count} columns named {column!r}", expected="a name only once")
    raise InputError(
        f"{uri}: column {column!r} cannot be read",
        expected="numbers, booleans, text, dates or timestamps",
        found=str(schema.field(column).type)[:80],
    )


def can_read(columns: tuple[str, ...], schema: pa.Schema) -> bool:
    """Whether `check_names` passes."""
    return _first_refused(columns, schema) is None


def _first_refused(columns: tuple[str, ...], schema: pa.Schema) -> tuple[str, int] | None:
    """The first column that cannot be read, and how often the schema has it."""
    return _look_for_refused(columns, schema.serialize().to_pybytes())  # equal schemas may differ in their metadata


@lru_cache(maxsize=64)  # thousands of files have one schema
def _look_for_refused(columns: tuple[str, ...], encoded: bytes) -> tuple[str, int] | None:
    schema = pa.ipc.read_schema(pa.py_buffer(encoded))
    counts = Counter(schema.names)
    for column in columns:
        if counts[column] != 1 or kind_of(schema.field(column)) is None:
            return column, counts[column]
    return None


def stored_batch(path: str, table: pa.Table, rows: npt.NDArray[np.int64]) -> RawBatch:
    """A batch of stored rows; those with text that is not UTF-8 are broken.

    Raises:
        pa.ArrowInvalid: the values do not fit their own types.
    """
    reasons = _undecodable_text(table)
    table = _plain(table)  # only now: a damaged dictionary must not be followed
    if not reasons:
        return RawBatch(path, rows, table)
    bad = np.array(sorted(reasons))
    good = np.setdiff1d(np.arange(table.num_rows), bad)
    broken = [
        BrokenRow(int(rows[row]), reasons[row], text)
        for row, text in zip(bad.tolist(), json_rows(_as_bytes(table).take(pa.array(bad))), strict=True)
    ]
    return RawBatch(path, rows[good], table.take(pa.array(good)), tuple(broken))


def _undecodable_text(table: pa.Table) -> dict[int, str]:
    """Row -> what is wrong with its text."""
    with suppress(pa.ArrowInvalid):
        table.validate(full=True)
        return {}
    reasons: dict[int, str] = {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        try:
            column.validate(full=True)
        except pa.ArrowInvalid:
            if not _is_text(column.type):
                raise
            reasons |= dict.fromkeys(_undecodable(column), f"{name} holds bytes that are not utf-8")
    return reasons


@lru_cache(maxsize=64)
def plain_schema(schema: pa.Schema) -> pa.Schema:
    """The same columns in types that every consumer takes: no dictionaries and views, nothing that Parquet changes."""
    return pa.schema([pa.field(field.name, _plain_type(field.type)) for field in schema])


def _plain_type(stored: pa.DataType) -> pa.DataType:
    if pa.types.is_dictionary(stored):
        stored = stored.value_type
    if pa.types.is_date64(stored):
        return pa.date32()
    if pa.types.is_timestamp(stored) and stored.unit == "s":
        return pa.timestamp("ms", stored.tz)
    return pa.string() if pa.types.is_string_view(stored) else stored


def _plain(table: pa.Table) -> pa.Table:
    plain = plain_schema(table.schema)
    return table if table.schema.equals(plain) else table.cast(plain)


def _is_text(stored: pa.DataType) -> bool:
    return bool(pa.types.is_string(stored) or pa.types.is_large_string(stored))


def _as_bytes(table: pa.Table) -> pa.Table:
    fields = [f.with_type(_bytes_type(f.type)) if _is_text(f.type) else f for f in table.schema]
    return table.cast(pa.schema(fields))


def _bytes_type(text: pa.DataType) -> pa.DataType:
    """Bytes of the same layout, so that the cast follows no offset."""
    return pa.binary() if pa.types.is_string(text) else pa.large_binary()


def _undecodable(column: pa.ChunkedArray) -> list[int]:
    raw = column.cast(_bytes_type(column.type))
    raw.validate(full=True)  # damaged offsets, rather than text
    rows = []
    for row, value in enumerate(raw.to_pylist()):
        try:
            (value or b"").decode()
        except UnicodeDecodeError:
            rows.append(row)
    return rows

"""Columns that a file stores with types (Parquet, Arrow): their kinds, and rows of them as raw batches."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from rayforest.errors import InputError, did_you_mean
from rayforest.kinds import Kind
from rayforest.tables.batch import BrokenRow, RawBatch
from rayforest.tables.row_text import json_rows
from rayforest.tables.schema import FileColumn, fault_of_name

_EXTENSION = b"ARROW:extension:name"
_MOST_DIGITS = 38
"""Of a decimal in Polars."""


def kind_of(field: pa.Field) -> Kind | None:
    """The kind of a stored column; None for those that are not read.

    These are nested, binary, time-of-day, duration and extension types, decimals of more than 38 digits, and columns
    of a name that Polars does not take.
    """
    stored = field.type
    extended = isinstance(stored, pa.BaseExtensionType) or _EXTENSION in (field.metadata or {})
    if extended or fault_of_name(field.name):
        return None
    if pa.types.is_dictionary(stored):
        stored = stored.value_type
    if pa.types.is_boolean(stored):
        return Kind.BOOLEAN
    if pa.types.is_integer(stored) or pa.types.is_floating(stored) or pa.types.is_decimal(stored):
        long = pa.types.is_decimal(stored) and _whole_precision(stored) > _MOST_DIGITS
        return None if long or pa.types.is_decimal256(stored) else Kind.NUMBER
    if pa.types.is_timestamp(stored) or pa.types.is_date(stored):
        return Kind.TIMESTAMP
    if _is_text(stored) or pa.types.is_string_view(stored) or pa.types.is_null(stored):
        return Kind.STRING
    return None


@lru_cache(maxsize=256)
def file_columns(encoded: bytes, far: frozenset[str] = frozenset()) -> tuple[FileColumn, ...]:
    """The columns of a serialized schema, one object for all files of that schema; `far`: see `Footer`."""
    return tuple(_file_column(field, far) for field in pa.ipc.read_schema(pa.py_buffer(encoded)))


def _file_column(field: pa.Field, far: frozenset[str]) -> FileColumn:
    kind = kind_of(field)
    if kind is None:
        why = fault_of_name(field.name) or f"rayforest does not read {str(field.type)[:80]}"
        return FileColumn(field.name, None, str(field.type), unread=why)
    plain = plain_type(field.type)
    return FileColumn(field.name, None if pa.types.is_null(plain) else kind, str(plain), far=field.name in far)


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
        raise InputError(
            f"{uri} has {count} columns named {column!r}",
            expected="a name only once",
            next_step="rename one where the file is written, or use neither",
        )
    raise InputError(
        f"{uri}: column {column!r} cannot be read",
        expected="numbers, booleans, text, dates or timestamps",
        found=str(schema.field(column).type)[:80],
        next_step="store it as one of these, or leave it out",
    )


def can_read(columns: tuple[str, ...], schema: pa.Schema) -> bool:
    """Whether `check_names` passes."""
    return _first_refused(columns, schema) is None


def _first_refused(columns: tuple[str, ...], schema: pa.Schema) -> tuple[str, int] | None:
    """The first column that cannot be read, and how often the schema has it."""
    return _cached_first_refused(columns, schema.serialize().to_pybytes())  # equal schemas may differ in their metadata


@lru_cache(maxsize=64)  # thousands of files have one schema
def _cached_first_refused(columns: tuple[str, ...], encoded: bytes) -> tuple[str, int] | None:
    schema = pa.ipc.read_schema(pa.py_buffer(encoded))
    counts = Counter(schema.names)
    for column in columns:
        if counts[column] != 1 or kind_of(schema.field(column)) is None:
            return column, counts[column]
    return None


def stored_batch(path: str, table: pa.Table, rows: npt.NDArray[np.int64]) -> RawBatch:
    """A batch of stored rows; those with a value that does not fit its own type are broken.

    Such values are text that is not UTF-8, a decimal of too many digits, a date64 within a day, and a time in seconds
    beyond the reach of milliseconds.

    Raises:
        pa.ArrowInvalid: the file is damaged in another way.
    """
    reasons = _misfits(table)
    if not reasons:
        return RawBatch(path, rows, _plain(table))
    bad = np.array(sorted(reasons))
    good = np.setdiff1d(np.arange(table.num_rows), bad)
    broken = [
        BrokenRow(int(rows[row]), reasons[row], text)
        for row, text in zip(bad.tolist(), json_rows(_as_bytes(table).take(pa.array(bad))), strict=True)
    ]
    return RawBatch(path, rows[good], _plain(table.take(pa.array(good, pa.int64()))), tuple(broken))


def _misfits(table: pa.Table) -> dict[int, str]:
    """Row -> which of its values does not fit its own type; a damaged dictionary is not followed."""
    try:
        table.validate(full=True)
        columns = [field.name for field in table.schema if _is_seconds(field.type)]
    except pa.ArrowInvalid:
        columns = table.column_names
    reasons: dict[int, str] = {}
    for name in columns:
        column = table.column(name)
        try:
            column.validate(full=True)
        except pa.ArrowInvalid:
            found = _misfits_of(column)
            if found is None:
                raise
            reasons |= dict.fromkeys(found[0], f"{name} holds {found[1]}")
            continue
        if _is_seconds(column.type):
            seconds = column.cast(pa.int64())
            far = pc.or_(pc.greater(seconds, _MOST_SECONDS), pc.less(seconds, -_MOST_SECONDS))
            reasons |= dict.fromkeys(_rows_of(far), f"{name} holds a time beyond the calendar")
    return reasons


_MOST_SECONDS = 9 * 10**15
"""As milliseconds they still fit 64 bits; they are 285 million years."""


def _misfits_of(column: pa.ChunkedArray) -> tuple[list[int], str] | None:
    """Rows of a column that is not valid, and what they hold; None where its type says nothing of it."""
    stored = column.type
    if _is_text(stored):
        return _undecodable(column), "bytes that are not utf-8"
    if pa.types.is_date64(stored):
        day = pc.multiply(pc.divide(column.cast(pa.int64()), _DAY_MS), _DAY_MS)
        return _rows_of(pc.not_equal(day, column.cast(pa.int64()))), "a date that is not a whole day"
    if pa.types.is_decimal(stored):
        long = [row for row, v in enumerate(column.to_pylist()) if v is not None and _digits(v) > stored.precision]
        return long, f"a decimal of more than {stored.precision} digits"
    return None


_DAY_MS = 86_400_000


def _digits(value: Decimal) -> int:
    return len(value.as_tuple().digits)


def _rows_of(mask: pa.ChunkedArray) -> list[int]:
    return list(pc.indices_nonzero(mask).to_pylist())


def _is_seconds(stored: pa.DataType) -> bool:
    return bool(pa.types.is_timestamp(stored) and stored.unit == "s")


@lru_cache(maxsize=64)
def plain_schema(schema: pa.Schema) -> pa.Schema:
    """The same columns in types that every consumer takes: no dictionaries and views, nothing that Parquet changes.

    Zones that Polars does not know are UTC: the instants are the same. Metadata, which need not be UTF-8, is left out.
    """
    return pa.schema([pa.field(field.name, plain_type(field.type)) for field in schema])


def plain_type(stored: pa.DataType) -> pa.DataType:
    """The type in which a column of a stored one is read."""
    if pa.types.is_dictionary(stored):
        return plain_type(stored.value_type)
    if pa.types.is_date64(stored):
        return pa.date32()
    if pa.types.is_timestamp(stored):
        unit = "ms" if stored.unit == "s" else stored.unit
        return pa.timestamp(unit, None if not stored.tz else _zone(stored.tz))
    if pa.types.is_decimal(stored):
        return pa.decimal128(_whole_precision(stored), max(stored.scale, 0))
    return pa.string() if pa.types.is_string_view(stored) else stored


def _whole_precision(stored: pa.DataType) -> int:
    """Digits of a decimal; hundreds alone, a negative scale, have two more before the point."""
    return int(stored.precision - min(stored.scale, 0))


@lru_cache(maxsize=1024)
def _zone(name: str) -> str:
    """The zone where Polars has one of that name, else UTC."""
    try:
        return name if pl.Series(pa.array([], pa.timestamp("us", name))).dtype == pl.Datetime("us", name) else "UTC"
    except pl.exceptions.PolarsError:
        return "UTC"


def _plain(table: pa.Table) -> pa.Table:
    plain = plain_schema(table.schema)
    if table.schema.equals(plain):
        return pa.Table.from_arrays(table.columns, schema=plain) if has_metadata(table.schema) else table
    for place, field in enumerate(table.schema):
        if pa.types.is_dictionary(field.type) and pa.types.is_string_view(field.type.value_type):
            table = table.set_column(place, field.name, _without_views(table.column(place)))
    return table.cast(plain)


def _without_views(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A dictionary of views as one of strings: Arrow decodes no other."""
    chunks = [pa.DictionaryArray.from_arrays(c.indices, c.dictionary.cast(pa.string())) for c in column.chunks]
    return pa.chunked_array(chunks, pa.dictionary(column.type.index_type, pa.string()))


def has_metadata(schema: pa.Schema) -> bool:
    """Whether anything stands beside the names and types of a schema, such as bytes that are not UTF-8."""
    return schema.metadata is not None or any(field.metadata is not None for field in schema)


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

"""Many small Parquet files in one read, with Polars, which such a file costs half of what it costs Arrow.

Arrow remains what decides. Only columns that both read alike are read here, only files that are as planned and have no
page checksums, which Polars does not verify; whatever Polars refuses is left to Arrow, which says what is wrong.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import polars as pl
import pyarrow as pa

from rayforest.engine.shards import Slice
from rayforest.errors import InputError
from rayforest.tables.batch import BATCH_ROWS
from rayforest.tables.columnar import can_read, plain_schema
from rayforest.tables.parquet import footer_identity, has_page_checksums, parquet_schema

SMALL_ROWS = 16_384
"""Rows of a file up to which opening it costs more than decoding it."""


def groups_of_small_files(parts: Sequence[Slice]) -> Iterator[list[Slice]]:
    """The slices in order: runs of small files that make up to a batch of rows, and each other slice alone."""
    group: list[Slice] = []
    rows = 0
    for part in parts:
        small = part.first_row == 0 and 0 < part.rows <= SMALL_ROWS and part.byte_stop == 0
        if group and (not small or rows + part.rows > BATCH_ROWS):
            yield group
            group, rows = [], 0
        if small:
            group.append(part)
            rows += part.rows
        else:
            yield [part]
    if group:
        yield group


def read_small_files(parts: Sequence[Slice], columns: Sequence[str], optional: Sequence[str]) -> list[pa.Table] | None:
    """The rows of each file, as `read_parquet` gives them, or None where Arrow has to read them.

    Args:
        parts: whole Parquet files.
        columns: names of columns to read.
        optional: further columns, of which those that the first file has are read.
    """
    try:
        table = _read(parts, columns, optional)
        # after reading: a file that was replaced before has another footer now
        if table is None or any(footer_identity(p.uri) != p.identity or has_page_checksums(p.uri) for p in parts):
            return None
    except (InputError, OSError, pl.exceptions.PolarsError, pl.exceptions.PanicException):
        return None
    tables, at = [], 0
    for part in parts:
        tables.append(table.slice(at, part.rows))
        at += part.rows
    return tables


def _read(parts: Sequence[Slice], columns: Sequence[str], optional: Sequence[str]) -> pa.Table | None:
    stored = parquet_schema(parts[0].uri)
    names = (*columns, *(name for name in optional if name in stored.names))
    if not names or not can_read(names, stored):
        return None
    plain = plain_schema(pa.schema([stored.field(name) for name in names]))
    if not all(_is_read_alike(field.type) for field in plain):
        return None
    files = pl.scan_parquet([part.uri for part in parts], glob=False, hive_partitioning=False)  # all of one schema
    frame = files.select(names).collect()
    if frame.height != sum(part.rows for part in parts) or frame.schema != pl.DataFrame(plain.empty_table()).schema:
        return None
    return frame.to_arrow(compat_level=pl.CompatLevel.oldest()).cast(plain)  # text only, to the width of its offsets


def _is_read_alike(stored: pa.DataType) -> bool:
    """Times are left out: units and zones come from what the writer says beside the file's own schema."""
    types = pa.types
    return bool(
        types.is_integer(stored)
        or types.is_float32(stored)
        or types.is_float64(stored)
        or types.is_boolean(stored)
        or types.is_string(stored)
        or types.is_large_string(stored)
        or types.is_date32(stored)
    )

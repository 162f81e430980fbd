"""Many small Parquet files in one read, with Polars (see `polars_decoding`): opening them costs most of the time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from rayforest.engine.shards import RowRange
from rayforest.errors import InputError
from rayforest.tables.batch import BATCH_ROWS
from rayforest.tables.parquet import footer_bytes, identity_of, metadata_of, parquet_schema
from rayforest.tables.polars_decoding import as_table, decode, has_page_checksums, read_alike
from rayforest.tables.raw_file import LocalFile, RawFile

SMALL_ROWS = 16_384
"""Rows of a file up to which opening it costs more than decoding it."""
_FIRST_PAGE = 4
"""Where it begins in a file, nearly always."""


def groups_of_small_files(ranges: Sequence[RowRange]) -> Iterator[list[RowRange]]:
    """The ranges in order: runs of small files that make up to a batch of rows, and each other range alone."""
    group: list[RowRange] = []
    rows = 0
    for row_range in ranges:
        small = row_range.first_row == 0 and 0 < row_range.rows <= SMALL_ROWS and row_range.byte_stop == 0
        if group and (not small or rows + row_range.rows > BATCH_ROWS):
            yield group
            group, rows = [], 0
        if small:
            group.append(row_range)
            rows += row_range.rows
        else:
            yield [row_range]
    if group:
        yield group


def read_small_files(
    ranges: Sequence[RowRange], files: Sequence[RawFile], columns: Sequence[str], optional: Sequence[str]
) -> list[pa.Table] | None:
    """The rows of each file, as `read_parquet` gives them, or None where Arrow has to read them.

    Args:
        ranges: whole Parquet files.
        files: where these are.
        columns: names of columns to read.
        optional: further columns, of which those that the first file has are read.
    """
    try:
        table = _read(ranges, files, columns, optional)
        if table is None or not _are_alike(ranges, files, table.schema):
            return None
    except (InputError, OSError):
        return None
    tables, at = [], 0
    for row_range in ranges:
        tables.append(table.slice(at, row_range.rows))
        at += row_range.rows
    return tables


def _read(
    ranges: Sequence[RowRange], files: Sequence[RawFile], columns: Sequence[str], optional: Sequence[str]
) -> pa.Table | None:
    stored = parquet_schema(files[0])
    plain = read_alike([*columns, *(name for name in optional if name in stored.names)], stored)
    if plain is None:
        return None
    # Polars reads local files; what comes from a store is read here, once, of one etag
    places = [file.uri if isinstance(file, LocalFile) else file.begin(file.size) for file in files]
    frame = decode(places, plain)
    if frame is None or frame.height != sum(row_range.rows for row_range in ranges):
        return None
    return as_table(frame, plain)


def _are_alike(ranges: Sequence[RowRange], files: Sequence[RawFile], schema: pa.Schema) -> bool:
    """Whether all files are as planned, without page checksums, and their writers mean the same units of time.

    To be asked after reading: a file that was replaced before has another footer now.
    """
    with_times = any(pa.types.is_timestamp(field.type) for field in schema)
    first = None
    for row_range, file in zip(ranges, files, strict=True):
        footer = footer_bytes(file)
        if identity_of(file.size, footer) != row_range.identity or has_page_checksums(file, _FIRST_PAGE):
            return False
        if with_times:
            metadata = metadata_of(footer)
            first = first or metadata
            if not metadata.schema.equals(first.schema) or _arrow_schema(metadata) != _arrow_schema(first):
                return False
    return True


def _arrow_schema(metadata: pq.FileMetaData) -> bytes | None:
    """What the writer says of its columns beside the file's own schema: units of time, above all."""
    said: dict[bytes, bytes] = metadata.metadata or {}
    return said.get(b"ARROW:schema")

"""Raw tables: list the files of a source, cut them into pieces, name their columns, read their rows.

Every row of a slice comes out once, in file order: as values in `RawBatch.table`, or in `RawBatch.broken` with the
reason why its text could not become values.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from rayforest.data.arrow_ipc import ipc_pieces, ipc_schema, read_ipc
from rayforest.data.csv import count_pieces, infer_kinds, read_head, read_rows, sample_rows
from rayforest.data.files import format_of, hive_columns, list_files
from rayforest.data.kinds import Kind
from rayforest.data.parquet import footer_identity, parquet_pieces, parquet_schema, read_parquet
from rayforest.data.raw import BrokenRow, CsvFormat, FileFormat, RawBatch, Source, SourceFile
from rayforest.data.small_files import groups_of_small_files, read_small_files
from rayforest.data.stored import kind_of, plain_schema
from rayforest.data.unreadable import changed_file
from rayforest.engine.shards import InputFile, Slice
from rayforest.errors import InputError

__all__ = [
    "BrokenRow",
    "CsvFormat",
    "FileFormat",
    "RawBatch",
    "Source",
    "SourceFile",
    "column_names",
    "columns",
    "csv_format",
    "identify",
    "inspect",
    "list_files",
    "read",
    "read_all",
    "stored_schema",
    "unsupported_columns",
]


def inspect(file: SourceFile, source: Source, *, shard_rows: int) -> InputFile:
    """Open a file: find the parts that can be read alone, and what identifies its contents.

    Parquet and Arrow: one piece a row group or record batch. CSV: byte ranges at line starts of at most `shard_rows`
    rows and about 16 MB; a compressed file, or one in an encoding such as UTF-16, is one piece, addressed by row, and
    every slice of it is read from the file's beginning.

    Raises:
        InputError: the file is damaged, or not what its format says.
    """
    match file.format:
        case "parquet":
            pieces = parquet_pieces(file.uri)
        case "arrow":
            pieces = ipc_pieces(file.uri)
        case "csv":
            pieces = count_pieces(file.uri, file.size, csv_format(file.uri, source), shard_rows)
    return InputFile(file.path, file.uri, file.size, file.stamp, identify(file), pieces)


def columns(file: SourceFile, source: Source) -> dict[str, Kind]:
    """Kind of each column that can be read, in file order, then those of hive folders.

    CSV kinds are inferred from the first 10,000 rows. Columns of types that are not read are left out; see
    `unsupported_columns`.
    """
    if file.format == "csv":
        kinds = infer_kinds(sample_rows(file.uri, csv_format(file.uri, source)))
    else:
        kinds = {field.name: kind for field in _schema(file) if (kind := kind_of(field)) is not None}
    for name, value in hive_columns(file.path).items():
        kinds[name] = Kind.NUMBER if _is_number(value) else Kind.STRING
    return kinds


def column_names(part: Slice, source: Source) -> set[str]:
    """Names of the columns in the file of a slice, readable or not, and of its hive folders."""
    match format_of(part.uri, source):
        case "parquet":
            names = parquet_schema(part.uri).names
        case "arrow":
            names = ipc_schema(part.uri).names
        case "csv":
            names = read_head(part.uri, csv_format(part.uri, source)).names
    return {*names, *hive_columns(part.path)}


def identify(file: SourceFile) -> str:
    """What tells the contents of a file from others: a hash of the footer for Parquet, size and time of change else.

    Raises:
        InputError: the file is no Parquet file though its format says so.
    """
    return footer_identity(file.uri) if file.format == "parquet" else _identity(file.size, file.stamp)


def stored_schema(file: SourceFile, names: Sequence[str]) -> pa.Schema:
    """Arrow types of columns as `read` gives them: text for CSV and hive columns, else as stored."""
    hive = hive_columns(file.path)
    if file.format == "csv":
        return pa.schema([pa.field(name, pa.string()) for name in names])
    plain = plain_schema(_schema(file))
    return pa.schema([pa.field(name, pa.string() if name in hive else plain.field(name).type) for name in names])


def unsupported_columns(file: SourceFile) -> dict[str, str]:
    """Stored type of each column that cannot be read: nested, binary, time of day, duration, extension types."""
    if file.format == "csv":
        return {}
    return {field.name: str(field.type) for field in _schema(file) if kind_of(field) is None}


def read(part: Slice, source: Source, columns: Sequence[str], *, optional: Sequence[str] = ()) -> Iterator[RawBatch]:
    """Read the rows of a slice.

    Args:
        part: rows of one file, from a plan over `inspect`ed files.
        source: the source that listed the file.
        columns: names of the columns to read, in the order that `RawBatch.table` is to have.
        optional: further columns; those that the file does not have are left out.

    Yields:
        Batches of at most 131,072 rows; their `table` rows and `broken` rows add up to the rows of the slice.

    Raises:
        InputError: the file changed since it was planned, is damaged, or lacks a column.
    """
    form = format_of(part.uri, source)
    hive = hive_columns(part.path)
    if optional and (form != "parquet" or hive):
        there = column_names(part, source)
        columns, optional = [*columns, *(name for name in optional if name in there)], ()
    stored = [name for name in columns if name not in hive]
    match form:
        case "parquet":
            batches = read_parquet(part, stored, optional)
        case "arrow":
            _refuse_changed(part)
            batches = read_ipc(part.uri, part.path, stored, first_row=part.first_row, rows=part.rows)
        case "csv":
            _refuse_changed(part)
            batches = read_rows(part, csv_format(part.uri, source), stored)
    found = 0
    for batch in batches:
        found += len(batch.rows) + len(batch.broken)
        yield _with_hive(batch, hive, columns) if len(stored) < len(columns) else batch
    if found != part.rows:
        raise InputError(f"{part.uri} changed during the run", expected=f"{part.rows} rows", found=f"{found} rows")


def read_all(
    parts: Sequence[Slice], source: Source, columns: Sequence[str], *, optional: Sequence[str] = ()
) -> Iterator[RawBatch]:
    """Read the rows of slices in order, as `read` does, but many small files at once where that gives the same."""
    for group in groups_of_small_files(parts):
        tables = None
        if len(group) > 1 and all(format_of(p.uri, source) == "parquet" and not hive_columns(p.path) for p in group):
            tables = read_small_files(group, columns, optional)
        if tables is not None:
            for part, table in zip(group, tables, strict=True):
                yield RawBatch(part.path, np.arange(part.rows), table)
        else:
            for part in group:
                yield from read(part, source, columns, optional=optional)


def csv_format(path: str, source: Source) -> CsvFormat:
    """How a text table is written: the source's options, or the defaults for its ending."""
    if source.csv is not None:
        return source.csv
    return CsvFormat(delimiter="\t") if ".tsv" in Path(path).suffixes[-2:] else CsvFormat()


def _schema(file: SourceFile) -> pa.Schema:
    return parquet_schema(file.uri) if file.format == "parquet" else ipc_schema(file.uri)


def _identity(size: int, stamp: str) -> str:
    return f"{size}-{stamp}"


def _refuse_changed(part: Slice) -> None:
    try:
        status = Path(part.uri).stat()
    except OSError as error:
        raise InputError(f"{part.uri} cannot be read any more", found=error.strerror or "") from error
    if _identity(status.st_size, str(status.st_mtime_ns)) != part.identity:
        raise changed_file(part.uri)


def _with_hive(batch: RawBatch, hive: dict[str, str | None], columns: Sequence[str]) -> RawBatch:
    rows = len(batch.rows)
    arrays = [
        pa.repeat(pa.scalar(hive[name], pa.string()), rows) if name in hive else batch.table.column(name)
        for name in columns
    ]
    return replace(batch, table=pa.Table.from_arrays(arrays, names=list(columns)))


def _is_number(text: str | None) -> bool:
    try:
        float(text or "x")
    except ValueError:
        return False
    return True

"""Raw tables: list the files of a source, cut them into pieces, name their columns, read their rows.

Every row of a slice comes out once, in file order: as values in `RawBatch.table`, or in `RawBatch.broken` with the
reason why its text could not become values.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa

from rayforest.data.arrow_ipc import ipc_contents, ipc_schema, read_ipc
from rayforest.data.csv import SAMPLE_ROWS, count_pieces, read_head, read_rows, sample_rows
from rayforest.data.csv.infer import infer_kind, nearly_kind, readable_as
from rayforest.data.files import format_of, hive_columns, list_files
from rayforest.data.kinds import Kind
from rayforest.data.number_style import NumberStyle
from rayforest.data.parquet import footer_identity, parquet_footer, parquet_schema, read_parquet
from rayforest.data.raw import BrokenRow, CsvFormat, FileFormat, RawBatch, Source, SourceFile
from rayforest.data.small_files import groups_of_small_files, read_small_files
from rayforest.data.stored import file_columns, kind_of
from rayforest.data.table_schema import FileColumn, TableSchema
from rayforest.data.unreadable import changed_file
from rayforest.engine.shards import InputFile, Piece, Slice
from rayforest.errors import InputError

__all__ = [
    "BrokenRow",
    "CsvFormat",
    "FileFormat",
    "FileLook",
    "RawBatch",
    "Source",
    "SourceFile",
    "column_names",
    "columns",
    "csv_format",
    "inspect",
    "list_files",
    "look",
    "read",
    "read_all",
    "unsupported_columns",
]


@dataclass(frozen=True)
class FileLook:
    """What a file says of itself before its rows are read."""

    identity: str
    has_rows: bool
    columns: tuple[FileColumn, ...]
    pieces: tuple[Piece, ...] | None
    """As `inspect` gives them; None for text tables, whose every byte that would take."""


def look(file: SourceFile, source: Source, *, sample: int = SAMPLE_ROWS) -> FileLook:
    """Open a file once: what identifies it, its columns, and of Parquet and Arrow its pieces.

    Args:
        file: a file of the source.
        source: how it is written.
        sample: rows of a text table from which the kinds of its columns are guessed.

    Raises:
        InputError: the file is damaged, or not what its format says.
    """
    hive = tuple(
        FileColumn(name, None if value is None else _kind_of_folder(value), "string", is_text=True)
        for name, value in hive_columns(file.path).items()
    )
    if file.format == "csv":
        rows = sample_rows(file.uri, csv_format(file.uri, source), sample)
        numbers = csv_format(file.uri, source).numbers
        columns = tuple(_text_column(name, pl.Series(rows.column(name)), numbers) for name in rows.column_names)
        return FileLook(_stamped(file), rows.num_rows > 0, _beside(columns, hive), None)
    if file.format == "parquet":
        identity, schema, pieces = parquet_footer(file.uri)
    else:
        identity, (schema, pieces) = _stamped(file), ipc_contents(file.uri)
    return FileLook(identity, bool(pieces), _beside(file_columns(schema.serialize().to_pybytes()), hive), pieces)


def _text_column(name: str, texts: pl.Series, numbers: NumberStyle) -> FileColumn:
    kind = infer_kind(texts, numbers) if texts.null_count() < texts.len() else None
    nearly = nearly_kind(texts, numbers) if kind is Kind.STRING else None
    return FileColumn(name, kind, "string", is_text=True, nearly=nearly)


def _beside(columns: tuple[FileColumn, ...], hive: tuple[FileColumn, ...]) -> tuple[FileColumn, ...]:
    """The columns of a file with those of its folders, which take the place of its own of that name."""
    if not hive:
        return columns
    named = {column.name for column in hive}
    return (*(column for column in columns if column.name not in named), *hive)


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
            identity, _, pieces = parquet_footer(file.uri)
        case "arrow":
            identity, (_, pieces) = _stamped(file), ipc_contents(file.uri)
        case "csv":
            identity = _stamped(file)
            pieces = count_pieces(file.uri, file.size, csv_format(file.uri, source), shard_rows)
    return InputFile(file.path, file.uri, file.size, file.stamp, identity, pieces)


def columns(file: SourceFile, source: Source) -> dict[str, Kind]:
    """Kind of each column of one file that can be read, in file order, then those of hive folders.

    CSV kinds are inferred from the first 10,000 rows. What all files of a source say together is in `TableSchema`.
    """
    return TableSchema.of([(file.path, True, look(file, source).columns)]).kinds


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
    if not part.rows:
        _refuse_changed(part, form)
        return
    hive = hive_columns(part.path)
    if optional and (form != "parquet" or hive):
        there = column_names(part, source)
        columns, optional = [*columns, *(name for name in optional if name in there)], ()
    stored = [name for name in columns if name not in hive]
    match form:
        case "parquet":
            batches = read_parquet(part, stored, optional)
        case "arrow":
            _refuse_changed(part, form)
            batches = read_ipc(part.uri, part.path, stored, first_row=part.first_row, rows=part.rows)
        case "csv":
            _refuse_changed(part, form)
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


def _stamped(file: SourceFile) -> str:
    """The identity of a file whose contents are not hashed."""
    return f"{file.size}-{file.stamp}"


def _refuse_changed(part: Slice, form: FileFormat) -> None:
    try:
        if form == "parquet":
            identity = footer_identity(part.uri)
        else:
            status = Path(part.uri).stat()
            identity = f"{status.st_size}-{status.st_mtime_ns}"
    except OSError as error:
        raise InputError(f"{part.uri} cannot be read any more", found=error.strerror or "") from error
    if identity != part.identity:
        raise changed_file(part.uri)


def _with_hive(batch: RawBatch, hive: dict[str, str | None], columns: Sequence[str]) -> RawBatch:
    rows = len(batch.rows)
    arrays = [
        pa.repeat(pa.scalar(hive[name], pa.string()), rows) if name in hive else batch.table.column(name)
        for name in columns
    ]
    return replace(batch, table=pa.Table.from_arrays(arrays, names=list(columns)))


@lru_cache(maxsize=4096)
def _kind_of_folder(text: str) -> Kind:
    return Kind.NUMBER if readable_as(pl.Series([text]), Kind.NUMBER).item() else Kind.STRING

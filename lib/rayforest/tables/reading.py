"""Raw tables: list the files of a source, cut them into pieces, name their columns, read their rows.

Every row of a range comes out once, in file order: as values in `RawBatch.table`, or in `RawBatch.broken` with the
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

from rayforest.engine.shards import InputFile, Piece, RowRange
from rayforest.kinds import Kind
from rayforest.tables.arrow_ipc import ipc_contents, ipc_schema, read_ipc
from rayforest.tables.batch import BrokenRow, CsvFormat, FileFormat, RawBatch, Source, SourceFile
from rayforest.tables.columnar import file_columns, kind_of
from rayforest.tables.csv import SAMPLE_ROWS, count_pieces, guess_each, read_head, read_rows, sample_rows
from rayforest.tables.csv.head import HEAD_BYTES
from rayforest.tables.csv.infer import Guess, infer_kind
from rayforest.tables.csv.read import SAMPLE_BYTES
from rayforest.tables.damage import changed_file
from rayforest.tables.listing import find_files, format_of, hive_columns, list_files
from rayforest.tables.number_style import NumberStyle
from rayforest.tables.parquet import footer_identity, parquet_footer, parquet_schema, read_parquet
from rayforest.tables.raw_file import RawFile, raw_file, refuse_changed
from rayforest.tables.read_ahead import begun, begun_one_ahead
from rayforest.tables.schema import FileColumn, TableSchema, fault_of_name
from rayforest.tables.small_files import groups_of_small_files, read_small_files
from rayforest.tables.snapshots.layout import footer_in
from rayforest.tables.snapshots.read import look_at_snapshot_file, read_snapshot_file

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
    "find_files",
    "inspect",
    "inspect_each",
    "list_files",
    "look",
    "look_at_each",
    "read",
    "read_placed",
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


def look(file: SourceFile, source: Source) -> FileLook:
    """What one file says of itself; see `look_at_each`."""
    return look_at_each([(file, SAMPLE_ROWS)], source)[0]


def look_at_each(files: Sequence[tuple[SourceFile, int]], source: Source) -> list[FileLook]:
    """Open each file once: what identifies it, its columns, and of Parquet and Arrow its pieces.

    Args:
        files: files of the source, and the rows of each text table from which the kinds of its columns are guessed.
        source: how they are written.

    Raises:
        InputError: a file is damaged, or not what its format says.
    """
    opened = begun([file for file, _ in files], HEAD_BYTES + SAMPLE_BYTES)
    samples = []
    for raw, (file, rows) in zip(opened, files, strict=True):
        if file.format == "csv":
            form = csv_format(raw.uri, source)
            samples.append((sample_rows(raw, form, rows), form.numbers))
    columns = iter(_text_columns(samples))
    return [
        _text_look(file, *next(columns)) if file.format == "csv" else _stored_look(file, raw, source)
        for raw, (file, _) in zip(opened, files, strict=True)
    ]


def _text_columns(samples: Sequence[tuple[pa.Table, NumberStyle]]) -> list[tuple[bool, tuple[FileColumn, ...]]]:
    """Of each sample, whether it has rows, and its columns; samples of equal names are judged together."""
    columns: list[tuple[FileColumn, ...]] = [()] * len(samples)
    alike: dict[tuple[tuple[str, ...], NumberStyle], list[int]] = {}
    for place, (sample, numbers) in enumerate(samples):
        alike.setdefault((tuple(sample.column_names), numbers), []).append(place)
    for (names, numbers), places in alike.items():
        tables = [samples[place][0] for place in places]
        whole, rows = pa.concat_tables(tables), [table.num_rows for table in tables]
        guesses = [guess_each(pl.Series(whole.column(name)), rows, numbers) for name in names]
        for number, place in enumerate(places):
            columns[place] = tuple(
                _text_column(name, guess[number]) for name, guess in zip(names, guesses, strict=True)
            )
    return [(sample.num_rows > 0, own) for (sample, _), own in zip(samples, columns, strict=True)]


def _text_column(name: str, guess: Guess) -> FileColumn:
    if fault := fault_of_name(name):
        return FileColumn(name, None, "string", is_text=True, unread=fault)
    return FileColumn(name, guess.kind, "string", is_text=True, nearly=guess.nearly)


def _text_look(file: SourceFile, has_rows: bool, columns: tuple[FileColumn, ...]) -> FileLook:
    return FileLook(_stamped(file), has_rows, _with_hive_columns(columns, _hive(file)), None)


def _stored_look(file: SourceFile, raw: RawFile, source: Source) -> FileLook:
    if source.layout is not None:
        identity, columns, pieces = look_at_snapshot_file(file, raw, source.layout)
        return FileLook(identity, bool(pieces), columns, pieces)
    if file.format == "parquet":
        footer = parquet_footer(raw)
        identity, schema, pieces, far = footer.identity, footer.schema, footer.pieces, footer.far
    else:
        identity, (schema, pieces), far = _stamped(file), ipc_contents(raw), frozenset[str]()
    columns = file_columns(schema.serialize().to_pybytes(), far)
    return FileLook(identity, bool(pieces), _with_hive_columns(columns, _hive(file)), pieces)


def _hive(file: SourceFile) -> tuple[FileColumn, ...]:
    return tuple(
        FileColumn(name, None if value is None else _kind_of_folder(value), "string", is_text=True)
        for name, value in hive_columns(file.path).items()
    )


def _with_hive_columns(columns: tuple[FileColumn, ...], hive: tuple[FileColumn, ...]) -> tuple[FileColumn, ...]:
    """The columns of a file with those of its folders, which take the place of its own of that name."""
    if not hive:
        return columns
    named = {column.name for column in hive}
    return (*(column for column in columns if column.name not in named), *hive)


def inspect(file: SourceFile, source: Source, *, shard_rows: int) -> InputFile:
    """What identifies one file, and its pieces; see `inspect_each`."""
    return next(inspect_each([file], source, shard_rows=shard_rows))


def inspect_each(files: Sequence[SourceFile], source: Source, *, shard_rows: int) -> Iterator[InputFile]:
    """Open files: find the pieces that can be read alone, and what identifies its contents.

    Parquet and Arrow: one piece a row group or record batch. CSV: byte ranges at line starts of at most `shard_rows`
    rows and about 16 MB; a compressed file, or one in an encoding such as UTF-16, is one piece, addressed by row, and
    every range of it is read from the file's beginning.

    Raises:
        InputError: the file is damaged, or not what its format says.
    """
    for file, raw in zip(files, begun(files, HEAD_BYTES), strict=True):
        match file.format:
            case "parquet" if source.layout is not None:
                identity, _, pieces = look_at_snapshot_file(file, raw, source.layout)
            case "parquet":
                footer = parquet_footer(raw)
                identity, pieces = footer.identity, footer.pieces
            case "arrow":
                identity, (_, pieces) = _stamped(file), ipc_contents(raw)
            case "csv":
                identity = _stamped(file)
                pieces = count_pieces(raw, csv_format(file.uri, source), shard_rows)
        yield InputFile(file.path, file.uri, file.size, file.stamp, identity, pieces, file.entry)


def columns(file: SourceFile, source: Source) -> dict[str, Kind]:
    """Kind of each column of one file that can be read, in file order, then those of hive folders.

    CSV kinds are inferred from the first 10,000 rows. What all files of a source say together is in `TableSchema`.
    """
    return TableSchema.of([(file.path, True, look(file, source).columns)]).kinds


def column_names(row_range: RowRange, source: Source) -> set[str]:
    """Names of the columns in the file of a row range, readable or not, and of its hive folders."""
    return _columns_of(raw_file(row_range), row_range, source)


def _columns_of(file: RawFile, row_range: RowRange, source: Source) -> set[str]:
    if source.layout is not None:
        return set(source.layout.by_name)
    return {*_names_in(file, source), *hive_columns(row_range.path)}


def _names_in(file: RawFile, source: Source) -> Sequence[str]:
    match format_of(file.uri, source):
        case "parquet":
            return list(parquet_schema(file).names)
        case "arrow":
            return list(ipc_schema(file).names)
        case "csv":
            return read_head(file, csv_format(file.uri, source)).names


def unsupported_columns(file: SourceFile, source: Source) -> dict[str, str]:
    """Stored type of each column that cannot be read: nested, binary, time of day, duration, extension types."""
    if file.format == "csv":
        return {}
    if source.layout is not None:
        return {column.name: column.type for column in source.layout.columns if column.unread is not None}
    return {field.name: str(field.type) for field in _schema(file) if kind_of(field) is None}


def read(
    row_range: RowRange, source: Source, columns: Sequence[str], *, optional: Sequence[str] = ()
) -> Iterator[RawBatch]:
    """Read the rows of a range.

    Args:
        row_range: rows of one file, from a plan over `inspect`ed files.
        source: the source that listed the file.
        columns: names of the columns to read, in the order that `RawBatch.table` is to have.
        optional: further columns; those that the file does not have are left out.

    Yields:
        Batches of at most 131,072 rows; their `table` rows and `broken` rows add up to those of the range.

    Raises:
        InputError: the file changed since it was planned, is damaged, or lacks a column.
    """
    yield from _read(raw_file(row_range), row_range, source, columns, optional)


def _read(
    file: RawFile, row_range: RowRange, source: Source, columns: Sequence[str], optional: Sequence[str]
) -> Iterator[RawBatch]:
    form, layout = format_of(row_range.uri, source), source.layout
    if not row_range.rows:
        _refuse_changed(file, row_range, form)
        return
    hive = hive_columns(row_range.path) if layout is None else {}
    if optional and (form != "parquet" or hive or layout is not None):
        there = _columns_of(file, row_range, source)
        columns, optional = [*columns, *(name for name in optional if name in there)], ()
    stored = [name for name in columns if name not in hive]
    match form:
        case "parquet" if layout is not None:
            batches = read_snapshot_file(file, row_range, layout, stored)
        case "parquet":
            batches = read_parquet(file, row_range, stored, optional)
        case "arrow":
            if not file.pinned:
                _refuse_changed(file, row_range, form)
            batches = read_ipc(file, row_range, stored)
        case "csv":
            if not file.pinned:
                _refuse_changed(file, row_range, form)
            batches = read_rows(file, row_range, csv_format(row_range.uri, source), stored)
    found = 0
    for batch in batches:
        found += len(batch.rows) + len(batch.broken)
        yield _with_hive(batch, hive, columns) if len(stored) < len(columns) else batch
    if found != row_range.rows:
        raise changed_file(row_range.uri, expected=f"{row_range.rows} rows", found=f"{found} rows")


def read_placed(
    ranges: Sequence[RowRange], source: Source, columns: Sequence[str], *, optional: Sequence[str] = ()
) -> Iterator[tuple[int, RawBatch]]:
    """Read the rows of ranges in order, as `read` does, but many small files at once where that gives the same.

    Yields:
        What makes a row number of the batch's file a position among the rows of all ranges, and the batch.
    """
    before = 0
    for group, files in begun_one_ahead(groups_of_small_files(ranges), source):
        tables = None
        if len(group) > 1 and all(_speaks_for_itself(row_range, source) for row_range in group):
            tables = read_small_files(group, files, columns, optional)
        for place, (row_range, file) in enumerate(zip(group, files, strict=True)):
            if tables is not None:
                yield before, RawBatch(row_range.path, np.arange(row_range.rows), tables[place])
            else:
                for batch in _read(file, row_range, source, columns, optional):
                    yield before - row_range.first_row, batch
            before += row_range.rows


def _speaks_for_itself(row_range: RowRange, source: Source) -> bool:
    """Whether a file is Parquet whose columns are those of the table, and all of them."""
    plain = source.layout is None and not hive_columns(row_range.path)
    return plain and format_of(row_range.uri, source) == "parquet"


def csv_format(path: str, source: Source) -> CsvFormat:
    """How a text table is written: the source's options, or the defaults for its ending."""
    if source.csv is not None:
        return source.csv
    return CsvFormat(delimiter="\t") if ".tsv" in Path(path).suffixes[-2:] else CsvFormat()


def _schema(file: SourceFile) -> pa.Schema:
    return parquet_schema(raw_file(file)) if file.format == "parquet" else ipc_schema(raw_file(file))


def _stamped(file: SourceFile) -> str:
    """The identity of a file whose contents are not hashed."""
    return f"{file.size}-{file.stamp}"


def _refuse_changed(file: RawFile, row_range: RowRange, form: FileFormat) -> None:
    if form != "parquet":
        refuse_changed(file, row_range)
    elif footer_identity(file) != footer_in(row_range.identity):
        raise changed_file(file.uri)


def _with_hive(batch: RawBatch, hive: dict[str, str | None], columns: Sequence[str]) -> RawBatch:
    rows = len(batch.rows)
    arrays = [
        pa.repeat(pa.scalar(hive[name], pa.string()), rows) if name in hive else batch.table.column(name)
        for name in columns
    ]
    return replace(batch, table=pa.Table.from_arrays(arrays, names=list(columns)))


@lru_cache(maxsize=4096)
def _kind_of_folder(text: str) -> Kind:
    return Kind.NUMBER if infer_kind(pl.Series([text])) is Kind.NUMBER else Kind.STRING

"""A file of a snapshot: looked at and read as what its table makes of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa

from rayforest.engine.shards import Piece, RowRange
from rayforest.errors import InputError
from rayforest.tables.batch import RawBatch, SourceFile
from rayforest.tables.parquet import parquet_footer, parquet_schema, read_parquet
from rayforest.tables.raw_file import RawFile
from rayforest.tables.schema import FileColumn
from rayforest.tables.snapshots.layout import Entry, Layout, TableColumn, footer_in, identity, scalar_of


def look_at_snapshot_file(
    file: SourceFile, raw: RawFile, layout: Layout
) -> tuple[str, tuple[FileColumn, ...], tuple[Piece, ...]]:
    """What identifies a file of a snapshot, its columns, and its pieces, counted in rows that are not deleted.

    Raises:
        InputError: the file is damaged, or is not of its table.
    """
    footer, entry = parquet_footer(raw), Entry.read(file.entry)
    if entry.deleted and entry.deleted.places[-1] >= sum(piece.rows for piece in footer.pieces):
        raise InputError(
            f"{file.uri} has fewer rows than its table has deleted of it",
            expected=f"at least {entry.deleted.places[-1] + 1:,} rows",
            found=f"{sum(piece.rows for piece in footer.pieces):,} rows",
            next_step="restore the file, or read another version of the table",
        )
    places = layout.places(file.uri, footer.schema)
    far = [name for name, stored in places.items() if stored in footer.far]
    known = identity(footer.identity, layout, file.entry)
    return known, layout.file_columns(far), tuple(entry.deleted.pieces(footer.pieces))


def read_snapshot_file(
    file: RawFile, row_range: RowRange, layout: Layout, columns: Sequence[str]
) -> Iterator[RawBatch]:
    """The rows of a range, counted in rows that are not deleted, as `reading.read` gives them.

    Args:
        file: of the snapshot.
        row_range: with the entry of its file.
        layout: of the snapshot.
        columns: names of columns of the table, in the order that `RawBatch.table` is to have.

    Raises:
        InputError: the file is not the one that was planned, is damaged, or holds values that its table cannot.
    """
    entry = Entry.read(row_range.entry)
    plan = [_asked(layout, name) for name in columns]
    # a file that knows ids has to be asked first; by name it is, in one go, read where it has a column
    places = layout.places(row_range.uri, parquet_schema(file)) if layout.goes_by_ids else layout.names
    stored = {c.name: places[c.name] for c in plan if c.name in places and c.name not in entry.values}
    first = entry.deleted.place(row_range.first_row)
    stop = entry.deleted.place(row_range.first_row + row_range.rows - 1) + 1
    whole = replace(row_range, first_row=first, rows=stop - first, identity=footer_in(row_range.identity))
    for batch in read_parquet(file, whole, (), list(dict.fromkeys(stored.values()))):
        kept = _without_deleted(batch, entry)
        arrays = [_values(row_range.uri, column, kept, stored, entry) for column in plan]
        schema = pa.schema([pa.field(column.name, column.arrow_type) for column in plan])
        yield replace(kept, table=pa.Table.from_arrays(arrays, schema=schema))


def _asked(layout: Layout, name: str) -> TableColumn:
    column = layout.by_name[name]
    if column.unread is not None:
        raise InputError(
            f"column {name!r} cannot be read",
            expected="numbers, booleans, text, dates or timestamps",
            found=column.type[:80],
            next_step="store it as one of these, or leave it out",
        )
    return column


def _without_deleted(batch: RawBatch, entry: Entry) -> RawBatch:
    if not entry.deleted:
        return batch
    left = entry.deleted.are_left(batch.rows)
    table = batch.table.filter(pa.array(left)) if batch.table.num_columns else batch.table
    broken = [row for row in batch.broken if entry.deleted.are_left(np.array([row.row]))[0]]
    return replace(batch, rows=batch.rows[left], table=table, broken=tuple(broken))


def _values(
    uri: str, column: TableColumn, batch: RawBatch, stored: Mapping[str, str], entry: Entry
) -> pa.Array | pa.ChunkedArray:
    """A column of the table for rows of a file: what the log says, what the file holds, or what stands for neither."""
    if stored.get(column.name) in batch.table.column_names:
        return _as_table_has_it(uri, column, batch.table.column(stored[column.name]))
    text = entry.values.get(column.name, column.default)
    return pa.repeat(scalar_of(text, column.arrow_type), len(batch.rows))


def _as_table_has_it(uri: str, column: TableColumn, found: pa.ChunkedArray) -> pa.ChunkedArray:
    """Values in the table's type: an older file may have a narrower one. No value is changed."""
    if found.type == column.arrow_type:
        return found
    try:
        return found.cast(column.arrow_type)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise InputError(
            f"{uri}: column {column.name!r} is not what its table says",
            expected=column.type,
            found=str(found.type),
            next_step="write the file's rows anew, or leave the column out",
        ) from error

"""Parquet columns decoded by Polars, in half of Arrow's time, where both read them alike.

Arrow remains what decides. Files with page checksums, which Polars does not verify, are not read here; whatever Polars
refuses is left to Arrow, which says what is wrong. Most damage shows in checksums alone, to either.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from rayforest.tables.batch import BATCH_ROWS
from rayforest.tables.columnar import can_read, plain_schema
from rayforest.tables.damage import errors_name_the_file
from rayforest.tables.raw_file import LocalFile, Range, RawFile

_NEXT_INT32 = b"\x15"
"""Field after the last one, of type int32."""
_PAGE_KINDS = (b"\x2c", b"\x4c", b"\x5c")
"""Field 5, 7 or 8 after field 3, a struct: data page, dictionary page, data page of version 2."""
_HEADER_BYTES = 32
_MOST_BYTES = 128 << 20
"""Of what is read of a row group, in memory; more is read page by page, by Arrow."""
_BYTES_A_VALUE = 16
"""In Polars, at most: a number, or where a text lies."""
_VALUES_A_CHUNK = 100
"""Decoded in the time in which Polars reads what a footer says of one column of one row group."""
_VALUES_A_COPY = 2_000_000
"""From so many values on a copy pays off, which Polars needs of what does not lie on a disk."""


def read_alike(columns: Sequence[str], stored: pa.Schema) -> pa.Schema | None:
    """The columns as they come out, where Polars reads all of them as Arrow does."""
    if not columns or not can_read(tuple(columns), stored):
        return None
    plain = plain_schema(pa.schema([stored.field(name) for name in columns]))
    return plain if all(_is_read_alike(field.type) for field in plain) else None


def _is_read_alike(stored: pa.DataType) -> bool:
    """Times with a zone are left out: Arrow and Polars do not find it in the same places."""
    types = pa.types
    return bool(
        types.is_integer(stored)
        or types.is_float32(stored)
        or types.is_float64(stored)
        or types.is_boolean(stored)
        or types.is_string(stored)
        or types.is_large_string(stored)
        or types.is_date32(stored)
        or (types.is_timestamp(stored) and stored.tz is None)
    )


def decode(places: Sequence[str | bytes], plain: pa.Schema, rows: Range | None = None) -> pl.DataFrame | None:
    """Rows of files one after the other, or None where Polars refuses them or finds other types.

    Args:
        places: paths, or the files themselves.
        plain: what `read_alike` says.
        rows: the first row, and the one after the last; None for all.
    """
    try:
        scan = pl.scan_parquet(places, glob=False, hive_partitioning=False)  # type: ignore[arg-type]  # all of one kind
        if rows is not None:
            scan = scan.slice(rows[0], rows[1] - rows[0])
        frame = scan.select(plain.names).collect()
    except (OSError, pl.exceptions.PolarsError, pl.exceptions.PanicException):
        return None
    return frame if frame.schema == pl.DataFrame(plain.empty_table()).schema else None


def as_table(frame: pl.DataFrame, plain: pa.Schema) -> pa.Table:
    """What was decoded, as Arrow would give it."""
    return frame.to_arrow(compat_level=pl.CompatLevel.oldest()).cast(plain)  # text only, to the width of its offsets


def has_page_checksums(file: RawFile, page: int) -> bool:
    """Whether a page has a checksum, or where nothing tells: it is not where it is in most files.

    Reads the header in Thrift's compact protocol: three numbers, then the checksum or one of the page's own headers.

    Args:
        file: the file.
        page: where the page begins.
    """
    with errors_name_the_file(file), file.open(page, page + _HEADER_BYTES) as stream:
        header = bytes(stream.read(_HEADER_BYTES))
    at = 0
    for _ in range(3):
        if header[at : at + 1] != _NEXT_INT32:
            return True
        at += 1
        while header[at : at + 1] >= b"\x80":
            at += 1
        at += 1
    return header[at : at + 1] not in _PAGE_KINDS


@dataclass
class GroupReader:
    """Row groups of one file, until one is left to Arrow because of what it holds."""

    file: RawFile
    metadata: pq.FileMetaData
    footer: bytes
    """As it is stored."""
    places: Sequence[int]
    """Of the columns in the metadata."""
    plain: pa.Schema | None
    """What `read_alike` says of them."""
    was_used: bool = False

    def read(
        self, index: int, first: int, rows: Range, chunks: Sequence[Range]
    ) -> Iterator[tuple[pa.Table, int]] | None:
        """Rows of a row group, as (table, first row in the group), or None where Arrow has to read it.

        Args:
            index: of the row group.
            first: its first row in the file.
            rows: which of its rows.
            chunks: where its columns lie, as `RawFile.hold` was told.
        """
        if self.plain is None or not chunks or not self._is_worth_it(index, (rows[1] - rows[0]) * len(self.plain)):
            return None
        frame = None
        if not has_page_checksums(self.file, min(chunks)[0]):
            with _local(self.file, chunks, self.footer) as place:
                frame = decode([place], self.plain, (first + rows[0], first + rows[1]))
        if frame is None or frame.height != rows[1] - rows[0]:
            self.plain = None
            return None
        self.was_used = True
        return _tables(frame, self.plain, rows[0])

    def _is_worth_it(self, index: int, values: int) -> bool:
        """Whether so many values fit in memory at once, and cost more than the footer, which Polars reads anew."""
        group = self.metadata.row_group(index)
        stored = sum(max(0, int(group.column(place).total_uncompressed_size)) for place in self.places)
        least = _VALUES_A_CHUNK * self.metadata.num_row_groups * self.metadata.num_columns
        if not isinstance(self.file, LocalFile):
            least = max(least, _VALUES_A_COPY)
        return least <= values and stored + _BYTES_A_VALUE * values <= _MOST_BYTES


@contextmanager
def _local(file: RawFile, chunks: Sequence[Range], footer: bytes) -> Iterator[str]:
    """A path of the file, or of a copy in memory that has no more than these chunks and the footer."""
    if isinstance(file, LocalFile):
        yield file.uri
        return
    copy = os.memfd_create("rayforest")
    try:
        os.ftruncate(copy, file.size)
        for start, stop in _joined(chunks):
            with file.open(start, stop) as stream:
                os.pwrite(copy, stream.read_buffer(stop - start), start)
        ending = footer + len(footer).to_bytes(4, "little") + b"PAR1"
        os.pwrite(copy, ending, file.size - len(ending))
        yield f"/proc/self/fd/{copy}"
    finally:
        os.close(copy)


def _joined(chunks: Sequence[Range]) -> Iterator[Range]:
    """Those that follow each other as one."""
    first, end = min(chunks)
    for start, stop in sorted(chunks):
        if start > end:
            yield first, end
            first = start
        end = max(end, stop)
    yield first, end


def _tables(frame: pl.DataFrame, plain: pa.Schema, first: int) -> Iterator[tuple[pa.Table, int]]:
    """Batches of rows, as even as they can be."""
    rows = -(-frame.height // -(-frame.height // BATCH_ROWS))
    for at in range(0, frame.height, rows):
        yield as_table(frame.slice(at, rows), plain), first + at

"""Parquet files: row groups as pieces, the footer as identity, only the asked columns read."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from rayforest.engine.shards import Piece, RowRange
from rayforest.errors import InputError
from rayforest.process_settings import ARROW_THREADS
from rayforest.tables.batch import BATCH_ROWS, RawBatch
from rayforest.tables.columnar import check_names, decoded_names, stored_batch
from rayforest.tables.contents import other_format
from rayforest.tables.damage import changed_file, errors_name_the_file
from rayforest.tables.polars_decoding import GroupReader, read_alike
from rayforest.tables.raw_file import Range, RawFile

_MAGIC = b"PAR1"
_MAGIC_ENCRYPTED = b"PARE"


def footer_identity(file: RawFile) -> str:
    """Size and SHA-256 of the footer, which holds sizes, counts and statistics of all pages: cheap, and copies keep it.

    Raises:
        InputError: the file does not end as a Parquet file does.
    """
    return identity_of(file.size, footer_bytes(file))


def footer_bytes(file: RawFile) -> bytes:
    """The footer as it is stored.

    Raises:
        InputError: the file does not end as a Parquet file does.
    """
    with errors_name_the_file(file), file.open() as stream:
        return _footer(file, stream)


def identity_of(size: int, footer: bytes) -> str:
    """Of a file of so many bytes with this footer."""
    return f"{size}-{hashlib.sha256(footer).hexdigest()}"


def metadata_of(footer: bytes) -> pq.FileMetaData:
    """What a footer says."""
    return pq.read_metadata(pa.BufferReader(_MAGIC + footer + len(footer).to_bytes(4, "little") + _MAGIC))


def _footer(file: RawFile, stream: pa.NativeFile) -> bytes:
    size = stream.size()
    stream.seek(max(0, size - 8))
    ending = stream.read(8)
    length = int.from_bytes(ending[:4], "little")
    if ending[4:] == _MAGIC_ENCRYPTED:
        raise InputError(
            f"{file.uri} is encrypted",
            expected="a Parquet file with a readable footer",
            next_step="write it without encryption, or leave it out of the source",
        )
    if ending[4:] != _MAGIC or length > size - 12:
        raise other_format(file, "a Parquet file") or InputError(
            f"{file.uri} is not a Parquet file, or was cut off",
            expected="a footer at its end",
            next_step="replace the file, or leave it out of the source",
        )
    stream.seek(size - 8 - length)
    return bytes(stream.read(length))


@dataclass(frozen=True)
class Footer:
    """What the footer of a file says."""

    identity: str
    schema: pa.Schema
    pieces: tuple[Piece, ...]
    """One a row group."""
    far: frozenset[str]
    """Columns with a time beyond the reach of nanoseconds (the years 1678 to 2261), as far as statistics tell."""


def parquet_footer(file: RawFile) -> Footer:
    """Read the footer of a file, once."""
    with errors_name_the_file(file), file.open() as stream:
        identity = identity_of(file.size, _footer(file, stream))  # before pyarrow: it says what a file is that is none
        with _parquet_file(stream) as opened:
            schema = decoded_names(opened.schema_arrow)
            return Footer(identity, schema, _pieces(opened.metadata), _columns_beyond_ns(opened.metadata, schema))


def _columns_beyond_ns(metadata: pq.FileMetaData, schema: pa.Schema) -> frozenset[str]:
    reach = _nanosecond_limits(schema)
    if not reach:
        return frozenset()
    places = {place: metadata.schema.column(place).path for place in range(metadata.num_columns)}
    far: set[str] = set()
    for place, limit in ((place, limit) for place, name in places.items() if (limit := reach.get(name))):
        for index in range(metadata.num_row_groups):
            statistics = metadata.row_group(index).column(place).statistics
            if statistics is not None and statistics.has_min_max and statistics.physical_type != "INT96":
                ends = (statistics.min_raw, statistics.max_raw)
                if any(isinstance(end, int) and abs(end) >= limit for end in ends):
                    far.add(places[place])
    return frozenset(far)


@lru_cache(maxsize=64)  # thousands of files have one schema
def _nanosecond_limits(schema: pa.Schema) -> dict[str, int]:
    return {field.name: limit for field in schema if (limit := _nanosecond_limit(field.type))}


def _nanosecond_limit(stored: pa.DataType) -> int | None:
    """The stored number from which on nanoseconds do not hold a date or time; None for other types."""
    if pa.types.is_date32(stored):
        return 2**63 // (86_400 * 10**9)
    if pa.types.is_timestamp(stored) and stored.unit != "ns":
        return 2**63 // {"s": 10**6, "ms": 10**6, "us": 10**3}[stored.unit]  # Parquet has no seconds
    return None


def _pieces(metadata: pq.FileMetaData) -> tuple[Piece, ...]:
    pieces, first_row = [], 0
    for index in range(metadata.num_row_groups):
        group = metadata.row_group(index)
        if group.num_rows < 0:
            raise pa.ArrowInvalid(f"row group {index} says that it has {group.num_rows} rows")
        if group.num_rows:
            pieces.append(Piece(first_row, group.num_rows, 0, 0, max(0, group.total_byte_size)))
        first_row += group.num_rows
    return tuple(pieces)


def parquet_schema(file: RawFile) -> pa.Schema:
    """The Arrow schema of a file."""
    with _opened(file) as (opened, _):
        return decoded_names(opened.schema_arrow)


def read_parquet(
    file: RawFile, row_range: RowRange, columns: Sequence[str], optional: Sequence[str] = ()
) -> Iterator[RawBatch]:
    """The rows of a range: the asked columns, and those of the optional ones that the file has.

    Row groups are decoded by Polars where that gives the same, and page by page by Arrow where not.

    Raises:
        InputError: the file is not the one that was planned, is damaged (page checksums are verified where it has
            them), or lacks a column.
    """
    with _opened(file, row_range.identity) as (opened, footer):
        stored = opened.schema_arrow
        names = [*columns, *(name for name in optional if name in stored.names)]
        check_names(file.uri, tuple(names), stored)
        metadata, groups = opened.metadata, list(_groups(opened.metadata, row_range))
        places = _places(metadata, names)
        polars = GroupReader(file, metadata, footer, places, read_alike(names, stored))
        for place, (index, group_start, low, high) in enumerate(groups):
            chunks = list(_chunks(file, metadata, [index], places))
            later = (next_index for next_index, *_ in groups[place + 1 :])
            file.hold(chunks, _chunks(file, metadata, later, places))
            decoded = polars.read(index, group_start, (low, high), chunks)
            if decoded is not None:
                for table, start in decoded:
                    yield RawBatch(row_range.path, np.arange(start, start + table.num_rows) + group_start, table)
                continue
            for table, start in _group(opened, index, names, low, high):
                yield stored_batch(row_range.path, table, np.arange(start, start + table.num_rows) + group_start)
        if polars.was_used and not file.pinned and footer_identity(file) != row_range.identity:
            raise changed_file(file.uri)  # Polars opened it by its path


def _groups(metadata: pq.FileMetaData, row_range: RowRange) -> Iterator[tuple[int, int, int, int]]:
    """Row groups that hold rows of a range: index, its first row in the file, and which of its rows, from and up to."""
    group_start, stop = 0, row_range.first_row + row_range.rows
    for index in range(metadata.num_row_groups):
        group_rows = metadata.row_group(index).num_rows
        low, high = max(0, row_range.first_row - group_start), min(group_rows, stop - group_start)
        if low < high:
            yield index, group_start, low, high
        group_start += group_rows


def _places(metadata: pq.FileMetaData, columns: Sequence[str]) -> list[int]:
    """Where columns stand among those of the metadata."""
    names = set(columns)
    return [place for place in range(metadata.num_columns) if metadata.schema.column(place).path in names]


def _chunks(file: RawFile, metadata: pq.FileMetaData, groups: Iterable[int], places: Sequence[int]) -> Iterator[Range]:
    """Where the columns of row groups lie, as far as a damaged footer says so."""
    size = file.size
    for index in groups:
        group = metadata.row_group(index)
        for place in places:
            chunk = group.column(place)
            start = chunk.data_page_offset
            if chunk.has_dictionary_page and 0 < chunk.dictionary_page_offset < start:
                start = chunk.dictionary_page_offset
            stop = start + chunk.total_compressed_size
            if 0 <= start < stop <= size:
                yield start, stop


def _group(
    file: pq.ParquetFile, index: int, columns: Sequence[str], low: int, high: int
) -> Iterator[tuple[pa.Table, int]]:
    """Rows `low` .. `high` of a row group, as (table, first row in the group)."""
    at = 0
    batches = -(-high // BATCH_ROWS)
    batch_rows = -(-high // batches)  # so that little is decoded beyond `high`
    for batch in file.iter_batches(batch_rows, row_groups=[index], columns=list(columns), use_threads=ARROW_THREADS):
        begin, stop = max(0, low - at), min(batch.num_rows, high - at)
        if begin < stop:
            yield pa.Table.from_batches([batch]).slice(begin, stop - begin).select(list(columns)), at + begin
        at += batch.num_rows
        if at >= high:
            return
    raise pa.ArrowInvalid(
        f"row group {index} ends after {at} rows instead of {file.metadata.row_group(index).num_rows}"
    )


@contextmanager
def _opened(file: RawFile, identity: str | None = None) -> Iterator[tuple[pq.ParquetFile, bytes]]:
    """A file and its footer; with an identity, only if it still has that one."""
    with errors_name_the_file(file), file.open() as stream:
        footer = _footer(file, stream)
        if identity is not None and identity_of(file.size, footer) != identity:
            raise changed_file(file.uri)
        with _parquet_file(stream) as opened:
            yield opened, footer


def _parquet_file(stream: pa.NativeFile) -> pq.ParquetFile:
    return pq.ParquetFile(
        stream,
        page_checksum_verification=True,
        pre_buffer=False,  # reads page by page instead of the whole row group
        coerce_int96_timestamp_unit="us",  # nanoseconds do not reach beyond the years 1677 to 2262
    )

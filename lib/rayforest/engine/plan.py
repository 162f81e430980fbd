"""The plan as a Parquet file: one table row for each row range, written and read as a stream."""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from rayforest.engine.document import open_table
from rayforest.engine.shards import RowRange, Shard
from rayforest.engine.stores.store import Store
from rayforest.formats import PLAN
from rayforest.process_settings import ARROW_THREADS

_BATCH_ROWS = 16_384
_SCHEMA = pa.schema(
    [
        pa.field("shard", pa.int64(), nullable=False),
        pa.field("path", pa.string(), nullable=False),
        pa.field("uri", pa.string(), nullable=False),
        pa.field("size", pa.int64(), nullable=False),
        pa.field("stamp", pa.string(), nullable=False),
        pa.field("identity", pa.string(), nullable=False),
        pa.field("first_row", pa.int64(), nullable=False),
        pa.field("rows", pa.int64(), nullable=False),
        pa.field("byte_start", pa.int64(), nullable=False),
        pa.field("byte_stop", pa.int64(), nullable=False),
    ]
)
_ENTRY = pa.field("entry", pa.string(), nullable=False)
"""A last column, of plans of version 2."""


Locate = Callable[[str], tuple[str, str]]
"""Path of an input -> its URI and stamp today."""


@dataclass(frozen=True, slots=True)
class PlannedInput:
    """An input as the plan knows it: the same size and stamp means that it need not be opened to be recognised."""

    path: str
    size: int
    stamp: str
    identity: str
    entry: str = ""


@dataclass(frozen=True)
class Plan:
    """The shards of a run in order. Iterating reads the file again and holds one batch of it."""

    store: Store
    path: str
    shards: int
    rows: int
    bytes: int
    """Of the input files together."""
    locate: Locate | None = None
    """For a source that has moved, or was written anew with the same contents, since it was planned."""
    has_entries: bool = False
    """Whether there is more to know of the inputs than their bytes say."""

    def __len__(self) -> int:
        return self.shards

    def __iter__(self) -> Iterator[Shard]:
        rows = self._rows([*_SCHEMA.names, *self._entry])
        for index, group in itertools.groupby(rows, key=lambda row: row[0]):
            yield Shard(index, tuple(self._row_range(row) for row in group))

    def inputs(self) -> Iterator[PlannedInput]:
        """The input files in input order, each once."""
        last: tuple[Any, ...] | None = None
        for row in self._rows(["path", "size", "stamp", "identity", *self._entry]):
            if row != last:
                yield PlannedInput(*row)
            last = row

    def rows_of_ranges(self) -> Iterator[tuple[int, int]]:
        """(shard, rows) of each row range."""
        return ((shard, rows) for shard, rows in self._rows(["shard", "rows"]))

    @property
    def _entry(self) -> tuple[str, ...]:
        return (_ENTRY.name,) if self.has_entries else ()

    def _row_range(self, row: tuple[Any, ...]) -> RowRange:
        path, uri, size, stamp, *rest = row[1:]
        if self.locate is not None:
            uri, stamp = self.locate(path)
        return RowRange(path, uri, size, stamp, *rest)

    def _rows(self, columns: list[str]) -> Iterator[tuple[Any, ...]]:
        with open_table(self.store, self.path, PLAN, columns) as file:
            for batch in file.iter_batches(_BATCH_ROWS, columns=columns, use_threads=ARROW_THREADS):
                yield from zip(*(batch.column(name).to_pylist() for name in columns), strict=True)


def encode_plan(shards: Iterable[Shard]) -> bytes:
    """The plan file. Shards are checked for order and gaps on the way."""
    sink = io.BytesIO()
    count = rows = size = 0
    last_path: str | None = None
    ranges = ((shard.index, row_range) for shard in in_order(shards) for row_range in shard.ranges)
    first = list(itertools.islice(ranges, 1))
    numbered = itertools.chain(first, ranges)
    has_entries = any(row_range.entry for _, row_range in first)  # those of a source have all entries, or none
    schema, version = (_SCHEMA.append(_ENTRY), PLAN.version) if has_entries else (_SCHEMA, 1)
    with pq.ParquetWriter(sink, schema, compression="zstd") as writer:
        while chunk := list(itertools.islice(numbered, _BATCH_ROWS)):
            for index, row_range in chunk:
                count = index + 1
                rows += row_range.rows
                if row_range.path != last_path:
                    size += row_range.size
                    last_path = row_range.path
            writer.write_batch(_batch(chunk, schema))
        totals = {"shards": count, "rows": rows, "bytes": size}
        envelope = PLAN.metadata | {"version": str(version)}
        writer.add_key_value_metadata(envelope | {name: str(total) for name, total in totals.items()})
    return sink.getvalue()


def open_plan(store: Store, path: str, locate: Locate | None = None) -> Plan | None:
    """The plan in the store, or None.

    Raises:
        FormatError: it is damaged, of another kind, or newer.
    """
    try:
        with open_table(store, path, PLAN, _SCHEMA.names) as file:
            found = file.metadata.metadata or {}
            has_entries = _ENTRY.name in file.schema_arrow.names
    except FileNotFoundError:
        return None
    totals = [found.get(name, b"") for name in (b"shards", b"rows", b"bytes")]
    if not all(total.isdigit() for total in totals):
        raise PLAN.damaged(store.locate(path), "no totals")
    shards, rows, size = map(int, totals)
    return Plan(store, path, shards, rows, size, locate, has_entries)


def in_order(shards: Iterable[Shard]) -> Iterator[Shard]:
    """The same shards, checked: numbered without gaps, ranges disjoint and each file covered from its first row."""
    path: str | None = None
    next_row = 0
    for expected, shard in enumerate(shards):
        if shard.index != expected or not shard.ranges:
            raise ValueError(f"shard {expected} expected, {shard.index} with {len(shard.ranges)} ranges found")
        for row_range in shard.ranges:
            if row_range.path != path:
                path, next_row = row_range.path, 0
            if row_range.first_row != next_row or row_range.rows < 0:
                raise ValueError(f"rows of {row_range.path} are not covered once each from row {next_row}")
            next_row += row_range.rows
        yield shard


def _batch(chunk: list[tuple[int, RowRange]], schema: pa.Schema) -> pa.RecordBatch:
    columns = [pa.array([index for index, _ in chunk], pa.int64())]
    for field in list(schema)[1:]:
        columns.append(pa.array([getattr(row_range, field.name) for _, row_range in chunk], field.type))
    return pa.record_batch(columns, schema=schema)

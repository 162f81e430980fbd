"""Reads sources the way a run does: listed, inspected, planned, range after range."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from rayforest.engine.shards import InputFile, plan_shards
from rayforest.errors import InputError
from rayforest.tables.reading import BrokenRow, CsvFormat, RawBatch, Source, columns, inspect, list_files, read


@dataclass
class Rows:
    """All rows of a source, by (file, row)."""

    values: dict[tuple[str, int], tuple[object, ...]]
    broken: dict[tuple[str, int], BrokenRow]
    raw: dict[tuple[str, int], str]
    files: list[InputFile]
    ranges: int = 0

    @property
    def count(self) -> int:
        return len(self.values) + len(self.broken)


def batches(
    source: Source, names: Sequence[str], files: list[InputFile], shard_rows: int
) -> Iterator[tuple[int, RawBatch]]:
    part = 0
    for shard in plan_shards(files, shard_rows=shard_rows, shard_bytes=1 << 30):
        for row_range in shard.ranges:
            part += 1
            found = 0
            for batch in read(row_range, source, names):
                found += len(batch.rows) + len(batch.broken)
                assert len(batch.rows) == batch.table.num_rows or not names
                yield part, batch
            assert found == row_range.rows


def python_values(column: pa.ChunkedArray) -> list[object]:
    try:
        return column.to_pylist()
    except OverflowError:  # a year that Python has not
        return column.cast(pa.int64() if pa.types.is_timestamp(column.type) else pa.int32()).to_pylist()


def read_all(source: Source, names: Sequence[str] | None = None, shard_rows: int = 1_000_000) -> Rows:
    listed = list_files(source)
    if names is None:
        names = list(columns(listed[0], source))
    rows = Rows({}, {}, {}, [inspect(file, source, shard_rows=shard_rows) for file in listed])
    for part, batch in batches(source, names, rows.files, shard_rows):
        rows.ranges = part
        values = zip(*map(python_values, batch.table.columns), strict=True) if names else [()] * len(batch.rows)
        raws = batch.raw(range(len(batch.rows))) if names else [""] * len(batch.rows)
        for row, value, raw in zip(batch.rows.tolist(), values, raws, strict=True):
            assert (batch.file, row) not in rows.values
            rows.values[batch.file, row] = value
            rows.raw[batch.file, row] = raw
        for broken in batch.broken:
            assert (batch.file, broken.row) not in rows.values
            assert (batch.file, broken.row) not in rows.broken
            rows.broken[batch.file, broken.row] = broken
    for file in rows.files:
        expected = sum(piece.rows for piece in file.pieces)
        assert sorted(row for path, row in rows.values.keys() | rows.broken.keys() if path == file.path) == list(
            range(expected)
        )
    return rows


def read_or_refuse(source: Source, names: Sequence[str] | None = None) -> Rows | InputError:
    try:
        return read_all(source, names)
    except InputError as error:
        return error


def csv_source(folder: Path, data: bytes, form: CsvFormat | None = None, name: str = "table.csv") -> Source:
    (folder / name).write_bytes(data)
    return Source((name,), folder, csv=form)

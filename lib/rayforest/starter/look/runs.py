"""Which rows of a source are looked at: from the beginning, the middle and the end of files, and from several files.

A file that is not compressed is entered at any line start, so that a look costs the same whatever a file's size.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import polars as pl
import pyarrow as pa

from rayforest.engine.shards import RowRange
from rayforest.tables.batch import RawBatch, Source, SourceFile
from rayforest.tables.conversion import frame_of
from rayforest.tables.csv import read_head, read_rows
from rayforest.tables.csv.head import is_one_piece
from rayforest.tables.listing import hive_columns
from rayforest.tables.raw_file import RawFile, raw_file
from rayforest.tables.reading import csv_format, inspect, read

LOOK_ROWS = 50_000
"""Rows at the beginning of the first file, where it is read by rows; of text that can be entered anywhere, bytes."""
OTHER_FILES, OTHER_ROWS = 20, 2_000
"""Further files, and rows of each: a type or an id that holds in one file only shows here."""
_BEGIN_BYTES, _WINDOW_BYTES, _OTHER_BYTES = 8 << 20, 512 << 10, 256 << 10
_ALL_ROWS = 1 << 62
_LINE_BYTES = 1 << 16
_ODD_WINDOW = 0.05
"""Share of broken rows from which on a window is taken to begin inside a quoted value."""


@dataclass(frozen=True)
class Run:
    """Rows of one file that follow each other."""

    frame: pl.DataFrame
    first: bool
    """Whether it begins with the file's first row."""
    broken: tuple[str, ...] = ()
    """Why rows of a text table did not become values; counted where the run begins with the file's first row."""


def spread(files: Sequence[SourceFile]) -> list[SourceFile]:
    """The first file, and others from all over the list, the last among them."""
    others = files[1:]
    if len(others) <= OTHER_FILES:
        return list(files)
    places = sorted({round(i * (len(others) - 1) / (OTHER_FILES - 1)) for i in range(OTHER_FILES)})
    return [files[0], *(others[place] for place in places)]


def sample(file: SourceFile, source: Source, names: Sequence[str], *, much: bool) -> Iterator[Run]:
    """Runs of rows of a file, with these columns: many of the first file, some of others.

    Raises:
        InputError: the file is damaged.
    """
    if file.format == "csv":
        yield from _sample_text(file, source, names, much=much)
        return
    rows = LOOK_ROWS if much else OTHER_ROWS
    inspected = inspect(file, source, shard_rows=rows)
    total = sum(piece.rows for piece in inspected.pieces)
    few = rows // 5
    spans = [(0, min(rows, total))]
    spans += [(begin, min(few, total - begin)) for begin in (max(rows, total // 2), max(rows + few, total - few))]
    for begin, count in spans:
        if count > 0:
            row_range = RowRange(
                file.path, file.uri, file.size, file.stamp, inspected.identity, begin, count, 0, 0, file.entry
            )
            tables = [batch.table for batch in read(row_range, source, names)]
            if tables:
                yield Run(frame_of(pa.concat_tables(tables)), first=begin == 0)


def _sample_text(file: SourceFile, source: Source, names: Sequence[str], *, much: bool) -> Iterator[Run]:
    form, text = csv_format(file.uri, source), raw_file(file)
    hive = hive_columns(file.path)
    own = [name for name in names if name not in hive]

    def run(start: int, stop: int, rows: int, *, first: bool) -> Run:
        row_range = RowRange(file.path, file.uri, file.size, file.stamp, "", 0, rows, start, stop)
        batches = list(read_rows(text, row_range, form, own))
        return Run(_frame(batches, hive, names, own), first, tuple(b.reason for batch in batches for b in batch.broken))

    if is_one_piece(file.uri, form):
        yield run(0, 0, LOOK_ROWS if much else OTHER_ROWS, first=True)
        return
    start = read_head(text, form).data_start
    stop = _line_start(text, min(text.size, start + (_BEGIN_BYTES if much else _OTHER_BYTES)))
    yield run(start, stop, _ALL_ROWS, first=True)
    window = _WINDOW_BYTES if much else _OTHER_BYTES // 4
    for share in (0.5, 1.0) if much else (1.0,):
        begin = max(stop, _line_start(text, int((text.size - window) * share)))
        end = _line_start(text, min(text.size, begin + window))
        if begin < end:
            between = run(begin, end, _ALL_ROWS, first=False)
            stop = end
            if len(between.broken) <= _ODD_WINDOW * (between.frame.height + len(between.broken)):
                yield between


def _frame(
    batches: Sequence[RawBatch], hive: dict[str, str | None], names: Sequence[str], own: list[str]
) -> pl.DataFrame:
    schema = pa.schema([pa.field(name, pa.string()) for name in own])
    table = pa.concat_tables([batch.table for batch in batches]) if batches else schema.empty_table()
    for name in names:
        if name in hive:
            table = table.append_column(name, pa.repeat(pa.scalar(hive[name], pa.string()), table.num_rows))
    return frame_of(table.select(list(names)))


def _line_start(file: RawFile, position: int) -> int:
    """The first line start at or after a position, or the position itself where no line ends nearby."""
    if position <= 0 or position >= file.size:
        return max(0, min(position, file.size))
    with file.open(position, position + _LINE_BYTES) as stream:
        near = stream.read(_LINE_BYTES)
    end = near.find(b"\n")
    end = end if end >= 0 else near.find(b"\r")
    return position + end + 1 if end >= 0 else position

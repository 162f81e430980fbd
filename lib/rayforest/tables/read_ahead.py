"""What is read first of each file, on its way before it is read: objects come while others are worked on.

Of local files nothing is fetched: the system reads ahead.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from rayforest.engine.shards import RowRange
from rayforest.tables.batch import Source, SourceFile
from rayforest.tables.csv.blocks import BLOCK_BYTES
from rayforest.tables.csv.head import HEAD_BYTES
from rayforest.tables.listing import format_of
from rayforest.tables.raw_file import TAIL_BYTES, Range, RawFile, raw_file


def begun(files: Sequence[SourceFile], text_bytes: int) -> list[RawFile]:
    """The files, of which that is on its way by which they are known: the beginning of text, the end of the others."""
    opened = [raw_file(file) for file in files]
    for listed, file in zip(files, opened, strict=True):
        end = (max(0, listed.size - TAIL_BYTES), listed.size)
        file.hold([(0, min(listed.size, text_bytes)) if listed.format == "csv" else end])
    return opened


def begun_one_ahead(groups: Iterable[list[RowRange]], source: Source) -> Iterator[tuple[list[RowRange], list[RawFile]]]:
    """The groups with their files, of which the first bytes to read of the next group are on their way."""
    current: tuple[list[RowRange], list[RawFile]] | None = None
    for group in groups:
        files = [raw_file(row_range) for row_range in group]
        for row_range, file in zip(group, files, strict=True):
            file.hold(_first_reads(row_range, source, whole=len(group) > 1))
        if current is not None:
            yield current
        current = group, files
    if current is not None:
        yield current


def _first_reads(row_range: RowRange, source: Source, *, whole: bool) -> Iterator[Range]:
    size, form = row_range.size, format_of(row_range.uri, source)
    if whole:
        yield 0, size
        return
    if form == "csv" and row_range.byte_stop:
        yield row_range.byte_start, min(row_range.byte_stop, row_range.byte_start + BLOCK_BYTES)
    if form != "parquet":
        yield 0, min(size, HEAD_BYTES)
    if form != "csv":
        yield max(0, size - TAIL_BYTES), size

"""Arrow IPC files and streams: record batches as pieces, only the asked columns read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate

import numpy as np
import pyarrow as pa

from rayforest.engine.shards import Piece, RowRange
from rayforest.process_settings import ARROW_THREADS
from rayforest.tables.batch import BATCH_ROWS, RawBatch
from rayforest.tables.columnar import check_names, decoded_names, stored_batch
from rayforest.tables.contents import other_format
from rayforest.tables.damage import errors_name_the_file
from rayforest.tables.raw_file import RawFile

_FILE_MAGIC = b"ARROW1"
_STREAM_MARK = b"\xff\xff\xff\xff"


def ipc_contents(file: RawFile) -> tuple[pa.Schema, tuple[Piece, ...]]:
    """The schema, and one piece a record batch, of its share of the file's bytes.

    A batch's own `nbytes` is of no use: it follows damaged offsets.
    """
    schema = ipc_schema(file)
    with _opened(file, schema.names[:1]) as reader:  # one column is read, not all
        rows = [batch.num_rows for batch in _batches_of(reader)]
    size, total, starts = file.size, sum(rows), [0, *accumulate(rows)]
    return schema, tuple(Piece(start, n, 0, 0, size * n // total) for start, n in zip(starts, rows, strict=False) if n)


def ipc_schema(file: RawFile) -> pa.Schema:
    """The schema of a file."""
    with _opened(file, None) as reader:
        return decoded_names(reader.schema)


def read_ipc(file: RawFile, row_range: RowRange, columns: Sequence[str]) -> Iterator[RawBatch]:
    """The rows of a range: the asked columns.

    Raises:
        InputError: the file is damaged (every value is validated), or a column is missing.
    """
    first_row, stop_row = row_range.first_row, row_range.first_row + row_range.rows
    check_names(file.uri, tuple(columns), ipc_schema(file))
    at = 0
    with errors_name_the_file(file):
        for batch in _batches(file, columns):
            begin, stop = max(0, first_row - at), min(batch.num_rows, stop_row - at)
            for cut in range(begin, stop, BATCH_ROWS):
                table = pa.Table.from_batches([batch]).slice(cut, min(BATCH_ROWS, stop - cut)).select(list(columns))
                yield stored_batch(row_range.path, table, np.arange(at + cut, at + cut + table.num_rows))
            at += batch.num_rows
            if at >= stop_row:
                return


def _batches(file: RawFile, columns: Sequence[str] | None) -> Iterator[pa.RecordBatch]:
    with _opened(file, columns) as reader:
        yield from _batches_of(reader)


def _batches_of(reader: pa.RecordBatchFileReader | pa.RecordBatchStreamReader) -> Iterator[pa.RecordBatch]:
    if isinstance(reader, pa.RecordBatchFileReader):
        for index in range(reader.num_record_batches):
            yield reader.get_batch(index)
    else:
        yield from reader


@contextmanager
def _opened(
    file: RawFile, columns: Sequence[str] | None
) -> Iterator[pa.RecordBatchFileReader | pa.RecordBatchStreamReader]:
    with errors_name_the_file(file), file.mapped() as stream:
        begin = stream.read(len(_FILE_MAGIC))
        is_file = begin == _FILE_MAGIC
        if not is_file and not begin.startswith(_STREAM_MARK) and (other := other_format(file, "an Arrow file")):
            raise other
        stream.seek(0)
        open_ipc = pa.ipc.open_file if is_file else pa.ipc.open_stream
        options = pa.ipc.IpcReadOptions(use_threads=ARROW_THREADS)
        if columns:
            with open_ipc(stream, options=options) as whole:
                options.included_fields = [whole.schema.names.index(name) for name in columns]
            stream.seek(0)
        with open_ipc(stream, options=options) as reader:
            yield reader

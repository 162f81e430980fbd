"""Text tables as tables of strings.

Rows are found by `rows`; pyarrow turns the text of whole rows into columns. Every row comes out once: in the table, or
as a BrokenRow with the reason why it could not become values.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from rayforest.engine.shards import RowRange
from rayforest.errors import InputError, RayforestError, did_you_mean
from rayforest.tables.batch import BATCH_ROWS, BrokenRow, CsvFormat, RawBatch
from rayforest.tables.csv.blocks import keeps_ascii, read_blocks, to_utf8
from rayforest.tables.csv.dialect import Dialect
from rayforest.tables.csv.faults import find_faults, quotes_after_blanks
from rayforest.tables.csv.head import BOM, is_one_piece, read_head, rows_stream
from rayforest.tables.csv.quotes import Positions, solid_before
from rayforest.tables.csv.rows import RowBlock, split_rows
from rayforest.tables.csv.single_blanks import single_blanks
from rayforest.tables.raw_file import RawFile

SAMPLE_ROWS = 10_000
"""Rows from which kinds are inferred."""

SAMPLE_BYTES = 1 << 20
"""Read at a time for a large sample."""
_FEW_ROWS = 1_000
_NOWHERE = np.empty(0, np.int64)


def read_rows(file: RawFile, row_range: RowRange, form: CsvFormat, columns: Sequence[str]) -> Iterator[RawBatch]:
    """The rows of a range; its byte range begins with its first row, or it has none and is addressed by row.

    Raises:
        InputError: a column is missing.
    """
    head = read_head(file, form)
    reader = _TableReader(file.uri, row_range.path, form, head.names, columns)
    if is_one_piece(file.uri, form):
        stream, at = rows_stream(file, form, head), 0
    else:
        stream, at = read_blocks(file, row_range.byte_start, row_range.byte_stop), row_range.first_row
    if keeps_ascii(form.encoding):
        stream = to_utf8(stream, form.encoding)
    end = row_range.first_row + row_range.rows
    for block in split_rows(stream, Dialect.of(form)):
        if at >= end:
            return
        begin, stop = max(0, row_range.first_row - at), min(len(block), end - at)
        for cut in range(begin, stop, BATCH_ROWS):
            yield reader.batch(block, cut, min(cut + BATCH_ROWS, stop), at)
        at += len(block)


def sample_rows(file: RawFile, form: CsvFormat, rows: int = SAMPLE_ROWS) -> pa.Table:
    """The first rows of a file as text, all columns; rows that cannot become values are left out."""
    return pa.concat_tables(batch.table for batch in sample_batches(file, form, rows))


def sample_batches(file: RawFile, form: CsvFormat, rows: int) -> Iterator[RawBatch]:
    """The first rows of a file as text, all columns; at least one batch."""
    head = read_head(file, form)
    reader = _TableReader(file.uri, "", form, head.names, head.names)
    stream = rows_stream(file, form, head, block_bytes=SAMPLE_BYTES if rows > _FEW_ROWS else SAMPLE_BYTES >> 4)
    if keeps_ascii(form.encoding):
        stream = to_utf8(stream, form.encoding)
    at = 0
    for block in split_rows(stream, Dialect.of(form)):
        stop = min(len(block), rows - at)
        yield reader.batch(block, 0, stop, at)
        at += stop
        if at >= rows:
            return
    if not at:
        none = pa.table({name: pa.array([], pa.string()) for name in head.names})
        yield RawBatch("", np.arange(0), none)


class _TableReader:
    """Turns rows of one file into tables of the asked columns."""

    def __init__(self, uri: str, path: str, form: CsvFormat, names: tuple[str, ...], columns: Sequence[str]) -> None:
        places = {name: str(place) for place, name in enumerate(names)}
        for column in columns:
            if column not in places:
                raise InputError(
                    f"{uri} has no column {column!r}",
                    found=f"{len(names)} columns",
                    next_step=did_you_mean(column, names),
                )
        self._uri, self._path, self._form, self._dialect = uri, path, form, Dialect.of(form)
        self._columns = tuple(columns)
        self._width = len(names)
        nulls = sorted({"", *form.null_words})
        self._nulls = pa.array(nulls, pa.string())
        inner = [str(i) for i in range(len(names))]  # pyarrow would merge columns of one name
        self._parse = pa_csv.ParseOptions(
            delimiter=" " if self._dialect.by_blanks else form.delimiter,
            quote_char=form.quote or False,
            escape_char=form.escape or False,
            newlines_in_values=True,
        )
        self._asked = [places[column] for column in columns]
        self._convert = pa_csv.ConvertOptions(
            column_types=dict.fromkeys(inner, pa.string()),
            include_columns=self._asked or inner[:1],
            null_values=[] if self._dialect.trim else nulls,
            strings_can_be_null=not self._dialect.trim,
            check_utf8=False,  # checked before, a row at a time
        )
        self._inner = inner

    def batch(self, block: RowBlock, begin: int, stop: int, first_row: int) -> RawBatch:
        """Rows `begin` .. `stop` of a block whose first row is `first_row` of the file."""
        reasons = dict(find_faults(block, begin, stop, self._form.encoding))
        sound = np.setdiff1d(np.arange(begin, stop), np.fromiter(reasons, np.int64, len(reasons)), assume_unique=True)
        table, wrong = self._table(self._text(block, begin, stop, sound, all_sound=not reasons), sound)
        reasons |= wrong
        good = np.setdiff1d(sound, np.fromiter(wrong, np.int64, len(wrong)), assume_unique=True)
        if table.num_rows != len(good):
            raise RayforestError(
                f"{self._uri}: rows were lost while reading",
                expected=f"{len(good)} rows from row {first_row + begin} on",
                found=f"{table.num_rows} rows",
                next_step="this is a fault in rayforest; please report it with the lines around that row",
            )
        return RawBatch(
            file=self._path,
            rows=good + first_row,
            table=table,
            broken=tuple(BrokenRow(first_row + row, reasons[row], block.text.row(row)) for row in sorted(reasons)),
            text=block.text.take(good),
        )

    def _text(self, block: RowBlock, begin: int, stop: int, sound: np.ndarray, *, all_sound: bool) -> bytes:
        """The text of the sound rows, one after the other."""
        starts, stops = block.text.starts, block.text.stops
        low, high = int(starts[begin]), int(stops[stop - 1]) + 1
        blanks = quotes_after_blanks(block) if self._dialect.trim else None
        superfluous = self._superfluous_delimiters(block, sound) if self._form.trailing_delimiter else _NOWHERE
        if all_sound and not block.lines_between and blanks is None and not superfluous.size:
            text = block.text.data[low:high]
        else:
            steps = np.zeros(len(block.text.data) + 2, dtype=np.int8)
            steps[starts[sound]] += 1
            steps[stops[sound] + 1] -= 1
            if blanks is not None:
                steps[blanks[0]] -= 1
                steps[blanks[1]] += 1
            steps[superfluous] -= 1
            steps[superfluous + 1] += 1
            keep = np.add.accumulate(steps[:-2], dtype=np.int8) > 0
            text = block.bytes_array[low:high][keep[low:high]].tobytes()
        return single_blanks(text, self._dialect) if self._dialect.by_blanks else text

    def _superfluous_delimiters(self, block: RowBlock, sound: Positions) -> Positions:
        """Where the delimiters stand that end a row with one field too many."""
        data = block.scan.structure
        separates = np.isin(data, np.frombuffer(self._dialect.delimiters, np.uint8))
        separates &= ~block.scan.quotes.inside(data.size)
        before = np.concatenate(([0], np.cumsum(separates)))
        starts, stops = block.text.starts[sound], block.text.stops[sound]
        last = solid_before(data, stops, self._dialect.blanks) if self._dialect.trim else stops - 1
        ends = separates[last] & (before[stops] - before[starts] == self._width)
        superfluous: Positions = last[ends]
        return superfluous

    def _table(self, text: bytes, rows: np.ndarray) -> tuple[pa.Table, dict[int, str]]:
        """The columns of these rows, and the reasons for those with too few or too many fields."""
        if not len(rows):
            return pa.table({name: pa.array([], pa.string()) for name in self._columns}), {}
        wrong: dict[int, str] = {}

        def wrong_width(row: pa_csv.InvalidRow) -> str:
            count = row.actual_columns
            amount = "few" if count < self._width else "many"
            wrong[int(rows[row.number - 1])] = f"too {amount} fields: {count} instead of {self._width}"
            return "skip"

        self._parse.invalid_row_handler = wrong_width
        if text.startswith(BOM):  # inside a file it is an ordinary character, which pyarrow would leave out
            text = b"\n" + text
        # With threads, pyarrow would not know the number of a row that it hands to the handler.
        options = pa_csv.ReadOptions(use_threads=False, block_size=len(text) + 1, column_names=self._inner)
        parsed = pa_csv.read_csv(pa.BufferReader(text), options, self._parse, self._convert)
        columns = [self._trimmed(parsed[name]) for name in self._asked]
        if not columns:  # nothing asked: the rows count
            return parsed.select([]), wrong
        return pa.Table.from_arrays(columns, names=list(self._columns)), wrong

    def _trimmed(self, column: pa.ChunkedArray) -> pa.ChunkedArray:
        if not self._dialect.trim:
            return column
        column = pc.ascii_trim(column, characters=" \t")
        return pc.if_else(pc.is_in(column, value_set=self._nulls), pa.scalar(None, pa.string()), column)

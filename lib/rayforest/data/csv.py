"""Text tables: count their rows into pieces, find their names and kinds, read pieces as tables of strings.

Rows are found by `csv_rows`; pyarrow turns the text of whole rows into columns. Every row comes out once: in the table,
or as a BrokenRow with the reason why it could not become values.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from rayforest.data.csv_bytes import BLOCK_BYTES, compression, keeps_ascii, read_blocks, to_utf8
from rayforest.data.csv_faults import find_faults, quotes_after_blanks
from rayforest.data.csv_rows import RowBlock, split_rows
from rayforest.data.raw import BATCH_ROWS, BrokenRow, CsvFormat, RawBatch, RowText
from rayforest.engine.shards import Piece, Slice
from rayforest.errors import InputError, RayforestError, did_you_mean

PIECE_BYTES = 16 << 20
"""A piece is cut before it grows beyond this."""

SAMPLE_ROWS = 10_000
"""Rows from which kinds are inferred."""

_SAMPLE_BYTES = 1 << 20
_HEAD_BYTES = 1 << 16
_BOM = b"\xef\xbb\xbf"
_UTF16_BOMS = (b"\xff\xfe", b"\xfe\xff")
_LINE_END = re.compile(rb"\r\n|\n|\r")


@dataclass(frozen=True)
class CsvHead:
    """The beginning of a text table."""

    names: tuple[str, ...]
    data_start: int
    """Where the first row may begin: a position in the file, or in the decoded stream of a file that is one piece."""


def is_one_piece(path: str, form: CsvFormat) -> bool:
    """Whether a file can only be read from its beginning: compressed, or with more than one byte a character."""
    return compression(path) is not None or not keeps_ascii(form.encoding)


def read_head(uri: str, form: CsvFormat) -> CsvHead:
    """Names of a table and the place where its rows begin.

    Raises:
        InputError: the file is empty, a name stands twice, or `names` are not as many as the columns.
    """
    begin, size = b"", _HEAD_BYTES
    for block in _structure(uri, form, block_bytes=_HEAD_BYTES):
        begin += block
        if len(begin) >= size:
            if (head := _parse_head(uri, form, begin, complete=False)) is not None:
                return head
            size *= 4
            if size > BLOCK_BYTES:
                raise InputError(
                    f"{uri}: no header ends within the first {len(begin):,} bytes",
                    expected="a header row",
                    next_step="is this a text table? check delimiter, skip_lines and quotes at its beginning",
                )
    head = _parse_head(uri, form, begin, complete=True)
    assert head is not None  # noqa: S101  complete text always parses or raises
    return head


def _structure(uri: str, form: CsvFormat, start: int = 0, block_bytes: int = BLOCK_BYTES) -> Iterator[bytes]:
    """The bytes in which rows are found: the file's own where ASCII stays ASCII, else recoded."""
    blocks = read_blocks(uri, start, block_bytes=block_bytes)
    return blocks if keeps_ascii(form.encoding) else to_utf8(blocks, form.encoding)


def _parse_head(uri: str, form: CsvFormat, begin: bytes, *, complete: bool) -> CsvHead | None:
    """The head, or None if it goes on after `begin`."""
    if keeps_ascii(form.encoding) and begin.startswith(_UTF16_BOMS):
        raise InputError(
            f"{uri} begins with the mark of UTF-16",
            expected=f"text in {form.encoding}",
            next_step='set encoding = "utf-16" in [data.format]',
        )
    start = len(_BOM) if begin.startswith(_BOM) else 0
    for _ in range(form.skip_lines):
        line_end = _LINE_END.search(begin, start)
        if line_end is None or (line_end.end() == len(begin) and not complete):
            if not complete:
                return None
            raise InputError(f"{uri} has fewer lines than skip_lines", expected=f"more than {form.skip_lines} lines")
        start = line_end.end()
    sample = next(split_rows([begin[start:]], ord(form.delimiter), trim=form.trim), None)
    if sample is None:
        if not complete:
            return None
        if form.header:
            raise InputError(f"{uri} is empty", expected="a header row", next_step="leave the file out of the source")
        return CsvHead(form.names, start)
    header_stop = start + sample.offset + int(sample.text.stops[0])
    if header_stop + 1 >= len(begin) and not complete:
        return None
    rows = [_fields(uri, sample.text, row, form) for row in range(1 if form.header else min(100, len(sample)))]
    names = form.names or tuple((rows[0][i] if form.header else "") or f"c{i + 1}" for i in range(len(rows[0])))
    if all(len(row) != len(names) for row in rows):
        what = "header has" if form.header else "rows have"
        raise InputError(
            f"{uri}: names do not fit the file",
            expected=f"{len(rows[0])} names, as many as the {what} fields",
            found=f"{len(names)} names",
            next_step="correct names in [data.format], or the delimiter",
        )
    _refuse_repeated(uri, names)
    return CsvHead(names, header_stop if form.header else start)


def _fields(uri: str, text: RowText, row: int, form: CsvFormat) -> list[str]:
    line = text.data[int(text.starts[row]) : int(text.stops[row])]
    decoded = line.decode(form.encoding if keeps_ascii(form.encoding) else "utf-8", "replace")
    try:
        fields = next(
            csv.reader(io.StringIO(decoded, newline=""), delimiter=form.delimiter, skipinitialspace=form.trim)
        )
    except csv.Error as error:
        raise InputError(f"{uri}: the header cannot be read", found=str(error)) from error
    return [field.strip(" \t") for field in fields] if form.trim else fields


def _refuse_repeated(uri: str, names: Sequence[str]) -> None:
    seen: dict[str, int] = {}
    for position, name in enumerate(names, 1):
        if name in seen:
            raise InputError(
                f"{uri}: two columns are named {name!r}",
                expected="a name only once",
                found=f"columns {seen[name]} and {position} of {len(names)}",
                next_step="give every column its own name: names = [...] in [data.format]",
            )
        seen[name] = position


def count_pieces(uri: str, size: int, form: CsvFormat, shard_rows: int) -> tuple[Piece, ...]:
    """Cut a file into pieces at line starts, in one pass over its bytes with flat memory."""
    head = read_head(uri, form)
    blocks = split_rows(_rows_stream(uri, form, head), ord(form.delimiter), trim=form.trim)
    if is_one_piece(uri, form):
        rows = decoded_bytes = 0
        for block in blocks:
            rows += len(block)
            decoded_bytes = block.offset + int(block.text.stops[-1])
        return (Piece(0, rows, 0, 0, decoded_bytes),) if rows else ()
    cutter = _PieceCutter(shard_rows)
    for block in blocks:
        cutter.add(block, head.data_start)
    return cutter.finish(size)


def _rows_stream(uri: str, form: CsvFormat, head: CsvHead, block_bytes: int = BLOCK_BYTES) -> Iterator[bytes]:
    """The bytes from the first row on, as `_structure` gives them."""
    if not is_one_piece(uri, form):
        yield from _structure(uri, form, head.data_start, block_bytes)
        return
    left = head.data_start
    for block in _structure(uri, form, block_bytes=block_bytes):
        if left < len(block):
            yield block[left:] if left else block
        left = max(0, left - len(block))


class _PieceCutter:
    """Groups rows into pieces of at most so many rows, and PIECE_BYTES unless a single row is longer."""

    def __init__(self, shard_rows: int) -> None:
        self._shard_rows = shard_rows
        self._starts: list[tuple[int, int]] = []  # of each piece: first row, position
        self._rows = 0

    def add(self, block: RowBlock, base: int) -> None:
        origin = base + block.offset
        starts = block.text.starts + origin
        stops = block.text.stops + origin
        if block.long_row_bytes is not None:
            stops = starts + block.long_row_bytes
        at, count = 0, len(block)
        while at < count:
            row = self._rows + at
            if self._starts:
                piece_row, piece_start = self._starts[-1]
                by_rows = at + self._shard_rows - (row - piece_row)
                by_bytes = int(np.searchsorted(stops, piece_start + PIECE_BYTES, side="right"))
                at = min(by_rows, max(by_bytes, at + (row == piece_row)), count)
                if at == count:
                    break
            self._starts.append((self._rows + at, int(starts[at])))
        self._rows += count

    def finish(self, size: int) -> tuple[Piece, ...]:
        ends = [*self._starts[1:], (self._rows, size)]
        return tuple(
            Piece(row, next_row - row, start, stop, stop - start)
            for (row, start), (next_row, stop) in zip(self._starts, ends, strict=False)
        )


def read_rows(part: Slice, form: CsvFormat, columns: Sequence[str]) -> Iterator[RawBatch]:
    """The rows of a slice; its byte range begins with its first row, or it has none and is addressed by row.

    Raises:
        InputError: a column is missing.
    """
    head = read_head(part.uri, form)
    reader = _TableReader(part.uri, part.path, form, head.names, columns)
    if is_one_piece(part.uri, form):
        stream, at = _rows_stream(part.uri, form, head), 0
    else:
        stream, at = read_blocks(part.uri, part.byte_start, part.byte_stop), part.first_row
    if keeps_ascii(form.encoding):
        stream = to_utf8(stream, form.encoding)
    end = part.first_row + part.rows
    for block in split_rows(stream, ord(form.delimiter), trim=form.trim):
        if at >= end:
            return
        begin, stop = max(0, part.first_row - at), min(len(block), end - at)
        for cut in range(begin, stop, BATCH_ROWS):
            yield reader.batch(block, cut, min(cut + BATCH_ROWS, stop), at)
        at += len(block)


def sample_rows(uri: str, form: CsvFormat, rows: int = SAMPLE_ROWS) -> pa.Table:
    """The first rows of a file as text, all columns; rows that cannot become values are left out."""
    head = read_head(uri, form)
    reader = _TableReader(uri, "", form, head.names, head.names)
    stream = _rows_stream(uri, form, head, block_bytes=_SAMPLE_BYTES)
    if keeps_ascii(form.encoding):
        stream = to_utf8(stream, form.encoding)
    tables, at = [], 0
    for block in split_rows(stream, ord(form.delimiter), trim=form.trim):
        stop = min(len(block), rows - at)
        tables.append(reader.batch(block, 0, stop, at).table)
        at += stop
        if at >= rows:
            break
    return pa.concat_tables(tables) if tables else pa.table({name: pa.array([], pa.string()) for name in head.names})


class _TableReader:
    """Turns rows of one file into tables of the asked columns."""

    def __init__(self, uri: str, path: str, form: CsvFormat, names: tuple[str, ...], columns: Sequence[str]) -> None:
        for column in columns:
            if column not in names:
                raise InputError(
                    f"{uri} has no column {column!r}",
                    found=f"{len(names)} columns",
                    next_step=did_you_mean(column, names),
                )
        self._uri, self._path, self._form = uri, path, form
        self._columns = tuple(columns)
        self._width = len(names)
        nulls = sorted({"", *form.null_words})
        self._nulls = pa.array(nulls, pa.string())
        inner = [str(i) for i in range(len(names))]  # pyarrow would merge columns of one name
        self._parse = pa_csv.ParseOptions(delimiter=form.delimiter, newlines_in_values=True)
        self._asked = [str(names.index(column)) for column in columns]
        self._convert = pa_csv.ConvertOptions(
            column_types=dict.fromkeys(inner, pa.string()),
            include_columns=self._asked or inner[:1],
            null_values=[] if form.trim else nulls,
            strings_can_be_null=not form.trim,
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
        blanks = quotes_after_blanks(block) if block.trim else None
        if all_sound and not block.blank_lines and blanks is None:
            return block.text.data[low:high]
        steps = np.zeros(len(block.text.data) + 2, dtype=np.int8)
        steps[starts[sound]] += 1
        steps[stops[sound] + 1] -= 1
        if blanks is not None:
            steps[blanks[0]] -= 1
            steps[blanks[1]] += 1
        keep = np.add.accumulate(steps[:-2], dtype=np.int8) > 0
        return block.bytes_array[low:high][keep[low:high]].tobytes()

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
        if text.startswith(_BOM):  # inside a file it is an ordinary character, which pyarrow would leave out
            text = b"\n" + text
        options = pa_csv.ReadOptions(use_threads=False, block_size=len(text) + 1, column_names=self._inner)
        parsed = pa_csv.read_csv(pa.BufferReader(text), options, self._parse, self._convert)
        columns = [self._trimmed(parsed[name]) for name in self._asked]
        if not columns:  # nothing asked: the rows count
            return parsed.select([]), wrong
        return pa.Table.from_arrays(columns, names=list(self._columns)), wrong

    def _trimmed(self, column: pa.ChunkedArray) -> pa.ChunkedArray:
        if not self._form.trim:
            return column
        column = pc.ascii_trim(column, characters=" \t")
        return pc.if_else(pc.is_in(column, value_set=self._nulls), pa.scalar(None, pa.string()), column)

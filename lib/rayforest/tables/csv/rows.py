"""Cut a stream of bytes into blocks of whole rows.

A quote that is opened in error would take in all that follows. So a row of several lines whose quotes do not hold
(never closed, text after the closing one, or more than MAX_QUOTED_BYTES) is not believed: its first line is a broken
row by itself, and the lines after it are read anew. That follows from the bytes after the row's beginning alone, so it
is the same wherever the stream is cut into blocks, and a file into pieces.

Read anew, such lines may be comments, which end with their line even if that ends in an escape; and there a piece may
end. So a row of several lines that goes on at the end of a piece, its last line end being escaped, is not believed
either.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from rayforest.tables.batch import RowText
from rayforest.tables.csv.dialect import Dialect
from rayforest.tables.csv.quotes import Positions, RowScanner, Scan, solid_after
from rayforest.tables.csv.read_again import ReadAgain

MAX_ROW_BYTES = 16 << 20
"""A longer row comes out as broken."""
MAX_QUOTED_BYTES = 64 << 20
"""A longer row of several lines is one whose quote was opened in error."""

OPEN_QUOTE = "a quote that is never closed, or only amid text of a later line"
"""What is wrong with a line whose row was not believed."""

_LINE_END = re.compile(rb"[\n\r]")


@dataclass(frozen=True)
class RowBlock:
    """Whole rows, one after the other in one block of bytes."""

    text: RowText
    offset: int
    """Position of the block in the stream."""
    dialect: Dialect
    lines_between: bool = False
    """Lines that are no rows, of blanks or comments, lie between the rows."""
    open_quote: bool = False
    """The block is the first line of a row whose quotes do not hold."""
    long_row_bytes: int | None = None
    """Set where the block is one row longer than MAX_ROW_BYTES; then `text` has only its beginning."""
    known_scan: Scan | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.text.starts)

    @cached_property
    def scan(self) -> Scan:
        """The quotes of the block, and its bytes without those that have no meaning."""
        return self.known_scan or RowScanner(self.dialect).scan(self.text.data)

    @cached_property
    def bytes_array(self) -> npt.NDArray[np.uint8]:
        """[bytes of the block]."""
        return np.frombuffer(self.text.data, dtype=np.uint8)

    def rows_at(self, positions: Positions) -> Positions:
        """The rows that hold positions of the block, each once."""
        rows = np.searchsorted(self.text.starts, positions, side="right") - 1
        return np.unique(rows[positions < self.text.stops[rows]])

    def first_too_long(self) -> int | None:
        """The first row that is longer than MAX_ROW_BYTES."""
        found = np.flatnonzero(self.text.stops - self.text.starts > MAX_ROW_BYTES)
        return int(found[0]) if found.size else None

    def first_not_believed(self) -> int | None:
        """The first row of several lines with text after a closing quote."""
        if not self.scan.quotes.positions.size:
            return None
        rows = self.rows_at(texts_after_quote(self.scan, self.dialect)).tolist()
        return next((row for row in rows if self.line_end(row) is not None), None)

    def line_end(self, row: int) -> int | None:
        """Where the first line of a row ends that has several; an escaped line end ends no line."""
        found = _LINE_END.search(self.scan.structure.data, int(self.text.starts[row]), int(self.text.stops[row]))
        return found.start() if found else None

    def goes_on(self) -> bool:
        """Whether its only row has several lines, and the end of the last one is escaped."""
        return self.text.data.endswith((b"\n", b"\r")) and self.line_end(0) is not None

    def up_to(self, row: int) -> RowBlock:
        """The rows before this one."""
        return RowBlock(self.text.take(slice(row)), self.offset, self.dialect, self.lines_between, known_scan=self.scan)


def texts_after_quote(scan: Scan, dialect: Dialect) -> Positions:
    """Closing quotes that neither a delimiter nor a line end follows."""
    data, quotes = scan.structure, scan.quotes
    closing = quotes.positions[quotes.closes]
    after = closing[closing + 1 < data.size] + 1
    after = after[~np.isin(data[after], dialect.ends_of_values)]
    if dialect.trim and after.size:
        solid = solid_after(data, after, dialect.blanks)
        ends = np.append(data, 10)[solid]
        after = after[~np.isin(ends, dialect.ends_of_values)]
    return after - 1


@dataclass
class _Tail:
    """The beginning of a row whose end has not been seen."""

    chunks: list[bytes] = field(default_factory=list)
    size: int = 0

    def add(self, chunk: bytes) -> None:
        if self.size <= MAX_QUOTED_BYTES:
            self.chunks.append(chunk)
        self.size += len(chunk)

    @property
    def is_whole(self) -> bool:
        """Whether all of its bytes are kept."""
        return sum(map(len, self.chunks)) == self.size

    @property
    def kept(self) -> bytes:
        """Its bytes; of a line that is longer than MAX_QUOTED_BYTES, those of its beginning."""
        return b"".join(self.chunks)


def split_rows(blocks: Iterable[bytes], dialect: Dialect) -> Iterator[RowBlock]:
    """Cut a stream of bytes that begins where a row begins into blocks of whole rows.

    Keeps one block in memory, and of a row that is longer at most MAX_QUOTED_BYTES.
    """
    stream = ReadAgain(blocks)
    scanner, tail, offset = RowScanner(dialect), _Tail(), 0
    while (block := next(stream, None)) is not None or tail.size:
        at_end, block = block is None, block or b""
        scan = scanner.scan(block)
        ended = at_end or bool(scan.ends.size)
        end = int(scan.ends[0]) if scan.ends.size else len(block)
        if tail.size + end > MAX_QUOTED_BYTES:  # one row that is too long, whether its end has been seen or not
            line = _first_line(tail, scan.structure[:end], dialect, ended=ended)
            if line is not None:
                begin = tail.kept + block[:end]
                if begin[0] != dialect.comment:
                    yield _broken_row(begin, line, offset, dialect)
                rest = (tail.kept + block)[line + 1 :] if tail.is_whole else block[line + 1 - tail.size :]
                stream.put_back(rest)
                scanner, tail, offset = RowScanner(dialect), _Tail(), offset + line + 1
            else:
                tail.add(block)
            continue
        if not ended:
            tail.add(block)
            continue
        stop = int(scan.ends[-1]) + 1 if scan.ends.size else len(block)
        data = tail.kept + block[:stop]
        ends = scan.ends + tail.size if scan.ends.size else np.array([len(data)])
        text, lines_between = _row_text(data, ends, dialect)
        rows = RowBlock(text, offset, dialect, lines_between, known_scan=scan.up_to(stop) if not tail.size else None)
        several_lines = data.count(b"\n") + data.count(b"\r") > scan.ends.size
        unbelieved = rows.first_not_believed() if several_lines else None
        if at_end and (scanner.in_quotes or (several_lines and rows.goes_on())):
            unbelieved = 0
        too_long = rows.first_too_long()
        if unbelieved is None and too_long is None:
            if len(rows):
                yield rows
            offset, tail = offset + len(data), _Tail()
            tail.add(block[stop:])
            continue
        row = min(row for row in (unbelieved, too_long) if row is not None)
        if row:
            yield rows.up_to(row)
        start, line = int(text.starts[row]), int(text.stops[row])
        if row == unbelieved or line - start > MAX_QUOTED_BYTES:
            line = rows.line_end(row) or line
        yield _broken_row(data[start:line], line - start, offset + start, dialect)
        stream.put_back(data[line + 1 :] + block[stop:])
        scanner, tail, offset = RowScanner(dialect), _Tail(), offset + line + 1


def _first_line(tail: _Tail, block: npt.NDArray[np.uint8], dialect: Dialect, *, ended: bool) -> int | None:
    """Where the first line of a row ends that is too long; None if that has not been seen.

    Args:
        tail: the row up to the block; of one that is not whole, no line end has been seen.
        block: the structure of what follows.
        dialect: that of both.
        ended: whether the row ends where the block does.
    """
    kept = RowScanner(dialect).scan(tail.kept if tail.is_whole else b"").structure
    for before, part in ((0, kept), (tail.size, block)):
        if found := _LINE_END.search(part.data):
            return before + found.start()
    return tail.size + len(block) if ended else None


def _broken_row(begin: bytes, length: int, offset: int, dialect: Dialect) -> RowBlock:
    """A broken row of one line, of which the beginning is given."""
    shown = begin[:length]
    text = RowText(shown, np.array([0]), np.array([len(shown)]))
    if length > MAX_ROW_BYTES:
        return RowBlock(text, offset, dialect, long_row_bytes=length)
    return RowBlock(text, offset, dialect, open_quote=True)


def _row_text(data: bytes, ends: Positions, dialect: Dialect) -> tuple[RowText, bool]:
    """The rows between the line ends, and whether lines of blanks or comments were left out."""
    starts = np.concatenate((np.zeros(1, np.int64), ends + 1))[: ends.size]
    filled = ends > starts
    lines = np.count_nonzero(filled)
    skips_blank, skips_comments = dialect.trim or dialect.by_blanks, dialect.comment is not None
    if skips_blank or skips_comments:
        first = np.frombuffer(data + b"\n", dtype=np.uint8)[starts]
    if skips_blank:
        for line in np.flatnonzero(filled & np.isin(first, dialect.blanks)):
            text = data[starts[line] : ends[line]]
            filled[line] = len(text) > MAX_QUOTED_BYTES or bool(text.strip(dialect.blanks.tobytes()))
    if skips_comments:
        filled &= first != dialect.comment
    return RowText(data, starts[filled], ends[filled]), bool(np.count_nonzero(filled) < lines)

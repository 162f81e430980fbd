"""Cut a stream of bytes into blocks of whole rows."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from rayforest.data.csv.quotes import Positions, Quotes, RowScanner, blank_bytes
from rayforest.data.raw import RowText

MAX_ROW_BYTES = 16 << 20
"""A longer row is not kept in memory: it comes out as broken."""


@dataclass(frozen=True)
class RowBlock:
    """Whole rows, one after the other in one block of bytes."""

    text: RowText
    offset: int
    """Position of the block in the stream."""
    delimiter: int
    trim: bool
    blank_lines: bool = False
    """Lines of blanks lie between the rows."""
    long_row_bytes: int | None = None
    """Set where the block is one row longer than MAX_ROW_BYTES; then `text` has only its beginning."""
    scanned_quotes: Quotes | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.text.starts)

    @cached_property
    def quotes(self) -> Quotes:
        """The quotes of the block."""
        return self.scanned_quotes or RowScanner(self.delimiter, self.trim).scan(self.text.data)[1]

    @property
    def blanks(self) -> npt.NDArray[np.uint8]:
        """Blanks around a value."""
        return blank_bytes(self.delimiter)

    @cached_property
    def bytes_array(self) -> npt.NDArray[np.uint8]:
        """[bytes of the block]."""
        return np.frombuffer(self.text.data, dtype=np.uint8)

    def rows_at(self, positions: Positions) -> Positions:
        """The row that holds each position of the block."""
        return np.searchsorted(self.text.starts, positions, side="right") - 1


@dataclass
class _Tail:
    """The beginning of a row whose end has not been seen."""

    chunks: list[bytes] = field(default_factory=list)
    size: int = 0

    def add(self, chunk: bytes) -> None:
        if self.size <= MAX_ROW_BYTES:
            self.chunks.append(chunk)
        self.size += len(chunk)


class _Blocks:
    """A stream of blocks that can be looked into before it is read on."""

    def __init__(self, blocks: Iterable[bytes]) -> None:
        self._unseen = iter(blocks)
        self._seen: deque[bytes] = deque()

    def __iter__(self) -> Iterator[bytes]:
        while (block := self._seen.popleft() if self._seen else next(self._unseen, None)) is not None:
            yield block

    def following(self) -> Iterator[bytes]:
        """Blocks that will be read next."""
        yield from tuple(self._seen)
        for block in self._unseen:
            self._seen.append(block)
            yield block


def split_rows(blocks: Iterable[bytes], delimiter: int, *, trim: bool) -> Iterator[RowBlock]:
    """Cut a stream of bytes that begins where a row begins into blocks of whole rows.

    Keeps one block and MAX_ROW_BYTES in memory, however long a row is; and up to MAX_QUOTED_BYTES more while it looks
    for the end of a quoted value that goes on beyond the block.
    """
    stream = _Blocks(blocks)
    scanner = RowScanner(delimiter, trim)
    tail = _Tail()
    offset = 0
    for block in stream:
        ends, quotes = scanner.scan(block, stream.following)
        if not ends.size:
            tail.add(block)
            continue
        begin = 0
        if tail.size + ends[0] > MAX_ROW_BYTES:
            begin = int(ends[0]) + 1
            tail.add(block[: begin - 1])
            yield _long_row(tail, scanner, offset)
            offset += tail.size + 1
            tail = _Tail()
        stop = int(ends[-1]) + 1
        data = b"".join([*tail.chunks, block[begin:stop]])
        text, blank_lines = _row_text(data, ends[ends >= begin] - begin + tail.size, scanner)
        if len(text.starts):
            known = quotes.up_to(stop) if len(data) == stop else None
            yield RowBlock(text, offset, delimiter, trim, blank_lines, scanned_quotes=known)
        offset += len(data)
        tail = _Tail()
        tail.add(block[stop:])
    if tail.size > MAX_ROW_BYTES:
        yield _long_row(tail, scanner, offset)
    elif tail.size:
        text, blank_lines = _row_text(b"".join(tail.chunks), np.array([tail.size]), scanner)
        if len(text.starts):
            yield RowBlock(text, offset, delimiter, trim, blank_lines)


def _long_row(tail: _Tail, scanner: RowScanner, offset: int) -> RowBlock:
    shown = b"".join(tail.chunks)
    text = RowText(shown, np.array([0]), np.array([len(shown)]))
    return RowBlock(text, offset, scanner.delimiter, scanner.trim, long_row_bytes=tail.size)


def _row_text(data: bytes, ends: Positions, scanner: RowScanner) -> tuple[RowText, bool]:
    """The rows between the line ends, and whether lines of blanks were left out."""
    starts = np.concatenate((np.zeros(1, np.int64), ends + 1))[: ends.size]
    filled = ends > starts
    lines = np.count_nonzero(filled)
    if scanner.trim:
        first = np.frombuffer(data + b"\n", dtype=np.uint8)[starts]
        for line in np.flatnonzero(filled & np.isin(first, scanner.blanks)):
            filled[line] = bool(data[starts[line] : ends[line]].strip(scanner.blanks.tobytes()))
    return RowText(data, starts[filled], ends[filled]), bool(np.count_nonzero(filled) < lines)

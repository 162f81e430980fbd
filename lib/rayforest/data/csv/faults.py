"""Rows of a text table that must not become values, although a parser would let them through."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from rayforest.data.csv.quotes import Positions, solid_after, solid_before
from rayforest.data.csv.rows import MAX_ROW_BYTES, RowBlock
from rayforest.data.csv.stray import STRAY_QUOTE


def find_faults(block: RowBlock, begin: int, stop: int, encoding: str) -> Iterator[tuple[int, str]]:
    """Rows `begin` .. `stop` of a block that are broken, each with its gravest reason last."""
    for row in _rows_of(block, _texts_after_quote(block), begin, stop):
        yield row, "text after a closing quote"
    data = block.text.data
    if b"\0" in data:
        for row in _rows_of(block, np.flatnonzero(block.bytes_array == 0), begin, stop):
            yield row, "a NUL byte"
    for row in _undecodable(block, begin, stop):
        yield row, f"bytes that are not {encoding}"
    for row in _rows_of(block, block.quotes.stray, begin, stop):
        yield row, STRAY_QUOTE
    last = len(block) - 1
    if block.long_row_bytes is not None and begin <= last < stop:
        yield last, f"a row of {block.long_row_bytes:,} bytes, more than {MAX_ROW_BYTES:,}"


def quotes_after_blanks(block: RowBlock) -> tuple[Positions, Positions] | None:
    """Blanks between the beginning of a value and its opening quote: where each run starts and stops."""
    quotes, data = block.quotes, block.bytes_array
    opening = quotes.positions[quotes.opens & (quotes.positions > 0)]
    opening = opening[np.isin(data[opening - 1], block.blanks)]
    if not opening.size:
        return None
    return solid_before(data, opening, block.blanks) + 1, opening


def _rows_of(block: RowBlock, positions: Positions, begin: int, stop: int) -> list[int]:
    rows = np.unique(block.rows_at(positions))
    return [int(row) for row in rows[(rows >= begin) & (rows < stop)]]


def _texts_after_quote(block: RowBlock) -> Positions:
    """Closing quotes that neither a delimiter nor a line end follows."""
    quotes, data = block.quotes, block.bytes_array
    closing = quotes.positions[quotes.closes]
    after = closing[closing + 1 < data.size] + 1
    after = after[~np.isin(data[after], np.array([block.delimiter, *b"\n\r"], dtype=np.uint8))]
    if block.trim and after.size:
        solid = solid_after(data, after, block.blanks)
        ends = np.append(data, 10)[solid]
        after = after[~np.isin(ends, np.array([block.delimiter, *b"\n\r"], dtype=np.uint8))]
    return after - 1


def _undecodable(block: RowBlock, begin: int, stop: int) -> list[int]:
    """Rows that are not UTF-8."""
    starts, stops, data = block.text.starts, block.text.stops, block.text.data
    span = data[int(starts[begin]) : int(stops[stop - 1])]
    if span.isascii() or _is_utf8(span):
        return []
    candidates = _rows_of(block, np.flatnonzero(block.bytes_array >= 128), begin, stop)
    return [row for row in candidates if not _is_utf8(data[int(starts[row]) : int(stops[row])])]


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True

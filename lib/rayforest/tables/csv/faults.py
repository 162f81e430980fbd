"""Rows of a text table that must not become values, although a parser would let them through."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from rayforest.tables.csv.quotes import Positions, solid_before
from rayforest.tables.csv.rows import MAX_ROW_BYTES, OPEN_QUOTE, RowBlock, texts_after_quote


def find_faults(block: RowBlock, begin: int, stop: int, encoding: str) -> Iterator[tuple[int, str]]:
    """Rows `begin` .. `stop` of a block that are broken, each with its gravest reason last."""
    for row in _within(block, texts_after_quote(block.scan, block.dialect), begin, stop):
        yield row, "text after a closing quote"
    data = block.text.data
    if b"\0" in data:
        for row in _within(block, np.flatnonzero(block.bytes_array == 0), begin, stop):
            yield row, "a NUL byte"
    for row in _undecodable(block, begin, stop):
        yield row, f"bytes that are not {encoding}"
    last = len(block) - 1
    if not begin <= last < stop:
        return
    if block.dialect.escape is not None and _ends_in_escape(block, last):
        yield last, "an escape with nothing after it"
    if block.long_row_bytes is not None:
        yield last, f"a row of {block.long_row_bytes:,} bytes, more than {MAX_ROW_BYTES:,}"
    if block.open_quote:
        yield last, OPEN_QUOTE


def quotes_after_blanks(block: RowBlock) -> tuple[Positions, Positions] | None:
    """Blanks between the beginning of a value and its opening quote: where each run starts and stops."""
    quotes, data = block.scan.quotes, block.scan.structure
    opening = quotes.positions[quotes.opens & (quotes.positions > 0)]
    opening = opening[np.isin(data[opening - 1], block.dialect.blanks)]
    if not opening.size:
        return None
    return solid_before(data, opening, block.dialect.blanks) + 1, opening


def _within(block: RowBlock, positions: Positions, begin: int, stop: int) -> list[int]:
    return [row for row in block.rows_at(positions).tolist() if begin <= row < stop]


def _ends_in_escape(block: RowBlock, row: int) -> bool:
    line = block.text.data[int(block.text.starts[row]) : int(block.text.stops[row])]
    escapes = len(line) - len(line.rstrip(bytes([block.dialect.escape or 0])))
    return escapes % 2 == 1


def _undecodable(block: RowBlock, begin: int, stop: int) -> list[int]:
    """Rows that are not UTF-8."""
    starts, stops, data = block.text.starts, block.text.stops, block.text.data
    span = data[int(starts[begin]) : int(stops[stop - 1])]
    if span.isascii() or _is_utf8(span):
        return []
    candidates = _within(block, np.flatnonzero(block.bytes_array >= 128), begin, stop)
    return [row for row in candidates if not _is_utf8(data[int(starts[row]) : int(stops[row])])]


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True

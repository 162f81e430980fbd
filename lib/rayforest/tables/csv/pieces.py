"""Cut a text table into pieces at line starts, in one pass that counts its rows."""

from __future__ import annotations

import numpy as np

from rayforest.engine.shards import Piece
from rayforest.tables.batch import CsvFormat
from rayforest.tables.csv.dialect import Dialect
from rayforest.tables.csv.head import is_one_piece, read_head, rows_stream
from rayforest.tables.csv.rows import RowBlock, split_rows
from rayforest.tables.raw_file import RawFile

PIECE_BYTES = 16 << 20
"""A piece is cut before it grows beyond this."""


def count_pieces(file: RawFile, form: CsvFormat, shard_rows: int) -> tuple[Piece, ...]:
    """Cut a file into pieces at line starts, in one pass over its bytes with flat memory."""
    head = read_head(file, form)
    blocks = split_rows(rows_stream(file, form, head), Dialect.of(form))
    if is_one_piece(file.uri, form):
        rows = decoded_bytes = 0
        for block in blocks:
            rows += len(block)
            decoded_bytes = block.offset + int(block.text.stops[-1])
        return (Piece(0, rows, 0, 0, decoded_bytes),) if rows else ()
    cutter = _PieceCutter(shard_rows)
    for block in blocks:
        cutter.add(block, head.data_start)
    return cutter.finish(file.size)


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

"""Rows of a file that its table has deleted: which are left, and where the n-th of those stands.

A plan counts the rows that are left, so a range of rows 10 to 20 is the eleventh to the twentieth row of the table that
the file still holds. What is written of a row (in quarantine, above all) is its place in the file.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from rayforest.engine.shards import Piece

_NO_ROWS = np.array([], np.int64)


@dataclass(frozen=True, eq=False)
class DeletedRows:
    """Places of deleted rows in a file."""

    places: npt.NDArray[np.int64] = field(default_factory=lambda: _NO_ROWS)
    """[rows]: 0-based data rows, each once, in order."""

    @classmethod
    def of(cls, places: npt.ArrayLike) -> DeletedRows:
        """In any order, and more than once."""
        return cls(np.unique(np.asarray(places, np.int64)))

    def __bool__(self) -> bool:
        return bool(self.places.size)

    def encode(self) -> str:
        """Text for a plan: the steps from each place to the next, packed. Runs of rows are a few bytes."""
        steps = np.diff(self.places, prepend=0).astype("<u8")
        return base64.b85encode(zlib.compress(steps.tobytes(), 9)).decode()

    @classmethod
    def decode(cls, text: str) -> DeletedRows:
        """What `encode` gave."""
        steps = np.frombuffer(zlib.decompress(base64.b85decode(text)), "<u8")
        return cls(np.cumsum(steps.astype(np.int64)))

    def before(self, row: int) -> int:
        """How many deleted rows stand before a row of the file."""
        return int(np.searchsorted(self.places, row))

    def place(self, live: int) -> int:
        """The row of the file that is its `live`-th one left, 0-based."""
        if not self:
            return live
        left_before = self.places - np.arange(self.places.size)  # rows left before each deleted one
        return live + int(np.searchsorted(left_before, live, side="right"))

    def are_left(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Which of some rows of the file are not deleted."""
        at = np.searchsorted(self.places, rows)
        at[at == self.places.size] = 0
        return self.places[at] != rows if self else np.ones(rows.size, np.bool_)

    def pieces(self, pieces: Iterable[Piece]) -> Iterator[Piece]:
        """Pieces of a file, counted in the rows that are left; a piece without any is left out."""
        first = 0
        for piece in pieces:
            gone = self.before(piece.first_row + piece.rows) - self.before(piece.first_row)
            if piece.rows > gone:
                yield replace(piece, first_row=first, rows=piece.rows - gone)
                first += piece.rows - gone

"""Small batches joined to full ones: most of the work on a batch costs the same for a few rows as for many."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from rayforest.engine.shards import RowRange
from rayforest.tables.batch import BATCH_ROWS, RawBatch, Source
from rayforest.tables.reading import read_placed


@dataclass(frozen=True)
class JoinedBatch:
    """Rows of one or several files, in order, that have the same columns."""

    parts: tuple[RawBatch, ...]
    """Each of one file."""
    table: pa.Table
    """The rows of all parts, in one chunk."""
    positions: npt.NDArray[np.int64]
    """[table rows]: the 0-based place of each row among the rows of all ranges, broken ones included."""

    @property
    def rows_in(self) -> int:
        """Rows that were read, broken ones included."""
        return sum(len(part.rows) + len(part.broken) for part in self.parts)

    @property
    def has_broken(self) -> bool:
        """Whether a row could not become values."""
        return any(part.broken for part in self.parts)


def read_joined(
    ranges: Sequence[RowRange], source: Source, columns: Sequence[str], *, optional: Sequence[str] = ()
) -> Iterator[JoinedBatch]:
    """The rows of ranges in order, in batches as full as BATCH_ROWS lets them be; see `reading.read` for the arguments.

    A batch is given before more is read than it needs.
    """
    waiting: list[tuple[int, RawBatch]] = []
    rows = 0
    for offset, batch in read_placed(ranges, source, columns, optional=optional):
        if waiting and (
            rows + batch.table.num_rows > BATCH_ROWS or not batch.table.schema.equals(waiting[0][1].table.schema)
        ):
            yield _joined(waiting)
            waiting, rows = [], 0
        waiting.append((offset, batch))
        rows += batch.table.num_rows
        if rows >= BATCH_ROWS:
            yield _joined(waiting)
            waiting, rows = [], 0
    if waiting:
        yield _joined(waiting)


def _joined(placed: Sequence[tuple[int, RawBatch]]) -> JoinedBatch:
    table = pa.concat_tables([batch.table for _, batch in placed]).combine_chunks()
    positions = np.concatenate([batch.rows + offset for offset, batch in placed])
    return JoinedBatch(tuple(batch for _, batch in placed), table, positions)

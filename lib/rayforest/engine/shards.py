"""Input files -> shards: pure and deterministic, so that every driver plans the same ones."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

OPEN_COST_BYTES = 1 << 20
"""What opening one more file costs, as bytes read: keeps thousands of tiny files from becoming one shard."""
MAX_RANGES = 1024
"""Files in one shard at most, however empty they are."""


@dataclass(frozen=True, slots=True)
class Piece:
    """The smallest part of a file that can be read alone: a row group, or a byte range of a CSV file."""

    first_row: int
    """0-based data row in the file."""
    rows: int
    byte_start: int
    """0, as byte_stop, for formats that are addressed by row. A piece with a byte range is never cut."""
    byte_stop: int
    bytes: int
    """What reading it costs."""


@dataclass(frozen=True, slots=True)
class InputFile:
    """One input file and its pieces in row order."""

    path: str
    """Relative to the source."""
    uri: str
    size: int
    """Bytes."""
    stamp: str
    """Modification time in ns, or etag: cheap to compare."""
    identity: str
    """What goes into the plan key: the same contents, the same identity."""
    pieces: tuple[Piece, ...]
    entry: str = ""
    """What the reader has to know of the file beside its bytes, in the reader's own form."""


@dataclass(frozen=True, slots=True)
class RowRange:
    """Consecutive rows of one input file. `byte_start` and `byte_stop` are 0 for formats addressed by row."""

    path: str
    uri: str
    size: int
    stamp: str
    identity: str
    first_row: int
    rows: int
    byte_start: int
    byte_stop: int
    entry: str = ""
    """As of the file."""


@dataclass(frozen=True, slots=True)
class Shard:
    """What one task reads: row ranges in input order. An input without rows is a range without rows."""

    index: int
    """0-based position in the plan."""
    ranges: tuple[RowRange, ...]

    @property
    def rows(self) -> int:
        return sum(row_range.rows for row_range in self.ranges)


@dataclass(frozen=True, slots=True)
class NumberedShards:
    """The shards of a step that reads no inputs, such as one that reads what an earlier step has written."""

    count: int
    rows: int = 0
    """That they read together, as far as it is known."""

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Shard]:
        return (Shard(number, ()) for number in range(self.count))


def plan_shards(
    files: Iterable[InputFile], *, shard_rows: int, shard_bytes: int, whole_shards: int = 1
) -> Iterator[Shard]:
    """Cut large files and pack small ones, in input order.

    Pieces stay whole while that leaves a shard at least half full; a piece larger than a shard is cut into equal
    parts, so that no small rest is left alone.

    Args:
        files: in input order; held one at a time.
        shard_rows: rows in a shard at most, but for a piece with a byte range, which is never cut.
        shard_bytes: cost of a shard at most, with the same exception, or for a single row.
        whole_shards: a piece of up to so many shards becomes one shard. Cutting costs: a row group has no index of its
            rows, so its second part is read through the first.
    """
    if shard_rows < 1 or shard_bytes < 1:
        raise ValueError(f"a shard needs room for a row: {shard_rows=}, {shard_bytes=}")
    filling = _Filling(shard_rows, shard_bytes, whole_shards)
    for file in files:
        next_row = 0
        for piece in file.pieces:
            if piece.first_row != next_row:
                raise ValueError(f"pieces of {file.path} leave a gap: row {next_row} expected, {piece.first_row} found")
            next_row += piece.rows
            rest: Piece | None = piece if piece.rows else None
            while rest is not None:
                taken, rest = filling.take(file, rest, is_whole=rest is piece)
                if not taken:
                    yield filling.close()
        if next_row == 0:
            if len(filling.ranges) >= MAX_RANGES:
                yield filling.close()
            filling.add(file, Piece(0, 0, 0, 0, 0))
    if filling.ranges:
        yield filling.close()


@dataclass(slots=True)
class _Filling:
    """The shard that is being filled."""

    shard_rows: int
    shard_bytes: int
    whole_shards: int
    index: int = 0
    rows: int = 0
    cost: int = 0
    ranges: list[RowRange] = field(default_factory=list)

    def take(self, file: InputFile, piece: Piece, *, is_whole: bool) -> tuple[bool, Piece | None]:
        """Take what fits of a piece, or of the rest of one: (anything taken, what is left)."""
        if len(self.ranges) >= MAX_RANGES:
            return False, piece
        opening = 0 if self.ranges and self.ranges[-1].path == file.path else min(OPEN_COST_BYTES, self.shard_bytes)
        rows = self._rows_to_take(piece, opening if self.ranges else 0, self.whole_shards if is_whole else 1)
        if rows == 0:
            return False, piece
        if rows == piece.rows:
            self.add(file, piece, opening)
            return True, None
        cost = piece.bytes * rows // piece.rows
        self.add(file, replace(piece, rows=rows, bytes=cost), opening)
        return True, replace(piece, first_row=piece.first_row + rows, rows=piece.rows - rows, bytes=piece.bytes - cost)

    def _rows_to_take(self, piece: Piece, opening: int, whole_shards: int) -> int:
        room_rows = self.shard_rows - self.rows
        room_bytes = self.shard_bytes - self.cost - opening
        if piece.rows <= room_rows and piece.bytes <= room_bytes:
            return piece.rows
        cuttable = piece.byte_stop == 0
        if not self.rows:  # larger than a shard
            parts = max(-(-piece.rows // self.shard_rows), -(-piece.bytes // self.shard_bytes))
            return -(-piece.rows // parts) if cuttable and parts > whole_shards else piece.rows
        half_full = self.rows * 2 >= self.shard_rows or self.cost * 2 >= self.shard_bytes
        if half_full or not cuttable:
            return 0
        return max(min(room_rows, room_bytes * piece.rows // max(piece.bytes, 1), piece.rows), 0)

    def add(self, file: InputFile, piece: Piece, opening: int = 0) -> None:
        self.rows += piece.rows
        self.cost += piece.bytes + opening
        last = self.ranges[-1] if self.ranges else None
        if (
            last is not None
            and last.path == file.path
            and last.first_row + last.rows == piece.first_row
            and last.byte_stop == piece.byte_start
        ):
            self.ranges[-1] = replace(last, rows=last.rows + piece.rows, byte_stop=piece.byte_stop)
            return
        self.ranges.append(
            RowRange(
                path=file.path,
                uri=file.uri,
                size=file.size,
                stamp=file.stamp,
                identity=file.identity,
                first_row=piece.first_row,
                rows=piece.rows,
                byte_start=piece.byte_start,
                byte_stop=piece.byte_stop,
                entry=file.entry,
            )
        )

    def close(self) -> Shard:
        shard = Shard(self.index, tuple(self.ranges))
        self.index, self.rows, self.cost, self.ranges = self.index + 1, 0, 0, []
        return shard

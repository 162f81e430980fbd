"""What Python hands to the compiled kernel: 64-bit numbers only, and memory by its address."""

from __future__ import annotations

from typing import NamedTuple

ADDRESS, STRIDE, IS_FLOAT32, VALIDITY, VALIDITY_BIT = range(5)
"""Columns of the table that says where features lie: address of the first value, counted from the block's base; bytes
from one value to the next; 1 for float32, 0 for float64; address of Arrow's bitmap of values that are there, or 0; the
first value's bit in it."""

TILE = 256
"""Rows that go through all trees together; their byte columns stay in the cache."""
_TESTS_A_WALK = 40
"""Tests of a vector of rows that take as long as one row's walk through one tree (measured with AVX-512)."""

LINE = 64
"""Bytes of a cache line, and of the widest vector."""


class CallLayout(NamedTuple):
    """What stays the same from call to call. The fields of `Bins` and then of `Trees` follow it, arrays by address."""

    to_float32: int
    """1: values are rounded to float32 first."""
    aggregate: int
    """A value of `Aggregate`; the average is summed here."""
    targets: int
    weight: int
    """Address of float32 or float64, see `Trees`."""
    few_rows: int
    """Up to here, a row through all trees at a time is faster than a vector of rows."""

    tile: int
    """int8 [columns, TILE] from here on in the scratch memory: byte columns."""
    value: int
    """float64 [TILE]: a feature's values."""
    code: int
    """int32 [TILE]: a feature's codes."""
    at: int
    """int64 [TILE or trees]: slots of walkers."""
    walker: int
    """int32 [trees]: walkers on their way."""
    place: int
    """int32 [TILE]: leaves reached in one tree."""
    sums: int
    """float32 or float64 [targets, TILE]"""
    scratch: int
    """Bytes of scratch memory, which must begin at a cache line."""

    @classmethod
    def of(
        cls, *, to_float32: bool, aggregate: int, targets: int, weight: int, columns: int, trees: int, tests: int
    ) -> CallLayout:
        """Cut the scratch memory into parts for so many byte columns, trees, and tests of all trees together."""
        sizes = (columns * TILE, 8 * TILE, 4 * TILE, 8 * max(TILE, trees), 4 * trees, 4 * TILE, 8 * targets * TILE)
        begins = [0]
        for size in sizes:
            begins.append(begins[-1] + -(-size // LINE) * LINE)
        few_rows = max(1, round(tests / (_TESTS_A_WALK * trees))) if trees else 0
        return cls(int(to_float32), aggregate, targets, weight, few_rows, *begins)

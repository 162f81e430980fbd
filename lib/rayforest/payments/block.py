"""One block of rows: drawn from random numbers of its own, spoilt, and made into a table."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from rayforest.payments.defects import Codes, Defect, draw_defects, sources_of_redelivered, take
from rayforest.payments.draw import draw_payments
from rayforest.payments.risk import fraud_logit
from rayforest.payments.table import to_table
from rayforest.payments.world import Booleans, Floats, World, build_world

BLOCK_ROWS = 1 << 17
"""Rows drawn and written at once: a row group of Parquet."""

_WORLD, _VALUES, _DEFECTS = range(3)
"""Streams of random numbers. Defects have their own, so that a block's clean keys are known without drawing it."""

Keys = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class Block:
    """Rows [first, first + rows) of a day; `first` is a multiple of BLOCK_ROWS."""

    day: int
    first: int
    rows: int
    rows_of_day: int


@dataclass(frozen=True)
class DrawnBlock:
    """A block's table, and what only the generator knows about its rows."""

    table: pa.Table
    logit: Floats
    """[rows], of the true probability; where a row repeats another one, of the payment that it displaced."""
    fraud: Booleans
    """[rows], the labels drawn from it."""
    defects: Codes
    """[rows], `Defect.code` or 0."""


class BlockSource:
    """Draws the blocks of a seed, each without the others."""

    def __init__(self, seed: int, dirty: float) -> None:
        self._seed, self._dirty = seed, dirty
        self._world: World = build_world(self._random(_WORLD))
        self._salt = np.random.SeedSequence(seed).generate_state(1, np.uint64)[0]

    def draw(self, block: Block, previous: Block | None) -> DrawnBlock:
        """Draw a block. `previous` is the one before it, whose keys some rows reuse; the very first has none."""
        values = self._random(_VALUES, block)
        payments = draw_payments(
            self._world,
            values,
            key=self._keys(block),
            day=block.day,
            first=block.first,
            rows_of_day=block.rows_of_day,
        )
        logit = fraud_logit(self._world, payments, block.day)
        fraud = values.random(block.rows) < 1 / (1 + np.exp(-logit))

        rng = self._random(_DEFECTS, block)
        defects = draw_defects(rng, block.rows, self._dirty)
        source = sources_of_redelivered(rng, defects)
        shown = take(payments, source)
        reused = np.flatnonzero(defects == Defect.REUSED_KEY.code)
        shown.key[reused] = self._earlier_keys(rng, block, previous, count=len(reused))
        return DrawnBlock(to_table(self._world, shown, fraud[source], defects), logit, fraud, defects)

    def _earlier_keys(self, rng: np.random.Generator, block: Block, previous: Block | None, *, count: int) -> Keys:
        """Keys of clean rows of the block before; the very first block can only repeat its own first row."""
        if previous is None:
            return np.repeat(self._keys(block)[:1], count)
        clean = np.flatnonzero(draw_defects(self._random(_DEFECTS, previous), previous.rows, self._dirty) == 0)
        return self._keys(previous)[clean[rng.integers(0, len(clean), count)]]

    def _keys(self, block: Block) -> Keys:
        """A different 64-bit number for every row of every day: splitmix64 of the day and the position in it.

        The mix is a bijection. Source: Steele, Lea, Flood, Fast splittable pseudorandom number generators, 2014.
        """
        position = np.arange(block.first, block.first + block.rows, dtype=np.uint64)
        mixed: Keys = (position | np.uint64(block.day << 40)) ^ self._salt
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return mixed ^ (mixed >> np.uint64(31))

    def _random(self, stream: int, block: Block | None = None) -> np.random.Generator:
        place = () if block is None else (block.day, block.first // BLOCK_ROWS)
        return np.random.Generator(np.random.Philox(np.random.SeedSequence(self._seed, spawn_key=(stream, *place))))

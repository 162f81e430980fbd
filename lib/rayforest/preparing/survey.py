"""What must be known of all rows before the first one is written: their keys, and where time is cut.

A step of a prepare version, over its shards like every other step, so it resumes and scales as they do.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from rayforest.engine.attempt import Attempt
from rayforest.engine.commit import Version
from rayforest.engine.exchange import SortedFiles
from rayforest.engine.merging import read_sidecar
from rayforest.engine.shards import Shard
from rayforest.features.contract import check_rows
from rayforest.features.hashing import hash_rows
from rayforest.features.keys import canonical_keys
from rayforest.features.recipe import Recipe
from rayforest.formats import KEY_HASHES, TIMES, Document
from rayforest.preparing.split import TimeSketch, time_numbers
from rayforest.tables.batch import Source
from rayforest.tables.joined import read_joined

SURVEY = "survey"
"""Name of the step."""

HASHES = pa.schema(
    [("hash_a", pa.uint64()), ("hash_b", pa.uint64()), ("shard", pa.int32()), ("position", pa.int64())],
    metadata=KEY_HASHES.metadata,
)
"""128 bits of each key. `position` counts the rows of the shard, broken ones included, from 0."""

_SEEDS = (0x5EED_0001, 0x5EED_0002)
_REPEATED = "repeated"
"""Key of the sidecar: positions of the rows whose key stands earlier in the same shard."""


def key_hashes(version: Version, shards: int) -> SortedFiles:
    """The hashes of keys that the survey of so many shards leaves: of each shard, its first row with each key."""
    return SortedFiles(version, SURVEY, KEY_HASHES, HASHES, key="hash_a", key_stop=1 << 64, groups=shards)


@dataclass(frozen=True)
class SurveyTask:
    """A shard of raw rows to the hashes of its keys, and a sketch of its times as the sidecar."""

    recipe: Recipe
    source: Source
    hashes: SortedFiles
    by_time: bool

    schema = HASHES

    def __call__(self, shard: Shard, attempt: Attempt) -> None:
        """Survey one shard."""
        time = self.recipe.time_expression if self.by_time else None
        columns = sorted({*self.recipe.key, *(time.columns if time else ())})
        contract = self.recipe.contract.only(time.columns if time else ())
        sketch, keys = TimeSketch(), [HASHES.empty_table()]
        for batch in read_joined(shard.ranges, self.source, columns):
            if self.recipe.key:
                keys.append(self._keys(batch.table, shard.index, batch.positions))
            if time is not None:
                typed, _ = check_rows(contract, batch.table)
                sketch.merge(TimeSketch.of(time_numbers(typed.select(time.to_polars()).to_series())))
        repeated = self._write(pa.concat_tables(keys), attempt)
        if self.by_time or repeated:
            attempt.sidecar(TIMES.write(sketch.as_dict() | ({_REPEATED: repeated} if repeated else {})))

    def _keys(self, table: pa.Table, shard: int, positions: npt.NDArray[np.int64]) -> pa.Table:
        keys = canonical_keys(self.recipe.contract, table, self.recipe.key)
        whole = keys.select(pl.all_horizontal(pl.all().is_not_null())).to_series()  # a row without a key repeats none
        keys, positions = keys.filter(whole), positions[whole.to_numpy()]
        hash_a, hash_b = (hash_rows(keys, seed) for seed in _SEEDS)
        shards = np.full(len(positions), shard, np.int32)
        return pa.Table.from_arrays([pa.array(c) for c in (hash_a, hash_b, shards, positions)], schema=HASHES)

    def _write(self, keys: pa.Table, attempt: Attempt) -> list[int]:
        """Write the first row of each key; the positions of the others, in order.

        However often a key stands in the tables, the exchange has it once a shard.
        """
        rows = self.hashes.sort(keys)
        repeats = later_rows(rows)
        positions: npt.NDArray[np.int64] = rows["position"].to_numpy()[repeats]
        if len(positions):
            rows = rows.filter(pa.array(~repeats))
        attempt.count_in(rows.num_rows)
        self.hashes.write(attempt, rows)
        return [int(position) for position in np.sort(positions)]


def later_rows(rows: pa.Table) -> npt.NDArray[np.bool_]:
    """Where an earlier row has the same key, [rows], of rows that are sorted by `hash_a`."""
    a, b = (rows[name].to_numpy() for name in ("hash_a", "hash_b"))
    found = np.zeros(len(a), bool)
    same = a[1:] == a[:-1]
    if same.any():
        # Two keys of one hash_a may alternate, so those rows are put in order by hash_b, too.
        few = np.flatnonzero(np.append(same, False) | np.insert(same, 0, False))
        few = few[np.lexsort((b[few], a[few]))]
        found[few[1:]] = (a[few][1:] == a[few][:-1]) & (b[few][1:] == b[few][:-1])
    return found


def repeated_within(version: Version, shard: int) -> npt.NDArray[np.int64]:
    """Sorted positions of the rows of a surveyed shard whose key stands earlier in it."""

    def positions(document: Document) -> npt.NDArray[np.int64]:
        return np.array(document.get(_REPEATED, []), np.int64)

    found = read_sidecar(version, shard, TIMES, positions, step=SURVEY)
    return np.empty(0, np.int64) if found is None else found

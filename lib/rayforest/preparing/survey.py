"""What must be known of all rows before the first one is written: repeated keys, and where time is cut.

Both are steps of a prepare version, over shards like every other step, so they resume and scale as it does.
`SurveyTask` writes a 128-bit hash of each row's key and sketches the times; `DuplicatesTask` takes one range of the
hash, in which all rows of a key meet, and writes the places of the later ones. The first row of a key, in input order,
keeps it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
import pyarrow as pa

from rayforest.engine.attempt import Attempt
from rayforest.engine.commit import Version
from rayforest.engine.document import read_table
from rayforest.engine.run import records
from rayforest.engine.shards import NumberedShards, Shard
from rayforest.features.contract import check_rows
from rayforest.features.hashing import hash_rows
from rayforest.features.keys import canonical_keys
from rayforest.features.recipe import Recipe
from rayforest.formats import KEY_HASHES, REPEATED_KEYS, TIMES
from rayforest.preparing.split import TimeSketch, time_numbers
from rayforest.tables.batch import Source
from rayforest.tables.reading import read_placed

SURVEY, DUPLICATES = "survey", "duplicates"
"""Names of the steps."""

ROWS_A_BUCKET = 4_000_000
"""Keys that are compared in one task: about 200 MB."""

_SEEDS = (0x5EED_0001, 0x5EED_0002)


def bucket_count(rows: int) -> int:
    """Buckets for this many rows."""
    return min(max(1, -(-rows // ROWS_A_BUCKET)), 65_536)


@dataclass(frozen=True)
class SurveyTask:
    """A shard of raw rows to the hashes of its keys, and a sketch of its times as the sidecar."""

    recipe: Recipe
    source: Source
    buckets: int
    by_time: bool

    schema = pa.schema(
        [("bucket", pa.uint16()), ("hash_a", pa.uint64()), ("hash_b", pa.uint64()), ("position", pa.int64())],
        metadata=KEY_HASHES.metadata,
    )
    """`position` counts the rows of the shard, broken ones included, from 0."""

    def __call__(self, shard: Shard, attempt: Attempt) -> None:
        """Survey one shard."""
        time = self.recipe.time_expression if self.by_time else None
        columns = sorted({*self.recipe.key, *(time.columns if time else ())})
        contract = self.recipe.contract.only(time.columns if time else ())
        sketch = TimeSketch()
        for offset, batch in read_placed(shard.ranges, self.source, columns):
            if self.recipe.key:
                hashes = self._hashes(batch.table, batch.rows + offset)
                attempt.count_in(hashes.num_rows)
                attempt.write(hashes)
            if time is not None:
                typed, _ = check_rows(contract, batch.table)
                sketch.merge(TimeSketch.of(time_numbers(typed.select(time.to_polars()).to_series())))
        attempt.sidecar(TIMES.write(sketch.as_dict()))

    def _hashes(self, table: pa.Table, positions: np.ndarray[tuple[int], np.dtype[np.int64]]) -> pa.Table:
        keys = canonical_keys(self.recipe.contract, table, self.recipe.key)
        whole = keys.select(pl.all_horizontal(pl.all().is_not_null())).to_series()  # a row without a key repeats none
        keys, positions = keys.filter(whole), positions[whole.to_numpy()]
        hash_a, hash_b = (hash_rows(keys, seed) for seed in _SEEDS)
        bucket = (hash_a % np.uint64(self.buckets)).astype(np.uint16)
        order = np.argsort(bucket, kind="stable")
        return pa.Table.from_arrays(
            [pa.array(c[order]) for c in (bucket, hash_a, hash_b, positions)], schema=self.schema
        )


@dataclass(frozen=True)
class DuplicatesTask:
    """A bucket of key hashes to the places of the rows whose key an earlier row already has."""

    version: Version

    schema = pa.schema([("shard", pa.int32()), ("position", pa.int64())], metadata=REPEATED_KEYS.metadata)

    def __call__(self, shard: Shard, attempt: Attempt) -> None:
        """Compare the keys of one bucket."""
        plan = self.version.plan()
        assert plan is not None  # noqa: S101  steps run on a planned version
        parts = []
        for record in records(self.version, plan, step=SURVEY):
            if record.path is not None:
                columns, in_bucket = ("hash_a", "hash_b", "position"), ("bucket", "=", shard.index)
                table = read_table(self.version.store, record.path, KEY_HASHES, columns, [in_bucket])
                parts.append(table.append_column("shard", pa.array(np.full(table.num_rows, record.shard, np.int32))))
        if not parts:
            return
        rows = pa.concat_tables(parts)
        a, b, position, place = (rows[c].to_numpy() for c in ("hash_a", "hash_b", "position", "shard"))
        order = np.lexsort((position, place, b, a))
        again = (a[order][1:] == a[order][:-1]) & (b[order][1:] == b[order][:-1])
        later = order[1:][again]
        later = later[np.lexsort((position[later], place[later]))]
        attempt.count_in(len(later))
        attempt.write(pa.Table.from_arrays([pa.array(place[later]), pa.array(position[later])], schema=self.schema))


def duplicates_of(version: Version, buckets: int, shard: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Sorted positions of the rows of a shard whose key came before."""
    found = [np.empty(0, np.int64)]
    for record in records(version, NumberedShards(buckets), step=DUPLICATES):
        if record.path is not None:
            table = read_table(version.store, record.path, REPEATED_KEYS, ["position"], [("shard", "=", shard)])
            found.append(table["position"].to_numpy())
    return np.sort(np.concatenate(found))

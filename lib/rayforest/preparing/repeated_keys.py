"""Rows whose key an earlier row has: found where all rows of a key meet, and brought back to their shards.

The hashes that the survey left are exchanged by hash; a task takes one range of the hash and writes the places of the
later rows; these are exchanged by shard. The first row of a key, in input order, keeps it. What a task reads does not
grow with the number of shards (see `engine.exchange`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from rayforest.engine.attempt import Attempt
from rayforest.engine.commit import Version
from rayforest.engine.exchange import SortedFiles, exchange
from rayforest.engine.executors import Executor
from rayforest.engine.policy import Policy
from rayforest.engine.progress import Progress
from rayforest.engine.run import run_step
from rayforest.engine.shards import NumberedShards, Shard
from rayforest.formats import REPEATED_KEYS
from rayforest.preparing.survey import key_hashes, later_rows, repeated_within

DUPLICATES = "duplicates"
"""Name of the step."""

PLACES = pa.schema([("shard", pa.int32()), ("position", pa.int64())], metadata=REPEATED_KEYS.metadata)
"""Of repeated rows: their shard, and their position in it."""

KEYS_A_TASK = 1_000_000
"""Whose rows one task brings together: about 100 MB."""
MOST_FILES = 8
"""That a shard of the main step opens to find its own places."""


@dataclass(frozen=True)
class RepeatedKeys:
    """Where the repeated keys of a version are to be found."""

    places: SortedFiles

    def of(self, shard: int) -> npt.NDArray[np.int64]:
        """Sorted positions of the rows of a shard whose key an earlier row has."""
        elsewhere = self.places.read(shard, shard + 1)["position"].to_numpy()
        return np.sort(np.concatenate([repeated_within(self.places.version, shard), elsewhere]))


@dataclass(frozen=True)
class DuplicatesTask:
    """A range of key hashes to the places of the rows whose key a row of an earlier shard has."""

    hashes: SortedFiles
    places: SortedFiles
    ranges: int

    schema = PLACES

    def __call__(self, shard: Shard, attempt: Attempt) -> None:
        """Compare the keys of one range."""
        found = [PLACES.empty_table()]
        for rows in self.hashes.chunks(*self.hashes.keys(shard.index, self.ranges)):
            repeats = later_rows(rows)
            if repeats.any():
                found.append(rows.select(PLACES.names).filter(pa.array(repeats)))
        places = pa.concat_tables(found).sort_by([("shard", "ascending"), ("position", "ascending")])
        attempt.count_in(places.num_rows)
        self.places.write(attempt, places)


def find_repeated_keys(
    version: Version,
    shards: int,
    keys: int,
    executor: Executor,
    policy: Policy,
    on_progress: Callable[[Progress], None],
) -> RepeatedKeys:
    """Compare the keys of all shards.

    Args:
        version: surveyed.
        shards: that were surveyed.
        keys: rows that the survey has written.
        executor: where the tasks run.
        policy: retries and time-out of the tasks.
        on_progress: called after each task.

    Raises:
        UnfinishedError: tasks are set aside.
    """

    def exchanged(files: SortedFiles, rows: int, most_groups: int) -> SortedFiles:
        return exchange(files, rows, executor, most_groups=most_groups, policy=policy, on_progress=on_progress)

    surveyed = key_hashes(version, shards)
    hashes = exchanged(surveyed, keys, surveyed.fan_in)
    ranges = max(1, -(-keys // KEYS_A_TASK))
    places = SortedFiles(version, DUPLICATES, REPEATED_KEYS, PLACES, key="shard", key_stop=shards, groups=ranges)
    task = DuplicatesTask(hashes, places, ranges)
    found = run_step(
        version,
        NumberedShards(ranges, keys),
        task,
        executor,
        step=DUPLICATES,
        policy=policy,
        on_progress=on_progress,
    )
    return RepeatedKeys(exchanged(places, found.rows_out, MOST_FILES))

"""Rows by key through the store: from the shards that wrote them to the shards that need them.

A step leaves files that are sorted by a key; a reader wants all rows of a range of keys. If each reader opened each
file, requests would grow as writers x readers. So levels of tasks lie between them: a task of a level reads one range
of keys from up to FAN_IN files, and writes it as one sorted file. Each level makes the files that hold a key FAN_IN
times fewer and the ranges narrower, until a reader finds its keys in a few files. A row is read and written once a
level, and levels grow as the logarithm of the files: one serves 16,000 shards, two serve two million.

Row groups are small, and their statistics say which keys they hold, so a reader of a range reads little else. Rows of
one key stay in the order in which their shards wrote them.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa

from rayforest.engine.attempt import Attempt
from rayforest.engine.commit import Version
from rayforest.engine.document import naming_damage, open_row_groups
from rayforest.engine.executors import Executor
from rayforest.engine.policy import Policy
from rayforest.engine.progress import Progress
from rayforest.engine.record import Record, read_finished, step_folder
from rayforest.engine.run import run_step
from rayforest.engine.shards import NumberedShards, Shard
from rayforest.engine.stores.requests import in_parallel
from rayforest.formats import Format

FAN_IN = 128
"""Files that one task reads at most."""
GROUP_ROWS = 16_384
"""Rows of a row group: what is read for a single key. A quarter of a megabyte, as much as a request is worth."""


@dataclass(frozen=True, slots=True)
class SortedFiles:
    """The data files of a step, each sorted by a key: one for each range of keys and group of source shards.

    The file of shard `r * groups + g` holds the rows of the g-th group of source shards whose keys lie in range r.
    """

    version: Version
    step: str
    form: Format
    """Of the files."""
    schema: pa.Schema
    key: str
    """Name of the column by which files are sorted: whole numbers from 0, without nulls."""
    key_stop: int
    """All keys are below it."""
    groups: int
    """How many files hold rows of one key at most."""
    ranges: int = 1
    fan_in: int = FAN_IN
    group_rows: int = GROUP_ROWS

    @property
    def count(self) -> int:
        """Of the files."""
        return self.groups * self.ranges

    @property
    def held_rows(self) -> int:
        """Rows that a task holds at once, about; a good size for a file, too."""
        return self.fan_in * self.group_rows

    def keys(self, number: int, ranges: int) -> tuple[int, int]:
        """The first key of one of so many even ranges, and of the next one."""
        return number * self.key_stop // ranges, (number + 1) * self.key_stop // ranges

    def sort(self, rows: pa.Table) -> pa.Table:
        """The rows by key; those of one key stay in their order."""
        keys = rows[self.key].to_numpy()
        if not np.any(keys[1:] < keys[:-1]):
            return rows
        order = pa.array(np.argsort(keys, kind="stable"))
        del keys
        # Column by column, so that no more than one is held twice.
        columns = [rows[name].combine_chunks().take(order) for name in rows.column_names]
        return pa.Table.from_arrays(columns, schema=rows.schema)

    def write(self, attempt: Attempt, rows: pa.Table) -> None:
        """Write the rows of a shard's file, in any order; or more of them, of later keys."""
        rows = self.sort(rows)
        for start in range(0, rows.num_rows, self.group_rows):
            attempt.write(rows.slice(start, self.group_rows))
            attempt.end_row_group()

    def read(self, low: int, high: int) -> pa.Table:
        """All rows with low <= key < high, in the order of their keys."""
        return pa.concat_tables([self.schema.empty_table(), *self.chunks(low, high)])

    def chunks(self, low: int, high: int, groups: Sequence[int] | None = None) -> Iterator[pa.Table]:
        """The same rows in tables that divide no key: of up to 2.5 times `held_rows` and the rows of one key.

        Args:
            low: the first key.
            high: the key after the last one.
            groups: of source shards; all by default.

        Raises:
            UnfinishedError: a shard of the step has no record.
            FormatError: a file is damaged, of another kind, or newer.
        """
        if high <= low:
            return
        ranges = range(self._range_of(low), self._range_of(high - 1) + 1)
        numbers = [r * self.groups + g for r in ranges for g in (range(self.groups) if groups is None else groups)]
        with ExitStack() as stack:
            opened = in_parallel(self.version.store, self._open, numbers)
            files = [stack.enter_context(file) for file in opened if file is not None]
            for start, stop in pairwise(self._cuts(files, low, high)):
                chunk = self._chunk(files, start, stop)
                if chunk.num_rows:
                    yield chunk

    def _range_of(self, key: int) -> int:
        return ((key + 1) * self.ranges - 1) // self.key_stop

    def _open(self, number: int) -> _SortedFile | None:
        record = read_finished(self.version.store, step_folder(self.version.base, self.step), number)
        return None if record.path is None else _SortedFile(self, record)

    def _chunk(self, files: list[_SortedFile], start: int, stop: int) -> pa.Table:
        tables = in_parallel(self.version.store, lambda file: file.read(start, stop), files)
        return self.sort(pa.concat_tables([self.schema.empty_table(), *tables]))

    def _cuts(self, files: list[_SortedFile], low: int, high: int) -> list[int]:
        """Where the range is cut, so that no chunk is much larger than `held_rows`, however keys are spread."""
        cuts, rows, before = [low], 0.0, low
        for largest, more in sorted(group for file in files for group in file.row_groups(low, high)):
            if rows + more > 1.5 * self.held_rows and cuts[-1] <= before < high - 1:
                cuts.append(before + 1)
                rows = 0.0
            rows, before = rows + more, largest
        return [*cuts, high]


def exchange(
    files: SortedFiles,
    rows: int,
    executor: Executor,
    *,
    most_groups: int = FAN_IN,
    policy: Policy = Policy(),  # noqa: B008  frozen
    on_progress: Callable[[Progress], None] | None = None,
) -> SortedFiles:
    """Bring rows of one key together, until at most `most_groups` files hold them.

    Args:
        files: of a finished step.
        rows: in them. The same number in every run of a plan: it decides how files are cut.
        executor: where the tasks run.
        most_groups: that a reader of a key wants to open.
        policy: retries and time-out of the tasks.
        on_progress: called after each task.

    Returns:
        The files to read from, those of the last level; `files` themselves where they are few.

    Raises:
        UnfinishedError: a shard of the step has no record, or tasks are set aside.
        FormatError: a file is damaged, of another kind, or newer.
    """
    name = files.step
    while files.groups > most_groups:
        target = next_level(files, rows, name)
        task, shards = _LevelTask(files, target), NumberedShards(target.count, rows)
        run_step(files.version, shards, task, executor, step=target.step, policy=policy, on_progress=on_progress)
        files = target
    return files


def next_level(files: SortedFiles, rows: int, name: str) -> SortedFiles:
    """A level of as few groups as one task may read, and of files as large as a task may hold.

    The name of its step says its shape: under another one, the numbers of files mean something else.
    """
    groups = -(-files.groups // files.fan_in)
    fan_out = -(-rows // (files.ranges * groups * files.held_rows))
    ranges = min(files.ranges * min(max(fan_out, 1), files.fan_in), files.key_stop)
    return replace(files, step=f"{name}-{groups}x{ranges}", groups=groups, ranges=ranges)


@dataclass(frozen=True, slots=True)
class _LevelTask:
    """One file of a level: a range of keys out of the files of some groups."""

    source: SortedFiles
    target: SortedFiles

    @property
    def schema(self) -> pa.Schema:
        return self.target.schema

    def __call__(self, shard: Shard, attempt: Attempt) -> None:
        number, group = divmod(shard.index, self.target.groups)
        first, stop = (g * self.source.groups // self.target.groups for g in (group, group + 1))
        for chunk in self.source.chunks(*self.target.keys(number, self.target.ranges), range(first, stop)):
            attempt.count_in(chunk.num_rows)
            self.target.write(attempt, chunk)


class _SortedFile:
    """A sorted file that is open, its footer read."""

    def __init__(self, files: SortedFiles, record: Record) -> None:
        assert record.path is not None  # noqa: S101  of a shard with rows
        store, self._form, self._key = files.version.store, files.form, files.key
        self._where, self._stack = store.locate(record.path), ExitStack()
        opened = open_row_groups(store, record.path, files.form, files.schema.names, record.bytes)
        self._file = self._stack.enter_context(opened)
        self._place = self._file.schema_arrow.get_field_index(files.key)

    def __enter__(self) -> _SortedFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def row_groups(self, low: int, high: int) -> Iterator[tuple[int, float]]:
        """Largest key of each row group that may hold such keys, and how many rows with them it has, about."""
        for number in self._overlapping(low, high):
            keys = self._statistics(number)
            share = (min(keys.max, high - 1) - max(keys.min, low) + 1) / (keys.max - keys.min + 1)
            yield keys.max, share * self._file.metadata.row_group(number).num_rows

    def read(self, low: int, high: int) -> pa.Table:
        """The rows of these keys."""
        with naming_damage(self._where, self._form):
            rows = self._file.read_row_groups(self._overlapping(low, high), use_threads=False)
        keys = rows[self._key].to_numpy()
        first = np.searchsorted(keys, keys.dtype.type(low), side="left")
        stop = np.searchsorted(keys, keys.dtype.type(high - 1), side="right")
        return rows.replace_schema_metadata().slice(first, stop - first)

    def _overlapping(self, low: int, high: int) -> range:
        numbers = range(self._file.num_row_groups)
        first = bisect_left(numbers, low, key=lambda number: self._statistics(number).max)
        stop = bisect_left(numbers, high, lo=first, key=lambda number: self._statistics(number).min)
        return range(first, stop)

    def _statistics(self, number: int) -> Any:
        return self._file.metadata.row_group(number).column(self._place).statistics

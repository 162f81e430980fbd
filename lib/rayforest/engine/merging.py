"""What the tasks of a step have learnt, merged as a tree by tasks.

A task leaves what it has learnt as the sidecar of its shard. A node of the tree merges up to FAN_IN sidecars, and is
itself a task that leaves one, so that a merge resumes as everything else does. Each shard costs two small reads,
whatever their number, and the driver reads the root alone.

The shape of the tree depends on the number of shards and nothing else: sums of floats, which depend on the order in
which they are added, are the same in every run, too. Up to FAN_IN shards are merged one after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Protocol, Self, TypeVar

import pyarrow as pa

from rayforest.engine.attempt import Attempt
from rayforest.engine.commit import Version
from rayforest.engine.executors import Executor
from rayforest.engine.policy import Policy
from rayforest.engine.progress import Progress
from rayforest.engine.record import read_finished, step_folder
from rayforest.engine.run import Shards, run_step
from rayforest.engine.shards import NumberedShards, Shard
from rayforest.engine.stores.requests import in_parallel
from rayforest.formats import Document, Format

FAN_IN = 64
"""Sidecars that one task merges at most. Another number would give float sums other last digits."""
_READ_AHEAD = 8
"""Sidecars that are held at once: each may be of some MB."""


class Mergeable(Protocol):
    """What is known of some rows, in a form that merges: of many shards it is that of all their rows."""

    def __init__(self) -> None:
        """Of no rows."""

    def merge(self, other: Self) -> None:
        """Add what is known of other rows."""
        ...

    def as_dict(self) -> dict[str, Any]:
        """Plain values for a sidecar."""
        ...

    @classmethod
    def from_document(cls, document: Document) -> Self:
        """Read a sidecar."""
        ...


MergeableT = TypeVar("MergeableT", bound=Mergeable)
_T = TypeVar("_T")


def merged(
    version: Version,
    shards: Shards,
    form: Format,
    kind: type[MergeableT],
    executor: Executor,
    *,
    step: str = "",
    policy: Policy = Policy(),  # noqa: B008  frozen
    on_progress: Callable[[Progress], None] | None = None,
) -> MergeableT:
    """The sidecars of all shards of a finished step as one.

    Args:
        version: to which the step belongs.
        shards: of the step.
        form: of the sidecars.
        kind: what they stand for. Picklable where Ray runs the tasks.
        executor: where the tree's tasks run.
        step: whose sidecars; "" for the main step.
        policy: retries and time-out of the tasks.
        on_progress: called after each task.

    Raises:
        UnfinishedError: a shard of the step has no record, or tasks are set aside.
        FormatError: a sidecar is damaged, of another kind, or newer.
        ConfigError, ...: what `merge` raises.
    """
    sidecars = _Sidecars(version, step, form, kind)
    count = len(shards)
    for nodes in _levels(count):
        name = "-".join(filter(None, (step, "merged", str(nodes))))
        task = _MergeTask(sidecars, count, nodes)
        run_step(version, NumberedShards(nodes), task, executor, step=name, policy=policy, on_progress=on_progress)
        sidecars, count = _Sidecars(version, name, form, kind), nodes
    return sidecars.merged(range(count))


def read_sidecar(
    version: Version, shard: int, form: Format, parse: Callable[[Document], _T], *, step: str = ""
) -> _T | None:
    """What the task of one shard has left beside its record; None where it left nothing. See `Format.read`.

    Raises:
        UnfinishedError: the shard has no record.
        FormatError: the sidecar is damaged, of another kind, or newer.
    """
    store = version.store
    path = read_finished(store, step_folder(version.base, step), shard).sidecar
    return None if path is None else form.read(store.get(path), store.locate(path), parse)


def _levels(count: int) -> Iterator[int]:
    """How many nodes each level of the tree has, down to the root; no level where the driver merges itself."""
    if count > FAN_IN:
        while count > 1:
            count = -(-count // FAN_IN)
            yield count


@dataclass(frozen=True, slots=True)
class _Sidecars(Generic[MergeableT]):
    """Those of one step."""

    version: Version
    step: str
    form: Format
    kind: type[MergeableT]

    def merged(self, shards: range) -> MergeableT:
        """Those of some shards as one."""
        whole = self.kind()
        for other in self._read(shards):
            whole.merge(other)
        return whole

    def _read(self, shards: Iterable[int]) -> Iterator[MergeableT]:
        """In shard order; a shard without one is passed over."""
        store, folder = self.version.store, step_folder(self.version.base, self.step)

        def read(shard: int) -> tuple[str, bytes] | None:
            path = read_finished(store, folder, shard).sidecar
            return None if path is None else (path, store.get(path))

        for found in in_parallel(store, read, shards, window=_READ_AHEAD):
            if found is not None:
                path, data = found
                yield self.form.read(data, store.locate(path), self.kind.from_document)


@dataclass(frozen=True, slots=True)
class _MergeTask(Generic[MergeableT]):
    """One node of the tree."""

    source: _Sidecars[MergeableT]
    count: int
    """Shards of the source step."""
    nodes: int
    """Of this level, which share them evenly."""
    schema: ClassVar[pa.Schema] = pa.schema([])

    def __call__(self, shard: Shard, attempt: Attempt) -> None:
        first, stop = (node * self.count // self.nodes for node in (shard.index, shard.index + 1))
        whole = self.source.merged(range(first, stop))
        attempt.sidecar(self.source.form.write(whole.as_dict()))

"""What tasks have learnt, merged as a tree: in order, once each, in every run alike, and resumed where it ended."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, ClassVar

import pyarrow as pa
import pytest
from counting_store import CountingStore
from examples import examples
from hypothesis import given
from hypothesis import strategies as st

from rayforest.engine import merging
from rayforest.engine.attempt import Attempt
from rayforest.engine.commit import Version
from rayforest.engine.executors import Executor, InProcess, RayExecutor
from rayforest.engine.merging import merged
from rayforest.engine.progress import Progress
from rayforest.engine.record import record_path, step_folder
from rayforest.engine.run import run_step
from rayforest.engine.shards import NumberedShards, Shard
from rayforest.engine.stores.memory import MemoryStore
from rayforest.engine.stores.opening import open_store
from rayforest.engine.stores.store import Store
from rayforest.errors import ConfigError, FormatError, InterruptedRunError, UnfinishedError
from rayforest.formats import Document, Format

SEEN = Format("rayforest.seen", 1)
STEP = "look"


@dataclass
class Seen:
    """Which shards, in the order in which they were merged, and a float of each, added up."""

    shards: list[int] = field(default_factory=list)
    total: float = 0.0

    def merge(self, other: Seen) -> None:
        if not set(self.shards).isdisjoint(other.shards):
            raise ConfigError("a shard was merged twice")
        self.shards += other.shards
        self.total += other.total

    def as_dict(self) -> dict[str, Any]:
        return {"shards": self.shards, "total": self.total}

    @classmethod
    def from_document(cls, document: Document) -> Seen:
        return cls(**document)


def number_of(shard: int) -> float:
    """Of several magnitudes, so that sums depend on their order."""
    return math.sin(shard) * 10 ** (shard % 5)


@dataclass(frozen=True)
class Look:
    """Leaves its shard's number, but nothing of each third one."""

    schema: ClassVar[pa.Schema] = pa.schema([])

    def __call__(self, shard: Shard, attempt: Attempt) -> None:
        if shard.index % 3 != 2:
            attempt.sidecar(SEEN.write(Seen([shard.index], number_of(shard.index)).as_dict()))


def looked(store: Store, shards: int) -> Version:
    version = Version(store, 1, "v")
    store.create("claims/000001.json", b"")
    run_step(version, NumberedShards(shards), Look(), InProcess(1), step=STEP)
    return version


def seen(version: Version, shards: int, executor: Executor | None = None, **options: Any) -> Seen:
    return merged(version, NumberedShards(shards), SEEN, Seen, executor or InProcess(2), step=STEP, **options)


def with_sidecars(shards: int) -> list[int]:
    return [shard for shard in range(shards) if shard % 3 != 2]


@pytest.fixture(autouse=True)
def _a_narrow_tree(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merging, "FAN_IN", 4)


@examples(25)
@given(st.integers(0, 70))
def test_every_shard_is_merged_once_and_in_order_however_many_there_are(shards: int) -> None:
    assert seen(looked(MemoryStore("any"), shards), shards).shards == with_sidecars(shards)


def test_few_shards_make_no_step_and_many_a_tree_of_their_number() -> None:
    for shards, steps in ((4, set()), (5, {"2", "1"}), (70, {"18", "5", "2", "1"})):
        store = MemoryStore("steps")
        seen(looked(store, shards), shards)
        folders = {entry.path.split("/")[1] for entry in store.list("v")}
        assert folders - {STEP} == {f"{STEP}-merged-{count}" for count in steps}


def test_sums_of_floats_depend_on_the_number_of_shards_alone() -> None:
    one_thread = seen(looked(MemoryStore("one"), 50), 50, InProcess(1)).total
    many = seen(looked(MemoryStore("many"), 50), 50, InProcess(8)).total
    assert one_thread == many
    assert many != one_after_the_other(50)  # or it would say nothing of the order
    assert seen(looked(MemoryStore("few"), 4), 4).total == one_after_the_other(4)


def one_after_the_other(shards: int) -> float:
    return list(accumulate(number_of(shard) for shard in with_sidecars(shards)))[-1]


def test_each_sidecar_is_and_its_record_are_read_once_however_many_there_are() -> None:
    for shards in (30, 300):
        store = CountingStore()
        version = looked(store, shards)
        store.forget()
        seen(version, shards)
        of_step = {path: reads for path, reads in store.reads.items() if path.startswith(f"v/{STEP}/")}
        assert of_step == dict.fromkeys(of_step, 1)
        assert len(of_step) == shards + len(with_sidecars(shards))
        assert store.reads.total() < 4 * shards


def test_a_merge_that_was_interrupted_goes_on_where_it_ended() -> None:
    store = CountingStore()
    version = looked(store, 64)

    def stop(progress: Progress) -> None:
        if progress.step.endswith("-16") and progress.done == 9:
            raise KeyboardInterrupt

    with pytest.raises(InterruptedRunError):
        seen(version, 64, InProcess(1), on_progress=stop)
    finished = {n for n in range(16) if store.size(record_path(f"v/{STEP}-merged-16", n)) is not None}
    assert 9 <= len(finished) < 16
    store.forget()
    assert seen(version, 64).shards == with_sidecars(64)
    again = {int(path.split("/")[-1][:6]) for path in store.reads if path.startswith(f"v/{STEP}/")}
    assert again == {shard for shard in range(64) if shard // 4 not in finished}


def test_an_unfinished_step_is_not_merged() -> None:
    for shards in (3, 30):
        version = looked(MemoryStore("unfinished"), shards)
        version.store.delete([record_path(step_folder("v", STEP), 1)])
        with pytest.raises(UnfinishedError, match="shard 1 is not finished"):
            seen(version, shards)


def test_a_damaged_sidecar_is_named_by_the_driver_as_by_a_task() -> None:
    for shards in (3, 30):
        store = MemoryStore("damaged")
        version = looked(store, shards)
        path = next(e.path for e in store.list(f"v/{STEP}/records") if "/000001-" in e.path)
        store.delete([path])
        store.create(path, b"{")
        with pytest.raises(FormatError, match=f"{path} is damaged"):
            seen(version, shards)


@pytest.mark.ray
def test_ray_merges_to_the_same(ray_executor: RayExecutor, tmp_path: Any) -> None:
    version = looked(open_store(tmp_path), 30)
    assert seen(version, 30, ray_executor) == seen(looked(MemoryStore("threads"), 30), 30)

"""Rows by key through the store: every reader finds all rows of its keys, in few requests, whatever the shards."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from counting_store import CountingStore
from examples import examples
from hypothesis import given
from hypothesis import strategies as st

from rayforest.engine import document
from rayforest.engine.attempt import Attempt
from rayforest.engine.commit import Version
from rayforest.engine.exchange import SortedFiles, exchange
from rayforest.engine.executors import Executor, InProcess, RayExecutor
from rayforest.engine.progress import Progress
from rayforest.engine.record import read_finished, record_path, step_folder
from rayforest.engine.run import run_step
from rayforest.engine.shards import NumberedShards, Shard
from rayforest.engine.stores.memory import MemoryStore
from rayforest.engine.stores.opening import open_store
from rayforest.engine.stores.store import Store
from rayforest.errors import FormatError, InterruptedRunError, UnfinishedError
from rayforest.formats import Format

KEYS = Format("rayforest.keys-of-a-test", 1)
SCHEMA = pa.schema([("key", pa.uint64()), ("place", pa.int64())], metadata=KEYS.metadata)
STEP = "write"
LARGEST = 2**64 - 1


@dataclass(frozen=True)
class Write:
    """Each shard's keys, and where they stood: the shard times a million, and the row in it."""

    files: SortedFiles
    keys: tuple[tuple[int, ...], ...]
    schema = SCHEMA

    def __call__(self, shard: Shard, attempt: Attempt) -> None:
        keys = self.keys[shard.index]
        attempt.count_in(len(keys))
        self.files.write(attempt, table(keys, shard.index))


def table(keys: tuple[int, ...], shard: int) -> pa.Table:
    places = [shard * 1_000_000 + row for row in range(len(keys))]
    return pa.table([pa.array(keys, pa.uint64()), pa.array(places, pa.int64())], schema=SCHEMA)


def written(store: Store, keys: list[tuple[int, ...]], *, key_stop: int = 1 << 64, **shape: int) -> SortedFiles:
    version = Version(store, 1, "v")
    store.create("claims/000001.json", b"")
    shape = {"fan_in": 3, "group_rows": 4, **shape}
    files = SortedFiles(version, STEP, KEYS, SCHEMA, key="key", key_stop=key_stop, groups=len(keys), **shape)
    run_step(version, NumberedShards(len(keys)), Write(files, tuple(keys)), InProcess(1), step=STEP)
    return files


def exchanged(files: SortedFiles, keys: list[tuple[int, ...]], executor: Executor | None = None, **how: Any) -> Any:
    return exchange(files, sum(map(len, keys)), executor or InProcess(2), **({"most_groups": 1} | how))


def expected(keys: list[tuple[int, ...]], low: int, high: int) -> list[tuple[int, int]]:
    """(key, place) of the keys in the range: by key, and of one key in the order of shards and rows."""
    rows = [row for shard, of in enumerate(keys) for row in zip(of, table(of, shard)["place"].to_pylist(), strict=True)]
    return sorted((row for row in rows if low <= row[0] < high), key=lambda row: row[0])


def rows_of(found: pa.Table) -> list[tuple[int, int]]:
    return list(zip(found["key"].to_pylist(), found["place"].to_pylist(), strict=True))


def random_keys(shards: int, rows: int, largest: int = LARGEST) -> list[tuple[int, ...]]:
    rng = random.Random(shards)
    return [tuple(rng.randint(0, largest) for _ in range(rows)) for _ in range(shards)]


few_or_many = st.one_of(st.integers(0, 9), st.integers(0, LARGEST), st.sampled_from([0, LARGEST]))


@examples(30)
@given(st.lists(st.lists(few_or_many, max_size=40).map(tuple), min_size=1, max_size=30), st.booleans(), st.data())
def test_a_reader_finds_all_rows_of_its_keys_in_order_however_they_are_spread(
    keys: list[tuple[int, ...]], small: bool, data: st.DataObject
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(document, "WHOLE_BYTES", 1 << 18 if small else 0)  # files are small, or all are large
        files = exchanged(written(MemoryStore("any"), keys), keys)
        assert files.groups == 1
        low, high = sorted((data.draw(few_or_many), data.draw(few_or_many)))
        for start, stop in ((low, high), (low, low + 1), (0, 1 << 64)):
            assert rows_of(files.read(start, stop)) == expected(keys, start, stop)


def test_few_files_are_read_as_they_are() -> None:
    keys = random_keys(3, 5)
    files = written(MemoryStore("few"), keys)
    assert exchanged(files, keys, most_groups=3) is files
    assert rows_of(files.read(0, 1 << 64)) == expected(keys, 0, 1 << 64)


def test_levels_grow_as_the_logarithm_of_the_files() -> None:
    for shards, levels in ((3, 1), (4, 2), (27, 3), (81, 4)):
        store = MemoryStore("levels")
        keys = random_keys(shards, 1)
        exchanged(written(store, keys), keys)
        assert len({entry.path.split("/")[1] for entry in store.list("v")} - {STEP}) == levels


def test_no_chunk_is_much_larger_than_a_task_may_hold_and_none_divides_a_key() -> None:
    keys = random_keys(12, 200, largest=500)
    files = exchanged(written(MemoryStore("chunks"), keys), keys)
    chunks = list(files.chunks(0, 1 << 64))
    assert len(chunks) > 1
    most_of_one_key = max(Counter(key for shard in keys for key in shard).values())
    assert max(chunk.num_rows for chunk in chunks) <= 2.5 * files.held_rows + most_of_one_key
    of_chunks = [set(chunk["key"].to_pylist()) for chunk in chunks]
    assert sum(map(len, of_chunks)) == len(set.union(*of_chunks))


def test_a_key_that_half_of_the_rows_have_stays_together() -> None:
    keys = [tuple(7 if row % 2 else row * 1_000_003 for row in range(30)) for _ in range(10)]
    files = exchanged(written(MemoryStore("skew"), keys), keys)
    assert rows_of(files.read(7, 8)) == expected(keys, 7, 8)


@pytest.mark.parametrize("rows", [2, 60])
def test_requests_a_shard_do_not_grow_with_the_shards_but_by_a_level(rows: int) -> None:
    a_shard = {}
    for shards in (9, 27, 81):  # 2, 3 and 4 levels of three files a task
        store, keys = CountingStore(), random_keys(shards, rows)
        files = written(store, keys)
        store.forget()
        files = exchanged(files, keys)
        for shard in range(shards):
            files.read(*files.keys(shard, shards))
        a_shard[shards] = store.requests.total() / shards
    growth = [a_shard[shards * 3] - a_shard[shards] for shards in (9, 27)]
    assert max(growth) < 2 * min(growth) + 1  # by the level that is more, each time
    assert a_shard[81] < 3 * a_shard[9]


def test_a_reader_of_a_key_reads_the_footer_and_one_row_group_of_one_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(document, "WHOLE_BYTES", 0)
    keys, store = random_keys(9, 20_000), CountingStore()
    files = exchanged(written(store, keys, group_rows=15_000), keys)
    assert files.ranges > 1
    store.forget()
    key = min(keys[4])
    assert rows_of(files.read(key, key + 1)) == expected(keys, key, key + 1)
    (path,) = (path for path in store.reads if path.endswith(".parquet"))
    assert store.reads[path] == 2
    footer, group = 65_536, 15_000 * 16
    assert store.bytes[path] < footer + group < len(MemoryStore.get(store, path))


def test_an_exchange_that_was_interrupted_goes_on_where_it_ended() -> None:
    keys = random_keys(27, 3)
    store = CountingStore()
    files = written(store, keys)

    def stop(progress: Progress) -> None:
        if progress.shards == 9 and progress.done == 5:
            raise KeyboardInterrupt

    with pytest.raises(InterruptedRunError):
        exchanged(files, keys, InProcess(1), on_progress=stop)
    (step,) = {entry.path.split("/")[1] for entry in store.list("v")} - {STEP}
    finished = {n for n in range(9) if store.size(record_path(f"v/{step}", n)) is not None}
    assert 5 <= len(finished) < 9
    store.forget()
    assert rows_of(exchanged(files, keys).read(0, 1 << 64)) == expected(keys, 0, 1 << 64)
    again = {int(path.split("/")[-1][:6]) // 3 for path in store.reads if path.startswith(f"v/{STEP}/data")}
    assert again == set(range(9)) - finished


def test_the_same_bytes_whatever_the_workers_are() -> None:
    keys = random_keys(20, 50)

    def checksums(executor: Executor) -> list[str]:
        files = exchanged(written(MemoryStore("bytes"), keys), keys, executor)
        store, folder = files.version.store, step_folder("v", files.step)
        return [read_finished(store, folder, number).checksum for number in range(files.count)]

    assert checksums(InProcess(1)) == checksums(InProcess(8))


def test_an_unfinished_shard_is_named() -> None:
    keys = random_keys(9, 3)
    files = written(MemoryStore("unfinished"), keys)
    files.version.store.delete([record_path(f"v/{STEP}", 4)])
    with pytest.raises(UnfinishedError, match="shard 4 is not finished"):
        exchanged(files, keys)


def damaged_file(store: MemoryStore, change: Callable[[bytes], bytes]) -> str:
    path = next(entry.path for entry in store.list(f"v/{STEP}/data") if "/000001-" in entry.path)
    whole = store.get(path)
    store.delete([path])
    store.create(path, change(whole))
    return path


@pytest.mark.parametrize("whole_bytes", [0, 1 << 18])
@pytest.mark.parametrize("place", ["footer", "rows"])
def test_a_damaged_file_is_named_and_no_other(place: str, whole_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(document, "WHOLE_BYTES", whole_bytes)
    store = MemoryStore("damaged")
    keys = random_keys(3, 40)
    files = written(store, keys)
    middle = slice(10, 60)
    change: dict[str, Callable[[bytes], bytes]] = {
        "footer": lambda whole: whole[:-9] + b"\xff" + whole[-8:],
        "rows": lambda whole: whole[: middle.start] + bytes(50) + whole[middle.stop :],
    }
    path = damaged_file(store, change[place])
    with pytest.raises(FormatError, match=path):
        files.read(0, 1 << 64)


def test_files_of_another_kind_are_refused() -> None:
    keys = random_keys(3, 3)
    files = replace(written(MemoryStore("another"), keys), form=Format("rayforest.other-keys", 1))
    with pytest.raises(FormatError, match="another kind"):
        files.read(0, 1 << 64)


@pytest.mark.ray
def test_ray_exchanges_to_the_same(ray_executor: RayExecutor, tmp_path: Path) -> None:
    keys = random_keys(20, 30)
    here = exchanged(written(MemoryStore("threads"), keys), keys)
    there = exchanged(written(open_store(tmp_path), keys), keys, ray_executor)
    assert there.read(0, 1 << 64) == here.read(0, 1 << 64)

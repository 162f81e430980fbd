"""What an attempt leaves: stable bytes, full account, one record."""

from __future__ import annotations

import hashlib
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from examples import examples
from hypothesis import given
from hypothesis import strategies as st

from rayforest.engine import attempt as attempt_module
from rayforest.engine.attempt import Attempt
from rayforest.engine.record import decode_record, encode_record, read_record
from rayforest.engine.shards import RowRange, Shard
from rayforest.engine.stores.local import LocalStore
from rayforest.engine.stores.memory import MemoryStore
from rayforest.errors import FormatError, InputError, RayforestError

SCHEMA = pa.schema([("n", pa.int64()), ("s", pa.string())])
TABLE = pa.table({"n": range(3000), "s": [f"text {n % 50}" if n % 9 else None for n in range(3000)]}, schema=SCHEMA)


def shard(rows: int) -> Shard:
    return Shard(0, (RowRange("in.parquet", "in.parquet", 1, "", "", 0, rows, 0, 0),))


def attempt(store: Any, rows: int = 3000) -> Attempt:
    return Attempt(store, "v", shard(rows), SCHEMA)


def files(store: MemoryStore) -> list[str]:
    return sorted(entry.path for entry in store.list(""))


@examples(30)
@given(cuts=st.lists(st.integers(0, 3000)), as_batches=st.booleans())
def test_the_bytes_do_not_depend_on_how_a_task_cuts_its_tables(cuts: list[int], as_batches: bool) -> None:
    whole, pieces = MemoryStore("whole"), MemoryStore("pieces")
    one, many = attempt(whole), attempt(pieces)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attempt_module, "ROW_GROUP_ROWS", 1024)
        one.count_in(3000)
        one.write(TABLE)
        edges = [0, *sorted(cuts), 3000]
        for start, stop in pairwise(edges):
            part = TABLE.slice(start, stop - start)
            many.count_in(part.num_rows)
            for batch in part.to_batches() if as_batches else [part]:
                many.write(batch)
        left, right = one.commit(), many.commit()
    assert left.path is not None
    assert right.path is not None
    assert whole.get(left.path) == pieces.get(right.path)
    assert left.checksum == right.checksum == hashlib.sha256(whole.get(left.path)).hexdigest()
    assert left.bytes == len(whole.get(left.path))


def test_a_file_is_cut_into_row_groups_of_a_fixed_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempt_module, "ROW_GROUP_ROWS", 1024)
    store = MemoryStore("groups")
    work = attempt(store)
    work.count_in(3000)
    work.write(TABLE)
    path = work.commit().path
    assert path is not None
    metadata = pq.read_metadata(store.open_read(path))
    assert [metadata.row_group(n).num_rows for n in range(metadata.num_row_groups)] == [1024, 1024, 952]


def test_rows_that_are_not_accounted_for_end_the_attempt() -> None:
    store = MemoryStore("account")
    work = attempt(store)
    work.count_in(3000)
    work.write(TABLE.slice(1))
    with pytest.raises(RayforestError, match="does not account for every row"):
        work.commit()
    assert files(store) == []


def test_an_input_that_lost_rows_since_it_was_planned_ends_the_attempt() -> None:
    store = MemoryStore("changed")
    work = attempt(store, rows=3001)
    work.count_in(3000)
    work.write(TABLE)
    with pytest.raises(InputError, match="do not hold the planned rows"):
        work.commit()
    assert files(store) == []


def test_an_abandoned_attempt_leaves_nothing(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    work = attempt(store)
    for _ in range(100):
        work.write(TABLE)  # more than a row group, so that the file is open
    work.abandon()
    assert list(store.list("")) == []


def test_the_second_of_two_attempts_takes_the_first_ones_record_and_its_own_files_away() -> None:
    store = MemoryStore("race")
    first, second = attempt(store), attempt(store)
    for work in (first, second):
        work.count_in(3000)
        work.write(TABLE)
        work.sidecar(b"profile")
    won = first.commit()
    assert second.commit() == won
    assert won.attempt == first.token != second.token
    assert files(store) == sorted([won.path, won.sidecar, "v/records/0000/000000.json"])
    assert read_record(store, "v", 0) == won


def test_a_shard_without_rows_out_has_no_data_file() -> None:
    store = MemoryStore("empty")
    work = attempt(store, rows=1)
    work.count_in(1)
    work.write(TABLE.slice(0, 0))
    work.quarantine(pa.table({"file": ["f"], "row": [4], "reason": ["bad"], "raw": ["x"]}))
    record = work.commit()
    assert (record.path, record.rows_quarantined, record.reasons) == (None, 1, {"bad": 1})
    assert record.quarantine is not None
    assert pq.read_table(store.open_read(record.quarantine)).to_pylist() == [
        {"file": "f", "row": 4, "reason": "bad", "raw": "x"}
    ]


def test_columns_are_taken_by_name_and_cast_where_that_is_safe() -> None:
    store = MemoryStore("cast")
    work = attempt(store, rows=2)
    work.count_in(2)
    work.write(pa.table({"s": pa.array(["a", "b"], pa.large_string()), "n": pa.array([1, 2], pa.int32())}))
    record = work.commit()
    assert record.path is not None
    assert pq.read_table(store.open_read(record.path)).schema.equals(SCHEMA)
    with pytest.raises(pa.ArrowInvalid):
        attempt(store).write(pa.table({"n": [1.5], "s": ["a"]}))


def test_a_file_that_a_store_cut_short_is_not_recorded() -> None:
    class Short(MemoryStore):
        def open_read(self, path: str) -> pa.NativeFile:
            return pa.BufferReader(self.get(path))

        def size(self, path: str) -> int | None:
            size = super().size(path)
            return size and size - 1

    store = Short("short")
    work = attempt(store)
    work.count_in(3000)
    work.write(TABLE)
    with pytest.raises(RayforestError, match="does not read back"):
        work.commit()
    assert files(store) == []


def test_a_record_survives_its_encoding_and_a_newer_one_is_refused() -> None:
    store = MemoryStore("record")
    work = attempt(store)
    work.count_in(3000)
    work.write(TABLE)
    record = work.commit()
    assert decode_record(encode_record(record), "a record") == record
    with pytest.raises(FormatError, match="a record has a newer format"):
        decode_record(encode_record(record).replace(b'"version":2', b'"version":3'), "a record")

"""Claims and versions: who may write, what differs, and what readers see."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from tables import Numbers, claimed, finished, number_files, numbers_of

from rayforest.engine.commit import Destination, plan_key
from rayforest.engine.executors import InProcess
from rayforest.engine.publish import clean, publish, read_manifest
from rayforest.engine.run import records, run_step
from rayforest.engine.stores.opening import open_store
from rayforest.engine.stores.store import Store
from rayforest.errors import InputError, RayforestError, RefusedError, UnfinishedError


def test_a_plan_key_depends_on_every_ingredient_and_input_and_on_nothing_else() -> None:
    key = plan_key({"a": 1, "b": {"c": [1.5, "x"]}}, [("p", "1"), ("q", "2")])
    assert key == plan_key({"b": {"c": [1.5, "x"]}, "a": 1}, iter([("p", "1"), ("q", "2")]))
    others = [
        plan_key({"a": 1, "b": {"c": [1.5, "y"]}}, [("p", "1"), ("q", "2")]),
        plan_key({"a": 1, "b": {"c": [1.5, "x"]}}, [("q", "2"), ("p", "1")]),
        plan_key({"a": 1, "b": {"c": [1.5, "x"]}}, [("p", "1")]),
        plan_key({"a": 1, "b": {"c": [1.5, "x"]}}, [("p", "1q"), ("", "2")]),
        plan_key({"a": "1", "b": {"c": [1.5, "x"]}}, [("p", "1"), ("q", "2")]),
    ]
    assert len({key, *others}) == 6


def test_runs_of_the_same_plan_cooperate(make_store: Callable[[], Store]) -> None:
    first, plan = claimed(make_store(), number_files([10]))
    again, same = claimed(make_store(), number_files([10]))
    assert (first.number, first.key) == (again.number, again.key) == (1, first.key)
    assert list(plan) == list(same)


def test_another_plan_is_refused_with_what_differs(store: Store) -> None:
    claimed(store, number_files([10, 20, 30]))
    changed = number_files([10, 25, 30, 5])
    with pytest.raises(RefusedError) as refused:
        claimed(store, [*changed[:2], changed[3]], shard_rows=500)
    assert refused.value.exit_code == 2
    assert "unfinished run of other inputs or settings" in refused.value.what
    assert "shard_rows: 1000 -> 500" in refused.value.found
    assert "1 input added: in/0003" in refused.value.found
    assert "1 input removed: in/0002" in refused.value.found
    assert "1 input changed: in/0001" in refused.value.found
    assert "--replace" in refused.value.next_step


def test_a_nested_ingredient_is_named_by_its_path(store: Store) -> None:
    destination = Destination(store)
    destination.claim("a" * 32, {"features": {"x": "a + 1", "y": "b"}, "bundle": "1"})
    with pytest.raises(RefusedError) as refused:
        destination.claim("b" * 32, {"features": {"x": "a + 2", "z": "c"}, "bundle": "1"})
    assert refused.value.found == 'features.x: "a + 1" -> "a + 2"; features.y removed; features.z added: "c"'


def test_a_removed_input_is_named_where_the_run_had_ended_before_its_plan(store: Store) -> None:
    files = [(f"in/{n}.csv", f"{n}-0") for n in range(3)]
    Destination(store).claim("a" * 32, {}, files)
    for now, found in (
        (files[:2], "1 input removed: in/2.csv"),
        ([*files, ("in/9.csv", "9")], "1 input added: in/9.csv"),
        ([files[0], files[2], files[1]], "another order of the inputs: in/2.csv comes where in/1.csv was"),
    ):
        with pytest.raises(RefusedError) as refused:
            Destination(store).claim("b" * 32, {}, now)
        assert refused.value.found == found
        for private in ("claim", "ingredient", "plan"):
            assert private not in str(refused.value)


def test_a_claim_of_many_inputs_stays_small_and_names_what_it_can(store: Store) -> None:
    files = [(f"in/{n:05}.csv", "1-0") for n in range(20_000)]
    Destination(store).claim("a" * 32, {}, files)
    assert len(store.get("claims/000001.json")) < 30_000
    for now, found in ((files[1:], "1 input removed: in/00000.csv"), (files[:-1], "another input than the first 500")):
        with pytest.raises(RefusedError) as refused:
            Destination(store).claim("b" * 32, {}, now)
        assert refused.value.found == found


def test_a_claim_of_an_earlier_version_is_read(store: Store) -> None:
    store.create("claims/000001.json", json.dumps({"format": 1, "key": "a" * 32, "ingredients": {"x": 1}}).encode())
    with pytest.raises(RefusedError) as refused:
        Destination(store).claim("b" * 32, {"x": 1}, [("in/1.csv", "1")])
    assert refused.value.found == "other inputs: which ones was not kept"


def test_readers_see_the_old_result_until_the_new_one_is_published(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    with pytest.raises(InputError, match="no published result"):
        read_manifest(tmp_path)
    old = finished(store, number_files([50]), InProcess(1))
    version, plan = claimed(store, number_files([80]), replace=True)
    assert version.number == 2
    run_step(version, plan, Numbers(), InProcess(1))
    assert read_manifest(tmp_path).key == old.key
    publish(version, plan)
    seen = read_manifest(tmp_path)
    assert seen.key == version.key
    assert numbers_of(seen) == [n for n in range(80) if n % 10 != 7]
    assert numbers_of(old) == [n for n in range(50) if n % 10 != 7]  # for a reader that has begun


def test_a_slow_driver_of_an_older_claim_does_not_displace_a_newer_result(store: Store) -> None:
    slow, slow_plan = claimed(store, number_files([50]))
    new, new_plan = claimed(store, number_files([80]), replace=True)
    for version, plan in ((new, new_plan), (slow, slow_plan)):
        run_step(version, plan, Numbers(), InProcess(1))
        publish(version, plan)
    assert read_manifest(store).key == new.key


def test_going_back_to_an_earlier_plan_takes_its_finished_shards(store: Store) -> None:
    first = finished(store, number_files([50]), InProcess(1))
    other, plan = claimed(store, number_files([80]), replace=True)
    run_step(other, plan, Numbers(), InProcess(1))
    publish(other, plan)
    back, plan = claimed(store, number_files([50]), replace=True)
    assert back.number == 3
    assert run_step(back, plan, Numbers(), InProcess(1)).resumed == 1
    back.make_current()
    assert read_manifest(store).key == first.key


def test_two_drivers_publish_one_manifest_and_one_set_of_extras(store: Store) -> None:
    version, plan = claimed(store, number_files([50]))
    run_step(version, plan, Numbers(), InProcess(1))
    mine = publish(version, plan, extra={"a.json": b"mine", "b.json": b"mine"})
    theirs = publish(version, plan, extra={"a.json": b"theirs", "c.json": b"theirs"})
    assert theirs.document == mine.document
    assert theirs.extras == ("a.json", "b.json")
    assert [theirs.extra(name) for name in theirs.extras] == [b"mine", b"mine"]


def test_nothing_is_published_while_a_shard_is_missing(store: Store) -> None:
    version, plan = claimed(store, number_files([2500]))
    with pytest.raises(UnfinishedError):
        publish(version, plan)
    run_step(version, plan, Numbers(), InProcess(1))
    store.delete([f"{version.base}/records/0000/000001.json"])
    with pytest.raises(UnfinishedError, match="shard 1 is not finished"):
        publish(version, plan)
    assert version.manifest() is None
    assert Destination(store).current() is None


def test_nothing_is_published_when_a_data_file_is_gone_or_cut(store: Store) -> None:
    version, plan = claimed(store, number_files([2500]))
    run_step(version, plan, Numbers(), InProcess(1))
    path = next(records(version, plan)).path
    assert path is not None
    whole = store.get(path)
    store.delete([path])
    with pytest.raises(RayforestError, match="not there as its record says"):
        publish(version, plan)
    store.create(path, whole[:-1])
    with pytest.raises(RayforestError, match="not there as its record says"):
        publish(version, plan)
    store.delete([path])
    store.create(path, whole)
    assert publish(version, plan).rows_in == 2500


def test_the_manifest_says_what_is_there(store: Store) -> None:
    manifest = finished(store, number_files([1500, 0, 700]), InProcess(2))
    assert (manifest.shards, manifest.rows_in, manifest.rows_out, manifest.rows_quarantined) == (3, 2200, 1980, 220)
    assert manifest.reasons == {"ends in 7": 220}
    assert manifest.schema == pa.schema([("number", pa.int64()), ("text", pa.string())])
    assert len(list(manifest.files())) == len(list(manifest.quarantine_files())) == 3
    assert [row["shard"] for row in manifest.rows()] == [0, 1, 2]


def test_a_result_without_rows_has_a_schema_and_no_files(store: Store) -> None:
    manifest = finished(store, number_files([0, 0]), InProcess(1))
    assert list(manifest.files()) == []
    assert (manifest.shards, manifest.rows_in) == (1, 0)
    assert manifest.schema.names == ["number", "text"]


def test_a_result_of_extra_files_alone_lies_in_one_folder_with_its_hashes(store: Store) -> None:
    version = Destination(store).claim("e" * 32, {})
    manifest = publish(version, None, extra={"model.txt": b"trees"}, summary={"stage": "export"})
    assert store.get(f"{version.base}/model.txt") == b"trees"
    document = json.loads(store.get(f"{version.base}/manifest.json"))
    assert document["extra"]["model.txt"]["bytes"] == 5
    assert manifest.summary == {"stage": "export"}
    assert list(manifest.files()) == []


def test_a_damaged_extra_or_manifest_part_is_found(store: Store) -> None:
    version, plan = claimed(store, number_files([50]))
    run_step(version, plan, Numbers(), InProcess(1))
    manifest = publish(version, plan, extra={"x": b"content"})
    for path in (f"{version.base}/x", f"{version.base}/{manifest.document['part']['path']}"):
        data = store.get(path)
        store.delete([path])
        store.create(path, data[:-1] + b"?")
    with pytest.raises(RayforestError, match="damaged"):
        manifest.extra("x")
    with pytest.raises(RayforestError, match="damaged"):
        list(manifest.files())


def test_an_extra_file_cannot_take_a_name_of_the_engine(store: Store) -> None:
    version = Destination(store).claim("e" * 32, {})
    for name in ("manifest.json", "records", "a/b", "extra-1"):
        with pytest.raises(ValueError, match="names of extra files"):
            publish(version, None, extra={name: b""})


def test_cleaning_deletes_only_what_no_record_names(store: Store) -> None:
    version, plan = claimed(store, number_files([2500]))
    left_over = [
        f"{version.base}/data/0000/000001-{'a' * 16}.parquet",
        f"{version.base}/quarantine/0000/000001-{'a' * 16}.parquet",
        f"{version.base}/records/0000/000001-{'a' * 16}.sidecar",
        f"{version.base}/data/0000/000002-{'b' * 16}.parquet.{'c' * 16}.tmp",
        f"{version.base}/manifest-{'d' * 16}.parquet",
        f"{version.base}/survey/data/0000/000000-{'a' * 16}.parquet",
    ]
    kept = [f"{version.base}/survey/data/0000/000009-{'a' * 16}.parquet", f"{version.base}/trials/1.json"]
    for path in (*left_over, *kept):
        store.create(path, b"x")
    run_step(version, plan, Numbers(), InProcess(1))
    run_step(version, plan, Numbers(), InProcess(1), step="survey")
    assert clean(version, grace_s=0) == 0  # not before it is published
    publish(version, plan, extra={"x": b"content"})
    assert clean(version, grace_s=3600) == 0
    before = {entry.path for entry in store.list("")}
    assert clean(version, grace_s=-3600) == len(left_over)
    after = {entry.path for entry in store.list("")}
    assert before - after == set(left_over)
    assert set(kept) <= after
    manifest = read_manifest(store)
    assert manifest.extra("x") == b"content"
    assert manifest.rows_out == sum(1 for n in range(2500) if n % 10 != 7)
    assert all(store.size(path) for path in manifest.data_paths())

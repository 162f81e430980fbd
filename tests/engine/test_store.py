"""The contract of a store, the same for every kind."""

from __future__ import annotations

import os
import pickle
import stat
import threading
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rayforest.engine.stores import requests
from rayforest.engine.stores.local import LocalStore
from rayforest.engine.stores.memory import MemoryStore
from rayforest.engine.stores.opening import open_store
from rayforest.engine.stores.requests import prove_create_if_absent, settle
from rayforest.engine.stores.store import Store
from rayforest.errors import ConfigError


def names(store: Store, prefix: str = "") -> set[str]:
    return {entry.path for entry in store.list(prefix)}


def test_a_created_file_is_read_back_by_another_client(make_store: Callable[[], Store]) -> None:
    assert make_store().create("a/b/c.json", b"content")
    assert make_store().get("a/b/c.json") == b"content"
    assert make_store().size("a/b/c.json") == 7


def test_a_file_is_created_once_and_the_first_one_stays(store: Store) -> None:
    assert store.create("once", b"first")
    assert not store.create("once", b"second")
    assert store.get("once") == b"first"


def test_of_many_creators_at_once_exactly_one_wins(make_store: Callable[[], Store]) -> None:
    for game in range(5):
        start, won = threading.Barrier(8), []

        def play(number: int, game: int = game, start: threading.Barrier = start, won: list[int] = won) -> None:
            store = make_store()
            start.wait()
            if store.create(f"race/{game}", str(number).encode()):
                won.append(number)

        players = [threading.Thread(target=play, args=(number,)) for number in range(8)]
        for player in players:
            player.start()
        for player in players:
            player.join()
        assert len(won) == 1
        assert make_store().get(f"race/{game}") == str(won[0]).encode()
    assert len(names(make_store(), "race")) == 5


def test_an_absent_file_is_not_found(store: Store) -> None:
    with pytest.raises(FileNotFoundError):
        store.get("absent")
    with pytest.raises(FileNotFoundError):
        store.open_read("absent")
    assert store.size("absent") is None
    assert names(store) == set()
    store.delete(["absent"])


def test_a_written_file_is_there_only_after_a_clean_end(store: Store) -> None:
    def fail() -> None:
        with store.open_write("data/half") as file:
            file.write(b"half of ")
            raise KeyError("the writer failed")

    with pytest.raises(KeyError):
        fail()
    assert names(store) == set()
    with store.open_write("data/whole") as file:
        file.write(b"the whole ")
        assert store.size("data/whole") is None
        file.write(b"thing")
    assert store.get("data/whole") == b"the whole thing"


def test_a_large_file_is_written_and_read_at_random_places(store: Store) -> None:
    block = bytes(range(256)) * 4096  # 1 MiB; in all more than an object store sends in one request
    with store.open_write("large") as file:
        for _ in range(12):
            file.write(block)
    assert store.size("large") == 12 << 20
    with store.open_read("large") as file:
        assert file.size() == 12 << 20
        file.seek((5 << 20) + 3)
        assert file.read(4) == b"\x03\x04\x05\x06"
        file.seek(-2, 2)
        assert file.read() == b"\xfe\xff"


def test_parquet_is_read_through_a_store(store: Store) -> None:
    table = pa.table({"x": list(range(1000)), "y": [str(n) for n in range(1000)]})
    with store.open_write("t.parquet") as file:
        pq.write_table(table, file, row_group_size=100)
    with store.open_read("t.parquet") as file:
        assert pq.ParquetFile(file).read_row_group(3, columns=["x"])["x"].to_pylist() == list(range(300, 400))
    with store.open_read("t.parquet") as file:
        assert pq.read_table(file) == table


def test_a_folder_lists_what_is_in_it_and_below_and_nothing_beside_it(store: Store) -> None:
    for path in ("a/1", "a/b/2", "ab/3", "4"):
        store.create(path, path.encode())
    assert names(store, "a") == {"a/1", "a/b/2"}
    assert names(store, "a/") == {"a/1", "a/b/2"}
    assert names(store) == {"a/1", "a/b/2", "ab/3", "4"}
    assert names(store, "c") == set()
    entry = next(entry for entry in store.list("") if entry.path == "a/b/2")
    assert entry.size == 5
    assert entry.modified > 1_500_000_000


def test_deleted_files_are_gone_and_absent_ones_are_passed_over(store: Store) -> None:
    for number in range(5):
        store.create(f"d/{number}", b"x")
    store.delete(["d/1", "d/absent", "d/3"])
    assert names(store, "d") == {"d/0", "d/2", "d/4"}
    assert store.create("d/1", b"again")


def test_names_with_spaces_signs_and_other_alphabets_are_kept(store: Store) -> None:
    paths = {"a b/c+d.json", "50%/x=1&y.json", "日本/ü.json"}
    for path in paths:
        assert store.create(path, path.encode())
    assert names(store) == paths
    assert {store.get(path).decode() for path in paths} == paths


def test_a_store_proves_that_it_creates_only_what_is_absent(store: Store) -> None:
    prove_create_if_absent(store)
    assert names(store) == set()


def test_settling_returns_what_stands(store: Store) -> None:
    assert settle(store, "s", b"mine") == b"mine"
    assert settle(store, "s", b"other") == b"mine"


def test_a_store_travels_by_its_uri_and_carries_no_secret(store: Store) -> None:
    if isinstance(store, MemoryStore):
        with pytest.raises(ConfigError, match="lives in one process"):
            pickle.dumps(store)
        return
    store.create("x", b"content")
    sent = pickle.dumps(store)
    assert b"testing" not in sent
    assert pickle.loads(sent).get("x") == b"content"


def test_a_lost_acknowledgement_is_settled_by_reading_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests.time, "sleep", lambda seconds: None)

    class Deaf(MemoryStore):
        def create(self, path: str, data: bytes) -> bool:
            super().create(path, data)
            raise TimeoutError("no answer")

    store = Deaf("deaf")
    assert settle(store, "a", b"mine") == b"mine"
    assert settle(store, "a", b"other") == b"mine"


def test_a_store_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests.time, "sleep", lambda seconds: None)

    class Away(MemoryStore):
        def create(self, path: str, data: bytes) -> bool:
            raise TimeoutError("no answer")

    with pytest.raises(TimeoutError):
        settle(Away("away"), "a", b"mine")
    with pytest.raises(ConfigError, match="cannot be written"):
        prove_create_if_absent(Away("away"))


def test_a_local_path_a_file_uri_and_a_relative_path_name_the_same_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert open_store("x y").uri == open_store(tmp_path / "x y").uri == open_store(f"file://{tmp_path}/x%20y").uri
    assert open_store("x y").locate("a/b") == str(tmp_path / "x y" / "a" / "b")


def test_an_unknown_scheme_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="ftp://"):
        open_store("ftp://host/path")


def test_a_local_create_syncs_the_file_before_its_name_and_then_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    sync, link = os.fsync, os.link

    def watched_sync(handle: int) -> None:
        calls.append("sync folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "sync file")
        sync(handle)

    def watched_link(source: str, target: str) -> None:
        calls.append("link")
        link(source, target)

    store = LocalStore(tmp_path)
    store.create("folder/first", b"x")
    monkeypatch.setattr(os, "fsync", watched_sync)
    monkeypatch.setattr(os, "link", watched_link)
    store.create("folder/second", b"x")
    assert calls == ["sync file", "link", "sync folder"]

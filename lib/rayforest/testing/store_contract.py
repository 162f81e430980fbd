"""What every store promises, as tests: exactly-once work stands on these promises and on nothing else."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable
from typing import ClassVar

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rayforest.engine.stores.requests import prove_create_if_absent, settle
from rayforest.engine.stores.store import Store
from rayforest.errors import ConfigError

_RACES = 3
_RACERS = 8


class StoreContract:
    """The tests that a `rayforest.engine.stores.Store` has to pass.

    A subclass whose name begins with `Test` says how the store is opened, and pytest runs the rest:

        class TestMyStore(StoreContract):
            @pytest.fixture
            def make_store(self, tmp_path):
                return lambda: MyStore(tmp_path)

    The fixture `make_store` may also stand in the module or in conftest.py, and may have parameters. What it returns
    opens the same store again and again, as other processes would; the store is empty when a test begins.
    """

    travels: ClassVar[bool] = True
    """Whether processes elsewhere can open the store; one that lives in a single process refuses to be pickled."""

    @pytest.fixture
    def store(self, make_store: Callable[[], Store]) -> Store:
        """The store, opened once."""
        return make_store()

    def test_a_created_file_is_read_back_by_another_client(self, make_store: Callable[[], Store]) -> None:
        assert make_store().create("a/b/c.json", b"content")
        assert make_store().get("a/b/c.json") == b"content"
        assert make_store().size("a/b/c.json") == 7

    def test_a_file_is_created_once_and_the_first_one_stays(self, store: Store) -> None:
        assert store.create("once", b"first")
        assert not store.create("once", b"second")
        assert store.get("once") == b"first"

    def test_of_many_creators_at_once_exactly_one_wins(self, make_store: Callable[[], Store]) -> None:
        for race in range(_RACES):
            start, won = threading.Barrier(_RACERS), list[int]()

            def run(number: int, race: int = race, start: threading.Barrier = start, won: list[int] = won) -> None:
                store = make_store()
                start.wait()
                if store.create(f"race/{race}", str(number).encode()):
                    won.append(number)

            racers = [threading.Thread(target=run, args=(number,)) for number in range(_RACERS)]
            for racer in racers:
                racer.start()
            for racer in racers:
                racer.join()
            assert len(won) == 1
            assert make_store().get(f"race/{race}") == str(won[0]).encode()
        assert len(_paths(make_store(), "race")) == _RACES

    def test_an_absent_file_is_not_found(self, store: Store) -> None:
        with pytest.raises(FileNotFoundError):
            store.get("absent")
        with pytest.raises(FileNotFoundError):
            store.open_read("absent")
        assert store.size("absent") is None
        assert _paths(store) == set()
        store.delete(["absent"])

    def test_a_written_file_is_there_only_after_a_clean_end(self, store: Store) -> None:
        def fail() -> None:
            with store.open_write("data/half") as file:
                file.write(b"half of ")
                raise KeyError("the writer failed")

        with pytest.raises(KeyError):
            fail()
        assert _paths(store) == set()
        with store.open_write("data/whole") as file:
            file.write(b"the whole ")
            assert store.size("data/whole") is None
            file.write(b"thing")
        assert store.get("data/whole") == b"the whole thing"

    def test_a_large_file_is_written_and_read_at_random_places(self, store: Store) -> None:
        block = bytes(range(256)) * 4096  # 1 MiB; in all more than an object store sends in one request
        with store.open_write("large") as file:
            for _ in range(12):
                file.write(block)
        assert store.size("large") == 12 << 20
        with store.open_read("large") as opened:
            assert opened.size() == 12 << 20
            opened.seek((5 << 20) + 3)
            assert opened.read(4) == b"\x03\x04\x05\x06"
            opened.seek(-2, 2)
            assert opened.read() == b"\xfe\xff"

    def test_parquet_is_read_through_a_store(self, store: Store) -> None:
        table = pa.table({"x": list(range(1000)), "y": [str(n) for n in range(1000)]})
        with store.open_write("t.parquet") as file:
            pq.write_table(table, file, row_group_size=100)
        with store.open_read("t.parquet") as opened:
            group = pq.ParquetFile(opened).read_row_group(3, columns=["x"])
            assert group["x"].to_pylist() == list(range(300, 400))
        with store.open_read("t.parquet") as opened:
            assert pq.read_table(opened) == table

    def test_a_folder_lists_what_is_in_it_and_below_and_nothing_beside_it(self, store: Store) -> None:
        for path in ("a/1", "a/b/2", "ab/3", "4"):
            store.create(path, path.encode())
        assert _paths(store, "a") == {"a/1", "a/b/2"}
        assert _paths(store, "a/") == {"a/1", "a/b/2"}
        assert _paths(store) == {"a/1", "a/b/2", "ab/3", "4"}
        assert _paths(store, "c") == set()
        entry = next(entry for entry in store.list("") if entry.path == "a/b/2")
        assert entry.size == 5
        assert entry.modified > 1_500_000_000

    def test_deleted_files_are_gone_and_absent_ones_are_passed_over(self, store: Store) -> None:
        for number in range(5):
            store.create(f"d/{number}", b"x")
        store.delete(["d/1", "d/absent", "d/3"])
        assert _paths(store, "d") == {"d/0", "d/2", "d/4"}
        assert store.create("d/1", b"again")

    def test_names_with_spaces_signs_and_other_alphabets_are_kept(self, store: Store) -> None:
        paths = {"a b/c+d.json", "50%/x=1&y.json", "日本/ü.json"}
        for path in paths:
            assert store.create(path, path.encode())
        assert _paths(store) == paths
        assert {store.get(path).decode() for path in paths} == paths

    def test_a_file_is_located_below_the_uri_of_its_store(self, store: Store) -> None:
        assert store.locate("") == store.uri
        assert store.locate("a/b") == f"{store.uri}/a/b"

    def test_a_store_proves_that_it_creates_only_what_is_absent(self, store: Store) -> None:
        prove_create_if_absent(store)
        assert _paths(store) == set()

    def test_settling_returns_what_stands(self, store: Store) -> None:
        assert settle(store, "s", b"mine") == b"mine"
        assert settle(store, "s", b"other") == b"mine"

    def test_a_store_travels_by_its_uri_or_says_that_it_does_not(self, store: Store) -> None:
        if not self.travels:
            with pytest.raises(ConfigError):
                pickle.dumps(store)
            return
        store.create("x", b"content")
        there = pickle.loads(pickle.dumps(store))
        assert there.uri == store.uri
        assert there.get("x") == b"content"


def _paths(store: Store, prefix: str = "") -> set[str]:
    return {entry.path for entry in store.list(prefix)}

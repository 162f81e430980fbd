"""Every kind of store keeps the published contract, and what each promises besides."""

from __future__ import annotations

import os
import pickle
import re
import secrets
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from rayforest.engine.stores import requests
from rayforest.engine.stores.local import LocalStore
from rayforest.engine.stores.memory import MemoryStore
from rayforest.engine.stores.opening import open_store
from rayforest.engine.stores.requests import prove_create_if_absent, settle
from rayforest.engine.stores.store import Store
from rayforest.errors import ConfigError
from rayforest.testing import StoreContract


class TestLocalStore(StoreContract):
    @pytest.fixture
    def make_store(self, tmp_path: Path) -> Callable[[], Store]:
        return lambda: open_store(tmp_path / "store")


class TestMemoryStore(StoreContract):
    travels = False

    @pytest.fixture
    def make_store(self) -> Callable[[], Store]:
        name = secrets.token_hex(4)
        return lambda: open_store(f"memory://{name}")


class TestObjectStore(StoreContract):
    @pytest.fixture
    def make_store(self, s3: str) -> Callable[[], Store]:
        return lambda: open_store(s3)

    def test_no_secret_travels(self, store: Store) -> None:
        assert os.environ["AWS_SECRET_ACCESS_KEY"].encode() not in pickle.dumps(store)


def test_each_broken_promise_fails_the_contract_and_a_kept_one_does_not(tmp_path: Path) -> None:
    module = tmp_path / "test_others.py"
    module.write_text(OTHERS_STORES)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rA", "-q", "--rootdir", tmp_path, module]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    outcomes: dict[str, dict[str, str]] = {}
    for outcome, kind, promise in re.findall(r"^(PASSED|FAILED) .*::(\w+)::(\w+)", ran.stdout, re.MULTILINE):
        outcomes.setdefault(kind, {})[promise] = outcome
    failed = {kind: {name for name, outcome in of.items() if outcome == "FAILED"} for kind, of in outcomes.items()}
    promises = {name for name in vars(StoreContract) if name.startswith("test_")}
    assert [set(of) for of in outcomes.values()] == [promises] * 4, ran.stdout + ran.stderr
    assert failed == {
        "TestKept": set(),
        "TestOverwriting": {
            "test_a_file_is_created_once_and_the_first_one_stays",
            "test_of_many_creators_at_once_exactly_one_wins",
            "test_a_store_proves_that_it_creates_only_what_is_absent",
            "test_settling_returns_what_stands",
        },
        "TestHalfWritten": {"test_a_written_file_is_there_only_after_a_clean_end"},
        "TestListsNeighbours": {"test_a_folder_lists_what_is_in_it_and_below_and_nothing_beside_it"},
    }
    assert "assert not True" in ran.stdout  # pytest shows the values of a shipped module's asserts, too


OTHERS_STORES = """
import contextlib, io, secrets
import pytest
from rayforest.engine.stores.memory import MemoryStore
from rayforest.testing import StoreContract

class Overwriting(MemoryStore):
    def create(self, path, data):
        self.delete([path])
        super().create(path, data)
        return True

class HalfWritten(MemoryStore):
    @contextlib.contextmanager
    def open_write(self, path):
        buffer = io.BytesIO()
        try:
            yield buffer
        finally:
            with MemoryStore.open_write(self, path) as file:
                file.write(buffer.getvalue())

class ListsNeighbours(MemoryStore):
    def list(self, prefix):
        return (entry for entry in super().list("") if entry.path.startswith(prefix))

class Contract(StoreContract):
    travels = False

    @pytest.fixture
    def make_store(self):
        store = self.kind(secrets.token_hex(4))
        return lambda: store

class TestKept(Contract):
    kind = MemoryStore

class TestOverwriting(Contract):
    kind = Overwriting

class TestHalfWritten(Contract):
    kind = HalfWritten

class TestListsNeighbours(Contract):
    kind = ListsNeighbours
"""


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

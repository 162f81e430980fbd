"""A whole store, and whole runs, on an S3 server of whose answers every tenth goes wrong."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from dataclasses import replace

import pyarrow.parquet as pq
import pytest
from fault_proxy import Fault, FaultProxy, randomly
from tables import Numbers, bytes_of, claimed, finished, number_files

from rayforest.engine import run as run_module
from rayforest.engine.commit import Destination, Version
from rayforest.engine.executors import InProcess
from rayforest.engine.manifest import Manifest
from rayforest.engine.plan import Plan
from rayforest.engine.policy import Policy
from rayforest.engine.publish import clean, publish
from rayforest.engine.run import run_step
from rayforest.engine.stores import patience
from rayforest.engine.stores.opening import open_store
from rayforest.engine.stores.store import Store
from rayforest.errors import UnfinishedError
from rayforest.testing import StoreContract

FILES = number_files([2500, 0, 900, 3100])
ROWS = 6500


class TestObjectStoreUnderFaults(StoreContract):
    @pytest.fixture
    def make_store(self, proxy: FaultProxy, request: pytest.FixtureRequest) -> Callable[[], Store]:
        proxy.choose = randomly(seed=1, rate=0.1)
        return lambda: open_store(f"s3://bucket/contract/{request.node.name}")  # the same requests, so the same faults

    @pytest.mark.parametrize("seed", range(20))
    def test_a_file_is_created_once(self, seed: int, proxy: FaultProxy) -> None:
        """The contract's own tests make few requests, and meet few faults."""
        proxy.choose, uri = randomly(seed, rate=0.3), f"s3://bucket/once/{seed}"
        for number in range(10):
            assert open_store(uri).create(f"{number}", b"first")
            assert not open_store(uri).create(f"{number}", b"second")
        assert len(proxy.injected) > 1
        assert [open_store(uri).get(f"{number}") for number in range(10)] == [b"first"] * 10


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """What a run without faults writes on a local disk."""
    return bytes_of(finished(open_store(tmp_path_factory.mktemp("expected")), FILES, InProcess(2)))


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_module.time, "sleep", lambda seconds: None)


def judged(store: Store, manifest: Manifest, expected: list[bytes]) -> None:
    """The rows of a published result, counted without the engine; the same bytes; nothing beside them."""
    paths = list(manifest.data_paths())
    data = [store.get(path) for path in paths]
    assert data == expected
    assert [n for file in data for n in pq.read_table(io.BytesIO(file))["number"].to_pylist()] == [
        n for n in range(ROWS) if n % 10 != 7
    ]
    named = {*paths, *manifest.quarantine_paths()}
    kinds = ("/data/", "/quarantine/")
    assert {entry.path for entry in store.list("") if any(kind in entry.path for kind in kinds)} == named


@pytest.mark.parametrize("seed", range(4))
def test_a_run_under_faults_gives_every_row_once_and_the_same_bytes(
    seed: int, s3: str, proxy: FaultProxy, expected: list[bytes]
) -> None:
    proxy.choose = randomly(seed, rate=0.1)
    store = open_store(s3)
    version, plan = claimed(store, FILES)
    totals = run_step(version, plan, Numbers(), InProcess(4))
    assert (totals.rows_in, totals.rows_out, totals.rows_quarantined) == (ROWS, 5850, 650)
    manifest = publish(version, plan)
    clean(version)
    assert len(proxy.injected) > 3
    proxy.choose = lambda exchange: None
    judged(store, manifest, expected)


@pytest.mark.parametrize("seed", range(3))
def test_a_run_that_gives_up_has_published_nothing_and_a_later_one_goes_on(
    seed: int, s3: str, proxy: FaultProxy, expected: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(s3)
    version, plan = claimed(store, FILES)
    calm = patience.PATIENCE
    monkeypatch.setattr(patience, "PATIENCE", replace(calm, retries=0))
    impatient, _ = claimed(open_store(s3), FILES)
    proxy.choose = randomly(seed, rate=0.12)
    with pytest.raises((UnfinishedError, OSError)) as given_up:
        _published(impatient, plan)
    assert s3 in str(given_up.value)
    proxy.choose = lambda exchange: None
    assert Destination(store).current() is None
    assert version.manifest() is None

    monkeypatch.setattr(patience, "PATIENCE", calm)
    proxy.choose = randomly(seed, rate=0.05, faults=[Fault.SLOW_DOWN, Fault.LOST])
    version, plan = claimed(open_store(s3), FILES)
    run_step(version, plan, Numbers(), InProcess(4))
    manifest = publish(version, plan)
    proxy.choose = lambda exchange: None
    clean(version)
    judged(store, manifest, expected)


def _published(version: Version, plan: Plan) -> None:
    run_step(version, plan, Numbers(), InProcess(4), policy=Policy(retries=0))
    publish(version, plan)


def test_two_drivers_under_faults_give_one_result(s3: str, proxy: FaultProxy, expected: list[bytes]) -> None:
    proxy.choose = randomly(seed=3, rate=0.08)
    manifests, failures = list[Manifest](), list[BaseException]()

    def drive() -> None:
        try:
            manifests.append(finished(open_store(s3), FILES, InProcess(2)))
        except BaseException as error:
            failures.append(error)

    drivers = [threading.Thread(target=drive) for _ in range(2)]
    for driver in drivers:
        driver.start()
    for driver in drivers:
        driver.join()
    assert not failures
    proxy.choose = lambda exchange: None
    store = open_store(s3)
    version, _ = claimed(store, FILES)
    clean(version)
    for manifest in manifests:
        judged(store, manifest, expected)

"""gs:// and az://: the published contract, runs with and without faults, and what is read from Google's own API."""

from __future__ import annotations

import io
import re
import secrets
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from cloud_servers import put_in_google
from fault_proxy import Fault, FaultProxy, randomly
from tables import bytes_of, finished, number_files

from rayforest.engine.executors import InProcess
from rayforest.engine.stores.bucket import Bucket, bucket_of
from rayforest.engine.stores.object_file import GAP_BYTES, ObjectFile
from rayforest.engine.stores.object_uri import ObjectUri
from rayforest.engine.stores.opening import open_store
from rayforest.engine.stores.requests import in_parallel, prove_create_if_absent
from rayforest.engine.stores.store import ReplacedError, Store
from rayforest.errors import ConfigError
from rayforest.testing import StoreContract

FILES = number_files([2500, 0, 900, 3100])
CLOUDS = ["gs", "az"]


class TestGoogle(StoreContract):
    @pytest.fixture
    def make_store(self, gs: str) -> Callable[[], Store]:
        return lambda: open_store(gs)


class TestAzure(StoreContract):
    @pytest.fixture
    def make_store(self, az: str) -> Callable[[], Store]:
        return lambda: open_store(az)


class TestGoogleUnderFaults(StoreContract):
    @pytest.fixture
    def make_store(self, gs: str, gs_proxy: FaultProxy) -> Callable[[], Store]:
        gs_proxy.choose = randomly(seed=1, rate=0.1)
        return lambda: open_store(gs)


class TestAzureUnderFaults(StoreContract):
    @pytest.fixture
    def make_store(self, az: str, az_proxy: FaultProxy) -> Callable[[], Store]:
        az_proxy.choose = randomly(seed=1, rate=0.1)
        return lambda: open_store(az)


@pytest.mark.parametrize("rate", [0, 0.1])
@pytest.mark.parametrize("cloud", CLOUDS)
def test_a_run_gives_the_bytes_of_a_local_run(
    cloud: str, rate: float, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    uri, proxy = request.getfixturevalue(cloud), request.getfixturevalue(f"{cloud}_proxy")
    expected = bytes_of(finished(open_store(tmp_path), FILES, InProcess(2)))
    proxy.choose = randomly(seed=2, rate=rate)
    manifest = finished(open_store(uri), FILES, InProcess(4))
    assert (proxy.injected.total() > 10) == (rate > 0)
    proxy.choose = lambda exchange: None
    assert [open_store(uri).get(path) for path in manifest.data_paths()] == expected
    assert (manifest.rows_in, manifest.rows_out) == (6500, 5850)


@pytest.mark.parametrize("fault", [Fault.LOST, Fault.LOST_TO_503, Fault.CUT_SHORT])
@pytest.mark.parametrize("cloud", CLOUDS)
def test_a_create_whose_answer_is_lost_is_known_as_ours(
    cloud: str, fault: Fault, request: pytest.FixtureRequest
) -> None:
    store, proxy = open_store(request.getfixturevalue(cloud)), request.getfixturevalue(f"{cloud}_proxy")
    proxy.choose = lambda exchange: fault if exchange.creates and exchange.number < 2 else None
    assert store.create("claim", b"mine")
    assert not store.create("claim", b"another's")
    assert store.get("claim") == b"mine"
    assert proxy.injected[fault] == 2


@pytest.mark.parametrize("cloud", CLOUDS)
def test_an_object_that_is_replaced_while_it_is_read_is_found(cloud: str, request: pytest.FixtureRequest) -> None:
    place = ObjectUri.parse(request.getfixturevalue(cloud))
    bucket, key = bucket_of(place), f"{place.key}/large"
    bucket.put(key, b"1" * 3 * GAP_BYTES)
    found = next(bucket.walk(place.key))
    assert bucket.head(key) == found  # or a listed etag would not be that of an answer
    file = ObjectFile(bucket, key, found.size, found.etag)
    assert file.read(0, 10) == b"1" * 10
    bucket.put(key, b"2" * 3 * GAP_BYTES)
    with pytest.raises(ReplacedError):
        file.read(2 * GAP_BYTES, 2 * GAP_BYTES + 10)


def test_a_server_that_does_not_know_how_to_create_is_refused(google_like: str, gs_proxy: FaultProxy, gs: str) -> None:
    """Google's header, untranslated, means nothing to SeaweedFS: it overwrites."""
    gs_proxy.translate = lambda head: head.replace(b"authorization: Bearer", b"x-was: ")
    with pytest.raises(ConfigError, match="cannot create a file only if it is absent"):
        prove_create_if_absent(open_store(gs))


def test_a_server_that_begins_every_listing_at_the_front_shows_no_object_twice(gs: str, gs_proxy: FaultProxy) -> None:
    store, translate = open_store(gs), gs_proxy.translate
    names = [f"{number:04d}" for number in range(1200)]
    list(in_parallel(store, lambda name: store.create(name, b""), names))
    gs_proxy.translate = lambda head: re.sub(rb"&start-after=[^ &]*", b"", translate(head))
    pages = iter([None, Fault.CUT_SHORT])
    gs_proxy.choose = lambda exchange: next(pages, None)
    assert [entry.path for entry in store.list("")] == names
    assert gs_proxy.injected == {Fault.CUT_SHORT: 1}


# Google's own API, for reading.


@pytest.fixture
def google(fake_gcs: str) -> tuple[Bucket, str, str]:
    return bucket_of(ObjectUri.parse("gs://bucket")), secrets.token_hex(4), fake_gcs


def test_google_lists_and_gives_ranges_and_parquet(google: tuple[Bucket, str, str]) -> None:
    bucket, prefix, endpoint = google
    table = pa.table({"x": list(range(50_000)), "y": [f"number {n}" for n in range(50_000)]})
    written = io.BytesIO()
    pq.write_table(table, written, row_group_size=10_000)
    files = {f"{prefix}/a/ü 50%/x=1&y.parquet": written.getvalue(), f"{prefix}/a/b": b"0123456789", f"{prefix}/ab": b""}
    for key, data in files.items():
        put_in_google(endpoint, key, data)
    assert {found.key: found.size for found in bucket.walk(prefix)} == {key: len(files[key]) for key in files}
    assert {found.key for found in bucket.walk(f"{prefix}/a")} == {key for key in files if f"{prefix}/a/" in key}
    assert bucket.folder(prefix)[0] == [f"{prefix}/a"]
    assert bytes(bucket.get(f"{prefix}/a/b", 2, 5)[0]) == b"234"
    for found in bucket.walk(f"{prefix}/a/ü 50%"):
        assert bucket.head(found.key) == found
        read = pq.read_table(ObjectFile(bucket, found.key, found.size, found.etag).open())
        assert read == table

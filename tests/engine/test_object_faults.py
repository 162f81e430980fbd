"""One bucket behind a proxy that refuses, loses and cuts short: what is tried again, for how long, and what is told."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
from fault_proxy import Exchange, Fault, FaultProxy
from object_servers import KEYS

from rayforest.engine.stores import patience
from rayforest.engine.stores.bucket import Bucket, bucket_of
from rayforest.engine.stores.object_store import ObjectStore
from rayforest.engine.stores.object_uri import ObjectUri
from rayforest.engine.stores.requests import in_parallel, settle
from rayforest.engine.stores.store import StoreUnavailableError

SMALL, LARGE = bytes(range(256)) * 400, bytes(range(256)) * (6 << 12)
"""100 KB, and 6 MiB: more than goes in one request."""
ANY = [fault for fault in Fault if fault not in (Fault.EXPIRED, Fault.CONFLICT)]


@pytest.fixture
def prefix(s3: str) -> str:
    return ObjectUri.parse(s3).key


@pytest.fixture
def bucket(proxy: FaultProxy, s3: str) -> Bucket:
    return bucket_of(ObjectUri.parse(s3))


def nth(fault: Fault, method: str, number: int = 0, times: int = 1) -> Callable[[Exchange], Fault | None]:
    """The fault for requests `number` .. `number + times` of a method."""
    seen = iter(range(1 << 30))
    return lambda exchange: fault if exchange.method == method and number <= next(seen) < number + times else None


def always(fault: Fault) -> Callable[[Exchange], Fault | None]:
    return lambda exchange: fault


@dataclass(frozen=True)
class Operation:
    """A call to the bucket, the request of it that meets a fault, and whether its result is right."""

    method: str
    call: Callable[[Bucket, str], object]
    right: Callable[[Bucket, str, object], bool]
    number: int = 0


def _listed(bucket: Bucket, folder: str) -> set[str]:
    return {found.key for found in bucket.walk(folder)}


OPERATIONS = {
    "get": Operation("GET", lambda b, p: bytes(b.get(f"{p}/there")[0]), lambda b, p, got: got == SMALL),
    "get a range": Operation(
        "GET", lambda b, p: bytes(b.get(f"{p}/there", 5, 70_000)[0]), lambda b, p, got: got == SMALL[5:70_000]
    ),
    "head": Operation("HEAD", lambda b, p: b.head(f"{p}/there").size, lambda b, p, got: got == len(SMALL)),
    "walk": Operation("LIST", _listed, lambda b, p, got: got == {f"{p}/there"}),
    "folder": Operation("LIST", lambda b, p: b.folder(p)[1][0].key, lambda b, p, got: got == f"{p}/there"),
    "create": Operation(
        "PUT", lambda b, p: b.create(f"{p}/new", SMALL), lambda b, p, got: got is True and _holds(b, f"{p}/new", SMALL)
    ),
    "put": Operation("PUT", lambda b, p: b.put(f"{p}/new", SMALL), lambda b, p, _: _holds(b, f"{p}/new", SMALL)),
    "begin a large upload": Operation(
        "POST", lambda b, p: b.put(f"{p}/new", io.BytesIO(LARGE)), lambda b, p, _: _holds(b, f"{p}/new", LARGE)
    ),
    "upload a part": Operation(
        "PUT", lambda b, p: b.put(f"{p}/new", io.BytesIO(LARGE)), lambda b, p, _: _holds(b, f"{p}/new", LARGE)
    ),
    "complete a large upload": Operation(
        "POST", lambda b, p: b.put(f"{p}/new", io.BytesIO(LARGE)), lambda b, p, _: _holds(b, f"{p}/new", LARGE), 1
    ),
    "delete": Operation(
        "POST", lambda b, p: b.delete([f"{p}/there", f"{p}/absent"]), lambda b, p, _: _listed(b, p) == set()
    ),
}


def _holds(bucket: Bucket, key: str, data: bytes) -> bool:
    return bytes(bucket.get(key)[0]) == data


@pytest.mark.parametrize("name", OPERATIONS)
def test_whatever_happens_to_a_request_once_its_result_is_right(
    name: str, prefix: str, bucket: Bucket, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    operation = OPERATIONS[name]
    for fault in ANY:
        below = f"{prefix}/{fault.name.lower()}"
        bucket.put(f"{below}/there", SMALL)
        client = bucket
        if fault is Fault.SILENT:
            client = Bucket("s3", "bucket", replace(patience.PATIENCE, answer_s=2))
        proxy.choose = nth(fault, operation.method, operation.number)
        before = proxy.injected[fault]
        result = operation.call(client, below)
        assert proxy.injected[fault] == before + 1, fault
        proxy.choose = lambda exchange: None
        assert operation.right(bucket, below, result), fault


def test_the_proxy_counts_requests_by_method_and_bytes_both_ways(
    prefix: str, bucket: Bucket, proxy: FaultProxy
) -> None:
    bucket.put(f"{prefix}/a", SMALL)
    bucket.get(f"{prefix}/a", 0, 1000)
    bucket.head(f"{prefix}/a")
    assert (proxy.bytes_in, proxy.bytes_out) == (len(SMALL), 1000)
    list(bucket.walk(prefix))
    bucket.delete([f"{prefix}/a"])
    assert proxy.requests == {"PUT": 1, "GET": 1, "HEAD": 1, "LIST": 1, "POST": 1}
    assert not proxy.injected


def test_a_create_that_meets_another_one_in_the_store_is_tried_again(
    prefix: str, bucket: Bucket, proxy: FaultProxy
) -> None:
    proxy.choose = nth(Fault.CONFLICT, "PUT", times=3)
    assert bucket.create(f"{prefix}/a", b"mine")
    assert (proxy.requests["PUT"], proxy.injected[Fault.CONFLICT]) == (4, 3)


@pytest.mark.parametrize("fault", [Fault.SLOW_DOWN, Fault.TOO_MANY, Fault.RESET])
def test_a_store_that_stays_away_is_given_up_after_the_bound_with_store_key_and_tries(
    fault: Fault, s3: str, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "PATIENCE", replace(patience.PATIENCE, retries=3))
    store = ObjectStore(s3)
    proxy.choose = always(fault)
    said = (
        "connection reset by peer" if fault is Fault.RESET else str(fault).replace("503 ", "503 Service Unavailable, ")
    )
    for call in (store.get, store.size, lambda path: store.create(path, b"x"), lambda path: list(store.list(path))):
        before = len(proxy.exchanges)
        with pytest.raises(StoreUnavailableError) as given_up:
            call("a/b")
        assert len(proxy.exchanges) == before + 4
        assert given_up.value.filename == f"{s3}/a/b"
        assert "4 tries" in given_up.value.strerror
        assert said in given_up.value.strerror or call == store.size  # the answer to HEAD has no code


def test_no_try_begins_after_the_time_bound(s3: str, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "PATIENCE", replace(patience.PATIENCE, retries=1000, retry_s=0))
    store = ObjectStore(s3)
    for fault in (Fault.SLOW_DOWN, Fault.RESET):
        proxy.choose = always(fault)
        with pytest.raises(StoreUnavailableError):
            store.create("a", b"x")
    assert len(proxy.exchanges) == 2


def test_pauses_between_tries_grow_up_to_the_longest(
    s3: str, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(patience.time, "sleep", pauses.append)
    monkeypatch.setattr(patience, "PATIENCE", patience.Patience(retries=6, first_pause_s=0.01, longest_pause_s=0.05))
    proxy.choose = always(Fault.RESET)
    with pytest.raises(StoreUnavailableError):
        ObjectStore(s3).create("a", b"x")
    longest = [0.01, 0.02, 0.04, 0.05, 0.05, 0.05]
    assert [most / 2 <= pause <= most for pause, most in zip(pauses, longest, strict=True)] == [True] * 6


def test_a_refusal_that_will_stay_is_not_tried_again(s3: str, proxy: FaultProxy) -> None:
    os.environ["AWS_SECRET_ACCESS_KEY"] = "wrong"  # the fixture's monkeypatch restores it
    store = ObjectStore(s3)
    with pytest.raises(PermissionError) as refused:
        store.get("a")
    assert len(proxy.exchanges) == 1
    assert "403" in refused.value.strerror
    assert KEYS["testing"] not in str(refused.value)
    assert "wrong" not in str(refused.value)


# Create only if absent, when answers are lost.


@pytest.mark.parametrize("fault", [Fault.LOST, Fault.LOST_TO_503, Fault.RESET_IN_ANSWER, Fault.CUT_SHORT])
def test_a_create_whose_answer_is_lost_is_known_as_ours_and_anothers_is_not(
    fault: Fault, s3: str, proxy: FaultProxy
) -> None:
    mine, other = ObjectStore(s3), ObjectStore(s3)
    proxy.choose = nth(fault, "PUT", times=2)
    assert mine.create("claim", b"mine")
    assert not other.create("claim", b"another's")
    assert settle(other, "claim", b"another's") == b"mine"
    assert settle(mine, "claim", b"mine") == b"mine"


def test_a_create_that_failed_and_was_overtaken_is_not_ours(s3: str, s3_endpoint: str, proxy: FaultProxy) -> None:
    prefix = ObjectUri.parse(s3).key

    def overtake(exchange: Exchange) -> Fault | None:
        if exchange.method != "PUT" or exchange.number:
            return None
        other.put(f"{prefix}/claim", b"another's")
        return Fault.RESET

    store = ObjectStore(s3)
    os.environ["AWS_ENDPOINT_URL"] = s3_endpoint
    other = Bucket("s3", "bucket", patience.PATIENCE)
    proxy.choose = overtake
    assert not store.create("claim", b"mine")
    assert settle(store, "claim", b"mine") == b"another's"


def test_a_create_that_is_refused_at_its_first_try_costs_one_request(s3: str, proxy: FaultProxy) -> None:
    store = ObjectStore(s3)
    assert store.create("claim", b"the same")
    before = len(proxy.exchanges)
    assert not store.create("claim", b"the same")
    assert len(proxy.exchanges) == before + 1


def test_a_store_that_gave_up_itself_is_not_asked_five_times_more(
    s3: str, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "PATIENCE", replace(patience.PATIENCE, retries=2))
    store = ObjectStore(s3)
    proxy.choose = always(Fault.LOST)
    with pytest.raises(StoreUnavailableError):
        settle(store, "claim", b"mine")
    assert len(proxy.exchanges) == 3
    proxy.choose = lambda exchange: None
    assert settle(store, "claim", b"mine") == b"mine"


# Listings of more than one page.


@pytest.fixture
def thousands(s3: str, bucket: Bucket) -> list[str]:
    """Keys of two pages and a half."""
    base = ObjectUri.parse(s3).key
    keys = [f"{base}/many/{number:04d}" for number in range(2500)]
    list(in_parallel(ObjectStore(s3), lambda key: bucket.put(key, b""), keys))
    return keys


def test_a_listing_goes_on_where_it_broke_off(thousands: list[str], bucket: Bucket, proxy: FaultProxy) -> None:
    folder = thousands[0].rpartition("/")[0]
    for fault in (Fault.CUT_SHORT, Fault.RESET_IN_ANSWER, Fault.SLOW_DOWN):
        for page in range(3):
            proxy.choose = nth(fault, "LIST", page, times=3)
            before = proxy.requests["LIST"]
            assert [found.key for found in bucket.walk(folder)] == thousands
            assert proxy.requests["LIST"] == before + 6, (fault, page)  # three pages, three faults


# Credentials that end.


def ending(rotate: Callable[[], None], after: int) -> Callable[[Exchange], Fault | None]:
    """From the request after `after` others on, the first credentials have expired; new ones are then laid ready."""
    seen = iter(range(1 << 30))

    def choose(exchange: Exchange) -> Fault | None:
        if next(seen) < after or "Credential=testing/" not in exchange.headers["authorization"]:
            return None
        rotate()
        return Fault.EXPIRED

    return choose


def renew_environment() -> None:
    """The variables belong to the fixture's monkeypatch, which restores them."""
    os.environ["AWS_SECRET_ACCESS_KEY"] = KEYS["renewed"]
    os.environ["AWS_ACCESS_KEY_ID"] = "renewed"


@pytest.mark.parametrize("name", OPERATIONS)
def test_expired_credentials_are_fetched_anew_and_the_request_goes_on(
    name: str, prefix: str, bucket: Bucket, proxy: FaultProxy
) -> None:
    operation = OPERATIONS[name]
    bucket.put(f"{prefix}/there", SMALL)
    proxy.choose = ending(renew_environment, after=operation.number)
    result = operation.call(bucket, prefix)
    assert operation.right(bucket, prefix, result)
    assert proxy.injected[Fault.EXPIRED] >= 1
    assert "Credential=renewed/" in proxy.exchanges[-1].headers["authorization"]


def test_a_listing_goes_on_with_renewed_credentials(thousands: list[str], bucket: Bucket, proxy: FaultProxy) -> None:
    proxy.choose = ending(renew_environment, after=1)
    assert [found.key for found in bucket.walk(thousands[0].rpartition("/")[0])] == thousands
    assert proxy.injected[Fault.EXPIRED] == 1


def test_credentials_that_stay_expired_are_given_up(s3: str, proxy: FaultProxy) -> None:
    proxy.choose = ending(lambda: None, after=0)
    with pytest.raises(PermissionError, match="have expired, and no newer ones were found") as refused:
        ObjectStore(s3).get("a")
    assert refused.value.filename == f"{s3}/a"
    assert len(proxy.exchanges) == 1 + patience.PATIENCE.renewals

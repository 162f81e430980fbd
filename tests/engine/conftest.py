"""The stores that every contract test runs on, and an executor of Ray."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import tables
from fault_proxy import FaultProxy

from rayforest.cluster.local import ClusterInfo
from rayforest.engine.executors import RayExecutor
from rayforest.engine.own_ray.head import present_token
from rayforest.engine.stores import patience
from rayforest.engine.stores.opening import open_store
from rayforest.engine.stores.store import Store


@pytest.fixture(params=["local", "memory", "s3"])
def make_store(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Store]:
    """Opens the same store again and again, as other processes would."""
    if request.param == "local":
        return lambda: open_store(tmp_path / "store")
    if request.param == "memory":
        uri = f"memory://{secrets.token_hex(4)}"
    else:
        uri = request.getfixturevalue("s3")
    return lambda: open_store(uri)


@pytest.fixture
def store(make_store: Callable[[], Store]) -> Store:
    return make_store()


@pytest.fixture
def proxy(s3: str, s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    """Before the S3 server, and told to nobody else than the environment. Waits are short."""
    monkeypatch.setattr(patience, "PATIENCE", patience.Patience(first_pause_s=0.001, renewal_pause_s=0.001))
    with FaultProxy(s3_endpoint) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        yield proxy


@pytest.fixture(scope="module")
def ray_executor(cluster: ClusterInfo, request: pytest.FixtureRequest) -> Iterator[RayExecutor]:
    """On the Ray of all tests; its workers get the code of the test's module, which they cannot import."""
    import ray

    of_tests = (tables, request.module)
    for module in of_tests:
        ray.cloudpickle.register_pickle_by_value(module)
    with present_token(cluster.head.token):
        executor = RayExecutor(cluster.address, workers=2, quiet=True)
        yield executor
        executor.close()
    for module in of_tests:
        ray.cloudpickle.unregister_pickle_by_value(module)

"""The stores that every contract test runs on."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fault_proxy import FaultProxy

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

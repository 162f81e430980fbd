"""The stores that every contract test runs on."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path

import pytest

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

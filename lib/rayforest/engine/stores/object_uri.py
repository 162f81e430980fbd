"""Names in object stores: `s3://bucket/key`, `gs://bucket/key`, `az://container/key`.

A key is taken as it is written, as the providers' own tools take it: nothing is percent-decoded, and `?` and `#` are
ordinary characters.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from rayforest.errors import ConfigError

SCHEMES = ("s3", "gs", "az")

_URI = re.compile(r"([a-z0-9]+)://([^/]*)/*(.*?)/*", re.DOTALL)
_SIGNED = re.compile(r"[?&](sig|signature|x-amz-[a-z-]+|x-goog-[a-z-]+|awsaccesskeyid|googleaccessid)=", re.IGNORECASE)
_WITH_ACCOUNT = re.compile(r"(?:abfss?|wasbs?)://([^@/:]+)@[^@/]+\.core\.windows\.net/(.*)", re.DOTALL)
_ALSO_CALLED = {"s3a": "s3", "s3n": "s3", "gcs": "gs", "azure": "az", "abfs": "az", "abfss": "az", "adl": "az"}


@dataclass(frozen=True, slots=True)
class ObjectUri:
    """Where an object or a folder of objects lies."""

    scheme: str
    bucket: str
    """Bucket or, in Azure, container."""
    key: str
    """Without slashes at its ends; empty for the whole bucket."""

    @classmethod
    def parse(cls, uri: str) -> ObjectUri:
        """The parts of a URI.

        Raises:
            ConfigError: it holds credentials, names no bucket, or a key that cannot be addressed. Credentials are not
                repeated in the message.
        """
        match = _URI.fullmatch(uri)
        scheme, bucket, key = match.groups() if match else ("", "", "")
        refuse_credentials(uri)
        if scheme not in SCHEMES:
            hint = (
                f"write {_ALSO_CALLED[scheme]}://"
                if scheme in _ALSO_CALLED
                else "name one of these, or mount that file system and give its local path"
            )
            raise ConfigError(
                f"no store speaks {uri.partition('://')[0]}://",
                expected=f"a local path, {', '.join(f'{known}://' for known in SCHEMES)}",
                found=uri,
                next_step=hint,
            )
        if not bucket:
            raise ConfigError(
                f"{uri} names no bucket",
                expected=f"{scheme}://BUCKET/PATH",
                next_step="write the bucket's name after ://",
            )
        if any(part in ("", ".", "..") for part in key.split("/")) and key:
            raise ConfigError(
                f"{uri} cannot be addressed",
                expected="names between single slashes",
                found="an empty part, '.' or '..'",
                next_step="write the key without it",
            )
        return cls(scheme, bucket, key)

    @property
    def name(self) -> str:
        """The last part of the key."""
        return self.key.rpartition("/")[2]

    def with_key(self, key: str) -> ObjectUri:
        """Another key of the same bucket."""
        return ObjectUri(self.scheme, self.bucket, key)

    def __str__(self) -> str:
        return f"{self.scheme}://{self.bucket}/{self.key}" if self.key else f"{self.scheme}://{self.bucket}"


def is_object_uri(text: str) -> bool:
    """Whether a path of the project file lies in an object store, or seems meant to."""
    return "://" in text and not text.startswith(("file://", "memory://"))


def provider_uri(uri: str) -> str:
    """A URI as other programs write it, by the scheme that we use.

    `s3a://bucket/key` is `s3://bucket/key`; `abfss://container@account.dfs.core.windows.net/key` is
    `az://container/key`, in the account of the environment. Others stay as they are.
    """
    if found := _WITH_ACCOUNT.fullmatch(uri):
        return f"az://{found[1]}/{found[2]}"
    scheme, separator, rest = uri.partition("://")
    return f"{_ALSO_CALLED.get(scheme, scheme)}://{rest}" if separator else uri


def refuse_credentials(uri: str) -> None:
    """Refuse a URI that holds credentials: it would stand in plans, logs and process lists.

    Raises:
        ConfigError: without repeating them.
    """
    scheme, separator, rest = uri.partition("://")
    authority = rest.partition("/")[0]
    if separator and ("@" in authority or _SIGNED.search(rest)):
        place = authority.rpartition("@")[2] or "..."
        raise ConfigError(
            f"a URI of {scheme}://{place.partition('?')[0]} holds credentials",
            expected="a URI that anyone may read: it stands in plans, logs and process lists",
            found="a user or key before the bucket's name" if "@" in authority else "a signature behind the key",
            next_step="leave them out, and give them in the environment or as a profile, as for the provider's tools",
        )

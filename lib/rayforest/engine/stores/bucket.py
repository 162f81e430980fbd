"""One bucket of an object store, through obstore: requests that are tried again, credentials that are renewed.

obstore tries a request again on 5xx, 429, lost connections and time-outs, and goes on reading where an answer broke
off, up to RETRIES times or RETRY_S seconds. Credentials that it fetches itself (web identity, container, instance) it
renews before they end. What it leaves to us: credentials that the store says have expired are fetched anew here, and
its errors become the OSErrors that a local disk would raise, in a few words without addresses.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import IO, Any, TypeVar

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)
from obstore.store import AzureStore, GCSStore, S3Store

from rayforest.engine.stores.object_uri import ObjectUri
from rayforest.engine.stores.store import ReplacedError, StoreUnavailableError
from rayforest.errors import ConfigError

RETRIES, RETRY_S = 10, 180
"""Tries after the first one of a request, and seconds after which no other begins; pauses grow from 0.1 to 15 s."""
RENEWALS = 3
"""Times that credentials are fetched anew for one request."""
_RENEWAL_PAUSE_S = 0.5
_PAGE, _DELETE_BATCH = 1000, 1000
_STORES: dict[str, Any] = {"s3": S3Store, "gs": GCSStore, "az": AzureStore}
_SETTINGS = ("AWS_", "GOOGLE_", "AZURE_", "AZURITE_", "HOME")
"""Beginnings of the variables that decide where a store is and who asks."""
_ENDPOINTS = {
    "s3": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"),
    "gs": ("GOOGLE_BASE_URL",),
    "az": ("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT"),
}
_ADDRESS = re.compile(r"https?://\S+")
_EXPIRED = re.compile(r"expired|TokenRefreshRequired", re.IGNORECASE)
_STATUS = re.compile(r"status code: (\d{3}[A-Za-z ]*)")
_CODE = re.compile(r"<Code>(\w+)</Code>")
_TRIED = re.compile(r"after (\d+) retries")
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class ObjectMeta:
    """An object as a listing or an answer shows it."""

    key: str
    size: int
    """Bytes."""
    modified: float
    """Seconds since 1970 on the store's clock."""
    etag: str
    """Names the contents: another one means that the object was written anew. Without quotation marks."""


class Bucket:
    """A bucket or container. Keys are relative to it."""

    def __init__(self, scheme: str, name: str) -> None:
        self.uri = f"{scheme}://{name}"
        self._scheme, self._name = scheme, name
        self._lists_in_order = not name.endswith("--x-s3")  # all but S3's directory buckets do
        self._store = self._connected()

    def get(
        self, key: str, start: int = 0, stop: int | None = None, *, etag: str | None = None
    ) -> tuple[obstore.Bytes, ObjectMeta]:
        """Bytes `start` .. `stop` of an object in one request; all of it where `stop` is None.

        Args:
            key: the object.
            start: the first byte.
            stop: the byte after the last one. Behind the object's end: up to there.
            etag: of the object that is meant.

        Raises:
            FileNotFoundError: there is no such object.
            ReplacedError: the object has another etag, or ends before `start`.
            PermissionError, StoreUnavailableError: it cannot be read.
        """
        options: Any = {} if etag is None else {"if_match": f'"{etag}"'}
        if stop is not None:
            options["range"] = (start, stop)

        def call(store: Any) -> tuple[obstore.Bytes, ObjectMeta]:
            answer = obstore.get(store, key, options=options)
            return answer.bytes(), _meta(answer.meta)

        data, meta = self._request(call)
        if etag is not None and meta.etag != etag:  # a server that does not know If-Match
            raise ReplacedError(errno.ESTALE, f"its etag is {meta.etag}, not {etag}")
        return data, meta

    def head(self, key: str) -> ObjectMeta:
        """What is known of an object. FileNotFoundError if it is absent."""
        return _meta(self._request(lambda store: obstore.head(store, key)))

    def put(self, key: str, data: bytes | IO[bytes], *, if_absent: bool = False) -> None:
        """Write an object, whole or not at all; with `if_absent`, FileExistsError if there is one."""
        if if_absent:
            self._request(lambda store: obstore.put(store, key, data, mode="create", use_multipart=False))
            return

        def call(store: Any) -> None:
            if not isinstance(data, bytes):
                data.seek(0)
            obstore.put(store, key, data)

        self._request(call)

    def walk(self, folder: str, begin: str = "") -> Iterator[ObjectMeta]:
        """Every object in a folder and below it, as the store sends them, a page at a time.

        Args:
            folder: its key; empty for the whole bucket.
            begin: how the rest of the key begins. What lies before and behind such keys is not listed, where the store
                lists in order.
        """
        prefix = f"{folder}/{begin}" if folder else begin
        last = prefix[:-1] if begin and self._lists_in_order else None
        in_order = True
        for _ in range(RENEWALS + 1):
            try:
                with _as_os_errors():
                    for page in obstore.list(self._store, folder or None, offset=last, chunk_size=_PAGE):
                        for entry in page:
                            key = entry["path"]
                            in_order = in_order and (last is None or last.encode() < key.encode())
                            last = key
                            if not begin or key.startswith(prefix):
                                yield _meta(entry)
                            elif self._lists_in_order and _lies_behind(key, prefix):
                                return
                return
            except _ExpiredError:
                if not in_order:  # to go on behind the last key could leave some out
                    break
                self._renew()
        raise _expired()

    def folder(self, folder: str) -> tuple[list[str], list[ObjectMeta]]:
        """What lies in a folder itself: the keys of the folders in it, and its objects."""
        found = self._request(lambda store: obstore.list_with_delimiter(store, folder or None))
        return list(found["common_prefixes"]), [_meta(entry) for entry in found["objects"]]

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects; absent ones are passed over."""
        remaining = iter(keys)
        while batch := list(islice(remaining, _DELETE_BATCH)):
            try:
                self._request(lambda store, batch=batch: obstore.delete(store, batch))  # type: ignore[misc]
            except FileNotFoundError:  # stores that mind: one at a time
                for key in batch:
                    with contextlib.suppress(FileNotFoundError):
                        self._request(lambda store, key=key: obstore.delete(store, key))  # type: ignore[misc]

    def _request(self, call: Callable[[Any], _T]) -> _T:
        for renewal in range(RENEWALS + 1):
            try:
                with _as_os_errors():
                    return call(self._store)
            except _ExpiredError:
                if renewal < RENEWALS:
                    time.sleep(_RENEWAL_PAUSE_S * 2**renewal)
                    self._renew()
        raise _expired()

    def _renew(self) -> None:
        self._store = self._connected()

    def _connected(self) -> Any:
        """A client of its own: with credentials from where the provider's own tools take them."""
        plain_http = any(os.environ.get(name, "").startswith("http://") for name in _ENDPOINTS[self._scheme])
        options: dict[str, Any] = {
            "client_options": {"allow_http": plain_http},
            "retry_config": {"max_retries": RETRIES, "retry_timeout": timedelta(seconds=RETRY_S)},
        }
        try:
            if self._scheme == "s3":
                options |= _profile()
            return _STORES[self._scheme](self._name, **options)
        except (BaseError, ValueError) as error:
            raise ConfigError(
                f"the object store {self.uri} is not set up",
                found=_in_few_words(error),
                next_step="give region, endpoint and credentials in the environment, as for the provider's own tools",
            ) from error


def bucket_of(uri: ObjectUri) -> Bucket:
    """The bucket of a URI: one client a process, unless the environment has changed."""
    settings = frozenset((name, value) for name, value in os.environ.items() if name.startswith(_SETTINGS))
    return _bucket(uri.scheme, uri.bucket, settings)


@lru_cache(maxsize=32)
def _bucket(scheme: str, name: str, settings: frozenset[tuple[str, str]]) -> Bucket:  # noqa: ARG001  the key
    return Bucket(scheme, name)


def _profile() -> dict[str, Any]:
    """Options for credentials of an AWS profile, which obstore does not read: through boto3, where it is installed.

    Raises:
        ConfigError: AWS_PROFILE names one, and boto3 is not installed, or finds none.
    """
    if "AWS_ACCESS_KEY_ID" in os.environ or "AWS_WEB_IDENTITY_TOKEN_FILE" in os.environ:
        return {}
    named = os.environ.get("AWS_PROFILE")
    files = [
        Path(os.environ.get("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials")).expanduser(),
        Path(os.environ.get("AWS_CONFIG_FILE", "~/.aws/config")).expanduser(),
    ]
    if named is None and not any(file.is_file() for file in files):
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


class _ExpiredError(Exception):
    """The store says that the credentials have expired."""


def _expired() -> PermissionError:
    return PermissionError(errno.EACCES, "the credentials have expired, and no newer ones were found")


@contextlib.contextmanager
def _as_os_errors() -> Iterator[None]:
    """Obstore's errors as OSErrors."""
    try:
        yield
    except AlreadyExistsError as error:
        raise FileExistsError(errno.EEXIST, _in_few_words(error)) from None
    except FileNotFoundError as error:
        raise FileNotFoundError(errno.ENOENT, _in_few_words(error)) from None
    except BaseError as error:
        raise _as_os_error(error) from None


def _as_os_error(error: BaseError) -> Exception:
    """By the status of the answer: obstore's own classes tell less of a listing than of a read."""
    text, words = _ADDRESS.sub("", str(error)), _in_few_words(error)
    found = _STATUS.search(text)
    status = found[1][:3] if found else ""
    if status in ("412", "416") or isinstance(error, PreconditionError):  # another etag; shorter than it was
        return ReplacedError(errno.ESTALE, words)
    if status == "404":
        return FileNotFoundError(errno.ENOENT, words)
    if status == "401" or isinstance(error, UnauthenticatedError) or _EXPIRED.search(text):
        return _ExpiredError()
    if status == "403" or isinstance(error, PermissionDeniedError):
        return PermissionError(errno.EACCES, words)
    return StoreUnavailableError(errno.EIO, words)


def _in_few_words(error: BaseException) -> str:
    """Status, code and tries; else the end of the first line. Never an address, which may hold a signature."""
    text = str(error)
    if status := _STATUS.search(text):
        code, tried = _CODE.search(text), _TRIED.search(text)
        words = [status[1].strip(), code[1] if code else "", f"after {tried[1]} retries" if tried else ""]
        return ", ".join(word for word in words if word)
    return _ADDRESS.sub("the store", text.split("\n", 1)[0]).rpartition(" - ")[2][:300]


def _lies_behind(key: str, prefix: str) -> bool:
    """Whether no key with the prefix follows, be the order that of bytes or, as in some stores, of folders' names."""
    place = next((place for place, (own, other) in enumerate(zip(key, prefix, strict=False)) if own != other), None)
    return place is not None and key[place] > prefix[place] and key[place] != "/"


def _meta(entry: Any) -> ObjectMeta:
    etag = entry["e_tag"]
    if etag is None:
        raise StoreUnavailableError(errno.ENOTSUP, "the store gives its objects no etag")
    return ObjectMeta(entry["path"], entry["size"], entry["last_modified"].timestamp(), etag.strip('"'))

"""One bucket of an object store, through obstore: requests that are tried again, credentials that are renewed.

obstore tries a request again on 5xx, 429, lost connections and time-outs, and goes on reading where an answer broke
off. Credentials that it fetches itself (web identity, container, instance) it renews before they end. What it leaves to
us is tried again here, within the same bounds: creates, deletes and uploads whose connection broke, listings that were
cut off, S3's 409 to a create, and credentials that the store says have expired.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import IO, Any, TypeVar

import obstore

from rayforest.engine.stores import patience
from rayforest.engine.stores.object_access import connected, settings
from rayforest.engine.stores.object_errors import BrokenError, ExistsError, ExpiredError, as_os_errors
from rayforest.engine.stores.object_uri import ObjectUri
from rayforest.engine.stores.patience import Patience, Tries
from rayforest.engine.stores.store import ReplacedError, StoreUnavailableError

_PAGE, _DELETE_BATCH = 1000, 1000
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

    def __init__(self, scheme: str, name: str, patience: Patience) -> None:
        self.uri = f"{scheme}://{name}"
        self._scheme, self._name, self._patience = scheme, name, patience
        self._lists_in_order = not name.endswith("--x-s3")  # all but S3's directory buckets do
        self._store = connected(scheme, name, patience)

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

        data, meta = self._request(key, call)
        if etag is not None and meta.etag != etag:  # a server that does not know If-Match
            raise ReplacedError(errno.ESTALE, f"its etag is {meta.etag}, not {etag}", f"{self.uri}/{key}")
        return data, meta

    def head(self, key: str) -> ObjectMeta:
        """What is known of an object. FileNotFoundError if it is absent."""
        return _meta(self._request(key, lambda store: obstore.head(store, key)))

    def create(self, key: str, data: bytes) -> bool:
        """Write an object, whole or not at all, unless there is one; False if there is.

        Where an answer was lost, the object that then stands is ours if it holds `data`: contents should say whose they
        are.

        Raises:
            StoreUnavailableError: it is open whether the object was written.
        """
        tries = Tries(self._patience)
        try:
            self._request(key, lambda store: obstore.put(store, key, data, mode="create", use_multipart=False), tries)
        except ExistsError as exists:
            earlier_tries = tries.failed + exists.retries
            return earlier_tries > 0 and bytes(self.get(key)[0]) == data
        return True

    def put(self, key: str, data: bytes | IO[bytes]) -> None:
        """Write an object, whole or not at all. It takes the place of one that is there."""

        def call(store: Any) -> None:
            if not isinstance(data, bytes):
                data.seek(0)
            obstore.put(store, key, data)

        self._request(key, call)

    def copy(self, source: str, key: str) -> None:
        """Give an object of the bucket a second key, whole or not at all; the bytes stay in the store.

        Raises:
            FileNotFoundError: there is no such object.
        """
        self._request(source, lambda store: obstore.copy(store, source, key))

    def walk(self, folder: str, begin: str = "") -> Iterator[ObjectMeta]:
        """Every object in a folder and below it, as the store sends them, a page at a time.

        Args:
            folder: its key; empty for the whole bucket.
            begin: how the rest of the key begins. What lies before and behind such keys is not listed, where the store
                lists in order.
        """
        prefix = f"{folder}/{begin}" if folder else begin
        last = prefix[:-1] if begin and self._lists_in_order else None
        in_order, tries = True, Tries(self._patience)
        while True:
            known = last if in_order else None
            try:
                with as_os_errors(f"{self.uri}/{folder}"):
                    for page in obstore.list(self._store, folder or None, offset=last, chunk_size=_PAGE):
                        tries = Tries(self._patience)
                        for entry in page:
                            key = entry["path"]
                            if known is not None and key.encode() <= known.encode():
                                continue  # from a store that begins every listing at the front
                            in_order = in_order and (last is None or last.encode() < key.encode())
                            last = key
                            if not begin or key.startswith(prefix):
                                yield _meta(entry)
                            elif self._lists_in_order and _lies_behind(key, prefix):
                                return
                return
            except (BrokenError, ExpiredError) as error:
                if not in_order:  # to go on behind the last key could leave some out
                    raise StoreUnavailableError(errno.EIO, f"the listing broke off: {error}", error.uri) from None
                self._before_another(tries, error)

    def folder(self, folder: str) -> tuple[list[str], list[ObjectMeta]]:
        """What lies in a folder itself: the keys of the folders in it, and its objects."""
        found = self._request(folder, lambda store: obstore.list_with_delimiter(store, folder or None))
        return list(found["common_prefixes"]), [_meta(entry) for entry in found["objects"]]

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects; absent ones are passed over."""
        remaining = iter(keys)
        while batch := list(islice(remaining, _DELETE_BATCH)):
            try:
                self._delete(batch)
            except FileNotFoundError:  # stores that mind: one at a time
                for key in batch:
                    with contextlib.suppress(FileNotFoundError):
                        self._delete([key])

    def _delete(self, keys: list[str]) -> None:
        self._request(keys[0], lambda store: obstore.delete(store, keys))

    def _request(self, key: str, call: Callable[[Any], _T], tries: Tries | None = None) -> _T:
        tries = tries or Tries(self._patience)
        while True:
            try:
                with as_os_errors(f"{self.uri}/{key}"):
                    return call(self._store)
            except (BrokenError, ExpiredError) as error:
                self._before_another(tries, error)

    def _before_another(self, tries: Tries, error: BrokenError | ExpiredError) -> None:
        tries.wait(error)
        if isinstance(error, ExpiredError):
            self._store = connected(self._scheme, self._name, self._patience)


def bucket_of(uri: ObjectUri) -> Bucket:
    """The bucket of a URI: one client a process, unless the environment has changed."""
    return _bucket(uri.scheme, uri.bucket, patience.PATIENCE, settings())


@lru_cache(maxsize=32)
def _bucket(scheme: str, name: str, bounds: Patience, _: frozenset[tuple[str, str]]) -> Bucket:
    return Bucket(scheme, name, bounds)


def _lies_behind(key: str, prefix: str) -> bool:
    """Whether no key with the prefix follows, be the order that of bytes or, as in some stores, of folders' names."""
    place = next((place for place, (own, other) in enumerate(zip(key, prefix, strict=False)) if own != other), None)
    return place is not None and key[place] > prefix[place] and key[place] != "/"


def _meta(entry: Any) -> ObjectMeta:
    etag = entry["e_tag"]
    if etag is None:
        raise StoreUnavailableError(errno.ENOTSUP, "the store gives its objects no etag")
    return ObjectMeta(entry["path"], entry["size"], entry["last_modified"].timestamp(), etag.strip('"'))

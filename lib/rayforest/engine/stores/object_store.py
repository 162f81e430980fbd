"""S3, Google Cloud Storage and Azure through obstore, which has the conditional PUT that pyarrow lacks."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterable, Iterator
from typing import BinaryIO, cast

import pyarrow as pa

from rayforest.engine.stores.bucket import bucket_of
from rayforest.engine.stores.object_file import ObjectFile
from rayforest.engine.stores.object_uri import ObjectUri
from rayforest.engine.stores.store import Entry

_SPOOL_BYTES = 32 << 20


class ObjectStore:
    """A prefix in a bucket. Credentials come from the environment of each process, never from the pickle."""

    concurrency = 32

    def __init__(self, uri: str) -> None:
        place = ObjectUri.parse(uri)
        self.uri = str(place)
        self._base = f"{place.key}/" if place.key else ""
        self._bucket = bucket_of(place)

    def __reduce__(self) -> tuple[object, ...]:
        return (ObjectStore, (self.uri,))

    def get(self, path: str) -> bytes:
        return bytes(self._bucket.get(self._base + path)[0])

    def create(self, path: str, data: bytes) -> bool:
        return self._bucket.create(self._base + path, data)

    @contextlib.contextmanager
    def open_write(self, path: str) -> Iterator[BinaryIO]:
        # The upload starts when the file is complete: an object store offers no way to take back a half-written
        # file that would be simpler than not to send it.
        with tempfile.SpooledTemporaryFile(max_size=_SPOOL_BYTES) as file:
            yield cast("BinaryIO", file)
            self._bucket.put(self._base + path, cast("BinaryIO", file))

    def copy(self, source: ObjectStore, path: str) -> bool:
        """Give a file of the other store the same path here, its bytes staying where they are; False where they cannot.

        That is S3 within one bucket. Azure may answer before it has copied, and Google's XML API is not tried.
        """
        same_bucket = self._bucket.uri == source._bucket.uri and self.uri.startswith("s3://")
        if same_bucket:
            self._bucket.copy(source._base + path, self._base + path)
        return same_bucket

    def open_read(self, path: str) -> pa.NativeFile:
        found = self._bucket.head(self._base + path)
        return ObjectFile(self._bucket, found.key, found.size, found.etag).open()

    def list(self, prefix: str) -> Iterator[Entry]:
        for found in self._bucket.walk((self._base + prefix).strip("/")):
            yield Entry(found.key.removeprefix(self._base), found.size, found.modified)

    def size(self, path: str) -> int | None:
        try:
            return self._bucket.head(self._base + path).size
        except FileNotFoundError:
            return None

    def delete(self, paths: Iterable[str]) -> None:
        self._bucket.delete(self._base + path for path in paths)

    def locate(self, path: str) -> str:
        return f"{self.uri}/{path}" if path else self.uri

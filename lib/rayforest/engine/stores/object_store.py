"""S3, Google Cloud Storage and Azure through obstore, which has the conditional PUT that pyarrow lacks.

The same code serves all three. The contract test runs it against a server that speaks S3; Google's and Azure's
services were not tried.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import tempfile
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, BinaryIO, cast

import obstore
import pyarrow as pa
from obstore.exceptions import AlreadyExistsError, BaseError, PermissionDeniedError, UnauthenticatedError
from obstore.store import from_url

from rayforest.engine.stores.store import Entry
from rayforest.errors import ConfigError

SCHEMES = ("s3", "gs", "az")
_SPOOL_BYTES = 32 << 20
_DELETE_BATCH = 1000


class ObjectStore:
    """A prefix in a bucket. Credentials come from the environment of each process, never from the pickle."""

    concurrency = 32

    def __init__(self, uri: str) -> None:
        self.uri = uri.rstrip("/")
        endpoint = os.environ.get("AWS_ENDPOINT_URL", "")
        plain_http = self.uri.startswith("s3://") and endpoint.startswith("http://")
        try:
            self._store: Any = from_url(self.uri, client_options={"allow_http": plain_http})
        except (BaseError, ValueError) as error:
            raise ConfigError(
                f"the object store {self.uri} is not set up",
                found=_first_line(error),
                next_step="give region, endpoint and credentials in the environment, as for the provider's own tools",
            ) from error

    def __reduce__(self) -> tuple[object, ...]:
        return (ObjectStore, (self.uri,))

    def get(self, path: str) -> bytes:
        with _as_os_errors():
            return bytes(obstore.get(self._store, path).bytes())

    def create(self, path: str, data: bytes) -> bool:
        try:
            with _as_os_errors():
                obstore.put(self._store, path, data, mode="create", use_multipart=False)
        except FileExistsError:
            return False
        return True

    @contextlib.contextmanager
    def open_write(self, path: str) -> Iterator[BinaryIO]:
        # The upload starts when the file is complete: an object store offers no way to take back a half-written
        # file that would be simpler than not to send it.
        with tempfile.SpooledTemporaryFile(max_size=_SPOOL_BYTES) as file:
            yield cast("BinaryIO", file)
            file.seek(0)
            with _as_os_errors():
                obstore.put(self._store, path, cast("BinaryIO", file))

    def open_read(self, path: str) -> pa.NativeFile:
        with _as_os_errors():
            size = obstore.head(self._store, path)["size"]
        return pa.PythonFile(_RangeFile(self._store, path, size), mode="r")

    def list(self, prefix: str) -> Iterator[Entry]:
        base = prefix.strip("/")
        with _as_os_errors():
            for page in obstore.list(self._store, prefix=base or None):
                for meta in page:
                    yield Entry(meta["path"], meta["size"], meta["last_modified"].timestamp())

    def size(self, path: str) -> int | None:
        try:
            with _as_os_errors():
                return int(obstore.head(self._store, path)["size"])
        except FileNotFoundError:
            return None

    def delete(self, paths: Iterable[str]) -> None:
        remaining = iter(paths)
        while batch := list(islice(remaining, _DELETE_BATCH)):
            try:
                with _as_os_errors():
                    obstore.delete(self._store, batch)
            except FileNotFoundError:  # stores that mind: one at a time
                for path in batch:
                    with contextlib.suppress(FileNotFoundError), _as_os_errors():
                        obstore.delete(self._store, path)

    def locate(self, path: str) -> str:
        return f"{self.uri}/{path}" if path else self.uri


class _RangeFile(io.RawIOBase):
    """An object as a seekable file; each read is one range request."""

    def __init__(self, store: Any, path: str, size: int) -> None:
        super().__init__()
        self._store, self._path, self._size, self._position = store, path, size, 0

    def read(self, size: int | None = -1) -> bytes:
        left = max(self._size - self._position, 0)
        length = left if size is None or size < 0 else min(size, left)
        if length == 0:
            return b""
        with _as_os_errors():
            data = bytes(obstore.get_range(self._store, self._path, start=self._position, length=length))
        self._position += len(data)
        return data

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = start + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True


@contextlib.contextmanager
def _as_os_errors() -> Iterator[None]:
    """Obstore's errors as the OSErrors that a local disk would raise."""
    try:
        yield
    except AlreadyExistsError as error:
        raise FileExistsError(errno.EEXIST, _first_line(error)) from None
    except (PermissionDeniedError, UnauthenticatedError) as error:
        raise PermissionError(errno.EACCES, _first_line(error)) from None
    except BaseError as error:
        raise OSError(errno.EIO, _first_line(error)) from None


def _first_line(error: BaseException) -> str:
    """Without obstore's dump of its internals, which can name credentials' sources."""
    return str(error).split("\n", 1)[0]

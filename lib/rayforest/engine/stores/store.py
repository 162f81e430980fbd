"""Where files live: one small protocol over local disks, object stores and memory.

The commit protocol stands on one primitive, `create`: durable create-if-absent. Everything else is plain reading
and writing. A store is named by its URI and is pickled by it, so that a worker elsewhere opens its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import BinaryIO, Protocol

import pyarrow as pa


@dataclass(frozen=True, slots=True)
class Entry:
    """A file as a listing shows it."""

    path: str
    """Relative to the store, with forward slashes."""
    size: int
    """Bytes."""
    modified: float
    """Seconds since 1970 on the store's clock."""


class StoreUnavailableError(OSError):
    """The store could not be reached, or sent requests away, for as long as they were tried again."""


class ReplacedError(OSError):
    """The object is not the one that was asked for any more."""


class Store(Protocol):
    """Files under one folder or prefix. Paths are relative to it, with forward slashes."""

    uri: str
    """An absolute local path, `s3://bucket/prefix`, `gs://`, `az://`, or `memory://name`."""
    concurrency: int
    """How many small requests at once make the store faster: 1 where a request costs next to nothing."""

    def get(self, path: str) -> bytes:
        """The whole file. FileNotFoundError if it is absent."""
        ...

    def create(self, path: str, data: bytes) -> bool:
        """Create the file durably, whole or not at all, unless it exists; False if it does.

        An OSError leaves open whether the file was created: `settle` reads it back.
        """
        ...

    def open_write(self, path: str) -> AbstractContextManager[BinaryIO]:
        """A file to write, complete and durable on a clean exit; nothing is visible after an exception.

        It replaces an existing file, so callers use names that are never used twice.
        """
        ...

    def open_read(self, path: str) -> pa.NativeFile:
        """The file for random access. FileNotFoundError if it is absent."""
        ...

    def list(self, prefix: str) -> Iterator[Entry]:
        """Every file in the folder `prefix` and below, in no promised order.

        May be stale, and may show unfinished writes, whose names end in `.tmp`.
        """
        ...

    def size(self, path: str) -> int | None:
        """Bytes, or None if the file is absent."""
        ...

    def delete(self, paths: Iterable[str]) -> None:
        """Delete the files; absent ones are passed over."""
        ...

    def locate(self, path: str) -> str:
        """The absolute path or URI, for people and for readers."""
        ...

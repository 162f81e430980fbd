"""A store in memory that counts what is asked of it, as an object store would bill it."""

from __future__ import annotations

import io
import secrets
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import BinaryIO

import pyarrow as pa

from rayforest.engine.stores.memory import MemoryStore
from rayforest.engine.stores.store import Entry


class CountingStore(MemoryStore):
    """Each call of a method is one request, and each read of an open file another one."""

    def __init__(self) -> None:
        super().__init__(secrets.token_hex(4))
        self.requests: Counter[str] = Counter()
        """By kind: GET, HEAD, PUT, LIST."""
        self.reads: Counter[str] = Counter()
        """GETs by path."""
        self.bytes: Counter[str] = Counter()
        """Read, by path."""
        self._counting = Lock()

    def forget(self) -> None:
        """Begin to count anew."""
        for counter in (self.requests, self.reads, self.bytes):
            counter.clear()

    def get(self, path: str) -> bytes:
        self.count("GET", path)
        data = super().get(path)
        self.bytes[path] += len(data)
        return data

    def create(self, path: str, data: bytes) -> bool:
        self.count("PUT", path)
        return super().create(path, data)

    @contextmanager
    def open_write(self, path: str) -> Iterator[BinaryIO]:
        with super().open_write(path) as file:
            yield file
        self.count("PUT", path)

    def open_read(self, path: str) -> pa.NativeFile:
        self.count("HEAD", path)
        return pa.PythonFile(_CountedFile(self, path, super().get(path)), mode="r")

    def size(self, path: str) -> int | None:
        self.count("HEAD", path)
        return super().size(path)

    def list(self, prefix: str) -> Iterator[Entry]:
        self.count("LIST", prefix)
        return super().list(prefix)

    def count(self, kind: str, path: str, size: int = 0) -> None:
        """One request more."""
        with self._counting:
            self.requests[kind] += 1
            if kind == "GET":
                self.reads[path] += 1
                self.bytes[path] += size


class _CountedFile(io.BytesIO):
    def __init__(self, store: CountingStore, path: str, data: bytes) -> None:
        super().__init__(data)
        self._store, self._path = store, path

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self._store.count("GET", self._path, len(data))
        return data

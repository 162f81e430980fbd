"""A store in memory, for tests and examples."""

from __future__ import annotations

import contextlib
import io
import time
from collections.abc import Iterable, Iterator
from threading import Lock
from typing import BinaryIO

import pyarrow as pa

from rayforest.engine.stores.store import Entry
from rayforest.errors import ConfigError


class MemoryStore:
    """Files in this process' memory, for tests and examples. Cannot travel to another process."""

    concurrency = 1

    def __init__(self, name: str) -> None:
        self.uri = f"memory://{name}"
        self._files: dict[str, tuple[bytes, float]] = {}
        self._lock = Lock()

    def __reduce__(self) -> tuple[object, ...]:
        raise ConfigError(
            f"the store {self.uri} lives in one process",
            expected="a local path or an object store, which workers can reach",
            next_step="use the in-process executor, or another destination",
        )

    def get(self, path: str) -> bytes:
        try:
            return self._files[path][0]
        except KeyError:
            raise FileNotFoundError(path) from None

    def create(self, path: str, data: bytes) -> bool:
        with self._lock:
            if path in self._files:
                return False
            self._files[path] = (bytes(data), time.time())
            return True

    @contextlib.contextmanager
    def open_write(self, path: str) -> Iterator[BinaryIO]:
        buffer = io.BytesIO()
        yield buffer
        with self._lock:
            self._files[path] = (buffer.getvalue(), time.time())

    def open_read(self, path: str) -> pa.NativeFile:
        return pa.BufferReader(self.get(path))

    def list(self, prefix: str) -> Iterator[Entry]:
        base = prefix.strip("/")
        start = f"{base}/" if base else ""
        with self._lock:
            names = [name for name in self._files if name.startswith(start)]
        for name in names:
            if (file := self._files.get(name)) is not None:
                yield Entry(name, len(file[0]), file[1])

    def size(self, path: str) -> int | None:
        file = self._files.get(path)
        return None if file is None else len(file[0])

    def delete(self, paths: Iterable[str]) -> None:
        for path in paths:
            self._files.pop(path, None)

    def locate(self, path: str) -> str:
        return f"{self.uri}/{path}" if path else self.uri

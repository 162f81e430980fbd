"""Where files live: one small protocol over local disks, object stores and memory.

The commit protocol stands on one primitive, `create`: durable create-if-absent. Everything else is plain reading
and writing. A store is named by its URI and is pickled by it, so that a worker elsewhere opens its own.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import secrets
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import BinaryIO, Protocol, TypeVar
from urllib.parse import unquote, urlsplit

import pyarrow as pa

from rayforest.errors import ConfigError

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Entry:
    """A file as a listing shows it."""

    path: str
    """Relative to the store, with forward slashes."""
    size: int
    """Bytes."""
    modified: float
    """Seconds since 1970 on the store's clock."""


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


class LocalStore:
    """A folder of a local or mounted file system that has hard links.

    `create` is: temporary file, fsync, link, fsync of the folder. `rename` would overwrite.
    """

    concurrency = 1

    def __init__(self, root: str | Path) -> None:
        self.root = Path(os.path.abspath(root))  # noqa: PTH100 - resolve() would follow links that people gave on purpose
        self.uri = str(self.root)
        self._known_folders: set[str] = set()

    def __reduce__(self) -> tuple[object, ...]:
        return (LocalStore, (self.uri,))

    def get(self, path: str) -> bytes:
        try:
            with open(self.locate(path), "rb") as file:  # noqa: PTH123 - a Path costs more than the read
                return file.read()
        except NotADirectoryError as error:  # nothing lies below a file
            raise FileNotFoundError(*error.args) from error

    def create(self, path: str, data: bytes) -> bool:
        target = self.locate(path)
        if os.path.exists(target):  # noqa: PTH110 - spares the fsync of a lost race; the link decides
            return False
        with self._temporary(target) as (name, file):
            file.write(data)
            _sync(file)
            try:
                os.link(name, target)
            except FileExistsError:
                return False
        _sync_folder(os.path.dirname(target))  # noqa: PTH120
        return True

    @contextlib.contextmanager
    def open_write(self, path: str) -> Iterator[BinaryIO]:
        target = self.locate(path)
        with self._temporary(target) as (name, file):
            yield file
            _sync(file)
            os.replace(name, target)  # noqa: PTH105
        _sync_folder(os.path.dirname(target))  # noqa: PTH120

    def open_read(self, path: str) -> pa.NativeFile:
        return pa.OSFile(self.locate(path), mode="r")

    def list(self, prefix: str) -> Iterator[Entry]:
        base = prefix.strip("/")
        try:
            with os.scandir(self.locate(base)) as entries:
                for entry in entries:
                    path = f"{base}/{entry.name}" if base else entry.name
                    if entry.is_dir(follow_symlinks=False):
                        yield from self.list(path)
                        continue
                    with contextlib.suppress(FileNotFoundError):  # deleted since
                        stat = entry.stat()
                        yield Entry(path, stat.st_size, stat.st_mtime)
        except (FileNotFoundError, NotADirectoryError):
            return

    def size(self, path: str) -> int | None:
        try:
            return os.stat(self.locate(path)).st_size  # noqa: PTH116
        except (FileNotFoundError, NotADirectoryError):
            return None

    def delete(self, paths: Iterable[str]) -> None:
        for path in paths:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.locate(path))  # noqa: PTH108

    def locate(self, path: str) -> str:
        return f"{self.uri}/{path}" if path else self.uri

    @contextlib.contextmanager
    def _temporary(self, target: str) -> Iterator[tuple[str, BinaryIO]]:
        """A new file beside the target; gone at the end unless it was renamed."""
        self._make_folder(os.path.dirname(target))  # noqa: PTH120
        name = f"{target}.{secrets.token_hex(8)}.tmp"
        try:
            with open(name, "xb") as file:  # noqa: PTH123
                yield name, file
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name)  # noqa: PTH108

    def _make_folder(self, folder: str) -> None:
        """Make the folder and those above it, each durable in the one above."""
        if folder in self._known_folders and os.path.isdir(folder):  # noqa: PTH112
            return
        missing = []
        above = folder
        while not os.path.isdir(above):  # noqa: PTH112
            missing.append(above)
            above = os.path.dirname(above)  # noqa: PTH120
        for new in reversed(missing):
            with contextlib.suppress(FileExistsError):
                os.mkdir(new)  # noqa: PTH102
            _sync_folder(os.path.dirname(new))  # noqa: PTH120
        self._known_folders.add(folder)


class MemoryStore:
    """Files in this process' memory, for tests and examples. Cannot travel to another process."""

    concurrency = 1

    def __init__(self, name: str) -> None:
        self.uri = f"memory://{name}"
        self._files: dict[str, tuple[bytes, float]] = {}
        self._lock = Lock()

    def __reduce__(self) -> tuple[object, ...]:
        raise ConfigError(
            f"The store {self.uri} lives in one process",
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


_memory_stores: dict[str, MemoryStore] = {}


def open_store(uri: str | Path) -> Store:
    """The store that a path or URI names.

    Args:
        uri: a local path, `file://`, `memory://name`, or an object store's `s3://`, `gs://`, `az://`; its
            credentials come from the environment only.

    Raises:
        ConfigError: the scheme is unknown, or the object store's configuration is incomplete.
    """
    text = str(uri)
    try:
        os.fsencode(text)
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise ConfigError(
            f"the name of the folder {text!r} cannot be used",
            expected="a name in UTF-8, and a process whose file names are UTF-8",
            found=f"file names in {sys.getfilesystemencoding()}",
            next_step="choose another folder, or start Python with PYTHONUTF8=1",
        ) from None
    if not re.match(r"[a-zA-Z][a-zA-Z0-9+.-]*://", text):
        return LocalStore(text)
    parts = urlsplit(text)
    if parts.scheme == "file":
        return LocalStore(unquote(parts.path))
    if parts.scheme == "memory":
        return _memory_stores.setdefault(parts.netloc, MemoryStore(parts.netloc))
    from rayforest.engine.object_store import SCHEMES, ObjectStore

    if parts.scheme in SCHEMES:
        return ObjectStore(text)
    raise ConfigError(
        f"No store speaks {parts.scheme}://",
        expected=f"a local path, file://, memory://, {', '.join(f'{scheme}://' for scheme in SCHEMES)}",
        found=text,
    )


def settle(store: Store, path: str, data: bytes) -> bytes:
    """Create the file unless it exists, and return what is there afterwards.

    Stays right where an acknowledgement is lost, or where a request that seemed to fail takes effect later: the
    content decides, so it should say who wrote it.

    Raises:
        OSError: the store failed five times in a row. Whether the file exists, or will, is then unknown.
    """
    for attempt in range(5):
        try:
            if store.create(path, data):
                return data
            return store.get(path)
        except OSError as error:
            failure = error
        with contextlib.suppress(OSError):  # absent, or still out of reach: try again
            return store.get(path)
        if attempt < 4:
            time.sleep(0.1 * 2**attempt)
    raise failure


def in_parallel(store: Store, request: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """Make a small request for each item, as many at once as the store likes; results come in the items' order."""
    if store.concurrency == 1:
        yield from map(request, items)
        return
    remaining = iter(items)
    with ThreadPoolExecutor(store.concurrency) as pool:
        while window := list(islice(remaining, store.concurrency * 8)):
            yield from pool.map(request, window)


def prove_create_if_absent(store: Store) -> None:
    """Create a probe twice, and refuse a store that lets the second one through.

    Raises:
        ConfigError: the store overwrites, or cannot be written.
    """
    path = f"claims/probe-{secrets.token_hex(8)}"  # where the first claim will be, too
    try:
        first = settle(store, path, b"first")
        second = settle(store, path, b"second")
    except OSError as error:
        raise ConfigError(
            f"The destination {store.uri} cannot be written",
            found=f"{type(error).__name__}: {error}",
            next_step="check that it exists, has room and hard links (local), and what its credentials may do",
        ) from error
    finally:
        with contextlib.suppress(OSError):
            store.delete([path])
    if (first, second) != (b"first", b"first"):
        raise ConfigError(
            f"The destination {store.uri} cannot create a file only if it is absent",
            expected="a second create of the same name to be refused: every row exactly once stands on it",
            found="it was let through",
            next_step="use a local disk, S3, GCS or Azure, or a server that honours If-None-Match",
        )


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _sync_folder(folder: str) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

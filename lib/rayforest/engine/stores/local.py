"""A store on a local or mounted file system."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa

from rayforest.engine.stores.store import Entry


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

    def link(self, file: str, path: str) -> bool:
        """Give a file of this machine another name here, durably; False where their file systems do not.

        Args:
            file: absolute path of one that never changes.
            path: in this store; it is left as it is if it exists.
        """
        target = self.locate(path)
        self._make_folder(os.path.dirname(target))  # noqa: PTH120
        try:
            os.link(file, target)
        except FileExistsError:
            return False
        except OSError:  # another file system, or one without links
            return False
        _sync_folder(os.path.dirname(target))  # noqa: PTH120
        return True

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


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _sync_folder(folder: str) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

"""A raw file, opened as often as is liked, wherever it lies: local, or an object of which every byte has one etag."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from rayforest.engine.stores.object_uri import ObjectUri, is_object_uri
from rayforest.tables.damage import changed_file, errors_name_the_file

Range = tuple[int, int]
"""First byte, and the one after the last."""
TAIL_BYTES = 64 << 10
"""The end of a Parquet or Arrow file, in which nearly always its whole footer lies."""


class Located(Protocol):
    """Where a file lies and which one it is: a `SourceFile`, or a `RowRange` of one."""

    @property
    def uri(self) -> str:
        """Absolute path, or URI in an object store."""
        ...

    @property
    def size(self) -> int:
        """Bytes."""
        ...

    @property
    def stamp(self) -> str:
        """Time of the last change in nanoseconds, or the object's etag."""
        ...


class RawFile(Protocol):
    """A file to read from at any place, by one thread at a time. Errors are OSErrors."""

    @property
    def uri(self) -> str:
        """Absolute path, or URI in an object store."""
        ...

    @property
    def size(self) -> int:
        """Bytes."""
        ...

    def open(self, start: int = 0, stop: int | None = None) -> pa.NativeFile:
        """The file, positioned at `start`; nothing is fetched ahead beyond `stop`."""
        ...

    def mapped(self) -> pa.NativeFile:
        """The file, without a copy of its bytes where that is possible."""
        ...

    def begin(self, size: int) -> bytes:
        """The first bytes."""
        ...

    def hold(self, ranges: Iterable[Range], ahead: Iterable[Range] = ()) -> None:
        """Say what is read next, and after that, so that it is on its way; what was held before is given back."""
        ...

    def current_stamp(self) -> str:
        """The stamp that a listing would show now."""
        ...

    @property
    def failure(self) -> OSError | None:
        """Why it could not be read the last time; None where the system itself says so."""
        ...

    @property
    def pinned(self) -> bool:
        """Whether no byte is read of another file than the one that was listed."""
        ...


class LocalFile:
    """A file of a local or mounted file system."""

    pinned = False
    failure = None

    def __init__(self, uri: str | Path) -> None:
        self.uri = str(uri)

    @property
    def size(self) -> int:
        return Path(self.uri).stat().st_size

    def open(self, start: int = 0, stop: int | None = None) -> pa.NativeFile:  # noqa: ARG002  the system reads ahead
        file = pa.OSFile(self.uri)
        if start:
            file.seek(start)
        return file

    def mapped(self) -> pa.NativeFile:
        return pa.memory_map(self.uri)

    def begin(self, size: int) -> bytes:
        with pa.OSFile(self.uri) as file:
            return bytes(file.read(size))

    def hold(self, ranges: Iterable[Range], ahead: Iterable[Range] = ()) -> None:
        """Nothing: the system reads ahead."""

    def current_stamp(self) -> str:
        return str(Path(self.uri).stat().st_mtime_ns)


def raw_file(file: Located) -> RawFile:
    """The file that a listing or a plan names."""
    if not is_object_uri(file.uri):
        return LocalFile(file.uri)
    from rayforest.engine.stores.bucket import bucket_of
    from rayforest.engine.stores.object_file import ObjectFile

    place = ObjectUri.parse(file.uri)
    return ObjectFile(bucket_of(place), place.key, file.size, file.stamp)


def refuse_changed(file: RawFile, listed: Located) -> None:
    """Refuse a file that looks different from when it was listed.

    Raises:
        InputError: it does, or is gone.
    """
    with errors_name_the_file(file):
        if (file.size, file.current_stamp()) != (listed.size, listed.stamp):
            raise changed_file(file.uri)

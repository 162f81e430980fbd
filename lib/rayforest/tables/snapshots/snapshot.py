"""A snapshot as it was found: its columns and its files, each of which is there and as long as the log says."""

from __future__ import annotations

import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from rayforest.engine.stores.object_uri import is_object_uri, provider_uri
from rayforest.errors import InputError
from rayforest.tables.batch import SourceFile, TableName
from rayforest.tables.snapshots.layout import Entry, Layout


@dataclass(frozen=True)
class Snapshot:
    """What one version of a table is made of."""

    number: int
    """Delta's version, Iceberg's snapshot id."""
    layout: Layout
    files: list[SourceFile]
    """Sorted by the bytes of their paths: a log's own order changes when it is compacted."""


@dataclass(frozen=True)
class DataFile:
    """A data file as a log names it."""

    uri: str
    """Absolute path or URI."""
    size: int
    """Bytes."""
    entry: Entry


def snapshot(table: TableName, root: str, number: int, layout: Layout, files: Iterable[DataFile]) -> Snapshot:
    """The snapshot, once every file of it was found.

    Args:
        table: for errors.
        root: absolute path or URI of the table's folder; paths of files are relative to it.
        number: version or snapshot id.
        layout: its columns.
        files: in any order.

    Raises:
        InputError: there is no file, or one is named twice, is not there any more, or not as long as the log says.
    """
    which = f"version {number}" if table.form == "delta" else f"snapshot {number}"
    found = sorted(list_data_files(list(files), root, f"{which} of the {table}"), key=lambda f: f.path.encode())
    if not found:
        raise InputError(
            f"the {table} has no data files in {which}",
            expected="a snapshot with rows",
            next_step="name another version, or write rows first",
        )
    for one, other in pairwise(found):
        if one.path == other.path:  # its rows would come twice, as two sets of deleted rows leave them
            raise InputError(
                f"{which} of the {table} names {one.path} twice",
                expected="each data file once",
                next_step="repair the table: it was written against its format's rules",
            )
    return Snapshot(number, layout, found)


def local_path(uri: str) -> str | None:
    """The path of a file on a file system; None for an object. Nothing is unquoted."""
    if uri.startswith("file:"):
        return "/" + uri.removeprefix("file:").lstrip("/")
    return None if "://" in uri else uri


def standard_uri(uri: str) -> str:
    """A file's name as a log has it, as the absolute path or the URI by which it is read."""
    return local_path(uri) or provider_uri(uri)


def list_data_files(files: Sequence[DataFile], root: str, whose: str) -> Iterator[SourceFile]:
    """The one place that looks at the files of a table before they are opened.

    Args:
        files: as its log names them.
        root: as for `snapshot`.
        whose: for errors.

    Raises:
        InputError: one is not there, or not as long as the log says.
    """
    objects = _objects([file.uri for file in files if is_object_uri(file.uri)], root, whose)
    for file in files:
        size, stamp = objects[file.uri] if file.uri in objects else _status(file, whose)
        if size != file.size:
            raise InputError(
                f"{file.uri} is not the data file of {whose}",
                expected=f"{file.size:,} bytes, as the table's log says",
                found=f"{size:,} bytes",
                next_step="something else has written to the table's folder: restore the file",
            )
        path = file.uri.removeprefix(f"{root.rstrip('/')}/")
        yield SourceFile(path, file.uri, file.size, stamp, "parquet", file.entry.write())


def _objects(uris: Sequence[str], root: str, whose: str) -> Mapping[str, tuple[int, str]]:
    """URI -> size and etag."""
    if not uris:
        return {}
    from rayforest.tables.snapshots.object_listing import look_up

    found: dict[str, tuple[int, str]] = {}
    for uri, seen in look_up(uris, root):
        if isinstance(seen, OSError):
            raise _unreadable(uri, whose, seen)
        found[uri] = seen.size, seen.etag
    return found


def _status(file: DataFile, whose: str) -> tuple[int, str]:
    """Size and time of the last change; no size of what is no file."""
    try:
        status = Path(file.uri).stat()
    except OSError as error:
        raise _unreadable(file.uri, whose, error) from error
    return status.st_size if stat.S_ISREG(status.st_mode) else -1, str(status.st_mtime_ns)


def _unreadable(uri: str, whose: str, error: OSError) -> InputError:
    gone = isinstance(error, FileNotFoundError)
    return InputError(
        f"{uri}, a data file of {whose}, cannot be read",
        found="no such file" if gone else (error.strerror or str(error)).lower(),
        next_step="name a newer version: a vacuum removes files of old ones" if gone else "see to its permissions",
    )

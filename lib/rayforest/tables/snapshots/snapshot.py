"""A snapshot as it was found: its columns and its files, each of which is there and as long as the log says."""

from __future__ import annotations

import stat
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from urllib.parse import urlsplit

from rayforest.errors import ConfigError, InputError
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
    found = sorted((_listed(file, root, f"{which} of the {table}") for file in files), key=lambda f: f.path.encode())
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


def refuse_secrets(name: str) -> None:
    """Refuse a URI that carries a password or a signature: it would end up in the plan.

    Raises:
        ConfigError: it does; the URI is not repeated.
    """
    parts = urlsplit(name) if "://" in name else None
    if parts is not None and ("@" in parts.netloc or parts.query):
        raise ConfigError(
            f"the URI of a table in {parts.scheme}:// carries credentials or a signature",
            expected="a URI without them",
            next_step="give them in the environment, as the store's own tools take them",
        )


def local_path(uri: str) -> str | None:
    """The path of a file on a file system; None for an object. Nothing is unquoted."""
    if uri.startswith("file:"):
        return "/" + uri.removeprefix("file:").lstrip("/")
    return None if "://" in uri else uri


def _listed(file: DataFile, root: str, whose: str) -> SourceFile:
    """The one place that looks at a data file before it is opened."""
    if local_path(file.uri) is None:
        raise InputError(
            f"{file.uri}, a data file of {whose}, lies in an object store",
            expected="files of a file system",
            next_step="copy the table to a file system, or mount its store as one",
        )
    try:
        status = Path(file.uri).stat()
    except OSError as error:
        gone = isinstance(error, FileNotFoundError)
        raise InputError(
            f"{file.uri}, a data file of {whose}, cannot be read",
            found="no such file" if gone else (error.strerror or "").lower(),
            next_step="name a newer version: a vacuum removes files of old ones" if gone else "see to its permissions",
        ) from error
    if not stat.S_ISREG(status.st_mode) or status.st_size != file.size:
        raise InputError(
            f"{file.uri} is not the data file of {whose}",
            expected=f"{file.size:,} bytes, as the table's log says",
            found=f"{status.st_size:,} bytes",
            next_step="something else has written to the table's folder: restore the file",
        )
    path = file.uri.removeprefix(f"{root.rstrip('/')}/")
    return SourceFile(path, file.uri, file.size, str(status.st_mtime_ns), "parquet", file.entry.write())

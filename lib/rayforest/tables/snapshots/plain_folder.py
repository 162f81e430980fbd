"""Folders of tables that a log describes, met as plain files: they also hold rows that were deleted or replaced."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from rayforest.errors import InputError
from rayforest.tables.snapshots.delta import DELTA_LOG, is_delta
from rayforest.tables.snapshots.iceberg import ICEBERG_METADATA, is_iceberg

if TYPE_CHECKING:
    from rayforest.engine.stores.bucket import Bucket, ObjectMeta

_FIRST_KEYS = 1000
"""Of a folder `metadata`, among which a table's show themselves: one request."""


class Table(NamedTuple):
    """A table whose folder was met."""

    name: str
    """For people."""
    source: str
    """The line of a project file that reads it."""

    @classmethod
    def delta(cls, folder: str) -> Table:
        """By its absolute path or URI."""
        return cls(f"the Delta table {folder}", f"source = {{ delta = {json.dumps(folder)} }}")

    @classmethod
    def iceberg(cls, folder: str, newest: str) -> Table:
        """By its absolute path or URI, and that of its newest metadata file."""
        source = f"source = {{ iceberg = {json.dumps(newest)} }}, or its name in a catalog"
        return cls(f"the Iceberg table {folder}", source)


class TableFolders:
    """Finds the table that a folder is a part of, and remembers it: for one listing of a source."""

    def __init__(self, table_at: Callable[[str], Table | None] | None = None) -> None:
        self._table_at = table_at or _local_table_at
        self._tables: dict[str, Table | None] = {}

    def of(self, folder: str | Path) -> Table | None:
        """The table that a folder is or lies in; None where it is none's."""
        folder = str(folder)
        if folder not in self._tables:
            parent, name = os.path.split(folder)
            self._tables[folder] = self._table_at(folder) or (self.of(parent) if name else None)
        return self._tables[folder]

    def refuse(self, pattern: str, folder: str | Path) -> None:
        """Refuse to read files of a table's folder by themselves.

        Raises:
            InputError: the folder is a part of a table.
        """
        if (found := self.of(folder)) is not None:
            raise _refusal(pattern, found)


def _refusal(pattern: str, table: Table) -> InputError:
    return InputError(
        f"{pattern!r} reads files of {table.name}",
        expected="the table itself: its folder also holds rows that were deleted or replaced",
        next_step=table.source,
    )


def read_by_themselves(single_files: dict[str, Table]) -> list[str]:
    """What the user should know of single files of tables: pattern -> table."""
    return [f"{name} is read by itself, whatever {table.name} says of it" for name, table in single_files.items()]


class BucketTables:
    """Tables in a bucket, whose folders are keys."""

    def __init__(self, bucket: Bucket) -> None:
        self.folders = TableFolders(self._at)
        """By requests: for a folder before it is listed, and those above it."""
        self._bucket = bucket
        self._noticed: dict[str, Table] = {}

    def notice(self, found: ObjectMeta) -> None:
        """An object of a listing, which shows the tables below its folder without further requests."""
        if f"{DELTA_LOG}/" in found.key:
            above, log, _ = f"/{found.key}".partition(f"/{DELTA_LOG}/")
            if log:
                self._noticed[above[1:]] = Table.delta(self._uri(above[1:]))
        elif found.key.endswith(ICEBERG_METADATA):  # listings go by names, and later files have higher numbers
            above, _, name = f"/{found.key}".rpartition("/metadata/")
            if "/" not in name:
                self._noticed[above[1:]] = Table.iceberg(self._uri(above[1:]), self._uri(found.key))

    def refuse(self, pattern: str, files: Iterable[ObjectMeta]) -> None:
        """Refuse files of tables that were noticed.

        Raises:
            InputError: one lies in such a table.
        """
        for folder in {found.key.rpartition("/")[0] for found in files} if self._noticed else ():
            above = folder
            while above:
                if above in self._noticed:
                    raise _refusal(pattern, self._noticed[above])
                above = above.rpartition("/")[0]

    def _at(self, folder: str) -> Table | None:
        with contextlib.suppress(PermissionError):  # who may list a folder may be kept out of those above it
            for found in self._marks(folder):
                self.notice(found)
        return self._noticed.get(folder)

    def _marks(self, folder: str) -> list[ObjectMeta]:
        log, metadata = (f"{folder}/{name}".lstrip("/") for name in (DELTA_LOG, "metadata"))
        if first := list(islice(self._bucket.walk(log), 1)):
            return first
        if any(found.key.endswith(ICEBERG_METADATA) for found in islice(self._bucket.walk(metadata), _FIRST_KEYS)):
            return sorted(self._bucket.walk(metadata), key=lambda found: found.modified)
        return []

    def _uri(self, key: str) -> str:
        return f"{self._bucket.uri}/{key}".rstrip("/")


def _local_table_at(folder: str) -> Table | None:
    if is_delta(folder):
        return Table.delta(folder)
    if is_iceberg(folder):
        newest = max(Path(folder, "metadata").glob(f"*{ICEBERG_METADATA}"), key=lambda file: file.stat().st_mtime_ns)
        return Table.iceberg(folder, str(newest))
    return None

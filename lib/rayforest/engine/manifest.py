"""The manifest of a published version: what readers follow instead of listing folders."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

import pyarrow as pa

from rayforest.engine.document import open_table, read_document, read_schema
from rayforest.engine.stores.store import Store
from rayforest.errors import FormatError
from rayforest.formats import MANIFEST, MANIFEST_PART, Document, Format
from rayforest.process_settings import ARROW_THREADS

_T = TypeVar("_T")
_KEYS = ("key", "totals", "reasons", "summary", "extra", "schema")
_BATCH_ROWS = 16_384
_READ_BYTES = 1 << 20

MANIFEST_PART_SCHEMA = pa.schema(
    [
        pa.field("shard", pa.int64(), nullable=False),
        pa.field("path", pa.string()),
        pa.field("rows_in", pa.int64(), nullable=False),
        pa.field("rows_out", pa.int64(), nullable=False),
        pa.field("rows_quarantined", pa.int64(), nullable=False),
        pa.field("bytes", pa.int64(), nullable=False),
        pa.field("sha256", pa.string(), nullable=False),
        pa.field("quarantine", pa.string()),
        pa.field("sidecar", pa.string()),
    ]
)
"""One row a shard, in input order. Paths are relative to the destination; null where there is no such file."""


@dataclass(frozen=True)
class Manifest:
    """A published version. Its files never change, so a reader that holds a manifest sees one result to the end."""

    store: Store
    base: str
    """Folder of the version in the store."""
    document: Mapping[str, Any] = field(repr=False)

    @property
    def key(self) -> str:
        """Plan key."""
        return str(self.document["key"])

    @property
    def shards(self) -> int:
        return int(self.document["totals"]["shards"])

    @property
    def rows_in(self) -> int:
        return int(self.document["totals"]["rows_in"])

    @property
    def rows_out(self) -> int:
        return int(self.document["totals"]["rows_out"])

    @property
    def rows_quarantined(self) -> int:
        return int(self.document["totals"]["rows_quarantined"])

    @property
    def bytes_out(self) -> int:
        """Of the data files."""
        return int(self.document["totals"]["bytes"])

    @property
    def reasons(self) -> dict[str, int]:
        """Why rows were quarantined, the most frequent first."""
        return dict(self.document["reasons"])

    @property
    def summary(self) -> Mapping[str, Any]:
        """What the publisher says about the result."""
        return dict(self.document["summary"])

    @property
    def extras(self) -> tuple[str, ...]:
        """Names of the extra files."""
        return tuple(self.document["extra"])

    @cached_property
    def schema(self) -> pa.Schema:
        """Of every data file; without fields where the version has none."""
        encoded = self.document["schema"]["arrow"]
        where = self.store.locate(manifest_path(self.base))
        return read_schema(base64.b64decode(encoded), where) if encoded else pa.schema([])

    def extra(self, name: str) -> bytes:
        """An extra file, checked against its hash.

        Raises:
            KeyError: the version has no extra file of that name.
            FormatError: the file is damaged.
        """
        data = self.store.get(f"{self.base}/{name}") if name in self.extras else None
        if data is None:
            raise KeyError(name)
        self._check(name, hashlib.sha256(data).hexdigest(), self.document["extra"][name]["sha256"])
        return data

    def read(self, name: str, form: Format, parse: Callable[[Document], _T]) -> _T:
        """What an extra file of one of our formats stands for; see `Format.read`.

        Raises:
            KeyError: the version has no extra file of that name.
            FormatError: the file is damaged, of another kind, or newer.
        """
        return form.read(self.extra(name), self.store.locate(f"{self.base}/{name}"), parse)

    def data_paths(self) -> Iterator[str]:
        """The data files in input order, relative to the store."""
        return (str(row["path"]) for row in self.rows(["path"]) if row["path"] is not None)

    def quarantine_paths(self) -> Iterator[str]:
        """The quarantine files in input order, relative to the store."""
        return (str(row["quarantine"]) for row in self.rows(["quarantine"]) if row["quarantine"] is not None)

    def files(self) -> Iterator[str]:
        """The data files in input order, as absolute paths or URIs."""
        return map(self.store.locate, self.data_paths())

    def quarantine_files(self) -> Iterator[str]:
        """The quarantine files in input order, as absolute paths or URIs."""
        return map(self.store.locate, self.quarantine_paths())

    def rows(self, columns: list[str] | None = None) -> Iterator[dict[str, Any]]:
        """The manifest's rows, one a shard in input order, with the columns of MANIFEST_PART_SCHEMA."""
        part = self.document["part"]
        if part is None:
            return
        path = f"{self.base}/{part['path']}"
        with self.store.open_read(path) as source:
            digest = hashlib.sha256()
            while chunk := source.read(_READ_BYTES):
                digest.update(chunk)
        self._check(part["path"], digest.hexdigest(), part["sha256"])
        with open_table(self.store, path, MANIFEST_PART, columns or MANIFEST_PART_SCHEMA.names) as file:
            for batch in file.iter_batches(_BATCH_ROWS, columns=columns, use_threads=ARROW_THREADS):
                yield from batch.to_pylist()

    def _check(self, name: str, found: str, expected: str) -> None:
        if found != expected:
            raise FormatError(
                f"{self.store.locate(f'{self.base}/{name}')} is damaged or was changed",
                expected=f"SHA-256 {expected[:16]}...",
                found=f"{found[:16]}...",
                next_step="restore it, or run again into another destination",
            )


def manifest_path(base: str) -> str:
    return f"{base}/manifest.json"


def open_manifest(store: Store, base: str) -> Manifest | None:
    """The manifest of a version, or None before it was published.

    Raises:
        FormatError: it is damaged, of another kind, or newer.
    """
    document = read_document(store, manifest_path(base), MANIFEST, lambda document: document.having(_KEYS))
    return None if document is None else Manifest(store, base, document)

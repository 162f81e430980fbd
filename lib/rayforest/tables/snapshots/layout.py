"""What a snapshot says of its table and of each file, in a form that a plan keeps and a worker reads."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property, lru_cache
from typing import Any

import pyarrow as pa

from rayforest.errors import InputError
from rayforest.kinds import Kind
from rayforest.tables.columnar import kind_of, plain_type
from rayforest.tables.common_type import type_of_text
from rayforest.tables.schema import FileColumn, fault_of_name
from rayforest.tables.snapshots.live_rows import DeletedRows

_FIELD_ID = b"PARQUET:field_id"
"""Key under which Arrow keeps the id of a Parquet column."""


@dataclass(frozen=True)
class TableColumn:
    """A column of a snapshot, as its table calls it today."""

    name: str
    type: str
    """Arrow's name of the type in which it is read; of the table's own type where it is not read."""
    kind: Kind | None
    """None where the column is not read."""
    stored_names: tuple[str, ...]
    """What it may be called in files that know no ids."""
    field_id: int | None = None
    """Its id in files that know ids; None where names alone count."""
    default: str | None = None
    """Text of the value in files that lack the column; None for null."""
    unread: str | None = None
    """Why it is not read, as the end of a sentence."""

    @classmethod
    def of(
        cls,
        column: pa.Field,
        *,
        stored_names: Sequence[str],
        field_id: int | None = None,
        default: pa.Scalar | None = None,
    ) -> TableColumn:
        """The column of an Arrow field; one of a type that is not read keeps its name and says why."""
        kind = kind_of(column)
        unread = None
        if kind is None:
            unread = fault_of_name(column.name) or f"rayforest does not read {str(column.type)[:80]}"
        shown = str(_short_text(plain_type(column.type)) if kind is not None else column.type)
        text = None if default is None or kind is None else text_of(default)
        return cls(column.name, shown, kind, tuple(stored_names), field_id, text, unread)

    @property
    def arrow_type(self) -> pa.DataType:
        """In which it is read."""
        return type_of_text(self.type)


@dataclass(frozen=True)
class Layout:
    """The columns of a snapshot."""

    columns: tuple[TableColumn, ...]

    @cached_property
    def by_name(self) -> dict[str, TableColumn]:
        """Names of a table are different."""
        return {column.name: column for column in self.columns}

    @cached_property
    def goes_by_ids(self) -> bool:
        """Whether files may say by ids which columns they hold."""
        return any(column.field_id is not None for column in self.columns)

    @cached_property
    def names(self) -> dict[str, str]:
        """Column -> what it is called in files, of a table that does not go by ids."""
        return {column.name: column.stored_names[0] for column in self.columns}

    @cached_property
    def digest(self) -> str:
        """Of all that it says."""
        return hashlib.sha256(json.dumps(self.as_dict(), sort_keys=True).encode()).hexdigest()

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    def file_columns(self, far: Iterable[str] = ()) -> tuple[FileColumn, ...]:
        """The same for every file of the snapshot, but for times that nanoseconds do not reach.

        Args:
            far: names of the columns that have such times.
        """
        return _file_columns(self, frozenset(far))

    def places(self, uri: str, stored: pa.Schema) -> dict[str, str]:
        """Column -> what it is called in a file; those that the file lacks are left out.

        Args:
            uri: of the file, for errors.
            stored: its schema, with the ids of its columns.

        Raises:
            InputError: the table goes by ids, and the file has neither ids nor names that the table knows.
        """
        by_id = {int(f.metadata[_FIELD_ID]): f.name for f in stored if f.metadata and _FIELD_ID in f.metadata}
        names, found = set(stored.names), {}
        for column in self.columns:
            if by_id and column.field_id is not None:
                name = by_id.get(column.field_id)
            else:
                name = next((name for name in column.stored_names if name in names), None)
            if name is not None:
                found[column.name] = name
        if not by_id and names and not any(column.stored_names for column in self.columns):
            raise InputError(
                f"{uri} does not say which columns of its table it holds",
                expected="ids of columns, or a table with a name mapping (schema.name-mapping.default)",
                next_step="give the table a name mapping, or write the file's rows anew",
            )
        return found


@lru_cache(maxsize=64)
def _file_columns(layout: Layout, far: frozenset[str]) -> tuple[FileColumn, ...]:
    return tuple(
        FileColumn(column.name, column.kind, column.type, far=column.name in far, unread=column.unread)
        for column in layout.columns
    )


@dataclass(frozen=True)
class Entry:
    """What a snapshot says of one file, and the file does not."""

    values: Mapping[str, str | None] = field(default_factory=dict)
    """Columns whose one value the log holds, such as partitions: name -> text, None for null."""
    deleted: DeletedRows = field(default_factory=DeletedRows)

    def write(self) -> str:
        """As the plan keeps it; never empty."""
        keys: dict[str, Any] = {}
        if self.values:
            keys["values"] = dict(self.values)
        if self.deleted:
            keys["deleted"] = self.deleted.encode()
        return json.dumps(keys, ensure_ascii=False, separators=(",", ":"))

    @classmethod
    @lru_cache(maxsize=64)  # the shards of a large file follow each other
    def read(cls, text: str) -> Entry:
        """What `write` gave."""
        keys = json.loads(text)
        return cls(keys.get("values", {}), DeletedRows.decode(keys["deleted"]) if "deleted" in keys else DeletedRows())


def identity(footer: str, layout: Layout, entry: str) -> str:
    """What identifies the rows of a file in a snapshot: the same file under another schema has other rows."""
    said = hashlib.sha256(layout.digest.encode() + entry.encode())
    return f"{footer}+{said.hexdigest()[:32]}"


def footer_in(identity: str) -> str:
    """The file's own part of its identity."""
    return identity.partition("+")[0]


def text_of(value: pa.Scalar) -> str | None:
    """A value as text that `scalar_of` reads back as the same one."""
    text = value.cast(pa.string()).as_py()
    return None if text is None else str(text)


def scalar_of(text: str | None, kind: pa.DataType) -> pa.Scalar:
    """The value of a text, in an Arrow type."""
    return pa.scalar(text, pa.string()).cast(kind)


def _short_text(kind: pa.DataType) -> pa.DataType:
    """Text of short offsets, as Parquet files give it."""
    return pa.string() if pa.types.is_large_string(kind) else kind

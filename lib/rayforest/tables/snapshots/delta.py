"""A version of a Delta table through deltalake: the log is deltalake's business, the rows are our own reader's.

The protocol: https://github.com/delta-io/delta/blob/master/PROTOCOL.md
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

import numpy as np
import pyarrow as pa

from rayforest.engine.stores.object_uri import ObjectUri, is_object_uri
from rayforest.errors import ConfigError, InputError
from rayforest.tables.batch import TableName
from rayforest.tables.snapshots.layout import Entry, Layout, TableColumn, text_of
from rayforest.tables.snapshots.live_rows import DeletedRows
from rayforest.tables.snapshots.snapshot import DataFile, Snapshot, local_path, snapshot, standard_uri
from rayforest.tables.snapshots.store_access import delta_options, without_addresses

if TYPE_CHECKING:
    from deltalake import DeltaTable

_READ = {
    "columnMapping",
    "deletionVectors",
    "timestampNtz",
    "typeWidening",
    "typeWidening-preview",
    "v2Checkpoint",
    "vacuumProtocolCheck",
    "variantType",  # of a column, which is not read; the others are
    "variantType-preview",
}
"""Reader features that are honoured here or concern the log alone, which deltalake reads."""
_DECORATION = re.compile(r"\x1b\[[0-9;]*m|[\u2190-\u21ff\u2500-\u259f]")
_OWN_PLACE = re.compile(r"\s*\d+: <unknown>")
DELTA_LOG = "_delta_log"
"""The folder in a table's own that holds its log."""
_MAPPING = "delta.columnMapping.mode"


def delta_snapshot(table: TableName) -> Snapshot:
    """The named version of a Delta table, or its newest one.

    Deletion vectors are held in memory, one bit or byte a row of the files that have them.

    Raises:
        InputError: there is no such table or version, it needs a reader feature that is not honoured here, or one of
            its files is not there.
        ConfigError: deltalake is not installed.
    """
    opened = open_delta(table.name, table.snapshot)
    _refuse_unknown_features(table, opened)
    mapping = opened.metadata().configuration.get(_MAPPING, "none")
    layout = Layout(tuple(_column(field, mapping) for field in pa.schema(opened.schema().to_arrow())))
    return snapshot(table, _root(table.name), opened.version(), layout, _data_files(table, opened, layout))


def is_delta(folder: str) -> bool:
    """Whether a path or URI is the folder of a Delta table; not where that cannot be seen.

    Raises:
        ConfigError: a URI that names no bucket, or holds credentials.
    """
    if not is_object_uri(folder):
        return Path(folder, DELTA_LOG).is_dir()
    try:
        return _has_log(ObjectUri.parse(folder))
    except OSError:
        return False


def open_delta(name: str, version: int | None = None) -> DeltaTable:
    """A Delta table by its absolute path or URI.

    Raises:
        InputError: there is none, no such version, or its log cannot be read.
        ConfigError: deltalake is not installed, or the URI carries credentials.
    """
    options, table = delta_options(name), require_deltalake(name)
    with delta_errors(f"{'' if version is None else f'version {version} of '}the Delta table {name}"):
        return table(delta_uri(name), version=version, storage_options=options)


def require_deltalake(name: str) -> type[DeltaTable]:
    """What opens tables.

    Raises:
        ConfigError: deltalake is not installed; names the table that needs it.
    """
    try:
        from deltalake import DeltaTable
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"the Delta table {name} cannot be opened",
            expected="the package deltalake",
            found="it is not installed",
            next_step="pip install 'rayforest[delta]'",
        ) from error
    return DeltaTable


def is_delta_uri(name: str) -> bool:
    """Whether there is a Delta table at an absolute path or URI. Errors: as `open_delta`."""
    table = require_deltalake(name)
    with delta_errors(f"the Delta table {name}"):
        if is_object_uri(name):  # deltalake would hold up all threads until the store answers
            return _has_log(ObjectUri.parse(name))
        path = local_path(name)
        return (path is None or is_delta(path)) and table.is_deltatable(delta_uri(name))


def _has_log(place: ObjectUri) -> bool:
    from rayforest.engine.stores.bucket import bucket_of

    log = f"{place.key}/{DELTA_LOG}".lstrip("/")
    return next(bucket_of(place).walk(log), None) is not None


def delta_uri(name: str) -> str:
    """As deltalake takes it: quoted, because it unquotes what it is given.

    Raises:
        ConfigError: the name has quoted characters of its own, which deltalake unquotes, too.
    """
    if unquote(name) != name:
        raise ConfigError(
            f"the Delta table {name} cannot be opened",
            expected="a name without percent-encoded characters, of which deltalake makes others",
            next_step="give the table's folder another name",
        )
    path = local_path(name)
    if path is not None:
        return Path(path).as_uri()
    if not is_object_uri(name):
        return name
    place = ObjectUri.parse(name)
    return f"{place.scheme}://{place.bucket}/{quote(place.key)}"


@contextmanager
def delta_errors(which: str, verb: str = "read") -> Iterator[None]:
    """Turn what deltalake raises over a table into an InputError."""
    from deltalake.exceptions import DeltaError

    try:
        yield
    except (DeltaError, OSError, ValueError) as error:
        raise InputError(
            f"{which} cannot be {verb}",
            expected="a Delta table whose log is whole",
            found=_reason(error),
            next_step="check its path and version, and that the log's files are there",
        ) from error


def _reason(error: BaseException) -> str:
    """What deltalake says on one line, without its colours, arrows and the places in its own code."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    lines = _DECORATION.sub("", text).splitlines()
    return without_addresses(" ".join(" ".join(line for line in lines if not _OWN_PLACE.match(line)).split()))[:300]


def _refuse_unknown_features(table: TableName, opened: DeltaTable) -> None:
    protocol = opened.protocol()
    features = sorted({str(feature) for feature in protocol.reader_features or ()} - _READ)
    if features or protocol.min_reader_version > 3:
        raise InputError(
            f"the {table} cannot be read",
            expected=f"a table of reader version 3 at most, with features among {', '.join(sorted(_READ))}",
            found=", ".join(features) or f"reader version {protocol.min_reader_version}",
            next_step="drop the feature (ALTER TABLE ... DROP FEATURE), or write the rows to another table",
        )


def _column(field: pa.Field, mapping: str) -> TableColumn:
    metadata = field.metadata or {}
    if mapping == "none":
        return TableColumn.of(field, stored_names=[field.name])
    number = int(metadata[b"delta.columnMapping.id"]) if mapping == "id" else None
    return TableColumn.of(field, stored_names=[metadata[b"delta.columnMapping.physicalName"].decode()], field_id=number)


def _data_files(table: TableName, opened: DeltaTable, layout: Layout) -> Iterator[DataFile]:
    with delta_errors(f"the {table}"):
        actions = pa.table(opened.get_add_actions(flatten=False))
        deleted = _deletion_vectors(opened, _root(table.name))
    partitions = _partition_values(table, actions, layout)
    columns = (actions.column("path").to_pylist(), actions.column("size_bytes").to_pylist())
    for path, size, values in zip(*columns, partitions, strict=True):
        uri = _located(_root(table.name), unquote(path))
        yield DataFile(uri, size, Entry(values, deleted.pop(uri, DeletedRows())))
    if deleted:  # rows that were deleted must not come back because a name was read in two ways
        raise InputError(
            f"the {table} has deletion vectors of files that are not among its own",
            expected="data files that the log names",
            found=sorted(deleted)[0],
            next_step="write the table anew without deletion vectors (REORG TABLE ... APPLY (PURGE))",
        )


def _deletion_vectors(opened: DeltaTable, root: str) -> dict[str, DeletedRows]:
    """Of each data file that has some, by its absolute path or URI."""
    if "deletionVectors" not in (opened.protocol().reader_features or ()):
        return {}
    deleted = {}
    for batch in pa.RecordBatchReader.from_stream(opened.deletion_vectors()):
        for uri, kept in zip(batch.column("filepath").to_pylist(), batch.column("selection_vector"), strict=True):
            # one value a row up to the last deleted one, at least; rows beyond it are kept
            gone = np.flatnonzero(~kept.values.to_numpy(zero_copy_only=False))
            deleted[_below(root, standard_uri(unquote(uri)))] = DeletedRows.of(gone)
    return deleted


def _below(root: str, uri: str) -> str:
    """The same file below the table's folder as it is named, of which deltalake has followed the links."""
    real = os.path.realpath(root)
    return root + uri.removeprefix(real) if uri.startswith(f"{real}/") else uri


def _partition_values(table: TableName, actions: pa.Table, layout: Layout) -> list[dict[str, str | None]]:
    """Of each file, the values of its partition columns, which deltalake has typed by the table's schema."""
    if "partition" not in actions.schema.names:
        return [{}] * actions.num_rows
    values: list[dict[str, str | None]] = [{} for _ in range(actions.num_rows)]
    structs = actions.column("partition").combine_chunks()
    for place in range(structs.type.num_fields):
        name = structs.type.field(place).name
        column = layout.by_name.get(name)
        if column is None:
            raise InputError(
                f"the {table} is partitioned by {name!r}, which its schema does not have",
                next_step="repair the table's metadata",
            )
        if column.unread is None:
            for row, value in zip(values, structs.field(place), strict=True):
                row[name] = text_of(value.cast(column.arrow_type))
    return values


def _root(name: str) -> str:
    return str(ObjectUri.parse(name)) if is_object_uri(name) else (local_path(name) or name).rstrip("/")


def _located(root: str, path: str) -> str:
    """A path of the log, unquoted, as an absolute path or URI: it may be one, or begin at the table's folder."""
    if path.startswith(("/", "file:")) or "://" in path:
        return standard_uri(path)
    return f"{root}/{path}"

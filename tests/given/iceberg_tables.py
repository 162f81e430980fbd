"""Small Iceberg tables in a catalog of their own, with deletes that pyiceberg reads and does not write."""

from __future__ import annotations

import json
import struct
import uuid
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.catalog import Catalog, load_catalog
from pyiceberg.manifest import (
    DataFile,
    DataFileContent,
    FileFormat,
    ManifestContent,
    ManifestEntry,
    ManifestEntryStatus,
    ManifestWriterV2,
    write_manifest_list,
)
from pyiceberg.serializers import ToOutputFile
from pyiceberg.table import Table
from pyiceberg.table.refs import SnapshotRef, SnapshotRefType
from pyiceberg.table.snapshots import Operation, Snapshot, Summary
from pyiceberg.typedef import Record
from pyroaring import BitMap64

from rayforest.tables.batch import Source, TableName


def iceberg(name: str, snapshot: int | None = None, catalog: str | None = None) -> Source:
    return Source((), Path("/"), table=TableName("iceberg", name, snapshot, catalog))


def new_catalog(folder: Path) -> Catalog:
    """A catalog in a file; `PYICEBERG_CATALOG__DEFAULT__...` with `settings_of` makes it the default one."""
    folder.mkdir(parents=True, exist_ok=True)
    catalog = load_catalog("default", **settings_of(folder))
    catalog.create_namespace_if_not_exists("shop")
    return catalog


def settings_of(folder: Path) -> dict[str, str]:
    return {"uri": f"sqlite:///{folder}/catalog.db", "warehouse": f"file://{folder}/warehouse"}


class _DeleteManifest(ManifestWriterV2):
    def content(self) -> ManifestContent:
        return ManifestContent.DELETES

    @property
    def _meta(self) -> dict[str, str]:
        return super()._meta | {"content": "deletes"}


def position_deletes(table: Table, rows: Mapping[str, Sequence[int]]) -> DataFile:
    """A Parquet file that deletes rows of data files."""
    path = f"{table.location()}/data/{uuid.uuid4()}.parquet"
    pairs = sorted((file, row) for file, places in rows.items() for row in places)
    data = pa.BufferOutputStream()
    pq.write_table(pa.table({"file_path": [f for f, _ in pairs], "pos": pa.array([r for _, r in pairs])}), data)
    return _delete_file(path, FileFormat.PARQUET, len(pairs), _write(table, path, data.getvalue().to_pybytes()))


def deletion_vectors(table: Table, rows: Mapping[str, Sequence[int]]) -> DataFile:
    """A Puffin file that does the same; see https://iceberg.apache.org/puffin-spec/."""
    path = f"{table.location()}/data/{uuid.uuid4()}.puffin"
    data, blobs = b"PFA1", []
    for file, places in rows.items():
        vector = struct.pack("<I", 0x6439D3D1) + BitMap64(places).serialize()
        blob = struct.pack(">I", len(vector)) + vector + struct.pack(">I", zlib.crc32(vector))
        told = {"type": "deletion-vector-v1", "fields": [], "snapshot-id": -1, "sequence-number": -1}
        told |= {"offset": len(data), "length": len(blob)}
        blobs.append(told | {"properties": {"referenced-data-file": file, "cardinality": str(len(places))}})
        data += blob
    footer = json.dumps({"blobs": blobs}).encode()
    data += b"PFA1" + footer + struct.pack("<i", len(footer)) + b"\0\0\0\0" + b"PFA1"
    return _delete_file(path, FileFormat.PUFFIN, sum(map(len, rows.values())), _write(table, path, data))


def _write(table: Table, path: str, data: bytes) -> int:
    """A file of the table, wherever it lies; its size."""
    with table.io.new_output(path).create() as file:
        file.write(data)
    return len(data)


def equality_deletes(table: Table) -> DataFile:
    """A file that deletes rows by a value."""
    path = f"{table.location()}/data/equality.parquet"
    local = Path(path.removeprefix("file://"))
    pq.write_table(pa.table({"id": [1]}), local)
    file = _delete_file(path, FileFormat.PARQUET, 1, local.stat().st_size)
    file._data[0], file._data[14] = DataFileContent.EQUALITY_DELETES, [1]
    return file


def imported(table: Table, path: Path, *partition: object) -> DataFile:
    """A data file that another program wrote, of a partition whose values it may not hold itself."""
    rows, size = pq.read_metadata(path).num_rows, path.stat().st_size
    file = _file(DataFileContent.DATA, f"file://{path}", FileFormat.PARQUET, rows, size)
    file._data[3] = Record(*partition)
    return file


def with_deletes(table: Table, *deletes: DataFile) -> str:
    """Path of a metadata file of the table, with one more snapshot that has these delete files."""
    return _with_snapshot(table, deletes, _DeleteManifest)


def with_data(table: Table, *files: DataFile) -> str:
    """The same for data files."""
    return _with_snapshot(table, files, ManifestWriterV2)


def _with_snapshot(table: Table, files: Sequence[DataFile], manifest: type[ManifestWriterV2]) -> str:
    metadata, before = table.metadata, table.current_snapshot()
    number, sequence = (before.snapshot_id + 1, before.sequence_number + 1) if before is not None else (1, 1)
    parent = before.snapshot_id if before is not None else None
    folder = f"{table.location()}/metadata"
    output = table.io.new_output(f"{folder}/{uuid.uuid4()}.avro")
    with manifest(metadata.spec(), table.schema(), output, number, "null") as writer:
        for file in files:
            entry = ManifestEntry.from_args(
                status=ManifestEntryStatus.ADDED,
                snapshot_id=number,
                sequence_number=sequence,
                file_sequence_number=sequence,
                data_file=file,
            )
            writer.add_entry(entry)
    listed = f"{folder}/{uuid.uuid4()}.avro"
    with write_manifest_list(2, table.io.new_output(listed), number, parent, sequence, "null") as lists:
        lists.add_manifests([*(before.manifests(table.io) if before is not None else ()), writer.to_manifest_file()])
    snapshot = Snapshot(
        snapshot_id=number,
        parent_snapshot_id=parent,
        sequence_number=sequence,
        timestamp_ms=metadata.last_updated_ms + 1,
        manifest_list=listed,
        summary=Summary(Operation.DELETE),
        schema_id=metadata.current_schema_id,
    )
    changed = metadata.model_copy(
        update={
            "snapshots": [*metadata.snapshots, snapshot],
            "current_snapshot_id": number,
            "last_sequence_number": sequence,
            "refs": {"main": SnapshotRef(snapshot_id=number, snapshot_ref_type=SnapshotRefType.BRANCH)},
        }
    )
    path = f"{folder}/{uuid.uuid4()}.metadata.json"
    ToOutputFile.table_metadata(changed, table.io.new_output(path))
    return path.removeprefix("file://")


def _delete_file(path: str, form: FileFormat, count: int, size: int) -> DataFile:
    return _file(DataFileContent.POSITION_DELETES, path, form, count, size)


def _file(content: DataFileContent, path: str, form: FileFormat, count: int, size: int) -> DataFile:
    file = DataFile.from_args(
        content=content,
        file_path=path,
        file_format=form,
        partition=Record(),
        record_count=count,
        file_size_in_bytes=size,
    )
    file.spec_id = 0
    return file

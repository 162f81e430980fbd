"""Small Delta tables with what deltalake itself does not write, and snapshots read the way a run reads them."""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq
from pyroaring import BitMap64

from rayforest.engine.shards import InputFile, plan_shards
from rayforest.tables.batch import Source, TableName
from rayforest.tables.reading import find_files, inspect, look, read

_Z85 = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"


@dataclass
class Read:
    """All rows of a snapshot, in the order in which a run reads them."""

    source: Source
    table: pa.Table
    places: list[tuple[str, int]]
    """File and 0-based row in the file, of each row."""
    files: list[InputFile]
    notes: list[str]


def delta(name: str | Path, version: int | None = None) -> Source:
    return Source((), Path("/"), table=TableName("delta", str(name), version))


def read_snapshot(source: Source, names: Sequence[str] | None = None, shard_rows: int = 3) -> Read:
    """Every row of the columns that can be read, or of those that are named; shards are small, to cut files."""
    notes: list[str] = []
    source, listed = find_files(source, notes)
    assert source.layout is not None
    files = [inspect(file, source, shard_rows=shard_rows) for file in listed]
    looks = [look(file, source) for file in listed]
    assert [seen.identity for seen in looks] == [file.identity for file in files]
    if names is None:
        names = [column.name for column in looks[0].columns if column.unread is None]
    tables, places = [], []
    for shard in plan_shards(files, shard_rows=shard_rows, shard_bytes=1 << 30):
        for row_range in shard.ranges:
            count = 0
            for batch in read(row_range, source, names):
                assert not batch.broken
                assert batch.table.column_names == list(names)
                count += len(batch.rows)
                tables.append(batch.table)
                places += [(batch.file, row) for row in batch.rows.tolist()]
            assert count == row_range.rows
    return Read(source, pa.concat_tables(tables), places, files, notes)


def write_log(
    folder: Path,
    schema: Sequence[dict[str, Any]],
    adds: Sequence[dict[str, Any]],
    *,
    removes: Sequence[dict[str, Any]] = (),
    partitions: Sequence[str] = (),
    features: Sequence[str] = (),
    configuration: dict[str, str] | None = None,
    version: int = 0,
) -> None:
    """One commit of a table, as JSON: protocol, metadata and files; `removes` are add actions of earlier ones."""
    reader: dict[str, Any] = {"minReaderVersion": 1, "minWriterVersion": 2}
    if features:
        reader = {"minReaderVersion": 3, "minWriterVersion": 7}
        reader |= {"readerFeatures": list(features), "writerFeatures": list(features)}
    metadata = {
        "id": "00000000-0000-0000-0000-000000000000",
        "format": {"provider": "parquet", "options": {}},
        "schemaString": json.dumps({"type": "struct", "fields": list(schema)}),
        "partitionColumns": list(partitions),
        "configuration": configuration or {},
        "createdTime": 0,
    }
    log = folder / "_delta_log"
    log.mkdir(parents=True, exist_ok=True)
    actions = [{"protocol": reader}, {"metaData": metadata}, *({"add": one} for one in adds)]
    for one in removes:
        kept = {key: one[key] for key in ("path", "deletionVector") if key in one}
        actions.append({"remove": kept | {"deletionTimestamp": 1, "dataChange": True}})
    (log / f"{version:020}.json").write_text("\n".join(map(json.dumps, actions)))


def field(name: str, kind: str, **metadata: object) -> dict[str, Any]:
    """A column of a table's schema."""
    return {"name": name, "type": kind, "nullable": True, "metadata": metadata}


def add(folder: Path, name: str, table: pa.Table, *, row_group_size: int = 4, **more: Any) -> dict[str, Any]:
    """Write a data file, and give its add action; `deleted`: rows that a deletion vector in the log names."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=row_group_size)
    action = {
        "path": quote(name, safe="/="),
        "partitionValues": {},
        "size": path.stat().st_size,
        "modificationTime": 0,
        "dataChange": True,
        "stats": json.dumps({"numRecords": table.num_rows}),
    }
    if deleted := more.pop("deleted", None):
        # https://github.com/delta-io/delta/blob/master/PROTOCOL.md#deletion-vector-format
        payload = struct.pack("<I", 1681511377) + BitMap64(deleted).serialize()
        action["deletionVector"] = {
            "storageType": "i",
            "pathOrInlineDv": _z85(payload),
            "sizeInBytes": len(payload),
            "cardinality": len(deleted),
        }
    return action | more


def _z85(data: bytes) -> str:
    """Four bytes as five characters; see https://rfc.zeromq.org/spec/32/."""
    data += b"\0" * (-len(data) % 4)
    groups = (number for (number,) in struct.iter_unpack(">I", data))
    return "".join(_Z85[number // 85**power % 85] for number in groups for power in (4, 3, 2, 1, 0))

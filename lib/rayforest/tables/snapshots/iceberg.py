"""A snapshot of an Iceberg table through pyiceberg: the catalog and the manifests are its business, the rows are ours.

The format: https://iceberg.apache.org/spec/
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from rayforest.engine.stores.object_uri import refuse_credentials
from rayforest.errors import ConfigError, InputError
from rayforest.process_settings import ARROW_THREADS
from rayforest.tables.batch import TableName
from rayforest.tables.damage import errors_name_the_file
from rayforest.tables.raw_file import RawFile, raw_file
from rayforest.tables.snapshots.layout import Entry, Layout, TableColumn, text_of
from rayforest.tables.snapshots.live_rows import DeletedRows
from rayforest.tables.snapshots.snapshot import DataFile, Snapshot, list_data_files, snapshot, standard_uri
from rayforest.tables.snapshots.store_access import iceberg_properties, without_addresses

if TYPE_CHECKING:
    from pyiceberg.manifest import DataFile as IcebergFile
    from pyiceberg.table import DataScan, FileScanTask, Table

ICEBERG_METADATA = ".metadata.json"
"""How the files in a table's folder `metadata` end that say which snapshots it has."""
_Places = Mapping[str, npt.NDArray[np.int64]]
"""Data file -> rows of it that one delete file names."""


def iceberg_snapshot(table: TableName) -> Snapshot:
    """The named snapshot of an Iceberg table, or its newest one, with the columns that it had then.

    Position deletes and deletion vectors are applied; they are read here, one after the other. Equality deletes are
    refused, as are data files that are not Parquet.

    Raises:
        InputError: there is no such table or snapshot, or it has what is refused, or one of its files is not there.
        ConfigError: pyiceberg is not installed, or no catalog is configured.
    """
    opened = _open(table)
    with _iceberg_errors(table):
        newest = opened.current_snapshot()
        number = table.snapshot if table.snapshot is not None else newest.snapshot_id if newest is not None else None
        if number is None:
            raise ValueError("it has no snapshot: nothing was written to it")
        if opened.snapshot_by_id(number) is None:
            raise ValueError(f"it has no snapshot {number}")
        scan = opened.scan(snapshot_id=number)
        layout = Layout(tuple(_columns(opened, scan)))
        tasks = list(scan.plan_files())
    root = standard_uri(opened.location())
    return snapshot(table, root, number, layout, _data_files(table, opened, root, layout, tasks))


def is_iceberg(folder: str | Path) -> bool:
    """Whether a folder of a file system is an Iceberg table."""
    return any(Path(folder, "metadata").glob(f"*{ICEBERG_METADATA}"))


def _open(table: TableName) -> Table:
    refuse_credentials(table.name)
    try:
        from pyiceberg.catalog import load_catalog
        from pyiceberg.table import StaticTable
        from pyiceberg.utils.config import Config
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"the {table} cannot be read",
            expected="the package pyiceberg",
            found="it is not installed",
            next_step="pip install 'rayforest[iceberg]'",
        ) from error
    with _iceberg_errors(table):
        if table.name.endswith(".json"):
            return StaticTable.from_metadata(table.name, iceberg_properties())
        configured = Config()
        own = configured.get_catalog_config(table.catalog or configured.get_default_catalog_name())
        return load_catalog(table.catalog, **iceberg_properties(own)).load_table(table.name)


@contextmanager
def _iceberg_errors(table: TableName) -> Iterator[None]:
    """Turn what pyiceberg raises into an InputError; its errors have no base of their own."""
    try:
        yield
    except (InputError, ConfigError):
        raise
    except Exception as error:
        reason = without_addresses(" ".join(str(error).split()))[:300]
        raise InputError(
            f"the {table} cannot be read",
            expected="a table that pyiceberg reads, in a catalog that its configuration names",
            found=reason if isinstance(error, ValueError) else f"{type(error).__name__}: {reason}",
            next_step="check its name, its snapshot and the catalog in ~/.pyiceberg.yaml or PYICEBERG_CATALOG__...",
        ) from error


def _columns(table: Table, scan: DataScan) -> Iterator[TableColumn]:
    from pyiceberg.io.pyarrow import schema_to_pyarrow

    mapping = table.name_mapping()
    names = {mapped.field_id: mapped.names for mapped in mapping.root} if mapping is not None else {}
    schema = scan.projection()
    for column, field in zip(schema.fields, schema_to_pyarrow(schema), strict=True):
        default = None if column.initial_default is None else pa.scalar(column.initial_default, field.type)
        yield TableColumn.of(
            field, stored_names=names.get(column.field_id, ()), field_id=column.field_id, default=default
        )


def _data_files(
    table: TableName, opened: Table, root: str, layout: Layout, tasks: list[FileScanTask]
) -> Iterator[DataFile]:
    from pyiceberg.manifest import FileFormat

    deletes: dict[str, _Places] = {}
    for task in tasks:
        file = task.file
        if file.file_format != FileFormat.PARQUET:
            raise _other_format(table, file)
        places = []
        for delete in sorted(task.delete_files, key=lambda delete: delete.file_path):
            if delete.file_path not in deletes:
                deletes[delete.file_path] = _deleted_by(table, root, delete)
            places.append(deletes[delete.file_path].get(file.file_path, np.array([], np.int64)))
        deleted = DeletedRows.of(np.concatenate(places)) if places else DeletedRows()
        uri = standard_uri(file.file_path)
        yield DataFile(uri, file.file_size_in_bytes, Entry(_partition_values(opened, layout, file), deleted))


def _deleted_by(table: TableName, root: str, delete: IcebergFile) -> _Places:
    """What a file of position deletes, or of deletion vectors, says of each data file."""
    from pyiceberg.manifest import FileFormat

    if delete.file_format not in (FileFormat.PARQUET, FileFormat.PUFFIN):
        raise _other_format(table, delete)
    named = DataFile(standard_uri(delete.file_path), delete.file_size_in_bytes, Entry())
    (found,) = list_data_files([named], root, f"the {table}")
    file = raw_file(found)
    with errors_name_the_file(file):
        if delete.file_format == FileFormat.PUFFIN:
            return _deletion_vectors(file)
        rows = pq.read_table(file.open(), columns=["file_path", "pos"], use_threads=ARROW_THREADS)
    files = rows.column("file_path").combine_chunks().dictionary_encode()
    codes, places = files.indices.to_numpy(zero_copy_only=False), rows.column("pos").to_numpy()
    return {name: places[codes == code] for code, name in enumerate(files.dictionary.to_pylist())}


def _deletion_vectors(file: RawFile) -> _Places:
    from pyiceberg.table.deletion_vector import deletion_vectors_from_puffin_file
    from pyiceberg.table.puffin import PuffinFile

    vectors = deletion_vectors_from_puffin_file(PuffinFile(file.begin(file.size)))
    return {vector.referenced_data_file: vector.to_vector().to_numpy() for vector in vectors}


def _other_format(table: TableName, file: IcebergFile) -> InputError:
    return InputError(
        f"{file.file_path}, a file of the {table}, cannot be read",
        expected="files in Parquet",
        found=str(file.file_format.value).lower(),
        next_step="rewrite the table's data files as Parquet",
    )


def _partition_values(opened: Table, layout: Layout, file: IcebergFile) -> dict[str, str | None]:
    """Values of the columns by which a file is partitioned as they are; files that were imported may lack them."""
    from pyiceberg.transforms import IdentityTransform

    by_id = {column.field_id: column for column in layout.columns}
    values = {}
    for place, part in enumerate(opened.specs()[file.spec_id].fields):
        column = by_id.get(part.source_id)
        if column is not None and column.unread is None and isinstance(part.transform, IdentityTransform):
            values[column.name] = text_of(_scalar(file.partition[place], column.arrow_type))
    return values


def _scalar(value: Any, kind: pa.DataType) -> pa.Scalar:
    """A value as a manifest holds it: dates are days and times are microseconds since 1970."""
    if isinstance(value, int) and (pa.types.is_date(kind) or pa.types.is_timestamp(kind)):
        return pa.scalar(value, pa.int32() if pa.types.is_date(kind) else pa.int64()).cast(kind)
    return pa.scalar(value, kind)

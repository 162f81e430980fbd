"""Iceberg tables: the rows of one snapshot, as pyiceberg reads them, or a refusal that says why."""

from __future__ import annotations

import datetime as dt
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from iceberg_tables import (
    deletion_vectors,
    equality_deletes,
    iceberg,
    imported,
    new_catalog,
    position_deletes,
    settings_of,
    with_data,
    with_deletes,
)
from pyiceberg.catalog import Catalog
from pyiceberg.manifest import DataFile
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import StaticTable, Table
from pyiceberg.transforms import BucketTransform, IdentityTransform, MonthTransform
from pyiceberg.types import DateType, DecimalType, DoubleType, IntegerType, LongType, NestedField, StringType
from snapshot_tables import read_snapshot

from rayforest.errors import ConfigError, InputError
from rayforest.tables.batch import Source
from rayforest.tables.reading import find_files, list_files

LETTERS = "abcdefghij"


@pytest.fixture
def catalog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Catalog:
    """The default catalog of this process, as a user configures one."""
    folder = tmp_path / "lake house"
    for key, value in settings_of(folder).items():
        monkeypatch.setenv(f"PYICEBERG_CATALOG__DEFAULT__{key.upper()}", value)
    monkeypatch.setattr("pyiceberg.catalog._ENV_CONFIG", type(_env_config())())
    return new_catalog(folder)


def _env_config() -> object:
    from pyiceberg.catalog import _ENV_CONFIG

    return _ENV_CONFIG


@pytest.fixture
def orders(catalog: Catalog) -> Table:
    """Ten rows, then two."""
    table = catalog.create_table("shop.orders", pa.schema([("id", pa.int64()), ("x", pa.string())]))
    table.append(pa.table({"id": list(range(10)), "x": list(LETTERS)}))
    table.append(pa.table({"id": [10, 11], "x": ["k", None]}))
    return table


def as_rows(table: pa.Table) -> list[dict[str, object]]:
    return sorted(table.to_pylist(), key=lambda row: row["id"])


def first_file(table: Table) -> str:
    return next(task.file.file_path for task in table.scan().plan_files() if task.file.record_count == 10)


def test_the_newest_snapshot_of_a_table_in_a_catalog_is_read_and_named(orders: Table) -> None:
    found = read_snapshot(iceberg("shop.orders"))
    newest = orders.current_snapshot().snapshot_id
    assert as_rows(found.table) == as_rows(orders.scan().to_arrow())
    assert found.notes == [f"the newest snapshot of the Iceberg table shop.orders is {newest}"]
    assert found.source.table.snapshot == newest
    assert all(path.startswith("data/") for path, _ in found.places)


def test_an_older_snapshot_has_the_rows_and_columns_that_it_had(orders: Table) -> None:
    first = orders.history()[0].snapshot_id
    with orders.update_schema() as update:
        update.add_column("later", StringType())
    assert read_snapshot(iceberg("shop.orders", first)).table.column_names == ["id", "x"]
    assert as_rows(read_snapshot(iceberg("shop.orders", first)).table) == [
        {"id": n, "x": letter} for n, letter in enumerate(LETTERS)
    ]


def test_a_metadata_file_is_a_table_without_a_catalog(orders: Table) -> None:
    name = orders.metadata_location.removeprefix("file://")
    assert as_rows(read_snapshot(iceberg(name)).table) == as_rows(orders.scan().to_arrow())


def test_columns_are_found_by_their_ids_whatever_they_were_called(orders: Table) -> None:
    """Renamed, dropped and written anew under the old name, added, and widened."""
    with orders.update_schema() as update:
        update.rename_column("x", "letter")
        update.add_column("small", IntegerType())
        update.add_column("money", DecimalType(6, 2))
    orders.append(
        pa.table({"id": [12], "letter": ["z"], "small": pa.array([7], pa.int32()), "money": [Decimal("1.25")]})
    )
    with orders.update_schema() as update:
        update.add_column("x", DoubleType())
        update.update_column("small", LongType())
        update.update_column("money", DecimalType(10, 2))
    orders.append(
        pa.table(
            {
                "id": [13],
                "letter": ["y"],
                "small": [2**40],
                "money": pa.array([Decimal("99999999.99")], pa.decimal128(10, 2)),
                "x": [0.5],
            }
        )
    )
    found = read_snapshot(iceberg("shop.orders")).table
    assert as_rows(found) == as_rows(orders.scan().to_arrow())
    assert found.schema.field("small").type == pa.int64()
    assert found.schema.field("money").type == pa.decimal128(10, 2)


DELETES = {"position deletes": position_deletes, "deletion vectors": deletion_vectors}


@pytest.mark.parametrize("deletes", DELETES.values(), ids=DELETES)
@pytest.mark.parametrize("rows", [[0], [2, 3, 9], list(range(9))])
def test_deleted_rows_are_left_out_and_the_others_keep_their_places(
    orders: Table, deletes: Callable[..., DataFile], rows: list[int]
) -> None:
    name = with_deletes(orders, deletes(orders, {first_file(orders): rows}))
    found = read_snapshot(iceberg(name))
    left = [n for n in range(10) if n not in rows]
    assert as_rows(found.table) == as_rows(StaticTable.from_metadata(name).scan().to_arrow())
    assert sorted(found.table.column("id").to_pylist()) == [*left, 10, 11]
    assert sorted(row for path, row in found.places if first_file(orders).endswith(path)) == left


def test_deletes_of_several_files_are_applied_together(orders: Table) -> None:
    both = [task.file.file_path for task in orders.scan().plan_files()]
    name = with_deletes(
        orders,
        position_deletes(orders, {both[0]: [1], both[1]: [0]}),
        position_deletes(orders, {both[0]: [0, 1]}),
    )
    found = read_snapshot(iceberg(name))
    assert as_rows(found.table) == as_rows(StaticTable.from_metadata(name).scan().to_arrow())
    assert found.table.num_rows == 12 - 3


def test_equality_deletes_are_refused_by_name(orders: Table) -> None:
    with pytest.raises(InputError) as refused:
        read_snapshot(iceberg(with_deletes(orders, equality_deletes(orders))))
    assert "equality deletes" in refused.value.found


def test_partition_values_stand_in_for_columns_that_imported_files_lack(catalog: Catalog, tmp_path: Path) -> None:
    schema = Schema(
        NestedField(1, "id", LongType()), NestedField(2, "day", DateType()), NestedField(3, "name", StringType())
    )
    spec = PartitionSpec(
        PartitionField(2, 1000, IdentityTransform(), "day"), PartitionField(3, 1001, IdentityTransform(), "name")
    )
    table = catalog.create_table("shop.imported", schema, partition_spec=spec)
    day = dt.date(2026, 1, 31)
    files = [with_id(tmp_path / f"{n}.parquet", n) for n in (1, 2)]
    days = (day - dt.date(1970, 1, 1)).days
    name = with_data(table, imported(table, files[0], days, "a b"), imported(table, files[1], None, None))
    assert as_rows(read_snapshot(iceberg(name)).table) == [
        {"id": 1, "day": day, "name": "a b"},
        {"id": 2, "day": None, "name": None},
    ]


def with_id(path: Path, number: int) -> Path:
    """A file with one row of the column whose id is 1."""
    column = pa.field("id", pa.int64(), metadata={"PARQUET:field_id": "1"})
    pq.write_table(pa.table([[number]], schema=pa.schema([column])), path)
    return path


def test_transforms_of_partitions_are_no_values(catalog: Catalog, tmp_path: Path) -> None:
    schema = Schema(NestedField(1, "id", LongType()), NestedField(2, "day", DateType()))
    spec = PartitionSpec(
        PartitionField(2, 1000, MonthTransform(), "month"), PartitionField(1, 1001, BucketTransform(4), "bucket")
    )
    table = catalog.create_table("shop.months", schema, partition_spec=spec)
    name = with_data(table, imported(table, with_id(tmp_path / "a.parquet", 5), 672, 3))
    found = read_snapshot(iceberg(name))
    assert found.table.to_pylist() == [{"id": 5, "day": None}]
    assert {file.entry for file in found.files} == {"{}"}


def test_files_without_ids_are_read_by_the_name_mapping_and_refused_without_one(orders: Table, tmp_path: Path) -> None:
    plain = tmp_path / "plain.parquet"
    pq.write_table(pa.table({"x": ["p"], "id": [99]}), plain)
    orders.add_files([f"file://{plain}"])
    assert {"id": 99, "x": "p"} in read_snapshot(iceberg("shop.orders")).table.to_pylist()
    with orders.transaction() as transaction:
        transaction.remove_properties("schema.name-mapping.default")
    with pytest.raises(InputError, match="does not say which columns of its table it holds"):
        read_snapshot(iceberg("shop.orders"))


def test_what_is_not_there_is_named(orders: Table) -> None:
    for source, told in (
        (iceberg("shop.nothing"), "NoSuchTableError"),
        (iceberg("shop.orders", 7), "it has no snapshot 7"),
        (iceberg("/nowhere/v1.metadata.json"), "FileNotFoundError"),
        (iceberg("shop.orders", catalog="other"), "PYICEBERG_CATALOG__OTHER__URI"),
    ):
        with pytest.raises(InputError, match=r"the Iceberg table .* cannot be read") as refused:
            find_files(source)
        assert told in refused.value.found


def test_a_table_to_which_nothing_was_written_is_refused(catalog: Catalog) -> None:
    catalog.create_table("shop.empty", pa.schema([("id", pa.int64())]))
    with pytest.raises(InputError) as refused:
        find_files(iceberg("shop.empty"))
    assert refused.value.found == "it has no snapshot: nothing was written to it"


def test_without_pyiceberg_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyiceberg.catalog", None)
    with pytest.raises(ConfigError) as refused:
        find_files(iceberg("shop.orders"))
    assert refused.value.next_step == "pip install 'rayforest[iceberg]'"


def test_a_folder_of_an_iceberg_table_is_no_folder_of_plain_files(orders: Table) -> None:
    folder = Path(orders.location().removeprefix("file://"))
    for pattern in (folder, f"{folder}/data/*.parquet"):
        with pytest.raises(InputError) as refused:
            list_files(Source((str(pattern),), folder))
        assert f"the Iceberg table {folder}" in refused.value.what
        assert orders.metadata_location.removeprefix("file://") in refused.value.next_step

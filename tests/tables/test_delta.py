"""Delta tables: the rows of one version, as deltalake reads them, or a refusal that says why."""

from __future__ import annotations

import datetime as dt
import sys
from collections import Counter
from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake
from deltalake.exceptions import DeltaError
from real_data import needs_shared_data, shared_data
from snapshot_tables import add, delta, field, read_snapshot, write_log

from rayforest.errors import ConfigError, InputError
from rayforest.tables.batch import Source
from rayforest.tables.reading import find_files, inspect, list_files, read

GOLDEN = shared_data() / "delta_golden"
GOLDEN_TABLES = sorted(
    {log.parent for log in GOLDEN.rglob("_delta_log")} | {path for path in GOLDEN.glob("*") if path.is_dir()}
)
ONLY_OURS = {
    "basic-with-vacuum-protocol-check-feature": [{"id": n, "str": f"val={n}"} for n in range(100)],
    "type-widening": None,  # see below
}
"""Tables whose features deltalake's own reader refuses, and rayforest honours."""


def multiset(table: pa.Table) -> Counter[object]:
    """Rows in any order: of large tables their hashes."""
    if table.num_rows > 5_000:
        frame = pl.DataFrame(pl.from_arrow(table)).with_columns(pl.all().cast(pl.String))
        return Counter(frame.hash_rows().to_list())
    return Counter(tuple(map(repr, row.values())) for row in table.to_pylist())


@needs_shared_data
@pytest.mark.parametrize("path", GOLDEN_TABLES, ids=lambda path: str(path.relative_to(GOLDEN)))
def test_golden_tables_give_the_rows_of_deltalake_or_are_refused_as_it_refuses_them(path: Path) -> None:
    name = str(path.relative_to(GOLDEN))
    try:
        oracle = pa.table(DeltaTable(path.as_uri()).scan())
    except (DeltaError, pa.ArrowInvalid):
        oracle = None
    refusal = None
    try:
        found = read_snapshot(delta(path), shard_rows=300_000 if oracle and oracle.num_rows > 5_000 else 3)
    except InputError as error:
        refusal = error
    if refusal is not None:
        assert str(path) in refusal.what
        assert oracle is None or oracle.num_rows == 0
        return
    if name in ONLY_OURS:
        assert oracle is None
        assert ONLY_OURS[name] is None or multiset(found.table) == multiset(pa.Table.from_pylist(ONLY_OURS[name]))
        return
    unread = [column.name for column in found.source.layout.columns if column.unread is not None]
    assert oracle is not None or not found.table.column_names, "what deltalake cannot read is refused"
    if oracle is not None and found.table.column_names:
        assert set(oracle.column_names) == {*found.table.column_names, *unread}
        assert multiset(found.table) == multiset(oracle.select(found.table.column_names))


@needs_shared_data
def test_enough_golden_tables_are_read() -> None:
    """A reader that refuses everything would pass the test above."""
    with_rows = 0
    for path in GOLDEN_TABLES:
        try:
            with_rows += bool(find_files(delta(path))[1])
        except InputError:
            continue
    assert (with_rows, len(GOLDEN_TABLES)) == (85, 115)


@needs_shared_data
def test_columns_whose_type_was_widened_come_in_the_wide_type() -> None:
    first, second = sorted(
        read_snapshot(delta(GOLDEN / "type-widening")).table.to_pylist(), key=lambda r: r["int_long"]
    )
    assert (first["byte_long"], second["byte_long"]) == (1, 2**63 - 1)
    assert (first["int_decimal"], second["int_decimal"]) == (Decimal("3.0"), Decimal("1234567890.1"))
    assert first["float_double"] == 3.4000000953674316
    assert first["date_timestamp_ntz"] == dt.datetime(2024, 9, 9)


# ---- versions, columns, partitions


@pytest.fixture
def grown(tmp_path: Path) -> Path:
    """0: two columns. 1: more rows. 2: a third column. 3: all but the newest rows are gone."""
    table = tmp_path / "grown"
    write_deltalake(table, pa.table({"id": [1, 2], "x": [0.5, 1.5]}))
    write_deltalake(table, pa.table({"id": [3], "x": [2.5]}), mode="append")
    write_deltalake(table, pa.table({"id": [4], "x": [3.5], "more": ["a"]}), mode="append", schema_mode="merge")
    DeltaTable(table).delete("id < 4")
    return table


@pytest.mark.parametrize(("version", "ids"), [(0, [1, 2]), (1, [1, 2, 3]), (2, [1, 2, 3, 4]), (3, [4]), (None, [4])])
def test_a_version_has_the_rows_that_it_had(grown: Path, version: int | None, ids: list[int]) -> None:
    found = read_snapshot(delta(grown, version))
    assert sorted(found.table.column("id").to_pylist()) == ids
    assert found.source.table.snapshot == (3 if version is None else version)
    assert found.notes == ([f"the newest version of the Delta table {grown} is 3"] if version is None else [])


def test_a_column_that_was_added_later_is_null_in_files_that_lack_it(grown: Path) -> None:
    rows = read_snapshot(delta(grown, 2), ["more", "id"]).table.to_pylist()
    assert sorted(rows, key=lambda row: row["id"]) == [
        *({"more": None, "id": n} for n in (1, 2, 3)),
        {"more": "a", "id": 4},
    ]


def test_files_come_in_the_order_of_their_paths_also_after_a_checkpoint(grown: Path) -> None:
    before = read_snapshot(delta(grown, 2))
    table = DeltaTable(grown, version=2)
    table.create_checkpoint()
    after = read_snapshot(delta(grown, 2))
    assert [file.path for file in before.files] == sorted(file.path for file in before.files)
    assert (after.files, after.places) == (before.files, before.places)


PARTITIONED = {
    "day": [dt.date(2026, 1, 31), None, dt.date(1, 1, 1)],
    "number": [-7, 2**53 + 1, None],
    "share": [0.1, -0.0, 1.5e30],
    "whole": [True, False, None],
    "name": ["a/b c%25=ü", "__HIVE_DEFAULT_PARTITION__x", None],
    "money": [Decimal("12.340"), None, Decimal("0.001")],
    "at": [dt.datetime(2026, 1, 1, 12, 0, 0, 1, tzinfo=dt.UTC), None, dt.datetime(1969, 12, 31, tzinfo=dt.UTC)],
}


@pytest.mark.parametrize("by", PARTITIONED)
def test_partition_values_come_from_the_log_in_the_type_of_the_schema(tmp_path: Path, by: str) -> None:
    table = pa.table({"id": [0, 1, 2]} | PARTITIONED)
    write_deltalake(tmp_path / "t", table, partition_by=[by])
    found = read_snapshot(delta(tmp_path / "t"))
    rows = found.table.sort_by("id")
    assert rows.to_pylist() == table.select(rows.column_names).to_pylist()
    assert rows.schema.field(by).type == pa.schema(DeltaTable(tmp_path / "t").schema().to_arrow()).field(by).type


def test_folders_that_look_like_partitions_say_nothing(tmp_path: Path) -> None:
    files = [
        add(tmp_path, f"x=9/y=1/{n}.parquet", pa.table({"id": [n]}), partitionValues={"x": str(n)}) for n in (0, 1)
    ]
    write_log(tmp_path, [field("id", "long"), field("x", "integer")], files, partitions=["x"])
    assert read_snapshot(delta(tmp_path)).table.to_pylist() == [{"id": 0, "x": 0}, {"id": 1, "x": 1}]


def test_column_mapping_follows_names_or_ids_wherever_the_columns_were_before(tmp_path: Path) -> None:
    stored = pa.schema(
        [pa.field(name, pa.int64(), metadata={"PARQUET:field_id": str(n)}) for n, name in ((1, "c1"), (2, "c2"))]
    )
    data = pa.table([[10, 20], [30, 40]], schema=stored)
    for mode, columns, expected in (
        ("name", [("a", "c2", 1), ("b", "c3", 3)], {"a": [30, 40], "b": [None, None]}),
        ("id", [("a", "c2", 1), ("b", "c3", 3)], {"a": [10, 20], "b": [None, None]}),
    ):
        folder = tmp_path / mode
        fields = [
            field(name, "long", **{"delta.columnMapping.id": number, "delta.columnMapping.physicalName": physical})
            for name, physical, number in columns
        ]
        write_log(
            folder,
            fields,
            [add(folder, "f.parquet", data)],
            features=["columnMapping"],
            configuration={"delta.columnMapping.mode": mode, "delta.columnMapping.maxColumnId": "3"},
        )
        assert read_snapshot(delta(folder)).table.to_pydict() == expected


# ---- deletion vectors


@pytest.mark.parametrize("deleted", [[0], [1, 7], [3, 4, 5, 6, 7], [8, 9], list(range(9)), list(range(4, 8))])
@pytest.mark.parametrize("shard_rows", [1, 3, 100])
def test_deleted_rows_are_left_out_and_the_others_keep_their_places(
    tmp_path: Path, deleted: list[int], shard_rows: int
) -> None:
    table = tmp_path / "a b%é"
    name = "p=c d/f é#1.parquet"
    files = [
        add(table, name, pa.table({"id": list(range(10))}), deleted=deleted),
        add(table, "z", pa.table({"id": [99]})),
    ]
    write_log(table, [field("id", "long")], files, features=["deletionVectors"])
    found = read_snapshot(delta(table), shard_rows=shard_rows)
    left = [n for n in range(10) if n not in deleted]
    assert found.table.column("id").to_pylist() == [*left, 99]
    assert found.places == [*((name, n) for n in left), ("z", 0)]


def test_a_file_of_which_every_row_is_deleted_is_read_as_one_without_rows(tmp_path: Path) -> None:
    files = [add(tmp_path, n, pa.table({"id": [1, 2]}), deleted=[0, 1] if n == "a" else None) for n in ("a", "b")]
    write_log(tmp_path, [field("id", "long")], files, features=["deletionVectors"])
    found = read_snapshot(delta(tmp_path))
    assert found.places == [("b", 0), ("b", 1)]
    (tmp_path / "a").write_bytes((tmp_path / "a").read_bytes()[:-9] + b"123456789")
    source, listed = find_files(delta(tmp_path))
    with pytest.raises(InputError, match=r"is not a Parquet file, or was cut off"):
        [inspect(file, source, shard_rows=9) for file in listed]


def test_rows_are_deleted_in_a_table_that_is_reached_by_a_link(tmp_path: Path) -> None:
    files = [add(tmp_path / "there", "f.parquet", pa.table({"id": [1, 2, 3]}), deleted=[1])]
    write_log(tmp_path / "there", [field("id", "long")], files, features=["deletionVectors"])
    (tmp_path / "link").symlink_to(tmp_path / "there")
    found = read_snapshot(delta(tmp_path / "link"))
    assert found.table.column("id").to_pylist() == [1, 3]


def test_a_deletion_makes_another_input_of_the_same_file(tmp_path: Path) -> None:
    data = pa.table({"id": [1, 2, 3]})
    identities, before = [], []
    for version, deleted in enumerate(([0], [1])):
        now = [add(tmp_path, "f.parquet", data, deleted=deleted)]
        write_log(tmp_path, [field("id", "long")], now, removes=before, features=["deletionVectors"], version=version)
        before = now
        identities.append(read_snapshot(delta(tmp_path, version)).files[0].identity)
    write_log(tmp_path, [field("id", "long"), field("new", "string")], [], features=["deletionVectors"], version=2)
    identities.append(read_snapshot(delta(tmp_path, 2)).files[0].identity)
    assert len(set(identities)) == 3, "what a snapshot says of a file is a part of what it is"


def test_a_log_that_names_a_file_twice_is_refused(tmp_path: Path) -> None:
    for version, deleted in enumerate(([0], [1])):
        action = add(tmp_path, "f.parquet", pa.table({"id": [1, 2, 3]}), deleted=deleted)
        write_log(tmp_path, [field("id", "long")], [action], features=["deletionVectors"], version=version)
    with pytest.raises(InputError, match=r"names f\.parquet twice"):
        read_snapshot(delta(tmp_path))


def test_a_deletion_vector_beyond_the_file_is_refused(tmp_path: Path) -> None:
    files = [add(tmp_path, "f.parquet", pa.table({"id": [1, 2]}), deleted=[5], stats='{"numRecords": 9}')]
    write_log(tmp_path, [field("id", "long")], files, features=["deletionVectors"])
    with pytest.raises(InputError, match="has fewer rows than its table has deleted"):
        read_snapshot(delta(tmp_path))


# ---- refusals


def test_features_that_are_not_honoured_are_refused_by_name(tmp_path: Path) -> None:
    files = [add(tmp_path, "f.parquet", pa.table({"id": [1]}))]
    write_log(tmp_path, [field("id", "long")], files, features=["variantShredding-preview"])
    with pytest.raises(InputError) as refused:
        read_snapshot(delta(tmp_path))
    assert refused.value.found == "variantShredding-preview"


def test_a_version_or_table_that_is_not_there_is_named(grown: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"version 99 of the Delta table .*grown cannot be read"):
        read_snapshot(delta(grown, 99))
    with pytest.raises(InputError, match=r"the Delta table .*nowhere cannot be read"):
        read_snapshot(delta(tmp_path / "nowhere"))


def test_a_file_that_was_vacuumed_or_overwritten_is_named(grown: Path) -> None:
    _, listed = find_files(delta(grown, 1))
    victim = Path(listed[0].uri)
    whole = victim.read_bytes()
    victim.write_bytes(whole + b"x")
    with pytest.raises(InputError, match="is not the data file of version 1") as refused:
        find_files(delta(grown, 1))
    assert f"{len(whole):,} bytes" in refused.value.expected
    victim.unlink()
    with pytest.raises(InputError, match="cannot be read") as refused:
        find_files(delta(grown, 1))
    assert victim.name in refused.value.what
    assert "vacuum" in refused.value.next_step


def test_a_file_that_is_replaced_after_planning_is_found(grown: Path) -> None:
    found = read_snapshot(delta(grown, 0))
    file = found.files[0]
    pq.write_table(pa.table({"id": [8, 9], "x": [0.0, 0.0]}), file.uri)
    with pytest.raises(InputError, match="changed during the run"):
        list(read(next(iter(plan(found.files)))[0], found.source, ["id"]))


def plan(files: Iterable[object]) -> Iterable[tuple[object, ...]]:
    from rayforest.engine.shards import plan_shards

    return (shard.ranges for shard in plan_shards(files, shard_rows=9, shard_bytes=1 << 30))


def test_values_that_a_table_cannot_hold_are_refused_and_not_changed(tmp_path: Path) -> None:
    write_log(tmp_path, [field("id", "byte")], [add(tmp_path, "f.parquet", pa.table({"id": [1, 300]}))])
    with pytest.raises(InputError, match="column 'id' is not what its table says"):
        read_snapshot(delta(tmp_path))


def test_nested_columns_are_left_out_and_say_why(tmp_path: Path) -> None:
    write_deltalake(tmp_path / "t", pa.table({"id": [1], "list": [[1, 2]], "bytes": [b"x"]}))
    found = read_snapshot(delta(tmp_path / "t"))
    assert found.table.column_names == ["id"]
    with pytest.raises(InputError, match="column 'list' cannot be read"):
        read_snapshot(delta(tmp_path / "t"), ["list"])


def test_without_deltalake_it_says_what_to_install(grown: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "deltalake", None)
    with pytest.raises(ConfigError) as refused:
        find_files(delta(grown))
    assert refused.value.next_step == "pip install 'rayforest[delta]'"


def test_a_name_of_which_deltalake_makes_another_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be opened") as refused:
        find_files(delta(tmp_path / "a%20b"))
    assert "percent-encoded" in refused.value.expected


@pytest.mark.parametrize("uri", ["s3://KEY:SECRET@bucket/t", "az://c/t?sig=SECRET"])
def test_a_uri_with_a_secret_is_refused_and_not_repeated(uri: str) -> None:
    with pytest.raises(ConfigError) as refused:
        find_files(delta(uri))
    assert "SECRET" not in str(refused.value)


# ---- a table's folder met as plain files


@pytest.mark.parametrize("pattern", ["grown", "grown/*.parquet", "*/*.parquet", "**/*.parquet"])
def test_a_folder_of_a_delta_table_is_no_folder_of_plain_files(grown: Path, pattern: str) -> None:
    with pytest.raises(InputError) as refused:
        list_files(Source((pattern,), grown.parent))
    assert f"the Delta table {grown}" in refused.value.what
    assert refused.value.next_step == f'source = {{ delta = "{grown}" }}'


def test_nor_is_one_of_its_partitions(tmp_path: Path) -> None:
    write_deltalake(tmp_path / "t", pa.table({"id": [1], "day": ["a"]}), partition_by=["day"])
    for pattern in ("t/day=a", "t/day=*"):
        with pytest.raises(InputError, match="reads files of the Delta table"):
            list_files(Source((pattern,), tmp_path))


def test_a_single_file_of_it_is_read_with_a_note(grown: Path) -> None:
    file = sorted(grown.glob("*.parquet"))[0]
    notes: list[str] = []
    assert len(list_files(Source((str(file),), grown), notes)) == 1
    assert notes == [f"{file} is read by itself, whatever the Delta table {grown} says of it"]

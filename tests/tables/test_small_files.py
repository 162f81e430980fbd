"""Many small Parquet files are read at once, and give what each of them gives alone."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from parquet_decoders import by_arrow

from rayforest.engine.shards import RowRange, Shard, plan_shards
from rayforest.errors import InputError
from rayforest.tables.batch import RawBatch, Source
from rayforest.tables.raw_file import raw_file
from rayforest.tables.reading import inspect, list_files, read, read_placed
from rayforest.tables.small_files import SMALL_ROWS, groups_of_small_files
from rayforest.tables.small_files import read_small_files as read_files

COLUMNS = ["f32", "f64", "i8", "i64", "u32", "flag", "text", "large", "day"]


def read_small_files(
    ranges: Sequence[RowRange], columns: Sequence[str], optional: Sequence[str]
) -> list[pa.Table] | None:
    return read_files(ranges, [raw_file(row_range) for row_range in ranges], columns, optional)


def rows(seed: int, count: int) -> pa.Table:
    rng = np.random.default_rng(seed)
    missing = rng.random(count) < 0.2
    numbers = rng.normal(size=count)
    numbers[rng.random(count) < 0.1] = np.nan
    words = [None if i % 7 == 3 else f"wörd {i % 5}" for i in range(count)]
    return pa.table(
        {
            "f32": pa.array(numbers.astype(np.float32), mask=missing),
            "f64": pa.array(np.where(numbers > 1, -0.0, numbers)),
            "i8": pa.array(rng.integers(-128, 128, count), pa.int8()),
            "i64": pa.array(rng.integers(-(2**62), 2**62, count), mask=missing),
            "u32": pa.array(rng.integers(0, 2**32, count), pa.uint32()),
            "flag": pa.array(numbers > 0, mask=missing),
            "text": pa.array(words),
            "large": pa.array(words, pa.large_string()),
            "day": pa.array([dt.date(2026, 1, 1) + dt.timedelta(days=i % 400) for i in range(count)]),
            "when": pa.array([dt.datetime(2026, 1, 1) + dt.timedelta(minutes=i) for i in range(count)]),
        }
    )


def planned(folder: Path) -> tuple[Source, tuple[RowRange, ...]]:
    source = Source(patterns=(str(folder),), base=folder)
    files = [inspect(file, source, shard_rows=1 << 20) for file in list_files(source)]
    shards: list[Shard] = list(plan_shards(files, shard_rows=1 << 20, shard_bytes=1 << 30))
    return source, tuple(row_range for shard in shards for row_range in shard.ranges)


def as_values(batches: list[RawBatch]) -> list[tuple[str, list[int], list[str], list[object]]]:
    return [
        (b.file, b.rows.tolist(), [str(f.type) for f in b.table.schema], [repr(v) for v in b.table.to_pylist()])
        for b in batches
    ]


def assert_read_as_alone(folder: Path, columns: list[str], optional: tuple[str, ...] = ()) -> None:
    source, parts = planned(folder)
    with by_arrow():
        alone = [batch for part in parts for batch in read(part, source, columns, optional=optional)]
    assert as_values([batch for _, batch in read_placed(parts, source, columns, optional=optional)]) == as_values(alone)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number, count in enumerate((300, 1, 4000, 0, 77, SMALL_ROWS + 1, 50, 60)):
        kind = "snappy" if number % 2 else "zstd"
        pq.write_table(rows(number, count), tmp_path / f"{number}.parquet", compression=kind)
    return tmp_path


def test_small_files_are_read_together_and_give_what_each_gives_alone(folder: Path) -> None:
    _, parts = planned(folder)
    assert [len(group) for group in groups_of_small_files(parts)] == [
        3,
        1,
        1,
        1,
        2,
    ]  # the empty and the large one alone
    for group in groups_of_small_files(parts):
        if len(group) > 1:
            assert read_small_files(group, COLUMNS, ()) is not None
    assert_read_as_alone(folder, COLUMNS)
    assert_read_as_alone(folder, ["text", "f32"], optional=("flag", "not there"))


def test_a_run_of_small_files_ends_at_a_batch() -> None:
    parts = [RowRange(str(i), str(i), 1, "", "", 0, SMALL_ROWS, 0, 0) for i in range(20)]
    assert [len(group) for group in groups_of_small_files(parts)] == [8, 8, 4]
    assert list(groups_of_small_files([])) == []


def test_times_without_a_zone_are_read_together(folder: Path) -> None:
    _, parts = planned(folder)
    assert read_small_files(parts[:3], ["i64", "when"], ()) is not None
    assert_read_as_alone(folder, ["i64", "when"])


IN_UNITS = [pa.timestamp(unit) for unit in ("s", "ms", "us", "ns")]


@pytest.mark.parametrize("kind", [*IN_UNITS, pa.timestamp("us", "UTC"), pa.timestamp("us", "Europe/Berlin")], ids=str)
@pytest.mark.parametrize("other", [*IN_UNITS, pa.timestamp("us", "UTC"), "INT96", "no Arrow schema"], ids=str)
def test_times_are_what_each_file_gives_alone(tmp_path: Path, kind: pa.DataType, other: pa.DataType | str) -> None:
    for number in range(3):
        times = [None, *(dt.datetime(2026, 1, 1) + dt.timedelta(seconds=i) for i in range(60))]
        is_other = number == 1
        stored = other if is_other and isinstance(other, pa.DataType) else kind
        table = pa.table({"x": range(61), "when": pa.array(times, pa.timestamp("us")).cast(stored)})
        pq.write_table(
            table,
            tmp_path / f"{number}.parquet",
            use_deprecated_int96_timestamps=is_other and other == "INT96",
            store_schema=not (is_other and other == "no Arrow schema"),
        )
    assert_read_as_alone(tmp_path, ["x", "when"])


def drop_a_column(table: pa.Table) -> pa.Table:
    return table.drop_columns(["flag"])


def change_a_type(table: pa.Table) -> pa.Table:
    return table.set_column(0, "f32", table["f32"].cast(pa.float64()))


def reorder(table: pa.Table) -> pa.Table:
    return table.select(table.column_names[::-1])


def make_an_extension_type(table: pa.Table) -> pa.Table:
    """Equal to the plain schema in all but the field's metadata."""
    named = {"ARROW:extension:name": "somebody.money", "ARROW:extension:metadata": ""}
    return table.cast(table.schema.set(3, table.schema.field(3).with_metadata(named)))


@pytest.mark.parametrize("which", [0, 1])
def test_a_column_of_an_extension_type_is_refused_whatever_was_read_before(tmp_path: Path, which: int) -> None:
    for number in range(2):
        table = rows(number, 100)
        pq.write_table(make_an_extension_type(table) if number == which else table, tmp_path / f"{number}.parquet")
    source, parts = planned(tmp_path)
    assert [batch.table.num_rows for batch in read(parts[1 - which], source, ["i64"])] == [100]
    with pytest.raises(InputError, match=rf"{which}\.parquet: column 'i64' cannot be read"):
        list(read(parts[which], source, ["i64"]))
    with pytest.raises(InputError, match=rf"{which}\.parquet: column 'i64' cannot be read"):
        list(read_placed(parts, source, ["i64"]))


@pytest.mark.parametrize("change", [drop_a_column, change_a_type, reorder])
@pytest.mark.parametrize("which", [0, 1, 2])
def test_files_of_other_schemas_give_what_each_gives_alone(
    tmp_path: Path, change: Callable[[pa.Table], pa.Table], which: int
) -> None:
    for number in range(3):
        table = rows(number, 100)
        pq.write_table(change(table) if number == which else table, tmp_path / f"{number}.parquet")
    assert_read_as_alone(tmp_path, ["f32", "i64", "text"], optional=("flag",))


def test_bytes_that_are_not_utf8_break_their_rows_as_alone(tmp_path: Path) -> None:
    raw = pa.Array.from_buffers(
        pa.string(), 2, [None, pa.array([0, 4, 6], pa.int32()).buffers()[1], pa.py_buffer(b"fine\xff\xfe")]
    )
    for number in range(3):
        text = raw if number == 1 else pa.array(["a", "b"])
        pq.write_table(pa.table({"text": text}), tmp_path / f"{number}.parquet")
    assert_read_as_alone(tmp_path, ["text"])
    source, parts = planned(tmp_path)
    assert [len(batch.broken) for _, batch in read_placed(parts, source, ["text"])] == [0, 1, 0]


def test_a_corrupt_page_among_small_files_is_found_by_its_checksum(tmp_path: Path) -> None:
    for number in range(3):
        table = pa.table({"x": np.arange(1000, dtype=np.float32)})
        options = {"compression": "none", "use_dictionary": False, "write_page_checksum": True}
        pq.write_table(table, tmp_path / f"{number}.parquet", **options)
    victim = tmp_path / "1.parquet"
    data = bytearray(victim.read_bytes())
    data[data.find(np.float32(500).tobytes())] ^= 1
    victim.write_bytes(data)
    source, parts = planned(tmp_path)
    with pytest.raises(InputError, match=r"1\.parquet cannot be read"):
        list(read_placed(parts, source, ["x"]))


def test_a_small_file_that_changed_after_planning_is_refused(folder: Path) -> None:
    source, parts = planned(folder)
    pq.write_table(rows(99, 1), folder / "1.parquet")
    with pytest.raises(InputError, match=r"1\.parquet changed during the run"):
        list(read_placed(parts, source, COLUMNS))


def test_a_damaged_small_file_is_named_by_arrow(folder: Path) -> None:
    source, parts = planned(folder)
    victim = folder / "2.parquet"
    data = bytearray(victim.read_bytes())
    data[4:400] = b"\x00" * 396  # the footer stays
    victim.write_bytes(data)
    with pytest.raises(InputError, match=r"2\.parquet cannot be read"):
        list(read_placed(parts, source, COLUMNS))


def test_slices_of_a_cut_file_are_not_taken_for_whole_files(tmp_path: Path) -> None:
    for number in range(2):
        pq.write_table(rows(number, 500), tmp_path / f"{number}.parquet")
    source, _ = planned(tmp_path)
    files = [inspect(file, source, shard_rows=200) for file in list_files(source)]
    parts = [
        row_range for shard in plan_shards(files, shard_rows=200, shard_bytes=1 << 30) for row_range in shard.ranges
    ]
    assert len(parts) > 2
    starts = [part for part in parts if part.first_row == 0]
    alone = [batch for part in starts for batch in read(part, source, ["i64"])]
    assert as_values([batch for _, batch in read_placed(starts, source, ["i64"])]) == as_values(alone)

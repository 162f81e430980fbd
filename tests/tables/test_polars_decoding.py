"""Row groups that Polars decodes give what Arrow gives of them, and what only Arrow reads is left to it."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from parquet_decoders import by_arrow, groups_by_polars
from test_small_files import COLUMNS, as_values, rows

from rayforest.engine.shards import plan_shards
from rayforest.errors import InputError
from rayforest.tables import polars_decoding
from rayforest.tables.batch import BATCH_ROWS, RawBatch, Source
from rayforest.tables.reading import inspect, list_files, read


def read_file(path: Path, columns: list[str], shard_rows: int = 1 << 20) -> list[RawBatch]:
    source = Source((str(path),), path.parent)
    files = [inspect(file, source, shard_rows=shard_rows) for file in list_files(source)]
    shards = plan_shards(files, shard_rows=shard_rows, shard_bytes=1 << 30)
    return [batch for shard in shards for part in shard.ranges for batch in read(part, source, columns)]


def assert_the_same(path: Path, columns: list[str], polars: list[bool], shard_rows: int = 1 << 20) -> None:
    """Both ways; `polars`: of each row group that is read, whether Polars is to have decoded it."""
    with groups_by_polars() as seen:
        found = read_file(path, columns, shard_rows)
    assert seen == polars
    with by_arrow():
        assert as_values(found) == as_values(read_file(path, columns, shard_rows))


@pytest.mark.parametrize("compression", ["none", "snappy", "zstd", "gzip", "lz4", "brotli"])
@pytest.mark.parametrize("version", ["1.0", "2.0"])
def test_every_type_is_what_arrow_reads(tmp_path: Path, compression: str, version: str) -> None:
    path = tmp_path / "t.parquet"
    options = {"compression": compression, "data_page_version": version, "data_page_size": 1024}
    pq.write_table(rows(1, 5_000), path, row_group_size=2_000, **options)
    assert_the_same(path, [*COLUMNS, "when"], [True, True, True])


@pytest.mark.parametrize("shard_rows", [700, 1_500, 2_000, 9_999])
def test_ranges_that_cut_row_groups_are_what_arrow_reads(tmp_path: Path, shard_rows: int) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(rows(2, 7_000), path, row_group_size=3_000)
    with groups_by_polars() as seen:
        found = read_file(path, COLUMNS, shard_rows)
    assert all(seen)
    assert np.concatenate([batch.rows for batch in found]).tolist() == list(range(7_000))
    assert_the_same(path, COLUMNS, seen, shard_rows)


def test_a_large_row_group_comes_in_batches(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"x": np.arange(2 * BATCH_ROWS + 3, dtype=np.float32)}), path)
    with groups_by_polars() as seen:
        found = read_file(path, ["x"])
    assert seen == [True]
    assert [batch.table.num_rows for batch in found] == [87_383, 87_383, 87_381]
    assert np.array_equal(
        np.concatenate([batch.table["x"].to_numpy() for batch in found]), np.arange(2 * BATCH_ROWS + 3)
    )


def with_a_zone(table: pa.Table) -> pa.Table:
    return table.append_column("extra", pa.array([0] * table.num_rows, pa.timestamp("us", "Europe/Berlin")))


def with_a_decimal(table: pa.Table) -> pa.Table:
    return table.append_column("extra", pa.array([Decimal("1.25")] * table.num_rows, pa.decimal128(9, 2)))


def with_a_dictionary(table: pa.Table) -> pa.Table:
    return table.append_column("extra", table["text"].combine_chunks().dictionary_encode())


@pytest.mark.parametrize("change", [with_a_zone, with_a_decimal])
def test_types_that_the_two_read_in_two_ways_are_left_to_arrow(
    tmp_path: Path, change: Callable[[pa.Table], pa.Table]
) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(change(rows(3, 3_000)), path)
    assert_the_same(path, ["i64", "extra"], [False])


def test_what_polars_decodes_to_another_type_is_left_to_arrow_from_then_on(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(with_a_dictionary(rows(3, 6_000)), path, row_group_size=2_000)
    assert_the_same(path, ["i64", "extra"], [False, False, False])


def test_groups_that_are_small_beside_the_footer_or_too_large_for_memory_are_left_to_arrow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(rows(4, 2_000), path, row_group_size=20)
    assert_the_same(path, ["i64"], [False] * 100)
    pq.write_table(rows(4, 2_000), path)
    assert_the_same(path, ["i64"], [True])
    monkeypatch.setattr(polars_decoding, "_MOST_BYTES", 1_000)
    assert_the_same(path, ["i64"], [False])


def test_bytes_that_are_not_utf8_break_their_rows(tmp_path: Path) -> None:
    offsets = pa.array(range(0, 3_001), pa.int32()).buffers()[1]
    data = bytearray(b"x" * 3_000)
    data[77] = 0xFF
    text = pa.Array.from_buffers(pa.string(), 3_000, [None, offsets, pa.py_buffer(bytes(data))])
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"text": text}), path)
    assert_the_same(path, ["text"], [False])
    assert [row.row for batch in read_file(path, ["text"]) for row in batch.broken] == [77]


@pytest.mark.parametrize("part", ["dictionary", "data"])
def test_a_page_whose_checksum_is_wrong_is_found(tmp_path: Path, part: str) -> None:
    path = tmp_path / "t.parquet"
    table = pa.table({"x": np.arange(5_000, dtype=np.float32) % 7_919})
    options = {"compression": "none", "use_dictionary": part == "dictionary", "write_page_checksum": True}
    pq.write_table(table, path, **options)
    data = bytearray(path.read_bytes())
    data[data.find(np.float32(500).tobytes())] ^= 1
    path.write_bytes(data)
    with groups_by_polars() as seen, pytest.raises(InputError, match=r"t\.parquet cannot be read"):
        read_file(path, ["x"])
    assert seen == [False]


def test_what_both_read_of_a_damaged_file_is_the_same(tmp_path: Path) -> None:
    """Without page checksums neither finds most damage; Arrow refuses a level out of range, which Polars may read."""
    path = tmp_path / "t.parquet"
    pq.write_table(rows(5, 3_000).drop_columns(["day"]), path, compression="snappy")
    columns = [column for column in COLUMNS if column != "day"]  # a damaged one is no date of Python
    whole = path.read_bytes()
    rng = np.random.default_rng(0)

    def outcome() -> list[object] | None:
        try:
            return list(as_values(read_file(path, columns)))
        except InputError:
            return None

    read_by_both = 0
    for place in rng.integers(4, len(whole) - 8, 40).tolist():
        damaged = bytearray(whole)
        damaged[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        found = outcome()
        with by_arrow():
            alone = outcome()
        if alone is not None:
            assert found == alone, place
            read_by_both += 1
    assert read_by_both > 30


def test_a_file_that_is_replaced_while_polars_reads_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(rows(6, 3_000), path)
    decode = polars_decoding.decode

    def replaced(*args: object) -> object:
        pq.write_table(rows(7, 3_000), tmp_path / "new")
        (tmp_path / "new").replace(path)
        return decode(*args)  # type: ignore[arg-type]  # as it was called

    monkeypatch.setattr(polars_decoding, "decode", replaced)
    with pytest.raises(InputError, match=r"t\.parquet changed during the run"):
        read_file(path, COLUMNS)

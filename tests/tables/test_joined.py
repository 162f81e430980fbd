"""Small batches are joined: no row is lost, moved or counted twice, and each keeps its file and its place."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rayforest.engine.shards import RowRange, plan_shards
from rayforest.tables import joined
from rayforest.tables.batch import Source
from rayforest.tables.joined import JoinedBatch, read_joined
from rayforest.tables.reading import inspect, list_files


def planned(source: Source, shard_rows: int = 1 << 20) -> list[RowRange]:
    files = [inspect(file, source, shard_rows=shard_rows) for file in list_files(source)]
    shards = plan_shards(files, shard_rows=shard_rows, shard_bytes=1 << 30)
    return [row_range for shard in shards for row_range in shard.ranges]


def read_of(folder: Path, columns: list[str], **options: tuple[str, ...]) -> list[JoinedBatch]:
    source = Source((str(folder),), folder)
    return list(read_joined(planned(source), source, columns, **options))


def values(batches: list[JoinedBatch]) -> list[tuple[int, str, int, object]]:
    """Position, file, row and value of each row."""
    found = []
    for batch in batches:
        of_rows = [(part.file, row) for part in batch.parts for row in part.rows.tolist()]
        for position, (file, row), value in zip(
            batch.positions.tolist(), of_rows, batch.table["x"].to_pylist(), strict=True
        ):
            found.append((position, file, row, value))
    return found


def write(folder: Path, sizes: list[int], compression: str = "zstd") -> None:
    start = 0
    for number, size in enumerate(sizes):
        table = pa.table({"x": pa.array(range(start, start + size))})
        pq.write_table(table, folder / f"{number:03}.parquet", compression=compression, row_group_size=50)
        start += size


@pytest.mark.parametrize("sizes", [[1], [7] * 30, [3, 400, 3, 0, 90, 120], [250, 250]])
def test_rows_keep_their_order_file_and_place_however_small_the_files_are(
    tmp_path: Path, sizes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(joined, "BATCH_ROWS", 100)
    write(tmp_path, sizes)
    batches = read_of(tmp_path, ["x"])
    expected = [(f"{number:03}.parquet", row) for number, size in enumerate(sizes) for row in range(size)]
    assert values(batches) == [(place, file, row, place) for place, (file, row) in enumerate(expected)]
    assert sum(batch.rows_in for batch in batches) == sum(sizes)
    assert all(batch.table["x"].num_chunks == 1 for batch in batches)


def test_batches_are_as_full_as_may_be_and_no_fuller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joined, "BATCH_ROWS", 100)
    write(tmp_path, [30] * 10)
    assert [batch.table.num_rows for batch in read_of(tmp_path, ["x"])] == [90, 90, 90, 30]


def test_rows_that_could_not_become_values_count_for_the_places_of_the_others(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"{number}.csv").write_text("x,y\n1,a\n2\n3,c\n")
    (batch,) = read_of(tmp_path, ["x"])
    assert values([batch]) == [
        (place, f"{place // 3}.csv", place % 3, str(place % 3 + 1)) for place in range(9) if place % 3 != 1
    ]
    assert (batch.rows_in, batch.has_broken) == (9, True)


def test_a_file_with_another_optional_column_begins_a_batch(tmp_path: Path) -> None:
    for number, table in enumerate(
        [pa.table({"x": [1]}), pa.table({"x": [2], "y": [3]}), pa.table({"x": [4], "y": [5]})]
    ):
        pq.write_table(table, tmp_path / f"{number}.parquet")
    batches = read_of(tmp_path, ["x"], optional=("y",))
    assert [batch.table.to_pylist() for batch in batches] == [[{"x": 1}], [{"x": 2, "y": 3}, {"x": 4, "y": 5}]]


def test_a_part_of_a_file_has_places_from_its_first_row_on(tmp_path: Path) -> None:
    write(tmp_path, [200])
    source = Source((str(tmp_path),), tmp_path)
    second = planned(source, shard_rows=50)[1:3]
    found = values(list(read_joined(second, source, ["x"])))
    assert found == [(place, "000.parquet", place + 50, place + 50) for place in range(100)]

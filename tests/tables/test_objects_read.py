"""Objects are read as files are, in few requests, and only as they were listed."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import obstore
import pyarrow as pa
import pyarrow.csv
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest
from object_servers import bucket_client, put_objects
from parquet_decoders import by_arrow, groups_by_polars
from table_reading import batches

from rayforest.engine.shards import RowRange, plan_shards
from rayforest.engine.stores.bucket import Bucket
from rayforest.engine.stores.object_file import GAP_BYTES
from rayforest.errors import InputError
from rayforest.tables import polars_decoding
from rayforest.tables.batch import RawBatch, Source
from rayforest.tables.reading import inspect_each, list_files, look, read, read_placed

COLUMNS = 12


def table(rows: int, seed: int = 0) -> pa.Table:
    """Twelve columns of noise, which does not compress, and a text."""
    rng = np.random.default_rng(seed)
    noise = {f"x{number:02d}": rng.normal(size=rows) for number in range(COLUMNS)}
    return pa.table(noise | {"text": [f"t{value % 97}" for value in range(rows)]})


def parquet(rows: pa.Table, path: Path) -> None:
    pq.write_table(rows, path, row_group_size=30_000)


def arrow(rows: pa.Table, path: Path) -> None:
    feather.write_feather(rows, path, chunksize=30_000)


def arrow_stream(rows: pa.Table, path: Path) -> None:
    with pa.ipc.new_stream(path, rows.schema) as stream:
        stream.write_table(rows, max_chunksize=30_000)


def text(rows: pa.Table, path: Path) -> None:
    pa.csv.write_csv(rows, path)


def gz(rows: pa.Table, path: Path) -> None:
    sink = pa.BufferOutputStream()
    pa.csv.write_csv(rows, sink)
    path.write_bytes(gzip.compress(sink.getvalue(), 1, mtime=0))


FORMS: dict[str, Callable[[pa.Table, Path], None]] = {
    "parquet": parquet,
    "arrow": arrow,
    "ipc": arrow_stream,
    "csv": text,
    "csv.gz": gz,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of 100,000 rows, some 10 MB, in each form."""
    folder = tmp_path_factory.mktemp("tables")
    for form, write in FORMS.items():
        (folder / form).mkdir()
        write(table(100_000), folder / form / f"t.{form}")
    return folder


def put(uri: str, folder: Path) -> str:
    return put_objects(os.environ["AWS_ENDPOINT_URL"], uri.removeprefix("s3://bucket/"), folder)


def planned(uri: str, shard_rows: int = 1 << 20) -> tuple[Source, list[RowRange]]:
    source = Source((uri,), Path())
    files = inspect_each(list_files(source), source, shard_rows=shard_rows)
    shards = plan_shards(files, shard_rows=shard_rows, shard_bytes=1 << 30)
    return source, [row_range for shard in shards for row_range in shard.ranges]


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, int]]]:
    """(key, bytes) of each GET."""
    made: list[tuple[str, int]] = []
    get = Bucket.get

    def counted(bucket: Bucket, key: str, *args: int, **options: str) -> object:
        answer = get(bucket, key, *args, **options)
        made.append((key, len(answer[0])))
        return answer

    monkeypatch.setattr(Bucket, "get", counted)
    return made


def rows_of(source: Source, names: list[str], shard_rows: int) -> tuple[pa.Table, list[object], int]:
    """All rows, the files' pieces, and the number of ranges."""
    files = list(inspect_each(list_files(source), source, shard_rows=shard_rows))
    found = list(batches(source, names, files, shard_rows))
    assert not any(batch.broken for _, batch in found)
    return pa.concat_tables([batch.table for _, batch in found]), [file.pieces for file in files], found[-1][0]


@pytest.mark.parametrize("form", FORMS)
def test_an_object_gives_the_rows_that_the_file_gives(
    s3: str, folder: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(polars_decoding, "_VALUES_A_COPY", 0)
    uri = put(s3, folder / form)
    names = ["x03", "text", "x11"]
    for shard_rows in (1 << 20, 17_000):
        with by_arrow():
            local = rows_of(Source((str(folder / form),), folder), names, shard_rows)
        with groups_by_polars() as decoded:
            remote = rows_of(Source((uri,), folder), names, shard_rows)
        assert all(decoded)
        assert bool(decoded) == (form == "parquet")
        assert remote == local
    local_look, remote_look = (
        look(list_files(source)[0], source)
        for source in (Source((str(folder / form),), folder), Source((uri,), folder))
    )
    assert (remote_look.columns, remote_look.pieces) == (local_look.columns, local_look.pieces)
    if form == "parquet":
        assert remote_look.identity == local_look.identity


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("when", ["before the first row", "between two batches"])
def test_an_object_that_is_replaced_is_named_and_no_row_of_it_is_read(
    s3: str, folder: Path, tmp_path: Path, form: str, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other object has rows of the same shape; of a text table all was fetched with the first block."""
    monkeypatch.setattr("rayforest.engine.stores.object_file._AHEAD_BYTES", 0)
    uri = put(s3, folder / form)
    source, (row_range, *_) = planned(uri)
    before = list(read(row_range, source, ["x07"]))
    FORMS[form](table(100_000, seed=1), tmp_path / f"t.{form}")
    batches = read(row_range, source, [f"x{number:02d}" for number in range(COLUMNS)])
    found: list[RawBatch | InputError] = [next(batches)] if when == "between two batches" else []
    put(s3, tmp_path)
    found += until_refused(batches)
    if form != "csv" or not isinstance(found[0], RawBatch):
        assert isinstance(refused := found.pop(), InputError)
        assert f"t.{form} changed during the run" in str(refused)
        assert len(found) < len(before)
    assert [batch.table["x07"] for batch in found] == [batch.table["x07"] for batch in before[: len(found)]]


def until_refused(batches: Iterator[RawBatch]) -> Iterator[RawBatch | InputError]:
    try:
        yield from batches
    except InputError as error:
        yield error


@pytest.mark.parametrize("form", FORMS)
def test_an_object_that_is_deleted_is_named(s3: str, folder: Path, form: str) -> None:
    uri = put(s3, folder / form)
    source, ranges = planned(uri)
    obstore.delete(bucket_client(os.environ["AWS_ENDPOINT_URL"]), [uri.removeprefix("s3://bucket/") + f"/t.{form}"])
    with pytest.raises(InputError, match=rf"t\.{form} does not exist any more"):
        list(read(ranges[0], source, ["x00"]))


def test_a_store_that_does_not_answer_is_no_damaged_file(
    s3: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = put(s3, folder / "parquet")
    source, ranges = planned(uri)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    with pytest.raises(InputError, match="cannot be read") as refused:
        list(read(ranges[0], source, ["x00"]))
    assert "403" in refused.value.found
    assert "credentials" in refused.value.next_step


def test_columns_that_lie_together_are_one_request_and_the_footer_is_fetched_once(
    s3: str, folder: Path, requests: list[tuple[str, int]]
) -> None:
    uri = put(s3, folder / "parquet")
    size = (folder / "parquet" / "t.parquet").stat().st_size
    source, ranges = planned(uri)
    assert [at for _, at in requests] == [64 << 10]  # the footer
    requests.clear()
    list(read(ranges[0], source, ["x01", "x02"]))
    assert len(requests) == 4  # one a row group; the footer is known
    assert sum(at for _, at in requests) < size * 2 / COLUMNS
    requests.clear()
    list(read(ranges[0], source, table(1).column_names))
    assert len(requests) == 1
    assert sum(at for _, at in requests) < size


def test_a_small_object_is_one_request_for_its_plan_and_one_for_its_rows(
    s3: str, tmp_path: Path, requests: list[tuple[str, int]]
) -> None:
    for number in range(40):
        pq.write_table(table(2_000, seed=number), tmp_path / f"{number:02d}.parquet")
    uri = put(s3, tmp_path)
    assert all(64 << 10 < file.size < GAP_BYTES for file in list_files(Source((uri,), tmp_path)))
    source, ranges = planned(uri)
    assert [at for _, at in requests] == [64 << 10] * 40
    requests.clear()
    local = Source((str(tmp_path),), tmp_path)
    _, local_ranges = planned(str(tmp_path))
    names = ["x00", "text"]
    assert [batch.table for _, batch in read_placed(ranges, source, names)] == [
        batch.table for _, batch in read_placed(local_ranges, local, names)
    ]
    assert len(requests) == 40


def test_one_small_object_that_was_replaced_is_named_among_many(s3: str, tmp_path: Path) -> None:
    for number in range(5):
        pq.write_table(table(500, seed=number), tmp_path / f"{number}.parquet")
    uri = put(s3, tmp_path)
    source, ranges = planned(uri)
    pq.write_table(table(500, seed=99), tmp_path / "3.parquet")
    put(s3, tmp_path)
    with pytest.raises(InputError, match=r"3\.parquet changed during the run"):
        list(read_placed(ranges, source, ["x00"]))

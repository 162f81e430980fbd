"""Sources: which files they are made of, how these are identified, and rows of all formats alike."""

from __future__ import annotations

import datetime as dt
import decimal
import json
import os
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest
from real_data import needs_shared_data, shared_data
from table_reading import csv_source, read_all, read_or_refuse

from rayforest.engine.shards import RowRange, plan_shards
from rayforest.errors import InputError
from rayforest.kinds import Kind
from rayforest.tables.reading import (
    CsvFormat,
    FileFormat,
    Source,
    columns,
    inspect,
    list_files,
    look,
    read,
    unsupported_columns,
)
from rayforest.tables.schema import TableSchema


def write(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".parquet":
            pq.write_table(pa.table({"a": [len(name)]}), path)
        else:
            path.write_text("a\n1\n")


def listed(folder: Path, *patterns: str, **options: object) -> list[str]:
    return [file.path for file in list_files(Source(patterns, folder, **options))]  # type: ignore[arg-type]


def table_of(source: Source) -> TableSchema:
    looks = [(file.path, look(file, source)) for file in list_files(source)]
    return TableSchema.of((path, seen.has_rows, seen.columns) for path, seen in looks)


# ---- which files


def test_a_folder_gives_its_data_files_in_byte_order(tmp_path: Path) -> None:
    write(tmp_path, "d/b.csv", "d/a.csv", "d/B.csv", "d/sub/c.parquet", "d/ä.csv", "d/README.md", "d/notes.json")
    assert listed(tmp_path, "d") == ["B.csv", "a.csv", "b.csv", "sub/c.parquet", "ä.csv"]
    assert listed(tmp_path, "d", format="parquet") == ["sub/c.parquet"]


def test_a_folder_of_files_without_endings_needs_a_format(tmp_path: Path) -> None:
    write(tmp_path, "d/part-0", "d/part-1", "d/_SUCCESS", "d/.part-0.crc")
    assert listed(tmp_path, "d", format="csv") == ["part-0", "part-1"]
    assert listed(tmp_path, "d", csv=CsvFormat()) == ["part-0", "part-1"]
    with pytest.raises(InputError, match="has no data files"):
        listed(tmp_path, "d")


def test_patterns_keep_their_order_and_no_file_comes_twice(tmp_path: Path) -> None:
    write(tmp_path, "d/a.csv", "d/b.csv", "d/c.csv")
    (tmp_path / "d" / "link.csv").symlink_to(tmp_path / "d" / "a.csv")
    assert listed(tmp_path, "d/c.csv", "d/*.csv", str(tmp_path / "d" / "b.csv")) == ["c.csv", "a.csv", "b.csv"]


def test_hidden_files_are_left_out_unless_a_pattern_names_them(tmp_path: Path) -> None:
    write(tmp_path, "d/a.csv", "d/_b.csv", "d/.c.csv", "d/_temporary/d.csv", "d/.git/e.csv", "d/_SUCCESS")
    assert listed(tmp_path, "d") == ["a.csv"]
    assert listed(tmp_path, "d/**/*.csv") == ["a.csv"]
    assert listed(tmp_path, "d/_*.csv") == ["_b.csv"]
    assert listed(tmp_path, "d/_temporary/d.csv") == ["d.csv"]


def test_a_name_with_glob_characters_that_exists_is_a_name(tmp_path: Path) -> None:
    write(tmp_path, "d/[a].csv", "d/a.csv")
    assert listed(tmp_path, "d/[a].csv") == ["[a].csv"]
    assert listed(tmp_path, "d/[ab].csv") == ["a.csv"]


def test_paths_are_relative_to_the_fixed_part_so_that_the_folder_may_move(tmp_path: Path) -> None:
    for place in ("x", "y"):
        write(tmp_path, f"{place}/2024/01/a.csv", f"{place}/2024/02/a.csv")
        assert listed(tmp_path, f"{place}/*/*/*.csv") == ["2024/01/a.csv", "2024/02/a.csv"]
        assert listed(tmp_path, f"{place}/2024/*/*.csv") == ["01/a.csv", "02/a.csv"]


def test_files_of_the_same_relative_path_are_told_apart(tmp_path: Path) -> None:
    write(tmp_path, "x/2024/a.csv", "y/2024/a.csv", "y/2024/b.csv")
    assert listed(tmp_path, "x/2024", "y/2024") == ["x/2024/a.csv", "y/2024/a.csv", "b.csv"]


def test_what_is_not_there_is_named_with_the_nearest_name(tmp_path: Path) -> None:
    write(tmp_path, "raw/flights.csv")
    with pytest.raises(InputError, match=r"'raw/flihgts.csv' does not exist(.|\n)*did you mean 'flights.csv'"):
        listed(tmp_path, "raw/flihgts.csv")
    with pytest.raises(InputError, match=r"'rwa/\*.csv' does not exist(.|\n)*did you mean 'raw'"):
        listed(tmp_path, "rwa/*.csv")
    with pytest.raises(InputError, match=r"no file matches 'raw/\*.parquet'(.|\n)*found: +flights.csv"):
        listed(tmp_path, "raw/*.parquet")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"folder 'empty' has no data files(.|\n)*an empty folder"):
        listed(tmp_path, "empty")


def test_a_dangling_link_and_an_unknown_ending_are_refused(tmp_path: Path) -> None:
    write(tmp_path, "d/table.xyz", "e/a.csv")
    (tmp_path / "e" / "b.csv").symlink_to(tmp_path / "nowhere.csv")
    with pytest.raises(InputError, match=r"format of .*table\.xyz is not known"):
        listed(tmp_path, "d/*")
    assert listed(tmp_path, "d/*", csv=CsvFormat()) == ["table.xyz"]
    with pytest.raises(InputError, match=r"b\.csv cannot be read"):
        listed(tmp_path, "e/*.csv")


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("a.pq", "parquet"),
        ("a.PARQUET", "parquet"),
        ("a.tsv.gz", "csv"),
        ("a.data", "csv"),
        ("a.txt.zst", "csv"),
        ("a.feather", "arrow"),
    ],
)
def test_endings_tell_formats(tmp_path: Path, name: str, form: FileFormat) -> None:
    (tmp_path / name).write_bytes(b"")
    (file,) = list_files(Source((name,), tmp_path))
    assert (file.format, file.size, file.stamp) == (form, 0, str((tmp_path / name).stat().st_mtime_ns))


def test_tsv_files_are_cut_at_tabs_by_default(tmp_path: Path) -> None:
    assert list(read_all(csv_source(tmp_path, b"a\tb\n1\t2,3\n", name="t.tsv")).values.values()) == [("1", "2,3")]


# ---- hive folders


def test_hive_folders_are_columns_from_wherever_the_pattern_begins(tmp_path: Path) -> None:
    write(tmp_path, "d/year=2024/city=K%C3%B6ln/a.csv", "d/year=2025/city=__HIVE_DEFAULT_PARTITION__/a.csv")
    source = Source(("d",), tmp_path)
    assert columns(list_files(source)[0], source) == {"a": Kind.NUMBER, "year": Kind.NUMBER, "city": Kind.STRING}
    assert list(read_all(source, ["city", "a", "year"]).values.values()) == [("Köln", "1", "2024"), (None, "1", "2025")]
    assert list(read_all(source, ["year"]).values.values()) == [("2024",), ("2025",)]
    one = Source(("d/year=2025/*/*.csv",), tmp_path)
    assert listed(tmp_path, "d/year=2025/*/*.csv") == ["year=2025/city=__HIVE_DEFAULT_PARTITION__/a.csv"]
    assert list(read_all(one, ["year"]).values.values()) == [("2025",)]


def test_hive_folders_work_for_parquet_too(tmp_path: Path) -> None:
    write(tmp_path, "d/day=01/x.parquet", "d/day=02/xy.parquet")
    source = Source(("d",), tmp_path)
    assert list(read_all(source, ["day", "a"]).values.values()) == [("01", 18), ("02", 19)]
    assert [table_of(source).stored_type(name, None) for name in ("day", "a")] == [pa.string(), pa.int64()]


# ---- typed files

TYPED = pa.table(
    {
        "whole": pa.array([1, None, 3, 4, 5, 6], pa.int16()),
        "real": pa.array([0.5, float("nan"), None, 1, 2, 3], pa.float32()),
        "money": pa.array(
            [decimal.Decimal("1.10"), None, *map(decimal.Decimal, ("2.20", "3.30", "4.40", "5.50"))],
            pa.decimal128(9, 2),
        ),
        "flag": [True, False, None, True, False, True],
        "word": ["a", "", None, "d", "ü", "f"],
        "label": pa.array(["x", "y", "x", None, "y", "x"]).dictionary_encode(),
        "view": pa.array(["v", None, "long enough to lie outside the view", "", "e", "f"], pa.string_view()),
        "when": pa.array(
            [dt.datetime(2024, 1, 31, 10), None, *[dt.datetime(1970, 1, 1)] * 4], pa.timestamp("ms", tz="UTC")
        ),
        "day": pa.array([dt.date(2024, 1, 31), None, *[dt.date(1970, 1, 1)] * 4]),
        "nothing": pa.nulls(6),
        "list": [[1], [], None, [2], [3], [4]],
        "struct": [{"a": 1}] * 6,
        "bytes": [b"\xff"] * 6,
        "noon": pa.array([dt.time(12)] * 6),
        "uuid": pa.ExtensionArray.from_storage(pa.uuid(), pa.array([b"0123456789abcdef"] * 6, pa.binary(16))),
    }
)
READABLE = TYPED.column_names[:10]


def typed_source(folder: Path, form: str) -> Source:
    path = folder / f"table.{form}"
    if form == "parquet":
        pq.write_table(TYPED, path, row_group_size=4)
    elif form == "feather":
        feather.write_feather(TYPED, path, compression="zstd", chunksize=4)
    else:
        writer = pa.ipc.new_stream if form == "ipc" else pa.ipc.new_file
        with writer(path, TYPED.schema) as file:
            file.write_table(TYPED, max_chunksize=4)
    return Source((path.name,), folder)


@pytest.mark.parametrize("form", ["parquet", "arrow", "feather", "ipc"])
def test_typed_files_give_their_values_as_stored_whatever_the_slicing(tmp_path: Path, form: str) -> None:
    source = typed_source(tmp_path, form)
    expected = [tuple(row.values()) for row in TYPED.select(READABLE).to_pylist()]
    for shard_rows in (1, 2, 3, 100):
        found = read_all(source, shard_rows=shard_rows)
        assert [p.rows for p in found.files[0].pieces] == [4, 2]
        assert repr(list(found.values.values())) == repr(expected)  # repr, for NaN
    assert found.ranges == 1
    assert list(read_all(source, ["word", "whole"], 2).values.values())[2:4] == [(None, 3), ("d", 4)]


@pytest.mark.parametrize("form", ["parquet", "arrow"])
def test_stored_types_become_kinds_and_other_types_are_told(tmp_path: Path, form: str) -> None:
    source = typed_source(tmp_path, form)
    (file,) = list_files(source)
    number, string, time_ = Kind.NUMBER, Kind.STRING, Kind.TIMESTAMP
    assert columns(file, source) == dict(
        zip(READABLE, [number, number, number, Kind.BOOLEAN, string, string, string, time_, time_, string], strict=True)
    )
    assert list(unsupported_columns(file, source)) == ["list", "struct", "bytes", "noon", "uuid"]
    table = next(
        read(
            next(plan_shards([inspect(file, source, shard_rows=9)], shard_rows=9, shard_bytes=9**9)).ranges[0],
            source,
            READABLE,
        )
    ).table
    assert table.schema.types == [table_of(source).stored_type(name, None) for name in READABLE]
    assert table.schema.field("label").type == pa.string()
    for name in ("list", "uuid"):
        with pytest.raises(InputError, match=f"column '{name}' cannot be read"):
            read_all(source, [name])


def test_columns_of_extension_types_that_nobody_registered_are_left_out(tmp_path: Path) -> None:
    field = pa.field(
        "x", pa.int64(), metadata={"ARROW:extension:name": "ray.data.unknown", "ARROW:extension:metadata": "cPickle"}
    )
    pq.write_table(
        pa.table([pa.array([1]), pa.array([2])], schema=pa.schema([field, pa.field("y", pa.int64())])),
        tmp_path / "t.parquet",
    )
    source = Source(("t.parquet",), tmp_path)
    (file,) = list_files(source)
    assert list(columns(file, source)) == ["y"]
    assert unsupported_columns(file, source) == {"x": "int64"}


def test_raw_text_of_typed_rows_is_a_json_object_of_the_asked_values(tmp_path: Path) -> None:
    found = read_all(typed_source(tmp_path, "parquet"), ["whole", "word", "money", "when"])
    assert json.loads(found.raw["table.parquet", 0]) == {
        "whole": 1,
        "word": "a",
        "money": "1.10",
        "when": "2024-01-31 10:00:00.000",
    }


def test_parquet_text_that_is_not_utf8_breaks_its_row(tmp_path: Path) -> None:
    texts = pa.array([b"fine", b"\xff\xfe", b"too"], pa.binary())
    wrong = pa.Array.from_buffers(pa.string(), 3, texts.buffers())
    pq.write_table(pa.table({"t": wrong, "n": [1, 2, 3]}), tmp_path / "t.parquet")
    found = read_all(Source(("t.parquet",), tmp_path))
    assert list(found.values.values()) == [("fine", 1), ("too", 3)]
    (broken,) = found.broken.values()
    assert (broken.row, broken.reason) == (1, "t holds bytes that are not utf-8")
    assert json.loads(broken.raw) == {"t": "\\xff\\xfe", "n": 2}


def test_parquet_reads_only_the_asked_columns_in_bounded_batches(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": np.arange(300_000), "b": np.zeros(300_000)}), tmp_path / "t.parquet")
    source = Source(("t.parquet",), tmp_path)
    (file,) = list_files(source)
    part = RowRange(
        file.path, file.uri, file.size, file.stamp, inspect(file, source, shard_rows=1).identity, 100_000, 150_000, 0, 0
    )
    found = list(read(part, source, ["a"]))
    assert all(batch.table.num_rows <= 131_072 and batch.table.column_names == ["a"] for batch in found)
    assert np.array_equal(np.concatenate([batch.table["a"].to_numpy() for batch in found]), np.arange(100_000, 250_000))
    assert np.array_equal(np.concatenate([batch.rows for batch in found]), np.arange(100_000, 250_000))
    assert sum(len(batch.rows) for batch in read(part, source, [])) == 150_000


# ---- identity


def test_a_copied_parquet_file_keeps_its_identity_and_changed_contents_lose_it(tmp_path: Path) -> None:
    def identity(name: str) -> str:
        source = Source((name,), tmp_path)
        return inspect(list_files(source)[0], source, shard_rows=10).identity

    write(tmp_path, "a.parquet")
    (tmp_path / "b.parquet").write_bytes((tmp_path / "a.parquet").read_bytes())
    os.utime(tmp_path / "b.parquet", (1, 1))
    assert identity("a.parquet") == identity("b.parquet")
    pq.write_table(pa.table({"a": [0]}), tmp_path / "b.parquet")
    assert identity("a.parquet") != identity("b.parquet")


@pytest.mark.parametrize("name", ["t.csv", "t.parquet", "t.arrow"])
def test_a_file_that_changes_after_planning_is_refused(tmp_path: Path, name: str) -> None:
    def put(value: int) -> None:
        table = pa.table({"a": [value, value]})
        if name == "t.csv":
            (tmp_path / name).write_text(f"a\n{value}\n{value}\n")
        elif name == "t.parquet":
            pq.write_table(table, tmp_path / name)
        else:
            with pa.ipc.new_file(tmp_path / name, table.schema) as file:
                file.write_table(table)

    put(1)
    source = Source((name,), tmp_path)
    ((part,),) = [
        s.ranges
        for s in plan_shards([inspect(list_files(source)[0], source, shard_rows=9)], shard_rows=9, shard_bytes=9**9)
    ]
    assert sum(len(batch.rows) for batch in read(part, source, ["a"])) == 2
    time.sleep(0.01)  # a file system's clock may be coarse
    put(2)
    with pytest.raises(InputError, match="changed during the run"):
        list(read(part, source, ["a"]))
    (tmp_path / name).unlink()
    with pytest.raises(InputError, match="any more"):
        list(read(part, source, ["a"]))


# ---- damage


@pytest.mark.parametrize("form", ["parquet", "arrow", "ipc"])
def test_damaged_files_are_input_errors_that_name_the_file(tmp_path: Path, form: str) -> None:
    """Truncated anywhere, or with any one byte flipped: values or an InputError, never another exception."""
    source = typed_source(tmp_path, form)
    path = tmp_path / source.patterns[0]
    whole = path.read_bytes()
    refused = 0
    for at in range(0, len(whole), max(1, len(whole) // 150)):
        for damaged in (whole[:at], whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :]):
            path.write_bytes(damaged)
            outcome = read_or_refuse(source, READABLE)
            if isinstance(outcome, InputError):
                assert path.name in str(outcome)
                refused += 1
    assert refused > 150


@pytest.mark.parametrize("name", ["t.parquet", "t.arrow"])
@pytest.mark.parametrize("data", [b"", b"PAR1", b"a,b\n1,2\n" * 100])
def test_other_files_under_a_typed_ending_are_refused(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    source = Source((name,), tmp_path)
    with pytest.raises(InputError, match=name):
        inspect(list_files(source)[0], source, shard_rows=10)


def test_a_corrupt_page_is_found_by_its_checksum(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(
        pa.table({"a": np.arange(1000)}), path, compression="none", use_dictionary=False, write_page_checksum=True
    )
    data = bytearray(path.read_bytes())
    data[data.index(np.arange(500, 510).tobytes())] ^= 1  # a value, which no decoder can doubt
    path.write_bytes(data)
    with pytest.raises(InputError, match="CRC checksum"):
        read_all(Source(("t.parquet",), tmp_path))


# ---- public data


@needs_shared_data
def test_flights_are_the_same_as_csv_and_as_parquet() -> None:
    folder = shared_data() / "hflights"
    text = read_all(Source(("hflights.csv",), folder, csv=CsvFormat(null_words=("NA",))), shard_rows=60_000)
    typed = read_all(Source(("hflights.parquet",), folder), shard_rows=60_000)
    assert text.ranges > 1
    assert typed.count == text.count == 227_496
    for row in range(0, typed.count, 97):
        expected = tuple(None if v in (None, "") else str(v) for v in typed.values["hflights.parquet", row])
        assert text.values["hflights.csv", row] == expected


@needs_shared_data
@pytest.mark.parametrize(
    ("pattern", "form", "rows"),
    [
        ("adult/adult.data", CsvFormat(header=False, trim=True, null_words=("?",)), 32_561),
        ("adult/adult.test", CsvFormat(header=False, trim=True, null_words=("?",), skip_lines=1), 16_281),
        ("bank_marketing/*.csv", CsvFormat(delimiter=";", null_words=("unknown",)), 41_188),
        ("beijing_air", CsvFormat(null_words=("NA",)), 420_768),
        ("diabetes130/diabetic_data.csv", CsvFormat(null_words=("?",)), 101_766),
        ("credit_taiwan", None, 30_000),
    ],
)
def test_public_tables_come_out_whole(pattern: str, form: CsvFormat | None, rows: int) -> None:
    source = Source((pattern,), shared_data(), csv=form)
    files = list_files(source)
    names = list(columns(files[0], source))
    inspected = [inspect(file, source, shard_rows=50_000) for file in files]
    found = 0
    for shard in plan_shards(inspected, shard_rows=50_000, shard_bytes=1 << 30):
        for part in shard.ranges:
            for batch in read(part, source, names):
                assert not batch.broken
                found += batch.table.num_rows
    assert found == rows


@needs_shared_data
def test_odd_and_bad_parquet_files_end_in_rows_or_in_an_input_error() -> None:
    folder = shared_data() / "parquet_testing"
    expected: dict[str, str] = json.loads((folder / "expected_pyarrow.json").read_text())
    seen = 0
    for path in sorted(folder.rglob("*.parquet")):
        alone = expected.get(f"parquet_testing/{path.relative_to(folder)}", "")
        found = read_or_refuse(Source((str(path),), folder))
        if isinstance(found, InputError):
            assert path.name in str(found)
            assert alone.startswith("ERR") or "checksum" in str(found)
        elif alone.startswith("OK"):
            assert found.count == int(alone.split()[1]), path.name
            seen += 1
    assert seen > 55


@needs_shared_data
def test_odd_and_bad_text_tables_end_in_rows_or_in_an_input_error() -> None:
    for path in sorted((shared_data() / "csvkit_examples").rglob("*sv*")):
        source = Source((str(path),), path.parent)
        found = read_or_refuse(source)
        if isinstance(found, InputError):
            assert path.name in str(found)
            assert path.stem in ("empty", "test_utf16_big", "test_utf16_little")
            continue
        assert found.count >= 1 or path.stem.startswith("no_header")
        assert (len(found.broken) > 0) == any(
            word in path.stem
            for word in ("bad", "short", "extra", "long_row", "latin1", "null_byte", "test_empty_columns")
        ) or path.stem == "join_short"

"""Values, zones, names and metadata that are unusual: a row fails by name, a file is not refused for one of them."""

from __future__ import annotations

import datetime as dt
import json
from decimal import Decimal
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from unlike_files import PROJECT, project, scored, write

import rayforest
from rayforest.errors import ConfigError


@pytest.mark.parametrize("form", ["parquet", "csv"])
def test_categories_of_integers_that_differ_by_one_never_become_one(tmp_path: Path, form: str) -> None:
    codes = [2**53 + i for i in range(40)]
    write(tmp_path, "a.parquet", id=range(40), code=codes)
    if form == "csv":
        pl.read_parquet(tmp_path / "raw/a.parquet").write_csv(tmp_path / "raw/a.csv")
        (tmp_path / "raw/a.parquet").unlink()
    path = project(tmp_path, PROJECT.replace('x = "x"', 'x = "x"\ncode = "code"\ncategorical = ["code"]'))
    steps = rayforest.run(path).steps
    for step in (steps[0], steps[-1]):
        assert step.reasons == {"code is an integer beyond 2^53 that a number does not hold": 20}
    prepared = rayforest.read(tmp_path / "out/prepared").collect()
    assert prepared["code"].n_unique() == 20 == prepared.height


def test_long_integers_are_categories_as_text_where_the_project_says_so(tmp_path: Path) -> None:
    write(tmp_path, "a.parquet", id=range(40), code=[2**53 + i for i in range(40)])
    path = project(tmp_path, PROJECT.replace('x = "x"', 'x = "x"\ncode = "code"'), **{"data.columns": 'code="string"'})
    assert scored(tmp_path).height == 40
    prepared = rayforest.read(path.parent / "out/prepared").collect()
    assert prepared["code"].to_list() == [str(2**53 + i) for i in range(40)]


@pytest.mark.parametrize("zone", ["+05:30", "-03:00", "Etc/Unknown", "UTC+3", "Z", "America/New_York", "UTC"])
def test_times_of_any_zone_are_instants_from_reading_to_quarantine(tmp_path: Path, zone: str) -> None:
    base = dt.datetime(2024, 11, 3, 4, 30, tzinfo=dt.UTC)
    instants = [base + dt.timedelta(minutes=i) for i in range(60)]
    at = pa.array([int(t.timestamp() * 1000) for t in instants]).cast(pa.timestamp("ms", zone))
    write(tmp_path, "a.parquet", id=at, at=at, utc=pa.array(instants, pa.timestamp("us", "UTC")))
    text = PROJECT.replace('x = "x"', 'gap = "at - utc"\nhour = "EXTRACT(HOUR FROM at)"')
    path = project(tmp_path, text, score='carry = ["at"]')
    out = scored(tmp_path)
    assert out["at"].dt.epoch("ms").to_list() == at.cast(pa.int64()).to_pylist() == out["id"].dt.epoch("ms").to_list()
    prepared = rayforest.read(tmp_path / "out/prepared").collect()
    assert set(prepared["gap"]) == {0.0}
    assert prepared["hour"].to_list() == [t.hour for t in instants]
    result = rayforest.prepare(path, replace=True, overrides=['data.rules=["EXTRACT(MINUTE FROM at) <> 30"]'])
    (file,) = rayforest.files(result.destination, quarantine=True)
    assert '"at": "2024-11-03 04:30:00.000"' in pq.read_table(file)["raw"][0].as_py()


def test_one_odd_date_or_decimal_fails_its_row_and_the_others_live(tmp_path: Path) -> None:
    days = pa.Array.from_buffers(pa.date64(), 4, [None, pa.py_buffer(np.array([0, 5, 86_400_000, 0], np.int64))])
    prices = pa.Array.from_buffers(
        pa.decimal128(3, 1), 4, [None, pa.py_buffer(np.array([1, 0, 2, 0, 99_999, 0, 3, 0], np.int64))]
    )
    table = pa.table({"id": [0, 1, 2, 3], "x": [1, 2, 3, 4], "y": [0, 1, 0, 1], "day": days, "price": prices})
    (tmp_path / "raw").mkdir()
    with pa.ipc.new_file(tmp_path / "raw/a.arrow", table.schema) as file:
        file.write_table(table)
    text = PROJECT.replace('x = "x"', 'x = "x"\nprice = "price"\nd = "EXTRACT(DAY FROM day)"')
    result = rayforest.prepare(project(tmp_path, text))
    assert result.reasons == {
        "day holds a date that is not a whole day": 1,
        "price holds a decimal of more than 3 digits": 1,
    }
    assert rayforest.read(result.destination).collect()["id"].to_list() == [0, 3]


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        (pa.array([Decimal(1200), None] * 10, pa.decimal128(5, -2)), Decimal(1200)),
        (pa.array([Decimal("1.5"), None] * 10, pa.decimal32(5, 1)), Decimal("1.5")),
        (pa.DictionaryArray.from_arrays(pa.array([0, None] * 10), pa.array(["a"], pa.string_view())), "a"),
        (pa.DictionaryArray.from_arrays(pa.array([0, None] * 10), pa.array([2**60])), 2**60),
    ],
    ids=lambda stored: str(getattr(stored, "type", "")),
)
def test_types_that_few_programs_write_come_through(tmp_path: Path, stored: pa.Array, expected: object) -> None:
    table = pa.table({"id": range(20), "x": [0.5, 1.5] * 10, "y": [0, 1] * 10, "v": stored})
    keep(tmp_path, table, "arrow")
    project(tmp_path, score='carry = ["v"]')
    assert scored(tmp_path)["v"].to_list() == [expected, None] * 10


@pytest.mark.parametrize("form", ["parquet", "arrow"])
@pytest.mark.parametrize("name", ["", "a\0b", "*", "^x$"])
def test_a_column_without_a_usable_name_never_breaks_a_good_file(tmp_path: Path, form: str, name: str) -> None:
    keep(tmp_path, pa.table({"id": range(20), "x": [0.5, 1.5] * 10, "y": [0, 1] * 10, name: [1] * 20}), form)
    text = PROJECT.replace('[features]\nx = "x"\n', "")
    path = project(tmp_path, text)
    assert any("is left out, because" in note for note in rayforest.check(path).notes)
    assert scored(tmp_path).height == 20
    with pytest.raises(ConfigError, match="cannot be used, because"):
        rayforest.check(path, overrides=[f"data.key={json.dumps(name)}"])


@pytest.mark.parametrize("form", ["parquet", "arrow"])
def test_metadata_that_is_no_utf8_is_of_no_concern(tmp_path: Path, form: str) -> None:
    fields = [
        pa.field("id", pa.int64(), metadata={b"k": b"\xff"}),
        pa.field("x", pa.float64()),
        pa.field("y", pa.int64()),
    ]
    schema = pa.schema(fields, metadata={b"note": b"caf\xe9"})
    for part in range(3):  # small files, which are read together
        columns = {"id": range(part * 20, part * 20 + 20), "x": [0.5, 1.5] * 10, "y": [0, 1] * 10}
        keep(tmp_path, pa.table(columns, schema=schema), form, f"{part}")
    project(tmp_path)
    assert scored(tmp_path).height == 60


def keep(folder: Path, table: pa.Table, form: str, name: str = "a") -> None:
    (folder / "raw").mkdir(exist_ok=True)
    if form == "parquet":
        pq.write_table(table, folder / f"raw/{name}.parquet")
        return
    with pa.ipc.new_file(folder / f"raw/{name}.arrow", table.schema) as file:
        file.write_table(table)

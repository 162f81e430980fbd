"""A source of many files: what a column is over all of them, and how they are planned."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from unlike_files import PROJECT, project, scored, write

import rayforest
from rayforest.errors import InputError


def test_a_key_that_is_an_integer_in_one_file_and_a_double_in_the_next_loses_no_row(tmp_path: Path) -> None:
    write(tmp_path, "a.parquet", id=pa.array(range(50), pa.int32()), amount=list(range(50)))
    write(tmp_path, "b.parquet", id=[float(i) for i in range(50, 100)], amount=[i + 0.5 for i in range(50)])
    project(tmp_path, score='carry = ["amount"]')
    out = scored(tmp_path)
    assert out["id"].to_list() == list(range(100))
    assert out["amount"].to_list() == [*range(50), *(i + 0.5 for i in range(50))]
    assert rayforest.read(tmp_path / "out/prepared").collect()["id"].to_list() == list(range(100))


@pytest.mark.parametrize(
    ("first", "second", "together"),
    [
        (pa.int8(), pa.int64(), pa.int64()),
        (pa.uint8(), pa.int8(), pa.int16()),
        (pa.uint32(), pa.int16(), pa.int64()),
        (pa.int64(), pa.uint64(), pa.decimal128(20, 0)),
        (pa.bool_(), pa.int16(), pa.int16()),
        (pa.float32(), pa.int8(), pa.float64()),
        (pa.null(), pa.int8(), pa.int8()),
        (pa.string(), pa.large_string(), pa.large_string()),
        (pa.dictionary(pa.int8(), pa.string()), pa.string(), pa.string()),
        (pa.decimal128(5, 2), pa.decimal128(9, 1), pa.decimal128(10, 2)),
        (pa.decimal128(5, 2), pa.int32(), pa.decimal128(12, 2)),
        (pa.date32(), pa.timestamp("ms"), pa.timestamp("ms")),
        (pa.timestamp("s", "America/New_York"), pa.timestamp("us", "Asia/Tehran"), pa.timestamp("us", "UTC")),
        (pa.timestamp("us"), pa.timestamp("ns", "+05:30"), pa.timestamp("ns", "UTC")),
    ],
    ids=str,
)
def test_a_carried_column_has_a_type_that_takes_the_values_of_all_files(
    tmp_path: Path, first: pa.DataType, second: pa.DataType, together: pa.DataType
) -> None:
    numbers = pa.array([0, 1, 1, 0, None], pa.int64())
    for name, start, stored in (("a", 0, first), ("b", 5, second), ("c", 10, first)):
        write(tmp_path, f"{name}.parquet", id=range(start, start + 5), v=as_type(numbers, stored))
    project(tmp_path, score='carry = ["v"]')
    scored(tmp_path)
    (file,) = rayforest.files(tmp_path / "out/scored")
    found = pq.read_table(file)["v"]
    assert found.type == together
    expected = [as_type(as_type(numbers, stored), together) for stored in (first, second, first)]
    assert found.cast(pa.string()).to_pylist() == pa.concat_arrays(expected).cast(pa.string()).to_pylist()


def as_type(column: pa.Array, stored: pa.DataType) -> pa.Array:
    """Numbers as values of any type, 1 being a day or a second."""
    if pa.types.is_null(stored):
        return pa.nulls(len(column))
    if pa.types.is_date(stored) and pa.types.is_integer(column.type):
        column = column.cast(pa.int32())
    if pa.types.is_dictionary(stored):
        return column.cast(stored.value_type).dictionary_encode()
    if pa.types.is_decimal(stored) and pa.types.is_integer(column.type):
        return pa.array([None if v is None else Decimal(v) for v in column.to_pylist()], stored)
    return column.cast(stored)


def test_integers_and_unsigned_ones_come_out_digit_by_digit(tmp_path: Path) -> None:
    big = [2**63 - 1, -(2**63), 2**53 + 1]
    write(tmp_path, "a.parquet", id=range(3), v=pa.array(big, pa.int64()))
    write(tmp_path, "b.parquet", id=range(3, 23), v=pa.array(range(2**64 - 20, 2**64), pa.uint64()))
    project(tmp_path, score='carry = ["v"]')
    assert [int(v) for v in scored(tmp_path)["v"].to_list()] == [*big, *range(2**64 - 20, 2**64)]


@pytest.mark.parametrize(("year", "unit"), [(9999, "us"), (2261, "ns")])
def test_nanoseconds_are_the_common_unit_unless_a_file_has_years_that_they_do_not_reach(
    tmp_path: Path, year: int, unit: str
) -> None:
    end = [dt.datetime(year, 12, 31)] * 20
    write(tmp_path, "a.parquet", id=range(20), until=pa.array(end, pa.timestamp("us")))
    write(tmp_path, "b.parquet", id=range(20, 40), until=pa.array([1_000] * 20, pa.timestamp("ns")))
    project(tmp_path, score='carry = ["until"]')
    out = scored(tmp_path)
    assert out["until"].dtype == pl.Datetime(unit)  # type: ignore[arg-type]
    assert out["until"].dt.cast_time_unit("us").to_list() == [*end, *[dt.datetime(1970, 1, 1, 0, 0, 0, 1)] * 20]


def test_an_integer_that_a_double_does_not_hold_fails_its_row_by_name(tmp_path: Path) -> None:
    write(tmp_path, "a.parquet", id=pa.array([1, 2**53 + 1, 2**53 + 2, *range(10, 20)], pa.int64()))
    write(tmp_path, "b.parquet", id=[0.5, 2.0**53 + 2])
    result = rayforest.prepare(project(tmp_path))
    assert result.reasons == {
        "id would change as double, the type that fits all files": 1,
        "the key is repeated": 1,
    }
    assert result.rows_in == 15 == result.rows_out + result.rows_quarantined


@pytest.mark.parametrize("texts", [[f"{i}" for i in range(50, 100)], [f"{i:05d}" for i in range(50)]])
def test_a_key_of_numbers_and_text_is_refused_by_name_or_kept_as_text(tmp_path: Path, texts: list[str]) -> None:
    write(tmp_path, "a.parquet", id=range(50))
    write(tmp_path, "b.parquet", id=texts)
    path = project(tmp_path)
    for command in (rayforest.check, rayforest.prepare):
        with pytest.raises(InputError, match="column 'id' has no type that fits all files") as caught:
            command(path)
        assert caught.value.found == "int64 in a.parquet, string in b.parquet"
        assert '"id" = "string"' in caught.value.next_step
    assert not (tmp_path / "out").exists()
    rayforest.prepare(path, overrides=['data.columns.id="string"'])
    found = rayforest.read(tmp_path / "out/prepared").collect()["id"].to_list()
    assert found == [*map(str, range(50)), *texts]


def test_files_without_rows_decide_nothing(tmp_path: Path) -> None:
    write(tmp_path, "a.parquet", id=pa.array([], pa.string()))
    pq.write_table(pa.table({"other": pa.nulls(0)}), tmp_path / "raw/b.parquet")
    write(tmp_path, "c.parquet", id=pa.array(range(20), pa.int64()))
    project(tmp_path)
    assert scored(tmp_path)["id"].to_list() == list(range(20))


def test_a_column_of_nulls_in_the_first_file_is_what_it_is_in_the_others(tmp_path: Path) -> None:
    write(tmp_path, "a.parquet", id=range(5), amount=pa.nulls(5))
    write(tmp_path, "b.parquet", id=range(5, 10), amount=range(5))
    text = PROJECT.replace('x = "x"', 'amount = "amount"')
    assert rayforest.check(project(tmp_path, text)).features == {"amount": "number"}


# ---- planning


def test_a_resume_opens_no_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "a.parquet", id=range(30), amount=range(30))
    write(tmp_path, "b.parquet", id=[float(i) for i in range(30, 60)], amount=range(30))
    path = project(tmp_path, score='carry = ["amount"]')
    rayforest.run(path)

    def opened(*_: object, **__: object) -> None:
        raise AssertionError("an input was opened")

    for name in ("look_at_each", "inspect_each"):
        monkeypatch.setattr(f"rayforest.stages.inputs.{name}", opened)
    for name in ("parquet_footer", "footer_identity", "parquet_schema", "read_parquet"):
        monkeypatch.setattr(f"rayforest.tables.reading.{name}", opened)
    result = rayforest.run(path)
    assert all(step.resumed for step in result.steps)
    assert rayforest.check(path).files == 2
    with pytest.raises(AssertionError, match="was opened"):
        rayforest.check(path, overrides=['data.format="parquet"'])


def test_each_footer_is_read_once_for_a_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from rayforest.tables import reading as source

    for number in range(4):
        write(tmp_path, f"{number}.parquet", id=range(number * 5, number * 5 + 5))
    opened: list[str] = []

    def footer(uri: str, read: Any = source.parquet_footer) -> Any:
        opened.append(uri)
        return read(uri)

    monkeypatch.setattr("rayforest.tables.reading.parquet_footer", footer)
    rayforest.prepare(project(tmp_path))
    assert len(opened) == 4


# ---- text tables


def test_a_text_column_is_judged_by_samples_of_all_files(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    for name, text in (("a", "1,,0\n2,,1\n"), ("b", "3,4.5,0\n"), ("c", "4,7,1\n")):
        (tmp_path / f"raw/{name}.csv").write_text("id,x,y\n" + text)
    path = project(tmp_path)
    assert rayforest.check(path).features == {"x": "number"}
    (tmp_path / "raw/d.csv").write_text("id,x,y\n5,high,0\n")
    report = rayforest.check(path)
    assert report.features == {"x": "category"}
    assert "column x is read as a string; by its values it is a number in b.csv and 1 more; a string in d.csv" in (
        report.notes
    )


@pytest.mark.parametrize("dirty", ["a", "c"])
def test_a_few_bad_values_in_one_text_file_do_not_make_a_category_of_a_number(tmp_path: Path, dirty: str) -> None:
    (tmp_path / "raw").mkdir()
    for name in ("a", "b", "c"):
        values = ["none" if name == dirty and i == 7 else f"{i}.5" for i in range(40)]
        rows = [f"{name}{i},{value},{i % 2}" for i, value in enumerate(values)]
        (tmp_path / f"raw/{name}.csv").write_text("id,x,y\n" + "\n".join(rows))
    path = project(tmp_path)
    assert f"a string in {dirty}.csv" in "".join(rayforest.check(path).notes)
    result = rayforest.prepare(path)
    assert result.reasons == {"x is not a number": 1}


def test_key_and_carried_text_comes_out_as_the_project_declares_it(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    rows = [f"{i:03d},{i}.50,yes,2024-01-0{i % 9 + 1}T00:00:00+01:00,{i:02d},0.{i:02d},{i % 2}" for i in range(40)]
    (tmp_path / "raw/a.csv").write_text("id,price,ok,at,code,x,y\n" + "\n".join(rows))
    declared = 'id = "number"\nprice = "number"\nok = "boolean"\nat = "timestamp"'
    project(tmp_path, score='carry = ["price", "ok", "at", "code"]', **{"data.columns": declared})
    out = scored(tmp_path)
    assert out.schema.dtypes()[:5] == [
        pl.Float64(), pl.Float64(), pl.Boolean(), pl.Datetime("us", "UTC"), pl.String()
    ]  # fmt: skip
    assert out.row(3)[:3] == (3.0, 3.5, True)
    assert out["at"][0] == dt.datetime(2023, 12, 31, 23, tzinfo=dt.UTC)
    assert out["code"][3] == "03"
    assert rayforest.read(tmp_path / "out/prepared").collect()["id"].dtype == pl.Float64


def test_text_of_an_integer_that_its_declared_number_would_change_fails_its_row(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw/a.csv").write_text(f"id,x,y\n{2**53},1,0\n{2**53 + 1},2,1\n7,3,0\n")
    result = rayforest.prepare(project(tmp_path), overrides=['data.columns.id="number"'])
    assert result.reasons == {"id would change as double, the type that fits all files": 1}
    result = rayforest.prepare(project(tmp_path), replace=True)
    assert rayforest.read(result.destination).collect()["id"].to_list() == [str(2**53), str(2**53 + 1), "7"]

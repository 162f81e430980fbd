"""A source of many files: what a column is over all of them, and what is refused before the first shard."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import rayforest
from rayforest.errors import ConfigError, InputError, RayforestError

PROJECT = """
[project]
name = "files"

[data]
source = "raw"
key = "id"
target = "y"

[features]
x = "x"

[split]
shares = [0.6, 0.2, 0.2]

[tune]
trials = 1

[tune.space]
num_iterations = 3
min_data_in_leaf = 2

[run]
executor = "in-process"
workers = 1
"""


def project(folder: Path, text: str = PROJECT, **sections: str) -> Path:
    """FOLDER/project.toml: the text, with lines put under the headers of the named sections."""
    for section, lines in sections.items():
        header = f"[{section}]\n"
        text = text.replace(header, f"{header}{lines}\n") if header in text else f"{text}\n{header}{lines}\n"
    path = folder / "project.toml"
    path.write_text(text)
    return path


def write(folder: Path, name: str, **columns: Any) -> int:
    """FOLDER/raw/NAME as a Parquet file with x and y beside the columns; how many rows it has."""
    (folder / "raw").mkdir(exist_ok=True)
    arrays = {n: c if isinstance(c, pa.Array) else pa.array(c) for n, c in columns.items()}
    rows = len(next(iter(arrays.values())))
    x = np.random.default_rng(len(name)).random(rows)
    pq.write_table(pa.table({"x": x, "y": (x > 0.5).astype(int)} | arrays), folder / "raw" / name)
    return rows


def scored(folder: Path, *overrides: str) -> pl.DataFrame:
    """All four stages, none of which may lose a row."""
    for step in rayforest.run(folder / "project.toml", overrides=overrides).steps:
        assert step.rows_quarantined in (0, None), step.reasons
    return rayforest.read(folder / "out/scored").collect()


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


# ---- refused before the first shard


def test_a_source_of_unlike_files_is_refused_with_file_and_column(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw/ADMISSIONS.csv").write_text("id,admitted,y\n1,2,0\n2,3,1\n")
    (tmp_path / "raw/PATIENTS.csv").write_text("id,born\n1,1950\n")
    text = PROJECT.replace('[features]\nx = "x"\n', "")
    for command in (rayforest.check, rayforest.prepare):
        with pytest.raises(InputError, match=r"PATIENTS.csv has no column 'admitted'") as caught:
            command(project(tmp_path, text))
        assert "ADMISSIONS.csv" in caught.value.expected
        assert "leave files of another table out" in caught.value.next_step


def test_a_column_that_a_later_file_renames_is_named_with_its_new_name(tmp_path: Path) -> None:
    write(tmp_path, "a.parquet", id=range(5), price=range(5))
    write(tmp_path, "b.parquet", id=range(5, 10), Price=range(5))
    text = PROJECT.replace('x = "x"', 'price = "price"')
    with pytest.raises(InputError, match=r"b.parquet has no column 'price'") as caught:
        rayforest.check(project(tmp_path, text))
    assert "did you mean 'Price'?" in caught.value.next_step


def test_without_features_each_column_of_the_first_file_is_one_and_later_ones_are_named(tmp_path: Path) -> None:
    write(tmp_path, "a.parquet", id=range(5))
    write(tmp_path, "b.parquet", id=range(5, 10), extra=range(5))
    path = project(tmp_path, PROJECT.replace('[features]\nx = "x"\n', ""))
    report = rayforest.check(path)
    assert report.features == {"x": "number"}
    assert "column extra is not in a.parquet" in report.notes
    write(tmp_path, "0.parquet", id=range(10, 15), extra=range(5))
    with pytest.raises(InputError, match=r"a.parquet has no column 'extra'"):
        rayforest.check(path)


def test_a_column_that_stands_twice_is_refused_where_it_is_used_only(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    table = pa.Table.from_arrays(
        [pa.array(range(20)), pa.array([0.5, 1.5] * 10), pa.array([0, 1] * 10), pa.array([1] * 20), pa.array([2] * 20)],
        names=["id", "x", "y", "twice", "twice"],
    )
    pq.write_table(table, tmp_path / "raw/a.parquet")
    path = project(tmp_path)
    assert rayforest.prepare(path).rows_out == 20
    for setting in ('features.t="twice"', 'score.carry="twice"', 'data.key="twice"'):
        with pytest.raises(InputError, match=r"a.parquet has 2 columns named 'twice'"):
            rayforest.check(path, overrides=[setting])


@pytest.mark.parametrize(
    "setting",
    [
        'features.w="wide"',
        'features.w="COALESCE(wide, 1)"',
        'data.key="wide"',
        'score.carry="wide"',
        'data.time="wide"',
        'data.rules=["wide IS NULL"]',
        'data.columns.wide="string"',
    ],
)
def test_a_column_whose_type_is_not_read_is_named_with_its_type(tmp_path: Path, setting: str) -> None:
    write(tmp_path, "a.parquet", id=range(5), wide=[[1]] * 5)
    with pytest.raises(ConfigError, match=r"column 'wide' cannot be used, because rayforest does not read list<"):
        rayforest.check(project(tmp_path), overrides=[setting])


def test_a_column_that_one_file_only_stores_in_such_a_type_is_named_with_that_file(tmp_path: Path) -> None:
    write(tmp_path, "a.parquet", id=range(5), note=["n"] * 5)
    write(tmp_path, "b.parquet", id=range(5, 10), note=[["n"]] * 5)
    with pytest.raises(ConfigError, match=r"does not read list<.*>, as it stands in b.parquet"):
        rayforest.check(project(tmp_path), overrides=['features.n="note"'])


def test_check_refuses_a_source_without_rows(tmp_path: Path) -> None:
    write(tmp_path, "a.parquet", id=pa.array([], pa.int64()))
    with pytest.raises(InputError, match=r"no row of data.source can be read"):
        rayforest.check(project(tmp_path))


def test_times_of_day_and_durations_are_named_where_they_cannot_be_used(tmp_path: Path) -> None:
    clock, span = pa.array([dt.time(1)] * 5), pa.array([dt.timedelta(1)] * 5)
    write(tmp_path, "a.parquet", id=range(5), clock=clock, span=span)
    report = rayforest.check(project(tmp_path))
    assert [note for note in report.notes if "left out" in note] == [
        "column clock is left out, because rayforest does not read time64[us]",
        "column span is left out, because rayforest does not read duration[us]",
    ]


@pytest.mark.parametrize("name", ["prediction", "probability", "raw_score"])
def test_check_refuses_key_and_carried_columns_of_an_outputs_name(tmp_path: Path, name: str) -> None:
    write(tmp_path, "a.parquet", id=range(5), **{name: range(5)})
    outputs = 'score.outputs=["prediction", "probability", "raw_score"]'
    for setting in (f'data.key="{name}"', f'score.carry="{name}"'):
        with pytest.raises(ConfigError, match="name of an output column") as caught:
            rayforest.check(project(tmp_path), overrides=[setting, outputs])
        assert caught.value.found == repr(name)


def test_check_refuses_the_probability_of_a_label_as_a_carried_column(tmp_path: Path) -> None:
    write(tmp_path, "a.parquet", id=range(6), label=["a", "b", "c"] * 2, probability_a=range(6))
    with pytest.raises(ConfigError, match="name of an output column"):
        rayforest.check(project(tmp_path), overrides=['data.target="label"', 'score.carry="probability_a"'])


def test_check_refuses_a_raw_column_that_the_graph_has_as_an_output(tmp_path: Path) -> None:
    write(tmp_path, "a.parquet", id=range(5), prediction=range(5))
    path = project(tmp_path, PROJECT.replace('x = "x"', 'p = "prediction + 1"'))
    with pytest.raises(ConfigError, match="'prediction' cannot be an input of the ONNX model") as caught:
        rayforest.check(path)
    assert 'export.graph = "trees"' in caught.value.next_step
    assert rayforest.check(path, overrides=['export.graph="trees"']).features == {"p": "number"}


def test_raw_columns_with_the_names_of_prepared_ones_are_features_under_another_name(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    raw = {"target": rng.random(60), "split": rng.choice(["train", "test"], 60)}
    write(tmp_path, "a.parquet", id=range(60), file=range(60), row=range(60), reason=["r"] * 60, raw=["w"] * 60, **raw)
    text = PROJECT.replace('[features]\nx = "x"\n', "")
    project(tmp_path, text, score='carry = ["target", "split", "file", "row", "reason", "raw"]')
    out = scored(tmp_path)
    assert out["target"].to_list() == raw["target"].tolist()
    assert out["split"].to_list() == raw["split"].tolist()
    prepared = rayforest.read(tmp_path / "out/prepared").collect()
    assert prepared["raw.split"].to_list() == raw["split"].tolist()
    assert prepared["raw.target"].to_list() == raw["target"].tolist()
    assert set(prepared["split"]) == {"train", "valid", "test"}


def test_check_looks_at_all_files_of_the_score_source_too(tmp_path: Path) -> None:
    write(tmp_path, "a.parquet", id=range(5))
    (tmp_path / "new").mkdir()
    for name, columns in (("a", {"id": [1], "x": [1.0]}), ("b", {"id": [2], "X": [1.0]})):
        pq.write_table(pa.table(columns), tmp_path / f"new/{name}.parquet")
    with pytest.raises(InputError, match=r"b.parquet has no column 'x'"):
        rayforest.check(project(tmp_path, score='source = "new"'))


# ---- planning


def test_a_resume_opens_no_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "a.parquet", id=range(30), amount=range(30))
    write(tmp_path, "b.parquet", id=[float(i) for i in range(30, 60)], amount=range(30))
    path = project(tmp_path, score='carry = ["amount"]')
    rayforest.run(path)

    def opened(*_: object, **__: object) -> None:
        raise AssertionError("an input was opened")

    for name in ("look_at_each", "inspect"):
        monkeypatch.setattr(f"rayforest.data.inputs.{name}", opened)
    for name in ("parquet_footer", "footer_identity", "parquet_schema", "read_parquet"):
        monkeypatch.setattr(f"rayforest.data.source.{name}", opened)
    result = rayforest.run(path)
    assert all(step.resumed for step in result.steps)
    assert rayforest.check(path).files == 2
    with pytest.raises(AssertionError, match="was opened"):
        rayforest.check(path, overrides=['data.format="parquet"'])


def test_each_footer_is_read_once_for_a_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from rayforest.data import source

    for number in range(4):
        write(tmp_path, f"{number}.parquet", id=range(number * 5, number * 5 + 5))
    opened: list[str] = []

    def footer(uri: str, read: Any = source.parquet_footer) -> Any:
        opened.append(uri)
        return read(uri)

    monkeypatch.setattr("rayforest.data.source.parquet_footer", footer)
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


# ---- values


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


@pytest.mark.parametrize("form", ["parquet", "arrow"])
@pytest.mark.parametrize("name", ["", "a\0b"])
def test_a_column_without_a_usable_name_never_breaks_a_good_file(tmp_path: Path, form: str, name: str) -> None:
    keep(tmp_path, pa.table({"id": range(20), "x": [0.5, 1.5] * 10, "y": [0, 1] * 10, name: [1] * 20}), form)
    text = PROJECT.replace('[features]\nx = "x"\n', "")
    path = project(tmp_path, text)
    assert any("is left out, because it" in note for note in rayforest.check(path).notes)
    assert scored(tmp_path).height == 20
    with pytest.raises(ConfigError, match="cannot be used, because it"):
        rayforest.check(path, overrides=['data.key=""' if not name else 'data.key="a\\u0000b"'])


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


def test_nothing_of_a_refusal_is_written(tmp_path: Path) -> None:
    write(tmp_path, "a.parquet", id=range(5))
    write(tmp_path, "b.parquet", id=["a"])
    with pytest.raises(RayforestError):
        rayforest.run(project(tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["project.toml", "raw"]

"""What init sees in columns, and what it leaves to the user."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rayforest import api
from rayforest.errors import InputError
from rayforest.starter.look import ColumnLook, look_at
from rayforest.starter.sniff import sniff
from rayforest.starter.starter import starter_project, write_starter
from rayforest.tables.raw_file import raw_file
from rayforest.tables.reading import Source, list_files


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def look(*names: str) -> dict[str, ColumnLook]:
    files = list_files(Source(names, Path.cwd()))
    form = sniff(raw_file(files[0])).format if files[0].format == "csv" else None
    return {column.name: column for column in look_at(files, Source(names, Path.cwd(), csv=form)).columns}


def column(*values: str) -> ColumnLook:
    """The look at a column of a CSV file, beside one of text."""
    Path("t.csv").write_text("x;t\n" + "".join(f"{value};w{i}\n" for i, value in enumerate(values)), encoding="utf-8")
    return look("t.csv")["x"]


def starter(*names: str, target: str | None = None) -> tuple[dict[str, Any], str]:
    """init's file, after prepare has accepted it, as values and as text."""
    text = starter_project(list(names), target=target)
    Path("project.toml").write_text(text, encoding="utf-8")
    result = api.prepare("project.toml", replace=True)
    assert result.rows_in == result.rows_out + result.rows_quarantined
    return tomllib.loads(text), text


def test_dates_that_read_day_first_and_month_first_stay_text_and_both_are_named() -> None:
    seen = column(*(f"{1 + i % 12:02}/{1 + i * 5 % 12:02}/2024" for i in range(60)))
    assert (seen.kind, seen.format) == ("string", None)
    assert "%d/%m/%Y" in seen.undecided
    assert "%m/%d/%Y" in seen.undecided


@pytest.mark.parametrize(("late", "form"), [("31/01/2024", "%d/%m/%Y"), ("01/31/2024", "%m/%d/%Y")])
def test_one_late_date_that_excludes_a_reading_decides(late: str, form: str) -> None:
    assert column(*(f"{1 + i % 12:02}/{1 + i * 5 % 12:02}/2024" for i in range(2_000)), late).format == form


def test_dates_of_both_orders_in_one_column_are_said_and_not_read() -> None:
    seen = column(*["31/01/2024", "01/31/2024"] * 20)
    assert seen.kind == "string"
    assert "some dates read only by" in seen.undecided


@pytest.mark.parametrize(
    ("values", "form"),
    [
        (["31.01.2024", "28.02.2024"], "%d.%m.%Y"),
        (["2024/01/31", "2024/02/28"], "%Y/%m/%d"),
        (["31-Jan-2024", "28-Feb-2024"], "%d-%b-%Y"),
        (["Jan 31, 2024", "Feb 28, 2024"], "%b %d, %Y"),
        (["31.01.2024 10:30", "28.02.2024 11:00"], "%d.%m.%Y %H:%M"),
        (["1/31/2024 10:30:00 PM", "2/28/2024 1:00:00 AM"], "%m/%d/%Y %I:%M:%S %p"),
        (["31/01/19", "28/02/20"], "%d/%m/%y"),
        (["2024-01-31", "2024-02-28"], None),
    ],
)
def test_dates_of_many_forms_are_read(values: list[str], form: str | None) -> None:
    seen = column(*values * 10)
    assert (seen.kind, seen.format, seen.unreadable) == ("timestamp", form, 0)


@pytest.mark.parametrize(
    "values",
    [
        ["7/1/62", "8/1/64", "9/13/05"],
        ["12.05.1880", "13.05.1881"],
        ["1.10.5", "2.1.9", "1.2.3"],
        ["10.1.2.3", "10.1.2.4"],
        ["13/45/2024", "31/31/2024"],
    ],
)
def test_what_gives_years_that_no_date_has_is_no_date(values: list[str]) -> None:
    assert column(*values * 10).kind == "string"


def test_two_digit_years_that_may_be_of_either_century_are_said() -> None:
    assert "2062" in column("7/13/62", "8/14/64").undecided


def test_na_among_country_codes_is_a_value_and_null_among_numbers_is_none() -> None:
    lines = [f"{('NA', 'FR', 'US', 'ZA')[i % 4]},{'null' if i % 9 == 0 else i * 0.5},{i % 2}\n" for i in range(90)]
    Path("t.csv").write_text("country,x,y\n" + "".join(lines))
    found, text = starter("t.csv")
    assert found["data"]["format"]["null_words"] == ["null"]
    assert found["data"]["columns"]["country"] == "string"
    assert '"NA" is kept' in text
    assert '"null" means missing in 10 rows' in text


def test_a_word_that_is_missing_in_one_column_and_a_value_in_another_is_written_per_column() -> None:
    lines = [f"{('NA', 'FR', 'US', 'ZA')[i % 4]},{'NA' if i % 9 == 0 else i * 0.5},{i % 2}\n" for i in range(90)]
    Path("t.csv").write_text("country,x,y\n" + "".join(lines))
    found, _ = starter("t.csv")
    assert found["data"]["format"]["null_words"] == []
    assert found["data"]["columns"]["x"] == {"type": "number", "null_values": ["NA"]}
    assert found["data"]["columns"]["country"] == "string"


def test_a_stored_column_without_a_value_is_not_said_to_hold_large_numbers() -> None:
    pq.write_table(
        pa.table({"x": [1.0, 2.0, 3.0] * 20, "y": [0, 1, 1] * 20, "none": pa.nulls(60), "big": [2**53 + 1] * 60}),
        "t.parquet",
    )
    found = look("t.parquet")
    assert found["none"].remarks == ()
    assert "beyond 2^53" in found["big"].remarks[0]


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_integers_beyond_two_to_the_53_are_counted_digit_by_digit_and_are_a_key(form: str) -> None:
    big = [2**53 + i for i in range(100)]
    if form == "csv":
        Path("t.csv").write_text("id,x,y\n" + "".join(f"{k},{i % 7},{i % 2}\n" for i, k in enumerate(big)))
    else:
        pq.write_table(
            pa.table({"id": big, "x": [i % 7 for i in range(100)], "y": [i % 2 for i in range(100)]}), "t.parquet"
        )
    assert look(f"t.{form}")["id"].distinct == 100
    found, text = starter(f"t.{form}")
    assert (found["data"]["key"], found["data"]["columns"]["id"]) == ("id", "string")
    assert "beyond 2^53" in text
    assert api.prepare("project.toml").rows_quarantined == 0


@pytest.mark.parametrize("name", ["", "Unnamed: 0", "position"])
def test_a_column_that_counts_the_rows_is_no_feature(name: str) -> None:
    rows = "".join(f"{i},{i * 37 % 11},{'ab'[i % 2]},{i % 2}\n" for i in range(50))
    Path("t.csv").write_text(f"{name},x,c,y\n{rows}")
    found, text = starter("t.csv")
    assert list(found["features"]) == ["x", "c"]
    assert re.search(r"^# \S.* = .*# counts the rows", text, re.MULTILINE)


def test_the_index_that_pandas_saved_is_no_feature_whatever_its_order() -> None:
    table = {
        "x": [i * 7 % 5 for i in range(20)],
        "y": [0, 1] * 10,
        "__index_level_0__": [i * 3 % 20 for i in range(20)],
    }
    pq.write_table(pa.table(table), "t.parquet")
    found, text = starter("t.parquet", target="y")
    assert list(found["features"]) == ["x"]
    assert "an index that was saved along" in text


def test_decimal_commas_and_thousands_are_found_and_read() -> None:
    rows = [f"{i};{1000 + i}.{i % 10}99,50;0,{i % 10};{i % 2}" for i in range(9)]
    Path("t.csv").write_text(
        "id;amount;rate;y\n" + "\n".join(f"{i};{i + 1}.299,{i:02};0,{i};{i % 2}" for i in range(10))
    )
    assert rows
    found, text = starter("t.csv")
    assert (found["data"]["format"]["decimal"], found["data"]["format"]["thousands"]) == (",", ".")
    assert found["data"]["columns"]["amount"] == "number"
    assert "1299 to 10299.09" in text


def test_a_mark_that_reads_as_decimal_and_as_thousands_is_left_to_the_user() -> None:
    seen = column("123,000", "124,500", "1,250")
    assert seen.kind == "string"
    assert "decimal and as thousands" in seen.undecided


def test_a_mark_that_reads_two_ways_is_read_as_the_other_columns_say_and_init_says_so() -> None:
    rows = [(f"{i},5", f"{1 + i}.{i:03d}", f"{i % 2}") for i in range(1, 30)]
    Path("t.csv").write_text("price;people;y\n" + "".join(";".join(row) + "\n" for row in rows))
    found, text = starter("t.csv")
    assert (found["data"]["format"]["decimal"], found["data"]["format"]["thousands"]) == (",", ".")
    assert found["data"]["columns"]["people"] == "number"
    people = next(line for line in text.splitlines() if line.startswith("people"))
    assert "2001 to 30029" in people
    assert 'as other columns have decimal commas; if the point is decimal: { type = "number", decimal = "." }' in people
    Path("t.csv").write_text("price;people;y\n" + "".join(f"{i}.5;1,{i:03d};{i % 2}\n" for i in range(1, 30)))
    found, text = starter("t.csv")
    assert found["data"]["columns"]["price"] == "number"
    assert "1001 to 1029; a guess" in text
    assert "as other columns have decimal points" in text


def test_where_other_columns_show_both_marks_one_that_reads_two_ways_is_decimal() -> None:
    Path("t.csv").write_text("a;b;c\n" + "".join(f"{i},5;{i}.5;1.{i:03d}\n" for i in range(1, 30)))
    seen = look("t.csv")["c"]
    assert (seen.kind, seen.style, seen.values.high) == ("number", None, 1.029)
    assert 'decimal = ","' in seen.remarks[0]


def test_blanks_between_numbers_are_missing_and_blanks_between_texts_are_values() -> None:
    numbers, texts = column("1", " ", "2", "3"), column("a", " ", "b", "a")
    assert (numbers.kind, numbers.missing, numbers.unreadable) == ("number", 1, 0)
    assert (texts.kind, texts.missing, texts.distinct) == ("string", 0, 3)


def test_columns_of_two_styles_have_their_own() -> None:
    Path("t.csv").write_text("a;b;y\n" + "".join(f"{i},5;{i}.5;{i % 2}\n" for i in range(20)))
    found, _ = starter("t.csv")
    assert "decimal" not in found["data"]["format"]
    assert found["data"]["columns"]["a"] == {"type": "number", "decimal": ","}
    assert found["data"]["columns"]["b"] == "number"


def test_a_target_that_is_mostly_missing_or_has_one_value_is_said_and_not_proposed() -> None:
    Path("t.csv").write_text("k,flag\n" + "".join(f"{i % 5},{'AB'[i % 2] if i % 3 == 0 else ''}\n" for i in range(60)))
    found, text = starter("t.csv")
    assert "target" not in found["data"]
    assert "flag is missing in 67% of the rows" in text
    Path("u.csv").write_text("k,status\n" + "".join(f"{i % 5},1\n" for i in range(60)))
    assert "status has one value" in starter("u.csv")[1]
    assert "one value in all rows looked at" in starter("u.csv", target="status")[1]


@pytest.mark.parametrize(
    ("labels", "positive", "metric"),
    [(("-1", "1"), 1, "auc"), (("1", "2"), 2, "auc"), (("no", "yes"), "yes", "auc"), (("0.5", "1.5"), None, "rmse")],
)
def test_two_values_are_classes(labels: tuple[str, str], positive: object, metric: str) -> None:
    Path("t.csv").write_text("x,y\n" + "".join(f"{i % 7},{labels[i % 2]}\n" for i in range(60)))
    found, text = starter("t.csv", target="y")
    assert (found["data"].get("positive"), found["tune"]["metric"]) == (positive, metric)
    assert ("learned as a quantity" in text) == (metric == "rmse")


def test_what_only_stands_in_the_middle_or_at_the_end_of_a_large_file_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rayforest.starter.look.runs._BEGIN_BYTES", 2_000)
    monkeypatch.setattr("rayforest.starter.look.runs._WINDOW_BYTES", 2_000)
    rows = [f"{i % 9},{1 if i < 4_000 else 2},{'late' if i > 9_800 else 'early'}\n" for i in range(10_000)]
    Path("t.csv").write_text("x,status,when\n" + "".join(rows))
    seen = look("t.csv")
    assert (seen["status"].distinct, seen["when"].distinct) == (2, 2)


def test_a_type_that_holds_in_the_first_file_only_is_not_declared() -> None:
    Path("1.csv").write_text("a,b,y\n" + "1,,0\n" * 20)
    Path("2.csv").write_text("a,b,y\n" + "x,2.5,1\n" * 20)
    found, _ = starter("1.csv", "2.csv")
    assert (found["data"]["columns"]["a"], found["data"]["columns"]["b"]) == ("string", "number")


def test_rows_that_do_not_read_are_counted() -> None:
    Path("t.csv").write_text(
        "a,b,y\n" + "".join("1,2\n" if i % 10 == 0 else f"{i},{i % 7},{i % 2}\n" for i in range(100))
    )
    assert "10 of 100 rows do not read and would be quarantined: too few fields" in starter("t.csv")[1]


def test_files_of_two_tables_are_refused_by_name() -> None:
    Path("ADMISSIONS.csv").write_text("subject,hadm,admit,discharge\n1,2,a,b\n")
    Path("PATIENTS.csv").write_text("subject,gender,dob\n1,F,c\n")
    with pytest.raises(InputError, match=r"PATIENTS.csv is another table than .*ADMISSIONS.csv"):
        starter_project(["ADMISSIONS.csv", "PATIENTS.csv"], target=None)


@pytest.mark.parametrize("notes", ["notes.txt", "README.txt"])
def test_a_folder_that_holds_notes_beside_its_tables_is_refused_with_the_glob_of_the_tables(notes: str) -> None:
    for name in ("one", "two/a", "two/b"):
        Path("tables", name).mkdir(parents=True)
        Path("tables", name, "t.csv").write_text("a,b,y\n1,2,0\n3,4,1\n")
        Path("tables", name, notes).write_text("Who made this, and when\nWe did, lately\n")
    for folder, pattern in ((Path("tables/one"), "tables/one/*.csv"), (Path.cwd() / "tables", "tables/**/*.csv")):
        with pytest.raises(InputError, match="is another table than") as caught:
            starter_project([str(folder)], target=None)
        assert f", such as {pattern}, or" in caught.value.next_step
        assert starter_project([pattern], target=None)


def test_a_column_that_a_later_file_lacks_is_left_out_and_said() -> None:
    Path("1.csv").write_text("a,b,c,y\n" + "1,2,3,0\n4,5,6,1\n" * 9)
    Path("2.csv").write_text("a,b,y\n" + "1,2,0\n4,5,1\n" * 9)
    found, text = starter("1.csv", "2.csv")
    assert "c" not in found["data"]["columns"]
    assert "left out, as not every file has it: 'c'" in text


def test_rows_of_delimiters_get_a_rule() -> None:
    Path("t.csv").write_text("a,b\n" + "x,1.5\ny,2.5\nz,7\n" * 4 + ",\n" * 5)
    found, _ = starter("t.csv")
    assert found["data"]["rules"] == {"a_row_has_a_value": "a IS NOT NULL OR b IS NOT NULL"}
    assert api.prepare("project.toml").rows_quarantined == 5


def test_paths_are_right_from_where_the_file_lies_and_no_file_is_written_over() -> None:
    Path("raw").mkdir()
    Path("raw/t.csv").write_text("x,y\n" + "1,0\n2,1\n" * 20)
    write_starter(["raw/t.csv"], "conf/a/project.toml", target=None)
    text = Path("conf/a/project.toml").read_text(encoding="utf-8")
    assert tomllib.loads(text)["data"]["source"] == "../../raw/t.csv"
    assert api.prepare("conf/a/project.toml").rows_out == 40
    with pytest.raises(InputError, match="exists already"):
        write_starter(["raw/t.csv"], "conf/a/project.toml", target=None)
    assert Path("conf/a/project.toml").read_text(encoding="utf-8") == text


def test_a_wide_table_is_looked_at_in_a_few_queries(monkeypatch: pytest.MonkeyPatch) -> None:
    import polars as pl

    calls = 0
    collect = pl.LazyFrame.collect

    def counted(self: pl.LazyFrame, *args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        return collect(self, *args, **kwargs)

    columns = 600
    header = ",".join(f"n{i}" for i in range(columns))
    rows = [",".join(str((i * 7 + r) % 50 / 4) for i in range(columns)) for r in range(20)]
    Path("t.csv").write_text("\n".join([header, *rows]))
    monkeypatch.setattr(pl.LazyFrame, "collect", counted)
    look("t.csv")
    assert calls < columns / 2


def test_telephone_numbers_with_a_plus_stay_text_and_signed_changes_are_numbers() -> None:
    found = column(*(f"+4917100{i:05d}" for i in range(40)))
    assert found.kind == "string"
    assert "plus" in found.remarks[0]
    assert column("+12345678", "-500", "+20").kind == "number"


def test_a_point_that_may_mark_thousands_is_said() -> None:
    values = [f"{i}.{i * 37 % 1000:03d}" for i in range(1, 40)]
    found = column(*values)
    assert found.kind == "number"
    assert 'decimal = ","' in found.remarks[0]
    assert column(*values, "0.125").remarks == ()
    assert column(*(str(i) for i in range(40))).remarks == ()


@pytest.mark.parametrize("form", ["${}", "{}%", "{} €", "EUR {}", "{}-", "({})", "−{}", "{} kg", "{}°C"])
def test_numbers_with_signs_are_said_and_are_no_categories(form: str) -> None:
    Path("t.csv").write_text("x;n;y\n" + "".join(f"{form.format(i)};{i % 7};{i % 2}\n" for i in range(40)))
    values, text = starter("t.csv", target="y")
    assert values["data"]["columns"]["x"] == "string"
    assert "signs such as" in next(line for line in text.splitlines() if line.startswith("x = "))
    assert list(values["features"]) == ["n"]


def test_a_target_of_dates_is_refused_with_a_way_out() -> None:
    Path("t.csv").write_text("x,due day\n" + "".join(f"{i % 7},2020-01-{i % 28 + 1:02d}\n" for i in range(40)))
    with pytest.raises(InputError, match="is a timestamp") as caught:
        starter_project(["t.csv"], target="due day")
    assert 'EXTRACT(YEAR FROM "due day")' in caught.value.next_step


def test_errors_of_spreadsheets_among_numbers_are_missing() -> None:
    found = column("1.5", "#DIV/0!", "2.5", "n.a.", "#REF!", "3")
    assert (found.kind, found.missing) == ("number", 3)
    assert column("ab", "#REF!", "cd").missing == 0


def test_a_target_of_a_label_a_row_is_said() -> None:
    Path("t.csv").write_text("x,y\n" + "".join(f"{i % 7},u{i}\n" for i in range(40)))
    assert "40 labels" in starter_project(["t.csv"], target="y")

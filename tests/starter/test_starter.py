"""The starter project file: valid as it is, and it says what was seen."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from examples import examples
from hypothesis import given
from hypothesis import strategies as st
from real_data import needs_shared_data, shared_data

from rayforest import api
from rayforest.checking.check import check
from rayforest.errors import ConfigError, InputError
from rayforest.payments.generate import generate_payments
from rayforest.starter.starter import starter_project

ROWS = 400


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def starter(*data: str, target: str | None = None) -> dict[str, Any]:
    """The starter's values, after prepare has accepted the file as it is."""
    text = starter_project(list(data), target=target)
    Path("project.toml").write_text(text, encoding="utf-8")
    result = api.prepare("project.toml", replace=True)
    assert result.rows_in == result.rows_out + result.rows_quarantined
    assert result.rows_out > 0
    return tomllib.loads(text)


def comment(key: str) -> str:
    """What the starter says beside a key, which may itself stand in a comment."""
    match = re.search(rf"^(?:# )?{re.escape(key)} = .*?  # (.*)$", Path("project.toml").read_text(), re.MULTILINE)
    assert match is not None, f"{key} has no comment"
    return match[1]


def loans() -> pa.Table:
    rng = np.random.default_rng(5)
    age = rng.integers(18, 90, ROWS).astype(float)
    age[::50] = -999
    day = np.datetime64("2024-01-01T00:00") + rng.integers(0, 60 * 24 * 90, ROWS).astype("timedelta64[m]")
    return pa.table(
        {
            "loan_id": [f"L{i:05}" for i in range(ROWS)],
            "branch code": [f"{i % 7:03}" for i in range(ROWS)],
            "age": age,
            "income": np.round(rng.gamma(2, 1000, ROWS), 2),
            "housing": rng.choice(["own", "rent", "unknown"], ROWS),
            "rating": rng.integers(1, 6, ROWS),
            "opened": day.astype("datetime64[us]"),
            "paid": (day + np.timedelta64(3, "D")).astype("datetime64[us]"),
            "constant": np.ones(ROWS),
            "note": [f"text number {i} {rng.integers(10**6)}" for i in range(ROWS)],
            "default": rng.choice(["no", "no", "no", "yes"], ROWS),
        }
    )


def test_types_key_time_target_and_categories_are_found_in_parquet() -> None:
    pq.write_table(loans(), "loans.parquet")
    found = starter("loans.parquet")
    assert found["project"] == {"name": "loans"}
    assert found["data"]["source"] == "loans.parquet"
    assert (found["data"]["key"], found["data"]["target"], found["data"]["positive"]) == ("loan_id", "default", "yes")
    assert found["data"]["time"] == "opened"
    assert found["data"]["columns"] == {
        "loan_id": "string",
        "branch code": "string",
        "age": "number",
        "income": "number",
        "housing": "string",
        "rating": "number",
        "opened": "timestamp",
        "paid": "timestamp",
        "constant": "number",
        "note": "string",
        "default": "string",
    }
    assert "numbers with leading zeros" in comment('"branch code"')
    assert "is -999 a missing value?" in comment("age")
    assert 'null_values = ["unknown"]' in comment("housing")
    assert found["tune"]["metric"] == "auc"
    features = found["features"]
    assert features["branch code"] == '"branch code"'
    assert features["opened_hour"] == "EXTRACT(HOUR FROM opened)"
    assert features["opened_minus_paid_s"] == "opened - paid"
    assert not {"loan_id", "default", "opened", "constant"} & features.keys()
    assert comment("constant")
    assert comment("categorical") == "few whole numbers: codes, or quantities?"


def test_the_same_table_as_csv_gives_the_same_contract() -> None:
    pq.write_table(loans(), "loans.parquet")
    lines = [";".join(f'"{name}"' for name in loans().column_names)]
    lines += [";".join("?" if v == "unknown" else str(v) for v in row.values()) for row in loans().to_pylist()]
    Path("loans.txt").write_text("exported yesterday\n" + "\n".join(lines) + "\n", encoding="utf-16")
    typed, text = starter("loans.parquet"), starter("loans.txt")
    assert text["data"]["format"] == {
        "delimiter": ";",
        "header": True,
        "skip_lines": 1,
        "null_words": ["?"],
        "encoding": "utf-16",
    }
    assert text["data"]["columns"] == typed["data"]["columns"]
    assert text["features"] == typed["features"]


def test_a_table_without_a_header_gets_names_by_position() -> None:
    Path("t.data").write_text("".join(f"{i % 70}, {w}, {i * 7 % 5}\n" for i, w in enumerate(["no", "yes", "no"] * 30)))
    found = starter("t.data", target="c2")
    assert found["data"]["format"]["header"] is False
    assert found["data"]["positive"] == "yes"
    assert list(found["features"]) == ["c1", "c3"]
    assert '"c1", "c2", "c3"' in Path("project.toml").read_text()


def test_a_target_may_be_an_expression_whose_columns_are_no_features() -> None:
    pq.write_table(loans(), "loans.parquet")
    found = starter("loans.parquet", target="income > 2000 AND age > 30")
    assert found["data"]["target"] == "income > 2000 AND age > 30"
    assert not {"income", "age"} & found["features"].keys()
    assert found["tune"]["metric"] == "auc"
    assert starter("loans.parquet", target="income")["tune"]["metric"] == "rmse"


def test_a_target_that_does_not_exist_names_the_nearest_column() -> None:
    pq.write_table(loans(), "loans.parquet")
    with pytest.raises(ConfigError, match=r"'incme' is neither a column(.|\n)*did you mean 'income'"):
        starter_project(["loans.parquet"], target="incme")


def test_without_a_likely_target_the_line_is_a_comment() -> None:
    pq.write_table(pa.table({"x": np.arange(50.0) / 3, "z": np.arange(50.0) / 7}), "t.parquet")
    assert "target" not in starter("t.parquet")["data"]
    assert '# target = "COLUMN"' in Path("project.toml").read_text()


def test_timestamps_of_other_formats_and_dirt_among_numbers_are_told() -> None:
    rows = [f"{1 + i % 28:02}.{1 + i % 12:02}.2024;{'oops' if i == 77 else i * 1.5};{i % 3}" for i in range(200)]
    Path("t.csv").write_text("am;betrag;y\n" + "\n".join(rows) + "\n")
    found = starter("t.csv")
    assert found["data"]["columns"]["am"] == {"type": "timestamp", "format": "%d.%m.%Y"}
    assert found["data"]["columns"]["betrag"] == "number"
    assert "1 rows are not a number: quarantined" in comment("betrag")


def test_codes_among_numbers_stay_text() -> None:
    Path("t.csv").write_text(
        "code,y\n" + "".join(f"{250 + i % 20}.{i % 3},{i % 2}\n" for i in range(300)) + "V27,1\n" * 9
    )
    assert starter("t.csv")["data"]["columns"]["code"] == "string"
    assert "97.1% are numbers: codes?" in comment("code")


def test_many_files_that_a_shell_listed_become_one_glob() -> None:
    Path("in").mkdir()
    names = [f"in/{day:02}.csv" for day in range(1, 8)]
    for name in names:
        Path(name).write_text("a,b,y\n1,2,0\n3,4,1\n" * 1 + "5,6,0\n" * 20)
    assert starter(*names)["data"]["source"] == "in/*.csv"
    assert starter(*names[:6])["data"]["source"] == names[:6]
    assert starter("in")["project"]["name"] == "in"


def test_files_that_differ_are_told() -> None:
    pq.write_table(pa.table({"a": [1.5, 2.5] * 30, "b": ["x", "y"] * 30, "y": [0, 1] * 30}), "1.parquet")
    pq.write_table(pa.table({"a": ["z"] * 9, "b": ["x"] * 9, "y": [0] * 9}), "2.parquet")
    pq.write_table(pa.table({"a": [0.5] * 9, "y": [0] * 9}), "3.parquet")
    text = starter_project(["*.parquet"], target=None)
    assert "# Note: 2.parquet stores 'a' as another type than 1.parquet" in text
    assert "# Note: 3.parquet has no column 'b', unlike 1.parquet" in text


def test_columns_that_are_not_read_are_told() -> None:
    pq.write_table(pa.table({"a": [1.5, 2.5] * 30, "l": [[1], [2]] * 30, "y": [0, 1] * 30}), "t.parquet")
    assert list(starter("t.parquet")["data"]["columns"]) == ["a", "y"]
    assert "# l is left out: list<" in Path("project.toml").read_text()


def test_data_without_rows_or_readable_columns_is_refused() -> None:
    Path("head.csv").write_text("a,b\n")
    pq.write_table(pa.table({"l": [[1], [2]]}), "lists.parquet")
    with pytest.raises(InputError, match="has no rows"):
        starter_project(["head.csv"], target=None)
    with pytest.raises(InputError, match="no column that can be read"):
        starter_project(["lists.parquet"], target=None)
    with pytest.raises(InputError, match="does not exist"):
        starter_project(["nothing.csv"], target=None)


names = st.text(st.characters(codec="utf-8", exclude_characters="\0\r$"), min_size=1, max_size=12).filter(
    lambda n: n.strip() == n
)


@examples(30)
@given(st.lists(names, min_size=2, max_size=5, unique_by=str.lower))
def test_any_column_names_make_a_valid_file(columns: list[str]) -> None:
    table = {name: [float(i % (7 + place)) for i in range(40)] for place, name in enumerate(columns)}
    pq.write_table(pa.table(table), "t.parquet")
    text = starter_project(["t.parquet"], target=None)
    Path("project.toml").write_text(text, encoding="utf-8")
    assert list(tomllib.loads(text)["data"]["columns"]) == columns
    check("project.toml")


@pytest.mark.parametrize("form", ["parquet", "csv"])
def test_dirty_payments_are_understood(form: str) -> None:
    generate_payments(Path("in"), rows=4_000, days=3, dirty=0.03, format=form)  # type: ignore[arg-type]
    found = starter(f"in/*.{form}")
    assert (found["data"]["target"], found["data"]["time"]) == ("is_fraud", "paid_at")
    kinds = {name: kind if isinstance(kind, str) else kind["type"] for name, kind in found["data"]["columns"].items()}
    assert (kinds["amount"], kinds["paid_at"], kinds["cvv_matched"]) == ("number", "timestamp", "boolean")
    assert "-999" in comment("card_age_days")
    assert comment("key").endswith("repeats of a key are quarantined")


@needs_shared_data
@pytest.mark.parametrize(
    ("data", "target", "expected", "features"),
    [
        ("bank_marketing/*.csv", None, ("y", "yes", "auc"), 20),
        ("hflights/hflights.parquet", "ArrDelay > 15", ("ArrDelay > 15", None, "auc"), 19),
        ("diabetes130/diabetic_data.csv", None, ("readmitted", None, "log_loss"), 42),
        ("credit_taiwan", None, ("default payment", None, "auc"), 23),
        ("adult/adult.data", "c15", ("c15", ">50K", "auc"), 14),
    ],
)
def test_public_tables_get_a_valid_starter(
    data: str, target: str | None, expected: tuple[str, str | None, str], features: int
) -> None:
    text = starter_project([str(shared_data() / data)], target=target)
    Path("project.toml").write_text(text, encoding="utf-8")
    check("project.toml")
    found = tomllib.loads(text)
    assert (found["data"]["target"], found["data"].get("positive"), found["tune"]["metric"]) == expected
    assert len(found["features"]) == features

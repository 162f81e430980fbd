"""Numbers in text that are not written as SQL writes them: decimal commas and marks of thousands."""

from __future__ import annotations

import itertools
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rayforest
from rayforest.errors import ConfigError
from rayforest.kinds import Kind
from rayforest.project.load import load_project
from rayforest.sql import category_text
from rayforest.sql.casts import text_to_number
from rayforest.tables.number_style import NumberStyle

GERMAN = NumberStyle(",", ".")


def read(texts: list[str], style: NumberStyle) -> list[float | None]:
    frame = pl.DataFrame({"text": texts})
    return frame.select(text_to_number(style.plain(pl.col("text")))).to_series().to_list()


def test_marks_of_thousands_stand_between_groups_of_three_or_the_text_is_no_number() -> None:
    right = {
        "1.299,99": 1299.99,
        "-1.299": -1299.0,
        "12": 12.0,
        ",5": 0.5,
        " 1.000.000,25 ": 1000000.25,
    }
    assert read(list(right), GERMAN) == list(right.values())
    assert read(["12.99", "1.29,99", "1,299.99", "1.2999", "1,2,3", ".299", "x", ""], GERMAN) == [None] * 8


def test_without_a_mark_of_thousands_a_point_is_never_taken_for_one() -> None:
    assert read(["1,5", "1.299", "1.299,99"], NumberStyle(",")) == [1.5, None, None]


def test_any_blank_between_thousands_is_understood() -> None:
    assert read(["1 299,5", "1\u00a0299,5", "1\u202f299,5"], NumberStyle(",", " ")) == [1299.5] * 3


@given(
    st.decimals(min_value=-(10**9), max_value=10**9, places=2), st.sampled_from([(",", "."), (",", "'"), (".", ",")])
)
def test_what_is_written_in_a_style_is_read_back(value: object, marks: tuple[str, str]) -> None:
    decimal, thousands = marks
    text = f"{value:,.2f}".replace(",", "_").replace(".", decimal).replace("_", thousands)
    assert read([text], NumberStyle(decimal, thousands)) == [float(f"{value:.2f}")]


ROWS = ["id;price;rate;y", *(f"{i};1.{i:03d},50;0,{i % 10};{i % 2}" for i in range(100)), "x;12.99;0.5;1"]


def write(folder: Path, columns: str, options: str = 'delimiter = ";"\ndecimal = ","\nthousands = "."') -> Path:
    (folder / "table.csv").write_text("\n".join(ROWS) + "\n")
    file = folder / "project.toml"
    file.write_text(
        f'[project]\nname = "styles"\n[data]\nsource = "table.csv"\nkey = "price"\ntarget = "y"\n'
        f'[data.format]\n{options}\n[data.columns]\n{columns}\n[features]\nprice = "price"\nrate = "rate"\n'
        '[tune]\ntrials = 1\nmetric = "log_loss"\nspace.num_iterations = 2\n[score]\ncarry = ["rate"]\n'
    )
    return file


def test_a_files_number_style_holds_in_every_stage_and_stays_out_of_the_bundle(tmp_path: Path) -> None:
    project = write(tmp_path, 'price = "number"\nrate = "number"')
    result = rayforest.run(project)
    prepared, _, _, scored = result.steps
    assert (prepared.rows_out, prepared.rows_quarantined) == (100, 1)
    assert (scored.rows_out, scored.rows_quarantined) == (100, 1)
    frame = rayforest.read(tmp_path / "out" / "scored").collect()
    assert frame["price"].to_list() == [1000.5 + i for i in range(100)]
    assert frame["rate"].to_list() == [i % 10 / 10 for i in range(100)]
    contract = next((tmp_path / "out" / "bundle").glob("*/contract.json")).read_text()
    assert '"decimal": ","' not in contract


def test_a_column_may_be_written_in_a_style_of_its_own(tmp_path: Path) -> None:
    columns = 'price = { type = "number", decimal = ",", thousands = "." }\nrate = { type = "number", decimal = "," }'
    result = rayforest.prepare(write(tmp_path, columns, 'delimiter = ";"'))
    assert (result.rows_out, result.rows_quarantined) == (100, 1)


def test_undeclared_columns_in_a_files_style_are_numbers(tmp_path: Path) -> None:
    ROWS_ONLY = ROWS[:-1]
    (tmp_path / "clean").mkdir()
    project = write(tmp_path / "clean", "")
    (tmp_path / "clean" / "table.csv").write_text("\n".join(ROWS_ONLY) + "\n")
    assert rayforest.check(project).features == {"price": "number", "rate": "number"}


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ('thousands = "."', "thousands"),
        ('decimal = ","\nthousands = ","', "thousands"),
        ('thousands = "1"', "thousands"),
        ('quote = "ab"', "quote"),
        ('delimiter = ";"\nquote = ";"', "four different characters"),
        ('delimiter = "blanks"\nescape = "/"', "escape"),
        ('repeated_names = "drop"', "repeated_names"),
    ],
)
def test_options_that_contradict_each_other_are_refused(tmp_path: Path, options: str, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        load_project(write(tmp_path, "", options))


def test_keys_in_different_styles_are_one_key() -> None:
    texts = pl.DataFrame({"a": ["1.299", "1299", "1299,0"]}).select(text_to_number(GERMAN.plain(pl.col("a"))))
    names = texts.select(category_text(Kind.NUMBER, pl.col("a"))).to_series().to_list()
    assert all(left == right for left, right in itertools.pairwise(names))

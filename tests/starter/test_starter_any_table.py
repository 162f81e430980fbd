"""Whatever the table: init writes a file that prepare takes, or says in one error why none can be written."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from examples import examples
from hypothesis import assume, given
from hypothesis import strategies as st

from rayforest import api
from rayforest.errors import RayforestError
from rayforest.starter.starter import starter_project


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def init_then_prepare(*data: str) -> api.StageResult | None:
    """The result of prepare with init's own file; None where init refused the table."""
    try:
        text = starter_project(list(data), target=None)
    except RayforestError:  # anything else fails the test
        return None
    assert text == starter_project(list(data), target=None), "the same data gave another file"
    Path("project.toml").write_text(text, encoding="utf-8")
    result = api.prepare("project.toml", replace=True)
    assert result.rows_in == result.rows_out + result.rows_quarantined
    return result


cells = st.one_of(
    st.sampled_from(
        ["", " ", "0", "1", "2", "-1", "1.5", "1,5", "1.299,99", "NA", "NaN", "null", "None", "?", "-", "FR", "US", "x"]
    ),
    st.sampled_from(
        ["2024-01-31", "03/04/2025", "31/01/2025", "7/1/62", "2.1.9", "10.0.0.1", "2024-01-31 10:00", "true"]
    ),
    st.sampled_from(
        ["9007199254740993", "007", "1e5", "inf", "a,b", 'a"b', "a;b", "it's", "\u3000", "two\nlines", "#"]
    ),
    st.integers(-3, 10**17).map(str),
    st.text(st.characters(codec="utf-8", exclude_characters="\0\r\n"), max_size=6),
)
headers = st.one_of(
    st.sampled_from(
        ["id", "y", "d", "date", "target", "split", "prediction", "key", "", "x", "X", "*", "^a$", "a b", "1"]
    ),
    st.text(st.characters(codec="utf-8", exclude_characters="\0\r\n"), max_size=5),
)


@examples(30)
@given(st.data(), st.integers(1, 4), st.integers(1, 12), st.sampled_from(",;\t|"), st.booleans())
def test_prepare_takes_what_init_wrote_about_any_small_csv(
    data: st.DataObject, width: int, rows: int, delimiter: str, header: bool
) -> None:
    table = [[data.draw(cells) for _ in range(width)] for _ in range(rows)]
    names = [data.draw(headers) for _ in range(width)]
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter, lineterminator="\n").writerows([names, *table] if header else table)
    Path("t.csv").write_text(text.getvalue(), encoding="utf-8")
    init_then_prepare("t.csv")


values = {
    pa.int64(): st.integers(-(2**63), 2**63 - 1),
    pa.float64(): st.floats(),
    pa.string(): cells,
    pa.bool_(): st.booleans(),
    pa.date32(): st.dates(),
    pa.timestamp("ms"): st.datetimes(),
    pa.null(): st.none(),
}


@examples(25)
@given(st.data(), st.integers(1, 4), st.integers(1, 8))
def test_prepare_takes_what_init_wrote_about_any_small_parquet(data: st.DataObject, width: int, rows: int) -> None:
    names = data.draw(st.lists(headers.filter(bool), min_size=width, max_size=width, unique=True))
    columns = []
    for _ in range(width):
        stored = data.draw(st.sampled_from(list(values)))
        column = [data.draw(st.none() | values[stored]) for _ in range(rows)]
        try:
            columns.append(pa.array(column, stored))
        except (pa.ArrowInvalid, OverflowError):
            assume(False)
    pq.write_table(pa.table(columns, names), "t.parquet")
    init_then_prepare("t.parquet")


@pytest.mark.parametrize(
    "text",
    [
        "d\n2020-01-01\n2020-01-01\n",
        "id,ts\n1,2020-01-01\n2,2021-01-01\n",
        "x,x\n1,2\n",
        "New Dataset,Sample 022 by Admin, 2017\ncm-1,T\n4000,98\n3999,97\n",
        "Ad,Media\nVisit,9806,13104\nSign-up,3065,6096\n",
        "x1,NaN\nx2,1\nx3,2\n",
        "Title,,\n,,\na,b,c\n1,2,3\n4,5,6\n",
        "a\n\n",
        "v\n1\n",
        "only text\n",
    ],
)
def test_small_troublesome_tables(text: str) -> None:
    Path("t.csv").write_text(text)
    result = init_then_prepare("t.csv")
    assert result is None or result.rows_out > 0

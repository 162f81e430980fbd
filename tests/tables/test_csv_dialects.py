"""Text tables that are not written as RFC 4180 says: other quotes, escapes, comments, runs of blanks, loose ends."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import pytest
from examples import examples
from hypothesis import assume, example, given
from hypothesis import strategies as st
from table_reading import csv_source, read_all, read_or_refuse

import rayforest
from rayforest.errors import InputError
from rayforest.tables.batch import BLANKS, CsvFormat
from rayforest.tables.csv import pieces as csv_pieces
from rayforest.tables.csv.rows import OPEN_QUOTE
from rayforest.tables.reading import columns, list_files

FORMS = {
    "escape": CsvFormat(escape="\\"),
    "quote": CsvFormat(quote="'"),
    "no quote": CsvFormat(quote=""),
    "comment": CsvFormat(comment="#"),
    "comment, escape": CsvFormat(comment="#", escape="\\"),
    "all": CsvFormat(quote="'", escape="\\", comment="#", trim=True),
    "trailing": CsvFormat(trailing_delimiter=True),
    "trailing, trimmed": CsvFormat(trailing_delimiter=True, trim=True, comment="#"),
    "blanks": CsvFormat(delimiter=BLANKS, comment="#"),
}
QUOTE = '"'
ENDS = ["\n", "\r\n", ",\n", "\n#\"c'\n", "\n#c\\\n"]
fields = st.one_of(
    st.text(alphabet="ab 1\"',\n\\#é", max_size=4),
    st.sampled_from(['"x,y"', "'x,y'", '"x\n#y"', "'say ''hi'''", '"a\\"b"', "\\,", "\\\n", "#c", "", "a b"]),
)
bodies = st.lists(st.tuples(st.lists(fields, max_size=4).map(",".join), st.sampled_from(ENDS)), max_size=10).map(
    lambda rows: "".join(line + end for line, end in rows)
)
slow = examples(30)


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@slow
@given(bodies, st.integers(1, 5), st.integers(1, 40))
@example('\\\n,"\n', 1, 1)  # with an escape, the first line of the row that is not believed ends after the comma
@example('"\n#",\\\n,"\n', 1, 1)  # the second line is a comment only where the first one is a broken row
def test_any_slicing_gives_the_rows_of_one_slice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: CsvFormat, body: str, shard_rows: int, piece_bytes: int
) -> None:
    body = body if form.delimiter != BLANKS else body.replace(",", " \t")
    head = "a b c\n" if form.delimiter == BLANKS else "a,b,c\n"
    source = csv_source(tmp_path, (head + body).encode(), form)
    whole = read_all(source)
    with monkeypatch.context() as patch:
        patch.setattr(csv_pieces, "PIECE_BYTES", piece_bytes)
        sliced = read_all(source, shard_rows=shard_rows)
    assert (sliced.values, sliced.broken, sliced.raw) == (whole.values, whole.broken, whole.raw)


@pytest.mark.parametrize("form", [FORMS["escape"], FORMS["quote"], FORMS["no quote"]], ids=["escape", "quote", "none"])
@slow
@given(bodies)
def test_values_are_those_of_the_csv_module(tmp_path: Path, form: CsvFormat, body: str) -> None:
    assume("\\\n" not in body and "\\\r" not in body and not body.endswith("\\"))  # it ends a row there
    found = read_all(csv_source(tmp_path, f"a,b,c\n{body}".encode(), form))
    assume(not any(broken.reason == OPEN_QUOTE for broken in found.broken.values()))
    options: dict[str, Any] = {"escapechar": form.escape}
    options |= {"quotechar": form.quote} if form.quote else {"quoting": csv.QUOTE_NONE}
    expected = [row for row in csv.reader(io.StringIO(body, newline=""), **options) if row]
    assert found.count == len(expected)
    for (_, row), values in found.values.items():
        assert values == tuple(field or None for field in expected[row])
    for (_, row), broken in found.broken.items():
        assert len(expected[row]) != 3 or "quote" in broken.reason


def values(folder: Path, text: str, form: CsvFormat) -> list[tuple[object, ...]]:
    found = read_all(csv_source(folder, text.encode(), form))
    assert not found.broken
    return list(found.values.values())


def test_an_escaped_quote_does_not_end_a_value(tmp_path: Path) -> None:
    text = 'id,t\n1,"a \\" quote"\n2,"ends in \\\\"\n3,"says \\"hi\\", twice"\n4,"a ""doubled"" one"\n5,bare\n'
    assert [t for _, t in values(tmp_path, text, FORMS["escape"])] == [
        'a " quote',
        "ends in \\",
        'says "hi", twice',
        'a "doubled" one',
        "bare",
    ]


def test_without_an_escape_each_such_line_is_broken_by_itself(tmp_path: Path) -> None:
    lines = ['"plain"', '"a \\" quote"', '"says \\"hi\\", twice"', "bare", '"a ""doubled"" one"', '"ends in \\\\"']
    text = "id,t,x\n" + "".join(f"{i},{lines[i % 6]},{i}\n" for i in range(120))
    found = read_all(csv_source(tmp_path, text.encode()))
    assert found.count == 120
    assert {row % 6 for _, row in found.broken} == {1, 2}


def test_runs_of_blanks_separate_values_and_quotes_keep_theirs(tmp_path: Path) -> None:
    text = '  id   name\tx \n 1   "a  b"  2.5\n2\t\tc\t3\n   \n# none of these\n3 d "" \n'
    found = read_all(csv_source(tmp_path, text.encode(), FORMS["blanks"]))
    assert list(found.values.values()) == [("1", "a  b", "2.5"), ("2", "c", "3"), ("3", "d", None)]
    assert found.raw["table.csv", 0] == ' 1   "a  b"  2.5'


def test_comments_are_left_out_wherever_they_stand_but_not_in_quotes(tmp_path: Path) -> None:
    text = '# "made by\nid,t\n1,"x\n# y"\n#,2,"3\n2,# no comment\n# at the end'
    assert values(tmp_path, text, FORMS["comment"]) == [("1", "x\n# y"), ("2", "# no comment")]


def test_a_comment_ends_with_its_line_even_if_that_ends_in_an_escape(tmp_path: Path) -> None:
    text = 'id,t\n# from C:\\data\\\n1,"a \\" b"\n#\\\\\\\n2,\\#\n3,x\\\n# no comment\n'
    assert values(tmp_path, text, FORMS["comment, escape"]) == [("1", 'a " b'), ("2", "#"), ("3", "x\n# no comment")]


def test_a_delimiter_that_ends_each_row_separates_nothing_where_the_project_says_so(tmp_path: Path) -> None:
    text = 'a,b,c\n1,2,3,\n4,5,6\n7,8,,\n9,"x,",y,\n'
    assert values(tmp_path, text, FORMS["trailing"]) == [
        ("1", "2", "3"),
        ("4", "5", "6"),
        ("7", "8", None),
        ("9", "x,", "y"),
    ]
    assert values(tmp_path, "a,b,\n1,2,\n3,4,\n", FORMS["trailing"]) == [("1", "2"), ("3", "4")]
    long = read_all(csv_source(tmp_path, b"a,b\n1,2,,\n3,4,5\n", FORMS["trailing"]))
    assert [b.reason for b in long.broken.values()] == [
        "too many fields: 4 instead of 2",
        "too many fields: 3 instead of 2",
    ]
    plain = read_all(csv_source(tmp_path, b"a,b\n1,2,\n3,4\n"))
    assert [b.reason for b in plain.broken.values()] == ["too many fields: 3 instead of 2"]


def test_a_name_that_stands_twice_is_refused_or_numbered(tmp_path: Path) -> None:
    text = b"x,y,x,x,x_2\n1,2,3,4,5\n"
    refused = read_or_refuse(csv_source(tmp_path, text))
    assert isinstance(refused, InputError)
    assert "'x'" in refused.what
    assert 'repeated_names = "number"' in refused.next_step
    source = csv_source(tmp_path, text, CsvFormat(repeated_names="number"))
    assert list(columns(list_files(source)[0], source)) == ["x", "y", "x_3", "x_4", "x_2"]
    assert list(read_all(source).values.values()) == [("1", "2", "3", "4", "5")]


def test_a_quote_that_nothing_closes_costs_its_own_row_and_the_budget_counts_it_once(tmp_path: Path) -> None:
    rows = [f"{i},{QUOTE if i == 50 else ''}s,{i}" for i in range(2_000)]
    (tmp_path / "table.csv").write_text("id,t,x\n" + "\n".join(rows) + "\n")
    (tmp_path / "project.toml").write_text(
        '[project]\nname = "q"\n[data]\nsource = "table.csv"\nkey = "id"\nerror_budget = 1\n'
    )
    result = rayforest.prepare(tmp_path / "project.toml")
    assert (result.rows_in, result.rows_out, result.rows_quarantined) == (2_000, 1_999, 1)

"""Where a table stands in a file: titles, header lines, other tables, names that do not fit."""

from __future__ import annotations

from pathlib import Path

import pytest

from rayforest.errors import InputError
from rayforest.starter.sniff import Sniffed, sniff
from rayforest.tables.batch import CsvFormat
from rayforest.tables.csv import read_head
from rayforest.tables.raw_file import LocalFile

ROWS = "Ulm,1,2.5\nBonn,2,3.5\nKiel,3,4.5\n"


def sniffed(folder: Path, text: str) -> Sniffed:
    (folder / "t.csv").write_text(text, encoding="utf-8", newline="")
    return sniff(LocalFile(folder / "t.csv"))


def names(folder: Path, form: CsvFormat) -> tuple[str, ...]:
    """The names that the reader gives."""
    return read_head(LocalFile(folder / "t.csv"), form).names


@pytest.mark.parametrize(
    "text",
    [
        "Title,,\n,,\na,b,c\n",
        "Title\n\na,b,c\n",
        "Title of a report, by us, in 2017, revised\na,b,c\n",
        ",,\n,,\na,b,c\n",
        "note,from,elsewhere,with,more\nand,another,line,of,it\na,b,c\n",
        '"a title,\nof two lines",,\na,b,c\n',
    ],
)
def test_what_stands_above_the_header_is_no_header(tmp_path: Path, text: str) -> None:
    form = sniffed(tmp_path, text + ROWS).format
    assert (form.header, names(tmp_path, form)) == (True, ("a", "b", "c"))


@pytest.mark.parametrize(
    "text",
    [
        "x1,NaN\nx2,1\nx3,2\n",
        "x1,\nx2,5\nx3,6\n",
        "2/28/2008,1:00:00,NaN\n2/28/2008,2:00:00,NaN\n2/28/2008,3:00:00,7\n",
        "1,2,3\n",
        '1|6|"a"\n2|7|"b\nx\nx\nx\nx"\n3|8|"c"\n',
    ],
)
def test_a_first_row_of_values_is_no_header_though_some_are_missing(tmp_path: Path, text: str) -> None:
    form = sniffed(tmp_path, text).format
    assert (form.header, form.skip_lines) == (False, 0)


@pytest.mark.parametrize(
    ("text", "delimiter"),
    [
        ("text|number\nfoo|123,000\nfoo|124,000\n", "|"),
        ('1|6|"a"\n2|7|"b\nx\nx\nx\nx"\n3|8|"c"\n', "|"),
        ("a;b\n1,5;x\n2,5;y\n", ";"),
        ("a\tb\nx, y\t1\nz, w\t2\n", "\t"),
    ],
)
def test_a_comma_inside_values_does_not_win(tmp_path: Path, text: str, delimiter: str) -> None:
    assert sniffed(tmp_path, text).format.delimiter == delimiter


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        ("left,,right\nx,y,x\n", ("left x", "left y", "right x")),
        ("city,speed,weight\n,km/h,kg\n", ("city", "speed km/h", "weight kg")),
        ("a,b,c\na,b,c\n", ("a a", "b b", "c c")),
        ("a,group,\n,,\n,x,y\n", ("a", "group x", "group y")),
    ],
)
def test_several_header_lines_are_joined_and_said(tmp_path: Path, head: str, expected: tuple[str, ...]) -> None:
    found = sniffed(tmp_path, head + ROWS)
    assert names(tmp_path, found.format) == expected
    assert "2 header lines are joined to names" in found.notes


@pytest.mark.parametrize(
    ("head", "expected", "said"),
    [
        ("a,b\n", ("a", "b", "c3"), "1 names less"),
        (",a,b,c\n", ("a", "b", "c"), "nameless ones are left out"),
        ("a,b,c,d\n", ("a", "b", "c"), "the last are left out"),
    ],
)
def test_a_header_of_another_width_gets_names_and_is_said(
    tmp_path: Path, head: str, expected: tuple[str, ...], said: str
) -> None:
    found = sniffed(tmp_path, head + ROWS)
    assert names(tmp_path, found.format) == expected
    assert any(said in note for note in found.notes)


def test_a_header_that_names_no_first_column_of_row_numbers_gets_one(tmp_path: Path) -> None:
    found = sniffed(tmp_path, "city,size\n1,Ulm,2.5\n2,Bonn,3.5\n3,Kiel,4.5\n")
    assert names(tmp_path, found.format) == ("row", "city", "size")


def test_a_broken_row_below_the_header_does_not_hide_it(tmp_path: Path) -> None:
    for broken in ("Rom,1\n", "Rom,1,2,3\n", '"Rom,1,2.5\nParis",4,5,6,7,8\n'):
        form = sniffed(tmp_path, "a,b,c\n" + broken + ROWS).format
        assert (form.header, form.skip_lines, form.names) == (True, 0, ())


def test_a_file_of_two_tables_is_named(tmp_path: Path) -> None:
    two = sniffed(tmp_path, "a,b,c\n" + ROWS + "\nd,e\n1,2\n3,4\n5,6\n")
    assert "does the file hold two tables? from line 6 on" in two.notes[0]
    same = sniffed(tmp_path, "a,b,c\n" + ROWS + "\na,b,c\n" + ROWS)
    assert "line 6 repeats the header" in same.notes[0]
    assert not sniffed(tmp_path, "a,b,c\n" + ROWS).notes


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a,b\n'x, y',1\n'z',2\n'w, v',3\n", {"quote": "'"}),
        ('a,b\n"x \\" y, z",1\n"u",2\n"w \\"v\\", t",3\n', {"escape": "\\"}),
        ("a,b\n1,2\n# a note\n3,4\n5,6\n", {"comment": "#"}),
        ("x   y  z\n1   2.5   3\n4   5.5\t6\n7  8 9\n", {"delimiter": "blanks"}),
        ("a,b\n1,2,\n3,4,\n5,6,\n", {"trailing_delimiter": True}),
        ("x,x,y\n1,2,3\n4,5,6\n", {"repeated_names": "number"}),
        ("a,b\n5'11,it's\n6'2,that's\n", {}),
        ("name\nAnn Lee\nBob Ray\nCid Moe\n", {}),
        ("tag,x\n#fun,2\nhat,3\n#sun,4\nbat,5\n", {}),
    ],
)
def test_unusual_marks_are_found_where_they_are_used(tmp_path: Path, text: str, expected: dict[str, object]) -> None:
    form = sniffed(tmp_path, text).format
    unusual = {key: value for key, value in vars(form).items() if value != getattr(CsvFormat(), key)}
    assert unusual == expected


def test_pairs_of_index_and_value_are_no_table(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="looks like SVMlight text"):
        sniffed(tmp_path, "1 1:0.5 7:1\n-1 2:0.25 9:1 11:3\n1 qid:3 3:1e-3 # note\n")


def test_a_name_that_stands_twice_is_numbered_and_said(tmp_path: Path) -> None:
    found = sniffed(tmp_path, "x,x,y\n" + ROWS)
    assert names(tmp_path, found.format) == ("x", "x_2", "y")
    assert any("a name twice" in note for note in found.notes)


def test_a_line_separator_of_another_script_ends_no_line(tmp_path: Path) -> None:
    form = sniffed(tmp_path, "Ti\u2028tle\nmore\x0bof it\n\na,b,c\n" + ROWS).format
    assert (form.skip_lines, names(tmp_path, form)) == (3, ("a", "b", "c"))


def test_years_over_the_numbers_of_those_years_are_names(tmp_path: Path) -> None:
    rows = "".join(f"land{i},{i * 3 + 500},{i * 2},{i % 5}\n" for i in range(20))
    found = sniffed(tmp_path, "country,2019,2020,2021\n" + rows)
    assert names(tmp_path, found.format) == ("country", "2019", "2020", "2021")
    assert not sniffed(tmp_path, "land,2019,1200,7\n" + rows).format.header


def test_rows_of_which_some_end_in_a_delimiter_are_read_and_said(tmp_path: Path) -> None:
    rows = [f"{i},b{i % 2},{i % 5}{',' if i % 3 == 0 else ''}\n" for i in range(40)]
    found = sniffed(tmp_path, "id,s,y\n" + "".join(rows))
    assert found.format.trailing_delimiter
    assert "ends some rows" in found.notes[0]
    shifted = [f"{i},Smith, John,\n" if i % 3 == 0 else f"{i},b{i % 2},{i % 5}\n" for i in range(40)]
    assert not sniffed(tmp_path, "id,s,y\n" + "".join(shifted)).format.trailing_delimiter


def test_delimiters_between_single_quotes_are_part_of_the_value(tmp_path: Path) -> None:
    found = sniffed(tmp_path, "id,s,y\n" + "".join(f"{i},'it, x{i % 3}',{i % 2}\n" for i in range(20)))
    assert (found.format.quote, found.format.header, found.format.names) == ("'", True, ())


def test_a_table_of_markdown_has_the_names_of_its_header(tmp_path: Path) -> None:
    text = "| id | s | y |\n|----|:--|---|\n" + "".join(f"| {i} | b{i % 2} | {i % 5} |\n" for i in range(20))
    assert sniffed(tmp_path, text).format.names == ("c1", "id", "s", "y", "c5")


def test_a_line_drawn_below_the_header_does_not_hide_it(tmp_path: Path) -> None:
    text = " id | s  | y\n----+----+---\n" + "".join(f"{i:3d} | b{i % 2} | {i % 5}\n" for i in range(20))
    found = sniffed(tmp_path, text)
    assert names(tmp_path, found.format) == ("id", "s", "y")

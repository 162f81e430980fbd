"""Guesses about how a text table is written."""

from __future__ import annotations

import csv
import gzip
import io
from dataclasses import replace
from pathlib import Path

import pytest
from examples import examples
from hypothesis import given
from hypothesis import strategies as st
from real_data import needs_shared_data, shared_data

from rayforest.errors import InputError
from rayforest.starter.columns_section import Writing
from rayforest.starter.look import look_at
from rayforest.starter.sniff import SNIFF_BYTES
from rayforest.starter.sniff import sniff as sniff_file
from rayforest.tables.raw_file import LocalFile
from rayforest.tables.reading import CsvFormat, Source, list_files

PLAIN = "name,age,city\nAnn,31,Ulm\nBob,42,Bonn\nCid,53,Kiel\n"


def sniff_csv(path: Path) -> CsvFormat:
    """The format that a starter file has, with the words for missing values that its columns tell."""
    form = sniff_file(LocalFile(path)).format
    source = Source((str(path),), path.parent, csv=form)
    return replace(form, null_words=("", *Writing.of(look_at(list_files(source), source)).null_words))


def sniff(folder: Path, data: str | bytes, name: str = "table.csv") -> CsvFormat:
    (folder / name).write_bytes(data.encode() if isinstance(data, str) else data)
    return sniff_csv(folder / name)


def test_a_plain_table_has_the_default_format(tmp_path: Path) -> None:
    assert sniff(tmp_path, PLAIN) == CsvFormat()
    assert sniff(tmp_path, gzip.compress(PLAIN.encode()), "t.csv.gz") == CsvFormat()


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_the_one_that_gives_the_same_fields_in_every_row(tmp_path: Path, delimiter: str) -> None:
    rows = [["note", "share", "when"], ["a, b; c|d", "1,5", "10:30"], ["e", "2,5", "11:30"], ["f, g", "3,25", "12:00"]]
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter).writerows(rows)
    assert sniff(tmp_path, text.getvalue()).delimiter == delimiter


def test_decimal_commas_do_not_hide_semicolons(tmp_path: Path) -> None:
    form = sniff(tmp_path, "1,5;2,5;3,5\n4,5;5,5;6,5\n7,0;8,0;9,0\n")
    assert form.delimiter == ";"


@pytest.mark.parametrize(
    ("text", "header"),
    [
        (PLAIN, True),
        ("Ann,31\nBob,42\nCid,53\n", False),
        ("1,2,3\n", False),
        ("a,b\n1,2\n", True),
        ("city,street\nUlm,Weg\nBonn,Gasse\n", True),
        ("red,small\nblue,small\nred,large\nred,small\n", False),
        ("id,b,c\n1,b,c\n2,b,c\n", True),
        ("age,2010\nyoung,1.5\nold,2.5\n", False),
    ],
)
def test_a_header_is_text_over_numbers_or_never_occurs_below(tmp_path: Path, text: str, header: bool) -> None:
    assert sniff(tmp_path, text).header is header


@pytest.mark.parametrize(
    ("junk", "lines"),
    [
        ("", 0),
        ("|1x3 Cross validator\n", 1),
        ("Report of 2024\n\nall figures in EUR\n\n", 4),
        ("\n\n", 0),
        ('"open quote\n', 1),
    ],
)
def test_lines_before_the_table_are_junk(tmp_path: Path, junk: str, lines: int) -> None:
    form = sniff(tmp_path, junk + PLAIN)
    assert (form.skip_lines, form.header, form.delimiter) == (lines, True, ",")


def test_blanks_around_values_are_a_habit_or_an_accident(tmp_path: Path) -> None:
    assert sniff(tmp_path, "a, b, c\n1, 2, 3\n4, 5, 6\n").trim
    assert sniff(tmp_path, 'a,b\n1,x\n2, "y, z"\n').trim
    assert not sniff(tmp_path, "a,b\n" + "1,x\n" * 50 + "2,y \n").trim


def test_null_words_are_found_where_they_cannot_be_values(tmp_path: Path) -> None:
    assert sniff(tmp_path, "a,b\n1,NA\n2,x\nN/A,?\n").null_words == ("", "?", "NA", "N/A")
    assert sniff(tmp_path, "a,b\n1,None\n-,x\n3,y\n").null_words == ("", "-"), "None is a value of b"
    assert sniff(tmp_path, "a,b\n1,unknown\n2,known\n").null_words == ("",)
    dirty = "".join(f"{i}\n" for i in range(100))
    assert sniff(tmp_path, f"a,b\n{dirty.replace(chr(10), ',1' + chr(10))}oops,1\nunknown,1\n").null_words == (
        "",
        "unknown",
    )


@pytest.mark.parametrize(
    ("data", "encoding"),
    [
        (PLAIN.encode(), "utf-8"),
        ("\ufeff" + PLAIN, "utf-8"),
        (PLAIN.replace("Ulm", "Köln"), "utf-8"),
        (PLAIN.replace("Ulm", "Köln").encode("latin-1"), "latin-1"),
        (PLAIN.replace("Ulm", "5 €").encode("cp1252"), "cp1252"),
        (PLAIN.encode("utf-16"), "utf-16"),
        (b"\xfe\xff" + PLAIN.encode("utf-16-be"), "utf-16"),
        (PLAIN.encode("utf-16-le"), "utf-16-le"),
        (PLAIN.encode("utf-16-be"), "utf-16-be"),
        (PLAIN.encode("utf-32"), "utf-32"),
    ],
)
def test_encodings_are_told_by_their_marks_and_bytes(tmp_path: Path, data: str | bytes, encoding: str) -> None:
    form = sniff(tmp_path, data)
    assert (form.encoding, form.delimiter, form.header) == (encoding, ",", True)


@pytest.mark.parametrize("shift", range(4))
def test_a_character_cut_by_the_bound_of_the_look_is_no_other_encoding(tmp_path: Path, shift: int) -> None:
    text = "name,b\n" + "x" * shift + "\n" + "ü€,1\n" * (SNIFF_BYTES // 8)
    assert len(text.encode()) > SNIFF_BYTES
    assert sniff(tmp_path, text).encoding == "utf-8"


def test_a_file_without_text_is_refused(tmp_path: Path) -> None:
    for data in (b"", b"\n \n", b"\xef\xbb\xbf"):
        with pytest.raises(InputError, match="has no text"):
            sniff(tmp_path, data)


@examples(80)
@given(st.binary(min_size=1, max_size=200))
def test_any_bytes_give_a_format_or_an_input_error_and_always_the_same(tmp_path: Path, data: bytes) -> None:
    def outcome() -> CsvFormat | str:
        try:
            return sniff(tmp_path, data)
        except InputError as error:
            return str(error)

    assert outcome() == outcome()


@needs_shared_data
@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("adult/adult.data", CsvFormat(header=False, trim=True, null_words=("", "?"))),
        ("adult/adult.test", CsvFormat(header=False, trim=True, null_words=("", "?"), skip_lines=1)),
        ("bank_marketing/bank-additional-full.csv", CsvFormat(delimiter=";")),
        ("hflights/hflights.csv", CsvFormat(null_words=("", "NA"))),
        ("beijing_air/PRSA_Data_Dongsi_20130301-20170228.csv", CsvFormat(null_words=("", "NA"))),
        ("diabetes130/diabetic_data.csv", CsvFormat(null_words=("", "?"))),
        ("credit_taiwan/credit-card-clients.csv", CsvFormat()),
        ("lightgbm_examples/binary_classification/binary.train", CsvFormat(delimiter="\t", header=False)),
        ("csvkit_examples/test_utf16_little.csv", CsvFormat(encoding="utf-16")),
        ("csvkit_examples/test_latin1.csv", CsvFormat(encoding="latin-1")),
        ("csvkit_examples/sniff_limit.csv", CsvFormat(delimiter=";")),
        ("csvkit_examples/join_a.csv", CsvFormat()),
    ],
)
def test_public_tables_are_sniffed_as_a_person_would(path: str, expected: CsvFormat) -> None:
    assert sniff_csv(shared_data() / path) == expected

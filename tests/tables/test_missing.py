"""What counts as missing: the empty text and the words that the project file names, and nothing else."""

from __future__ import annotations

import sys
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest
from table_reading import csv_source, read_all

from rayforest.features.contract import ColumnContract, Contract, is_missing
from rayforest.features.keys import canonical_keys
from rayforest.kinds import Kind
from rayforest.sql.casts import BLANKS
from rayforest.tables.batch import CsvFormat
from rayforest.tables.conversion import to_kind

SPACES = [chr(code) for code in range(sys.maxunicode + 1) if chr(code).isspace() and chr(code) not in BLANKS]
OF_BLANKS = [*SPACES, "\u200b", "\u2800", *(mark * 3 for mark in SPACES), " \u3000\t"]
ASCII_BLANKS = [" ", "\t", "  \t "]
words = pytest.mark.parametrize("words", [(), ("NA",), ("NA", -999)], ids=["no words", "a word", "a word and a number"])


def _missing(texts: list[str], column: ColumnContract) -> list[bool]:
    series = pl.Series(column.name, texts)
    return series.to_frame().select(is_missing(series.dtype, column)).to_series().to_list()


@words
@pytest.mark.parametrize("kind", Kind)
def test_a_text_of_blanks_that_are_not_ascii_is_never_missing(kind: Kind, words: tuple[str | float, ...]) -> None:
    column = ColumnContract("c", kind, null_values=words)
    assert _missing(OF_BLANKS, column) == [False] * len(OF_BLANKS)
    assert _missing(["", "NA"], column) == [True, bool(words)]


@words
def test_text_is_taken_as_it_stands(words: tuple[str | float, ...]) -> None:
    texts = [*OF_BLANKS, *ASCII_BLANKS, " NA", "NA\u3000", "x "]
    column = ColumnContract("c", Kind.STRING, null_values=words)
    assert not any(_missing(texts, column))
    assert (
        pl.DataFrame({"c": texts}).select(to_kind(pl.col("c"), pl.String(), Kind.STRING)).to_series().to_list() == texts
    )


@words
@pytest.mark.parametrize("kind", [Kind.NUMBER, Kind.BOOLEAN, Kind.TIMESTAMP])
def test_blanks_and_tabs_alone_are_missing_where_no_text_is_meant(kind: Kind, words: tuple[str | float, ...]) -> None:
    column = ColumnContract("c", kind, null_values=words)
    assert all(_missing(ASCII_BLANKS, column))
    assert _missing([" NA\t"], column) == [bool(words)]


@pytest.mark.parametrize("format", [None, "%Y%m%d", "%d.%m.%Y"])
@pytest.mark.parametrize("kind", [Kind.NUMBER, Kind.BOOLEAN, Kind.TIMESTAMP])
def test_a_text_of_other_blanks_fails_its_row_in_a_column_of_another_kind(kind: Kind, format: str | None) -> None:  # noqa: A002
    column = ColumnContract("c", kind, format=format if kind is Kind.TIMESTAMP else None)
    frame = pl.DataFrame({"c": OF_BLANKS})
    read = frame.select(to_kind(pl.col("c"), pl.String(), kind, column.format)).to_series()
    assert read.null_count() == len(OF_BLANKS)
    assert not any(_missing(OF_BLANKS, column))


@words
def test_a_key_of_other_blanks_is_a_key(words: tuple[str | float, ...]) -> None:
    contract = Contract((ColumnContract("id", Kind.STRING, null_values=words, required=True),))
    keys = canonical_keys(contract, pa.table({"id": [*OF_BLANKS, ""]}), ["id"])
    assert keys["id"].to_list() == [*OF_BLANKS, None]


@pytest.mark.parametrize("trim", [False, True])
def test_the_reader_leaves_other_blanks_alone(tmp_path: Path, trim: bool) -> None:
    texts = [text for text in OF_BLANKS if not set(text) & set("\n\r\t \x0b\x0c\x1c\x1d\x1e\x1f")]
    data = "id,c\n" + "".join(f"{i},{text}\n" for i, text in enumerate(texts))
    form = CsvFormat(trim=trim, null_words=("NA",))
    found = read_all(csv_source(tmp_path, data.encode(), form))
    assert [values[1] for values in found.values.values()] == texts
    padded = read_all(csv_source(tmp_path, b"id,c\n1, \t\n2,NA\n", form))
    assert [values[1] for values in padded.values.values()] == [None if trim else " \t", None]

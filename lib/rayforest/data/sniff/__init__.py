"""Guess how a text table is written from its beginning: encoding, dialect, header, what lies above it, null words.

The same file gives the same answer; nothing after the first SNIFF_BYTES is looked at, but for null words in the first
SNIFF_ROWS rows. A guess is for a starter file, which a person reads: reading itself never guesses.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from rayforest.data.csv import sample_rows
from rayforest.data.csv.infer import readable_as
from rayforest.data.kinds import Kind
from rayforest.data.raw import CsvFormat
from rayforest.data.sniff.dialect import find_dialect, parse
from rayforest.data.sniff.layout import find_layout
from rayforest.data.sniff.text import SNIFF_BYTES, read_beginning
from rayforest.data.sniff.words import NULL_AMID_NUMBERS, NULL_WORDS
from rayforest.errors import InputError

__all__ = ["NEARLY_ALL", "NULL_AMID_NUMBERS", "NULL_WORDS", "SNIFF_BYTES", "Sniffed", "sniff", "sniff_csv"]

SNIFF_ROWS = 50_000

NEARLY_ALL = 0.95
"""Share of numbers that makes a column one of numbers with some dirt in it."""


@dataclass(frozen=True)
class Sniffed:
    """How a text table is written, and what a person should know about it."""

    format: CsvFormat
    notes: tuple[str, ...] = ()


def sniff_csv(path: str | Path) -> CsvFormat:
    """The most likely format of a text table; see `sniff`."""
    return sniff(path).format


def sniff(path: str | Path) -> Sniffed:
    """The most likely format of a text table, and notes.

    Raises:
        InputError: the file cannot be read or has no text.
    """
    begin = read_beginning(str(path))
    if not any(line.strip() for line in begin.lines):
        raise InputError(f"{path} has no text", expected="rows of a table")
    dialect = find_dialect(begin.lines)
    layout = find_layout(parse(begin.lines, dialect), begin.lines)
    form = CsvFormat(
        delimiter=dialect.delimiter,
        header=layout.header,
        names=layout.names,
        skip_lines=layout.skip_lines,
        trim=dialect.trim,
        encoding=begin.encoding,
    )
    return Sniffed(replace(form, null_words=("", *_null_words(str(path), form))), layout.notes)


def _null_words(path: str, form: CsvFormat) -> list[str]:
    """Words for missing values among the first rows."""
    found: set[str] = set()
    table = sample_rows(path, form, SNIFF_ROWS)
    for index in range(table.num_columns):
        texts = pl.Series("text", table.column(index)).drop_nulls()
        words = set(texts.filter(texts.is_in([*NULL_WORDS, *NULL_AMID_NUMBERS])).unique())
        found |= words.intersection(NULL_WORDS)
        weak = words.intersection(NULL_AMID_NUMBERS)
        others = texts.filter(~texts.is_in(list(words)))
        if weak and others.len() and readable_as(others, Kind.NUMBER).sum() >= NEARLY_ALL * others.len():
            found |= weak
    return [word for word in (*NULL_WORDS, *NULL_AMID_NUMBERS) if word in found]

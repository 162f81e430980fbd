"""Guess how a text table is written from its beginning: delimiter, header, junk before it, encoding, null words.

The same file gives the same answer; nothing after the first SNIFF_BYTES is looked at, but for null words in the first
SNIFF_ROWS rows. A guess is for a starter file, which a person reads: reading itself never guesses.
"""

from __future__ import annotations

import contextlib
import csv
import io
import math
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from rayforest.data.csv import sample_rows
from rayforest.data.csv.blocks import read_blocks
from rayforest.data.csv.infer import readable_as
from rayforest.data.kinds import Kind
from rayforest.data.raw import CsvFormat
from rayforest.errors import InputError

SNIFF_BYTES = 1 << 20
SNIFF_ROWS = 50_000
_LINES = 500
_JUNK_LINES = 50

NEARLY_ALL = 0.95
"""Share of numbers that makes a column one of numbers with some dirt in it."""

_DELIMITERS = (",", ";", "\t", "|")
NULL_WORDS = ("?", "NA", "N/A", "n/a", "#N/A", "<NA>", "NaN", "nan", "NULL", "null", "\\N")
NULL_AMID_NUMBERS = ("None", "none", "-", "--", ".", "*", "missing", "unknown", "Unknown")
"""In a column of text these may be values; between numbers they are not."""
_BOMS = (
    (b"\xef\xbb\xbf", "utf-8"),
    (b"\xff\xfe\x00\x00", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)


def sniff_csv(path: str | Path) -> CsvFormat:
    """The most likely format of a text table.

    Raises:
        InputError: the file cannot be read or has no text.
    """
    begin, complete = _beginning(str(path))
    encoding = _encoding(begin)
    text = begin.decode(encoding, "replace").removeprefix("\ufeff")
    lines = text.splitlines(keepends=True) if "\r" not in text else io.StringIO(text, newline="").readlines()
    if not complete:
        lines = lines[:-1]
    lines = lines[:_LINES]
    if not any(line.strip() for line in lines):
        raise InputError(f"{path} has no text", expected="rows of a table")
    layout = max((_layout(lines, delimiter) for delimiter in _DELIMITERS), key=lambda layout: layout.merit)
    trim = _has_blanks(layout.rows)
    rows = _parse(lines[layout.skip_lines :], layout.delimiter, trim=trim)
    form = CsvFormat(
        delimiter=layout.delimiter,
        header=_has_header([row for row in rows if len(row) == len(rows[0])]),
        skip_lines=layout.skip_lines,
        trim=trim,
        encoding=encoding,
    )
    return replace(form, null_words=("", *_null_words(str(path), form)))


def _beginning(path: str) -> tuple[bytes, bool]:
    begin = b""
    for block in read_blocks(path, block_bytes=SNIFF_BYTES):
        begin += block
        if len(begin) > SNIFF_BYTES:
            return begin[:SNIFF_BYTES], False
    return begin, True


def _encoding(begin: bytes) -> str:
    for mark, encoding in _BOMS:
        if begin.startswith(mark):
            return encoding
    for encoding, zero in (("utf-16-le", 1), ("utf-16-be", 0)):  # ASCII text has a zero in every second byte
        if begin[zero::2].count(0) > len(begin) // 4 and begin[1 - zero :: 2].count(0) == 0:
            return encoding
    try:
        begin[: max(len(begin) - 4, 0)].decode() if len(begin) == SNIFF_BYTES else begin.decode()
    except UnicodeDecodeError as error:
        if error.reason != "unexpected end of data":
            return _single_byte(begin)
    return "utf-8"


def _single_byte(begin: bytes) -> str:
    """Bytes 0x80 to 0x9F are control characters in latin-1, and quotes, dashes and the euro sign in cp1252."""
    if any(0x80 <= byte <= 0x9F for byte in set(begin)):
        try:
            begin.decode("cp1252")
        except UnicodeDecodeError:
            return "latin-1"
        return "cp1252"
    return "latin-1"


@dataclass(frozen=True)
class _Layout:
    delimiter: str
    rows: list[list[str]]
    """Fields of the first lines, without trimming."""
    skip_lines: int
    merit: tuple[float, float, int]
    """Share of rows with the commonest number of fields, share of numbers, that number; one column has no merit."""


def _layout(lines: list[str], delimiter: str) -> _Layout:
    width = _common_width(lines, delimiter)
    skip = 0
    for start in range(min(_JUNK_LINES, len(lines))):
        if not lines[start].strip():
            continue
        first = len(_parse(lines[start : start + 20], delimiter, trim=True)[0])
        if first == 1 or first <= width // 2:
            continue
        skip = start if any(line.strip() for line in lines[:start]) else 0
        break
    rows = _parse(lines[skip:], delimiter, trim=False)
    share = sum(len(row) == width for row in rows) / max(1, len(rows))
    if width < 2:
        return _Layout(delimiter, rows, 0, (0.0, 0.0, 1))
    fields = [field for row in rows for field in row]
    numbers = sum(_is_number(field.replace(",", ".")) for field in fields) / max(1, len(fields))
    return _Layout(delimiter, rows, skip, (round(share, 2), round(numbers, 1), width))


def _common_width(lines: list[str], delimiter: str) -> int:
    """The commonest number of fields; lines are also read one by one, as a quote in the junk may hide all others."""
    best = (0, False, 1)
    for rows in (_parse(lines, delimiter, trim=True), [_parse([line], delimiter, trim=True)[0] for line in lines]):
        counts = Counter(len(row) for row in rows if row != [""])
        best = max([best, *((count, width == len(rows[0]), width) for width, count in counts.items())])
    return best[2]


def _parse(lines: list[str], delimiter: str, *, trim: bool) -> list[list[str]]:
    reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=trim)
    rows: list[list[str]] = []
    with contextlib.suppress(csv.Error):  # a field beyond the module's limit: what was read so far tells enough
        rows.extend(row for row in reader if row)
    return [[field.strip(" \t") for field in row] if trim else row for row in rows] or [[""]]


def _has_blanks(rows: list[list[str]]) -> bool:
    """Whether blanks around values are a habit of the file, or stand before a quote."""
    values = [field for row in rows for field in row[1:] if field.strip(" \t")]
    padded = sum(value[0] in " \t" or value[-1] in " \t" for value in values)
    quoted = any(value.lstrip(" \t").startswith('"') and value[0] in " \t" for value in values)
    return quoted or padded > len(values) / 10


def _has_header(rows: list[list[str]]) -> bool:
    """Whether the first row names the others: it is text where they are numbers, or never occurs among them."""
    first, rest = rows[0], rows[1:]
    if not rest:
        return not any(_is_number(field) for field in first)
    votes = repeated = 0
    for position, name in enumerate(first):
        values = [row[position] for row in rest if row[position]]
        if values and sum(map(_is_number, values)) > 0.8 * len(values):
            votes += -1 if _is_number(name) else 1
        elif name:
            repeated += name in values
    if votes:
        return votes > 0
    named = [name for name in first if name]
    return len(set(named)) == len(named) and not any(map(_is_number, named)) and repeated <= len(named) // 3


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


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

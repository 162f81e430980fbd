"""Guess how a text table is written from its beginning: encoding, dialect, header, what lies above it.

The same file gives the same answer; nothing after the first SNIFF_BYTES is looked at. A guess is for a starter file,
which a person reads: reading itself never guesses.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from rayforest.errors import InputError
from rayforest.starter.sniff.dialect import common_width, find_comment_and_dialect, parse, without_comments
from rayforest.starter.sniff.layout import find_layout
from rayforest.starter.sniff.text import SNIFF_BYTES, read_beginning
from rayforest.tables.batch import CsvFormat
from rayforest.tables.raw_file import RawFile

__all__ = ["SNIFF_BYTES", "Sniffed", "sniff"]

_SVMLIGHT = re.compile(r"[-+]?\d+(\.\d+)?(\s+(qid|\d+):[-+\d.eE]+)+\s*(#.*)?$")
_MOSTLY = 0.9
_ONE_COLUMN = ("one column: no delimiter gives several rows the same number of fields",)


@dataclass(frozen=True)
class Sniffed:
    """How a text table is written, and what a person should know about it."""

    format: CsvFormat
    """Without words for missing values: these are told by the columns."""
    notes: tuple[str, ...] = ()


def sniff(file: RawFile) -> Sniffed:
    """The most likely format of a text table, and notes.

    Raises:
        InputError: the file cannot be read or has no text.
    """
    begin = read_beginning(file)
    if not any(line.strip() for line in begin.lines):
        raise InputError(f"{file.uri} has no text", expected="rows of a table", next_step="leave the file out")
    if sum(_SVMLIGHT.match(line) is not None for line in begin.lines) > _MOSTLY * len(begin.lines):
        raise InputError(
            f"{file.uri} looks like SVMlight text",
            expected="a table whose rows have the same fields",
            found="rows of a label and index:value pairs",
            next_step="write it as a table, for example with scikit-learn's load_svmlight_file, as Parquet or CSV",
        )
    comment, dialect = find_comment_and_dialect(begin.lines)
    lines = without_comments(begin.lines, comment)
    rows = parse(lines, dialect)
    layout = find_layout(rows, lines)
    form = CsvFormat(
        delimiter=dialect.delimiter,
        header=layout.header,
        names=layout.names,
        skip_lines=layout.skip_lines,
        trim=dialect.trim,
        encoding=begin.encoding,
        quote=dialect.quote,
        escape=dialect.escape,
        comment=comment,
        repeated_names="number" if layout.repeated_names else "refuse",
        trailing_delimiter=layout.trailing_delimiter,
    )
    return Sniffed(form, (*layout.notes, *(_ONE_COLUMN if common_width(rows) == 1 else ())))

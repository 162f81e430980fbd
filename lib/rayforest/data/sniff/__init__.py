"""Guess how a text table is written from its beginning: encoding, dialect, header, what lies above it.

The same file gives the same answer; nothing after the first SNIFF_BYTES is looked at. A guess is for a starter file,
which a person reads: reading itself never guesses.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rayforest.data.raw import CsvFormat
from rayforest.data.sniff.dialect import find_dialect, parse
from rayforest.data.sniff.layout import find_layout
from rayforest.data.sniff.text import SNIFF_BYTES, read_beginning
from rayforest.errors import InputError

__all__ = ["SNIFF_BYTES", "Sniffed", "sniff"]


@dataclass(frozen=True)
class Sniffed:
    """How a text table is written, and what a person should know about it."""

    format: CsvFormat
    """Without words for missing values: these are told by the columns."""
    notes: tuple[str, ...] = ()


def sniff(path: str | Path) -> Sniffed:
    """The most likely format of a text table, and notes.

    Raises:
        InputError: the file cannot be read or has no text.
    """
    begin = read_beginning(str(path))
    if not any(line.strip() for line in begin.lines):
        raise InputError(f"{path} has no text", expected="rows of a table", next_step="leave the file out")
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
    return Sniffed(form, layout.notes)

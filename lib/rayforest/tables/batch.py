"""What reading raw tables takes and gives: where they lie, how their text is written, the rows that come out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from rayforest.tables.number_style import NumberStyle
from rayforest.tables.row_text import json_rows, readable

if TYPE_CHECKING:
    from rayforest.tables.snapshots.layout import Layout

FileFormat = Literal["parquet", "csv", "arrow"]

BLANKS = "blanks"
"""As a delimiter."""
BATCH_ROWS = 131_072
"""Rows of one RawBatch at most."""


@dataclass(frozen=True)
class CsvFormat:
    r"""How a text table is written. Rows end in \n, \r\n or \r."""

    delimiter: str = ","
    """One character, or BLANKS: runs of spaces and tabs; those around a row separate nothing."""
    header: bool = True
    """The first row that is not blank, after `skip_lines`, holds the names; an empty name becomes c<position>."""
    names: tuple[str, ...] = ()
    """Replace the header's names, or stand for it where `header` is false; without any, columns are c1, c2, ..."""
    skip_lines: int = 0
    """Lines before the header (or before the first row) that are not part of the table, blank ones included."""
    null_words: tuple[str, ...] = ("",)
    """Texts that mean a missing value, quoted or not. The empty text always does."""
    trim: bool = False
    """Blanks and tabs around a value are not part of it, inside quotes too; a quote may follow them."""
    encoding: str = "utf-8"
    """A Python codec name. Files in other encodings than UTF-8 and single-byte ones are one piece each."""
    decimal: str = "."
    """Stands before the fraction of a number."""
    thousands: str | None = None
    """Stands between groups of three digits; a blank means any kind of it."""
    quote: str = '"'
    """Values may stand between two of it, doubled inside. "": an ordinary character, as all others."""
    escape: str | None = None
    """Takes its meaning from the character after it."""
    comment: str | None = None
    """Lines that begin with it are left out."""
    repeated_names: Literal["refuse", "number"] = "refuse"
    """A name that stands again in the header: the file is refused, or it becomes <name>_2, <name>_3."""
    trailing_delimiter: bool = False
    """A row with one field too many, the last one empty, ends in a delimiter that separates nothing."""

    @property
    def numbers(self) -> NumberStyle:
        """How numbers are written."""
        return NumberStyle(self.decimal, self.thousands)


@dataclass(frozen=True)
class TableName:
    """A table that a log or a catalog describes."""

    form: Literal["delta", "iceberg"]
    name: str
    """Absolute path or URI of its folder, of its metadata file, or NAMESPACE.TABLE of a catalog."""
    snapshot: int | None = None
    """Delta's version, Iceberg's snapshot id; None for the newest one when it is listed."""
    catalog: str | None = None
    """Of Iceberg, as pyiceberg's own configuration calls it."""

    def __str__(self) -> str:
        return f"{self.form.capitalize()} table {self.name}"


@dataclass(frozen=True)
class Source:
    """Files that make up one table."""

    patterns: tuple[str, ...]
    """Paths, globs (`**` spans folders) and folders, absolute or relative to `base`, or URIs of object stores; none
    where `table` names one."""
    base: Path
    format: FileFormat | None = None
    """None: each file by its ending."""
    csv: CsvFormat | None = None
    """Given options make text tables of files whose ending says nothing. None: the defaults, tabs for .tsv."""
    table: TableName | None = None
    """Instead of patterns."""
    layout: Layout | None = None
    """The columns of `table`, once its snapshot is known (see `find_files`)."""


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file of a source, found but not yet opened."""

    path: str
    """Relative to the fixed part of its pattern, with '/': the same wherever the data folder lies."""
    uri: str
    """Absolute path, or URI in an object store."""
    size: int
    """Bytes, compressed where the file is."""
    stamp: str
    """Time of the last change, in nanoseconds; of an object its etag."""
    format: FileFormat
    entry: str = ""
    """What a snapshot says of the file (`snapshots.layout.Entry`); empty for a file that speaks for itself."""


@dataclass(frozen=True)
class BrokenRow:
    """A row whose text could not become values."""

    row: int
    """0-based data row in the file."""
    reason: str
    raw: str
    """The row's text, shortened to 65,536 characters, undecodable bytes as \\xNN."""


@dataclass(frozen=True)
class RowText:
    """Where the text of each row lies in a block of UTF-8 bytes."""

    data: bytes
    starts: npt.NDArray[np.int64]
    stops: npt.NDArray[np.int64]

    def row(self, index: int) -> str:
        """The text of one row, without its line end."""
        return readable(self.data, int(self.starts[index]), int(self.stops[index]))

    def take(self, indices: npt.NDArray[np.int64] | slice) -> RowText:
        """The same text for some of the rows."""
        return RowText(self.data, self.starts[indices], self.stops[indices])


@dataclass(frozen=True)
class RawBatch:
    """Rows of one file, in order: `table` holds those that became values, `broken` the others."""

    file: str
    """The file's `path`."""
    rows: npt.NDArray[np.int64]
    """[table rows]: the 0-based data row in the file of each row of `table`."""
    table: pa.Table
    """The asked columns. Text tables and hive columns: strings, null words as null. Others: as stored."""
    broken: tuple[BrokenRow, ...] = ()
    text: RowText | None = field(default=None, repr=False)
    """The rows' original text; None for Parquet and Arrow."""

    def raw(self, indices: Sequence[int]) -> list[str]:
        """What stands in the file for these rows of `table`: the line's text, or a JSON object of the asked values."""
        if self.text is not None:
            return [self.text.row(i) for i in indices]
        return json_rows(self.table.take(pa.array(indices, pa.int64())))

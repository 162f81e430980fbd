"""What a look at a table says about one column."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import polars as pl

from rayforest.kinds import Kind
from rayforest.tables.number_style import NumberStyle

MAX_LABELS = 20
"""A target with more different values is a quantity if it is a number, and no likely target otherwise."""

MAX_LISTED, SHOWN = 1_000, 50
"""Different texts of a column up to which they are listed, and how many of them."""


@dataclass(frozen=True)
class Values:
    """Counts over the values of a column that are there and read as its kind."""

    present: int
    """Rows that have such a value."""
    distinct: int
    common: int
    """Rows of the ten most frequent values."""
    listed: tuple[tuple[object, int], ...] = ()
    """(value, rows), the most frequent first; empty for numbers of more than MAX_LABELS and other columns of many."""
    low: float = 0.0
    high: float = 0.0
    """Least and greatest number."""
    whole: bool = False
    """Whether all are whole numbers."""
    sentinels: tuple[float, ...] = ()
    """Numbers such as -999 that stand apart from all others, so that they may mean "missing"."""


@dataclass(frozen=True)
class ColumnLook:
    """What the rows looked at say about one column."""

    name: str
    kind: Kind
    rows: int
    values: Values
    unreadable: int = 0
    """Values that are not of `kind`."""
    missing: int = 0
    null_words: dict[str, int] = field(default_factory=dict)
    """Words that stand for a missing value, and their rows."""
    kept_words: tuple[str, ...] = ()
    """Words that could stand for a missing value, and are a value here."""
    format: str | None = None
    """strptime format of timestamps in text that is not ISO 8601."""
    style: NumberStyle | None = None
    """How its numbers are written, where that is not the usual way."""
    pointed: bool = False
    """Numbers in text of which some have a decimal point."""
    numbers: float = 0.0
    """Share of the values of a text column that read as numbers."""
    remarks: tuple[str, ...] = ()
    """What a person should know about its type."""
    undecided: str = ""
    """Why it is text although it probably is none: two ways to read it."""
    exact: bool = False
    """Whole numbers that a double does not hold: text, so that no digit is lost."""
    two_ways: bool = False
    """Numbers whose one mark may be decimal or of thousands, by their own texts alone."""
    counts_rows: bool = False
    """It is the number of its row, from 0 or from 1."""
    read_times: Callable[[], pl.Series] | None = field(default=None, repr=False)

    @property
    def distinct(self) -> int:
        """Different values."""
        return self.values.distinct

    @property
    def null_share(self) -> float:
        """Share of rows without a value."""
        return self.missing / self.rows if self.rows else 0.0

    @property
    def unique(self) -> bool:
        """Whether every row has a value of its own."""
        return 0 < self.rows == self.distinct == self.values.present

    @property
    def whole(self) -> bool:
        """Whether all values are whole numbers."""
        return self.kind is Kind.NUMBER and self.values.whole

    @property
    def times(self) -> pl.Series:
        """The different times of a timestamp column."""
        return self.read_times() if self.read_times is not None else pl.Series("times", [], pl.Datetime("us"))

    @property
    def is_common(self) -> bool:
        """Whether ten values make up much of the rows, as in a category with a long tail."""
        return self.values.common >= _COMMON * self.values.present


_COMMON = 0.05


@dataclass(frozen=True)
class TableLook:
    """What a look at a table found."""

    columns: tuple[ColumnLook, ...]
    rows: int
    notes: tuple[str, ...] = ()
    """What is unlike between files, and rows that do not read."""
    empty_rows: int = 0
    """Rows without any value."""

"""A bounded look at a table: what its columns seem to hold, from rows of its first files.

What is found here becomes comments and suggestions of a starter file; nothing else relies on it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import polars as pl
import pyarrow as pa

from rayforest.data.csv import sample_rows
from rayforest.data.csv.infer import infer_kind, readable_as
from rayforest.data.files import hive_columns
from rayforest.data.kinds import Kind
from rayforest.data.sniff import NEARLY_ALL, NULL_AMID_NUMBERS, NULL_WORDS
from rayforest.data.source import Source, SourceFile, columns, csv_format, inspect, read
from rayforest.data.values import to_kind
from rayforest.engine.shards import Slice

LOOK_ROWS = 50_000
"""Rows of the first file."""
OTHER_FILES, OTHER_ROWS = 20, 2_000
"""Further files, and rows of each: a type or an id that holds in one file only shows here."""

_DATES = ("%d.%m.%Y", "%Y/%m/%d", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%m-%d-%Y", "%d %b %Y", "%d-%b-%Y", "%b %d, %Y")
_FORMATS = tuple(date + time for date in _DATES for time in ("", " %H:%M:%S", " %H:%M", "T%H:%M:%S"))
_DATE_NAME = re.compile(r"date|day|datum", re.IGNORECASE)
_LEADING_ZERO = r"^\s*0\d+\s*$"
_SENTINELS = (-1.0, -9.0, -99.0, -999.0, -9999.0, -99999.0, 999.0, 9999.0, 99999.0, 999999.0, 9999999.0)


@dataclass(frozen=True)
class ColumnLook:
    """What the rows looked at say about one column."""

    name: str
    kind: Kind
    values: pl.Series
    """As `kind`, nulls and unreadable values left out."""
    rows: int
    null_words: tuple[str, ...] = ()
    """Words for missing values that the file's format does not know."""
    format: str | None = None
    """strptime format of timestamps in text that is not ISO 8601."""
    unreadable: int = 0
    """Values that are not of `kind`."""
    numbers: float = 0.0
    """Share of the values of a text column that read as numbers."""

    @cached_property
    def distinct(self) -> int:
        return self.values.n_unique()

    @property
    def null_share(self) -> float:
        return 1 - (self.values.len() + self.unreadable) / self.rows if self.rows else 0.0

    @property
    def unique(self) -> bool:
        """Whether every row has a value of its own."""
        return 0 < self.rows == self.distinct == self.values.len()

    @cached_property
    def whole(self) -> bool:
        """Whether all values are whole numbers."""
        return self.kind is Kind.NUMBER and bool((self.values == self.values.round()).all())

    @cached_property
    def sentinels(self) -> tuple[float, ...]:
        """Numbers such as -999 that stand apart from all others, so that they may mean "missing"."""
        if self.kind is not Kind.NUMBER or self.distinct < 3:
            return ()
        found: list[float] = []
        for sentinel in _SENTINELS:
            rest = self.values.filter(~self.values.is_in([sentinel, *found]))
            if (self.values == sentinel).sum() < max(2, self.rows // 10_000) or rest.n_unique() < 2:
                continue
            low, high = _number(rest.min()), _number(rest.max())
            if (sentinel < 0 <= low) or sentinel > high + (high - low):
                found.append(sentinel)
        return tuple(found)

    @property
    def range(self) -> tuple[float, float]:
        """Least and greatest number."""
        return _number(self.values.min()), _number(self.values.max())

    def labels(self) -> list[tuple[object, int]]:
        """(value, rows), the most frequent first."""
        counts = self.values.alias("value").value_counts().sort(["count", "value"], descending=[True, False])
        return list(counts.iter_rows())


@dataclass(frozen=True)
class TableLook:
    """What a look at a table found."""

    columns: tuple[ColumnLook, ...]
    rows: int
    notes: tuple[str, ...]
    """What is unlike between files, and columns that cannot be read."""


def look_at(files: list[SourceFile], source: Source) -> TableLook:
    """Look at the first rows of the first file, its last rows where they can be reached, and some of other files.

    Raises:
        InputError: a file is damaged or empty.
    """
    kinds = columns(files[0], source)
    tables = list(_rows(files[0], source, list(kinds), LOOK_ROWS))
    notes = []
    for file in files[1 : OTHER_FILES + 1]:
        own = columns(file, source)
        missing = [name for name in kinds if name not in own]
        if missing:
            notes.append(f"{file.path} has no column {', '.join(map(repr, missing))}, unlike {files[0].path}")
            continue
        if unlike := [name for name in kinds if file.format != "csv" and own[name] is not kinds[name]]:
            notes.append(f"{file.path} stores {', '.join(map(repr, unlike))} as another type than {files[0].path}")
            continue
        tables += _rows(file, source, list(kinds), OTHER_ROWS)
    frames = [pl.DataFrame(pl.from_arrow(table)) for table in tables]
    frame = pl.concat(frames, how="vertical_relaxed") if frames else pl.DataFrame({name: [] for name in kinds})
    looks = tuple(_column(frame.get_column(name), kind) for name, kind in kinds.items())
    return TableLook(looks, frame.height, tuple(notes))


def _rows(file: SourceFile, source: Source, names: list[str], rows: int) -> Iterator[pa.Table]:
    if file.format == "csv":
        hive = hive_columns(file.path)
        table = sample_rows(file.uri, csv_format(file.uri, source), rows)
        for name, value in hive.items():
            table = table.append_column(name, pa.repeat(pa.scalar(value, pa.string()), table.num_rows))
        yield table.select(names)
        return
    inspected = inspect(file, source, shard_rows=rows)
    total = sum(piece.rows for piece in inspected.pieces)
    for first_row, count in ((0, min(rows, total)), (max(rows, total - rows // 5), min(rows // 5, total - rows))):
        if count > 0:
            part = Slice(file.path, file.uri, file.size, file.stamp, inspected.identity, first_row, count, 0, 0)
            yield from (batch.table for batch in read(part, source, names))


def _column(stored: pl.Series, kind: Kind) -> ColumnLook:
    rows, name = stored.len(), stored.name
    if stored.dtype == pl.String:
        return _text_column(stored.set(stored == "", None))
    return ColumnLook(name, kind, _as_kind(stored, kind).drop_nulls(), rows)


def _text_column(texts: pl.Series) -> ColumnLook:
    rows, name = texts.len(), texts.name
    known = texts.drop_nulls()
    words = [word for word in NULL_WORDS if (known == word).any()]
    solid = known.filter(~known.is_in(words))
    weak = [word for word in NULL_AMID_NUMBERS if (solid == word).any()]
    if weak and _share(others := solid.filter(~solid.is_in(weak)), Kind.NUMBER) >= NEARLY_ALL:
        words, solid = [*words, *weak], others
    kind, form = _kind_of_text(solid)
    values = solid if kind is Kind.STRING else _as_kind(solid, kind, form)
    return ColumnLook(
        name=name,
        kind=kind,
        values=values.drop_nulls(),
        rows=rows,
        null_words=tuple(words),
        format=form,
        unreadable=values.null_count(),
        numbers=_share(solid, Kind.NUMBER) if kind is Kind.STRING else 0.0,
    )


def _as_kind(stored: pl.Series, kind: Kind, form: str | None = None) -> pl.Series:
    value = stored.alias("value").to_frame()  # Polars takes some names, such as "*", for patterns
    return value.select(to_kind(pl.col("value"), stored.dtype, kind, form)).to_series().alias(stored.name)


def _kind_of_text(texts: pl.Series) -> tuple[Kind, str | None]:
    """Kind and timestamp format of text values, a little dirt forgiven where it cannot be a label."""
    numbers = _share(texts, Kind.NUMBER)
    if numbers == 1:
        if texts.str.contains(_LEADING_ZERO).any():
            return Kind.STRING, None
        dates = _DATE_NAME.search(texts.name) is not None and _share(texts, Kind.TIMESTAMP, "%Y%m%d") == 1
        return (Kind.TIMESTAMP, "%Y%m%d") if dates else (Kind.NUMBER, None)
    if numbers >= NEARLY_ALL and texts.n_unique() > texts.len() / 5:
        return Kind.NUMBER, None
    dated = texts.len() > 0 and texts.head(100).str.contains(r"\d.*\D.*\d").all()
    for form in (None, *_FORMATS) if dated else ():
        if all(_share(part, Kind.TIMESTAMP, form) >= NEARLY_ALL for part in (texts.head(100), texts)):
            return Kind.TIMESTAMP, form
    return infer_kind(texts), None


def _share(texts: pl.Series, kind: Kind, form: str | None = None) -> float:
    """Share of texts that read as the kind; 0 where there are none."""
    return float(readable_as(texts, kind, form).sum()) / max(1, texts.len())


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0

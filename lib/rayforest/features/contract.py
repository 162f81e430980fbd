"""Schema and row rules: raw rows in, typed rows and verdicts out.

A raw row fails for a value that is not of its column's kind, a missing required value, a value out of bounds or not
among the allowed ones, and for a rule that is false (null passes, as in a CHECK constraint). Rows are only judged
here; what happens to those that fail is the caller's choice between quarantine and the end of the run.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from rayforest.engine.attempt import QUARANTINE_SCHEMA
from rayforest.errors import ConfigError
from rayforest.formats import Document
from rayforest.kinds import Kind
from rayforest.project.sections import ColumnSection
from rayforest.sql import parse
from rayforest.sql.casts import BLANKS
from rayforest.tables.batch import CsvFormat, RawBatch
from rayforest.tables.conversion import EXACT_NUMBERS, frame_of, inexact_integer, to_kind
from rayforest.tables.number_style import NumberStyle


@dataclass(frozen=True)
class ColumnContract:
    """What one raw column must hold."""

    name: str
    kind: Kind
    required: bool = False
    minimum: float | str | None = None
    maximum: float | str | None = None
    values: tuple[bool | int | float | str, ...] | None = None
    null_values: tuple[bool | int | float | str, ...] = ()
    format: str | None = None
    decimal: str | None = None
    """Of numbers in text; None: as the file's format says."""
    thousands: str | None = None
    declared: bool = False
    """Whether the project says so; the kind of others was found in the data."""
    exact: bool = False
    """Whether an integer that no double holds fails its row: as a category or label it would be taken for another."""

    @classmethod
    def of(cls, name: str, section: ColumnSection, *, required: bool = False) -> ColumnContract:
        """The contract that a project file's `[data.columns]` entry states."""
        return cls(
            name=name,
            kind=section.type,
            required=section.required or required,
            minimum=section.min,
            maximum=section.max,
            values=section.values,
            null_values=section.null_values,
            format=section.format,
            decimal=section.decimal,
            thousands=section.thousands,
            declared=True,
        )

    def written_as(self, numbers: NumberStyle) -> ColumnContract:
        """The same for files whose numbers are written in this style, unless the column has one of its own."""
        if self.kind is not Kind.NUMBER or numbers.is_plain or (self.decimal, self.thousands) != (None, None):
            return self
        return replace(self, decimal=numbers.decimal, thousands=numbers.thousands)

    def plain(self, value: pl.Expr, stored: pl.DataType) -> pl.Expr:
        """Values of the column as they are stored, but numbers in text as SQL writes them."""
        if stored != pl.String or self.kind is not Kind.NUMBER:
            return value
        return NumberStyle(self.decimal or ".", self.thousands).plain(value)

    def check_bounds(self) -> None:
        """Refuse a bound that is no timestamp, where the column is one.

        Raises:
            ConfigError: names the key.
        """
        for key, bound in (("min", self.minimum), ("max", self.maximum)):
            if bound is not None and self.bound(bound) is None:
                raise ConfigError(
                    f"data.columns.{self.name}.{key} is not a timestamp",
                    expected='a date or a text such as "2024-01-31 12:00"',
                    found=repr(bound),
                    next_step=f"correct it, or leave {key} out",
                )

    def bound(self, value: float | str) -> float | dt.datetime | None:
        """A bound as a value of the column's kind; None if it is none."""
        if self.kind is Kind.NUMBER:
            return float(value)
        return pl.select(to_kind(pl.lit(str(value)), pl.String(), Kind.TIMESTAMP)).item()  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Contract:
    """The contract of a table: its columns, and SQL conditions over them."""

    columns: tuple[ColumnContract, ...]
    rules: tuple[tuple[str, str], ...] = ()
    """(name, SQL) pairs."""

    @property
    def kinds(self) -> dict[str, Kind]:
        """Kind of each column."""
        return {column.name: column.kind for column in self.columns}

    @property
    def declared(self) -> dict[str, Kind]:
        """Kind of each column that the project declares."""
        return {column.name: column.kind for column in self.columns if column.declared}

    def only(self, names: Sequence[str], *, required: Sequence[str] = ()) -> Contract:
        """The part that concerns these columns: their own checks, and the rules that use no other column."""
        wanted = set(names)
        columns = tuple(c for c in self.columns if c.name in wanted)
        must = set(required)
        columns = tuple(ColumnContract(**{**vars(c), "required": c.required or c.name in must}) for c in columns)
        kinds = self.kinds
        rules = tuple(
            (name, sql)
            for name, sql in self.rules
            if wanted.issuperset(parse(sql, kinds, where=f"data.rules.{name}").columns)
        )
        return Contract(columns, rules)

    def written_as(self, csv: CsvFormat | None) -> Contract:
        """The contract for files of this format: how numbers are written belongs to the file."""
        if csv is None or csv.numbers.is_plain:
            return self
        return replace(self, columns=tuple(column.written_as(csv.numbers) for column in self.columns))

    def as_dict(self) -> dict[str, Any]:
        """Plain values for contract.json."""
        return {"columns": [asdict(column) for column in self.columns], "rules": dict(self.rules)}

    @classmethod
    def from_document(cls, document: Document) -> Contract:
        """Read contract.json."""
        columns = []
        for entry in document["columns"]:
            values = None if entry["values"] is None else tuple(entry["values"])
            fitting = {"kind": Kind(entry["kind"]), "values": values, "null_values": tuple(entry["null_values"])}
            columns.append(ColumnContract(**entry | fitting))
        return cls(tuple(columns), tuple(document["rules"].items()))


class Verdicts:
    """Which rows of a batch fail, and why."""

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self.failed: npt.NDArray[np.bool_] = np.zeros(rows, bool)
        """bool, shape [rows]."""
        self.unseen: dict[str, npt.NDArray[np.bool_]] = {}
        """Categorical feature -> rows whose category training never saw, shape [rows]; only where there are any."""
        self._checks: list[tuple[npt.NDArray[np.bool_], str]] = []

    def fail(self, mask: pl.Series | npt.NDArray[np.bool_], reason: str) -> None:
        """Fail the rows where `mask` is true; null counts as false."""
        flags = mask.fill_null(value=False).to_numpy() if isinstance(mask, pl.Series) else mask
        if flags.any():
            self.failed |= flags
            self._checks.append((flags, reason))

    def quarantine(self, *batches: RawBatch) -> pa.Table:
        """The failed rows of the batches that were judged together, and their broken ones, with QUARANTINE_SCHEMA.

        The order is that of the batches, and of the rows in their files.
        """
        tables, start = [], 0
        for batch in batches:
            tables.append(self._quarantine(batch, start))
            start += batch.table.num_rows
        return pa.concat_tables(tables)

    def _quarantine(self, batch: RawBatch, start: int) -> pa.Table:
        (failed,) = np.nonzero(self.failed[start : start + batch.table.num_rows])
        rows = batch.rows[failed]
        reasons = ["; ".join(reason for flags, reason in self._checks if flags[start + i]) for i in failed]
        entries = [
            *zip(rows.tolist(), reasons, batch.raw(failed.tolist()) if len(failed) else [], strict=True),
            *((broken.row, broken.reason, broken.raw) for broken in batch.broken),
        ]
        entries.sort(key=lambda entry: entry[0])
        columns = [[batch.file] * len(entries), *map(list, zip(*entries, strict=True))] if entries else [[], [], [], []]
        return pa.Table.from_arrays(
            [pa.array(c, f.type) for c, f in zip(columns, QUARANTINE_SCHEMA, strict=True)], schema=QUARANTINE_SCHEMA
        )


class RowChecks:
    """Types the columns of raw tables and judges their rows. Safe to share between threads.

    The expressions of a stored schema are made once.
    """

    def __init__(self, contract: Contract) -> None:
        self._contract = contract
        self._compiled: dict[tuple[pl.DataType, ...], _Checks] = {}

    def __call__(self, table: pa.Table) -> tuple[pl.DataFrame, Verdicts]:
        """A frame with one column of `Kind.polars` dtype per contract column, and the verdicts on the rows.

        A value that is missing or wrong is null.

        Args:
            table: raw rows, as `read` gives them, with the contract's columns; others are left out.
        """
        names = [c.name for c in self._contract.columns]
        raw = frame_of(table.select(names))
        if not names:
            raw = pl.DataFrame({_ROWS: np.zeros(table.num_rows, np.int8)})
        stored = tuple(raw.dtypes)
        if stored not in self._compiled:
            self._compiled[stored] = _Checks.of(self._contract, raw.schema)
        checks, verdicts = self._compiled[stored], Verdicts(table.num_rows)
        frame = raw.with_columns(checks.values)
        if checks.reasons:
            masks = frame.with_columns(checks.masks).select([f"{_MASK} {i}" for i in range(len(checks.masks))])
            failing = masks.select(pl.all().any()).row(0)
            for mask, fails, reason in zip(masks.iter_columns(), failing, checks.reasons, strict=True):
                if fails:
                    verdicts.fail(mask, reason)
        return frame.select(names), verdicts


def check_rows(contract: Contract, table: pa.Table) -> tuple[pl.DataFrame, Verdicts]:
    """One table through `RowChecks`."""
    return RowChecks(contract)(table)


_ROWS, _MISSING, _INEXACT, _MASK = "\0rows", "\0missing", "\0inexact", "\0mask"  # names that no file has


@dataclass(frozen=True)
class _Checks:
    """A contract as expressions over the columns of one stored schema."""

    values: list[pl.Expr]
    """Each column typed, and which of its values are missing where a check asks for that."""
    masks: list[pl.Expr]
    """Over those: true where a row fails."""
    reasons: list[str]

    @classmethod
    def of(cls, contract: Contract, stored: Mapping[str, pl.DataType]) -> _Checks:
        values: list[pl.Expr] = []
        masks: list[pl.Expr] = []
        reasons: list[str] = []

        def fails(mask: pl.Expr, reason: str) -> None:
            masks.append(mask.fill_null(value=False).alias(f"{_MASK} {len(masks)}"))
            reasons.append(reason)

        for place, column in enumerate(contract.columns):
            name, value, missing = column.name, pl.col(column.name), pl.col(f"{_MISSING} {place}")
            always_read = _always_read(stored[name], column.kind)
            values.append(_typed(stored[name], column))
            if column.required or not always_read:
                values.append(is_missing(stored[name], column).alias(f"{_MISSING} {place}"))
            if not always_read:
                fails(value.is_null() & ~missing, f"{name} is not a {column.kind}")
            if column.required:
                fails(missing, f"{name} is missing")
            if column.exact and column.kind is Kind.NUMBER and stored[name] not in EXACT_NUMBERS:
                values.append(
                    inexact_integer(column.plain(pl.col(name), stored[name]), stored[name]).alias(f"{_INEXACT} {place}")
                )
                fails(pl.col(f"{_INEXACT} {place}"), f"{name} is an integer beyond 2^53 that a number does not hold")
            if column.minimum is not None:
                fails(value < pl.lit(column.bound(column.minimum)), f"{name} is below {column.minimum}")
            if column.maximum is not None:
                fails(value > pl.lit(column.bound(column.maximum)), f"{name} is above {column.maximum}")
            if column.values is not None:
                allowed = pl.Series([_as_kind(column.kind, v) for v in column.values], dtype=column.kind.polars)
                fails(~value.is_in(allowed.implode()), f"{name} is not one of the allowed values")
        for name, sql in contract.rules:
            rule = parse(sql, contract.kinds, where=f"data.rules.{name}")
            fails(~rule.to_polars(), f"rule {name} is false")
        return cls(values, masks, reasons)


def _always_read(stored: pl.DataType, kind: Kind) -> bool:
    """Whether every stored value that is not missing can be read as the kind."""
    if kind is Kind.NUMBER:
        return stored.is_numeric() or stored == pl.Boolean
    if kind is Kind.BOOLEAN:
        return stored == pl.Boolean
    return kind is Kind.STRING and stored == pl.String


def is_missing(stored: pl.DataType, column: ColumnContract) -> pl.Expr:
    """True where the stored value is null, NaN, empty, or one of the column's words for missing.

    Blanks and tabs around do not count, unless the column is text.
    """
    value = pl.col(column.name)
    missing = value.is_null()
    if stored.is_float():
        missing |= value.is_nan()
    if stored == pl.String:
        is_text = column.kind is Kind.STRING
        text = value if is_text else value.str.strip_chars(BLANKS)
        missing |= text == ""
        words = [v if is_text else v.strip(BLANKS) for v in column.null_values if isinstance(v, str)]
        if words:
            missing |= text.is_in(words)
    numbers = [float(v) for v in column.null_values if isinstance(v, int | float)]
    if numbers and (stored.is_numeric() or column.kind in (Kind.NUMBER, Kind.STRING)):
        missing |= to_kind(column.plain(value, stored), stored, Kind.NUMBER).is_in(numbers).fill_null(value=False)
    return missing


def _typed(stored: pl.DataType, column: ColumnContract) -> pl.Expr:
    value = to_kind(column.plain(pl.col(column.name), stored), stored, column.kind, column.format)
    if column.null_values:
        value = pl.when(~is_missing(stored, column)).then(value)
    return value.alias(column.name)


def _as_kind(kind: Kind, value: bool | float | str) -> bool | float | str:
    if kind is Kind.STRING:
        return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
    return value

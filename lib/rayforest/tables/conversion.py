"""How a stored value of any type becomes one of the four kinds. Text is read as CAST reads it."""

from __future__ import annotations

import polars as pl
import pyarrow as pa

from rayforest.kinds import Kind
from rayforest.sql.casts import (
    BLANKS,
    category_text,
    in_calendar,
    text_to_boolean,
    text_to_number,
    text_to_timestamp,
)
from rayforest.sql.nodes import EARLIEST_MICROS, LATEST_MICROS


def frame_of(table: pa.Table) -> pl.DataFrame:
    """An Arrow table as a Polars frame over the same memory."""
    frame = pl.from_arrow(table) if table.num_columns else pl.DataFrame()
    if not isinstance(frame, pl.DataFrame):
        raise TypeError(f"a table became a {type(frame).__name__}")
    return frame


def to_kind(value: pl.Expr, stored: pl.DataType, kind: Kind, format: str | None = None) -> pl.Expr:  # noqa: A002
    """`value` as `kind`, null where it is missing or cannot be read as that kind.

    Args:
        value: expression of dtype `stored`.
        stored: any Polars dtype that a raw column may have.
        kind: what to make of it.
        format: strptime format of timestamps in text; ISO 8601 without it.
    """
    if stored == pl.Null:
        return value.cast(kind.polars)
    if stored == pl.Categorical or isinstance(stored, pl.Enum):
        value, stored = value.cast(pl.String), pl.String()
    if kind is Kind.NUMBER:
        return _number(value, stored)
    if kind is Kind.BOOLEAN:
        return _boolean(value, stored)
    if kind is Kind.TIMESTAMP:
        return _timestamp(value, stored, format)
    return _string(value, stored)


def inexact_integer(value: pl.Expr, stored: pl.DataType) -> pl.Expr:
    """True where an integer is not the double that NUMBER makes of it: 2^53 + 1 has no double of its own.

    Args:
        value: expression of dtype `stored`: integers, decimals, or text of them. False for all others.
        stored: its dtype.
    """
    if stored == pl.String:
        digits = value.str.extract(_LONG_INTEGER, 1)
        exact = digits.cast(pl.Int128, strict=False)
        return (digits.is_not_null() & _round_trips(exact).fill_null(value=False).not_()).fill_null(value=False)
    if stored.is_integer() and stored not in EXACT_NUMBERS:
        return _round_trips(value.cast(pl.Int128)).not_().fill_null(value=False)
    if stored.is_decimal():
        whole = value.cast(pl.Int128, strict=False)
        return (whole.abs().gt(2**53) & _round_trips(whole).not_()).fill_null(value=False)
    return pl.lit(value=False)


_LONG_INTEGER = r"^[ \t]*([+-]?[0-9]{16,40})(?:\.0*)?[ \t]*$"
EXACT_NUMBERS = (
    pl.Int8, pl.Int16, pl.Int32, pl.UInt8, pl.UInt16, pl.UInt32, pl.Float16, pl.Float32, pl.Float64, pl.Boolean
)  # fmt: skip
"""Stored types of which every value is a double."""


def _round_trips(value: pl.Expr) -> pl.Expr:
    """Whether a 128-bit integer is the same after a double."""
    return value.cast(pl.Float64).cast(pl.Int128, strict=False).eq(value)


def _number(value: pl.Expr, stored: pl.DataType) -> pl.Expr:
    if stored == pl.String:
        value = text_to_number(value)
    elif stored.is_numeric() or stored == pl.Boolean:
        value = value.cast(pl.Float64)
    else:
        return _unreadable(value, Kind.NUMBER)
    return value.fill_nan(None)


def _boolean(value: pl.Expr, stored: pl.DataType) -> pl.Expr:
    if stored == pl.Boolean:
        return value
    if stored.is_numeric():
        return pl.when(value == 1).then(pl.lit(value=True)).when(value == 0).then(pl.lit(value=False))
    if stored == pl.String:
        return text_to_boolean(value)
    return _unreadable(value, Kind.BOOLEAN)


def _timestamp(value: pl.Expr, stored: pl.DataType, format: str | None) -> pl.Expr:  # noqa: A002
    if isinstance(stored, pl.Datetime):  # the integer is UTC, whatever the zone
        return _micros(value.to_physical(), _PER_SECOND[stored.time_unit])
    if stored == pl.Date:
        return _micros(value.to_physical().cast(pl.Int64), 1 / 86_400)
    if format is not None and (stored == pl.String or stored.is_integer()):  # 20260131 with "%Y%m%d"
        text = value.cast(pl.String).str.strip_chars(BLANKS)
        return text.str.to_datetime(format, time_unit="us", strict=False, exact=True)
    if stored == pl.String:
        return text_to_timestamp(value)
    return _unreadable(value, Kind.TIMESTAMP)


_PER_SECOND = {"ms": 10**3, "us": 10**6, "ns": 10**9}


def _micros(ticks: pl.Expr, per_second: float) -> pl.Expr:
    """Int64 ticks since 1970 to Datetime("us"); null outside the years 1 to 9999, where Polars' own casts overflow."""
    if per_second > 10**6:
        return in_calendar(ticks.floordiv(int(per_second) // 10**6))
    factor = round(10**6 / per_second)
    held = ticks.is_between(EARLIEST_MICROS // factor, LATEST_MICROS // factor)
    return in_calendar(pl.when(held).then(ticks * factor))


def _unreadable(value: pl.Expr, kind: Kind) -> pl.Expr:
    """Null for every row: this dtype never holds that kind."""
    null = pl.lit(None, dtype=kind.polars)
    return pl.when(value.is_null()).then(null).otherwise(null)


def _string(value: pl.Expr, stored: pl.DataType) -> pl.Expr:
    if stored == pl.Boolean:
        return category_text(Kind.BOOLEAN, value)
    if stored.is_float():  # as an integer of the same value in another file
        number = value.cast(pl.Float64).fill_nan(None)
        return pl.coalesce(long_digits(number), category_text(Kind.NUMBER, number))
    text = value.cast(pl.String)
    return pl.when(text != "").then(text)


def long_digits(number: pl.Expr) -> pl.Expr:
    """The digits of doubles of 2^53 to 1e38, all of which are whole; null for others."""
    return pl.when(number.abs().is_between(2**53, 1e38)).then(number.cast(pl.Int128, strict=False).cast(pl.String))

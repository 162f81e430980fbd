"""The one stored type that takes the values of several, so that none is lost for the type of another file."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import reduce

import pyarrow as pa

from rayforest.data.kinds import Kind

TYPE_OF_KIND = {
    Kind.NUMBER: pa.float64(),
    Kind.BOOLEAN: pa.bool_(),
    Kind.STRING: pa.string(),
    Kind.TIMESTAMP: pa.timestamp("us", "UTC"),
}
"""The stored type of a column that is text in its files and declared to be of a kind."""

_MOST_DIGITS = 38
_DIGITS = {8: 3, 16: 5, 32: 10, 64: 19}
"""Of the largest signed integer, by bits."""
_SIGNED = {8: pa.int8(), 16: pa.int16(), 32: pa.int32(), 64: pa.int64()}
_UNITS = ("s", "ms", "us", "ns")


def common_type(types: Iterable[pa.DataType]) -> pa.DataType | None:
    """The smallest type that takes all values of all types; None where there is none, as for numbers with text.

    - null joins everything, booleans join numbers as 0 and 1, text of any width is text
    - integers: the smallest that holds all; unsigned ones of 64 bits with signed ones are decimals of 20 digits
    - integers or decimals with floats: float64. Only there a value may be one that the type does not hold: whoever
      converts has to see that it comes back the same
    - decimals: the larger number of digits on either side of the point, up to 38 together
    - dates with timestamps: timestamps; the finest unit; UTC where zones differ, text without a zone being UTC
    """
    return reduce(lambda a, b: None if a is None else _joined(a, b), types)


def _joined(a: pa.DataType, b: pa.DataType) -> pa.DataType | None:
    types = pa.types
    if a.equals(b) or types.is_null(b):
        return a
    if types.is_null(a):
        return b
    if _is_text(a) and _is_text(b):
        return pa.large_string()
    if _is_number(a) and _is_number(b):
        return _joined_numbers(a, b)
    if _is_time(a) and _is_time(b):
        return _joined_times(a, b)
    return None


def _joined_numbers(a: pa.DataType, b: pa.DataType) -> pa.DataType | None:
    types = pa.types
    if types.is_boolean(a) or types.is_boolean(b):
        return b if types.is_boolean(a) else a
    if types.is_floating(a) or types.is_floating(b):
        return max(a, b, key=lambda t: t.bit_width) if types.is_floating(a) and types.is_floating(b) else pa.float64()
    if types.is_decimal(a) or types.is_decimal(b):
        whole, scale = (max(parts) for parts in zip(_decimal_digits(a), _decimal_digits(b), strict=True))
        return pa.decimal128(whole + scale, scale) if whole + scale <= _MOST_DIGITS else None
    signed = [t for t in (a, b) if types.is_signed_integer(t)]
    if len(signed) != 1:  # of one sort
        return max(a, b, key=lambda t: t.bit_width)
    (unsigned,) = (t for t in (a, b) if not types.is_signed_integer(t))
    bits = max(signed[0].bit_width, 2 * unsigned.bit_width)
    return _SIGNED.get(bits, pa.decimal128(20, 0))


def _decimal_digits(kind: pa.DataType) -> tuple[int, int]:
    """Digits before and after the point."""
    if pa.types.is_decimal(kind):
        return kind.precision - kind.scale, kind.scale
    return _DIGITS[kind.bit_width] + (kind.bit_width == 64 and not pa.types.is_signed_integer(kind)), 0


def _joined_times(a: pa.DataType, b: pa.DataType) -> pa.DataType:
    stamps = [t for t in (a, b) if pa.types.is_timestamp(t)]
    if not stamps:
        return pa.date32()
    unit = max((t.unit for t in stamps), key=_UNITS.index)
    zones = {t.tz for t in (a, b) if pa.types.is_timestamp(t)}
    return pa.timestamp(unit, zones.pop() if len(zones) == 1 else "UTC")


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_number(kind: pa.DataType) -> bool:
    types = pa.types
    return bool(types.is_boolean(kind) or types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind))


def _is_time(kind: pa.DataType) -> bool:
    return bool(pa.types.is_timestamp(kind) or pa.types.is_date(kind))


_DECIMAL = re.compile(r"decimal128\((\d+), (-?\d+)\)")
_ZONED = re.compile(r"timestamp\[(s|ms|us|ns), tz=(.+)\]")


def type_of_text(text: str) -> pa.DataType:
    """The type that `str` wrote, for the types that are read."""
    if match := _DECIMAL.fullmatch(text):
        return pa.decimal128(int(match[1]), int(match[2]))
    if match := _ZONED.fullmatch(text):
        return pa.timestamp(match[1], match[2])
    return pa.type_for_alias({"date32[day]": "date32"}.get(text, text))

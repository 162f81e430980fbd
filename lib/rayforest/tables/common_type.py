"""The one stored type that takes the values of several, so that none is lost for the type of another file."""

from __future__ import annotations

import re
from collections.abc import Iterable

import pyarrow as pa

from rayforest.kinds import Kind

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


def common_type(types: Iterable[pa.DataType], *, far: bool = False) -> pa.DataType | None:
    """The smallest type that takes all values of all types; None where there is none, as for numbers with text.

    - null joins everything, booleans join numbers as 0 and 1, text of any width is text
    - integers: the smallest that holds all; unsigned ones of 64 bits with signed ones are decimals of 20 digits
    - integers or decimals with floats: float64. Only there a value may be one that the type does not hold: whoever
      converts has to see that it comes back the same
    - decimals: the larger number of digits on either side of the point, up to 38 together
    - dates with timestamps: timestamps; UTC where zones differ, those without a zone being UTC; the finest unit, but
      microseconds where a time is known to lie `far` beyond the reach of nanoseconds
    """
    found = {kind for kind in types if not pa.types.is_null(kind)}
    if len(found) < 2:
        return found.pop() if found else pa.null()
    if all(map(_is_text, found)):
        return pa.large_string()
    if all(map(_is_number, found)):
        return _common_number(found)
    return _common_time(found, far) if all(map(_is_time, found)) else None


def _common_number(found: set[pa.DataType]) -> pa.DataType | None:
    types = pa.types
    if pa.bool_() in found:
        found = found - {pa.bool_()} | ({pa.int8()} if any(map(types.is_decimal, found)) else set())
    if all(map(types.is_floating, found)):
        return max(found, key=_bits)
    if any(map(types.is_floating, found)):
        return pa.float64()
    if any(map(types.is_decimal, found)):
        whole, scale = (max(digits) for digits in zip(*map(_decimal_digits, found), strict=True))
        return pa.decimal128(whole + scale, scale) if whole + scale <= _MOST_DIGITS else None
    signed = [_bits(kind) for kind in found if types.is_signed_integer(kind)]
    unsigned = [_bits(kind) for kind in found if not types.is_signed_integer(kind)]
    if not signed or not unsigned:
        return max(found, key=_bits)
    return _SIGNED.get(max(*signed, *(2 * bits for bits in unsigned)), pa.decimal128(20, 0))


def _bits(kind: pa.DataType) -> int:
    return int(kind.bit_width)


def _decimal_digits(kind: pa.DataType) -> tuple[int, int]:
    """Digits before and after the point."""
    if pa.types.is_decimal(kind):
        return kind.precision - kind.scale, kind.scale
    return _DIGITS[kind.bit_width] + (kind.bit_width == 64 and not pa.types.is_signed_integer(kind)), 0


def _common_time(found: set[pa.DataType], far: bool) -> pa.DataType:
    stamps = [kind for kind in found if pa.types.is_timestamp(kind)]
    zones = {kind.tz for kind in stamps}
    unit = max((kind.unit for kind in stamps), key=_UNITS.index)
    unit = "us" if unit == "ns" and far else unit
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

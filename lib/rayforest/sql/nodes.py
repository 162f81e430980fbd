"""The typed tree that feature and rule SQL becomes, and what each of its operations means.

SQL is lowered once (`parse`) to a few total operations. Two compilers, Polars expressions (`to_polars`) and an ONNX
graph (`rayforest.onnx.feature_graph`), give every operation exactly the meaning written here, so their results are
equal bit by bit (EXP, LN and POWER: within the ulps stated in the graph compiler).

Values. A number is an IEEE double that is never NaN: wherever IEEE arithmetic gives NaN (inf - inf, 0 * inf), the
result is null. Overflow gives an infinity. Zero has no sign: where -0.0 could be told from 0.0, it is 0.0. A string is
never empty: an operation whose result would be '' gives null, and '' in SQL text is the null string. A timestamp lies
in the years 1 to 9999, UTC, in whole microseconds; one outside is null. An operation on a null is null unless its text
says otherwise. Strings compare by their UTF-8 bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

from rayforest.kinds import Kind

EARLIEST_MICROS = -62_135_596_800_000_000
"""0001-01-01 00:00:00 UTC."""
LATEST_MICROS = 253_402_300_799_999_999
"""9999-12-31 23:59:59.999999 UTC."""


class Op(StrEnum):
    """The operations of the tree. `options` of a `Call` are the constants named in brackets."""

    # Numbers to a number.
    ADD = "+"
    SUB = "-"
    MUL = "*"
    DIV = "/"
    """Null where the divisor is zero."""
    MOD = "%"
    """C's fmod: exact, with the sign of the dividend; null where the divisor is zero or the dividend infinite."""
    NEG = "unary minus"
    ABS = "ABS"
    SIGN = "SIGN"
    """-1, 0 or 1."""
    FLOOR = "FLOOR"
    CEIL = "CEIL"
    TRUNC = "TRUNC"
    ROUND = "ROUND"
    """To a whole number, halves away from zero. Digits are lowered to a scaling around it."""
    LN = "LN"
    """Null for zero and negative numbers."""
    EXP = "EXP"
    SQRT = "SQRT"
    """Correctly rounded; null for negative numbers."""
    POWER = "POWER"
    """C's pow, but null where it gives NaN, and for any null argument. POWER(0, -1) is infinite, as in IEEE 754.
    Constant exponents from 1 to 9 are lowered to multiplications, 0.5 to SQRT."""

    # Any number of arguments of one ordered kind: nulls are ignored.
    LEAST = "LEAST"
    GREATEST = "GREATEST"

    # To a boolean.
    EQ = "="
    """Of two values of one kind. -0.0 = 0.0."""
    LT = "<"
    LE = "<="
    IN = "IN"
    """[members] of one kind, number or string or timestamp, none of them null."""
    IS_NULL = "IS NULL"
    """Never null."""
    MATCHES = "LIKE"
    """[regular expression, flags] The whole string matches; flags "i" ignores case, "" does not."""
    AND = "AND"
    """Three-valued: false wins over null."""
    OR = "OR"
    """Three-valued: true wins over null."""
    NOT = "NOT"

    # Any kind.
    CASE = "CASE"
    """condition, value, condition, value, ..., otherwise. A null condition does not hold."""
    COALESCE = "COALESCE"
    """The first argument that is not null."""
    CAST = "CAST"
    """From the argument's kind to the call's. Number <- boolean 0 or 1; text both ways as in `casts.py`."""

    # Timestamps.
    EXTRACT = "EXTRACT"
    """[part] One of `DATE_PARTS`. dow counts from Sunday = 0, isodow from Monday = 1, week is ISO 8601's."""
    DATE_TRUNC = "DATE_TRUNC"
    """[unit] One of `UNITS`; weeks begin on Monday."""
    TICKS = "DATEDIFF"
    """[micros] Whole units of that many microseconds since 1970-01-01, rounded down, as a number."""
    SECONDS_BETWEEN = "timestamp - timestamp"
    """First minus second: exact microseconds, made double, divided by 1e6."""
    ADD_MICROS = "timestamp + seconds"
    """A timestamp and a whole number of microseconds."""
    ADD_MONTHS = "timestamp + months"
    """[months] The day is cut to the length of the month: January 31 + 1 month = February 28 or 29."""
    MAKE_DATE = "MAKE_DATE"
    """Year, month, day to midnight; null where that is no day of the calendar, or an argument is not whole."""

    # Strings.
    PIPES = "||"
    CONCAT = "CONCAT"
    """Nulls are ignored."""
    UPPER = "UPPER"
    LOWER = "LOWER"
    TRIM = "TRIM"
    """[side, characters] side is "both", "leading" or "trailing"."""
    REPLACE = "REPLACE"
    """[old, new]"""
    SUBSTRING = "SUBSTRING or LEFT"
    """[start, length] start counts characters from 1; a length of -1 means up to the end."""
    RIGHT = "RIGHT"
    """[length]"""
    LENGTH = "LENGTH"
    """In characters (Unicode code points), as a number."""


DATE_PARTS = ("year", "quarter", "month", "day", "hour", "minute", "second", "dow", "isodow", "doy", "week", "isoyear")
UNITS = ("year", "quarter", "month", "week", "day", "hour", "minute", "second")


@dataclass(frozen=True)
class Column:
    """A raw column by its exact name."""

    name: str
    kind: Kind
    depth: int = field(default=1, init=False, repr=False, compare=False)
    size: int = field(default=1, init=False, repr=False, compare=False)


@dataclass(frozen=True)
class Literal:
    """A constant: float, bool, str, or int microseconds for a timestamp; None for null."""

    value: float | bool | str | int | None
    kind: Kind
    depth: int = field(default=1, init=False, repr=False, compare=False)
    size: int = field(default=1, init=False, repr=False, compare=False)


@dataclass(frozen=True)
class Call:
    """An operation on arguments."""

    op: Op
    args: tuple[Node, ...]
    kind: Kind
    options: tuple[str | int | float, ...] = ()
    depth: int = field(init=False, repr=False, compare=False)
    """Levels of the tree from here down."""
    size: int = field(init=False, repr=False, compare=False)
    """Nodes from here down, a shared node counted each time it is used: what a Polars expression costs to build."""

    def __post_init__(self) -> None:
        # The arms of a CASE lie one inside the other in Polars and in the graph.
        levels = len(self.args) // 2 if self.op is Op.CASE else 1
        object.__setattr__(self, "depth", levels + max((arg.depth for arg in self.args), default=0))
        object.__setattr__(self, "size", 1 + sum(arg.size for arg in self.args))


Node: TypeAlias = Column | Literal | Call


def distinct_nodes(root: Node) -> list[Node]:
    """Every node object under the root once, arguments before the calls that use them."""
    ordered: dict[int, Node] = {}
    waiting: list[tuple[Node, bool]] = [(root, False)]
    while waiting:
        node, args_done = waiting.pop()
        if id(node) in ordered:
            continue
        if args_done or not isinstance(node, Call):
            ordered[id(node)] = node
        else:
            waiting.append((node, True))
            waiting.extend((arg, False) for arg in reversed(node.args))
    return list(ordered.values())

"""The typed tree to Polars expressions, node by node, with the meaning that `Op` gives each operation.

Polars evaluates a repeated part again unless common subexpressions are merged (lazy queries do), so a formula that
needs an argument once is preferred to one that repeats it.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence

import numpy as np
import polars as pl

from rayforest.kinds import Kind
from rayforest.sql import casts
from rayforest.sql.nodes import Call, Column, Literal, Node, Op, distinct_nodes

_SPANS = {"year": "1y", "quarter": "1q", "month": "1mo", "week": "1w"} | {
    "day": "1d",
    "hour": "1h",
    "minute": "1m",
    "second": "1s",
}
_POLARS_DATE_PARTS = {"dow": "weekday", "isodow": "weekday", "doy": "ordinal_day", "isoyear": "iso_year"}
_CASTS: dict[tuple[Kind, Kind], Callable[[pl.Expr], pl.Expr]] = {
    (Kind.BOOLEAN, Kind.NUMBER): lambda value: value.cast(pl.Float64),
    (Kind.STRING, Kind.NUMBER): casts.text_to_number,
    (Kind.STRING, Kind.BOOLEAN): casts.text_to_boolean,
    (Kind.STRING, Kind.TIMESTAMP): casts.text_to_timestamp,
    (Kind.NUMBER, Kind.STRING): casts.number_to_text,
    (Kind.BOOLEAN, Kind.STRING): casts.boolean_to_text,
    (Kind.TIMESTAMP, Kind.STRING): casts.timestamp_to_text,
}


def compile_node(root: Node) -> pl.Expr:
    """The Polars expression of a tree: never NaN, never '', of the kind's Polars type."""
    compiled: dict[int, pl.Expr] = {}
    for node in distinct_nodes(root):
        if isinstance(node, Call):
            compiled[id(node)] = _call(node, [compiled[id(arg)] for arg in node.args])
        else:
            compiled[id(node)] = _leaf(node)
    value = compiled[id(root)]
    return _unsigned_zero(value) if root.kind is Kind.NUMBER else value


def constant_value(root: Node) -> Literal:
    """The value of a tree without columns."""
    return Literal(pl.select(compile_node(root)).to_series().to_physical().item(), root.kind)


def with_constants_computed(root: Node) -> Node:
    """The same tree with a literal for each part without columns.

    Done once for both compilers: Polars treats constants in ways of its own (a null constant compared with a column has
    one row), and both then hold the same bits of EXP(1).
    """
    done: dict[int, Node] = {}
    for node in distinct_nodes(root):
        done[id(node)] = node
        if isinstance(node, Call):
            args = tuple(done[id(arg)] for arg in node.args)
            call = Call(node.op, args, node.kind, node.options)
            done[id(node)] = constant_value(call) if all(isinstance(arg, Literal) for arg in args) else call
    return done[id(root)]


def _leaf(node: Column | Literal) -> pl.Expr:
    if isinstance(node, Literal):
        return pl.lit(node.value, dtype=node.kind.polars)
    if node.kind is Kind.TIMESTAMP:
        return casts.in_calendar(pl.col(node.name).to_physical())
    return pl.col(node.name)


def _call(node: Call, args: list[pl.Expr]) -> pl.Expr:
    if node.op is Op.CAST:
        return _CASTS[node.args[0].kind, node.kind](args[0])
    if node.op in _MIRRORED and isinstance(node.args[0], Literal):
        return _MIRRORED[node.op](args[1], args[0])
    if node.op is Op.DIV and isinstance(node.args[1], Literal):
        return _quotient(args[0], _without_zero(args[1])).replace(math.nan, None)
    value = _FORMULAS[node.op](*args, *node.options)
    if _may_be_nan(node):
        return value.replace(math.nan, None)
    return value.replace("", None) if node.op in _MAY_BE_EMPTY else value


# Polars 2.1 gives one row for a constant compared with a computed column that is null throughout, in that order only.
_MIRRORED = {Op.EQ: pl.Expr.eq, Op.LT: pl.Expr.gt, Op.LE: pl.Expr.ge}

_MAY_BE_EMPTY = (Op.TRIM, Op.REPLACE, Op.SUBSTRING, Op.RIGHT, Op.CONCAT)
_MAY_BE_NAN = (Op.ADD, Op.SUB, Op.MUL, Op.DIV, Op.MOD, Op.LN, Op.SQRT, Op.POWER, Op.SECONDS_BETWEEN)


def _may_be_nan(node: Call) -> bool:
    """Whether the operation can give NaN for arguments that are not; saves a pass over the column where it cannot."""
    constants = [arg.value for arg in node.args if isinstance(arg, Literal)]
    tame = any(isinstance(value, float) and math.isfinite(value) and value != 0 for value in constants)
    return node.op in _MAY_BE_NAN and not (tame and node.op in (Op.ADD, Op.SUB, Op.MUL, Op.DIV))


def _without_zero(value: pl.Expr) -> pl.Expr:
    return value.replace(0.0, None)


def _unsigned_zero(value: pl.Expr) -> pl.Expr:
    # Adding 0.0 would do in IEEE arithmetic, but Polars leaves the addition out.
    return value.replace(0.0, 0.0)


def _quotient(dividend: pl.Expr, divisor: pl.Expr) -> pl.Expr:
    # Polars divides by a constant by multiplying with its reciprocal, which is off by an ulp in a third of the rows.
    return _by_numpy(np.divide, dividend, divisor)


def _mod(dividend: pl.Expr, divisor: pl.Expr) -> pl.Expr:
    # Polars' own % takes the sign of the divisor and is inexact for large quotients.
    return _by_numpy(np.fmod, dividend, divisor)


def _by_numpy(function: np.ufunc, *args: pl.Expr) -> pl.Expr:
    """Numbers to a number by numpy, NaN for null."""

    def apply(columns: Sequence[pl.Series]) -> pl.Series:
        with np.errstate(all="ignore"):
            return pl.Series(function(*(column.fill_null(math.nan).to_numpy() for column in columns)), dtype=pl.Float64)

    return pl.map_batches(list(args), apply, return_dtype=pl.Float64, is_elementwise=True)


def _in(value: pl.Expr, *members: float | str) -> pl.Expr:
    return value.to_physical().is_in(list(members))


def _case(*arms: pl.Expr) -> pl.Expr:
    *pairs, value = arms
    for condition, then in zip(pairs[-2::-2], pairs[::-2], strict=True):
        value = pl.when(condition).then(then).otherwise(value)
    return value


def _balanced(operation: Callable[[pl.Expr, pl.Expr], pl.Expr], values: Sequence[pl.Expr]) -> pl.Expr:
    """A long chain as a shallow tree: Polars recurses, and overflows its stack at a few thousand levels."""
    if len(values) == 1:
        return values[0]
    middle = len(values) // 2
    return operation(_balanced(operation, values[:middle]), _balanced(operation, values[middle:]))


def _matches(value: pl.Expr, pattern: str, flags: str) -> pl.Expr:
    return value.str.contains(rf"(?s{flags})\A(?:{pattern})\z")


def _trim(value: pl.Expr, side: str, characters: str) -> pl.Expr:
    match side:
        case "leading":
            return value.str.strip_chars_start(characters)
        case "trailing":
            return value.str.strip_chars_end(characters)
        case _:
            return value.str.strip_chars(characters)


def _extract(value: pl.Expr, part: str) -> pl.Expr:
    number: pl.Expr = getattr(value.dt, _POLARS_DATE_PARTS.get(part, part))()
    number = number.cast(pl.Float64)  # Polars' own Int8 would overflow in hour * 60
    return number.replace(7.0, 0.0) if part == "dow" else number


def _seconds_between(end: pl.Expr, start: pl.Expr) -> pl.Expr:
    return _quotient((end.to_physical() - start.to_physical()).cast(pl.Float64), pl.lit(1e6))


def _add_micros(value: pl.Expr, micros: pl.Expr) -> pl.Expr:
    # A sum that wraps around lands outside the calendar too.
    return casts.in_calendar(value.to_physical() + micros.cast(pl.Int64, strict=False))


def _make_date(year: pl.Expr, month: pl.Expr, day: pl.Expr) -> pl.Expr:
    possible = year.is_between(1, 9999) & month.is_between(1, 12) & day.is_between(1, 31)
    whole = year.eq(year.truncate()) & month.eq(month.truncate()) & day.eq(day.truncate())
    year, month, day = (
        pl.when(possible & whole).then(part.cast(pl.Int64, strict=False)) for part in (year, month, day)
    )
    # pl.datetime raises for a day that does not exist, so only the first of a month is asked of it.
    first = pl.datetime(year, month, 1)
    return pl.when(day <= first.dt.month_end().dt.day()).then(first + pl.duration(days=day - 1))


_FORMULAS: dict[Op, Callable[..., pl.Expr]] = {
    Op.ADD: operator.add,
    Op.SUB: operator.sub,
    Op.MUL: operator.mul,
    Op.DIV: lambda dividend, divisor: dividend / _without_zero(divisor),
    Op.MOD: _mod,
    Op.NEG: operator.neg,
    Op.ABS: pl.Expr.abs,
    Op.SIGN: pl.Expr.sign,
    Op.FLOOR: pl.Expr.floor,
    Op.CEIL: pl.Expr.ceil,
    Op.TRUNC: pl.Expr.truncate,
    Op.ROUND: lambda value: value.round(0, mode="half_away_from_zero"),
    Op.LN: lambda value: _without_zero(value).log(),
    Op.EXP: pl.Expr.exp,
    Op.SQRT: pl.Expr.sqrt,
    Op.POWER: lambda base, exponent: _unsigned_zero(base).pow(exponent),
    Op.LEAST: pl.min_horizontal,
    Op.GREATEST: pl.max_horizontal,
    Op.EQ: pl.Expr.eq,
    Op.LT: pl.Expr.lt,
    Op.LE: pl.Expr.le,
    Op.IN: _in,
    Op.IS_NULL: pl.Expr.is_null,
    Op.MATCHES: _matches,
    Op.AND: lambda *values: _balanced(operator.and_, values),
    Op.OR: lambda *values: _balanced(operator.or_, values),
    Op.NOT: pl.Expr.not_,
    Op.CASE: _case,
    Op.COALESCE: pl.coalesce,
    Op.EXTRACT: _extract,
    Op.DATE_TRUNC: lambda value, unit: value.dt.truncate(_SPANS[unit]),
    Op.TICKS: lambda value, micros: (value.to_physical() // micros).cast(pl.Float64),
    Op.SECONDS_BETWEEN: _seconds_between,
    Op.ADD_MICROS: _add_micros,
    Op.ADD_MONTHS: lambda value, months: casts.in_calendar(value.dt.offset_by(f"{months}mo").to_physical()),
    Op.MAKE_DATE: _make_date,
    Op.PIPES: pl.concat_str,
    Op.CONCAT: lambda *values: pl.concat_str(*values, ignore_nulls=True),
    Op.UPPER: lambda value: value.str.to_uppercase(),
    Op.LOWER: lambda value: value.str.to_lowercase(),
    Op.TRIM: _trim,
    Op.REPLACE: lambda value, old, new: value.str.replace_all(old, new, literal=True),
    Op.SUBSTRING: lambda value, start, length: value.str.slice(start - 1, None if length < 0 else length),
    Op.RIGHT: lambda value, length: value.str.tail(length),
    Op.LENGTH: lambda value: value.str.len_chars().cast(pl.Float64),
}

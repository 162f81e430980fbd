"""What the feature language means, once more in plain Python: one row at a time, by other means than the compilers."""

from __future__ import annotations

import calendar
import math
import re
from datetime import datetime, timedelta
from fractions import Fraction

from rayforest.kinds import Kind
from rayforest.sql.casts import FALSE_PATTERN, NUMBER_PATTERN, TRUE_PATTERN
from rayforest.sql.nodes import Call, Column, Literal, Node, Op

Scalar = float | bool | str | datetime | None
EPOCH = datetime(1970, 1, 1)
MICRO = timedelta(microseconds=1)


def meaning(root: Node, row: dict[str, Scalar]) -> Scalar:
    """The value of a tree for one row; timestamps are datetimes without a zone."""
    value = _value(root, row)
    return 0.0 if root.kind is Kind.NUMBER and value == 0 else value


def _value(node: Node, row: dict[str, Scalar]) -> Scalar:
    match node:
        case Column():
            return row[node.name]
        case Literal():
            if node.kind is Kind.TIMESTAMP and node.value is not None:
                return EPOCH + node.value * MICRO
            return node.value
        case Call(op=Op.CASE):
            for condition, value in zip(node.args[:-1:2], node.args[1::2], strict=True):
                if _value(condition, row) is True:
                    return _value(value, row)
            return _value(node.args[-1], row)
    args = [_value(arg, row) for arg in node.args]
    known = [arg for arg in args if arg is not None]
    match node.op:
        case Op.AND:
            return False if False in known else (True if len(known) == len(args) else None)
        case Op.OR:
            return True if True in known else (False if len(known) == len(args) else None)
        case Op.IS_NULL:
            return args[0] is None
        case Op.COALESCE:
            return known[0] if known else None
        case Op.LEAST | Op.GREATEST:
            best = None
            for value in known:
                pair = (best, value) if node.op is Op.LEAST else (value, best)
                best = best if best is not None and _less(*pair) else value
            return best
        case Op.CONCAT:
            return "".join(known) or None
    if len(known) < len(args):
        return None
    if node.op is Op.CAST:
        return _cast(args[0], node.kind)
    try:
        value = _STRICT[node.op](*args, *node.options)
    except (ValueError, OverflowError):  # outside the domain of a function, or of the calendar
        return None
    return None if value == "" or value != value else value


def _less(a: Scalar, b: Scalar) -> bool:
    return a.encode() < b.encode() if isinstance(a, str) else a < b


def _divide(a: float, b: float) -> float | None:
    return None if b == 0 else a / b


def _whole(function, x: float) -> float:
    return math.copysign(float(function(x)), x) if math.isfinite(x) else x


def _round(x: float) -> float:
    return _whole(lambda value: math.floor(abs(Fraction(value)) + Fraction(1, 2)), x)


def _sign(x: float) -> float:
    return float((x > 0) - (x < 0))


def _cast(value: Scalar, kind: Kind) -> Scalar:
    if isinstance(value, bool):
        return float(value) if kind is Kind.NUMBER else str(value).lower()
    if isinstance(value, str) and kind is Kind.NUMBER:
        return float(value) if re.fullmatch(NUMBER_PATTERN, value) else None
    if isinstance(value, str) and kind is Kind.BOOLEAN:
        return True if re.fullmatch(TRUE_PATTERN, value) else False if re.fullmatch(FALSE_PATTERN, value) else None
    raise NotImplementedError(f"{value!r} to {kind}")


def _part(t: datetime, part: str) -> float:
    iso_year, week, isodow = t.isocalendar()
    named = {"quarter": (t.month + 2) // 3, "isodow": isodow, "dow": isodow % 7, "week": week, "isoyear": iso_year}
    return float(t.timetuple().tm_yday if part == "doy" else named[part] if part in named else getattr(t, part))


def _start(t: datetime, unit: str) -> datetime:
    midnight = t.replace(hour=0, minute=0, second=0, microsecond=0)
    starts = {
        "year": lambda: midnight.replace(month=1, day=1),
        "quarter": lambda: midnight.replace(month=(t.month - 1) // 3 * 3 + 1, day=1),
        "month": lambda: midnight.replace(day=1),
        "week": lambda: midnight - timedelta(days=t.weekday()),
        "day": lambda: midnight,
        "hour": lambda: t.replace(minute=0, second=0, microsecond=0),
        "minute": lambda: t.replace(second=0, microsecond=0),
        "second": lambda: t.replace(microsecond=0),
    }
    return starts[unit]()


def _plus_months(t: datetime, months: int) -> datetime:
    years, month = divmod(t.year * 12 + t.month - 1 + months, 12)
    if not 1 <= years <= 9999:
        raise OverflowError
    return t.replace(year=years, month=month + 1, day=min(t.day, calendar.monthrange(years, month + 1)[1]))


def _make_date(year: float, month: float, day: float) -> datetime:
    if not (year.is_integer() and month.is_integer() and day.is_integer()):
        raise ValueError
    return datetime(int(year), int(month), int(day))


def _trim(text: str, side: str, characters: str) -> str:
    return (
        {"both": text.strip, "leading": text.lstrip, "trailing": text.rstrip}[side](characters) if characters else text
    )


_STRICT = {
    Op.ADD: lambda a, b: a + b,
    Op.SUB: lambda a, b: a - b,
    Op.MUL: lambda a, b: a * b,
    Op.DIV: _divide,
    Op.MOD: math.fmod,
    Op.NEG: lambda a: -a,
    Op.ABS: abs,
    Op.SIGN: _sign,
    Op.FLOOR: lambda a: _whole(math.floor, a),
    Op.CEIL: lambda a: _whole(math.ceil, a),
    Op.TRUNC: lambda a: _whole(math.trunc, a),
    Op.ROUND: _round,
    Op.SQRT: math.sqrt,
    Op.EQ: lambda a, b: a == b,
    Op.LT: _less,
    Op.LE: lambda a, b: not _less(b, a),
    Op.IN: lambda a, *members: (a - EPOCH) // MICRO in members if isinstance(a, datetime) else a in members,
    Op.MATCHES: lambda a, pattern, flags: bool(re.fullmatch(pattern, a, re.DOTALL | (re.IGNORECASE if flags else 0))),
    Op.NOT: lambda a: not a,
    Op.EXTRACT: _part,
    Op.DATE_TRUNC: _start,
    Op.TICKS: lambda t, micros: float((t - EPOCH) // MICRO // micros),
    Op.SECONDS_BETWEEN: lambda end, start: float((end - start) // MICRO) / 1e6,
    Op.ADD_MICROS: lambda t, micros: t + int(micros) * MICRO,
    Op.ADD_MONTHS: _plus_months,
    Op.MAKE_DATE: _make_date,
    Op.PIPES: lambda *texts: "".join(texts),
    Op.UPPER: str.upper,
    Op.LOWER: str.lower,
    Op.TRIM: _trim,
    Op.REPLACE: lambda a, old, new: a.replace(old, new),
    Op.SUBSTRING: lambda a, start, length: a[start - 1 :] if length < 0 else a[start - 1 : start - 1 + length],
    Op.RIGHT: lambda a, length: a[-length:] if length else "",
    Op.LENGTH: lambda a: float(len(a)),
}

"""Lowering of timestamp functions and intervals."""

from __future__ import annotations

from sqlglot import exp

from rayforest.errors import did_you_mean
from rayforest.kinds import Kind
from rayforest.sql.nodes import DATE_PARTS, UNITS, Call, Literal, Node, Op
from rayforest.sql.position import SqlNode
from rayforest.sql.scope import Rule, Scope

_MICROS = {
    "week": 604_800_000_000,
    "day": 86_400_000_000,
    "hour": 3_600_000_000,
    "minute": 60_000_000,
    "second": 1_000_000,
}
_MONTHS = {"year": 12, "quarter": 3, "month": 1}
_SYNONYMS = {"dayofweek": "dow", "weekday": "dow", "dayofweekiso": "isodow", "yearofweekiso": "isoyear"} | {
    "dayofyear": "doy", "weekofyear": "week", "dayofmonth": "day"
}  # fmt: skip
_EPOCH = Literal(0, Kind.TIMESTAMP)


def truncated(value: Node, unit: str) -> Node:
    """The start of the unit that the timestamp lies in."""
    return Call(Op.DATE_TRUNC, (value,), Kind.TIMESTAMP, (unit,))


def moved(scope: Scope, node: SqlNode, interval: exp.Interval, sign: int) -> Node:
    """A timestamp plus or minus an interval: months by the calendar, weeks and shorter by their length."""
    value = scope.timestamp(node, "INTERVAL")
    if interval.args.get("unit") is None:
        raise scope.text.error("the interval has no unit", interval, expected="INTERVAL 3 DAY or INTERVAL '3 days'")
    unit = _unit(scope, interval, (*_MICROS, *_MONTHS))
    amount = interval.this
    if isinstance(amount, exp.Literal):
        try:
            count = sign * float(amount.this)
        except ValueError:
            raise scope.text.error("the interval is no number", interval, expected="INTERVAL 3 DAY") from None
        if unit in _MONTHS:
            months = count * _MONTHS[unit]
            if not months.is_integer() or abs(months) > 12 * 9999:
                raise scope.text.error(f"an interval of {unit}s must be whole", interval, expected="at most 9999 years")
            return Call(Op.ADD_MONTHS, (value,), Kind.TIMESTAMP, (int(months),))
        return _add_micros(value, Literal(float(round(count * _MICROS[unit])), Kind.NUMBER))
    if unit in _MONTHS:
        raise scope.text.error(f"an interval of {unit}s must be a constant", interval, expected="INTERVAL 1 MONTH")
    micros = _number(Op.MUL, scope.number(amount, "INTERVAL"), _constant(sign * _MICROS[unit]))
    return _add_micros(value, _number(Op.ROUND, micros))


def _add_micros(value: Node, micros: Node) -> Node:
    return Call(Op.ADD_MICROS, (value, micros), Kind.TIMESTAMP)


def _number(op: Op, *args: Node) -> Node:
    return Call(op, args, Kind.NUMBER)


def _constant(value: float) -> Literal:
    return Literal(float(value), Kind.NUMBER)


def _unit(scope: Scope, node: SqlNode, valid: tuple[str, ...], name: str | None = None) -> str:
    written = (name if name is not None else node.args["unit"].name).lower()
    unit = _SYNONYMS.get(written, written)
    for candidate in (unit, unit.removesuffix("s")):
        if candidate in valid:
            return candidate
    raise scope.text.error(
        f"there is no unit {written!r} here", node, expected=", ".join(valid), next_step=did_you_mean(unit, valid)
    )


def _part(value: Node, part: str) -> Node:
    if part == "epoch":
        return _number(Op.SECONDS_BETWEEN, value, _EPOCH)
    return Call(Op.EXTRACT, (value,), Kind.NUMBER, (part,))


def _extract(scope: Scope, node: SqlNode) -> Node:
    part = _unit(scope, node, (*DATE_PARTS, "epoch"), node.this.name)
    return _part(scope.timestamp(node.expression, "EXTRACT"), part)


def _date_part(part: str) -> Rule:
    def rule(scope: Scope, node: SqlNode) -> Node:
        return _part(scope.timestamp(node.this, scope.label(node)), part)

    return rule


def _date_trunc(scope: Scope, node: SqlNode) -> Node:
    return truncated(scope.timestamp(node.this, "DATE_TRUNC"), _unit(scope, node, UNITS))


def _date_diff(scope: Scope, node: SqlNode) -> Node:
    """How many starts of the unit lie between the two, as in DuckDB: positive where the second is later."""
    if node.args.get("unit") is None:
        raise scope.text.error("DATEDIFF needs a unit", node, expected="DATEDIFF('day', start, end)")
    unit = _unit(scope, node, UNITS)
    end, start = (scope.timestamp(side, "DATEDIFF") for side in (node.this, node.expression))
    return _number(Op.SUB, _index(end, unit), _index(start, unit))


def _index(value: Node, unit: str) -> Node:
    """The number of the unit that the timestamp lies in, counted from a fixed start."""
    if unit == "year":
        return _part(value, "year")
    if unit in ("quarter", "month"):
        years = _number(Op.MUL, _part(value, "year"), _constant(12 / _MONTHS[unit]))
        return _number(Op.ADD, years, _part(value, unit))
    if unit == "week":
        # 1970-01-01 was a Thursday, three days after a Monday.
        return _number(Op.FLOOR, _number(Op.DIV, _number(Op.ADD, _index(value, "day"), _constant(3)), _constant(7)))
    return Call(Op.TICKS, (value,), Kind.NUMBER, (_MICROS[unit],))


def _make_date(scope: Scope, node: SqlNode) -> Node:
    parts = (scope.number(node.args[name], "MAKE_DATE") for name in ("year", "month", "day"))
    return Call(Op.MAKE_DATE, tuple(parts), Kind.TIMESTAMP)


def _make_timestamp(scope: Scope, node: SqlNode) -> Node:
    if any(node.args.get(name) is None for name in ("year", "month", "day", "hour", "min", "sec")):
        raise scope.text.error(
            "MAKE_TIMESTAMP takes six numbers", node, expected="MAKE_TIMESTAMP(year, month, day, hour, minute, second)"
        )
    day = Call(
        Op.MAKE_DATE,
        tuple(scope.number(node.args[name], "MAKE_TIMESTAMP") for name in ("year", "month", "day")),
        Kind.TIMESTAMP,
    )
    hour, minute, second = (scope.number(node.args[name], "MAKE_TIMESTAMP") for name in ("hour", "min", "sec"))
    valid = Call(
        Op.AND,
        (
            *_is_clock_value(hour, 24),
            *_is_whole(hour),
            *_is_clock_value(minute, 60),
            *_is_whole(minute),
            *_is_clock_value(second, 60),
        ),
        Kind.BOOLEAN,
    )
    micros = _number(
        Op.ADD,
        _number(
            Op.ADD,
            _number(Op.MUL, hour, _constant(_MICROS["hour"])),
            _number(Op.MUL, minute, _constant(_MICROS["minute"])),
        ),
        _number(Op.ROUND, _number(Op.MUL, second, _constant(_MICROS["second"]))),
    )
    return Call(Op.CASE, (valid, _add_micros(day, micros), Literal(None, Kind.TIMESTAMP)), Kind.TIMESTAMP)


def _is_clock_value(value: Node, limit: int) -> tuple[Node, Node]:
    return (
        Call(Op.LE, (_constant(0), value), Kind.BOOLEAN),
        Call(Op.LT, (value, _constant(limit)), Kind.BOOLEAN),
    )


def _is_whole(value: Node) -> tuple[Node]:
    return (Call(Op.EQ, (value, _number(Op.TRUNC, value)), Kind.BOOLEAN),)


def _to_timestamp(scope: Scope, node: SqlNode) -> Node:
    seconds = scope.number(node.this, "TO_TIMESTAMP")
    return _add_micros(_EPOCH, _number(Op.ROUND, _number(Op.MUL, seconds, _constant(_MICROS["second"]))))


_UNARY = frozenset({"this"})

RULES: dict[type[SqlNode], tuple[Rule, frozenset[str]]] = {
    exp.Extract: (_extract, frozenset({"this", "expression"})),
    exp.Year: (_date_part("year"), _UNARY),
    exp.Quarter: (_date_part("quarter"), _UNARY),
    exp.Month: (_date_part("month"), _UNARY),
    exp.Day: (_date_part("day"), _UNARY),
    exp.DayOfMonth: (_date_part("day"), _UNARY),
    exp.Hour: (_date_part("hour"), _UNARY),
    exp.Minute: (_date_part("minute"), _UNARY),
    exp.Second: (_date_part("second"), _UNARY),
    exp.DayOfWeek: (_date_part("dow"), _UNARY),
    exp.DayOfWeekIso: (_date_part("isodow"), _UNARY),
    exp.DayOfYear: (_date_part("doy"), _UNARY),
    exp.Week: (_date_part("week"), _UNARY),
    exp.WeekOfYear: (_date_part("week"), _UNARY),
    exp.TimeToUnix: (_date_part("epoch"), _UNARY),
    exp.DateTrunc: (_date_trunc, frozenset({"this", "unit"})),
    exp.TimestampTrunc: (_date_trunc, frozenset({"this", "unit"})),
    exp.DateDiff: (_date_diff, frozenset({"this", "expression", "unit"})),
    exp.DateFromParts: (_make_date, frozenset({"year", "month", "day"})),
    exp.TimestampFromParts: (_make_timestamp, frozenset({"year", "month", "day", "hour", "min", "sec"})),
    exp.UnixToTime: (_to_timestamp, _UNARY),
}

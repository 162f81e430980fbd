"""The typed tree of the feature language to ONNX nodes, with the meaning that `Op` gives each operation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import reduce

from onnx import TensorProto

from rayforest.kinds import Kind
from rayforest.onnx.calendar_nodes import DAY, Moment, days_of, month_length, quotient, times
from rayforest.onnx.value_nodes import Truth, Value, ValueNodes
from rayforest.sql.casts import FALSE_PATTERN, NUMBER_PATTERN, TRUE_PATTERN
from rayforest.sql.nodes import Call, Column, Literal, Node, Op, distinct_nodes

_DOUBLE_HOLDS = 2.0**62
"""Casting a double of this size or more to int64 is undefined; no timestamp is as far away."""


def compile_expression(nodes: ValueNodes, root: Node, columns: Mapping[str, Value]) -> Value:
    """The value of an expression that `inexpressible` finds nothing in, given the values of its columns."""
    values: dict[int, Value] = {}
    for node in distinct_nodes(root):
        match node:
            case Column():
                values[id(node)] = columns[node.name]
            case Literal():
                values[id(node)] = nodes.literal(node)
            case Call():
                args = [values[id(arg)] for arg in node.args]
                if node.op in _FORMULAS:
                    values[id(node)] = _FORMULAS[node.op](nodes, *args, *node.options)
                else:
                    values[id(node)] = _FORMULAS_BY_KIND[node.op](nodes, node, *args)
    return values[id(root)]


def _node(op_type: str) -> Callable[..., Value]:
    """The operation is one ONNX operator, whose NaN for NaN is null for null."""
    return lambda n, *args: n.op(op_type, *args)


def _divide(n: ValueNodes, dividend: str, divisor: str) -> Value:
    return n.where(n.op("Equal", divisor, n.double(0)), n.null(Kind.NUMBER), n.op("Div", dividend, divisor))


def _modulo(n: ValueNodes, dividend: str, divisor: str) -> Value:
    return n.op("Mod", dividend, divisor, fmod=1)


def _truncated(n: ValueNodes, value: str) -> str:
    return n.where(n.op("Less", value, n.double(0)), n.op("Ceil", value), n.op("Floor", value))


def _truncate(n: ValueNodes, value: str) -> Value:
    return _truncated(n, value)


def _round(n: ValueNodes, value: str) -> Value:
    # ONNX's Round goes to the even neighbour. The difference from the truncated value is exact.
    whole = _truncated(n, value)
    far = n.op("GreaterOrEqual", n.op("Abs", n.op("Sub", value, whole)), n.double(0.5))
    return n.where(far, n.op("Add", whole, n.op("Sign", value)), whole)


def _log(n: ValueNodes, value: str) -> Value:
    return n.where(n.op("Equal", value, n.double(0)), n.null(Kind.NUMBER), n.op("Log", value))


def _power(n: ValueNodes, base: str, exponent: str) -> Value:
    # pow(1, NaN) and pow(NaN, 0) are 1.
    null = n.any(n.op("IsNaN", base), n.op("IsNaN", exponent))
    return n.where(null, n.null(Kind.NUMBER), n.op("Pow", n.unsigned_zero(base), exponent))


def _extreme(n: ValueNodes, call: Call, *args: str) -> Value:
    def better(best: str, value: str) -> str:
        pair = (best, value) if call.op is Op.LEAST else (value, best)
        keeps = n.all(n.op("Less", *pair), n.opposite(n.is_null(best, call.kind)))
        return n.where(n.any(keeps, n.is_null(value, call.kind)), best, value)

    return reduce(better, args)


def _known(n: ValueNodes, call: Call, *args: Value) -> list[str]:
    return [n.opposite(n.is_null(value, arg.kind)) for value, arg in zip(args, call.args, strict=True)]


def _truth(n: ValueNodes, condition: str, known: list[str]) -> Truth:
    return Truth(n.all(condition, *known), n.all(n.opposite(condition), *known))


def _equal(n: ValueNodes, call: Call, left: Value, right: Value) -> Value:
    if isinstance(left, Truth) and isinstance(right, Truth):
        same = n.any(n.all(left.yes, right.yes), n.all(left.no, right.no))
        return Truth(same, n.any(n.all(left.yes, right.no), n.all(left.no, right.yes)))
    return _truth(n, n.op("Equal", str(left), str(right)), _known(n, call, left, right))


def _ordered(op_type: str) -> Callable[..., Value]:
    def formula(n: ValueNodes, call: Call, left: str, right: str) -> Value:
        return _truth(n, n.op(op_type, left, right), _known(n, call, left, right))

    return formula


def _in(n: ValueNodes, call: Call, value: str) -> Value:
    if call.args[0].kind is Kind.TIMESTAMP:
        found = n.any(*(n.op("Equal", value, n.integer(int(member))) for member in call.options))
    else:
        found = n.op("Equal", n.looked_up(value, call.options, [1.0] * len(call.options), 0.0), n.double(1))
    return _truth(n, found, _known(n, call, value))


def _is_null(n: ValueNodes, call: Call, value: Value) -> Value:
    null = n.is_null(value, call.args[0].kind)
    return Truth(null, n.opposite(null))


def _matches(n: ValueNodes, value: str, pattern: str, _flags: str) -> Value:
    return _truth(n, _whole_match(n, value, f"(?s:{pattern})"), [n.opposite(n.is_null(value, Kind.STRING))])


def _whole_match(n: ValueNodes, value: str, pattern: str) -> str:
    return n.op("RegexFullMatch", value, pattern=pattern)


def _and(n: ValueNodes, *args: Truth) -> Value:
    return Truth(n.all(*(arg.yes for arg in args)), n.any(*(arg.no for arg in args)))


def _or(n: ValueNodes, *args: Truth) -> Value:
    return Truth(n.any(*(arg.yes for arg in args)), n.all(*(arg.no for arg in args)))


def _not(_n: ValueNodes, value: Truth) -> Value:
    return Truth(value.no, value.yes)


def _case(n: ValueNodes, *arms: Value) -> Value:
    *pairs, result = arms
    for condition, value in zip(pairs[-2::-2], pairs[::-2], strict=True):
        assert isinstance(condition, Truth)  # noqa: S101  by the typed tree
        result = n.choose(condition.yes, value, result)
    return result


def _coalesce(n: ValueNodes, call: Call, *args: Value) -> Value:
    return reduce(lambda later, value: n.choose(n.is_null(value, call.kind), later, value), reversed(args))


def _cast(n: ValueNodes, call: Call, value: Value) -> Value:
    if isinstance(value, Truth):
        yes, no = (n.double(1), n.double(0)) if call.kind is Kind.NUMBER else (n.text("true"), n.text("false"))
        return n.where(value.yes, yes, n.where(value.no, no, n.null(call.kind)))
    if call.kind is Kind.BOOLEAN:
        return Truth(_whole_match(n, value, TRUE_PATTERN), _whole_match(n, value, FALSE_PATTERN))
    # onnxruntime's Cast raises for text that is no number, but reads the word.
    number = n.where(_whole_match(n, value, NUMBER_PATTERN), value, n.text("NaN"))
    return n.op("Cast", number, to=TensorProto.DOUBLE)


def _number_of(n: ValueNodes, integer: str, *timestamps: str) -> str:
    """An int64 computed from timestamps as a double, null where one of those is."""
    null = n.any(*(n.is_null(value, Kind.TIMESTAMP) for value in timestamps))
    return n.where(null, n.null(Kind.NUMBER), n.op("Cast", integer, to=TensorProto.DOUBLE))


def _extract(n: ValueNodes, value: str, part: str) -> Value:
    return _number_of(n, Moment(n, value).part(part), value)


def _date_trunc(n: ValueNodes, value: str, unit: str) -> Value:
    known = n.opposite(n.is_null(value, Kind.TIMESTAMP))
    return n.in_calendar(Moment(n, value).start_of(unit), known)


def _ticks(n: ValueNodes, value: str, micros: int) -> Value:
    return _number_of(n, quotient(n, value, micros), value)


def _seconds_between(n: ValueNodes, end: str, start: str) -> Value:
    return n.op("Div", _number_of(n, n.op("Sub", end, start), end, start), n.double(1e6))


def _add_micros(n: ValueNodes, value: str, micros: str) -> Value:
    castable = n.op("Less", n.op("Abs", micros), n.double(_DOUBLE_HOLDS))
    amount = n.op("Cast", n.where(castable, micros, n.double(0)), to=TensorProto.INT64)
    return n.in_calendar(n.op("Add", value, amount), castable, n.opposite(n.is_null(value, Kind.TIMESTAMP)))


def _add_months(n: ValueNodes, value: str, months: int) -> Value:
    known = n.opposite(n.is_null(value, Kind.TIMESTAMP))
    return n.in_calendar(Moment(n, value).plus_months(months), known)


def _make_date(n: ValueNodes, *parts: str) -> Value:
    conditions: list[str] = []
    for part, limit in zip(parts, (9999, 12, 31), strict=True):
        conditions.append(n.op("LessOrEqual", n.double(1), part))
        conditions.append(n.op("LessOrEqual", part, n.double(limit)))
        conditions.append(n.op("Equal", part, n.op("Floor", part)))
    possible = n.all(*conditions)
    year, month, day = (n.op("Cast", n.where(possible, part, n.double(1)), to=TensorProto.INT64) for part in parts)
    exists = n.op("LessOrEqual", day, month_length(n, year, month))
    return n.in_calendar(times(n, days_of(n, year, month, day), DAY), possible, exists)


def _joined(n: ValueNodes, args: tuple[str, ...]) -> str:
    return reduce(lambda left, right: n.op("StringConcat", left, right), args)


def _pipes(n: ValueNodes, *args: str) -> Value:
    empty = n.any(*(n.is_null(value, Kind.STRING) for value in args))
    return n.where(empty, n.text(""), _joined(n, args))


def _concat(n: ValueNodes, *args: str) -> Value:
    return _joined(n, args)


_FORMULAS: dict[Op, Callable[..., Value]] = {
    Op.ADD: _node("Add"),
    Op.SUB: _node("Sub"),
    Op.MUL: _node("Mul"),
    Op.DIV: _divide,
    Op.MOD: _modulo,
    Op.NEG: _node("Neg"),
    Op.ABS: _node("Abs"),
    Op.SIGN: _node("Sign"),
    Op.FLOOR: _node("Floor"),
    Op.CEIL: _node("Ceil"),
    Op.TRUNC: _truncate,
    Op.ROUND: _round,
    Op.LN: _log,
    Op.EXP: _node("Exp"),
    Op.SQRT: _node("Sqrt"),
    Op.POWER: _power,
    Op.MATCHES: _matches,
    Op.AND: _and,
    Op.OR: _or,
    Op.NOT: _not,
    Op.CASE: _case,
    Op.EXTRACT: _extract,
    Op.DATE_TRUNC: _date_trunc,
    Op.TICKS: _ticks,
    Op.SECONDS_BETWEEN: _seconds_between,
    Op.ADD_MICROS: _add_micros,
    Op.ADD_MONTHS: _add_months,
    Op.MAKE_DATE: _make_date,
    Op.PIPES: _pipes,
    Op.CONCAT: _concat,
}
"""Called with the nodes, the arguments and the options."""

_FORMULAS_BY_KIND: dict[Op, Callable[..., Value]] = {
    Op.LEAST: _extreme,
    Op.GREATEST: _extreme,
    Op.EQ: _equal,
    Op.LT: _ordered("Less"),
    Op.LE: _ordered("LessOrEqual"),
    Op.IN: _in,
    Op.IS_NULL: _is_null,
    Op.COALESCE: _coalesce,
    Op.CAST: _cast,
}
"""Called with the nodes, the call and the arguments: what they do depends on the kinds."""

_ORDERINGS = (Op.LT, Op.LE, Op.LEAST, Op.GREATEST)
_TEXT_CASTS = ((Kind.NUMBER, Kind.STRING), (Kind.TIMESTAMP, Kind.STRING), (Kind.STRING, Kind.TIMESTAMP))


def inexpressible_in(call: Call) -> str | None:
    """What the standard operators cannot do exactly in this one operation, in words, or None."""
    first = call.args[0].kind
    if call.op not in _FORMULAS and call.op not in _FORMULAS_BY_KIND:
        return call.op.value
    if call.op in _ORDERINGS and first is Kind.STRING:
        return f"{call.op.value} of texts"
    if call.op is Op.CAST and (first, call.kind) in _TEXT_CASTS:
        return f"CAST of a {first} to a {call.kind}"
    if call.op is Op.MATCHES and call.options[1]:
        return "ILIKE"
    return None

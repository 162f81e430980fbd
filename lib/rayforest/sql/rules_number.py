"""Lowering of arithmetic and numeric functions; `+` and `-` also move and subtract timestamps."""

from __future__ import annotations

import math

from sqlglot import exp

from rayforest.kinds import Kind
from rayforest.sql.nodes import Call, Literal, Node, Op
from rayforest.sql.position import SqlNode
from rayforest.sql.rules_time import moved
from rayforest.sql.scope import Rule, Scope

_WHOLE_FROM = 2.0**52
"""From here on every double is a whole number."""
_MOST_DIGITS = 22
"""Powers of ten up to this one are exact doubles."""


_LOG_ERROR = 2.0**-51
"""Relative error of LN(x) / LN(b): two logarithms within an ulp, one division."""


def constant(value: float) -> Literal:
    return Literal(float(value), Kind.NUMBER)


def call(op: Op, *args: Node) -> Node:
    return Call(op, args, Kind.NUMBER)


def rounded(value: Node, digits: int = 0) -> Node:
    """Scaled, rounded half away from zero, scaled back; unchanged where scaling leaves no fraction to round."""
    if digits == 0:
        return call(Op.ROUND, value)
    up, down = (Op.MUL, Op.DIV) if digits > 0 else (Op.DIV, Op.MUL)
    scale = constant(10.0 ** abs(digits))
    scaled = call(up, value, scale)
    has_fraction = Call(Op.LT, (call(Op.ABS, scaled), constant(_WHOLE_FROM)), Kind.BOOLEAN)
    return call(Op.CASE, has_fraction, call(down, call(Op.ROUND, scaled), scale), value)


def _arithmetic(op: Op) -> Rule:
    def rule(scope: Scope, node: SqlNode) -> Node:
        return call(op, scope.number(node.this, op.value), scope.number(node.expression, op.value))

    return rule


def _add(scope: Scope, node: SqlNode) -> Node:
    left, right = node.this, node.expression
    if isinstance(left, exp.Interval):
        left, right = right, left
    if isinstance(right, exp.Interval):
        return moved(scope, left, right, 1)
    return call(Op.ADD, scope.number(left, "+"), scope.number(right, "+"))


def _subtract(scope: Scope, node: SqlNode) -> Node:
    if isinstance(node.expression, exp.Interval):
        return moved(scope, node.this, node.expression, -1)
    left, right = scope.alike((node.this, node.expression), "-")
    if left.kind is Kind.TIMESTAMP:
        return call(Op.SECONDS_BETWEEN, left, right)
    left = scope.coerced(left, node.this, Kind.NUMBER, "-")
    return call(Op.SUB, left, scope.coerced(right, node.expression, Kind.NUMBER, "-"))


def _negate(scope: Scope, node: SqlNode) -> Node:
    value = scope.number(node.this, "-")
    if isinstance(value, Literal) and isinstance(value.value, float):
        return constant(-value.value)
    return call(Op.NEG, value)


def _function(op: Op) -> Rule:
    def rule(scope: Scope, node: SqlNode) -> Node:
        return call(op, scope.number(node.this, scope.label(node)))

    return rule


def _round(scope: Scope, node: SqlNode) -> Node:
    value = scope.number(node.this, "ROUND")
    digits = node.args.get("decimals")
    if digits is None:
        return rounded(value)
    return rounded(value, scope.whole_constant(digits, "the digits of ROUND", -_MOST_DIGITS, _MOST_DIGITS))


def _log(scope: Scope, node: SqlNode) -> Node:
    """LOG(x) is base 10, as in PostgreSQL and DuckDB; LOG(base, x) is LN(x) / LN(base), exact where that is whole."""
    first = scope.number(node.this, "LOG")
    second = node.args.get("expression")
    base, value = (constant(10), first) if second is None else (first, scope.number(second, "LOG"))
    if isinstance(base, Literal) and isinstance(base.value, float):
        if base.value <= 0 or base.value == 1:
            raise scope.text.error("LOG has no such base", node, expected="a positive base other than 1")
        divisor: Node = constant(math.log(base.value))
    else:
        divisor = call(Op.LN, base)
    quotient = call(Op.DIV, call(Op.LN, value), divisor)
    # LN(1000) / LN(10) falls a bit short of 3; a quotient within its own error of a whole number is that number.
    whole = call(Op.ROUND, quotient)
    error = call(Op.ABS, call(Op.SUB, quotient, whole))
    bound = call(Op.MUL, call(Op.ABS, quotient), constant(_LOG_ERROR))
    return call(Op.CASE, Call(Op.LE, (error, bound), Kind.BOOLEAN), whole, quotient)


def _power(scope: Scope, node: SqlNode) -> Node:
    base, exponent = scope.number(node.this, "POWER"), scope.number(node.expression, "POWER")
    # Multiplication and SQRT are correctly rounded everywhere; pow is not, and Polars has its own for these exponents.
    constant_exponent = exponent.value if isinstance(exponent, Literal) else None
    if constant_exponent == 0.5:
        return call(Op.SQRT, base)
    if isinstance(constant_exponent, float) and constant_exponent in range(1, 10):
        return _whole_power(base, int(constant_exponent))
    return call(Op.POWER, base, exponent)


def _whole_power(base: Node, exponent: int) -> Node:
    if exponent == 1:
        return base
    half = _whole_power(base, exponent // 2)
    square = call(Op.MUL, half, half)
    return call(Op.MUL, square, base) if exponent % 2 else square


_BINARY = frozenset({"this", "expression"})
_UNARY = frozenset({"this"})

RULES: dict[type[SqlNode], tuple[Rule, frozenset[str]]] = {
    exp.Add: (_add, _BINARY),
    exp.Sub: (_subtract, _BINARY),
    exp.Mul: (_arithmetic(Op.MUL), _BINARY),
    exp.Div: (_arithmetic(Op.DIV), _BINARY),
    exp.Mod: (_arithmetic(Op.MOD), _BINARY),
    exp.Neg: (_negate, _UNARY),
    exp.Abs: (_function(Op.ABS), _UNARY),
    exp.Sign: (_function(Op.SIGN), _UNARY),
    exp.Floor: (_function(Op.FLOOR), _UNARY),
    exp.Ceil: (_function(Op.CEIL), _UNARY),
    exp.Trunc: (_function(Op.TRUNC), _UNARY),
    exp.Round: (_round, frozenset({"this", "decimals"})),
    exp.Ln: (_function(Op.LN), _UNARY),
    exp.Log: (_log, _BINARY),
    exp.Exp: (_function(Op.EXP), _UNARY),
    exp.Sqrt: (_function(Op.SQRT), _UNARY),
    exp.Pow: (_power, _BINARY),
}

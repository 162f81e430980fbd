"""Lowering of columns, literals, comparisons, logic, conditionals and casts."""

from __future__ import annotations

from collections.abc import Sequence

from sqlglot import exp

from rayforest.kinds import Kind
from rayforest.sql.nodes import Call, Literal, Node, Op
from rayforest.sql.position import SqlNode
from rayforest.sql.rules_number import rounded
from rayforest.sql.rules_time import truncated
from rayforest.sql.scope import NULL, Rule, Scope

TRUE, FALSE = Literal(True, Kind.BOOLEAN), Literal(False, Kind.BOOLEAN)

_DType = exp.DataType.Type
# The dialect fills in (18, 3), which differs from a written one in the positions only.
_BARE_DECIMAL = exp.DataType.build("DECIMAL", dialect="duckdb")
_WHOLE_TYPES = exp.DataType.INTEGER_TYPES
_NUMBER_TYPES = exp.DataType.FLOAT_TYPES | {_DType.DECIMAL, _DType.BIGDECIMAL}
_STRING_TYPES = exp.DataType.TEXT_TYPES
_TIMESTAMP_TYPES = {_DType.TIMESTAMP, _DType.TIMESTAMPNTZ, _DType.TIMESTAMPTZ, _DType.DATETIME}


def negation(value: Node) -> Node:
    return Call(Op.NOT, (value,), Kind.BOOLEAN)


def is_null(value: Node) -> Node:
    return Call(Op.IS_NULL, (value,), Kind.BOOLEAN)


def either(*conditions: Node) -> Node:
    return Call(Op.OR, conditions, Kind.BOOLEAN) if len(conditions) > 1 else conditions[0]


def both(*conditions: Node) -> Node:
    return Call(Op.AND, conditions, Kind.BOOLEAN) if len(conditions) > 1 else conditions[0]


def choose(*arms: Node) -> Node:
    """CASE: condition, value, ..., otherwise."""
    return Call(Op.CASE, arms, arms[-1].kind)


def _column(scope: Scope, node: SqlNode) -> Node:
    # What an unquoted a.b.c was parsed into; a column of that dotted name was found earlier, so this one is unknown.
    parts = (node.args.get(name) for name in ("catalog", "db", "table", "this"))
    return scope.column(".".join(part.name for part in parts if part), node)


def _literal(scope: Scope, node: SqlNode) -> Node:
    text = str(node.this)
    if node.args["is_string"]:
        return Literal(text or None, Kind.STRING)
    value = float(text)
    if value == float("inf") or (text.isdigit() and int(text) != int(value)):
        raise scope.text.error(
            "the number cannot be held exactly",
            node,
            expected="a number that a 64-bit float holds, such as integers to 2^53",
        )
    return Literal(value, Kind.NUMBER)


def _null(_scope: Scope, _node: SqlNode) -> Node:
    return NULL


def _boolean(_scope: Scope, node: SqlNode) -> Node:
    return TRUE if node.this else FALSE


def _paren(scope: Scope, node: SqlNode) -> Node:
    return scope.lower(node.this)


def _compare(op: Op, *, swapped: bool = False, negated: bool = False) -> Rule:
    def rule(scope: Scope, node: SqlNode) -> Node:
        value = compared(scope, op, node, node.this, node.expression, swapped=swapped)
        return negation(value) if negated else value

    return rule


def compared(scope: Scope, op: Op, node: SqlNode, left: SqlNode, right: SqlNode, *, swapped: bool = False) -> Node:
    """A comparison of two nodes that must be of one kind, ordered if the operator wants an order."""
    refuse_empty_text(scope, node, (left, right))
    a, b = scope.alike((left, right), "a comparison")
    if op is not Op.EQ and a.kind is Kind.BOOLEAN:
        raise scope.text.error(
            "booleans have no order", node, expected="= or <>", next_step="write the condition itself"
        )
    return Call(op, (b, a) if swapped else (a, b), Kind.BOOLEAN)


def refuse_empty_text(scope: Scope, node: SqlNode, sides: Sequence[SqlNode]) -> None:
    """Against '' every comparison would be null, which is never what was meant."""
    if any(isinstance(side, exp.Literal) and side.is_string and not side.this for side in sides):
        raise scope.text.error(
            "a comparison with '' is always null, because empty text is null", node, expected="IS NULL or IS NOT NULL"
        )


def _not_distinct(scope: Scope, node: SqlNode) -> Node:
    refuse_empty_text(scope, node, (node.this, node.expression))
    a, b = scope.alike((node.this, node.expression), "a comparison")
    equal = Call(Op.EQ, (a, b), Kind.BOOLEAN)
    return Call(Op.COALESCE, (equal, both(is_null(a), is_null(b))), Kind.BOOLEAN)


def _distinct(scope: Scope, node: SqlNode) -> Node:
    return negation(_not_distinct(scope, node))


def _is(scope: Scope, node: SqlNode) -> Node:
    if isinstance(node.expression, exp.Null):
        return is_null(scope.lower(node.this))
    if not isinstance(node.expression, exp.Boolean):
        raise scope.text.error("IS takes NULL, TRUE or FALSE", node, expected="IS NULL, IS TRUE or IS DISTINCT FROM")
    value = scope.boolean(node.this, "IS TRUE")
    return Call(Op.COALESCE, (value if node.expression.this else negation(value), FALSE), Kind.BOOLEAN)


def _chain(op: Op) -> Rule:
    def rule(scope: Scope, node: SqlNode) -> Node:
        # A chain of ANDs is one flat node, so its length does not count as depth.
        operands = [scope.boolean(operand, op.value) for operand in node.flatten()]
        return Call(op, tuple(operands), Kind.BOOLEAN)

    return rule


def _not(scope: Scope, node: SqlNode) -> Node:
    return negation(scope.boolean(node.this, "NOT"))


def _in(scope: Scope, node: SqlNode) -> Node:
    members = node.expressions
    if not members:
        raise scope.text.error("IN has no list", node, expected="IN (1, 2, 3)")
    refuse_empty_text(scope, node, members)
    value, *typed = scope.alike((node.this, *members), "IN")
    known: list[float | str] = []
    tests: list[Node] = []
    for member in typed:
        if isinstance(member, Literal) and member.value is not None and member.kind is not Kind.BOOLEAN:
            known.append(member.value)
        else:
            tests.append(Call(Op.EQ, (value, member), Kind.BOOLEAN))
    if known:
        tests.append(Call(Op.IN, (value,), Kind.BOOLEAN, tuple(dict.fromkeys(known))))
    return either(*tests)


def _between(scope: Scope, node: SqlNode) -> Node:
    low = compared(scope, Op.LE, node, node.args["low"], node.this)
    return both(low, compared(scope, Op.LE, node, node.this, node.args["high"]))


def _case(scope: Scope, node: SqlNode) -> Node:
    arms = node.args["ifs"]
    default = node.args.get("default") or exp.Null()
    if node.this is None:
        conditions = [scope.boolean(arm.this, "CASE WHEN") for arm in arms]
    else:
        conditions = [compared(scope, Op.EQ, arm, node.this, arm.this) for arm in arms]
    *values, otherwise = scope.alike([*(arm.args["true"] for arm in arms), default], "CASE")
    pairs = [part for pair in zip(conditions, values, strict=True) for part in pair]
    return choose(*pairs, otherwise)


def _if(scope: Scope, node: SqlNode) -> Node:
    condition = scope.boolean(node.this, "IF")
    return choose(condition, *scope.alike((node.args["true"], node.args.get("false") or exp.Null()), "IF"))


def _coalesce(scope: Scope, node: SqlNode) -> Node:
    values = scope.alike((node.this, *node.expressions), "COALESCE")
    return Call(Op.COALESCE, tuple(values), values[0].kind) if len(values) > 1 else values[0]


def _nullif(scope: Scope, node: SqlNode) -> Node:
    value, unwanted = scope.alike((node.this, node.expression), "NULLIF")
    return choose(Call(Op.EQ, (value, unwanted), Kind.BOOLEAN), Literal(None, value.kind), value)


def _extreme(op: Op) -> Rule:
    def rule(scope: Scope, node: SqlNode) -> Node:
        values = scope.alike((node.this, *node.expressions), op.value)
        if values[0].kind is Kind.BOOLEAN:
            raise scope.text.error(f"booleans have no order for {op.value}", node, next_step="write AND or OR")
        return Call(op, tuple(values), values[0].kind) if len(values) > 1 else values[0]

    return rule


def _cast(scope: Scope, node: SqlNode) -> Node:
    value = scope.lower(node.this)
    wanted = node.args["to"]
    target = wanted.this
    if wanted.expressions and _positions(wanted) != _positions(_BARE_DECIMAL):
        raise scope.text.error("numbers are 64-bit floats without a fixed scale", node, next_step="write ROUND(..., 2)")
    if target in _WHOLE_TYPES:
        return rounded(_to_kind(scope, node, value, Kind.NUMBER))
    if target in _NUMBER_TYPES:
        return _to_kind(scope, node, value, Kind.NUMBER)
    if target is _DType.BOOLEAN:
        return _to_kind(scope, node, value, Kind.BOOLEAN)
    if target in _STRING_TYPES:
        return _to_kind(scope, node, value, Kind.STRING)
    if target in _TIMESTAMP_TYPES:
        return _to_kind(scope, node, value, Kind.TIMESTAMP)
    if target is _DType.DATE:
        return truncated(_to_kind(scope, node, value, Kind.TIMESTAMP), "day")
    raise scope.text.error(
        f"there is no type {wanted.sql('duckdb')}", node, expected="number, integer, boolean, string, timestamp or date"
    )


def _positions(data_type: exp.DataType) -> list[object]:
    return [node.meta.get("start") for node in data_type.find_all(exp.Literal)]


def _to_kind(scope: Scope, node: SqlNode, value: Node, kind: Kind) -> Node:
    if value is NULL:
        return Literal(None, kind)
    if value.kind is kind:
        return value
    match value.kind, kind:
        case Kind.NUMBER, Kind.BOOLEAN:
            return negation(Call(Op.EQ, (value, Literal(0.0, Kind.NUMBER)), Kind.BOOLEAN))
        case (Kind.NUMBER | Kind.BOOLEAN, Kind.TIMESTAMP) | (Kind.TIMESTAMP, Kind.NUMBER | Kind.BOOLEAN):
            return scope.coerced(value, node, kind, scope.label(node))  # refuses, with the hint for these two kinds
    if isinstance(value, Literal):
        return scope.cast_literal(value, kind, node)
    return Call(Op.CAST, (value,), kind)


_BINARY = frozenset({"this", "expression"})
_LISTED = frozenset({"this", "expressions"})

RULES: dict[type[SqlNode], tuple[Rule, frozenset[str]]] = {
    exp.Column: (_column, frozenset({"this", "table", "db", "catalog"})),
    exp.Literal: (_literal, frozenset({"this", "is_string"})),
    exp.Null: (_null, frozenset()),
    exp.Boolean: (_boolean, frozenset({"this"})),
    exp.Paren: (_paren, frozenset({"this"})),
    exp.EQ: (_compare(Op.EQ), _BINARY),
    exp.NEQ: (_compare(Op.EQ, negated=True), _BINARY),
    exp.LT: (_compare(Op.LT), _BINARY),
    exp.LTE: (_compare(Op.LE), _BINARY),
    exp.GT: (_compare(Op.LT, swapped=True), _BINARY),
    exp.GTE: (_compare(Op.LE, swapped=True), _BINARY),
    exp.NullSafeEQ: (_not_distinct, _BINARY),
    exp.NullSafeNEQ: (_distinct, _BINARY),
    exp.Is: (_is, _BINARY),
    exp.And: (_chain(Op.AND), _BINARY),
    exp.Or: (_chain(Op.OR), _BINARY),
    exp.Not: (_not, frozenset({"this"})),
    exp.In: (_in, _LISTED),
    exp.Between: (_between, frozenset({"this", "low", "high"})),
    exp.Case: (_case, frozenset({"this", "ifs", "default"})),
    exp.If: (_if, frozenset({"this", "true", "false"})),
    exp.Coalesce: (_coalesce, _LISTED),
    exp.Nullif: (_nullif, _BINARY),
    exp.Least: (_extreme(Op.LEAST), _LISTED),
    exp.Greatest: (_extreme(Op.GREATEST), _LISTED),
    exp.Cast: (_cast, frozenset({"this", "to"})),
    exp.TryCast: (_cast, frozenset({"this", "to"})),
}

"""Lowering of string functions and patterns."""

from __future__ import annotations

from sqlglot import exp

from rayforest.kinds import Kind
from rayforest.sql.nodes import Call, Node, Op
from rayforest.sql.position import SqlNode
from rayforest.sql.scope import Rule, Scope

_LONGEST = 1_000_000
_REGEX_SIGNS = set("\\.+*?()|[]{}^$")


def regex_literal(text: str) -> str:
    """A regular expression of that very text, in the syntax that Rust's regex and RE2 share."""
    return "".join("\\" + sign if sign in _REGEX_SIGNS else sign for sign in text)


def _matches(value: Node, pattern: str, flags: str = "") -> Node:
    return Call(Op.MATCHES, (value,), Kind.BOOLEAN, (pattern, flags))


def _like(flags: str) -> Rule:
    def rule(scope: Scope, node: SqlNode) -> Node:
        """% is any text, _ any one character; there is no escape character."""
        pattern = scope.text_constant(node.expression, f"the pattern of {scope.label(node)}")
        wild = {"%": ".*", "_": "."}
        value = scope.string(node.this, scope.label(node))
        return _matches(value, "".join(wild.get(sign) or regex_literal(sign) for sign in pattern), flags)

    return rule


def _contains(before: str, after: str) -> Rule:
    def rule(scope: Scope, node: SqlNode) -> Node:
        text = scope.text_constant(node.expression, f"the text that {scope.label(node)} looks for")
        return _matches(scope.string(node.this, scope.label(node)), before + regex_literal(text) + after)

    return rule


def _unary(op: Op, kind: Kind) -> Rule:
    def rule(scope: Scope, node: SqlNode) -> Node:
        return Call(op, (scope.string(node.this, op.value),), kind)

    return rule


def _trim(scope: Scope, node: SqlNode) -> Node:
    side = str(node.args.get("position") or "BOTH").lower()
    letters = node.args.get("expression")
    characters = " " if letters is None else scope.text_constant(letters, "the characters of TRIM")
    return Call(Op.TRIM, (scope.string(node.this, "TRIM"),), Kind.STRING, (side, characters))


def _replace(scope: Scope, node: SqlNode) -> Node:
    old = scope.text_constant(node.expression, "the text that REPLACE looks for")
    if not old:
        raise scope.text.error("REPLACE looks for an empty text", node, expected="at least one character")
    replacement = node.args.get("replacement")
    new = "" if replacement is None else scope.text_constant(replacement, "the new text of REPLACE")
    return Call(Op.REPLACE, (scope.string(node.this, "REPLACE"),), Kind.STRING, (old, new))


def _substring(scope: Scope, node: SqlNode) -> Node:
    value = scope.string(node.this, "SUBSTRING")
    start = node.args.get("start")
    first = 1 if start is None else scope.whole_constant(start, "the start of SUBSTRING", 1, _LONGEST)
    length = node.args.get("length")
    count = -1 if length is None else scope.whole_constant(length, "the length of SUBSTRING", 0, _LONGEST)
    return Call(Op.SUBSTRING, (value,), Kind.STRING, (first, count))


def _left(scope: Scope, node: SqlNode) -> Node:
    count = scope.whole_constant(node.expression, "the length of LEFT", 0, _LONGEST)
    return Call(Op.SUBSTRING, (scope.string(node.this, "LEFT"),), Kind.STRING, (1, count))


def _right(scope: Scope, node: SqlNode) -> Node:
    count = scope.whole_constant(node.expression, "the length of RIGHT", 0, _LONGEST)
    return Call(Op.RIGHT, (scope.string(node.this, "RIGHT"),), Kind.STRING, (count,))


def _pipes(scope: Scope, node: SqlNode) -> Node:
    return Call(Op.PIPES, tuple(scope.string(operand, "||") for operand in node.flatten()), Kind.STRING)


def _concat(scope: Scope, node: SqlNode) -> Node:
    return Call(Op.CONCAT, tuple(scope.string(operand, "CONCAT") for operand in node.expressions), Kind.STRING)


_BINARY = frozenset({"this", "expression"})
_UNARY = frozenset({"this"})

RULES: dict[type[SqlNode], tuple[Rule, frozenset[str]]] = {
    exp.Like: (_like(""), _BINARY),
    exp.ILike: (_like("i"), _BINARY),
    exp.Contains: (_contains(".*", ".*"), _BINARY),
    exp.StartsWith: (_contains("", ".*"), _BINARY),
    exp.EndsWith: (_contains(".*", ""), _BINARY),
    exp.Upper: (_unary(Op.UPPER, Kind.STRING), _UNARY),
    exp.Lower: (_unary(Op.LOWER, Kind.STRING), _UNARY),
    exp.Length: (_unary(Op.LENGTH, Kind.NUMBER), _UNARY),
    exp.Trim: (_trim, frozenset({"this", "expression", "position"})),
    exp.Replace: (_replace, frozenset({"this", "expression", "replacement"})),
    exp.Substring: (_substring, frozenset({"this", "start", "length"})),
    exp.Left: (_left, _BINARY),
    exp.Right: (_right, _BINARY),
    exp.DPipe: (_pipes, _BINARY),
    exp.Concat: (_concat, frozenset({"expressions"})),
}

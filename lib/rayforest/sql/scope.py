"""What the lowering rules share: columns by name, kinds that are checked by name, literals."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from sqlglot import exp

from rayforest.errors import ConfigError, did_you_mean
from rayforest.kinds import Kind
from rayforest.sql.nodes import Call, Column, Literal, Node, Op
from rayforest.sql.position import SqlNode, SqlText
from rayforest.sql.to_polars import constant_value

Rule: TypeAlias = "Callable[[Scope, SqlNode], Node]"
"""Lowers one type of sqlglot's nodes."""

NULL = Literal(None, Kind.NUMBER)
"""The word NULL before its neighbours have told its kind; recognised by identity."""

MAX_DEPTH = 200
"""Levels of the tree: the lowering recurses in Python (three frames a level), Polars on the stack of its threads."""
MAX_SIZE = 20_000
"""Nodes of the tree as Polars sees it, shared parts counted each time."""

# Flags that sqlglot sets on its own and that change nothing here, and the one that `lower` reads for all rules.
_HARMLESS = {"negate", "typed", "safe", "coalesce", "ignore_nulls", "date_part_boundary", "big_int", "requires_int128"}


@dataclass(frozen=True)
class Scope:
    """Lowers sqlglot's nodes to typed ones against the columns of one table."""

    text: SqlText
    columns: Mapping[str, Kind]
    rules: Mapping[type[SqlNode], tuple[Rule, frozenset[str]]]
    """By node type: the rule, and the node's arguments that it reads."""
    refuse: Callable[[Scope, SqlNode], ConfigError]
    """The error for a node without a rule."""

    def lower(self, node: SqlNode) -> Node:
        """The typed tree of a node.

        Raises:
            ConfigError: a node or an argument that the language does not offer, wrong kinds, or too large a tree.
        """
        entry = self.rules.get(type(node))
        if entry is None:
            raise self.refuse(self, node)
        rule, read = entry
        unread = [name for name, value in node.args.items() if value and name not in read and name not in _HARMLESS]
        if unread:
            raise self.text.error(
                f"{self.label(node)} with {unread[0]!r} is not offered",
                node,
                next_step="write it without that argument or clause",
            )
        typed = rule(self, node)
        if node.args.get("negate"):  # NOT LIKE
            typed = Call(Op.NOT, (typed,), Kind.BOOLEAN)
        if typed.depth > MAX_DEPTH:
            raise self.text.too_deep()
        if typed.size > MAX_SIZE:
            raise self.text.error(
                "the expression is too large", expected=f"at most {MAX_SIZE} operations", found=f"{typed.size}",
                next_step="split it into several features; each use of a nested division, NULLIF or ROUND counts",
            )  # fmt: skip
        return typed

    def label(self, node: SqlNode) -> str:
        """What the text calls a function, and sqlglot an operator."""
        if isinstance(node, exp.Func) and "start" in node.meta:
            return self.text.sql[node.meta["start"] : node.meta["end"] + 1].upper()
        return node.sql_name() if isinstance(node, exp.Func) else node.key.upper()

    def column(self, name: str, node: SqlNode) -> Column:
        """The column of that exact name, or the only one that differs in upper and lower case."""
        if name in self.columns:
            return Column(name, self.columns[name])
        near = [column for column in self.columns if column.lower() == name.lower()]
        if len(near) == 1:
            return Column(near[0], self.columns[near[0]])
        if near:
            raise self.text.error(
                f"the column {name!r} is ambiguous", node, expected="one of " + ", ".join(map(repr, near)),
                next_step="write the name exactly, in double quotes",
            )  # fmt: skip
        hint = did_you_mean(name, self.columns)
        if isinstance(node, exp.Column) and node.this.args.get("quoted"):
            hint += f"; text goes in single quotes: '{name}'"
        raise self.text.error(f"there is no column {name!r}", node, expected="a column of the data", next_step=hint)

    def as_kind(self, node: SqlNode, kind: Kind, role: str) -> Node:
        """A node that must be of a kind; `role` says whose argument it is, for the message."""
        return self.coerced(self.lower(node), node, kind, role)

    def number(self, node: SqlNode, role: str) -> Node:
        return self.as_kind(node, Kind.NUMBER, role)

    def boolean(self, node: SqlNode, role: str) -> Node:
        return self.as_kind(node, Kind.BOOLEAN, role)

    def string(self, node: SqlNode, role: str) -> Node:
        return self.as_kind(node, Kind.STRING, role)

    def timestamp(self, node: SqlNode, role: str) -> Node:
        return self.as_kind(node, Kind.TIMESTAMP, role)

    def alike(self, nodes: Sequence[SqlNode], role: str) -> list[Node]:
        """Nodes that must be of one kind, whichever; NULL and text for a timestamp take the others' kind."""
        typed = [self.lower(node) for node in nodes]
        told = [(node, value.kind) for node, value in zip(nodes, typed, strict=True) if value is not NULL]
        if not told:
            return typed
        kinds = {kind for _, kind in told}
        kind = Kind.TIMESTAMP if kinds == {Kind.TIMESTAMP, Kind.STRING} else told[0][1]
        return [self.coerced(value, node, kind, role) for node, value in zip(nodes, typed, strict=True)]

    def coerced(self, value: Node, node: SqlNode, kind: Kind, role: str) -> Node:
        """The value as the kind, if it is of it, or is NULL, or is a text literal for a timestamp."""
        if value is NULL:
            return Literal(None, kind)
        if value.kind is kind:
            return value
        if kind is Kind.TIMESTAMP and value.kind is Kind.STRING and isinstance(value, Literal) and value.value:
            return self.cast_literal(value, kind, node)
        raise self.text.error(
            f"{role} takes a {kind}",
            node,
            expected=f"a {kind}",
            found=f"is a {value.kind}",
            next_step=_HINTS.get((value.kind, kind), ""),
        )

    def cast_literal(self, value: Literal, kind: Kind, node: SqlNode) -> Literal:
        """A constant cast now, so that both compilers see a constant of the right kind."""
        result = constant_value(Call(Op.CAST, (value,), kind))
        if result.value is None and value.value is not None:
            raise self.text.error(
                f"the text is not a {kind}", node, expected=f"text that reads as a {kind}",
                next_step="2024-02-29 or 2024-02-29 23:59:59" if kind is Kind.TIMESTAMP else "",
            )  # fmt: skip
        return result

    def text_constant(self, node: SqlNode, role: str) -> str:
        """A string literal, '' included."""
        if isinstance(node, exp.Literal) and node.is_string:
            return str(node.this)
        raise self.text.error(f"{role} must be a constant text", node, expected="text in single quotes")

    def whole_constant(self, node: SqlNode, role: str, least: int, most: int) -> int:
        """An integer literal within bounds."""
        value = self.lower(node)
        if (
            isinstance(value, Literal)
            and isinstance(value.value, float)
            and value.value.is_integer()
            and least <= value.value <= most
        ):
            return int(value.value)
        raise self.text.error(f"{role} must be a constant", node, expected=f"a whole number from {least} to {most}")


_HINTS = {
    (Kind.STRING, Kind.NUMBER): "CAST(... AS number) reads text as a number, null where it is none",
    (
        Kind.NUMBER,
        Kind.STRING,
    ): "CAST(... AS string) writes a number as text; a constant text stands in single quotes: '3'",
    (Kind.BOOLEAN, Kind.NUMBER): "CAST(... AS number) makes true 1 and false 0",
    (Kind.NUMBER, Kind.BOOLEAN): "compare it, such as ... <> 0",
    (Kind.STRING, Kind.TIMESTAMP): "CAST(... AS timestamp) reads ISO 8601 text, null where it is none",
    (Kind.NUMBER, Kind.TIMESTAMP): "TO_TIMESTAMP(seconds since 1970); a timestamp moves by INTERVAL 3 DAY",
    (
        Kind.TIMESTAMP,
        Kind.NUMBER,
    ): "EXTRACT(epoch FROM ...) gives seconds since 1970; a timestamp moves by INTERVAL 3 DAY",
}
"""What to write for a value of the first kind where the second is wanted."""

"""SQL text with the typed tree that it means."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from rayforest.kinds import Kind
from rayforest.sql.nodes import Column, Node, distinct_nodes
from rayforest.sql.to_polars import compile_node


@dataclass(frozen=True)
class Expression:
    """One feature, rule or target: SQL text and the typed tree that it means. Made by `parse`."""

    sql: str
    root: Node

    @property
    def kind(self) -> Kind:
        return self.root.kind

    @property
    def columns(self) -> tuple[str, ...]:
        """The raw columns that the value depends on, sorted."""
        return tuple(sorted({node.name for node in distinct_nodes(self.root) if isinstance(node, Column)}))

    def to_polars(self) -> pl.Expr:
        """An expression of this kind's Polars type over columns of their kinds' Polars types, without NaN in or out.

        A constant expression has length 1: use it in `with_columns`, or beside columns in `select`.
        """
        return compile_node(self.root)

"""What turns raw rows into features: the part of a project that a bundle carries on.

A recipe is compiled from the project file and the raw columns (see compile_recipe.py), travels to workers and into the
bundle as JSON, and means the same in prepare and in score.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import polars as pl

from rayforest.features.contract import Contract
from rayforest.formats import RECIPE, Document
from rayforest.kinds import Kind
from rayforest.sql import Expression, category_text, parse
from rayforest.tables.batch import CsvFormat

SPLIT_COLUMN = "split"
TARGET_COLUMN = "target"
PARTS = ("train", "valid", "test")


@dataclass(frozen=True)
class Recipe:
    """Raw columns, and what is computed from them."""

    contract: Contract
    """Every raw column that anything below uses, with its checks."""
    key: tuple[str, ...]
    target: str | None
    """SQL over the raw columns."""
    positive: bool | int | float | str | None
    """The label that the model's probability is of; None: the second of two, in order."""
    time: str | None
    features: tuple[tuple[str, str], ...]
    """(name, SQL) in the order of the model's inputs."""
    categorical: tuple[str, ...]
    """Features that are categories; every feature of kind string is one."""
    unseen: str
    """missing, or quarantine."""
    double_labels: bool = False
    """Whether labels that are numbers come out as double: so the tables store them."""
    own_labels: bool = True
    """Whether the target is the user's own label; false for what recipes of version 1 prepared and trained."""

    def written_as(self, csv: CsvFormat | None) -> Recipe:
        """The recipe for files of this format; see `Contract.written_as`."""
        return replace(self, contract=self.contract.written_as(csv))

    @cached_property
    def expressions(self) -> dict[str, Expression]:
        """Parsed features by name."""
        kinds = self.contract.kinds
        return {name: parse(sql, kinds, where=f"features.{name}") for name, sql in self.features}

    @cached_property
    def target_expression(self) -> Expression | None:
        """The parsed target."""
        return None if self.target is None else parse(self.target, self.contract.kinds, where="data.target")

    @cached_property
    def time_expression(self) -> Expression | None:
        """The parsed time."""
        return None if self.time is None else parse(self.time, self.contract.kinds, where="data.time")

    @property
    def time_is_timestamp(self) -> bool:
        """Whether times are instants, and not numbers of the user's own."""
        return self.time_expression is not None and self.time_expression.kind is Kind.TIMESTAMP

    @property
    def key_names(self) -> tuple[str, ...]:
        """Names of the key columns in prepared shards: their own, or `key.<name>` where another column has that."""
        taken = {SPLIT_COLUMN, TARGET_COLUMN, *(name for name, _ in self.features)}
        return tuple(f"key.{name}" if name in taken else name for name in self.key)

    @property
    def feature_columns(self) -> tuple[str, ...]:
        """Raw columns that the features use, sorted."""
        return _sorted_union(e.columns for e in self.expressions.values())

    def feature_values(self, names: Iterable[str] | None = None) -> list[pl.Expr]:
        """Features, all by default, as they are stored: float64 for a number, text for a category."""
        chosen = self.expressions if names is None else names
        return [self._feature_value(name, self.expressions[name]).alias(name) for name in chosen]

    def _feature_value(self, name: str, expression: Expression) -> pl.Expr:
        if name in self.categorical:
            return category_text(expression.kind, expression.to_polars())
        return expression.to_polars().cast(pl.Float64)

    @property
    def target_kind(self) -> Kind | None:
        """Kind of the target as it is stored and trained on: a number, a boolean or text; None without a target."""
        expression = self.target_expression
        if expression is None or self.own_labels:
            return None if expression is None else expression.kind
        return Kind.STRING if expression.kind is Kind.STRING and self.positive is None else Kind.NUMBER

    @property
    def positive_label(self) -> float | str | None:
        """The positive label as a value of the target's kind; None where the project names none."""
        if self.positive is None or not self.own_labels:
            return None
        if self.target_kind is Kind.STRING:
            return str(self.positive)
        return float(self.positive) if self.target_kind is Kind.NUMBER else bool(self.positive)

    def target_value(self) -> pl.Expr | None:
        """The user's own label, or a quantity: float64, boolean or text, as `target_kind` says."""
        expression = self.target_expression
        if expression is None:
            return None
        value = expression.to_polars()
        if not self.own_labels and self.positive is not None:
            positive = self.positive
            if expression.kind is Kind.STRING:
                positive = str(positive)
            value = value == pl.lit(positive)
        kind = self.target_kind
        return value.cast(pl.Float64) if kind is Kind.NUMBER else value

    @property
    def version(self) -> int:
        """Of recipe.json and features.json that say this."""
        return RECIPE.version if self.own_labels else 1

    def as_dict(self) -> dict[str, Any]:
        """Plain values for recipe.json, and for features.json beside the fitted categories."""
        return {
            "key": self.key,
            "target": self.target,
            "positive": self.positive,
            "time": self.time,
            "features": dict(self.features),
            "categorical": self.categorical,
            "unseen": self.unseen,
            "double_labels": self.double_labels,
        }

    @classmethod
    def from_document(cls, document: Document, contract: Contract) -> Recipe:
        """Read recipe.json or features.json; the contract lies beside it."""
        return cls(
            contract=contract,
            key=tuple(document["key"]),
            target=document["target"],
            positive=document["positive"],
            time=document["time"],
            features=tuple(document["features"].items()),
            categorical=tuple(document["categorical"]),
            unseen=document["unseen"],
            double_labels=document.get("double_labels", False),
            own_labels=document.version > 1,
        )


def _sorted_union(names: Iterable[Iterable[str]]) -> tuple[str, ...]:
    return tuple(sorted({name for group in names for name in group}))

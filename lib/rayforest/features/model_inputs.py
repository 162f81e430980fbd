"""Raw columns to the model's inputs, by the shortest way that each column allows.

A stored number that is a feature as it is, and text that is a category as it is, go to the model from Arrow's memory.
What has to be typed, checked or computed first goes through Polars, as in prepare.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from rayforest.features.contract import ColumnContract, Contract, RowChecks, Verdicts
from rayforest.features.fitted import FittedFeatures
from rayforest.features.recipe import Recipe
from rayforest.kinds import Kind
from rayforest.sql import parse
from rayforest.sql.nodes import Column


class ModelInputs:
    """Makes the model's inputs of raw batches. Safe to share between threads."""

    def __init__(self, features: FittedFeatures, contract: Contract) -> None:
        """Args:
        features: how they come from raw columns.
        contract: what the rows of this run must hold.
        """
        self._recipe, self._contract = features.recipe, contract
        self._levels = {name: pa.array(levels, pa.large_string()) for name, levels in features.categories.items()}
        self._conversions: dict[pa.Schema, _Conversion] = {}

    def __call__(self, raw: pa.Table) -> tuple[pa.Table, Verdicts]:
        """The inputs of every raw row, one column a feature in the model's order, and which rows fail the contract.

        Numbers are as stored or float64, categories their int32 codes; missing is null or NaN, an unseen category null
        and named by the verdicts.
        """
        conversion = self._conversion_of(raw.schema.remove_metadata())
        typed, verdicts = conversion.check_rows(raw)
        computed = _computed(conversion.computed, typed, raw.num_rows)
        columns: dict[str, pa.ChunkedArray | pa.Array] = {}
        for name, _ in self._recipe.features:
            source = conversion.as_stored.get(name)
            values = raw.column(source) if source is not None else computed[name]
            columns[name] = self._codes(name, values, verdicts) if name in self._levels else values
        return pa.table(columns), verdicts

    def _conversion_of(self, schema: pa.Schema) -> _Conversion:
        if schema not in self._conversions:
            self._conversions[schema] = _plan_conversion(self._recipe, self._contract, schema)
        return self._conversions[schema]

    def _codes(self, name: str, values: pa.ChunkedArray | pa.Array, verdicts: Verdicts) -> pa.ChunkedArray | pa.Array:
        levels = self._levels[name]
        codes = pc.index_in(values, levels.cast(values.type))
        if codes.null_count > values.null_count:
            unseen = pc.and_(pc.is_null(codes), pc.not_equal(values, ""))  # null for null
            flags = unseen.fill_null(fill_value=False).to_numpy(zero_copy_only=False)
            if flags.any():
                verdicts.unseen[name] = flags
                if self._recipe.unseen == "quarantine":
                    verdicts.fail(flags, f"{name} is a category that training never saw")
        return codes


@dataclass(frozen=True)
class _Conversion:
    """How each column of one stored schema becomes a model input."""

    as_stored: dict[str, str]
    """Feature -> the column that it is."""
    computed: list[pl.Expr]
    """The other features."""
    check_rows: RowChecks
    """What is left to check, with every column that a computed feature needs."""


def _plan_conversion(recipe: Recipe, contract: Contract, schema: pa.Schema) -> _Conversion:
    columns = {column.name: column for column in contract.columns}
    as_stored = {
        name: expression.root.name
        for name, expression in recipe.expressions.items()
        if isinstance(expression.root, Column)
        and _is_as_stored(columns[expression.root.name], schema, category=name in recipe.categorical)
    }
    others = [name for name in recipe.expressions if name not in as_stored]
    needed = {column for name in others for column in recipe.expressions[name].columns}
    for name, sql in contract.rules:
        needed.update(parse(sql, contract.kinds, where=f"data.rules.{name}").columns)
    left = tuple(c for c in contract.columns if c.name in needed or not _always_passes(c, schema))
    return _Conversion(as_stored, recipe.feature_values(others), RowChecks(replace(contract, columns=left)))


def _is_as_stored(column: ColumnContract, schema: pa.Schema, *, category: bool) -> bool:
    """Whether the stored values are the feature's, NaN being null and '' no category."""
    if column.null_values:
        return False
    stored = schema.field(column.name).type
    if category:
        return column.kind is Kind.STRING and _is_text(stored)
    if column.kind is Kind.BOOLEAN:
        return bool(pa.types.is_boolean(stored))
    return column.kind is Kind.NUMBER and _is_number(stored)


def _always_passes(column: ColumnContract, schema: pa.Schema) -> bool:
    """Whether no stored value can fail the column's checks."""
    if column.required or column.values is not None or column.minimum is not None or column.maximum is not None:
        return False
    stored = schema.field(column.name).type
    if column.kind is Kind.NUMBER:
        return _is_number(stored) and not (column.exact and pa.types.is_integer(stored) and stored.bit_width == 64)
    if column.kind is Kind.BOOLEAN:
        return bool(pa.types.is_boolean(stored))
    return column.kind is Kind.STRING and _is_text(stored)  # a time may lie outside what microseconds hold


def _is_number(stored: pa.DataType) -> bool:
    """float16 and decimals are left to Polars, which rounds them in its own way."""
    types = pa.types
    return bool(
        types.is_float32(stored) or types.is_float64(stored) or types.is_integer(stored) or types.is_boolean(stored)
    )


def _is_text(stored: pa.DataType) -> bool:
    return bool(pa.types.is_string(stored) or pa.types.is_large_string(stored))


def _computed(features: list[pl.Expr], typed: pl.DataFrame, rows: int) -> dict[str, pa.ChunkedArray]:
    if not features:
        return {}
    if not typed.width:  # constants only
        typed = pl.DataFrame({"": np.zeros(rows, np.int8)})
    values = typed.with_columns(features).select([feature.meta.output_name() for feature in features])
    table = values.to_arrow(compat_level=pl.CompatLevel.oldest())
    return dict(zip(table.column_names, table.columns, strict=True))

"""Raw columns reach the model with the same values whichever way they go, and rows fail for the same reasons."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from stored_types import rows

from rayforest.bundle.bundle import Bundle, load_bundle
from rayforest.features.contract import Contract, check_rows
from rayforest.features.fitted import FittedFeatures
from rayforest.features.model_inputs import ModelInputs
from rayforest.features.recipe import Recipe
from rayforest.tables.batch import RawBatch


@pytest.fixture(scope="module")
def bundle(types_project: Path) -> Bundle:
    return load_bundle(str(types_project.parent / "out/bundle"))


def batch_of(table: pa.Table) -> RawBatch:
    return RawBatch("a.parquet", np.arange(table.num_rows), table)


def contract_of(recipe: Recipe) -> Contract:
    return recipe.contract.only(("id", *recipe.feature_columns), required=recipe.key)


def as_matrix(inputs: pa.Table) -> np.ndarray:
    columns = [c.cast(pa.int8()) if pa.types.is_boolean(c.type) else c for c in inputs.columns]
    return np.column_stack([c.cast(pa.float64(), safe=False).to_numpy() for c in columns])


def the_long_way(bundle: Bundle, contract: Contract, table: pa.Table) -> tuple[np.ndarray, list[object]]:
    """Every column typed, checked and computed in Polars, as prepare does it."""
    recipe = bundle.features.recipe
    typed, verdicts = check_rows(contract, table)
    matrix = bundle.features.matrix(typed.select(recipe.feature_values()))
    return matrix, verdicts.quarantine(batch_of(table)).to_pylist()


CHANGES = {
    "as trained": lambda table: table,
    "floats as double": lambda table: cast(table, "f32", pa.float64()),
    "numbers as text": lambda table: cast(cast(table, "f32", pa.string()), "i8", pa.string()),
    "whole numbers as float": lambda table: cast(cast(table, "i8", pa.float32()), "i64", pa.float64()),
    "numbers that are boolean": lambda table: table.set_column(2, "f64", table["flag"]),
    "text with 64-bit offsets": lambda table: cast(table, "city", pa.large_string()),
    "a numeric flag": lambda table: table.set_column(8, "flag", pa.array([0, 1, 2, None] * 75, pa.int32())),
    "unsigned": lambda table: table.set_column(6, "i64", pa.array([0, 2**64 - 1, 2**53 + 1] * 100, pa.uint64())),
    "one unknown city": lambda table: table.set_column(11, "city", pa.array(["Atlantis"] * 300)),
    "no rows": lambda table: table.slice(0, 0),
}


def cast(table: pa.Table, name: str, kind: pa.DataType) -> pa.Table:
    return table.set_column(table.column_names.index(name), name, table[name].cast(kind, safe=False))


@pytest.mark.parametrize("change", CHANGES)
def test_the_short_ways_give_what_the_long_way_gives(bundle: Bundle, change: str) -> None:
    table = CHANGES[change](rows(300, seed=5).drop_columns(["bought"]))
    contract = contract_of(bundle.features.recipe)
    inputs, verdicts = ModelInputs(bundle.features, contract)(table)
    matrix, quarantined = the_long_way(bundle, contract, table)
    assert inputs.column_names == [name for name, _ in bundle.features.recipe.features]
    np.testing.assert_array_equal(as_matrix(inputs), matrix)
    assert verdicts.quarantine(batch_of(table)).to_pylist() == quarantined
    assert bool(quarantined) == (change != "no rows")


def test_stored_numbers_and_text_go_to_the_model_from_where_they_lie(bundle: Bundle) -> None:
    table = rows(50).drop_columns(["bought"])
    inputs, _ = ModelInputs(bundle.features, contract_of(bundle.features.recipe))(table)
    for name in ("f32", "f64", "i8", "i32", "i64", "u32", "flag"):
        there, here = table[name].chunk(0).buffers()[1], inputs[name].chunk(0).buffers()[1]
        assert there.address == here.address, name


def test_a_feature_table_of_constants_has_all_rows(bundle: Bundle) -> None:
    recipe = Recipe(bundle.features.recipe.contract, ("id",), None, None, None, (("three", "1 + 2"),), (), "missing")
    inputs, verdicts = ModelInputs(FittedFeatures(recipe, {}), recipe.contract.only(("id",)))(rows(7).select(["id"]))
    assert inputs.to_pydict() == {"three": [3.0] * 7}
    assert not verdicts.failed.any()

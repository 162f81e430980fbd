"""Which raw columns score needs of a source, and the schema of what it writes."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from rayforest.errors import ConfigError, InputError, did_you_mean
from rayforest.features.contract import Contract
from rayforest.features.recipe import Recipe
from rayforest.project.sections import ScoreSection
from rayforest.tables.schema import TableSchema


def passed_on_columns(recipe: Recipe, section: ScoreSection) -> tuple[str, ...]:
    """Key and carried columns, in the order in which they come out."""
    return tuple(dict.fromkeys((*recipe.key, *section.carry)))


def score_contract(recipe: Recipe, section: ScoreSection, table: TableSchema) -> Contract:
    """The part of the contract that score needs: of the features and the key, which must be there in every row.

    What is only carried, the target above all, is not judged: it comes out as it came.

    Raises:
        InputError: a file of the source lacks a column that the bundle needs, or has it in a type that is not read.
        ConfigError: no file has a column of score.carry.
    """
    passed_on = passed_on_columns(recipe, section)
    needed = tuple(dict.fromkeys((*recipe.feature_columns, *passed_on)))
    for name in needed:
        whose = "the bundle needs" if name in recipe.feature_columns else "is a key or carried"
        if name in table.unread:
            raise InputError(
                f"column {name!r}, which {whose}, cannot be used, because {table.unread[name]}",
                expected="numbers, booleans, text, dates or timestamps",
                next_step="store it as one of these",
            )
        if name not in table.kinds:
            if name in section.carry:
                raise ConfigError(
                    f"score.carry: {table.variants[0].path} has no column {name!r}",
                    next_step=did_you_mean(name, table.kinds),
                )
            raise InputError(
                f"{table.variants[0].path} has no column {name!r}, which {whose}",
                expected=", ".join(needed),
                next_step=did_you_mean(name, table.kinds),
            )
    for name in recipe.target_expression.columns if recipe.target_expression is not None else ():
        if name in table.unread:  # a table may be without its target, but not without a word
            raise InputError(
                f"column {name!r}, of which the target is made, cannot be used, because {table.unread[name]}",
                expected="numbers, booleans or text, or no such column",
                next_step="store it as one of these, or score tables without it; there are no metrics then",
            )
    table.require(needed)
    return recipe.contract.only((*recipe.feature_columns, *recipe.key), required=recipe.key)


def scored_schema(recipe: Recipe, section: ScoreSection, table: TableSchema, outputs: Sequence[pa.Field]) -> pa.Schema:
    """Names and types of scored rows: key and carried columns, then what the model says.

    Raises:
        ConfigError: a key or carried column has the name of an output.
        InputError: a key or carried column has no type that fits all files.
    """
    declared = recipe.contract.declared
    fields = [pa.field(n, table.stored_type(n, declared.get(n))) for n in passed_on_columns(recipe, section)]
    refuse_output_names([field.name for field in fields], [field.name for field in outputs])
    return pa.schema([*fields, *outputs])


def refuse_output_names(passed_on: Sequence[str], outputs: Sequence[str]) -> None:
    """Refuse key and carried columns that have the name of an output column; a name that ends in * stands for many.

    Raises:
        ConfigError: names the column.
    """
    for name in passed_on:
        for output in outputs:
            if name == output or (output.endswith("*") and name.startswith(output[:-1])):
                raise ConfigError(
                    "a key or carried column has the name of an output column",
                    expected="columns other than " + ", ".join(outputs),
                    found=repr(name),
                    next_step="leave it out of score.carry, or of score.outputs, or rename it in the source",
                )

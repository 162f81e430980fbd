"""Which part a row of the training tables belongs to, as prepare decided it and as score finds it out again."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from rayforest.features.contract import Contract, RowChecks
from rayforest.features.keys import canonical_keys
from rayforest.features.recipe import PARTS, SPLIT_COLUMN, Recipe
from rayforest.formats import Document
from rayforest.preparing.split import HashSplit, TimeSplit


@dataclass(frozen=True)
class SplitRule:
    """A split with all that it needs to be applied to raw rows again."""

    split: HashSplit | TimeSplit
    key: tuple[str, ...]
    """Columns that a split by hash keeps together; none: each row for itself, by its file and its place there."""

    @property
    def is_by_value(self) -> bool:
        """Whether a row has the same part wherever it lies."""
        return isinstance(self.split, TimeSplit) or bool(self.key)

    def columns(self, recipe: Recipe) -> tuple[str, ...]:
        """The raw columns that decide."""
        if isinstance(self.split, HashSplit):
            return self.key
        return tuple(recipe.time_expression.columns) if recipe.time_expression is not None else ()

    def parts(self, recipe: Recipe, table: pa.Table, file: str, rows: npt.NDArray[np.int64]) -> pl.Series:
        """The part of each raw row: train, valid or test; null where the time is missing, so that there is none.

        A row that prepare put into quarantine has the part of its key, its place or its time, too.

        Args:
            recipe: of the prepared tables.
            table: raw rows with `columns`.
            file: path of their file, relative to the source.
            rows: their places in it.
        """
        if isinstance(self.split, HashSplit):
            return part_names(self.split.assign(self.split.hashes(self.keys(recipe, table, file, rows))))
        assert recipe.time_expression is not None  # noqa: S101  a split by time has a time
        check_rows = RowChecks(Contract(recipe.contract.only(recipe.time_expression.columns).columns))
        times = check_rows(table)[0].select(recipe.time_expression.to_polars()).to_series()
        return pl.select(pl.when(times.is_not_null()).then(part_names(self.split.assign(times)))).to_series()

    def keys(self, recipe: Recipe, table: pa.Table, file: str, rows: npt.NDArray[np.int64]) -> pl.DataFrame:
        """What a split by hash hashes of each raw row, as text; see `parts`."""
        if self.key:
            return canonical_keys(recipe.contract, table, self.key)
        return pl.DataFrame({"file": pl.repeat(file, len(rows), eager=True), "row": rows}).cast(pl.String)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for split.json. A cut that no row reaches is null."""
        if isinstance(self.split, HashSplit):
            return {"by": "hash", "shares": self.split.shares, "seed": self.split.seed, "key": self.key}
        return {"by": "time", "cuts": [cut if math.isfinite(cut) else None for cut in self.split.cuts]}

    @classmethod
    def from_document(cls, document: Document) -> SplitRule:
        """Read split.json."""
        if document["by"] == "hash":
            train, valid, test = document["shares"]
            return cls(HashSplit((train, valid, test), document["seed"]), tuple(document["key"]))
        first, second = (math.inf if cut is None else cut for cut in document["cuts"])
        return cls(TimeSplit((first, second)), ())


def part_names(parts: npt.NDArray[np.int8]) -> pl.Series:
    """Names of the parts that a split gives, as text."""
    return pl.Series(SPLIT_COLUMN, PARTS, dtype=pl.String).gather(parts)

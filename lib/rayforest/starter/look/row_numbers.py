"""Columns that count the rows of their file: a saved index, which would tell a model the file's order."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import polars as pl

from rayforest.kinds import Kind
from rayforest.starter.look.column import ColumnLook
from rayforest.starter.look.runs import Run
from rayforest.tables.conversion import to_kind

_MIN_ROWS = 10
"""In a smaller table 1, 2, 3 says little."""
_INDEX_NAME = re.compile(
    r"__index_level_\d+__|Unnamed: \d+|index|row|rownum|row[ _]?(id|nr|no|number)?|c1|", re.IGNORECASE
)


def is_index_name(name: str) -> bool:
    """Whether a library names a saved index so, or a header leaves it nameless."""
    return re.fullmatch(r"__index_level_\d+__|Unnamed: \d+|", name) is not None


def counts_rows(look: ColumnLook, runs: Sequence[Run]) -> bool:
    """Whether a column goes up by one with each row, from 0 or 1 at the file's beginning."""
    if look.kind is not Kind.NUMBER or not look.whole or look.style is not None or look.values.low not in (0, 1):
        return False
    first = next((run.frame for run in runs if run.first), None)
    if first is None or first.height < (2 if _INDEX_NAME.fullmatch(look.name) else _MIN_ROWS):
        return False
    if look.missing or look.unreadable or look.distinct < first.height:
        return False
    return all(_steps(run.frame.get_column(look.name), begin=run.first) for run in runs)


def _steps(stored: pl.Series, *, begin: bool) -> bool:
    value = stored.alias("value").to_frame().select(to_kind(pl.col("value"), stored.dtype, Kind.NUMBER))
    numbers = value.to_series().to_numpy()
    if not numbers.size:
        return True
    return (not begin or numbers[0] in (0, 1)) and bool((np.diff(numbers) == 1).all())

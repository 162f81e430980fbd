"""Runs of blanks as one delimiter: the text of rows as every parser reads it."""

from __future__ import annotations

import numpy as np

from rayforest.tables.csv.dialect import Dialect
from rayforest.tables.csv.quotes import RowScanner

_LINE_ENDS = np.frombuffer(b"\n\r", np.uint8)


def single_blanks(text: bytes, dialect: Dialect) -> bytes:
    """Whole rows in which one space separates two values, and none stands around a row."""
    inside = RowScanner(dialect).scan(text).quotes.inside(len(text))
    data = np.frombuffer(text, np.uint8).copy()
    blank = np.isin(data, dialect.blanks) & ~inside
    line_end = np.isin(data, _LINE_ENDS) & ~inside
    data[blank] = ord(" ")
    after_value = np.concatenate(([False], ~(blank | line_end)[:-1]))
    solid = np.append(np.flatnonzero(~blank), data.size)
    next_solid = solid[np.searchsorted(solid, np.arange(data.size))]
    before_value = ~np.append(line_end, np.True_)[next_solid]
    kept: bytes = data[~blank | (after_value & before_value)].tobytes()
    return kept

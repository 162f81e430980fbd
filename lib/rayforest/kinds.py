"""The four kinds of values that the feature language and the column contract know."""

from __future__ import annotations

from enum import StrEnum

import polars as pl


class Kind(StrEnum):
    """Kind of a column or an expression. Null is the only missing value of each."""

    NUMBER = "number"
    """float64; NaN becomes null on reading."""
    BOOLEAN = "boolean"
    STRING = "string"
    """UTF-8; the empty string becomes null on reading."""
    TIMESTAMP = "timestamp"
    """int64 microseconds since 1970-01-01 UTC, without a zone; text without a zone is read as UTC."""

    @property
    def polars(self) -> pl.DataType:
        """The Polars type that holds this kind in every frame of rayforest."""
        return _POLARS[self]


_POLARS: dict[Kind, pl.DataType] = {
    Kind.NUMBER: pl.Float64(),
    Kind.BOOLEAN: pl.Boolean(),
    Kind.STRING: pl.String(),
    Kind.TIMESTAMP: pl.Datetime("us"),
}

"""What kind of values a column of text holds, judged by the rules that the column contract applies later."""

from __future__ import annotations

import polars as pl
import pyarrow as pa

from rayforest.data.kinds import Kind
from rayforest.data.values import to_kind

_BOOLEAN_WORDS = ("true", "false")
"""yes and no, or t and f, stay text: they are read as labels more often than as truth."""
_NEARLY_ALL = 0.95


def infer_kinds(table: pa.Table) -> dict[str, Kind]:
    """The narrowest kind that takes every value of a column of text; a column of nulls is a string."""
    return {name: infer_kind(pl.Series(name, table.column(name))) for name in table.column_names}


def infer_kind(texts: pl.Series) -> Kind:
    """The kind of one column; see `infer_kinds`."""
    texts = texts.drop_nulls()
    if not texts.len():
        return Kind.STRING
    for kind in (Kind.NUMBER, Kind.TIMESTAMP):
        if not readable_as(texts, kind).not_().any():
            return kind
    words = texts.str.strip_chars().str.to_lowercase()
    return Kind.BOOLEAN if words.is_in(_BOOLEAN_WORDS).all() else Kind.STRING


def nearly_kind(texts: pl.Series) -> Kind | None:
    """The kind that nearly all values of a column of text have, although some are dirt; None where there is none."""
    texts = texts.drop_nulls()
    for kind in (Kind.NUMBER, Kind.TIMESTAMP):
        if texts.len() and readable_as(texts, kind).sum() >= _NEARLY_ALL * texts.len():
            return kind
    return None


def readable_as(texts: pl.Series, kind: Kind, form: str | None = None) -> pl.Series:
    """[texts] true where the text reads as a value of the kind; `form` is a strptime format of timestamps."""
    column = texts.alias("text").to_frame()
    return column.select(to_kind(pl.col("text"), pl.String(), kind, form).is_not_null()).to_series()

"""What kind of values a column of text holds, judged by the rules that the column contract applies later."""

from __future__ import annotations

import polars as pl

from rayforest.data.kinds import Kind
from rayforest.data.number_style import PLAIN, NumberStyle
from rayforest.data.values import to_kind

_BOOLEAN_WORDS = ("true", "false")
"""yes and no, or t and f, stay text: they are read as labels more often than as truth."""
_NEARLY_ALL = 0.95


def infer_kind(texts: pl.Series, numbers: NumberStyle = PLAIN) -> Kind:
    """The narrowest kind that takes every value of a column of text; of nulls a string."""
    texts = texts.drop_nulls()
    if not texts.len():
        return Kind.STRING
    for kind in (Kind.NUMBER, Kind.TIMESTAMP):
        if not readable_as(texts, kind, numbers=numbers).not_().any():
            return kind
    words = texts.str.strip_chars().str.to_lowercase()
    return Kind.BOOLEAN if words.is_in(_BOOLEAN_WORDS).all() else Kind.STRING


def nearly_kind(texts: pl.Series, numbers: NumberStyle = PLAIN) -> Kind | None:
    """The kind that nearly all values of a column of text have, although some are dirt; None where there is none."""
    texts = texts.drop_nulls()
    for kind in (Kind.NUMBER, Kind.TIMESTAMP):
        if texts.len() and readable_as(texts, kind, numbers=numbers).sum() >= _NEARLY_ALL * texts.len():
            return kind
    return None


def readable_as(texts: pl.Series, kind: Kind, form: str | None = None, numbers: NumberStyle = PLAIN) -> pl.Series:
    """[texts] true where the text reads as a value of the kind; `form` is a strptime format of timestamps."""
    column, text = texts.alias("text").to_frame(), pl.col("text")
    value = numbers.plain(text) if kind is Kind.NUMBER else text
    return column.select(to_kind(value, pl.String(), kind, form).is_not_null()).to_series()

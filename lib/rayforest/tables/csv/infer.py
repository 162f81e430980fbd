"""What kind of values a column of text holds, judged by the rules that the column contract applies later."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from rayforest.kinds import Kind
from rayforest.sql.casts import BLANKS
from rayforest.tables.conversion import to_kind
from rayforest.tables.number_style import PLAIN, NumberStyle

_BOOLEAN_WORDS = ("true", "false")
"""yes and no, or t and f, stay text: they are read as labels more often than as truth."""
_BEGINS_AS_DATE = r"^[ \t]*[0-9]{4}-"
"""As every text does that `text_to_timestamp` reads."""
_NEARLY_ALL = 0.95


@dataclass(frozen=True, slots=True)
class Guess:
    """What kind of values a column of text seems to hold."""

    kind: Kind | None
    """The narrowest that takes every value; None where there is no value."""
    nearly: Kind | None = None
    """Of a string: the kind that nearly all of its values have, the others being dirt."""


def infer_kind(texts: pl.Series, numbers: NumberStyle = PLAIN) -> Kind:
    """The narrowest kind that takes every value of a column of text; a column of nulls is a string."""
    return guess_each(texts, [texts.len()], numbers)[0].kind or Kind.STRING


def guess_each(texts: pl.Series, rows: Sequence[int], numbers: NumberStyle = PLAIN) -> list[Guess]:
    """Guesses for a column of several tables at once, which is much faster than one table after the other.

    Args:
        texts: the column of all tables, one below the other.
        rows: how many rows each has.
        numbers: how numbers are written.
    """
    table = np.repeat(np.arange(len(rows)), rows)

    def count(mask: pl.Series) -> npt.NDArray[np.int64]:
        return np.bincount(table[mask.fill_null(value=False).to_numpy()], minlength=len(rows))

    values = count(texts.is_not_null())
    whole = count(readable_as(texts, Kind.NUMBER, numbers=numbers)) if values.any() else values
    left = bool((whole < values).any())
    dated = left and bool(texts.str.contains(_BEGINS_AS_DATE).any())  # reading times takes as long as all the rest
    times = count(readable_as(texts, Kind.TIMESTAMP)) if dated else np.zeros_like(values)
    words = (
        count(texts.str.strip_chars(BLANKS).str.to_lowercase().is_in(_BOOLEAN_WORDS)) if left else np.zeros_like(values)
    )
    return [_guess(*counts) for counts in zip(*(c.tolist() for c in (values, whole, times, words)), strict=True)]


def _guess(values: int, numbers: int, times: int, words: int) -> Guess:
    found = {Kind.NUMBER: numbers, Kind.TIMESTAMP: times, Kind.BOOLEAN: words}
    if not values:
        return Guess(None)
    whole = next((kind for kind, count in found.items() if count == values), None)
    nearly = next((kind for kind, count in found.items() if count >= _NEARLY_ALL * values), None)
    return Guess(whole) if whole is not None else Guess(Kind.STRING, nearly)


def readable_as(texts: pl.Series, kind: Kind, form: str | None = None, numbers: NumberStyle = PLAIN) -> pl.Series:
    """[texts] true where the text reads as a value of the kind; `form` is a strptime format of timestamps."""
    column, text = texts.alias("text").to_frame(), pl.col("text")
    value = numbers.plain(text) if kind is Kind.NUMBER else text
    return column.select(to_kind(value, pl.String(), kind, form).is_not_null()).to_series()

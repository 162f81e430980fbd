"""Which words of a column stand for a missing value, and which only look so."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from rayforest.starter.sniff.words import NEARLY_ALL, NULL_AMID_NUMBERS, NULL_WORDS

_SAME_SHAPE = 0.8
_MIN_VALUES = 2


def words_by_column(counts: pl.DataFrame) -> dict[int, dict[str, int]]:
    """Column -> word -> rows, of all words that may stand for a missing value."""
    found: dict[int, dict[str, int]] = {}
    words = counts.filter(pl.col("value").is_in([*NULL_WORDS, *NULL_AMID_NUMBERS]))
    for column, word, rows in words.sort("column", "value").select("column", "value", "rows").iter_rows():
        found.setdefault(column, {})[word] = rows
    return found


def split_words(
    words: Mapping[str, int], others: pl.DataFrame, numbers: int, total: int
) -> tuple[list[str], list[str]]:
    """(words that stand for a missing value, words that are values), of one column.

    Args:
        words: word -> rows.
        others: (value, rows) of the column's other values.
        numbers: rows of `others` that are numbers.
        total: rows of `others`.
    """
    amid_numbers = total > 0 and numbers >= NEARLY_ALL * total
    missing: list[str] = []
    kept: list[str] = []
    for word in words:
        if word in NULL_AMID_NUMBERS:
            (missing if amid_numbers else kept).append(word)
        elif amid_numbers or not _is_alike(word, others.get_column("value")):
            missing.append(word)
        else:
            kept.append(word)
    order = {word: place for place, word in enumerate((*NULL_WORDS, *NULL_AMID_NUMBERS))}
    return sorted(missing, key=order.__getitem__), sorted(kept, key=order.__getitem__)


def _is_alike(word: str, others: pl.Series) -> bool:
    """Whether a word is written as the other values are: NA among FR, US and ZA."""
    if not word.isalpha() or others.len() < _MIN_VALUES:
        return False
    shape = "^" + "".join("[A-Z]" if letter.isupper() else "[a-z]" for letter in word) + "$"
    return float(others.str.contains(shape).sum()) >= _SAME_SHAPE * others.len()

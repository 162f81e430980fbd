"""What one field of a text table looks like, before any type is decided: number, time, word, nothing."""

from __future__ import annotations

import functools
import re
from enum import Enum

from rayforest.starter.sniff.words import NULL_WORDS


class Cell(Enum):
    """How a field looks."""

    EMPTY = "empty"
    """Nothing, or a word for a missing value."""
    NUMBER = "number"
    TIME = "time"
    """A date, a time of day, or both."""
    WORD = "word"
    OTHER = "other"
    """Text with characters that usually delimit or quote."""


_NULLS = frozenset((*NULL_WORDS, "#VALUE!", "#REF!", "#DIV/0!"))
_NUMBER = re.compile(
    r"[-+(]?\s?[$€£¥]?\s?[-+]?"
    r"(\d{1,3}(,\d{3})+(\.\d+)?|\d{1,3}([.'\s]\d{3})+(,\d+)?|\d+[.,]?\d*|[.,]\d+)"
    r"([eE][-+]?\d+)?\s?[%$€£)]?"
)
_CLOCK = r"\d{1,2}:\d{2}(:\d{2}([.,]\d+)?)?\s?([AaPp][Mm])?(Z|\s?[+-]\d{2}:?\d{2})?"
_MONTH = r"(Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec|Mai|Okt|Dez)[a-z]*\.?"
_DATE = (
    r"(\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.]{1,2}\d{1,2}[-/.]{1,2}\d{2,4}"
    rf"|\d{{1,2}}[-/.\s]{_MONTH}[-/.,\s]+\d{{2,4}}|{_MONTH}\s\d{{1,2}},?\s\d{{4}})"
)
_TIME = re.compile(rf"({_DATE}([T\s,]\s?{_CLOCK})?|{_CLOCK})", re.IGNORECASE)
_STRANGE = re.compile(r"[,;|\t\"~^\x00-\x1f]")


@functools.lru_cache(1 << 16)
def cell(text: str) -> Cell:
    """How a field looks."""
    text = text.strip()
    if not text or text in _NULLS:
        return Cell.EMPTY
    if len(text) <= 40:
        if _NUMBER.fullmatch(text):
            return Cell.NUMBER
        if _TIME.fullmatch(text):
            return Cell.TIME
    if _STRANGE.search(text) or (len(text) > 1 and "'" in (text[0], text[-1])):  # quoted, or half of it
        return Cell.OTHER
    return Cell.WORD


SHAPED = (Cell.NUMBER, Cell.TIME)
"""Looks that tell values from names."""

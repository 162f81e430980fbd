"""Dates in text that is not ISO 8601: the one format that reads them, or why none is chosen."""

from __future__ import annotations

import re
from dataclasses import dataclass

import polars as pl

from rayforest.sql.casts import BLANKS
from rayforest.starter.sniff.words import NEARLY_ALL

FIRST_YEAR, LAST_YEAR = 1900, 2200
"""A guessed format that reads other years is no guess."""
_LAST_SHORT_YEAR = 2049
"""strptime reads 62 as 2062: a birth year more probably than a date to come."""

_NUMERIC = re.compile(r"(\d{1,4})([/.\-])(\d{1,2})\2(\d{1,4})(?!\d)(.*)", re.DOTALL)
_NAMED = re.compile(
    r"(\d{1,2})([- ])([A-Za-z]{3,9})\2(\d{2,4})(?!\d)(.*)|([A-Za-z]{3,9}) (\d{1,2}),? (\d{4})(.*)", re.DOTALL
)
_CLOCKS = (
    (re.compile(r"\s*"), ""),
    (re.compile(r"( |T|, )\d{1,2}:\d{2}:\d{2}"), "%H:%M:%S"),
    (re.compile(r"( |T|, )\d{1,2}:\d{2}:\d{2}\.\d+"), "%H:%M:%S%.f"),
    (re.compile(r"( |T|, )\d{1,2}:\d{2}"), "%H:%M"),
    (re.compile(r"( |T|, )\d{1,2}:\d{2}:\d{2} [AaPp][Mm]"), "%I:%M:%S %p"),
    (re.compile(r"( |T|, )\d{1,2}:\d{2} [AaPp][Mm]"), "%I:%M %p"),
)


@dataclass(frozen=True)
class DateGuess:
    """What a column of dates in text may be read by."""

    format: str | None
    remark: str = ""
    undecided: str = ""
    """Why no format was chosen although there is one."""


def guess_format(texts: pl.Series, rows: pl.Series) -> DateGuess | None:
    """The format of timestamps that are not ISO 8601.

    Args:
        texts: the different texts of a column, missing ones left out.
        rows: how many rows each has.

    Returns:
        None where they are no dates.
    """
    formats = _formats(texts.item(0)) if texts.len() else ()
    reads = {form: _read(texts, form) for form in formats}
    counts = {form: int(rows.filter(read.is_not_null()).sum()) for form, read in reads.items()}
    enough = NEARLY_ALL * int(rows.sum())
    likely = [form for form in formats if counts[form] >= enough]
    if not likely:
        return _mixed(formats, reads, rows, enough)
    best = max(likely, key=lambda form: counts[form])
    other = next((form for form in likely if form != best), None)
    years = reads[best].dt.year().drop_nulls()
    if (shown := _odd_year(years, best)) is not None:
        return DateGuess(None, undecided=shown)
    if other is not None and (counts[other] == counts[best] or _only(reads, other, best, rows)):
        return DateGuess(None, undecided=_both_read(*sorted((best, other))))
    short = 'two-digit years, of which "%y" reads 00 to 68 as 2000 to 2068'
    return DateGuess(best, remark=short if "%y" in best else "")


def _mixed(formats: tuple[str, ...], reads: dict[str, pl.Series], rows: pl.Series, enough: float) -> DateGuess | None:
    """Day first in some rows and month first in others is said, and not read."""
    if len(formats) == 2:
        one, other = (reads[form].is_not_null() for form in formats)
        if int(rows.filter(one | other).sum()) >= enough:
            return DateGuess(None, undecided=f"some dates read only by {formats[0]}, others only by {formats[1]}")
    return None


def _both_read(one: str, other: str) -> str:
    return f"dates that read both by {one} and by {other}: choose one, as {{ type = 'timestamp', format = '{one}' }}"


def _only(reads: dict[str, pl.Series], form: str, best: str, rows: pl.Series) -> bool:
    """Whether some rows read by a format and not by the best."""
    return int(rows.filter(reads[form].is_not_null() & reads[best].is_null()).sum()) > 0


def _odd_year(years: pl.Series, form: str) -> str | None:
    low, high = years.min(), years.max()
    if not isinstance(low, int) or not isinstance(high, int):
        return None
    if low < FIRST_YEAR or high > LAST_YEAR:
        return f"{form} would read the years {low} to {high}: no dates, or of another format"
    if "%y" in form and high > _LAST_SHORT_YEAR:
        return f"two-digit years: {form} would read the years {low} to {high}; if they are dates, write four digits"
    return None


def _read(texts: pl.Series, form: str) -> pl.Series:
    return texts.str.strip_chars(BLANKS).str.to_datetime(form, time_unit="us", strict=False, exact=True)


def _formats(text: str) -> tuple[str, ...]:
    """Formats of one text's shape."""
    text = text.strip()
    if numeric := _NUMERIC.fullmatch(text):
        first, mark, _, last, clock = numeric.groups()
        if len(first) == 4:
            dates = [f"%Y{mark}%m{mark}%d"]
        elif len(first) < 3 and len(last) in (2, 4):
            year = "%Y" if len(last) == 4 else "%y"
            dates = [f"%d{mark}%m{mark}{year}", f"%m{mark}%d{mark}{year}"]
        else:
            return ()
    elif named := _NAMED.fullmatch(text):
        if named[1]:
            month, year = "%b" if len(named[3]) == 3 else "%B", "%Y" if len(named[4]) == 4 else "%y"
            dates, clock = [f"%d{named[2]}{month}{named[2]}{year}"], named[5]
        else:
            month, comma = "%b" if len(named[6]) == 3 else "%B", "," if "," in text[: named.end(8)] else ""
            dates, clock = [f"{month} %d{comma} %Y"], named[9]
    else:
        return ()
    for pattern, form in _CLOCKS:
        if pattern.fullmatch(clock):
            between = clock[: len(clock) - len(clock.lstrip("T ,"))]
            return tuple(f"{date}{between if form else ''}{form}" for date in dates)
    return ()

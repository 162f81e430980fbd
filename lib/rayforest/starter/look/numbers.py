"""Numbers with decimal commas or thousands marks: the style that reads a column, or why none is chosen."""

from __future__ import annotations

import re
from collections.abc import Iterable

import polars as pl

from rayforest.starter.look.column import ColumnLook
from rayforest.tables.number_style import NumberStyle

STYLES = (
    NumberStyle(".", None),
    NumberStyle(",", None),
    NumberStyle(",", "."),
    NumberStyle(".", ","),
    NumberStyle(",", " "),
    NumberStyle(".", " "),
    NumberStyle(".", "'"),
    NumberStyle(",", "'"),
)
"""The plainer before those that also read what it reads."""

LOOSE = r"^\s*[-+]?[\d., ']*\d[\d., ']*\s*$"
"""Text that a number of some style may be."""

_UNITS = r" ?(kg|mg|km|cm|mm|ms|min|ml|lbs?|oz|ft|mph|kB|MB|GB|TB|°C|°F)| [gmshlKM]"

AMOUNT = r"^\s*[-+−(]?\s*([$€£¥]|[A-Z]{3} )?\s*[-+−]?[\d., ']*\d[\d., ']*([-−$€£¥%)]| [A-Z]{3}|" + _UNITS + r")?\s*$"
"""Numbers with or without signs of money, shares and accounts, or units."""


def pattern(style: NumberStyle) -> str:
    """Regular expression of the numbers of a style."""
    decimal = re.escape(style.decimal)
    whole = r"\d+"
    if style.thousands is not None:
        whole = rf"(?:\d+|[1-9]\d{{0,2}}(?:{re.escape(style.thousands)}\d{{3}})+)"
    return rf"^\s*[-+]?(?:{whole}(?:{decimal}\d*)?|{decimal}\d+)(?:[eE][-+]?\d+)?\s*$"


def count_styles(counts: pl.DataFrame) -> dict[int, dict[NumberStyle, int]]:
    """Rows of each column that each style reads, from (column, value, rows)."""
    reads = [
        (pl.col("rows") * pl.col("value").str.contains(pattern(style))).sum().alias(str(number))
        for number, style in enumerate(STYLES)
    ]
    table = counts.group_by("column").agg(reads)
    return {row[0]: dict(zip(STYLES, row[1:], strict=True)) for row in table.iter_rows()}


def choose_style(read: dict[NumberStyle, int], enough: float, decimal: str | None) -> tuple[NumberStyle | None, str]:
    """The plainest style that reads enough rows, or none, and why none is chosen; `decimal` is others' mark."""
    able = [style for style, rows in read.items() if rows >= enough]
    if not able:
        return None, ""
    most = max(read[style] for style in able)
    best = [style for style in able if read[style] == most]
    best = [style for style in best if style.decimal == decimal] or best
    decimals = {style.decimal for style in best}
    if len(decimals) > 1:
        return None, "numbers whose mark reads as decimal and as thousands: say which, decimal or thousands = ','"
    return best[0], ""


def shown_decimal(looks: Iterable[ColumnLook]) -> str | None:
    """The decimal mark of the columns whose numbers read one way only, if they have one and agree."""
    plain = [look for look in looks if not look.two_ways and (look.pointed or look.style is not None)]
    marks = {look.style.decimal if look.style is not None else "." for look in plain}
    return marks.pop() if len(marks) == 1 else None


def as_others(decimal: str | None) -> tuple[str, ...]:
    """The remark on a column that was read as the others are."""
    return () if decimal is None else (f"as other columns have decimal {'commas' if decimal == ',' else 'points'}",)

"""How numbers are written in text: the marks of decimals and thousands. All else reads the plain style."""

from __future__ import annotations

import re
from dataclasses import dataclass

import polars as pl

from rayforest.sql.casts import BLANKS

_BLANKS = " \u00a0\u202f"
"""Where thousands are set apart by a blank, any of these."""
_NO_NUMBER = "x"


@dataclass(frozen=True)
class NumberStyle:
    """1.299,99 has decimal "," and thousands "."."""

    decimal: str = "."
    thousands: str | None = None

    @property
    def is_plain(self) -> bool:
        """Whether numbers are written as SQL writes them."""
        return self.decimal == "." and self.thousands is None

    def plain(self, text: pl.Expr) -> pl.Expr:
        """The same numbers in the plain style, as text; what is no number in this style becomes text that is none.

        Marks of thousands stand between groups of three digits, or nowhere: 12.99 with thousands "." is no number.
        """
        if self.is_plain:
            return text
        marks = f"[{re.escape(_BLANKS if self.thousands == ' ' else self.thousands)}]" if self.thousands else ""
        grouped = rf"[0-9]{{1,3}}(?:{marks}[0-9]{{3}})+|" if marks else ""
        pattern = (
            rf"^[ \t]*[+-]?(?:{grouped}[0-9]*)(?:{re.escape(self.decimal)}[0-9]*)?(?:[eE][+-]?[0-9]+)?[ \t]*$"
        )  # fmt: skip
        digits = text.str.strip_chars(BLANKS)
        digits = digits.str.replace_all(marks, "") if marks else digits
        plain = digits.str.replace(self.decimal, ".", literal=True)
        return pl.when(text.str.contains(pattern)).then(plain).when(text.is_not_null()).then(pl.lit(_NO_NUMBER))


PLAIN = NumberStyle()

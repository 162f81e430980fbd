"""A text table's format as the bytes that have a meaning in it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rayforest.tables.batch import BLANKS, CsvFormat

_SPACE_AND_TAB = b" \t"


@dataclass(frozen=True)
class Dialect:
    """What the scanner of rows has to know. Every member is the code of an ASCII character."""

    delimiters: bytes = b","
    """Any of them ends a value; of blanks, a run does."""
    quote: int | None = ord('"')
    escape: int | None = None
    comment: int | None = None
    trim: bool = False

    @classmethod
    def of(cls, form: CsvFormat) -> Dialect:
        """The dialect of a format."""
        return cls(
            delimiters=_SPACE_AND_TAB if form.delimiter == BLANKS else form.delimiter.encode(),
            quote=ord(form.quote) if form.quote else None,
            escape=ord(form.escape) if form.escape else None,
            comment=ord(form.comment) if form.comment else None,
            trim=form.trim and form.delimiter != BLANKS,
        )

    @property
    def by_blanks(self) -> bool:
        """Whether values are set apart by runs of blanks."""
        return self.delimiters == _SPACE_AND_TAB

    @property
    def blanks(self) -> npt.NDArray[np.uint8]:
        """Bytes that count as blank around a value: space and tab, where they separate nothing."""
        return np.array([b for b in _SPACE_AND_TAB if self.by_blanks or b not in self.delimiters], dtype=np.uint8)

    @property
    def ends_of_values(self) -> npt.NDArray[np.uint8]:
        """Delimiters and line ends."""
        return np.array([*self.delimiters, *b"\n\r"], dtype=np.uint8)

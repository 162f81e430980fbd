r"""Stray quotes: those that begin a value which no later quote ends.

Taken at its word, such a quote swallows the lines up to the next quote, or up to the end of the file. So it is an
ordinary character, its line is a broken row, and the next line is read as any other. A quote is stray where

- none closes it within MAX_QUOTED_BYTES, or
- the one that does is in a later line, and text follows it instead of a delimiter or a line end.

Inside quotes two of them stand for one. So the value ends with the next run of an odd number of quotes, and whether a
quote is stray follows from the bytes after it alone: blocks and pieces agree on it, wherever they are cut.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

MAX_QUOTED_BYTES = 64 << 20
"""A quote whose value would be longer is stray."""
STRAY_QUOTE = "a quote that is never closed, or only amid text of a later line"
"""What is wrong with a row that has one."""

_ODD_RUN = re.compile(rb'(?<!")"(?:"")*(?!")')
_LINE_END = re.compile(rb"[\r\n]")


def stray_quotes(
    data: npt.NDArray[np.uint8],
    positions: npt.NDArray[np.int64],
    begins_run: npt.NDArray[np.bool_],
    ends_well: npt.NDArray[np.bool_],
) -> npt.NDArray[np.bool_]:
    """Which quotes would be stray if they began a value, as far as the block that holds them tells.

    Args:
        data: [bytes of the block].
        positions: [quotes] where they stand.
        begins_run: [quotes] whether no quote stands right before.
        ends_well: [quotes] whether a value may end there; true as well where the block ends before that is known.
    """
    stray = np.zeros(positions.size, dtype=bool)
    first = np.flatnonzero(begins_run)
    sizes = np.diff(np.append(first, positions.size))
    odd = sizes % 2 == 1
    opening, closing = first[odd][:-1], (first + sizes - 1)[odd][1:]
    line_ends = np.flatnonzero((data == ord("\n")) | (data == ord("\r")))
    start, stop = positions[opening], positions[closing]
    later_line = np.searchsorted(line_ends, start) < np.searchsorted(line_ends, stop)
    stray[opening] = (later_line & ~ends_well[closing]) | (stop - start > MAX_QUOTED_BYTES)
    return stray


def ends_well(following: Iterable[bytes], delimiter: int, blanks: bytes) -> bool:
    """Whether a quote is not stray, by all that follows it; reads on only until that is known.

    Args:
        following: the bytes after the quote, in blocks.
        delimiter: of the table.
        blanks: characters that may stand between the end of a value and what follows it.
    """
    enders = bytes([delimiter]) + b"\r\n"
    undecided, later_line, passed = b"", False, 0
    for block in following:
        text = undecided + block
        known = len(text.rstrip(b'"' + blanks))  # a run before it is whole, and what follows the run is seen
        first = text.find(b'"', 0, known)
        if first >= 0 and (found := _ODD_RUN.search(text, first, known)):
            later_line = later_line or _LINE_END.search(text, 0, found.start()) is not None
            after = text[found.end() : known].lstrip(blanks)[:1] if later_line else b""
            return passed + found.end() <= MAX_QUOTED_BYTES and (not later_line or after in enders)
        later_line = later_line or _LINE_END.search(text, 0, known) is not None
        passed += known
        undecided = text[known:]
        if passed > MAX_QUOTED_BYTES:
            return False
    found = _ODD_RUN.search(undecided)
    return (
        found is not None
        and passed + found.end() <= MAX_QUOTED_BYTES
        and not (later_line and undecided[found.end() :].strip(blanks))
    )

"""The header of a table: which rows above the first row of values name the columns, if any does."""

from __future__ import annotations

import itertools
import re

from rayforest.starter.sniff.cells import SHAPED, Cell, cell
from rayforest.starter.sniff.dialect import Row

MAX_HEADER_ROWS = 3
_TOP_ROWS = 60
_FEWEST_YEARS = 3
_ODD_SHARE = 0.1
"""Share of the rows up to which a name may stand below the header: where another table begins, say."""
_MOST_ROWS_ABOVE = 20
"""Rows of text above the first row of numbers that may still be a header and what stands above it."""


def find_header(rows: list[Row], width: int, shaped: dict[int, Cell]) -> tuple[list[Row], int | None]:
    """The header rows, and the index of the first data row.

    Args:
        rows: of the sampled lines.
        width: fields of the table's rows.
        shaped: columns whose values are mostly numbers, or mostly times.

    Returns:
        Index None where there is no data row.
    """
    before = next((i for i, row in enumerate(rows) if len(row.fields) == width), 0) - _TOP_ROWS
    if before > 0:  # other tables stand above
        top, first = find_header(rows[before:], width, shaped)
        return top, None if first is None else first + before
    near = rows[: 2 * _TOP_ROWS]
    whole = [i for i, row in enumerate(near) if len(row.fields) == width and not _is_sparse(row, width)]
    if not whole:
        return [], next((i for i, row in enumerate(rows) if len(row.fields) == width), 0)
    first = whole[0]
    if not shaped:
        return _by_words(rows, width, first)
    while first < len(near) and not (len(near[first].fields) == width and is_data(near[first], shaped)):
        first += 1
    if first == len(near) or sum(whole[0] <= place < first for place in whole) > _MOST_ROWS_ABOVE:
        return ([near[whole[0]]], None) if len(rows) == 1 else _by_words(rows, width, whole[0])
    if first == whole[0] and first + 1 < len(near) and _names_years(near[first], shaped):
        return [near[first]], first + 1
    top = _rows_above(near, first, width, shaped)
    while not top and first - 1 in whole and not _names_a_column(near[first - 1], near[first:], shaped):
        first -= 1  # rows whose numbers are missing
    return top, first


def _rows_above(near: list[Row], first: int, width: int, shaped: dict[int, Cell]) -> list[Row]:
    """The header rows that end right above the first data row."""
    top: list[Row] = []
    for row in reversed(near[:first]):
        if not row.filled:
            if top and (len(row.fields) != width or all(text.strip() for text in top[0].fields)):
                break
            continue
        if len(row.fields) != width:
            if not top and names_other_width(row, width):
                return [row]
            if not top and (_is_broken_data(row) or _is_rule(row)):
                continue
            break
        if top and not _continues_upward(row, top[0], width, shaped):
            break
        top.insert(0, row)
    while len(top) > 1 and _is_sparse(top[0], width):
        top = top[1:]
    if len(top) == 1 and (top[0].filled == 1 < width - 1 or not _names_a_column(top[0], near[first:], shaped)):
        return []
    return top if len(top) <= MAX_HEADER_ROWS else top[-1:]


def _names_a_column(row: Row, below: list[Row], shaped: dict[int, Cell]) -> bool:
    """Whether a row has text over a column of numbers or times, or nothing only over a first one that counts rows."""
    if any(cell(row.fields[place]) not in (*SHAPED, Cell.EMPTY) for place in shaped):
        return True
    return set(shaped) == {0} and bool(_by_words([row, *below], len(row.fields), 0)[0])


def _names_years(row: Row, shaped: dict[int, Cell]) -> bool:
    """Whether a row of words and years that follow each other stands over the numbers of those years."""
    years = [text.strip() for place, text in enumerate(row.fields) if cell(text) in SHAPED and place in shaped]
    others = [text for place, text in enumerate(row.fields) if not (cell(text) in SHAPED and place in shaped)]
    if len(years) < _FEWEST_YEARS or not others or any(cell(text) is not Cell.WORD for text in others):
        return False
    if not all(re.fullmatch(r"(19|20)\d\d", year) for year in years):
        return False
    steps = {int(later) - int(year) for year, later in itertools.pairwise(years)}
    return len(steps) == 1 and abs(steps.pop()) == 1


def _continues_upward(row: Row, below: Row, width: int, shaped: dict[int, Cell]) -> bool:
    """Whether a row of text above a header row belongs to the header: groups of columns, or names over units."""
    if is_data(row, shaped):
        return False
    if row.fields == below.fields:
        return True
    named = sum(1 for place in shaped if row.fields[place].strip())
    return not _is_sparse(row, width) and (row.filled < width or named >= 2)


def names_other_width(row: Row, width: int) -> bool:
    """Whether a row with more or fewer fields than the table can still hold its names."""
    looks = [cell(text) for text in row.fields if text.strip()]
    near = abs(len(row.fields) - width) <= max(1, width // 4)
    return near and len(looks) >= min(2, width - 1) and not any(look in SHAPED for look in looks)


def _is_broken_data(row: Row) -> bool:
    """Whether a row looks like one of the table with fields too few or too many, as after a stray quote."""
    return len(row.fields) > 1 and any(cell(text) in SHAPED for text in row.fields)


def _is_rule(row: Row) -> bool:
    """Whether a row is a line drawn below the names, as databases print it."""
    return all(re.fullmatch(r"\s*[-=+]{3,}\s*", text) for text in row.fields)


def _by_words(rows: list[Row], width: int, first: int) -> tuple[list[Row], int | None]:
    """The header of a table of text: a first row of different words that hardly occur below."""
    names = rows[first].fields
    below = [row.fields for row in rows[first + 1 :] if len(row.fields) == width and row.fields != names]
    words = [name for name in names if name]
    if not below:
        named = not any(cell(name) in SHAPED for name in words)
        return ([rows[first]], None) if named else ([], first)
    named = len(set(words)) == len(words) and not any(cell(n) in (*SHAPED, Cell.EMPTY) for n in words)
    again = [sum(fields[place] == name for fields in below) for place, name in enumerate(names) if name]
    repeated = sum(1 for count in again if count > _ODD_SHARE * len(below))
    nameless = any(not name.strip() and _mostly_filled(below, place) for place, name in enumerate(names) if place)
    if named and repeated <= len(words) // 3 and not nameless:
        return [rows[first]], rows.index(next(r for r in rows[first + 1 :] if len(r.fields) == width))
    return [], first


def _mostly_filled(rows: list[list[str]], place: int) -> bool:
    return sum(1 for fields in rows if fields[place].strip()) * 2 > len(rows)


def _is_sparse(row: Row, width: int) -> bool:
    """A title padded with delimiters, or a row of delimiters."""
    return row.filled == 0 or (row.filled == 1 and width > 2)


def is_data(row: Row, shaped: dict[int, Cell]) -> bool | None:
    """Whether the shaped columns hold their shape in this row; None where they hold nothing."""
    looks = [(cell(row.fields[place]), shape) for place, shape in shaped.items()]
    held = [look in SHAPED for look, _ in looks if look is not Cell.EMPTY]
    return None if not held else sum(held) * 2 >= len(held)

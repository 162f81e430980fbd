"""Where the table stands in a text file: what lies above it, its header lines, their names, what follows it.

A row below which the columns hold numbers or times, and that holds text itself, names the columns. Titles, blank lines
and rows of delimiters above it are none of the table.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Set
from dataclasses import dataclass, field

from rayforest.data.sniff.cells import SHAPED, Cell, cell
from rayforest.data.sniff.dialect import TABLE_ROWS, Row, common_width
from rayforest.data.sniff.names import distinct_names, joined_names, names_for

_SHAPED_SHARE = 0.8
"""Share of the values of a column that look alike, for the column to tell a header from a row."""
_TOP_ROWS, _SHAPE_ROWS = 60, 100
_MAX_HEADER_ROWS = 3
_ODD_SHARE = 0.1
"""Share of the rows up to which a name may stand below the header: where another table begins, say."""
_MOST_ROWS_ABOVE = 20
"""Rows of text above the first row of numbers that may still be a header and what stands above it."""


@dataclass(frozen=True)
class Layout:
    """What a reader must know about the place of a table."""

    header: bool
    """Whether the first row after `skip_lines` holds the names."""
    skip_lines: int = 0
    names: tuple[str, ...] = ()
    """Where the header cannot be read as it stands."""
    trailing_delimiter: bool = False
    """Every row ends in a delimiter that the header does not have."""
    repeated_names: bool = False
    """The header has a name twice."""
    notes: tuple[str, ...] = field(default=())


def find_layout(rows: list[Row], lines: list[str]) -> Layout:
    """The layout of sampled rows.

    Args:
        rows: as the dialect reads them, rows without fields left out.
        lines: the sampled lines.
    """
    width = _width(rows)
    shaped = _shaped_columns(rows, width)
    top, first = _header_and_first(rows, width, shaped)
    if first is None:
        return Layout(header=bool(top), skip_lines=_skip(lines, top[0].start if top else 0))
    begin = top[0].start if top else rows[first].start
    notes = _other_tables([row for row in rows if row.start < begin], width, {})
    notes = (*notes, *_other_tables(rows[first + 1 :], width, shaped, {tuple(row.fields) for row in top}))
    if not top:
        return Layout(header=False, skip_lines=_skip(lines, rows[first].start), notes=notes)
    body = [row for row in rows[first:] if row.filled]
    return _named(top, body, width, lines, notes)


def _width(rows: list[Row]) -> int:
    """Fields of the table's rows; where only the first row has the commonest number, that of the others."""
    filled = [row for row in rows if row.filled] or rows
    width = common_width(filled)
    others = filled[1:]
    alone = len(others) > 0 and all(len(row.fields) != width for row in others)
    return max(common_width(others), 1) if alone and _names_other_width(filled[0], common_width(others)) else width


def _named(top: list[Row], body: list[Row], width: int, lines: list[str], notes: tuple[str, ...]) -> Layout:
    """The layout of a table that has one or several header rows."""
    own = top[-1]
    if len(top) == 1 and len(own.fields) == width:
        skip, named = _skip(lines, own.start), [name for name in own.fields if name]
        if len(set(named)) == len(named):
            return Layout(True, skip, notes=notes)
        why = "the header has a name twice: later columns of that name get a number"
        return Layout(True, skip, repeated_names=True, notes=(why, *notes))
    whole = [row for row in body if len(row.fields) == width]
    if len(top) == 1 and len(own.fields) == width - 1 and not any(row.fields[-1] for row in whole):
        named, why = [name for name in own.fields if name], "a delimiter ends each row"
        skip, twice = _skip(lines, own.start), len(set(named)) < len(named)
        return Layout(True, skip, trailing_delimiter=True, repeated_names=twice, notes=(why, *notes))
    if len(top) > 1:
        names, why = joined_names([row.fields for row in top], width), f"{len(top)} header lines are joined to names"
    else:
        names, why = names_for(own.fields, [row.fields for row in whole], width)
    return Layout(False, own.stop, names=distinct_names(names), notes=(why, *notes))


def _shaped_columns(rows: list[Row], width: int) -> dict[int, Cell]:
    """Columns whose values are mostly numbers, or mostly times."""
    body = [row.fields for row in rows if len(row.fields) == width][:_SHAPE_ROWS]
    body = [fields for place, fields in enumerate(body) if not place or fields != body[0]]  # a header that stands again
    body = body[min(_MAX_HEADER_ROWS, len(body) // 2) :]
    found = {}
    for place in range(width):
        looks: Counter[Cell] = Counter(look for fields in body if (look := cell(fields[place])) is not Cell.EMPTY)
        for shape in SHAPED:
            if looks[shape] > _SHAPED_SHARE * looks.total():
                found[place] = shape
    return found


def _is_data(row: Row, shaped: dict[int, Cell]) -> bool | None:
    """Whether the shaped columns hold their shape in this row; None where they hold nothing."""
    looks = [(cell(row.fields[place]), shape) for place, shape in shaped.items()]
    held = [look in SHAPED for look, _ in looks if look is not Cell.EMPTY]
    return None if not held else sum(held) * 2 >= len(held)


def _header_and_first(rows: list[Row], width: int, shaped: dict[int, Cell]) -> tuple[list[Row], int | None]:
    """The header rows, and the index of the first data row."""
    before = next((i for i, row in enumerate(rows) if len(row.fields) == width), 0) - _TOP_ROWS
    if before > 0:  # other tables stand above
        top, first = _header_and_first(rows[before:], width, shaped)
        return top, None if first is None else first + before
    near = rows[: 2 * _TOP_ROWS]
    whole = [i for i, row in enumerate(near) if len(row.fields) == width and not _is_sparse(row, width)]
    if not whole:
        return [], next((i for i, row in enumerate(rows) if len(row.fields) == width), 0)
    first = whole[0]
    if not shaped:
        return _by_words(rows, width, first)
    while first < len(near) and not (len(near[first].fields) == width and _is_data(near[first], shaped)):
        first += 1
    if first == len(near) or sum(whole[0] <= place < first for place in whole) > _MOST_ROWS_ABOVE:
        return ([near[whole[0]]], None) if len(rows) == 1 else _by_words(rows, width, whole[0])
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
            if not top and _names_other_width(row, width):
                return [row]
            if not top and _is_broken_data(row):
                continue
            break
        if top and not _continues_upward(row, top[0], width, shaped):
            break
        top.insert(0, row)
    while len(top) > 1 and _is_sparse(top[0], width):
        top = top[1:]
    if len(top) == 1 and (top[0].filled == 1 < width - 1 or not _names_a_column(top[0], near[first:], shaped)):
        return []
    return top if len(top) <= _MAX_HEADER_ROWS else top[-1:]


def _names_a_column(row: Row, below: list[Row], shaped: dict[int, Cell]) -> bool:
    """Whether a row has text over a column of numbers or times, or nothing only over a first one that counts rows."""
    if any(cell(row.fields[place]) not in (*SHAPED, Cell.EMPTY) for place in shaped):
        return True
    return set(shaped) == {0} and bool(_by_words([row, *below], len(row.fields), 0)[0])


def _continues_upward(row: Row, below: Row, width: int, shaped: dict[int, Cell]) -> bool:
    """Whether a row of text above a header row belongs to the header: groups of columns, or names over units."""
    if _is_data(row, shaped):
        return False
    if row.fields == below.fields:
        return True
    named = sum(1 for place in shaped if row.fields[place].strip())
    return not _is_sparse(row, width) and (row.filled < width or named >= 2)


def _names_other_width(row: Row, width: int) -> bool:
    """Whether a row with more or fewer fields than the table can still hold its names."""
    looks = [cell(text) for text in row.fields if text.strip()]
    near = abs(len(row.fields) - width) <= max(1, width // 4)
    return near and len(looks) >= min(2, width - 1) and not any(look in SHAPED for look in looks)


def _is_broken_data(row: Row) -> bool:
    """Whether a row looks like one of the table with fields too few or too many, as after a stray quote."""
    return len(row.fields) > 1 and any(cell(text) in SHAPED for text in row.fields)


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


def _other_tables(
    rows: list[Row], width: int, shaped: dict[int, Cell], names: Set[tuple[str, ...]] = frozenset()
) -> tuple[str, ...]:
    """What stands above or below the table and may be another one."""
    other: list[Row] = []
    empty = False
    for row in rows:
        if tuple(row.fields) in names:
            return (f"line {row.start + 1} repeats the header: does the file hold several tables?",)
        if empty and len(row.fields) == width and _is_data(row, shaped) is False:
            return (f"line {row.start + 1} looks like the header of another table",)
        empty = not row.filled
        if len(row.fields) == width or len(row.fields) < 2 or not row.filled:
            other = []
            continue
        same = other and len(other[-1].fields) == len(row.fields)
        other = [*other, row] if same else [row]
        if len(other) == TABLE_ROWS:
            begin, fields = other[0].start + 1, len(row.fields)
            return (
                f"does the file hold two tables? from line {begin} on, rows have {fields} fields instead of {width}",
            )
    return ()


def _skip(lines: list[str], start: int) -> int:
    """Lines to skip; blank ones alone are skipped by the reader."""
    return start if any(line.strip() for line in lines[:start]) else 0

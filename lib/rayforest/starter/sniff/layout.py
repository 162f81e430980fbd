"""Where the table stands in a text file: what lies above it, its header lines, their names, what follows it.

A row below which the columns hold numbers or times, and that holds text itself, names the columns. Titles, blank lines
and rows of delimiters above it are none of the table.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Set
from dataclasses import dataclass, field

from rayforest.starter.sniff.cells import SHAPED, Cell, cell
from rayforest.starter.sniff.dialect import TABLE_ROWS, Row, common_width
from rayforest.starter.sniff.header import MAX_HEADER_ROWS, find_header, is_data, names_other_width
from rayforest.starter.sniff.names import distinct_names, joined_names, names_for

_SHAPED_SHARE = 0.8
"""Share of the values of a column that look alike, for the column to tell a header from a row."""
_SHAPE_ROWS = 100
_HABIT = 0.05
"""Share of rows above which a delimiter at their end is no accident."""


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
    top, first = find_header(rows, width, shaped)
    if first is None:
        return Layout(header=bool(top), skip_lines=_skip(lines, top[0].start if top else 0))
    begin = top[0].start if top else rows[first].start
    notes = _other_tables([row for row in rows if row.start < begin], width, {})
    notes = (*notes, *_other_tables(rows[first + 1 :], width, shaped, {tuple(row.fields) for row in top}))
    if not top:
        return Layout(header=False, skip_lines=_skip(lines, rows[first].start), notes=notes)
    body = [row for row in rows[first:] if row.filled]
    return _named(top, body, width, shaped, lines, notes)


def _width(rows: list[Row]) -> int:
    """Fields of the table's rows; where only the first row has the commonest number, that of the others."""
    filled = [row for row in rows if row.filled] or rows
    width = common_width(filled)
    others = filled[1:]
    alone = len(others) > 0 and all(len(row.fields) != width for row in others)
    return max(common_width(others), 1) if alone and names_other_width(filled[0], common_width(others)) else width


def _named(
    top: list[Row], body: list[Row], width: int, shaped: dict[int, Cell], lines: list[str], notes: tuple[str, ...]
) -> Layout:
    """The layout of a table that has one or several header rows."""
    own = top[-1]
    if len(top) == 1 and len(own.fields) == width:
        skip, named = _skip(lines, own.start), [name for name in own.fields if name]
        ends, twice = _some_end_in_a_delimiter(body, width, shaped), len(set(named)) < len(named)
        if ends:
            notes = ("a delimiter ends some rows: the empty field after it is none", *notes)
        if twice:
            notes = ("the header has a name twice: later columns of that name get a number", *notes)
        return Layout(True, skip, trailing_delimiter=ends, repeated_names=twice, notes=notes)
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


def _some_end_in_a_delimiter(body: list[Row], width: int, shaped: dict[int, Cell]) -> bool:
    """Whether the rows with a field more than the table are rows of it, and an empty field after them.

    A delimiter inside a value, where the last value is missing, gives such rows as well: only a last column of a shape,
    and the shape of all others, tell that nothing has moved.
    """
    longer = [row.fields for row in body if len(row.fields) == width + 1]
    if width - 1 not in shaped or len(longer) <= _HABIT * len(body):
        return False
    moved = any(cell(fields[place]) not in (shape, Cell.EMPTY) for fields in longer for place, shape in shaped.items())
    return not moved and not any(fields[-1] for fields in longer) and all(fields[-2].strip() for fields in longer)


def _shaped_columns(rows: list[Row], width: int) -> dict[int, Cell]:
    """Columns whose values are mostly numbers, or mostly times."""
    body = [row.fields for row in rows if len(row.fields) == width][:_SHAPE_ROWS]
    body = [fields for place, fields in enumerate(body) if not place or fields != body[0]]  # a header that stands again
    body = body[min(MAX_HEADER_ROWS, len(body) // 2) :]
    found = {}
    for place in range(width):
        looks: Counter[Cell] = Counter(look for fields in body if (look := cell(fields[place])) is not Cell.EMPTY)
        for shape in SHAPED:
            if looks[shape] > _SHAPED_SHARE * looks.total():
                found[place] = shape
    return found


def _other_tables(
    rows: list[Row], width: int, shaped: dict[int, Cell], names: Set[tuple[str, ...]] = frozenset()
) -> tuple[str, ...]:
    """What stands above or below the table and may be another one."""
    other: list[Row] = []
    empty = False
    for row in rows:
        if tuple(row.fields) in names:
            return (f"line {row.start + 1} repeats the header: does the file hold several tables?",)
        if empty and len(row.fields) == width and is_data(row, shaped) is False:
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

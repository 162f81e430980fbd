"""Names of columns where the header cannot be taken as it stands."""

from __future__ import annotations

import re
from collections.abc import Sequence

_RULE = re.compile(r"\s*:?(-{2,}|={2,}|_{2,}):?\s*")
"""Drawn below the names, as in Markdown."""


def joined_names(rows: Sequence[Sequence[str]], width: int) -> list[str]:
    """Names of several header lines: a group's name holds for the nameless columns at its right."""
    spread: list[list[str]] = []
    for number, row in enumerate(rows):
        fields = ["" if _RULE.fullmatch(field) else field.strip() for field in row]
        if number < len(rows) - 1:
            for place in range(1, width):
                named = any(below[place].strip() and not _RULE.fullmatch(below[place]) for below in rows[number + 1 :])
                fields[place] = fields[place] or (fields[place - 1] if named else "")
        spread.append(fields)
    return [" ".join(row[place] for row in spread if row[place]) for place in range(width)]


def names_for(header: Sequence[str], body: Sequence[Sequence[str]], width: int) -> tuple[list[str], str]:
    """Names for `width` columns from a header of another width, and what was done."""
    names = [name.strip() for name in header]
    more = len(names) - width
    if more > 0:
        if names.count("") >= more:
            for _ in range(more):
                names.remove("")
            return names, f"the header has {more} more fields than the rows: its nameless ones are left out"
        return names[:width], f"the header has {more} more names than the rows have fields: the last are left out"
    if more == -1 and _is_row_name([fields[0] for fields in body]):
        return ["row", *names], 'the header names no first column: a guess that it names rows, here "row"'
    return [*names, *[""] * -more], f"the header has {-more} names less than the rows have fields: a guess at which"


def distinct_names(names: Sequence[str]) -> tuple[str, ...]:
    """No name twice: x, x_2, x_3; a nameless column gets its position."""
    taken = {name for name in names if name}
    found: list[str] = []
    for place, name in enumerate(names, 1):
        own, number = name or f"c{place}", 2
        while own in found or (own != name and own in taken):
            own, number = f"{name or f'c{place}'}_{number}", number + 1
        found.append(own)
    return tuple(found)


def _is_row_name(values: Sequence[str]) -> bool:
    """Whether a first column counts or names the rows, as R writes it without a name."""
    if len(set(values)) < len(values):
        return False
    return (all(value.strip() for value in values) and values[0].strip() in ("0", "1")) or _counts(values)


def _counts(values: Sequence[str]) -> bool:
    return all(value.strip().isdigit() for value in values)

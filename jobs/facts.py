"""Facts as text for people: nested names are indented, lists are words with commas, records of one kind are a table."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping, Sequence

_NAME_WIDTH = 22
_SHORT = 6
"""Entries of a mapping that fit into a cell of a table."""
_NAMES = {"plan_keys": "versions"}
"""Names of the JSON object that mean little to people."""


def fact_lines(facts: Mapping[str, object], indent: str = "") -> Iterator[str]:
    """The lines that show facts; empty ones are left out."""
    for name, value in facts.items():
        title = f"{indent}{_NAMES.get(name, name)}"
        records = _records(value)
        if records is not None:
            yield title
            yield from (f"{indent}  {line}" for line in _table(records))
        elif isinstance(value, Mapping):
            if value:
                yield title
                yield from fact_lines(value, indent + "  ")
        elif not isinstance(value, list | tuple) or value:
            yield f"{_padded(title, _NAME_WIDTH + len(indent))} {_text(value)}"


def _records(value: object) -> list[tuple[str, Mapping[str, object]]] | None:
    """Two or more flat records under names, or in a list, that share their fields."""
    if isinstance(value, Mapping):
        named = [(str(name), record) for name, record in value.items()]
    elif isinstance(value, list | tuple):
        named = [("", record) for record in value]
    else:
        return None
    if len(named) < 2 or not all(isinstance(record, Mapping) and record for _, record in named):
        return None
    flat = all(_is_short(field) for _, record in named for field in record.values())
    fields = [set(record) for _, record in named]
    return named if flat and any(one == set().union(*fields) for one in fields) else None


def _is_short(value: object) -> bool:
    if isinstance(value, Mapping):
        return len(value) <= _SHORT and not any(isinstance(inner, Mapping | list | tuple) for inner in value.values())
    return not isinstance(value, list | tuple)


def _table(records: Sequence[tuple[str, Mapping[str, object]]]) -> Iterator[str]:
    fields = list(dict.fromkeys(field for _, record in records for field in record))
    rows = [[name, *(_text(record.get(field)) for field in fields)] for name, record in records]
    rows.insert(0, ["", *fields])
    widths = [max(_width(row[place]) for row in rows) for place in range(len(fields) + 1)]
    for name, *cells in rows:
        line = [_padded(name, widths[0])] if widths[0] else []
        line += [_padded(cell, -width) for cell, width in zip(cells, widths[1:], strict=True)]
        yield "  ".join(line).rstrip()


def _text(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_text(inner)}" for name, inner in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_text, value))
    if isinstance(value, bool) or value is None:
        return {None: "-", True: "yes", False: "no"}[value]
    if isinstance(value, int | float):
        return f"{value:,}" if isinstance(value, int) else f"{value:.6g}"
    return str(value)


def _padded(text: str, width: int) -> str:
    """Text in a column; of negative width: at its right end."""
    blanks = " " * (abs(width) - _width(text))
    return blanks + text if width < 0 else text + blanks


def _width(text: str) -> int:
    """Places that a text takes on a terminal."""
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)

"""What is wrong with a project file, in the file's own terms: pydantic speaks of Python, a user reads TOML."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Sequence
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from rayforest.errors import ConfigError, did_you_mean

KeyPath = tuple[str, ...]

_EXPECTED = {
    "bool_type": "true or false",
    "dict_type": "a table",
    "finite_number": "a finite number",
    "float_type": "a number",
    "greater_than": "a number above {gt:g}",
    "greater_than_equal": "at least {ge:g}",
    "int_from_float": "a whole number",
    "int_type": "a whole number",
    "less_than": "a number below {lt:g}",
    "less_than_equal": "at most {le:g}",
    "model_type": "a table",
    "string_type": "a text in quotes",
    "tuple_type": "a list",
}
"""By pydantic's name of the error; its own text stands for the others, which our validators word."""


def explain(
    error: ValidationError,
    table: dict[str, Any],
    text: str,
    subject: str,
    given: Sequence[KeyPath],
    names_at: Callable[[KeyPath], list[str]],
) -> ConfigError:
    """The first thing that is wrong, as an error of ours.

    Args:
        error: what validation raised.
        table: the parsed file, after `--set`.
        text: the file.
        subject: its name.
        given: keys that `--set` gave, which are not the file's fault.
        names_at: the keys that the table at a path may have.
    """
    errors = error.errors(include_url=False)
    paths = [_toml_path(e["loc"], table) for e in errors]
    path = paths[0]
    key, line = ".".join(path), _line_of(text, path)
    setting = next((one for one in given if path[: len(one)] == one or one[: len(path)] == path), None)
    where = f"--set {'.'.join(setting)}" if setting else f"{subject}, line {line}" if line else subject
    more = len({*paths} - {path})
    tail = f" (and {more} more after this one)" if more else ""
    first = errors[0]
    if first["type"] == "extra_forbidden":
        valid = names_at(path[:-1])
        return ConfigError(
            f"{where}: unknown key {key!r}{tail}",
            expected=f"one of {', '.join(valid)}",
            next_step=did_you_mean(path[-1], valid),
        )
    if first["type"] == "missing":
        what, table_name = (key, ".".join(path[:-1])) if len(path) > 1 else (f"[{key}]", "")
        return ConfigError(
            f"{where}: {what} is missing{tail}",
            next_step=f"add {path[-1]} = ... to [{table_name}]" if table_name else f"add a table {what}",
        )
    value = first["input"]
    if first["type"] in ("enum", "literal_error"):
        options = re.findall(r"'([^']+)'", first["msg"])
        return ConfigError(
            f"{where}: {key} is not valid{tail}",
            expected="one of " + ", ".join(repr(o) for o in options),
            found=_shown(value),
            next_step=did_you_mean(value, options) if isinstance(value, str) else "write one of them, in quotes",
        )
    return ConfigError(
        f"{where}: {key} is not valid{tail}",
        expected=_expected([e for e, p in zip(errors, paths, strict=True) if p == path]),
        found=_shown(value),
    )


def _expected(errors: Sequence[ErrorDetails]) -> str:
    """What each branch of a union would have taken."""
    wanted = dict.fromkeys(
        _EXPECTED[e["type"]].format(**e.get("ctx", {}))
        if e["type"] in _EXPECTED
        else e["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
        for e in errors
    )
    if "a number" in wanted:
        wanted.pop("a whole number", None)
    return " or ".join(wanted)


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float | str):
        return repr(value)
    if isinstance(value, dt.date | dt.time):
        return f"{value} without quotes"
    return "" if isinstance(value, dict) else "a list"  # a table's own keys are named instead


def _toml_path(loc: tuple[int | str, ...], table: dict[str, Any]) -> KeyPath:
    """The part of pydantic's location that names keys of the file (it also names union members and list places)."""
    path: list[str] = []
    node: Any = table
    for index, part in enumerate(loc):
        if part == "expressions" or str(part).startswith("<"):  # [features] holds its names directly; a union's member
            continue
        last = index == len(loc) - 1
        if isinstance(node, dict) and (part in node or last) and isinstance(part, str):
            path.append(part)
            node = node.get(part)
    return tuple(path) or tuple(str(p) for p in loc[:1])


def _line_of(text: str, path: KeyPath) -> int | None:
    """Line of a key in TOML text, found by its table header and its name."""
    table, best = "", None
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if header := re.match(r"\[+\s*([^\]]+?)\s*\]+", stripped):
            table = header.group(1).replace('"', "")
            if table == ".".join(path):
                return number
            continue
        name = stripped.partition("=")[0].strip().strip('"')
        full = f"{table}.{name}" if table else name
        for depth in range(len(path), 0, -1):
            if full == ".".join(path[:depth]) and "=" in stripped:
                if depth == len(path):
                    return number
                best = best or number
    return best

"""Pieces of TOML as text for a person: keys and strings quoted only where they must be, comments in a column."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable


def toml_line(text: str, comment: str = "") -> str:
    """A line, with its comment in a column of its own."""
    return f"{text:<40}  # {one_line(comment)}" if comment else text


def toml_key(name: str) -> str:
    """A bare key where TOML allows it."""
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _quoted(name)


def toml_string(value: str) -> str:
    """A string without variables of the environment (see variables.py), in single quotes where that saves escapes."""
    return _quoted(re.sub(r"(?<!\$)\$\{", "$${", value))


def _quoted(value: str) -> str:
    if '"' in value and "'" not in value and value.isprintable():
        return f"'{value}'"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def toml_list(values: Iterable[str]) -> str:
    """A list of strings."""
    return "[" + ", ".join(map(toml_string, values)) + "]"


def one_line(text: str) -> str:
    """Text that may stand in a comment."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())

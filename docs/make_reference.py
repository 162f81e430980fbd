"""Write docs/reference/project-file.md from the models that read the project file."""

from __future__ import annotations

import ast
import inspect
import re
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from rayforest.project import sections as models

PAGE = Path(__file__).parent / "reference" / "project-file.md"
HEAD = """# The project file

Written from the models that read the file (`python docs/make_reference.py`); do not edit.

TOML. Paths are relative to the file. `--set section.key=value` overrides a key for one run. An unknown key, a wrong
type or a column that does not exist is refused with its line and the nearest valid name.
"""
_INNER = {"data": {"source": models.TableSection, "format": models.FormatSection, "columns.NAME": models.ColumnSection}}
"""Tables inside a table that have keys of their own."""


def reference() -> str:
    """The page's text."""
    parts = [HEAD]
    for name, field in models.Project.model_fields.items():
        section = field.annotation
        if isinstance(section, type) and issubclass(section, BaseModel):
            parts.append(_table(name, section))
            parts += [_table(f"{name}.{inner}", model) for inner, model in _INNER.get(name, {}).items()]
    return "\n".join(parts)


def _table(name: str, section: type[BaseModel]) -> str:
    told = _docstrings(section)
    lines = [
        f"## [{name}]",
        "",
        inspect.cleandoc(section.__doc__ or ""),
        "",
        "| key | type | default | |",
        "|---|---|---|---|",
    ]
    for key, field in section.model_fields.items():
        shown = "NAME" if key == "expressions" else key
        kind = "SQL" if key == "expressions" else _kind(section, key)
        lines.append(f"| `{shown}` | {kind} | {_default(field)} | {_one_line(told.get(key, ''))} |")
    return "\n".join([*lines, ""])


def _docstrings(section: type[BaseModel]) -> dict[str, str]:
    """The text under each field, of the class and of those that it inherits from."""
    told: dict[str, str] = {}
    for owner in reversed(section.__mro__):
        if owner.__module__ != models.__name__:
            continue
        statements = next(n for n in ast.parse(inspect.getsource(owner)).body if isinstance(n, ast.ClassDef)).body
        for before, after in pairwise(statements):
            if (
                isinstance(before, ast.AnnAssign)
                and isinstance(after, ast.Expr)
                and isinstance(before.target, ast.Name)
            ):
                text = ast.literal_eval(after.value)
                told[before.target.id] = inspect.cleandoc(text)
    return told


def _kind(section: type[BaseModel], key: str) -> str:
    """The type in a reader's words, from the annotation as it is written."""
    owner = next(c for c in section.__mro__ if key in inspect.get_annotations(c))
    text = str(inspect.get_annotations(owner)[key])
    if choices := _choices(section.model_fields[key].annotation):
        number = " or whole number" if re.search(r"\bint\b", text) else ""
        return ("one of " if len(choices) > 1 else "") + " ".join(f"`{choice}`" for choice in choices) + number
    words = (
        ("Shares", "three shares"),
        ("Source", "text, list or table"),
        ("Names|tuple", "text or list"),
        ("dict", "table"),
        ("Bool", "true or false"),
        ("Scalar", "value"),
        ("Float|float|Bound", "number"),
        (r"\bint|Int", "whole number"),
        ("Section|Format|Column", "table or text"),
        ("Kind", "kind"),
    )
    return next((word for pattern, word in words if re.search(pattern, text)), "text")


def _choices(annotation: Any) -> list[str]:
    """The texts of a named Literal."""
    found = [a for a in get_args(annotation) if isinstance(a, str)]
    return found or [a for inner in get_args(annotation) for a in _choices(inner)]


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if value is None or value in ((), {}) or isinstance(value, BaseModel):
        return ""
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _one_line(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(reference(), encoding="utf-8")
    sys.stdout.write(f"{PAGE}\n")

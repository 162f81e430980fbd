"""Environment variables in a project file: `${NAME}` and `${NAME:-default}` in every text, `$NAME` in paths.

A dollar sign is never taken literally in silence where it may have been meant: a variable that is not set, or a form
that is not known, is refused. `$$` is the sign itself, in paths; elsewhere, such as in SQL, only `$${` needs it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Any

from rayforest.engine.stores.object_uri import refuse_credentials
from rayforest.errors import ConfigError

Key = tuple[str, ...]

_PATHS: tuple[Key, ...] = (
    ("project", "root"),
    ("data", "source"),
    ("score", "source"),
    ("score", "destination"),
)
_NAME = r"[A-Za-z_][A-Za-z0-9_]*"
_BRACED = rf"\$\{{(?P<braced>{_NAME})(?::-(?P<default>[^{{}}$]*))?\}}"
_IN_TEXT = re.compile(rf"(?P<escaped>\$\$(?=\{{))|{_BRACED}|(?P<unknown>\$\{{[^}}]*\}}?)")
_IN_PATH = re.compile(rf"(?P<escaped>\$\$)|{_BRACED}|\$(?P<bare>{_NAME})|(?P<unknown>\$\{{[^}}]*\}}?|\$.?)", re.DOTALL)


def expand(value: Any, key: Key = ()) -> Any:
    """A parsed project file with its variables replaced.

    Raises:
        ConfigError: a variable is not set, a form is not known, or a URI holds credentials.
    """
    if isinstance(value, dict):
        return {name: expand(inner, (*key, name)) for name, inner in value.items()}
    if isinstance(value, list):
        return [expand(inner, key) for inner in value]
    if not isinstance(value, str):
        return value
    expanded = _pattern(key).sub(lambda match: _replacement(match, key), value)
    if _is_path(key) and expanded.startswith("~") and os.path.expanduser(expanded) == expanded:  # noqa: PTH111
        raise ConfigError(
            f"{'.'.join(key)} begins with {expanded.partition('/')[0]}, which is no user's home here",
            expected="~ for your own home, or the name of a user of this machine after it",
            next_step="write the path in full, or ./~ for a folder of that name",
        )
    if _is_path(key):
        refuse_credentials(expanded)
    return expanded


def names(value: Any, key: Key = ()) -> Iterator[str]:
    """The variables that a parsed project file uses."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from names(inner, (*key, name))
    elif isinstance(value, list):
        for inner in value:
            yield from names(inner, key)
    elif isinstance(value, str):
        for match in _pattern(key).finditer(value):
            if name := _name(match):
                yield name


def literal_path(path: str) -> str:
    """A path as a project file writes it, so that it means nothing else."""
    return ("./" if path.startswith("~") else "") + path.replace("$", "$$")


def _is_path(key: Key) -> bool:
    return any(key[: len(path)] == path for path in _PATHS)


def _pattern(key: Key) -> re.Pattern[str]:
    return _IN_PATH if _is_path(key) else _IN_TEXT


def _name(match: re.Match[str]) -> str | None:
    found = match.groupdict()
    return found["braced"] or found.get("bare")


def _replacement(match: re.Match[str], key: Key) -> str:
    if match["escaped"]:
        return "$"
    where, name = ".".join(key), _name(match)
    if name is None:
        sign = "$$" if _is_path(key) else "$${"
        raise ConfigError(
            f"{where} has {match[0]!r}, which is no variable",
            expected="${NAME} or ${NAME:-default}" + (" or $NAME" if _is_path(key) else ""),
            next_step=f"write {sign} for the character{'s' * (sign != '$$')} itself",
        )
    value, default = os.environ.get(name), match["default"]
    if default is not None:
        return value or default
    if value is None:
        raise ConfigError(
            f"{where} uses ${{{name}}}, which is not set",
            expected=f"the environment variable {name}",
            next_step=f"export {name}=..., or give a default: ${{{name}:-...}}",
        )
    return value

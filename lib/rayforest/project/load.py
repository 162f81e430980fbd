"""From a project file to its validated models.

Order of reading: TOML text, `--set` overrides, `${VAR}` expansion, validation. Every error names the key, its line
where there is one, and the nearest valid name.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from rayforest.errors import ConfigError, did_you_mean, path_text
from rayforest.project.sections import ColumnSection, FormatSection, Project, Shares, TableSection
from rayforest.project.variables import Key, expand, names

ProjectLike = Project | str | Path
"""A validated project, or the path of a project file."""

_NOT_IN_THE_FILE = {name for name, field in Project.model_fields.items() if field.exclude}


def load_project(path: str | Path, overrides: Sequence[str] = ()) -> Project:
    """Read and validate a project file.

    Args:
        path: the TOML file.
        overrides: `section.key=value` texts, as for --set; a value is read as TOML, else taken as text.

    Raises:
        ConfigError: the file is missing or not TOML, a key is unknown, a value is wrong, a variable is not set.
    """
    overrides = _override_texts(overrides)
    file = Path(path_text(path, "there is no project", "the path of a project file, or a Project from load_project"))
    text = read_toml(file, "project file", "write one with: rayforest init DATA... > project.toml")
    table, given = parse_toml(text, f"project file {file}", overrides)
    return _validate(expand(table), base=file.absolute().parent, subject=str(file), text=text, given=given)


def loaded_project(project: Project | str | Path, overrides: Sequence[str] = ()) -> Project:
    """A project from its file, or one that was loaded before.

    Raises:
        ConfigError: as `load_project`; or overrides came with a project that is validated already.
    """
    if not isinstance(project, Project):
        return load_project(project, overrides)
    if texts := _override_texts(overrides):
        raise ConfigError(
            "overrides cannot change a project that is loaded",
            expected="the path of a project file, with overrides",
            found=f"a Project, with {', '.join(texts)}",
            next_step="give them earlier: load_project(path, overrides)",
        )
    return project


def used_variables(path: str | Path, overrides: Sequence[str] = ()) -> list[str]:
    """Names of the environment variables that a project file, which `load_project` has taken, and overrides use."""
    table, _ = parse_toml(Path(path).read_text(encoding="utf-8-sig"), str(path), overrides)
    return sorted(set(names(table)))


def read_toml(file: Path, what: str, if_absent: str) -> str:
    """The text of a TOML file.

    Args:
        file: its path.
        what: the kind of file, for errors.
        if_absent: the next step where it does not exist.

    Raises:
        ConfigError: it cannot be read.
    """
    try:
        return file.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(f"{what} {file} does not exist", expected="a TOML file", next_step=if_absent) from None
    except IsADirectoryError:
        found = sorted(file.glob("*.toml"))
        raise ConfigError(
            f"{what} {file} cannot be read",
            expected="a TOML file",
            found="a folder",
            next_step=f"name the file in it, such as {found[0]}" if found else f"name the {what}",
        ) from None
    except OSError as error:
        raise ConfigError(
            f"{what} {file} cannot be read",
            expected="a TOML file",
            found=(error.strerror or "").lower(),
            next_step="check its path and permissions",
        ) from None
    except UnicodeDecodeError:
        raise ConfigError(
            f"{what} {file} cannot be read",
            expected="a TOML file in UTF-8",
            found="bytes that are not UTF-8",
            next_step="save it in UTF-8",
        ) from None


def _override_texts(overrides: object) -> tuple[str, ...]:
    given = (overrides,) if isinstance(overrides, str) else overrides
    if not isinstance(given, Sequence) or not all(isinstance(text, str) for text in given):
        raise ConfigError(
            "overrides are not understood",
            expected="texts of section.key=value",
            found="None" if given is None else f"a value of the type {type(given).__name__}",
            next_step='for example overrides=["run.workers=2"]',
        )
    return tuple(given)


def parse_toml(text: str, subject: str, overrides: Sequence[str]) -> tuple[dict[str, Any], tuple[Key, ...]]:
    """The table of a TOML file with `section.key=value` overrides, and the keys that these gave.

    Raises:
        ConfigError: it is not TOML, or an override is not understood.
    """
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(
            f"{subject} is not valid TOML",
            found=str(error),
            next_step="mend that line; texts stand in quotes",
        ) from None
    return table, tuple(_apply(table, override) for override in overrides)


def _apply(table: dict[str, Any], override: str) -> Key:
    key, equals, value = override.partition("=")
    try:
        path = _key_path(tomllib.loads(f"{key.strip()} = 0"))
    except tomllib.TOMLDecodeError:
        path = ()
    if not equals or len(path) < 2:
        raise ConfigError(
            f"--set {override!r} is not understood",
            expected="section.key=value",
            next_step="for example --set run.workers=2",
        )
    try:
        parsed = tomllib.loads(f"value = {value.strip()}")["value"]
    except tomllib.TOMLDecodeError:
        parsed = value.strip()
    at = table
    for depth, part in enumerate(path[:-1], 1):
        inner = at.get(part)
        if isinstance(inner, str) and (part == "format" or path[:2] == ("data", "columns")):  # the short form
            inner = {"type": inner}
        if inner is not None and not isinstance(inner, dict):
            raise ConfigError(
                f"--set {override!r}: {part} is a value, not a table",
                expected="the name of a table",
                next_step=f"replace the value itself: --set {'.'.join(path[:depth])}=...",
            )
        at[part] = inner if inner is not None else {}
        at = at[part]
    at[path[-1]] = parsed
    return path


def _key_path(table: dict[str, Any]) -> tuple[str, ...]:
    path: tuple[str, ...] = ()
    node: Any = table
    while isinstance(node, dict):
        (name, node), *_ = node.items()
        path += (name,)
    return path


def _validate(table: dict[str, Any], *, base: Path, subject: str, text: str, given: tuple[Key, ...] = ()) -> Project:
    for key in _NOT_IN_THE_FILE & table.keys():
        raise ConfigError(f"{subject}: unknown key {key!r}", next_step=did_you_mean(key, _names(Project)))
    try:
        return Project.model_validate(table).model_copy(update={"base": base, "overridden": given})
    except ValidationError as error:
        from rayforest.project.explain import explain

        raise explain(error, table, text, subject, given, names_at=lambda path: _names(_model_at(path))) from None


def _names(model: type[BaseModel]) -> list[str]:
    return [name for name in model.model_fields if name not in _NOT_IN_THE_FILE | {"expressions"}]


def _model_at(path: tuple[str, ...]) -> type[BaseModel]:
    if len(path) >= 2 and path[1] == "columns":
        return ColumnSection
    if len(path) >= 2 and path[1] == "format":
        return FormatSection
    if len(path) >= 2 and path[1] == "source":
        return TableSection
    if len(path) >= 2 and path[1] == "shares":
        return Shares
    annotation = Project.model_fields[path[0]].annotation if path and path[0] in Project.model_fields else Project
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else Project

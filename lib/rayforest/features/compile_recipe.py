"""From a project file to the recipe that it states for a table, or to what is wrong in it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from rayforest.errors import ConfigError, did_you_mean
from rayforest.features.contract import ColumnContract, Contract
from rayforest.features.recipe import SPLIT_COLUMN, TARGET_COLUMN, Recipe
from rayforest.kinds import Kind
from rayforest.project.sections import CLASS_METRICS, Project
from rayforest.sql import Expression, names_in, parse
from rayforest.sql.nodes import Column
from rayforest.tables.schema import TableSchema

_FLOATING = ("double", "float", "halffloat")


def compile_recipe(project: Project, table: TableSchema) -> Recipe:
    """The recipe that a project file states for a table.

    Args:
        project: the validated project file.
        table: the columns of the raw tables.

    Raises:
        ConfigError: a column does not exist, an expression does not parse, a feature is of a kind that no model takes.
        InputError: a file lacks a column that the project uses, or has it twice.
    """
    data, found = project.data, table.kinds
    _refuse_unread(project, table.unread)
    declared = {name: section.type for name, section in data.columns.items()}
    for name in declared:
        _must_exist(name, found, f"data.columns.{name}")
    kinds: dict[str, Kind] = {**found, **declared}
    carried = () if project.score.source else project.score.carry  # another source may have other columns
    for where, names in (("data.key", data.key), ("split.key", project.split.key), ("score.carry", carried)):
        for name in names:
            _must_exist(name, found, where)
    if project.split.by == "time" and data.time is None:
        raise ConfigError(
            'split.by = "time" needs a time', expected="time in [data]", next_step="add it, or split by hash"
        )
    target = _sql(data.target, kinds)
    time = _sql(data.time, kinds)
    rules = tuple(data.rules.items())
    used: set[str] = set(declared) | set(data.key) | set(project.split.key)
    for name, sql in rules:
        rule = parse(sql, kinds, where=f"data.rules.{name}")
        if rule.kind is not Kind.BOOLEAN:
            raise ConfigError(
                f"data.rules.{name} is a {rule.kind}",
                expected="a condition, such as amount >= 0",
                next_step="write SQL that is true for the rows to keep",
            )
        used.update(rule.columns)
    off_limits = set(data.key)
    for where, optional in (("data.target", target), ("data.time", time)):
        if optional is not None:
            expression = parse(optional, kinds, where=where)
            used.update(expression.columns)
            off_limits.update(expression.columns)
            if where == "data.time" and expression.kind not in (Kind.NUMBER, Kind.TIMESTAMP):
                raise ConfigError(
                    f"data.time is a {expression.kind}",
                    expected="a number or a timestamp",
                    next_step='say in [data.columns] that its column is a "timestamp" or a "number", as text of files '
                    "and folders has no other type; or give SQL over it",
                )
            if where == "data.target":
                _check_target(expression, data.positive)
    features = tuple(project.features.expressions.items()) or _default_features(
        table, kinds, off_limits | set(project.split.key)
    )
    categorical = _check_features(features, project, kinds, used)
    table.require([*sorted(used), *carried])
    columns = tuple(
        ColumnContract.of(name, data.columns[name], required=name in data.key)
        if name in data.columns
        else ColumnContract(name, kinds[name], required=name in data.key)
        for name in sorted(used)
    )
    for column in columns:
        column.check_bounds()
    counted = _columns_of_classes(features, categorical, target, project, kinds)
    return Recipe(
        contract=Contract(tuple(replace(c, exact=c.name in counted) for c in columns), rules),
        key=data.key,
        target=target,
        positive=data.positive,
        time=time,
        features=features,
        categorical=categorical,
        unseen=project.features.unseen,
        double_labels=target is not None and _is_stored_as_double(table, parse(target, kinds, where="data.target")),
    )


def _is_stored_as_double(table: TableSchema, target: Expression) -> bool:
    """Whether the target is a column that all files store as floating point numbers."""
    if not isinstance(target.root, Column):
        return False
    stored = [variant.by_name[target.root.name] for variant in table.variants]
    return all(column.stored in _FLOATING and not column.is_text for column in stored)


def _check_target(target: Expression, positive: bool | float | str | None) -> None:
    if target.kind is Kind.TIMESTAMP:
        raise ConfigError(
            "data.target is a timestamp",
            expected="a number, a boolean or a label",
            next_step="give SQL over it, such as EXTRACT(YEAR FROM due)",
        )
    fits = {
        Kind.STRING: True,  # compared as text
        Kind.BOOLEAN: isinstance(positive, bool),
        Kind.NUMBER: isinstance(positive, int | float) and not isinstance(positive, bool),
    }
    if positive is not None and not fits[target.kind]:
        raise ConfigError(
            f"data.positive = {positive!r} never equals the target, which is a {target.kind}",
            expected={Kind.BOOLEAN: "true or false"}.get(target.kind, f"a {target.kind}"),
            next_step="write the label as the data has it, or leave positive out",
        )


def _check_features(
    features: tuple[tuple[str, str], ...], project: Project, kinds: Mapping[str, Kind], used: set[str]
) -> tuple[str, ...]:
    """Parse each feature, add its columns to `used`, and say which features are categories."""
    reserved = {SPLIT_COLUMN, TARGET_COLUMN}
    names = [name for name, _ in features]
    for name in project.features.categorical:
        if name not in names:
            raise ConfigError(
                f"features.categorical names {name!r}, which is no feature", next_step=did_you_mean(name, names)
            )
    categorical, constant = list[str](), True
    for name, sql in features:
        if name in reserved:
            raise ConfigError(
                f"features.{name}: this name is taken by the target or the split",
                expected="another name",
                next_step=f'for example {name}_feature = "{sql}"' if '"' not in sql else "rename the feature",
            )
        expression = parse(sql, kinds, where=f"features.{name}")
        used.update(expression.columns)
        constant = constant and not expression.columns
        if expression.kind is Kind.TIMESTAMP:
            raise ConfigError(
                f"features.{name} is a timestamp",
                expected="a number, a boolean or a category",
                next_step=f"use a part of it, EXTRACT(HOUR FROM ...), or a difference of two timestamps in {name}",
            )
        if expression.kind is Kind.STRING or name in project.features.categorical:
            categorical.append(name)
    if constant:
        raise ConfigError(
            "no feature depends on a column, so every row would be the same to the model",
            expected="features over the raw columns",
            found=", ".join(names),
            next_step="name columns in [features], or leave the table out to take every one",
        )
    return tuple(categorical)


def _columns_of_classes(
    features: tuple[tuple[str, str], ...],
    categorical: tuple[str, ...],
    target: str | None,
    project: Project,
    kinds: Mapping[str, Kind],
) -> set[str]:
    """Columns of numbers of which each stands for something of its own: categories and labels, not quantities."""
    expressions = [parse(sql, kinds, where=f"features.{name}") for name, sql in features if name in categorical]
    if target is not None and (project.data.positive is not None or project.tune.metric in CLASS_METRICS):
        expressions.append(parse(target, kinds, where="data.target"))
    return {name for expression in expressions for name in expression.columns if kinds[name] is Kind.NUMBER}


def _default_features(
    table: TableSchema, kinds: Mapping[str, Kind], off_limits: set[str]
) -> tuple[tuple[str, str], ...]:
    """Every column of the first file that can be one; a name that prepared tables need is preceded by `raw.`."""
    names = [n for n in table.leading if n not in off_limits and kinds[n] is not Kind.TIMESTAMP]
    if not names:
        shown = [f"{name} ({kind})" for name, kind in kinds.items()] + [
            f"{name} (left out: {why})" for name, why in table.unread.items()
        ]
        raise ConfigError(
            "no column is left to be a feature",
            expected="columns of numbers, booleans or text beside key, target and time",
            found=", ".join(shown[:8]) or "none that can be read",
            next_step="compute features in [features]" if kinds else "check that this is the right table",
        )
    return tuple((f"raw.{name}" if name in (SPLIT_COLUMN, TARGET_COLUMN) else name, quoted(name)) for name in names)


def quoted(column: str) -> str:
    """A column name as SQL."""
    return '"' + column.replace('"', '""') + '"'


def _sql(text: str | None, kinds: Mapping[str, Kind]) -> str | None:
    """A column name, or SQL as it is."""
    return quoted(text) if text is not None and text in kinds else text


def _must_exist(name: str, found: Mapping[str, Kind], where: str) -> None:
    if name not in found:
        raise ConfigError(f"{where}: the data has no column {name!r}", next_step=did_you_mean(name, found))


def _refuse_unread(project: Project, unread: Mapping[str, str]) -> None:
    """Say why a column cannot be used, rather than that there is none of that name."""
    if not unread:
        return
    data = project.data
    used: dict[str, Iterable[str]] = {
        **{f"data.columns.{name}": (name,) for name in data.columns},
        "data.key": data.key,
        "split.key": project.split.key,
        "score.carry": () if project.score.source else project.score.carry,
    }
    texts = {"data.target": data.target, "data.time": data.time}
    texts |= {f"data.rules.{name}": sql for name, sql in data.rules.items()}
    texts |= {f"features.{name}": sql for name, sql in project.features.expressions.items()}
    used |= {
        where: (sql,) if sql in unread else names_in(sql, unread) for where, sql in texts.items() if sql is not None
    }
    for where, names in used.items():
        for name in names:
            if name in unread:
                raise ConfigError(
                    f"{where}: column {name!r} cannot be used, because {unread[name]}",
                    expected="numbers, booleans, text, dates or timestamps",
                    next_step="store it as one of these, or leave it out",
                )

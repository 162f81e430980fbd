"""[features] of a starter file: a line for each column, those that should be none as comments with the reason."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from rayforest.kinds import Kind
from rayforest.starter.likely_roles import looks_like_code, reason_against_feature
from rayforest.starter.look import ColumnLook, TableLook
from rayforest.starter.roles import Roles
from rayforest.starter.toml_text import toml_key, toml_line, toml_list, toml_string

_NOT_FEATURE_NAMES = ("split", "target", "categorical", "unseen")
"""Columns of prepared shards, and keys of [features]."""
_OUTPUTS = ("raw_score", "probability", "prediction")
"""Names that the model's graph gives its outputs, so that none of its inputs may have them."""


@dataclass(frozen=True)
class _Feature:
    name: str
    sql: str
    column: ColumnLook
    note: str = ""
    against: str = ""
    """Why it stands in a comment."""

    @property
    def line(self) -> str:
        text = f"{toml_key(self.name)} = {toml_string(self.sql)}"
        return toml_line(f"# {text}", self.against) if self.against else toml_line(text, self.note)


def features_section(look: TableLook, roles: Roles) -> list[str]:
    """[features], with one feature at least."""
    features = _with_one(list(_features(look, roles)))
    lines = ["[features]", "# name = SQL over the raw columns; a text is a category", *(f.line for f in features)]
    codes = [f.name for f in features if not f.against and looks_like_code(f.column)]
    if codes:
        lines.append(toml_line(f"# categorical = {toml_list(codes)}", "few whole numbers: codes, or quantities?"))
    return lines


def _with_one(features: list[_Feature]) -> list[_Feature]:
    """Where nothing seems to be worth a feature, the best of what there is: a file without one is refused."""
    if any(not feature.against for feature in features):
        return features
    place = max(
        range(len(features)), key=lambda i: (features[i].column.distinct > 1, features[i].column.values.present)
    )
    note = f"the only feature there is, though: {features[place].against}"
    features[place] = replace(features[place], note=note, against="")
    return features


def _features(look: TableLook, roles: Roles) -> Iterator[_Feature]:
    taken = {c.name.lower() for c in look.columns}
    for column in look.columns:
        if column.name in roles.taken and column.name != roles.time:
            continue
        if column.kind is Kind.TIMESTAMP:
            yield from _time_features(column, roles, taken)
            continue
        name = column.name
        while name in _NOT_FEATURE_NAMES or (name != column.name and name.lower() in taken):
            name += "_raw"
        taken.add(name.lower())
        against = reason_against_feature(column)
        if column.name in _OUTPUTS:
            against = "a name that an output of the model has: rename the column"
        yield _Feature(name, roles.sql_name(column.name), column, against=against)


def _time_features(column: ColumnLook, roles: Roles, taken: set[str]) -> Iterator[_Feature]:
    """The distance to the table's time, or parts of the time itself that differ between the rows looked at."""

    def feature(name: str, sql: str, **notes: str) -> _Feature:
        while name.lower() in taken:
            name += "_raw"
        taken.add(name.lower())
        return _Feature(name, sql, column, **notes)

    own = roles.sql_name(column.name)
    if roles.time not in (None, column.name):
        yield feature(
            f"{roles.time}_minus_{column.name}_s", f"{roles.sql_name(str(roles.time))} - {own}", note="seconds"
        )
        return
    times = column.times.dt
    parts = (("month", "MONTH", times.month()), ("weekday", "ISODOW", times.weekday()), ("hour", "HOUR", times.hour()))
    varying = [(part, unit) for part, unit, values in parts if values.n_unique() > 1]
    for part, unit in varying:
        yield feature(f"{column.name}_{part}", f"EXTRACT({unit} FROM {own})")
    if not varying:
        same = "month, weekday and hour are the same in all rows looked at"
        yield feature(f"{column.name}_day", f"EXTRACT(DAY FROM {own})", against=same)

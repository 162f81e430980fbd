"""Which columns of a starter file are key, target and time, and how a column is named in its SQL."""

from __future__ import annotations

import re
from collections import Counter

from rayforest.errors import ConfigError, InputError, did_you_mean
from rayforest.kinds import Kind
from rayforest.sql import Expression, parse
from rayforest.starter.likely_roles import likely_key, likely_target, likely_time, reason_against_target
from rayforest.starter.look import ColumnLook, TableLook


class Roles:
    """Key, target and time of a starter file.

    Raises:
        ConfigError: `target` is neither a column nor an expression over the columns.
        InputError: the target is a timestamp, or leaves no column to be a feature.
    """

    def __init__(self, look: TableLook, target: str | None) -> None:
        self.columns = {c.name: c for c in look.columns}
        self.kinds: dict[str, Kind] = {c.name: c.kind for c in look.columns}
        self._lowered = Counter(name.lower() for name in self.columns)
        guess = likely_target(look) if target is None and len(self.columns) > 1 else None
        self.target = guess.column if guess is not None else target
        self.target_note = guess.reason if guess is not None else ""
        self.no_target_note = reason_against_target(look) if self.target is None else ""
        self.target_expression = self._parsed_target()
        if self.target_expression is not None and self.target_expression.kind is Kind.TIMESTAMP:
            sql = self.sql_name(self.target) if self.target in self.columns else self.target
            raise InputError(
                f"--target {self.target!r} is a timestamp",
                expected="a number, a boolean or a label",
                next_step=f"give SQL over it, such as EXTRACT(YEAR FROM {sql})",
            )
        self.taken = set(self.target_expression.columns if self.target_expression is not None else ())
        if len(self.taken) == len(self.columns):
            raise InputError(
                "no column is left to be a feature",
                expected="a column beside the target",
                found=f"{len(self.columns)} columns, all of them used by the target",
                next_step="init without --target, or give data with more columns",
            )
        self.key = self._take(likely_key(look))
        self.time = self._take(likely_time(look))

    def _take(self, column: str | None) -> str | None:
        """The column, unless it is taken already or is the last one that could be a feature."""
        if column is None or column in self.taken or len(self.columns) - len(self.taken) < 2:
            return None
        self.taken.add(column)
        return column

    @property
    def target_column(self) -> ColumnLook | None:
        """The column that is the target, where it is one."""
        return self.columns.get(self.target or "")

    def _parsed_target(self) -> Expression | None:
        if self.target is None:
            return None
        if self.target in self.columns:
            return parse(quoted(self.target), self.kinds, where="--target")
        try:
            return parse(self.target, self.kinds, where="--target")
        except ConfigError as error:
            raise ConfigError(
                f"--target {self.target!r} is neither a column nor an SQL expression over the columns",
                found=error.what,
                next_step=did_you_mean(self.target, self.columns),
            ) from error

    def sql_name(self, column: str) -> str:
        """The column as SQL, quoted only where it must be."""
        if re.fullmatch(r"[A-Za-z_]\w*", column) and self._lowered[column.lower()] == 1:
            try:
                plain = parse(column, {column: self.kinds[column]}, where="").columns == (column,)
            except ConfigError:  # a word of the language
                plain = False
            if plain:
                return column
        return quoted(column)


def quoted(column: str) -> str:
    """A column name as SQL, whatever its letters."""
    return '"' + column.replace('"', '""') + '"'

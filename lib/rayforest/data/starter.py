"""The starter project file that `rayforest init` prints: valid as it is, with what was seen as comments."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path, PurePath

from rayforest.data.first_look import ColumnLook, TableLook, look_at
from rayforest.data.guesses import (
    group_column,
    has_labels,
    likely_key,
    likely_target,
    likely_time,
    looks_like_code,
    nearly_key,
    positive_label,
    reason_against_feature,
)
from rayforest.data.kinds import Kind
from rayforest.data.sniff import sniff
from rayforest.data.source import CsvFormat, Source, SourceFile, list_files, unsupported_columns
from rayforest.data.sql import Expression, parse
from rayforest.data.toml_text import one_line, toml_key, toml_line, toml_list, toml_string
from rayforest.errors import ConfigError, InputError, did_you_mean

_NOT_FEATURE_NAMES = ("split", "target", "categorical", "unseen")
"""Columns of prepared shards, and keys of [features]."""

_MANY_PATHS = 5
"""Paths that are written as one glob where it finds the same files."""


def starter_project(data: list[str], *, target: str | None) -> str:
    """TOML text of a project over these data: types, nulls, likely key, categories, target and time.

    Args:
        data: paths, globs and folders, relative to the current folder, where the file is to be saved.
        target: a column or an SQL expression to predict; None: guessed.

    Raises:
        InputError: nothing found, or the first file cannot be read.
        ConfigError: `target` is neither a column nor an expression over the columns.
    """
    source = Source(tuple(data), Path.cwd(), csv=CsvFormat())  # a file of unknown ending is text
    files = list_files(source)
    sniffed = sniff(files[0].uri) if files[0].format == "csv" else None
    form = sniffed.format if sniffed is not None else None
    source = Source(source.patterns, source.base, csv=form)
    look = look_at(files, source)
    if sniffed is not None:
        look = replace(look, notes=(*sniffed.notes, *look.notes))
    if not look.columns:
        raise InputError(
            f"{files[0].uri} has no column that can be read",
            expected="numbers, booleans, text, dates or timestamps",
            found=", ".join(sorted(set(unsupported_columns(files[0]).values())))[:200],
        )
    if not look.rows:
        raise InputError(f"{files[0].uri} has no rows", expected="rows to look at", next_step="give a file with rows")
    roles = _Roles(look, target)
    sections = (
        _head(files, look),
        _data_section(_as_pattern(data, files), look, roles),
        _format_section(form, look) if form is not None else [],
        _columns_section(look, files),
        _features_section(look, roles),
        _split_section(look, roles),
        _tune_section(roles),
        _score_section(),
    )
    return "\n".join("\n".join(lines) + "\n" for lines in sections if lines)


class _Roles:
    """Which columns are key, target and time."""

    def __init__(self, look: TableLook, target: str | None) -> None:
        self.columns = {c.name: c for c in look.columns}
        self.kinds = {c.name: c.kind for c in look.columns}
        guess = likely_target(look) if target is None and len(self.columns) > 1 else None
        self.target = guess.column if guess is not None else target
        self.target_note = guess.reason if guess is not None else ""
        self.target_expression = self._parsed_target()
        self.taken = set(self.target_expression.columns if self.target_expression is not None else ())
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
        return self.columns.get(self.target or "")

    def _parsed_target(self) -> Expression | None:
        if self.target is None:
            return None
        if self.target in self.columns:
            return parse(_quoted(self.target), self.kinds, where="--target")
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
        if re.fullmatch(r"[A-Za-z_]\w*", column):
            try:
                plain = parse(column, self.kinds, where="").columns == (column,)
            except ConfigError:  # a word of the language, or two names that differ in case only
                plain = False
            if plain:
                return column
        return _quoted(column)


def _head(files: Sequence[SourceFile], look: TableLook) -> list[str]:
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", PurePath(files[0].path).name.partition(".")[0]).strip("-._")
    if len(files) > 1 or not stem:
        stem = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(files[0].uri).parent.name).strip("-._") or "tables"
    of_files = f" of {len(files):,} files" if len(files) > 1 else ""
    return [
        f"# Written by rayforest init after a look at {look.rows:,} rows{of_files}. Guesses say so: check them.",
        *(f"# Note: {one_line(note)}" for note in look.notes),
        "",
        "[project]",
        f"name = {toml_string(stem)}",
        toml_line('# root = "out"', "where results go"),
    ]


def _as_pattern(data: list[str], files: Sequence[SourceFile]) -> list[str]:
    """Many files that a shell listed as the glob that finds the same ones, so that later files belong to it, too."""
    paths = [Path(path) for path in data]
    if len(paths) < _MANY_PATHS or len({(path.parent, path.suffix) for path in paths}) > 1:
        return data
    pattern = str(paths[0].parent / f"*{paths[0].suffix}")
    found = list_files(Source((pattern,), Path.cwd(), csv=CsvFormat()))
    return [pattern] if {file.uri for file in found} == {file.uri for file in files} else data


def _data_section(data: list[str], look: TableLook, roles: _Roles) -> list[str]:
    sources = [toml_string(path) for path in data]
    lines = ["[data]"]
    lines += [f"source = {sources[0]}"] if len(data) == 1 else ["source = [", *(f"  {s}," for s in sources), "]"]
    if roles.key is not None:
        lines.append(toml_line(f"key = {toml_string(roles.key)}", "a guess: another value in every row looked at"))
    elif (nearly := nearly_key(look)) is not None and nearly.name not in roles.taken:
        share = nearly.distinct / nearly.values.len()
        lines.append(
            toml_line(f"# key = {toml_string(nearly.name)}", f"{share:.1%} different; repeats of a key are quarantined")
        )
    else:
        lines.append(
            toml_line('# key = "COLUMN"', "one or several columns that identify a row; repeats are quarantined")
        )
    if roles.target is None:
        lines.append(toml_line('# target = "COLUMN"', "the column to predict, or SQL such as amount > 100"))
    else:
        lines.append(toml_line(f"target = {toml_string(roles.target)}", roles.target_note))
        column = roles.target_column
        positive = positive_label(column) if column is not None else None
        if positive is not None:
            shown = toml_string(positive) if isinstance(positive, str) else str(positive)
            lines.append(toml_line(f"positive = {shown}", "the label that counts as 1; the other counts as 0"))
    if roles.time is not None:
        lines.append(toml_line(f"time = {toml_string(roles.time)}", "a guess: orders the rows in time"))
    lines.append(toml_line('# on_bad_row = "fail"', "instead of quarantine"))
    lines.append(toml_line("# error_budget = 0.01", "share of rows that may be quarantined before the run fails"))
    return lines


def _format_section(form: CsvFormat, look: TableLook) -> list[str]:
    words = [word for word in form.null_words if word]
    lines = ["[data.format]", f"delimiter = {toml_string(form.delimiter)}", f"header = {str(form.header).lower()}"]
    if form.names:
        lines.append(toml_line(f"names = {toml_list(form.names)}", "a guess: see the notes above"))
    elif not form.header:
        lines.append(
            toml_line(f"# names = {toml_list(c.name for c in look.columns)}", "better names, in the columns' order")
        )
    if form.skip_lines:
        lines.append(toml_line(f"skip_lines = {form.skip_lines}", "before the header or the first row"))
    lines.append(toml_line(f"null_words = {toml_list(words)}", "texts that mean missing, as the empty one always does"))
    lines += ["trim = true"] if form.trim else []
    lines += [f"encoding = {toml_string(form.encoding)}"] if form.encoding != "utf-8" else []
    return lines


def _columns_section(look: TableLook, files: Sequence[SourceFile]) -> list[str]:
    lines = [
        "[data.columns]",
        '# More checks: name = { type = "number", required = true, min = 0, max = 100, values = [1, 2] }',
    ]
    for column in look.columns:
        lines.append(toml_line(f"{toml_key(column.name)} = {_column_type(column)}", _seen(column)))
    for name, stored in unsupported_columns(files[0]).items():
        lines.append(f"# {toml_key(name)} is left out: {one_line(stored)[:60]} is not read")
    return [*lines, "", "[data.rules]", '# name = "amount >= 0"    # SQL; rows for which it is false are quarantined']


def _column_type(column: ColumnLook) -> str:
    options = [f"type = {toml_string(column.kind)}"]
    if column.format is not None:
        options.append(f"format = {toml_string(column.format)}")
    if column.null_words:
        options.append(f"null_values = {toml_list(column.null_words)}")
    return toml_string(column.kind) if len(options) == 1 else "{ " + ", ".join(options) + " }"


def _seen(column: ColumnLook) -> str:
    seen = [f"{column.distinct:,} value{'s' if column.distinct != 1 else ''}"]
    if column.kind is Kind.NUMBER and column.values.len():
        low, high = column.range
        seen.append(f"{low:.10g} to {high:.10g}")
    if column.null_share:
        seen.append(f"{column.null_share:.1%} missing" if column.null_share >= 0.001 else "few missing")
    if column.unreadable:
        seen.append(f"{column.unreadable:,} rows are not a {column.kind}: quarantined")
    if column.sentinels:
        shown = ", ".join(f"{value:g}" for value in column.sentinels)
        seen.append(f"is {shown} a missing value? null_values = [{shown}]")
    if 0.5 < column.numbers < 1:
        seen.append(f"{column.numbers:.1%} are numbers: codes?")
    if column.numbers == 1:
        seen.append("numbers with leading zeros: kept as text")
    if column.kind is Kind.STRING and any(str(label).lower() == "unknown" for label, _ in column.labels()[:50]):
        seen.append('is "unknown" a missing value? null_values = ["unknown"]')
    return "; ".join(seen)


def _features_section(look: TableLook, roles: _Roles) -> list[str]:
    lines = ["[features]", "# name = SQL over the raw columns; a text is a category"]
    codes = []
    names = {c.name.lower() for c in look.columns}
    for column in look.columns:
        if column.name in roles.taken and column.name != roles.time:
            continue
        if column.kind is Kind.TIMESTAMP:
            lines += _time_features(column, roles, names)
            continue
        name = f"{column.name}_raw" if column.name in _NOT_FEATURE_NAMES else column.name
        line = f"{toml_key(name)} = {toml_string(roles.sql_name(column.name))}"
        against = reason_against_feature(column)
        lines.append(toml_line(f"# {line}", against) if against else line)
        if not against and looks_like_code(column):
            codes.append(name)
    if codes:
        lines.append(toml_line(f"# categorical = {toml_list(codes)}", "few whole numbers: codes, or quantities?"))
    return lines


def _time_features(column: ColumnLook, roles: _Roles, names: set[str]) -> Iterator[str]:
    """The distance to the table's time, or parts of the time itself that differ between the rows looked at."""
    if roles.time not in (None, column.name):
        name = f"{roles.time}_minus_{column.name}_s"
        if name.lower() not in names:
            difference = f"{roles.sql_name(str(roles.time))} - {roles.sql_name(column.name)}"
            yield toml_line(f"{toml_key(name)} = {toml_string(difference)}", "seconds")
        return
    times = column.values.dt
    parts = (("month", "MONTH", times.month()), ("weekday", "ISODOW", times.weekday()), ("hour", "HOUR", times.hour()))
    for part, unit, values in parts:
        name = f"{column.name}_{part}"
        if values.n_unique() > 1 and name.lower() not in names:
            yield f"{toml_key(name)} = {toml_string(f'EXTRACT({unit} FROM {roles.sql_name(column.name)})')}"


def _split_section(look: TableLook, roles: _Roles) -> list[str]:
    lines = ["[split]", toml_line('by = "hash"', 'or "time": the latest rows are the test rows' if roles.time else "")]
    if (group := group_column(look, roles.taken)) is not None:
        lines.append(toml_line(f"# key = {toml_string(group)}", "keeps rows with the same value in the same part"))
    return [*lines, "shares = { train = 0.7, valid = 0.15, test = 0.15 }"]


def _tune_section(roles: _Roles) -> list[str]:
    metric = _metric(roles)
    return ["[tune]", f'metric = "{metric}"' if metric else '# metric = "auc"', "trials = 20"]


def _metric(roles: _Roles) -> str | None:
    expression, column = roles.target_expression, roles.target_column
    if expression is None:
        return None
    if column is None:
        return {Kind.BOOLEAN: "auc", Kind.NUMBER: "rmse"}.get(expression.kind, "log_loss")
    if column.distinct == 2:
        return "auc"
    return "log_loss" if column.kind is not Kind.NUMBER or (has_labels(column) and column.distinct <= 10) else "rmse"


def _score_section() -> list[str]:
    return [
        "[score]",
        toml_line('# source = "new/*"', "what to score; without it the data above"),
        toml_line('# carry = ["COLUMN"]', "columns that come out beside the prediction"),
    ]


def _quoted(column: str) -> str:
    return '"' + column.replace('"', '""') + '"'

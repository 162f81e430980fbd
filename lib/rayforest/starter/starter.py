"""The starter project file that `rayforest init` prints: valid as it is, with what was seen as comments."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path, PurePath

from rayforest.engine.stores.object_uri import is_object_uri
from rayforest.errors import InputError, path_text
from rayforest.kinds import Kind
from rayforest.project.variables import literal_path
from rayforest.starter.columns_section import Writing, columns_section, format_section
from rayforest.starter.features_section import features_section
from rayforest.starter.likely_roles import group_column, has_labels, nearly_key, positive_label
from rayforest.starter.look import TableLook, look_at
from rayforest.starter.look.column import MAX_LABELS
from rayforest.starter.roles import Roles
from rayforest.starter.sniff import sniff
from rayforest.starter.toml_text import one_line, toml_line, toml_string
from rayforest.tables.batch import TableName
from rayforest.tables.raw_file import raw_file
from rayforest.tables.reading import CsvFormat, Source, SourceFile, find_files, list_files, unsupported_columns
from rayforest.tables.schema import fault_of_name
from rayforest.tables.snapshots.delta import is_delta

_NO_DATA, _SOME_DATA = "there are no data to look at", "a path, a glob, a folder, or a list of them"
_MANY_PATHS = 5
"""Paths that are written as one glob where it finds the same files."""
_MANY_COLUMNS = 50
"""Columns up to which a rule against rows without any value is written."""


def starter_project(
    data: str | Path | Iterable[str | Path], *, target: str | None, folder: str | Path | None = None
) -> str:
    """TOML text of a project over these data: types, nulls, likely key, categories, target and time.

    Args:
        data: a path, glob or folder, or several, relative to the current folder.
        target: a column or an SQL expression to predict; None: guessed.
        folder: where the file is to lie, to which its paths are relative; None: the current folder.

    Raises:
        InputError: nothing found, the first file cannot be read, or the files are of unlike tables.
        ConfigError: `data` are no paths, or `target` is neither a column nor an expression over the columns.
    """
    paths: Iterable[object] = data if isinstance(data, Iterable) and not isinstance(data, str) else [data]
    given = [path_text(path, _NO_DATA, _SOME_DATA) for path in paths]
    if not given:
        raise InputError(_NO_DATA, expected=_SOME_DATA, found="an empty list", next_step="give at least one path")
    source, files = find_files(_source_of(given))
    sniffed = sniff(raw_file(files[0])) if files[0].format == "csv" else None
    form = sniffed.format if sniffed is not None else None
    look = look_at(files, replace(source, csv=form))
    stored = unsupported_columns(files[0], source)
    unread = {name: fault_of_name(name) or f"{kind} is not read" for name, kind in stored.items()}
    if not look.columns and unread:
        raise InputError(
            f"{files[0].uri} has no column that can be read",
            expected="numbers, booleans, text, dates or timestamps",
            found=", ".join(sorted(set(stored.values())))[:200],
            next_step="write the data with plain columns",
        )
    if not look.rows and look.notes:
        raise InputError(
            f"no row of {files[0].uri} reads",
            expected="rows with the fields of the header",
            found=look.notes[-1],
            next_step="is this one table of text? say how it is written in [data.format]",
        )
    if not look.rows:
        raise InputError(f"{files[0].uri} has no rows", expected="rows to look at", next_step="give a file with rows")
    if not any(column.values.present for column in look.columns):
        raise InputError(
            f"{files[0].uri} has no values",
            expected="a column with a value in some row",
            found=f"{look.rows:,} rows, all values missing",
            next_step="give a file with values",
        )
    notes = (*(sniffed.notes if sniffed is not None else ()), *look.notes)
    faults = {column.name: fault for column in look.columns if (fault := fault_of_name(column.name)) is not None}
    usable = tuple(column for column in look.columns if column.name not in faults)
    unread |= faults
    look = replace(look, columns=usable, notes=notes)
    if not usable:
        raise InputError(
            f"{files[0].uri} has no column that can be used",
            expected="columns of other names",
            found=", ".join(sorted(set(faults.values()))),
            next_step="rename columns where the file is written",
        )
    roles, writing = Roles(look, target), Writing.of(look) if form is not None else Writing()
    sections = (
        _head(files, look, folder, name=Path(source.table.name).name if source.table is not None else None),
        _data_section(_source_lines(source, given, files, folder), look, roles),
        format_section(form, look, writing) if form is not None else [],
        columns_section(look, writing, unread),
        _rules_section(look, roles),
        features_section(look, roles),
        _split_section(look, roles),
        _tune_section(roles),
        _score_section(),
    )
    return "\n".join("\n".join(lines) + "\n" for lines in sections if lines)


def write_starter(data: str | Path | Iterable[str | Path], out: str | Path, *, target: str | None) -> None:
    """Write `starter_project` to a file that does not exist yet, with paths relative to its folder.

    Raises:
        InputError: as `starter_project`; the file exists, or its folder cannot be written to.
        ConfigError: as `starter_project`.
    """
    file = Path(out)
    if file.exists():
        raise _exists(out)
    text = starter_project(data, target=target, folder=file.absolute().parent)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("x", encoding="utf-8") as stream:
            stream.write(text)
    except FileExistsError as error:
        raise _exists(out) from error
    except OSError as error:
        raise InputError(
            f"{out} cannot be written", found=(error.strerror or "").lower(), next_step="give another --out"
        ) from error


def _exists(out: str | Path) -> InputError:
    return InputError(
        f"{out} exists already",
        expected="a new file: init writes over none",
        next_step="give another --out, or move the file away",
    )


def _source_of(given: list[str]) -> Source:
    """A Delta table where its folder is all that was given: of its files, only the log knows which ones count."""
    if len(given) == 1 and is_delta(given[0]):
        name = given[0] if is_object_uri(given[0]) else str(Path(given[0]).absolute())
        return Source((), Path.cwd(), table=TableName("delta", name))
    return Source(tuple(given), Path.cwd(), csv=CsvFormat())  # a file of unknown ending is text


def _head(files: Sequence[SourceFile], look: TableLook, folder: str | Path | None, name: str | None) -> list[str]:
    """The first lines; `name` is the table's, where it has one of its own."""
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", name or PurePath(files[0].path).name.partition(".")[0]).strip("-._")
    if (len(files) > 1 and name is None) or not stem:
        stem = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(files[0].uri).parent.name).strip("-._") or "tables"
    of_files = f" of {len(files):,} files" if len(files) > 1 else ""
    where = (
        "this file's folder"
        if folder is not None
        else "the folder where init ran: save it there, or use init --out FILE"
    )
    return [
        f"# Written by rayforest init after a look at {look.rows:,} rows{of_files}. Guesses say so: check them.",
        f"# Paths are relative to {where}.",
        *(f"# Note: {one_line(note)}" for note in look.notes),
        "",
        "[project]",
        f"name = {toml_string(stem)}",
        toml_line('# root = "out"', "where results go"),
    ]


def _as_pattern(data: list[str], files: Sequence[SourceFile]) -> list[str]:
    """Many files that a shell listed as the glob that finds the same ones, so that later files belong to it, too."""
    places = {(os.path.dirname(path), PurePath(path).suffix) for path in data}  # noqa: PTH120  of URIs, too
    if len(data) < _MANY_PATHS or len(places) > 1:
        return data
    folder, suffix = places.pop()
    pattern = f"{folder}/*{suffix}" if is_object_uri(folder) else str(Path(folder, f"*{suffix}"))
    found = list_files(Source((pattern,), Path.cwd(), csv=CsvFormat()))
    return [pattern] if {file.uri for file in found} == {file.uri for file in files} else data


def _relative(data: list[str], folder: str | Path | None) -> list[str]:
    """Paths as they are found from the folder; URIs, absolute ones, and those of the home folder, as they are."""
    if folder is None:
        return data
    return [
        path if is_object_uri(path) or path.startswith(("/", "~")) else os.path.relpath(path, folder) for path in data
    ]


def _source_lines(
    source: Source, given: list[str], files: Sequence[SourceFile], folder: str | Path | None
) -> list[str]:
    data = _relative(given if source.table is not None else _as_pattern(given, files), folder)
    sources = [toml_string(literal_path(path)) for path in data]
    if source.table is not None:
        note = f"its newest version, {source.table.snapshot} now; version = {source.table.snapshot} keeps to that one"
        return [toml_line(f"source = {{ delta = {sources[0]} }}", note)]
    return [f"source = {sources[0]}"] if len(data) == 1 else ["source = [", *(f"  {s}," for s in sources), "]"]


def _data_section(source: list[str], look: TableLook, roles: Roles) -> list[str]:
    lines = ["[data]", *source]
    if roles.key is not None:
        lines.append(toml_line(f"key = {toml_string(roles.key)}", "a guess: another value in every row looked at"))
    elif (nearly := nearly_key(look)) is not None and nearly.name not in roles.taken:
        share = nearly.distinct / nearly.values.present
        lines.append(
            toml_line(f"# key = {toml_string(nearly.name)}", f"{share:.1%} different; repeats of a key are quarantined")
        )
    else:
        lines.append(
            toml_line('# key = "COLUMN"', "one or several columns that identify a row; repeats are quarantined")
        )
    lines += _target_lines(roles)
    if roles.time is not None:
        lines.append(toml_line(f"time = {toml_string(roles.time)}", "a guess: orders the rows in time"))
    lines.append(toml_line('# on_bad_row = "fail"', "instead of quarantine"))
    lines.append(toml_line("# error_budget = 0.01", "share of rows that may be quarantined before the run fails"))
    return lines


def _target_lines(roles: Roles) -> list[str]:
    if roles.target is None:
        hint = roles.no_target_note or "the column to predict, or SQL such as amount > 100"
        return [toml_line('# target = "COLUMN"', hint)]
    column = roles.target_column
    notes = [roles.target_note] if roles.target_note else []
    if column is not None:
        if column.distinct <= 1:
            notes.append("one value in all rows looked at: nothing to learn")
        if column.kind is Kind.STRING and column.distinct > MAX_LABELS:
            notes.append(f"{column.distinct:,} labels: an id, or a quantity that is text?")
        if column.null_share > 0:
            notes.append(f"{column.null_share:.1%} missing: such rows are quarantined")
        if column.kind is Kind.NUMBER and column.distinct == 2 and not has_labels(column):
            notes.append("two numbers, learned as a quantity; as classes: SQL such as x > 0.5")
    lines = [toml_line(f"target = {toml_string(roles.target)}", "; ".join(notes))]
    positive = positive_label(column) if column is not None else None
    if positive is not None:
        shown = toml_string(positive) if isinstance(positive, str) else str(positive)
        lines.append(toml_line(f"positive = {shown}", "a guess: the label that counts as 1; the other counts as 0"))
    return lines


def _rules_section(look: TableLook, roles: Roles) -> list[str]:
    lines = ["[data.rules]", '# name = "amount >= 0"    # SQL; rows for which it is false are quarantined']
    if look.empty_rows and len(look.columns) <= _MANY_COLUMNS:
        sql = " OR ".join(f"{roles.sql_name(column.name)} IS NOT NULL" for column in look.columns)
        note = f"{look.empty_rows:,} rows looked at hold delimiters only"
        lines.append(toml_line(f"a_row_has_a_value = {toml_string(sql)}", note))
    return lines


def _split_section(look: TableLook, roles: Roles) -> list[str]:
    lines = ["[split]", toml_line('by = "hash"', 'or "time": the latest rows are the test rows' if roles.time else "")]
    if (group := group_column(look, roles.taken)) is not None:
        lines.append(toml_line(f"# key = {toml_string(group)}", "keeps rows with the same value in the same part"))
    return [*lines, "shares = { train = 0.7, valid = 0.15, test = 0.15 }"]


def _tune_section(roles: Roles) -> list[str]:
    metric = _metric(roles)
    return ["[tune]", f'metric = "{metric}"' if metric else '# metric = "auc"', "trials = 20"]


def _metric(roles: Roles) -> str | None:
    expression, column = roles.target_expression, roles.target_column
    if expression is None:
        return None
    if column is None:
        return {Kind.BOOLEAN: "auc", Kind.NUMBER: "rmse"}.get(expression.kind, "log_loss")
    if column.distinct == 2 and has_labels(column):
        return "auc"
    return "log_loss" if column.kind is not Kind.NUMBER or (has_labels(column) and column.distinct <= 10) else "rmse"


def _score_section() -> list[str]:
    return [
        "[score]",
        toml_line('# source = "new/*"', "what to score; without it the data above"),
        toml_line('# carry = ["COLUMN"]', "columns that come out beside the prediction"),
    ]

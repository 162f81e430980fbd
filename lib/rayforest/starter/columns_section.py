"""The part of a starter file that says how values are written: [data.format] and [data.columns]."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from rayforest.kinds import Kind
from rayforest.starter.look import ColumnLook, TableLook
from rayforest.starter.sniff.words import NULL_AMID_NUMBERS, NULL_WORDS
from rayforest.starter.toml_text import one_line, toml_key, toml_line, toml_list, toml_string
from rayforest.tables.batch import BLANKS, CsvFormat
from rayforest.tables.number_style import NumberStyle


@dataclass(frozen=True)
class Writing:
    """What holds for all columns of a text table."""

    null_words: tuple[str, ...] = ()
    """Words that mean missing wherever they stand."""
    style: NumberStyle | None = None
    """How its numbers are written, where that is not the usual way."""

    @classmethod
    def of(cls, look: TableLook) -> Writing:
        """What no column contradicts."""
        missing = {word for column in look.columns for word in column.null_words}
        values = {word for column in look.columns for word in column.kept_words}
        words = tuple(word for word in (*NULL_WORDS, *NULL_AMID_NUMBERS) if word in missing - values)
        styles = Counter(column.style for column in look.columns if column.style is not None)
        if not styles:
            return cls(words)
        decimal = next(iter(styles)).decimal
        marks = {style.thousands for style in styles if style.thousands is not None}
        at_odds = any(column.pointed and column.style is None for column in look.columns) and decimal != "."
        if len({style.decimal for style in styles}) > 1 or len(marks) > 1 or at_odds:
            return cls(words)
        return cls(words, NumberStyle(decimal, next(iter(marks), None)))


def format_section(form: CsvFormat, look: TableLook, writing: Writing) -> list[str]:
    """[data.format] of a text table."""
    blanks = "runs of spaces and tabs" if form.delimiter == BLANKS else ""
    lines = ["[data.format]", toml_line(f"delimiter = {toml_string(form.delimiter)}", blanks)]
    lines.append(f"header = {str(form.header).lower()}")
    if form.names:
        lines.append(toml_line(f"names = {toml_list(form.names)}", "a guess: see the notes above"))
    elif not form.header:
        names = toml_list(c.name for c in look.columns)
        lines.append(toml_line(f"# names = {names}", "better names, in the columns' order"))
    if form.skip_lines:
        lines.append(toml_line(f"skip_lines = {form.skip_lines}", "before the header or the first row"))
    words = toml_list(writing.null_words)
    lines.append(toml_line(f"null_words = {words}", "texts that mean missing, as the empty one always does"))
    lines += style_options(writing.style, " = ") if writing.style is not None else []
    lines += _marks(form)
    lines += ["trim = true"] if form.trim else []
    lines += [f"encoding = {toml_string(form.encoding)}"] if form.encoding != "utf-8" else []
    return lines


def _marks(form: CsvFormat) -> Iterator[str]:
    """What is unusual about quotes, comments, the header and the rows' ends."""
    if form.quote != '"':
        note = "values stand between two of it" if form.quote else "quotes are ordinary characters"
        yield toml_line(f"quote = {toml_string(form.quote)}", note)
    if form.escape is not None:
        yield toml_line(f"escape = {toml_string(form.escape)}", "a quote after it is part of the value")
    if form.comment is not None:
        yield toml_line(f"comment = {toml_string(form.comment)}", "lines that begin with it are left out")
    if form.repeated_names != "refuse":
        yield toml_line(
            f"repeated_names = {toml_string(form.repeated_names)}", "later columns of a name become x_2, x_3"
        )
    if form.trailing_delimiter:
        yield toml_line("trailing_delimiter = true", "the empty field after a row's last delimiter is none")


def style_options(style: NumberStyle, equals: str = " = ") -> list[str]:
    """The keys of a style of numbers."""
    options = [f"decimal{equals}{toml_string(style.decimal)}"]
    return options + ([f"thousands{equals}{toml_string(style.thousands)}"] if style.thousands is not None else [])


def columns_section(look: TableLook, writing: Writing, unread: Mapping[str, str]) -> list[str]:
    """[data.columns]: a type for each column, and what was seen; `unread` are columns that cannot be read."""
    lines = [
        "[data.columns]",
        '# More checks: name = { type = "number", required = true, min = 0, max = 100, values = [1, 2] }',
    ]
    for column in look.columns:
        lines.append(toml_line(f"{toml_key(column.name)} = {_column_type(column, writing)}", _seen(column)))
    for name, why in unread.items():
        lines.append(f"# {one_line(toml_key(name))} is left out: {one_line(why)[:60]}")
    return lines


def _column_type(column: ColumnLook, writing: Writing) -> str:
    options = [f"type = {toml_string(column.kind)}"]
    if column.format is not None:
        options.append(f"format = {toml_string(column.format)}")
    if column.style is not None and column.style != writing.style and not _is_read_by(column.style, writing.style):
        options += style_options(column.style)
    if words := [word for word in column.null_words if word not in writing.null_words]:
        options.append(f"null_values = {toml_list(words)}")
    return toml_string(column.kind) if len(options) == 1 else "{ " + ", ".join(options) + " }"


def _is_read_by(style: NumberStyle, general: NumberStyle | None) -> bool:
    return general is not None and style.decimal == general.decimal and style.thousands in (None, general.thousands)


def _seen(column: ColumnLook) -> str:
    seen = [f"{column.distinct:,} value{'s' if column.distinct != 1 else ''}"]
    if column.kind is Kind.NUMBER and column.values.present:
        seen.append(f"{column.values.low:.10g} to {column.values.high:.10g}")
    if column.null_share:
        seen.append(f"{column.null_share:.1%} missing" if column.null_share >= 0.001 else "few missing")
    if column.unreadable:
        seen.append(f"{column.unreadable:,} rows are not a {column.kind}: quarantined")
    return "; ".join([*seen, *_guesses(column), *_doubts(column)])


def _guesses(column: ColumnLook) -> Iterator[str]:
    """What was guessed about the type, and on what evidence."""
    if column.null_words:
        words = ", ".join(toml_string(word) for word in column.null_words)
        yield f"a guess: {words} means missing in {sum(column.null_words.values()):,} rows"
    if kept := [word for word in column.kept_words if word in NULL_WORDS]:
        words = ", ".join(toml_string(word) for word in kept)
        yield f"{words} is kept, as it is written like other values; if it means missing: null_values = [{words}]"
    if column.format is not None:
        yield "a guess from its texts"
    if column.style is not None:
        yield "a guess: numbers with " + " and ".join(style_options(column.style))
    yield from column.remarks


def _doubts(column: ColumnLook) -> Iterator[str]:
    """What a person should decide."""
    if column.undecided:
        yield f"left as text: {column.undecided}"
    elif not column.exact and 0.5 < column.numbers < 1:
        yield f"{column.numbers:.1%} are numbers: codes?"
    elif not column.exact and column.numbers == 1:
        yield "numbers with leading zeros: kept as text"
    if column.values.sentinels:
        shown = ", ".join(f"{value:g}" for value in column.values.sentinels)
        yield f"is {shown} a missing value? null_values = [{shown}]"
    if column.kind is Kind.STRING and any(str(label).lower() == "unknown" for label, _ in column.values.listed[:50]):
        yield 'is "unknown" a missing value? null_values = ["unknown"]'

r"""How the fields of a text table are delimited and quoted.

Every likely pair of delimiter and quote reads the same lines. The best gives most rows the same number of fields, and
fields that look like values: an idea of van den Burg, Nazabal and Sutton, "Wrangling messy CSV files by detecting row
and type patterns" (2019). A tie goes to the commoner delimiter and to the double quote.
"""

from __future__ import annotations

import contextlib
import csv
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from rayforest.starter.sniff.cells import Cell, cell
from rayforest.tables.batch import BLANKS

_DELIMITERS = (",", ";", "\t", "|")
_RARE_DELIMITERS = ("~", "^", "\x01", "\x1f")
_MERIT = {Cell.EMPTY: 0.9, Cell.NUMBER: 1.0, Cell.TIME: 1.0, Cell.WORD: 0.9, Cell.OTHER: 0.2}
_JUDGED_CELLS = 4_000
_COMMENT = "#"
_NEARLY_BEST = 0.5
_HABIT = 0.25
TABLE_ROWS = 3
"""Rows of one width that may be a table of their own."""
_BLANKS = re.compile(r"[ \t]+")


@dataclass(frozen=True)
class Dialect:
    """How rows become fields."""

    delimiter: str
    quote: str = '"'
    escape: str | None = None
    trim: bool = False


@dataclass(frozen=True)
class Row:
    """One row of the sampled lines."""

    start: int
    """0-based line of its beginning."""
    stop: int
    """The line after its last."""
    fields: list[str]

    @property
    def filled(self) -> int:
        """Fields that are not blank."""
        return sum(1 for field in self.fields if field.strip())


def find_comment_and_dialect(lines: list[str]) -> tuple[str | None, Dialect]:
    """The mark of comments, where lines that begin with it stand amid the others and are no rows; and the dialect."""
    marked = [line for line in lines if line.startswith(_COMMENT)]
    rows = [line for line in lines if line.strip() and not line.startswith(_COMMENT)]
    amid = [line for line in lines[lines.index(rows[0]) :] if line.startswith(_COMMENT)] if rows else []
    if not amid or len(marked) > len(rows):
        return None, find_dialect(lines)
    dialect = find_dialect(rows)
    width = common_width(parse(rows, dialect))
    alike = sum(len(row.fields) == width for line in marked for row in parse([line], dialect))
    return (None, find_dialect(lines)) if alike * 2 > len(marked) or width == 1 else (_COMMENT, dialect)


def without_comments(lines: list[str], comment: str | None) -> list[str]:
    """The lines, comments as empty ones, so that the others keep their numbers."""
    return lines if comment is None else ["\n" if line.startswith(comment) else line for line in lines]


def find_dialect(lines: list[str]) -> Dialect:
    """The most likely dialect of these lines; a comma where there is one column only."""
    best, merit = Dialect(","), 0.0
    for delimiters in (_DELIMITERS, (BLANKS,), _RARE_DELIMITERS):
        for dialect in _candidates(lines, delimiters):
            if (own := _merit(lines, dialect)) > merit + 1e-9:
                best, merit = dialect, own
        if merit > 0:
            break
    trim = best.delimiter != BLANKS and _has_blanks(parse(lines, best, trim=False))
    return Dialect(best.delimiter, best.quote, best.escape, trim)


def parse(lines: list[str], dialect: Dialect, *, trim: bool | None = None) -> list[Row]:
    """The rows of the lines; those without any field are left out."""
    trim = dialect.trim if trim is None else trim
    if dialect.delimiter == BLANKS:
        lines, trim = [_BLANKS.sub(" ", line.strip(" \t")) for line in lines], True
    reader = csv.reader(
        lines,
        delimiter=" " if dialect.delimiter == BLANKS else dialect.delimiter,
        quotechar=dialect.quote or None,
        quoting=csv.QUOTE_MINIMAL if dialect.quote else csv.QUOTE_NONE,
        escapechar=dialect.escape,
        skipinitialspace=trim,
    )
    rows, at = [], 0
    with contextlib.suppress(csv.Error):  # a field beyond the module's limit: what was read so far tells enough
        for fields in reader:
            if fields:
                rows.append(Row(at, reader.line_num, [f.strip(" \t") for f in fields] if trim else fields))
            at = reader.line_num
    return rows


def common_width(rows: list[Row]) -> int:
    """The commonest number of fields; wide rows count a little more, and of two tables the first is meant."""
    widths = Counter(len(row.fields) for row in rows)
    merits = {width: count * width**0.5 for width, count in widths.items()}
    best = max(merits, key=lambda width: merits[width], default=1)
    wide = (width for width in merits if width > 1 and widths[width] >= TABLE_ROWS)
    tables = (width for width in wide if merits[width] >= _NEARLY_BEST * merits[best])
    return next(tables, best)


def _candidates(lines: list[str], delimiters: tuple[str, ...]) -> Iterator[Dialect]:
    text = "".join(lines)
    for delimiter in delimiters:
        if delimiter != BLANKS and delimiter not in text:
            continue
        yield Dialect(delimiter)
        beside = " " if delimiter == BLANKS else delimiter
        if f"{beside}'" in text or f"'{beside}" in text:
            yield Dialect(delimiter, "'")
        if '\\"' in text:
            yield Dialect(delimiter, escape="\\")
        if '"' in text:
            yield Dialect(delimiter, "")


def _merit(lines: list[str], dialect: Dialect) -> float:
    """How regular the rows are, times how plausible their fields are; 0 for one column."""
    rows = [row for row in parse(lines, dialect, trim=True) if row.filled]
    width = common_width(rows)
    if width < 2:
        return 0.0
    regular = [row for row in rows if len(row.fields) == width]
    covered = sum(1 for line in lines if line.strip())
    pattern: float = len(regular) / (len(rows) * covered) ** 0.5 * (width - 1) / width  # swallowed lines count half
    step = max(1, len(regular) * width // _JUDGED_CELLS)
    looks = Counter(cell(field) for row in regular[::step] for field in row.fields)
    if dialect.delimiter == BLANKS and not _is_blank_table(len(regular) / len(rows), looks):
        return 0.0
    return pattern * sum(_MERIT[look] * count for look, count in looks.items()) / looks.total()


def _is_blank_table(regular: float, looks: Counter[Cell]) -> bool:
    """Blanks stand in every text; only rows of mostly numbers make them a delimiter."""
    return regular > 0.9 and looks[Cell.NUMBER] >= 0.5 * looks.total()


def _has_blanks(rows: list[Row]) -> bool:
    """Whether blanks around texts are a habit of the file, or hide a quote or a word for a missing value.

    Around numbers they do no harm, and a single column that is filled up to a width is the same with them.
    """
    width = common_width(rows)
    if any(text[:1] in (" ", "\t") and text.lstrip(" \t").startswith('"') for row in rows for text in row.fields[1:]):
        return True
    values = [text for row in rows if len(row.fields) == width for text in row.fields[1:] if text.strip(" \t")]
    others = [text for text in values if cell(text) is not Cell.NUMBER]
    padded = [text for text in others if text[0] in " \t" or text[-1] in " \t"]
    return len(padded) > _HABIT * len(others) or any(cell(text) is Cell.EMPTY for text in padded)

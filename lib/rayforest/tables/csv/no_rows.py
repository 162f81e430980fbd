"""Why no row of a text table reads, and which key of [data.format] would make them read."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

from rayforest.tables.batch import BLANKS, BrokenRow, CsvFormat
from rayforest.tables.csv.read import sample_batches
from rayforest.tables.raw_file import RawFile

_SAMPLED_ROWS = 1_000
_WIDTH = re.compile(r"too (?:few|many) fields: ([0-9,]+) instead of ([0-9,]+)")


@dataclass(frozen=True)
class NoRows:
    """What is wrong with the rows of a file."""

    found: str
    next_step: str


def why_no_row(file: RawFile, path: str, form: CsvFormat) -> NoRows | None:
    """What most of the sampled rows of a file have in common; None where one of them reads, or there is none.

    Raises:
        InputError: the file cannot be read at all.
    """
    broken: list[BrokenRow] = []
    for batch in sample_batches(file, form, _SAMPLED_ROWS):
        if len(batch.rows):
            return None
        broken += batch.broken
    if not broken:
        return None
    (reason, rows), *_ = Counter(row.reason for row in broken).most_common(1)
    return NoRows(
        f"{path}: {rows:,} of the first {len(broken):,} rows: {reason}",
        _next_step(reason, [row.raw for row in broken if row.reason == reason], form),
    )


def _next_step(reason: str, rows: list[str], form: CsvFormat) -> str:
    if width := _WIDTH.fullmatch(reason):
        fields, names = (int(number.replace(",", "")) for number in width.groups())
        if fields == names + 1 and form.delimiter != BLANKS and all(row.endswith(form.delimiter) for row in rows):
            return (
                "every row ends in a delimiter that the header has not: set trailing_delimiter = true in [data.format]"
            )
        if not form.header:
            return f"give names = [...] in [data.format] {fields} names, or correct the delimiter"
        skip = f"skip_lines = {form.skip_lines + 1}"
        ways = [
            f"if the line of the header is a title, set {skip}",
            f"name all columns: {skip}, header = false, names = [...]",
        ]
        return f"in [data.format], {'; or '.join(ways if fields < names else ways[::-1])}"
    if "bytes that are not" in reason:
        return 'set encoding in [data.format], such as "latin-1", "cp1252" or "utf-16"'
    if "quote" in reason or "escape" in reason:
        return "correct quote, escape or delimiter in [data.format]"
    return "correct [data.format]"

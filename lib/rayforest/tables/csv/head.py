"""The beginning of a text table: marks, lines to skip, the header; then the stream of its rows."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rayforest.errors import InputError
from rayforest.tables.batch import CsvFormat, RowText
from rayforest.tables.contents import wide_encoding
from rayforest.tables.csv.blocks import BLOCK_BYTES, keeps_ascii, read_blocks, to_utf8
from rayforest.tables.csv.compressed import compression
from rayforest.tables.csv.dialect import Dialect
from rayforest.tables.csv.rows import OPEN_QUOTE, split_rows
from rayforest.tables.csv.single_blanks import single_blanks
from rayforest.tables.raw_file import RawFile

BOM = b"\xef\xbb\xbf"
HEAD_BYTES = 1 << 16
_UTF16_BOMS = (b"\xff\xfe", b"\xfe\xff")
_LINE_END = re.compile(rb"\r\n|\n|\r")


@dataclass(frozen=True)
class CsvHead:
    """The beginning of a text table."""

    names: tuple[str, ...]
    data_start: int
    """Where the first row may begin: a position in the file, or in the decoded stream of a file that is one piece."""


def is_one_piece(path: str, form: CsvFormat) -> bool:
    """Whether a file can only be read from its beginning: compressed, or with more than one byte a character."""
    return compression(path) is not None or not keeps_ascii(form.encoding)


def read_head(file: RawFile, form: CsvFormat) -> CsvHead:
    """Names of a table and the place where its rows begin.

    Raises:
        InputError: the file is empty, a name stands twice, or `names` are not as many as the columns.
    """
    uri, begin, size = file.uri, b"", HEAD_BYTES
    for block in _structure(file, form, block_bytes=HEAD_BYTES):
        begin += block
        if len(begin) >= size:
            if (head := _parse_head(uri, form, begin, complete=False)) is not None:
                return head
            size *= 4
            if size > BLOCK_BYTES:
                raise InputError(
                    f"{uri}: no header ends within the first {len(begin):,} bytes",
                    expected="a header row",
                    next_step="is this a text table? check delimiter, skip_lines and quotes at its beginning",
                )
    head = _parse_head(uri, form, begin, complete=True)
    assert head is not None  # noqa: S101  complete text always parses or raises
    return head


def _structure(file: RawFile, form: CsvFormat, start: int = 0, block_bytes: int = BLOCK_BYTES) -> Iterator[bytes]:
    """The bytes in which rows are found: the file's own where ASCII stays ASCII, else recoded."""
    blocks = read_blocks(file, start, block_bytes=block_bytes)
    if keeps_ascii(form.encoding):
        yield from blocks
        return
    try:
        yield from to_utf8(blocks, form.encoding)
    except UnicodeError as error:
        raise InputError(
            f"{file.uri} is not text in {form.encoding}",
            found=str(error),
            next_step='correct encoding in [data.format]; UTF-16 without its mark is "utf-16-le" or "utf-16-be"',
        ) from error


def _parse_head(uri: str, form: CsvFormat, begin: bytes, *, complete: bool) -> CsvHead | None:
    """The head, or None if it goes on after `begin`."""
    if keeps_ascii(form.encoding) and begin.startswith(_UTF16_BOMS):
        raise InputError(
            f"{uri} begins with the mark of UTF-16",
            expected=f"text in {form.encoding}",
            next_step='set encoding = "utf-16" in [data.format]',
        )
    start = len(BOM) if begin.startswith(BOM) else 0
    for _ in range(form.skip_lines):
        line_end = _LINE_END.search(begin, start)
        if line_end is None or (line_end.end() == len(begin) and not complete):
            if not complete:
                return None
            raise InputError(
                f"{uri} has fewer lines than skip_lines",
                expected=f"more than {form.skip_lines} lines",
                next_step="correct skip_lines in [data.format], or leave the file out of the source",
            )
        start = line_end.end()
    sample = next(split_rows([begin[start:]], Dialect.of(form)), None)
    if sample is None and not complete:
        return None
    if form.header and complete and not (text := begin[start:]).strip():
        raise InputError(
            f"{uri} is empty",
            expected="a header row",
            found="blank lines only" if text else "",
            next_step="leave the file out of the source",
        )
    if sample is None:
        if form.header:
            raise InputError(
                f"{uri} has no header", found="comments only", next_step="leave the file out of the source"
            )
        return CsvHead(form.names, start)
    header_stop = start + sample.offset + int(sample.text.stops[0])
    if (sample.open_quote or header_stop + 1 >= len(begin)) and not complete:
        return None
    if sample.open_quote and form.header:
        raise InputError(
            f"{uri}: the header has {OPEN_QUOTE}",
            expected="names whose quotes are closed",
            next_step="mend the header; or leave it out with skip_lines, and set header = false and names = [...]",
        )
    rows = [_fields(uri, sample.text, row, form) for row in range(1 if form.header else min(100, len(sample)))]
    first = rows[0][:-1] if form.trailing_delimiter and len(rows[0]) > 1 and not rows[0][-1] else rows[0]
    names = form.names or tuple((name if form.header else "") or f"c{i}" for i, name in enumerate(first, 1))
    if form.repeated_names == "number":
        names = numbered(names)
    fitting = {len(names), len(names) + form.trailing_delimiter}
    if all(len(row) not in fitting for row in rows):
        what = "header has" if form.header else "rows have"
        raise InputError(
            f"{uri}: names do not fit the file",
            expected=f"{len(rows[0])} names, as many as the {what} fields",
            found=f"{len(names)} names",
            next_step="correct names in [data.format], or the delimiter",
        )
    _refuse_nul(uri, names, begin)
    _refuse_repeated(uri, names)
    return CsvHead(names, header_stop if form.header else start)


def _fields(uri: str, text: RowText, row: int, form: CsvFormat) -> list[str]:
    line = text.data[int(text.starts[row]) : int(text.stops[row])]
    decoded = line.decode(form.encoding if keeps_ascii(form.encoding) else "utf-8", "replace")
    dialect = Dialect.of(form)
    if dialect.by_blanks:
        decoded = single_blanks(decoded.encode(), dialect).decode()
    quoting: dict[str, Any] = {"quotechar": form.quote} if form.quote else {"quoting": csv.QUOTE_NONE}
    try:
        fields = next(
            csv.reader(
                io.StringIO(decoded, newline=""),
                delimiter=" " if dialect.by_blanks else form.delimiter,
                escapechar=form.escape,
                skipinitialspace=dialect.trim,
                **quoting,
            )
        )
    except csv.Error as error:
        raise InputError(
            f"{uri}: the header cannot be read",
            found=str(error),
            next_step="check delimiter, quote and escape in [data.format]",
        ) from error
    return [field.strip(" \t") for field in fields] if form.trim else fields


def _refuse_nul(uri: str, names: Sequence[str], begin: bytes) -> None:
    position = next((position for position, name in enumerate(names, 1) if "\0" in name), None)
    if position is None:
        return
    encoding = wide_encoding(begin)
    raise InputError(
        f"{uri}: the name of a column holds a NUL",
        expected="names of text",
        found=f"a NUL in the name of column {position} of {len(names)}",
        next_step=f'is this text with two bytes a character? set encoding = "{encoding}" in [data.format]'
        if encoding
        else "give the columns other names: names = [...] in [data.format]",
    )


def numbered(names: Sequence[str]) -> tuple[str, ...]:
    """The names, each only once: one that stood before becomes x_2, x_3, and never a name that the header has."""
    taken, found = set(names), list[str]()
    seen: set[str] = set()
    for name in names:
        count, fresh = 2, name
        while fresh in seen or (fresh != name and fresh in taken):
            fresh, count = f"{name}_{count}", count + 1
        seen.add(fresh)
        found.append(fresh)
    return tuple(found)


def _refuse_repeated(uri: str, names: Sequence[str]) -> None:
    seen: dict[str, int] = {}
    for position, name in enumerate(names, 1):
        if name in seen:
            raise InputError(
                f"{uri}: two columns are named {name!r}",
                expected="a name only once",
                found=f"columns {seen[name]} and {position} of {len(names)}",
                next_step='set repeated_names = "number" in [data.format] for '
                f"{name}_2, or give every column its own name: names = [...]",
            )
        seen[name] = position


def rows_stream(file: RawFile, form: CsvFormat, head: CsvHead, block_bytes: int = BLOCK_BYTES) -> Iterator[bytes]:
    """The bytes from the first row on, as `_structure` gives them."""
    if not is_one_piece(file.uri, form):
        yield from _structure(file, form, head.data_start, block_bytes)
        return
    left = head.data_start
    for block in _structure(file, form, block_bytes=block_bytes):
        if left < len(block):
            yield block[left:] if left else block
        left = max(0, left - len(block))

"""Finding rows: the vectorised scanner against a reader that looks at one character after the other."""

from __future__ import annotations

import csv
import io
import itertools
import re

import numpy as np
import pytest
from examples import examples
from hypothesis import assume, example, given
from hypothesis import strategies as st

from rayforest.tables.csv import rows as csv_rows
from rayforest.tables.csv.dialect import Dialect
from rayforest.tables.csv.faults import find_faults
from rayforest.tables.csv.rows import RowBlock, split_rows

PLAIN = Dialect()
LINE = re.compile(r"[^\r\n]*")
ESCAPED_LINE = re.compile(r"(?:\\.|[^\r\n])*", re.DOTALL)

texts = st.text(alphabet='ab", \r\n\t\\#', max_size=60)
dialects = st.builds(
    Dialect,
    delimiters=st.sampled_from([b",", b" \t"]),
    quote=st.sampled_from([ord('"'), ord("a"), None]),
    escape=st.sampled_from([None, ord("\\")]),
    comment=st.sampled_from([None, ord("#")]),
    trim=st.booleans(),
).filter(lambda d: not d.by_blanks or (d.escape is None and not d.trim))


def row_end(text: str, start: int, dialect: Dialect) -> tuple[int, bool]:
    """Where the row ends that begins at `start`, and whether its quotes hold: character by character."""
    delimiters, blanks = dialect.delimiters.decode(), "" if not dialect.trim else " \t"
    quote, escape = (chr(code) if code is not None else "" for code in (dialect.quote, dialect.escape))
    i, state, holds = start, "value begins", True
    if dialect.comment is not None and text[i : i + 1] == chr(dialect.comment):
        while i < len(text) and text[i] not in "\r\n":
            i += 1
        return i, True
    while i < len(text):
        c = text[i]
        if c == escape:
            i += 2
            holds &= state != "closed"
            state = state if state == "inside" else "amid"
            continue
        if state == "inside":
            if c == quote and text[i + 1 : i + 2] == quote:
                i += 1
            elif c == quote:
                state = "closed"
        elif c in "\r\n":
            return i, holds
        elif c in delimiters:
            state = "value begins"
        elif c == quote and state == "value begins":
            state = "inside"
        elif not (c in blanks and state in ("value begins", "closed")):
            holds &= state != "closed"
            state = "amid"
        i += 1
    return min(i, len(text)), holds and state != "inside"


def rows_one_character_at_a_time(text: str, dialect: Dialect) -> list[tuple[int, str, bool]]:
    """(position, text, whether its quotes do not hold) of each row, as the documentation of csv.rows defines them."""
    rows, at = [], 0
    blanks = " \t" if dialect.trim or dialect.by_blanks else ""
    while at < len(text):
        end, holds = row_end(text, at, dialect)
        line = (ESCAPED_LINE if dialect.escape else LINE).match(text, at, end)
        assert line is not None
        goes_on = end == len(text) and text[at:end].endswith(("\n", "\r"))
        alone = (not holds and end == len(text)) or (line.end() < end and (goes_on or not holds))
        if alone:
            end = line.end()
        row = text[at:end]
        comment = dialect.comment is not None and row[:1] == chr(dialect.comment)
        if (row.strip(blanks) if blanks else row) and not comment:
            rows.append((at, row, alone or not holds))
        at = end + 1
    return rows


def cut_at(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(edges) if b > a]


def rows_by_scanner(data: bytes, cuts: list[int], dialect: Dialect) -> list[tuple[int, str, bool]]:
    """The same, with the stream cut into blocks at `cuts`."""
    found = []
    for block in split_rows(cut_at(data, cuts), dialect):
        broken = {row for row, reason in find_faults(block, 0, len(block), "utf-8") if "quote" in reason}
        found += [
            (block.offset + int(start), block.text.data[start:stop].decode(), row in broken)
            for row, (start, stop) in enumerate(zip(block.text.starts, block.text.stops, strict=True))
        ]
    return found


@examples(500)
@given(texts, dialects, st.lists(st.integers(0, 100), max_size=6))
@example('\\\n,"\n', Dialect(escape=ord("\\")), [])  # an escaped line end ends no line
def test_rows_are_the_same_wherever_the_stream_is_cut_into_blocks(text: str, dialect: Dialect, cuts: list[int]) -> None:
    assert rows_by_scanner(text.encode(), cuts, dialect) == rows_one_character_at_a_time(text, dialect)


@examples(200)
@given(texts, dialects, st.integers(0, 60))
@example('\\\n,"\n', Dialect(escape=ord("\\")), 1)
@example('"\n#",\\\n,"', Dialect(escape=ord("\\"), comment=ord("#")), 1)  # a comment, once it is read anew
def test_rows_are_the_same_in_any_piece_that_begins_and_ends_with_one(text: str, dialect: Dialect, pick: int) -> None:
    whole = rows_by_scanner(text.encode(), [], dialect)
    if whole:
        low, high = sorted((pick % len(whole), pick // 7 % len(whole)))
        start, stop = whole[low][0], whole[high][0]
        piece = rows_by_scanner(text.encode()[start:stop], [], dialect)
        assert [(at + start, *rest) for at, *rest in piece] == whole[low:high]


@examples(200)
@given(texts, st.sampled_from([PLAIN, Dialect(escape=ord("\\")), Dialect(quote=ord("a"))]))
def test_rows_whose_quotes_hold_are_those_of_the_csv_module(text: str, dialect: Dialect) -> None:
    rows = rows_by_scanner(text.encode(), [], dialect)
    assume(not any(broken for _, _, broken in rows) and "\\\n" not in text and "\\\r" not in text)
    assume(not text.endswith("\\"))
    quoting = {"quotechar": chr(dialect.quote or 0), "escapechar": chr(dialect.escape) if dialect.escape else None}
    expected = [row for row in csv.reader(io.StringIO(text, newline=""), **quoting) if row]
    assert [next(csv.reader(io.StringIO(row, newline=""), **quoting)) for _, row, _ in rows] == expected


def test_the_state_machine_agrees_with_itself_on_many_quotes() -> None:
    """More quotes than one lane of the vectorised run holds, in every combination of kinds."""
    rng = np.random.default_rng(7)
    text = "".join(rng.choice(['"', '"', ",", "a", "\n"], size=20_000))
    assert rows_by_scanner(text.encode(), [], PLAIN) == rows_one_character_at_a_time(text, PLAIN)


@pytest.mark.parametrize("block_bytes", [7, 100, 1000])
def test_a_line_longer_than_the_limit_is_one_row_and_is_not_kept(
    monkeypatch: pytest.MonkeyPatch, block_bytes: int
) -> None:
    monkeypatch.setattr(csv_rows, "MAX_ROW_BYTES", 100)
    monkeypatch.setattr(csv_rows, "MAX_QUOTED_BYTES", 200)
    data = b'a,b\n1,"' + b"x " * 500 + b'"\n2,3\n'
    blocks = [data[i : i + block_bytes] for i in range(0, len(data), block_bytes)]
    found = list(split_rows(blocks, PLAIN))
    assert [block.long_row_bytes for block in found] == [None, 1004, None]
    assert len(found[1].text.data) <= 200 + 2 * block_bytes or block_bytes > 100
    assert (found[2].offset, found[2].text.row(0)) == (1009, "2,3")


@pytest.mark.parametrize("block_bytes", [7, 60])
@pytest.mark.parametrize("end", ['"\n2,3\n', "", '"amid\n'])
def test_a_quote_that_takes_in_more_than_one_may_hold_breaks_its_own_line_alone(
    monkeypatch: pytest.MonkeyPatch, block_bytes: int, end: str
) -> None:
    monkeypatch.setattr(csv_rows, "MAX_QUOTED_BYTES", 100)
    data = ('a,b\n1,"' + "x,y\n" * 50 + end).encode()
    blocks = [data[i : i + block_bytes] for i in range(0, len(data), block_bytes)]
    found = rows_of(list(split_rows(blocks, PLAIN)))
    assert found[:3] == [("a,b", False), ('1,"x,y', True), ("x,y", False)]
    assert len(found) == 51 + len(end.splitlines())


@examples(200)
@given(texts, dialects, st.lists(st.integers(0, 100), max_size=6), st.integers(2, 30), st.integers(0, 40))
@example("a\n" + 'a,"\n\n\n"\n' + "a\n", PLAIN, [2], 3, 1)  # the long row is not the first one of its block
@example("a\n#" + "a" * 9 + "\na\n", Dialect(comment=ord("#")), [2], 3, 1)
@example("a\n" + " " * 9 + "\na\n", Dialect(trim=True), [2], 3, 1)
def test_rows_longer_than_the_limits_are_the_same_wherever_the_stream_is_cut(
    text: str, dialect: Dialect, cuts: list[int], row_bytes: int, more_bytes: int
) -> None:
    data = text.encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csv_rows, "MAX_ROW_BYTES", row_bytes)
        patch.setattr(csv_rows, "MAX_QUOTED_BYTES", row_bytes + more_bytes)
        whole, cut = (lengths(list(split_rows(blocks, dialect))) for blocks in ([data], cut_at(data, cuts)))
    assert cut == whole


def lengths(blocks: list[RowBlock]) -> list[tuple[int, int, bool]]:
    return [
        (block.offset + int(start), block.long_row_bytes or int(stop - start), block.open_quote)
        for block in blocks
        for start, stop in zip(block.text.starts, block.text.stops, strict=True)
    ]


def rows_of(blocks: list[RowBlock]) -> list[tuple[str, bool]]:
    return [(block.text.row(row), block.open_quote) for block in blocks for row in range(len(block))]


def test_many_quotes_opened_in_error_each_break_their_own_line() -> None:
    lines = ['1,"two', "3,4"] * 3_000 + ['5,"six"', "7,8"]
    found = rows_of(list(split_rows(["\n".join(lines).encode()], PLAIN)))
    assert [row for row, _ in found] == lines
    assert [row for row, broken in found if broken] == ['1,"two'] * 3_000

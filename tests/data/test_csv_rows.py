"""Finding rows: the vectorised scanner against a reader that looks at one character after the other."""

from __future__ import annotations

import csv
import io
import itertools

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from rayforest.data.csv import quotes as csv_quotes
from rayforest.data.csv import rows as csv_rows
from rayforest.data.csv import stray as csv_stray
from rayforest.data.csv.rows import split_rows

COMMA = ord(",")
texts = st.text(alphabet='ab", \r\n\t', max_size=60)


def rows_one_character_at_a_time(text: str, *, trim: bool) -> list[str]:
    """The rows as the documentation of csv.quotes defines them, with no cleverness."""
    rows, row, state = [], "", "value begins"
    blanks = " \t" if trim else ""
    i = 0
    while i < len(text):
        c = text[i]
        if state == "inside":
            row += c
            if c == '"' and text[i + 1 : i + 2] == '"':
                row += '"'
                i += 1
            elif c == '"':
                state = "amid"
        elif c in "\r\n":
            rows.append(row)
            row, state = "", "value begins"
        else:
            if c == ",":
                state = "value begins"
            elif c == '"' and state == "value begins":
                state = "amid" if is_stray(text, i, blanks) else "inside"
            elif not (trim and c in " \t" and state == "value begins"):
                state = "amid"
            row += c
        i += 1
    rows.append(row)
    return [row for row in rows if (row.strip(" \t") if trim else row)]


def is_stray(text: str, opening: int, blanks: str) -> bool:
    """Whether no quote closes the value that begins here, or one in a later line with text after it."""
    i = opening + 1
    while text[i : i + 1] != '"' or text[i + 1 : i + 2] == '"':
        i += 2 if text[i : i + 2] == '""' else 1
        if i >= len(text):
            return True
    after = text[i + 1 :].lstrip(blanks)[:1] if blanks else text[i + 1 : i + 2]
    is_later_line = "\n" in text[opening:i] or "\r" in text[opening:i]
    return i - opening > csv_stray.MAX_QUOTED_BYTES or (is_later_line and after not in ("", ",", "\r", "\n"))


def rows_by_scanner(data: bytes, cuts: list[int], *, trim: bool) -> list[tuple[int, bytes]]:
    """(position in the stream, text) of each row, with the stream cut into blocks at `cuts`."""
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    blocks = [data[a:b] for a, b in itertools.pairwise(edges) if b > a]
    found = []
    for block in split_rows(blocks, COMMA, trim=trim):
        found += [
            (block.offset + int(start), block.text.data[start:stop])
            for start, stop in zip(block.text.starts, block.text.stops, strict=True)
        ]
    return found


@settings(derandomize=True, deadline=None, max_examples=400)
@given(texts, st.booleans(), st.lists(st.integers(0, 100), max_size=6))
def test_rows_are_the_same_wherever_the_stream_is_cut_into_blocks(text: str, trim: bool, cuts: list[int]) -> None:
    data = text.encode()
    found = rows_by_scanner(data, cuts, trim=trim)
    assert [row.decode() for _, row in found] == rows_one_character_at_a_time(text, trim=trim)
    assert all(data[at : at + len(row)] == row for at, row in found)


@settings(derandomize=True, deadline=None, max_examples=400)
@given(texts, st.booleans(), st.lists(st.integers(0, 100), max_size=6), st.integers(1, 12))
def test_a_quote_is_stray_beyond_the_same_byte_wherever_the_stream_is_cut(
    text: str, trim: bool, cuts: list[int], limit: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csv_stray, "MAX_QUOTED_BYTES", limit)
        patch.setattr(csv_quotes, "MAX_QUOTED_BYTES", limit)
        found = rows_by_scanner(text.encode(), cuts, trim=trim)
        assert [row.decode() for _, row in found] == rows_one_character_at_a_time(text, trim=trim)


@settings(derandomize=True, deadline=None, max_examples=300)
@given(texts)
def test_rows_hold_what_the_csv_module_reads_where_no_quote_is_stray(text: str) -> None:
    assume(not any(len(block.quotes.stray) for block in split_rows([text.encode()], COMMA, trim=False)))
    expected = [row for row in csv.reader(io.StringIO(text, newline="")) if row]
    found = [
        next(csv.reader(io.StringIO(row.decode(), newline="")))
        for _, row in rows_by_scanner(text.encode(), [], trim=False)
    ]
    assert found == expected


def test_the_state_machine_agrees_with_itself_on_many_quotes() -> None:
    """More quotes than one lane of the vectorised run holds, in every combination of kinds."""
    rng = np.random.default_rng(7)
    text = "".join(rng.choice(['"', '"', ",", "a", "\n"], size=20_000))
    assert [row.decode() for _, row in rows_by_scanner(text.encode(), [], trim=False)] == rows_one_character_at_a_time(
        text, trim=False
    )


@pytest.mark.parametrize("block_bytes", [7, 100, 1000])
def test_a_row_longer_than_the_limit_is_one_row_and_is_not_kept(
    monkeypatch: pytest.MonkeyPatch, block_bytes: int
) -> None:
    monkeypatch.setattr(csv_rows, "MAX_ROW_BYTES", 100)
    data = b'a,b\n1,"' + b"x\n" * 500 + b'"\n2,3\n'
    blocks = [data[i : i + block_bytes] for i in range(0, len(data), block_bytes)]
    found = list(split_rows(blocks, COMMA, trim=False))
    if block_bytes > 100:  # a block is held in memory anyway
        assert sum(map(len, found)) == 3
        return
    lengths = [block.long_row_bytes for block in found]
    assert lengths == [None, 1004, None]
    assert len(found[1].text.data) <= 100 + 2 * block_bytes
    assert (found[2].offset, found[2].text.row(0)) == (1009, "2,3")


def test_a_stray_quote_is_told_with_its_line_alone() -> None:
    first, last = split_rows([b'1,2\n3,"4\n5,6\n', b"7,8\n"], COMMA, trim=False)
    assert [first.text.row(i) for i in range(len(first))] == ["1,2", '3,"4', "5,6"]
    assert first.rows_at(first.quotes.stray).tolist() == [1]
    assert (last.text.row(0), last.quotes.stray.size) == ("7,8", 0)


@pytest.mark.parametrize("blank", [b"", b" "])
def test_a_stray_quote_is_found_where_the_quote_that_would_close_it_ends_a_block(blank: bytes) -> None:
    blocks = [b'1,"2\n3,"' + blank, blank, b'four"\n5,"', b'6\n7,"eight"\n']
    found = list(split_rows(blocks, COMMA, trim=bool(blank)))
    assert sum(map(len, found)) == 4
    stray = [block.text.row(int(row)) for block in found for row in block.rows_at(block.quotes.stray)]
    assert stray == ['1,"2', '5,"6']

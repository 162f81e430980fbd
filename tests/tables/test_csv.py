"""Text tables: every row comes out once, as values or as a broken row with its reason."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import itertools
from pathlib import Path

import pyarrow as pa
import pytest
from examples import examples
from hypothesis import assume, given
from hypothesis import strategies as st
from table_reading import csv_source, read_all

from rayforest.engine.shards import plan_shards
from rayforest.errors import InputError
from rayforest.kinds import Kind
from rayforest.tables.csv import pieces as csv_pieces
from rayforest.tables.csv import rows as csv_rows
from rayforest.tables.csv.rows import OPEN_QUOTE
from rayforest.tables.reading import CsvFormat, Source, columns, inspect, list_files, read

fields = st.one_of(
    st.text(alphabet='ab 1",\n\r\té', max_size=4),
    st.sampled_from(['""', '"x,y"', '"x\ny"', '"say ""hi"""', '" "', 'in"ch', '"a"b', '"', '"\r\n"', "é"]),
)
lines = st.one_of(
    st.lists(fields, min_size=3, max_size=3),
    st.lists(fields, max_size=5),
).map(",".join)
bodies = st.lists(st.tuples(lines, st.sampled_from(["\n", "\r\n", "\r", "\n\n"])), max_size=12).map(
    lambda rows: "".join(line + end for line, end in rows)
)


@examples(50)
@given(bodies, st.booleans(), st.integers(1, 5), st.integers(1, 40))
def test_any_slicing_gives_the_rows_of_one_slice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, trim: bool, shard_rows: int, piece_bytes: int
) -> None:
    source = csv_source(tmp_path, f"a,b,c\n{body}".encode(), CsvFormat(trim=trim))
    whole = read_all(source)
    with monkeypatch.context() as patch:
        patch.setattr(csv_pieces, "PIECE_BYTES", piece_bytes)
        sliced = read_all(source, shard_rows=shard_rows)
    assert all(piece.rows <= shard_rows for file in sliced.files for piece in file.pieces)
    assert (sliced.values, sliced.broken, sliced.raw) == (whole.values, whole.broken, whole.raw)


@examples(50)
@given(bodies)
def test_rows_are_those_of_the_csv_module_and_what_it_calls_wrong_is_broken(tmp_path: Path, body: str) -> None:
    source = csv_source(tmp_path, f"a,b,c\n{body}".encode(), CsvFormat())
    found = read_all(source)
    assume(not any(broken.reason == OPEN_QUOTE for broken in found.broken.values()))  # the csv module swallows rows
    lenient = [row for row in csv.reader(io.StringIO(body, newline="")) if row]
    assert found.count == len(lenient)
    for (_, row), values in found.values.items():
        assert values == tuple(field or None for field in lenient[row])
    for (_, row), broken in found.broken.items():
        try:
            strict = list(csv.reader(io.StringIO(broken.raw, newline=""), strict=True))
            assert len(strict) == 1, broken
            assert len(strict[0]) != 3, broken
        except csv.Error:
            pass  # text after a closing quote, or a quote that stays open
        assert len(lenient[row]) != 3 or "quote" in broken.reason


def test_short_and_long_lines_are_broken_and_never_padded_or_cut(tmp_path: Path) -> None:
    found = read_all(csv_source(tmp_path, b"a,b,c\n1,2,3\n1,2\n\n1,2,3,4\n,,\n"))
    assert list(found.values.values()) == [("1", "2", "3"), (None, None, None)]
    assert [(b.row, b.reason, b.raw) for b in found.broken.values()] == [
        (1, "too few fields: 2 instead of 3", "1,2"),
        (2, "too many fields: 4 instead of 3", "1,2,3,4"),
    ]


@pytest.mark.parametrize("piece_bytes", [1, 40, 1 << 20])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
@pytest.mark.parametrize(
    "after",
    [
        b"5,6\n" * 100,
        b'5,6\n5,"six"\n' * 50,
        b'5,""\n' * 50 + b'"5",6\n' * 50,
        b"5,6\n" * 99 + b'5,"six\nand seven"\n',
    ],
)
def test_a_quote_that_nothing_closes_breaks_its_own_line_and_swallows_no_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: bytes, encoding: str, piece_bytes: int
) -> None:
    monkeypatch.setattr(csv_pieces, "PIECE_BYTES", piece_bytes)
    monkeypatch.setattr("rayforest.tables.csv.blocks.read_blocks.__defaults__", (0, None, 64))
    data = (b'a,b\n1,2\n3,"4\n' + after).decode().encode(encoding)
    found = read_all(csv_source(tmp_path, data, CsvFormat(encoding=encoding)))
    ((place, broken),) = found.broken.items()
    assert (place, broken.reason, broken.raw) == (("table.csv", 1), OPEN_QUOTE, '3,"4')
    assert len(found.values) == 101


def test_a_quoted_value_may_be_longer_than_a_block_and_stays_one_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rayforest.tables.csv.blocks.read_blocks.__defaults__", (0, None, 16))
    text = "line, and line\n" * 10
    found = read_all(csv_source(tmp_path, f'a,b\n1,"{text}"\n2,"{text}\n3,4\n'.encode()))
    first, *_, last = found.values.values()
    assert (first, last) == (("1", text), ("3", "4"))
    assert found.broken["table.csv", 1].raw == '2,"line, and line'


def test_a_quoted_value_beyond_the_limit_of_a_row_is_broken_by_itself_whatever_lines_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(csv_rows, "MAX_ROW_BYTES", 1 << 10)
    monkeypatch.setattr(csv_pieces, "PIECE_BYTES", 1 << 10)
    monkeypatch.setattr("rayforest.tables.csv.blocks.read_blocks.__defaults__", (0, None, 1 << 9))
    found = read_all(csv_source(tmp_path, b'a,b\n1,2\n3,"' + b"1,2\n" * 5_000 + b'"\n5,6\n'))
    assert found.values == {("table.csv", 0): ("1", "2"), ("table.csv", 2): ("5", "6")}
    assert [broken.reason[:23] for broken in found.broken.values()] == ["a row of 20,004 bytes, "]


def test_a_header_with_a_quote_that_nothing_closes_is_refused_by_name(tmp_path: Path) -> None:
    for rows in (3, 100_000):
        source = csv_source(tmp_path, b'a,"b\n' + b"1,2\n" * rows)
        with pytest.raises(InputError, match=r"the header has a quote that is never closed(.|\n)*skip_lines"):
            inspect(list_files(source)[0], source, shard_rows=10)
    found = read_all(csv_source(tmp_path, b'a,"b\n1,2\n', CsvFormat(header=False, names=("a", "b"), skip_lines=1)))
    assert list(found.values.values()) == [("1", "2")]


def test_a_row_beyond_the_limit_is_broken_and_its_text_is_shortened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(csv_rows, "MAX_ROW_BYTES", 1 << 20)
    monkeypatch.setattr(csv_pieces, "PIECE_BYTES", 1 << 20)
    monkeypatch.setattr("rayforest.tables.csv.blocks.read_blocks.__defaults__", (0, None, 1 << 19))
    found = read_all(csv_source(tmp_path, b'a,b\n1,2\n3,"' + b"long " * 500_000 + b'"\n5,6\n'))
    assert found.values == {("table.csv", 0): ("1", "2"), ("table.csv", 2): ("5", "6")}
    (broken,) = found.broken.values()
    assert broken.reason.startswith("a row of 2,500,004 bytes")
    assert len(broken.raw) < 70_000
    assert broken.raw.endswith("...")


def test_nul_bytes_and_undecodable_bytes_break_their_row_only(tmp_path: Path) -> None:
    found = read_all(csv_source(tmp_path, "a,b\nfine,ü\n".encode() + b"\0,1\n\xff,2\ngood,3\n"))
    assert list(found.values.values()) == [("fine", "ü"), ("good", "3")]
    assert [(b.row, b.reason, b.raw) for b in found.broken.values()] == [
        (1, "a NUL byte", "\0,1"),
        (2, "bytes that are not utf-8", "\\xff,2"),
    ]


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_all_line_ends_are_understood_inside_and_outside_quotes(tmp_path: Path, ending: str) -> None:
    text = ending.join(["a,b", '1,"x' + ending + 'y"', "", "2,z", ""])
    found = read_all(csv_source(tmp_path, text.encode()))
    assert list(found.values.values()) == [("1", f"x{ending}y"), ("2", "z")]


def test_trim_takes_blanks_from_values_and_lets_a_quote_follow_them(tmp_path: Path) -> None:
    data = b'name, note\n 1 , "a, b" \n2,\t"say ""hi""" \n   \n ? ,  \n3, it"s\n'
    found = read_all(csv_source(tmp_path, data, CsvFormat(trim=True, null_words=("?",))))
    assert list(found.values.values()) == [("1", "a, b"), ("2", 'say "hi"'), (None, None), ("3", 'it"s')]
    assert found.raw["table.csv", 0] == ' 1 , "a, b" '
    assert not found.broken


def test_without_trim_blanks_belong_to_the_value(tmp_path: Path) -> None:
    found = read_all(csv_source(tmp_path, b'a,b\n1, x\n2, "y, z"\n'))
    assert found.values == {("table.csv", 0): ("1", " x")}
    assert found.broken["table.csv", 1].reason == "too many fields: 3 instead of 2"


def test_null_words_are_null_quoted_or_not(tmp_path: Path) -> None:
    found = read_all(csv_source(tmp_path, b'a;b\nNA;"NA"\n"";x\nNAN;?\n', CsvFormat(";", null_words=("NA", "?"))))
    assert list(found.values.values()) == [(None, None), (None, "x"), ("NAN", None)]


@pytest.mark.parametrize(
    ("encoding", "pieces"), [("utf-8", 4), ("latin-1", 4), ("cp1252", 4), ("utf-16", 1), ("utf-16-le", 1), ("gbk", 1)]
)
def test_encodings_give_the_same_rows(tmp_path: Path, encoding: str, pieces: int) -> None:
    word = "中文" if encoding == "gbk" else "naïve"
    text = (
        f'key,wört\n1,{word}\n2,"{word},\n{word}"\n3,plain\n4,{word}\n'
        if encoding != "gbk"
        else (f'key,wort\n1,{word}\n2,"{word},\n{word}"\n3,plain\n4,{word}\n')
    )
    source = csv_source(tmp_path, text.encode(encoding), CsvFormat(encoding=encoding))
    found = read_all(source, shard_rows=1)
    assert len(found.files[0].pieces) == pieces
    assert found.ranges == 4
    assert [values[1] for values in found.values.values()] == [word, f"{word},\n{word}", "plain", word]
    assert found.raw["table.csv", 0] == f"1,{word}"
    assert [n[0] for n in columns(list_files(source)[0], source)] == ["k", "w"]


def test_bytes_that_an_encoding_does_not_know_break_their_row(tmp_path: Path) -> None:
    found = read_all(csv_source(tmp_path, b"a,b\n1,\xe9\n2,\x81\n", CsvFormat(encoding="cp1252")))
    assert list(found.values.values()) == [("1", "é")]
    assert [b.reason for b in found.broken.values()] == ["bytes that are not cp1252"]


def test_a_byte_order_mark_is_not_part_of_the_first_name(tmp_path: Path) -> None:
    source = csv_source(tmp_path, b"\xef\xbb\xbfa,b\n1,2\n\xef\xbb\xbf3,4\n")
    assert list(columns(list_files(source)[0], source)) == ["a", "b"]
    for shard_rows in (1, 2):  # amid the file it is a character like any other, in whichever range
        assert list(read_all(source, shard_rows=shard_rows).values.values()) == [("1", "2"), ("\ufeff3", "4")]


@pytest.mark.parametrize(
    ("name", "pack"),
    [
        ("t.csv.gz", gzip.compress),
        ("t.csv.bz2", bz2.compress),
        ("t.csv.zst", lambda data: pa.compress(data, "zstd", asbytes=True)),
    ],
)
def test_compressed_files_are_one_piece_and_can_be_cut_by_row(tmp_path: Path, name: str, pack) -> None:  # type: ignore[no-untyped-def]
    body = b"".join(b"%d,x%d\n" % (i, i) for i in range(1000))
    found = read_all(csv_source(tmp_path, pack(b"junk\na,b\n" + body), CsvFormat(skip_lines=1), name), shard_rows=300)
    assert len(found.files[0].pieces) == 1
    assert found.ranges == 4
    assert list(found.values.values()) == [(str(i), f"x{i}") for i in range(1000)]


def test_a_damaged_compressed_file_is_an_input_error(tmp_path: Path) -> None:
    data = gzip.compress(b"a,b\n" + b"1,2\n" * 5000)
    for broken, said in (
        (data[:-20], "cannot be read"),
        (b"no gzip at all", "is not compressed with gzip: it is plain"),
    ):
        with pytest.raises(InputError, match=rf"t\.csv\.gz {said}"):
            read_all(csv_source(tmp_path, broken, name="t.csv.gz"))


def test_names_come_from_the_header_from_the_options_or_from_positions(tmp_path: Path) -> None:
    def names(data: bytes, form: CsvFormat) -> list[str]:
        source = csv_source(tmp_path, data, form)
        return list(columns(list_files(source)[0], source))

    assert names(b"\n\na,b\n1,2\n", CsvFormat()) == ["a", "b"]
    assert names(b"a,,c,\n1,2,3,4\n", CsvFormat()) == ["a", "c2", "c", "c4"]
    assert names(b"1,2\n", CsvFormat(header=False)) == ["c1", "c2"]
    assert names(b"1,2\n", CsvFormat(header=False, names=("x", "y"))) == ["x", "y"]
    assert names(b"a,b\n1,2\n", CsvFormat(names=("x", "y"))) == ["x", "y"]
    assert names(b'junk\r\n"not closed\r\na,b\r\n1,2\r\n', CsvFormat(skip_lines=2)) == ["a", "b"]
    assert names(b' a , "b, c"\n1,2\n', CsvFormat(trim=True)) == ["a", "b, c"]


def test_names_replace_the_header_and_the_header_is_no_row(tmp_path: Path) -> None:
    found = read_all(csv_source(tmp_path, b"a,b\n1,2\n", CsvFormat(names=("x", "y"))), ["y"])
    assert list(found.values.values()) == [("2",)]


@pytest.mark.parametrize(
    ("data", "form", "message"),
    [
        (b"a,b,a\n1,2,3\n", CsvFormat(), "two columns are named 'a'"),
        (b"a,b\n1,2\n", CsvFormat(names=("x",)), "names do not fit"),
        (b"1,2\n3,4\n", CsvFormat(header=False, names=("x", "y", "z")), "names do not fit"),
        (b"", CsvFormat(), "is empty"),
        (b"\n \n\n", CsvFormat(trim=True), "is empty"),
        (b"a,b\n", CsvFormat(skip_lines=3), "fewer lines than skip_lines"),
        ("a,b\n1,2\n".encode("utf-16"), CsvFormat(), "mark of UTF-16"),
        (b"a,b\n", CsvFormat(encoding="utf-9"), "encoding 'utf-9' is not known"),
    ],
)
def test_heads_that_make_no_sense_are_refused(tmp_path: Path, data: bytes, form: CsvFormat, message: str) -> None:
    source = csv_source(tmp_path, data, form)
    with pytest.raises(InputError, match=message):
        inspect(list_files(source)[0], source, shard_rows=10)


def test_a_file_without_rows_has_no_pieces(tmp_path: Path) -> None:
    for data, form in ((b"a,b\n", CsvFormat()), (b"a,b", CsvFormat()), (b"", CsvFormat(header=False, names=("a",)))):
        source = csv_source(tmp_path, data, form)
        assert inspect(list_files(source)[0], source, shard_rows=10).pieces == ()


def test_files_with_another_order_of_columns_are_matched_by_name(tmp_path: Path) -> None:
    (tmp_path / "1.csv").write_bytes(b"a,b\n1,2\n")
    (tmp_path / "2.csv").write_bytes(b"b,extra,a\n4,x,3\n")
    found = read_all(Source(("*.csv",), tmp_path), ["a", "b"])
    assert list(found.values.values()) == [("1", "2"), ("3", "4")]


def test_a_missing_column_names_the_file_and_the_nearest_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"table\.csv has no column 'amuont'(.|\n)*did you mean 'amount'"):
        read_all(csv_source(tmp_path, b"amount,b\n1,2\n"), ["amuont"])


def test_pieces_meet_and_begin_at_line_starts(tmp_path: Path) -> None:
    data = b"a,b\n" + b'1,"x\ny"\n\n' * 100 + b"2,3"
    source = csv_source(tmp_path, data)
    pieces = inspect(list_files(source)[0], source, shard_rows=7).pieces
    assert [p.rows for p in pieces] == [7] * 14 + [3]
    assert pieces[0].byte_start >= 4
    assert pieces[-1].byte_stop == len(data)
    for piece, following in itertools.pairwise(pieces):
        assert piece.byte_stop == following.byte_start
        assert data[following.byte_start - 1 :].startswith((b'\n1,"', b"\n2,3"))


def test_slices_of_several_pieces_read_all_of_them(tmp_path: Path) -> None:
    source = csv_source(tmp_path, b"a\n" + b"".join(b"%d\n" % i for i in range(100)))
    file = inspect(list_files(source)[0], source, shard_rows=10)
    (shard,) = plan_shards([file], shard_rows=1000, shard_bytes=1 << 30)
    (part,) = shard.ranges
    assert [v for b in read(part, source, ["a"]) for v in b.table["a"].to_pylist()] == [str(i) for i in range(100)]


def test_batches_are_bounded(tmp_path: Path) -> None:
    source = csv_source(tmp_path, b"a\n" + b"7\n" * 300_000)
    (shard,) = plan_shards(
        [inspect(list_files(source)[0], source, shard_rows=10**6)], shard_rows=10**6, shard_bytes=1 << 30
    )
    sizes = [len(batch.rows) for batch in read(shard.ranges[0], source, [])]
    assert max(sizes) <= 131_072
    assert sum(sizes) == 300_000


def test_kinds_are_inferred_from_the_values_that_are_not_null(tmp_path: Path) -> None:
    data = (
        b"number,time,flag,word,empty,mixed\n"
        b"1,2024-01-31,true,yes,,1\n"
        b"NA,2024-02-01 10:00:00,FALSE,no,,x\n"
        b"-2.5e3,NA,NA,NA,NA,3\n"
    )
    source = csv_source(tmp_path, data, CsvFormat(null_words=("NA",)))
    assert columns(list_files(source)[0], source) == {
        "number": Kind.NUMBER,
        "time": Kind.TIMESTAMP,
        "flag": Kind.BOOLEAN,
        "word": Kind.STRING,
        "empty": Kind.STRING,
        "mixed": Kind.STRING,
    }

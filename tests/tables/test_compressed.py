"""Compressed text tables: all members are read, and a damaged file is an error, never fewer rows."""

from __future__ import annotations

import bz2
import gzip
import lzma
import resource
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from examples import examples
from hypothesis import given
from hypothesis import strategies as st
from table_reading import csv_source, read_or_refuse

from rayforest.errors import InputError
from rayforest.tables.csv.blocks import read_blocks
from rayforest.tables.csv.compressed import unpacked_blocks
from rayforest.tables.raw_file import LocalFile


def _zstd(data: bytes) -> bytes:
    out = pa.BufferOutputStream()
    with pa.CompressedOutputStream(out, "zstd") as packed:
        packed.write(data)
    return out.getvalue().to_pybytes()


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": _zstd,
}
endings = pytest.mark.parametrize("ending", PACKERS)


def _rows(begin: int, stop: int) -> bytes:
    return b"".join(b"%d,%d\n" % (i, i * 7919 % 1000) for i in range(begin, stop))


def _unpack(path: Path, block_bytes: int = 1 << 20) -> bytes:
    return b"".join(read_blocks(LocalFile(path), block_bytes=block_bytes))


@endings
def test_members_one_after_the_other_are_one_file_empty_ones_too(tmp_path: Path, ending: str) -> None:
    pack = PACKERS[ending]
    empty = pack(b"")
    data = (
        empty + pack(b"id,x\n" + _rows(0, 100)) + pack(_rows(100, 200)) + empty + empty + pack(_rows(200, 300)) + empty
    )
    found = read_or_refuse(csv_source(tmp_path, data, name=f"t.csv{ending}"))
    assert not isinstance(found, InputError)
    assert [values[0] for values in found.values.values()] == [str(i) for i in range(300)]


@examples(30)
@given(st.lists(st.binary(max_size=300), max_size=5), st.sampled_from(list(PACKERS)), st.integers(1, 100))
def test_any_members_in_blocks_of_any_size_give_their_bytes(
    tmp_path: Path, members: list[bytes], ending: str, block_bytes: int
) -> None:
    path = tmp_path / f"t{ending}"
    path.write_bytes(b"".join(PACKERS[ending](member) for member in members))
    blocks = list(unpacked_blocks(LocalFile(path), ending, block_bytes))
    assert b"".join(blocks) == b"".join(members)
    assert all(0 < len(block) <= block_bytes for block in blocks)


@endings
def test_a_file_cut_anywhere_inside_a_member_is_refused_by_name(tmp_path: Path, ending: str) -> None:
    first, second = (PACKERS[ending](part) for part in (b"id,x\n" + _rows(0, 60), _rows(60, 120)))
    whole, path = first + second, tmp_path / f"t.csv{ending}"
    for cut in {*range(1, len(whole), 3), len(first) - 1, len(first) + 1, len(whole) - 1} - {len(first)}:
        path.write_bytes(whole[:cut])
        with pytest.raises(InputError, match=path.name):
            _unpack(path)
    path.write_bytes(first)  # a cut between members is a whole file: no format tells how many there are
    assert _unpack(path) == b"id,x\n" + _rows(0, 60)


@endings
@pytest.mark.parametrize("garbage", [b"\n", b"\0", b"\0\0\0\0\0", b"garbage" * 100, b"1,2\n", b"\x1f\x8b"])
def test_anything_after_the_end_of_the_compressed_data_is_refused_by_name(
    tmp_path: Path, ending: str, garbage: bytes
) -> None:
    path = tmp_path / f"t.csv{ending}"
    path.write_bytes(PACKERS[ending](b"id,x\n" + _rows(0, 60)) + garbage)
    with pytest.raises(InputError, match=path.name):
        _unpack(path)


@examples(40)
@given(st.sampled_from([".gz", ".bz2", ".xz"]), st.integers(0, 10_000), st.integers(1, 255))
def test_a_changed_byte_changes_no_value_where_the_data_has_a_checksum(
    tmp_path: Path, ending: str, place: int, flip: int
) -> None:
    rows, path = b"id,x\n" + _rows(0, 60), tmp_path / f"t.csv{ending}"
    damaged = bytearray(PACKERS[ending](rows))
    damaged[place % len(damaged)] ^= flip
    path.write_bytes(damaged)
    try:
        found = _unpack(path)
    except InputError as error:
        found = rows if path.name in error.what else b""
    assert found == rows


def test_frames_of_zstd_that_hold_no_data_are_skipped(tmp_path: Path) -> None:
    path, skipped = tmp_path / "t.csv.zst", b"\x5e\x2a\x4d\x18" + (5).to_bytes(4, "little") + b"index"
    path.write_bytes(skipped + _zstd(b"id,x\n") + skipped + _zstd(b"1,2\n") + skipped)
    assert _unpack(path) == b"id,x\n1,2\n"


@pytest.mark.parametrize("padding", [4, 8, 1 << 20])
def test_the_padding_that_xz_allows_is_no_data(tmp_path: Path, padding: int) -> None:
    path = tmp_path / "t.csv.xz"
    path.write_bytes(lzma.compress(b"id,x\n") + bytes(padding) + lzma.compress(b"1,2\n") + bytes(padding))
    assert _unpack(path) == b"id,x\n1,2\n"
    path.write_bytes(lzma.compress(b"id,x\n") + bytes(padding + 1) + lzma.compress(b"1,2\n"))
    with pytest.raises(InputError, match=r"t\.csv\.xz"):
        _unpack(path)


@endings
@pytest.mark.parametrize("other", PACKERS)
def test_an_ending_that_tells_another_compression_is_refused_with_the_right_one(
    tmp_path: Path, ending: str, other: str
) -> None:
    path = tmp_path / f"t.csv{ending}"
    path.write_bytes(PACKERS[other](b"id,x\n" + _rows(0, 60)))
    if ending == other:
        assert _unpack(path) == b"id,x\n" + _rows(0, 60)
        return
    with pytest.raises(
        InputError, match=rf"t\.csv\{ending} is not compressed with .*: it is compressed with"
    ) as refused:
        _unpack(path)
    assert f"rename it to t.csv{other}:" in refused.value.next_step


@endings
def test_plain_text_under_a_compressed_ending_and_the_reverse_are_refused(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"t.csv{ending}"
    path.write_bytes(b"id,x\n1,2\n")
    with pytest.raises(InputError, match="it is plain text") as refused:
        _unpack(path)
    assert "rename it to t.csv:" in refused.value.next_step
    plain = tmp_path / "u.csv"
    plain.write_bytes(PACKERS[ending](b"id,x\n1,2\n"))
    with pytest.raises(InputError, match=r"u\.csv is compressed with \w+, and its ending does not say so") as refused:
        _unpack(plain)
    assert f"rename it to u.csv{ending}" in refused.value.next_step


@endings
def test_memory_stays_bounded_on_a_file_that_unpacks_to_a_thousand_times_its_size(tmp_path: Path, ending: str) -> None:
    path, size = tmp_path / f"t.csv{ending}", 0
    packed = PACKERS[ending](b"id,x\n" + b"1,2\n" * (4 << 20))
    path.write_bytes(packed * 12)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for block in unpacked_blocks(LocalFile(path), ending, 1 << 20):
        assert len(block) <= 1 << 20
        size += len(block)
    assert size == 12 * (5 + (16 << 20))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10  # KiB

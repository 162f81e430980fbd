"""Planning is pure: every row once, in order, whole where possible, and the same for everybody."""

from __future__ import annotations

import pytest
from examples import examples
from hypothesis import given
from hypothesis import strategies as st

from rayforest.engine.plan import encode_plan, in_order, open_plan
from rayforest.engine.shards import MAX_RANGES, InputFile, Piece, RowRange, Shard, plan_shards
from rayforest.engine.stores.memory import MemoryStore


def file(name: str, pieces: list[tuple[int, int]], *, ranged: bool = False) -> InputFile:
    """A file of pieces (rows, bytes)."""
    made, row, byte = [], 0, 10
    for rows, cost in pieces:
        made.append(Piece(row, rows, byte if ranged else 0, byte + cost if ranged else 0, cost))
        row, byte = row + rows, byte + cost
    return InputFile(name, f"/data/{name}", byte, "7", f"id of {name}", tuple(made))


@st.composite
def sources(draw: st.DrawFn) -> list[InputFile]:
    piece = st.tuples(st.integers(0, 300), st.integers(0, 1 << 22))
    return [
        file(f"f{number}", draw(st.lists(piece, max_size=6)), ranged=draw(st.booleans()))
        for number in range(draw(st.integers(0, 12)))
    ]


@examples(80)
@given(files=sources(), shard_rows=st.integers(1, 400), shard_bytes=st.integers(1, 1 << 23))
def test_every_row_is_in_one_shard_and_in_its_place(files: list[InputFile], shard_rows: int, shard_bytes: int) -> None:
    shards = list(in_order(plan_shards(files, shard_rows=shard_rows, shard_bytes=shard_bytes)))
    found: dict[str, list[int]] = {}
    for shard in shards:
        for row_range in shard.ranges:
            found.setdefault(row_range.path, []).extend(
                range(row_range.first_row, row_range.first_row + row_range.rows)
            )
    assert list(found) == [f.path for f in files]  # files without rows included
    for f in files:
        assert found[f.path] == list(range(sum(p.rows for p in f.pieces)))


@examples(80)
@given(files=sources(), shard_rows=st.integers(1, 400), shard_bytes=st.integers(1, 1 << 23))
def test_no_shard_is_larger_than_asked_but_for_a_piece_that_cannot_be_cut(
    files: list[InputFile], shard_rows: int, shard_bytes: int
) -> None:
    cost = {f.path: f for f in files}
    for shard in plan_shards(files, shard_rows=shard_rows, shard_bytes=shard_bytes):
        filled = [row_range for row_range in shard.ranges if row_range.rows]
        if shard.rows > shard_rows:
            assert len(filled) == 1
            assert (filled[0].first_row, filled[0].rows) in [(p.first_row, p.rows) for p in cost[filled[0].path].pieces]
            assert filled[0].byte_stop
        assert len(shard.ranges) <= MAX_RANGES


@examples(40)
@given(files=sources(), shard_rows=st.integers(1, 400))
def test_a_byte_range_is_never_cut(files: list[InputFile], shard_rows: int) -> None:
    starts = {f.path: {p.byte_start for p in f.pieces} for f in files}
    stops = {f.path: {p.byte_stop for p in f.pieces} for f in files}
    for shard in plan_shards(files, shard_rows=shard_rows, shard_bytes=1 << 20):
        for row_range in shard.ranges:
            if row_range.byte_stop:
                assert row_range.byte_start in starts[row_range.path]
                assert row_range.byte_stop in stops[row_range.path]


def test_a_large_row_group_is_cut_into_equal_parts() -> None:
    rows = [shard.rows for shard in plan_shards([file("a", [(1_000_001, 0)])], shard_rows=1_000_000, shard_bytes=1)]
    assert rows == [500_001, 500_000]


def test_a_row_group_of_up_to_two_shards_stays_whole_where_that_is_allowed() -> None:
    files = [file("a", [(800, 9), (801, 9)])]
    assert [shard.rows for shard in plan_shards(files, shard_rows=400, shard_bytes=9)] == [400, 400, 267, 267, 267]
    whole = plan_shards(files, shard_rows=400, shard_bytes=9, whole_shards=2)
    assert [shard.rows for shard in whole] == [800, 267, 267, 267]


def test_row_groups_stay_whole_where_a_shard_is_half_full() -> None:
    shards = plan_shards([file("a", [(100, 1)] * 7)], shard_rows=250, shard_bytes=1 << 30)
    assert [shard.rows for shard in shards] == [200, 200, 200, 100]


def test_small_files_are_packed_and_a_large_one_is_cut() -> None:
    files = [file(f"s{n}", [(10, 100)]) for n in range(2000)] + [file("large", [(100_000, 1 << 20)] * 40)]
    shards = list(plan_shards(files, shard_rows=250_000, shard_bytes=64 << 20))
    small = [shard for shard in shards if shard.ranges[0].path.startswith("s")]
    assert 16 <= len(small) <= 64
    assert 16 <= len(shards) - len(small) <= 20
    assert max(len(shard.ranges) for shard in shards) <= 66


def test_a_source_without_files_has_no_shards_and_one_without_rows_has_one() -> None:
    assert list(plan_shards([], shard_rows=1, shard_bytes=1)) == []
    (only,) = plan_shards([file("a", []), file("b", [(0, 0)])], shard_rows=1, shard_bytes=1)
    assert [(row_range.path, row_range.rows) for row_range in only.ranges] == [("a", 0), ("b", 0)]


def test_pieces_with_a_gap_are_refused() -> None:
    gap = InputFile("a", "a", 1, "", "", (Piece(0, 5, 0, 0, 5), Piece(6, 1, 0, 0, 1)))
    with pytest.raises(ValueError, match="gap"):
        list(plan_shards([gap], shard_rows=10, shard_bytes=10))


@examples(30)
@given(files=sources(), shard_rows=st.integers(1, 400))
def test_a_plan_gives_back_its_shards_and_its_inputs(files: list[InputFile], shard_rows: int) -> None:
    shards = list(plan_shards(files, shard_rows=shard_rows, shard_bytes=1 << 22))
    store = MemoryStore("plans")
    store.create("plan.parquet", encode_plan(shards))
    plan = open_plan(store, "plan.parquet")
    assert plan is not None
    assert list(plan) == shards
    assert list(plan) == shards  # again
    assert (len(plan), plan.rows) == (len(shards), sum(shard.rows for shard in shards))
    assert plan.bytes == sum(f.size for f in files)
    assert [(i.path, i.size, i.stamp, i.identity) for i in plan.inputs()] == [
        (f.path, f.size, f.stamp, f.identity) for f in files
    ]


def test_a_plan_finds_a_source_that_has_moved() -> None:
    store = MemoryStore("moved")
    store.create("p", encode_plan(plan_shards([file("a", [(3, 3)])], shard_rows=9, shard_bytes=9)))
    moved = open_plan(store, "p", lambda path: (f"/elsewhere/{path}", "later"))
    assert moved is not None
    assert [(row_range.uri, row_range.stamp) for shard in moved for row_range in shard.ranges] == [
        ("/elsewhere/a", "later")
    ]


@pytest.mark.parametrize("rows", [[(0, 5), (6, 1)], [(0, 5), (4, 1)], [(1, 5)]], ids=["gap", "overlap", "late start"])
def test_shards_that_do_not_cover_their_files_are_not_planned(rows: list[tuple[int, int]]) -> None:
    ranges = [RowRange("a", "a", 1, "", "", first, count, 0, 0) for first, count in rows]
    with pytest.raises(ValueError, match="not covered"):
        encode_plan(Shard(number, (row_range,)) for number, row_range in enumerate(ranges))

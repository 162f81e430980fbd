"""Repeated keys: which rows come later, however hashes fall and however many shards there are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_projects import orders, write_orders, write_project

import rayforest
from rayforest.engine.exchange import FAN_IN
from rayforest.preparing import repeated_keys
from rayforest.preparing.survey import later_rows


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3))))
def test_a_row_comes_later_where_both_halves_of_its_hash_have_been(hashes: list[tuple[int, int]]) -> None:
    rows = sorted(hashes, key=lambda row: row[0])  # so halves alternate behind one that they share
    halves = [pa.array(half, pa.uint64()) for half in (list(zip(*rows, strict=True)) or [[], []])]
    table = pa.table(halves, ["hash_a", "hash_b"])
    assert later_rows(table).tolist() == [row in rows[:place] for place, row in enumerate(rows)]


def test_keys_repeated_within_and_across_shards_are_found_through_every_level(tmp_path: Path) -> None:
    rows = 2 * FAN_IN + 40
    rng = np.random.default_rng(5)
    frame = orders(rows).with_columns(pl.Series("id", rng.integers(0, rows // 3, rows)))
    write_orders(tmp_path, frame, files=3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(repeated_keys, "KEYS_A_TASK", 10)  # so many ranges of hashes that their places need a level, too
        result = rayforest.prepare(write_project(tmp_path, run="shard_rows = 2"))
    first = frame.unique("id", keep="first", maintain_order=True)
    assert rayforest.read(result.destination).collect()["id"].to_list() == first["id"].to_list()
    assert result.reasons == {"the key is repeated": rows - first.height}
    steps = {path.parent.name.split("-")[0] for path in Path(result.destination).glob("*/*-*x*/schema.arrow")}
    assert steps == {"survey", "duplicates"}  # levels of both exchanges


def test_a_key_that_every_row_has_is_exchanged_once_a_shard(tmp_path: Path) -> None:
    write_orders(tmp_path, orders(1_000).with_columns(id=pl.lit("same")))
    result = rayforest.prepare(write_project(tmp_path, run="shard_rows = 100"))
    assert result.reasons == {"the key is repeated": 999}
    hashes = [pl.read_parquet(path) for path in Path(result.destination).glob("*/survey/data/*/*.parquet")]
    assert [frame.height for frame in hashes] == [1] * 10

"""Many shards: what their tasks have learnt is merged by tasks, and what comes out is what few shards give."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from counting_store import CountingStore
from small_projects import orders, write_orders, write_project

import rayforest
from rayforest.engine import merging
from rayforest.preparing.prepare import Prepare
from rayforest.project.load import load_project
from rayforest.stages.stage import Context, claim, fill


def prepared_and_scored(folder: Path, run: str, **sections: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """profile.json and metrics.json of a project that ran in that folder."""
    write_orders(folder, orders(400))
    project = write_project(folder, run=run, **sections)
    rayforest.run(project)
    return json.loads(extra(folder, "prepared", "profile.json")), json.loads(extra(folder, "scored", "metrics.json"))


def extra(folder: Path, stage: str, name: str) -> bytes:
    """An extra file of the one version of a stage."""
    (path,) = (folder / "out" / stage).glob(f"*/{name}")
    return path.read_bytes()


def steps_of(folder: Path, stage: str) -> set[str]:
    (path,) = (folder / "out" / stage).glob("*/manifest.json")
    own = {"data", "quarantine", "records"}
    return {entry.name for entry in path.parent.iterdir() if entry.is_dir()} - own


def test_profile_and_metrics_of_many_shards_are_merged_by_tasks_and_those_of_one(tmp_path: Path) -> None:
    by_time = {"data": 'time = "at"', "split": 'by = "time"'}
    shards = -(-400 // 5)
    assert shards > merging.FAN_IN
    many = prepared_and_scored(tmp_path / "many", "shard_rows = 5", **by_time)
    one = prepared_and_scored(tmp_path / "one", "shard_rows = 1000", **by_time)
    merges = {f"merged-{nodes}" for nodes in (2, 1)}
    assert merges <= steps_of(tmp_path / "many", "scored")
    assert merges | {f"survey-{merge}" for merge in merges} <= steps_of(tmp_path / "many", "prepared")
    assert not any("merged" in step for step in steps_of(tmp_path / "one", "prepared"))
    assert many[0] == one[0]
    assert many[1].pop("metrics") == pytest.approx(one[1].pop("metrics"), rel=1e-12)
    assert close(many[1].pop("metrics_by_part"), one[1].pop("metrics_by_part"))
    assert many[1] == one[1]


def close(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return one == {part: pytest.approx(metrics, rel=1e-12) for part, metrics in other.items()}


def test_requests_a_shard_of_prepare_stay_flat(tmp_path: Path) -> None:
    shards = (40, 200)
    few, many = (requests_a_shard(tmp_path / str(count), count) for count in shards)
    assert few.keys() == many.keys()
    for kind, requests in many.items():
        assert requests < few[kind] + 0.1, kind  # a merge or a level is a task for many shards
    assert many["PUT"] < 6.5
    assert many["GET"] + many["HEAD"] < 27


def requests_a_shard(folder: Path, shards: int) -> dict[str, float]:
    """Of the destination of prepare, by kind, with a split by time, and a key that some rows repeat."""
    rows = orders(2 * shards)
    repeated = pl.when(pl.int_range(pl.len()) % 20 == 19).then(pl.lit("o000000")).otherwise("id")
    write_orders(folder, rows.with_columns(id=repeated), form="csv")
    project = load_project(write_project(folder, run="shard_rows = 2", data='time = "at"', split='by = "time"'))
    stage, store = Prepare.look(Context(project)), CountingStore()
    claimed = claim(stage, store)
    assert claimed.plan is not None
    assert len(claimed.plan) == shards
    manifest = fill(stage, claimed)
    assert manifest.reasons == {"the key is repeated": shards // 10}
    return {kind: requests / shards for kind, requests in store.requests.items()}

"""Many shards: what their tasks have learnt is merged by tasks, and what comes out is what few shards give."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from small_projects import orders, write_orders, write_project

import rayforest
from rayforest.engine import merging


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

"""What a released version wrote, today's code reads: destinations, their tables, and above all its bundles."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import polars as pl
import pytest

import rayforest
from rayforest.stages.show import describe

GOLDEN = Path(__file__).parent
VERSIONS = sorted(folder.name for folder in GOLDEN.iterdir() if (folder / "project.toml").exists())
STAGES = ("prepared", "tuned", "bundle", "scored")


@pytest.fixture(params=VERSIONS)
def released(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A copy of a version's folder."""
    folder = Path(shutil.copytree(GOLDEN / str(request.param), tmp_path / "golden", symlinks=True))
    os.utime(folder / "raw.csv", (0, 0))  # a copy: a checkout has times of its own
    return folder


def test_there_is_a_golden_version() -> None:
    assert VERSIONS


@pytest.mark.parametrize("stage", STAGES)
def test_show_and_files_read_what_a_released_version_wrote(released: Path, stage: str) -> None:
    destination = released / "out" / stage
    assert describe(destination)["command"] == "show"
    paths = [Path(path) for path in rayforest.files(destination)]
    assert paths
    assert all(path.exists() for path in paths)


def test_tables_of_a_released_version_are_whole(released: Path) -> None:
    raw = pl.read_csv(released / "raw.csv", truncate_ragged_lines=True)
    for stage in ("prepared", "scored"):
        destination = released / "out" / stage
        quarantined = sum(pl.read_parquet(path).height for path in rayforest.files(destination, quarantine=True))
        assert rayforest.read(destination).collect().height + quarantined == raw.height


def test_a_bundle_of_a_released_version_gives_the_same_bits(released: Path) -> None:
    before = rayforest.read(released / "out" / "scored").collect()
    result = rayforest.score(
        released / "project.toml", overrides=[f'score.destination="{released / "again"}"', 'run.executor="in-process"']
    )
    after = rayforest.read(released / "again").collect()
    assert (result.rows_in, result.rows_quarantined) == (401, 1)
    assert after["probability"].equals(before["probability"])
    assert "split" not in after.columns


def test_a_model_of_a_released_version_is_exported_by_todays_code(released: Path) -> None:
    project = released / "project.toml"
    rayforest.export(project, replace=True)
    before = rayforest.read(released / "out" / "scored").collect()
    rayforest.score(project, overrides=['run.executor="in-process"'], replace=True)
    assert rayforest.read(released / "out" / "scored").collect()["probability"].equals(before["probability"])


def test_a_bundle_that_does_not_know_its_training_rows_gives_metrics_of_all_and_says_so(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(GOLDEN / "0.1.0", tmp_path / "golden", symlinks=True))
    result = rayforest.score(
        folder / "project.toml", overrides=[f'score.destination="{tmp_path}/again"', 'run.executor="in-process"']
    )
    assert "split" not in rayforest.read(tmp_path / "again").collect().columns
    assert (result.as_dict()["rows"], "metrics_by_part" in result.as_dict()) == (400, False)
    assert result.metrics
    (note,) = result.facts.notes  # type: ignore[misc]
    assert note.startswith("whether the model was trained on these rows is not known: the bundle was exported before")


def test_shards_that_a_released_version_prepared_are_tuned_by_todays_code(released: Path) -> None:
    result = rayforest.tune(released / "project.toml", overrides=['run.executor="in-process"'], replace=True)
    assert result.metrics["log_loss"] < 1

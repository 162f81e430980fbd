"""A run over a Delta table: the same result as over plain files of its rows, and one version from beginning to end."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest
from command import rayforest as command
from deltalake import DeltaTable, write_deltalake
from iceberg_tables import new_catalog
from small_projects import PROJECT, orders, write_orders, write_project

import rayforest
from rayforest.engine.commit import Destination
from rayforest.engine.publish import read_manifest
from rayforest.engine.stores.opening import open_store
from rayforest.errors import ConfigError, InputError, RefusedError

OF_DELTA = PROJECT.replace('source = "raw"', 'source = { delta = "table" }')


def write_table(folder: Path, frame: pl.DataFrame, **options: object) -> Path:
    """FOLDER/table with these rows."""
    write_deltalake(folder / "table", frame.to_arrow(), **options)
    return folder / "table"


def rows_of(destination: Path) -> pl.DataFrame:
    frame = rayforest.read(destination).collect()
    return frame.select(sorted(frame.columns)).sort("id")


def test_a_whole_run_over_a_version_gives_what_one_over_plain_files_gives(tmp_path: Path) -> None:
    first, more, gone = orders(400), orders(200, seed=1, first=400), orders(50, seed=2, first=600)
    table = write_table(tmp_path / "delta", pl.concat([first, gone]), partition_by=["member"])
    DeltaTable(table).delete("id >= 'o000600'")
    write_table(tmp_path / "delta", more, mode="append")
    write_orders(tmp_path / "plain", pl.concat([first, more]))
    found = {}
    for name, text in (("delta", OF_DELTA), ("plain", PROJECT)):
        rayforest.run(write_project(tmp_path / name, text, score='carry = ["member", "amount"]'))
        found[name] = {stage: rows_of(tmp_path / name / "out" / stage) for stage in ("prepared", "scored")}
    assert found["delta"]["prepared"].equals(found["plain"]["prepared"])
    carried = ["id", "member", "amount", "split"]
    assert found["delta"]["scored"].select(carried).equals(found["plain"]["scored"].select(carried))
    assert set(found["delta"]["scored"]["split"]) == {"train", "valid", "test"}


def test_quarantine_names_the_file_of_the_table_and_the_row_in_it(tmp_path: Path) -> None:
    frame = orders(40).with_columns(amount=pl.when(pl.col("id") == "o000007").then(-1.0).otherwise("amount"))
    table = write_table(tmp_path, frame)
    rayforest.prepare(write_project(tmp_path, OF_DELTA, **{"data.columns": 'amount = { type = "number", min = 0 }'}))
    (quarantined,) = pl.read_parquet(list(rayforest.files(tmp_path / "out/prepared", quarantine=True))).to_dicts()
    (file,) = DeltaTable(table).file_uris()
    assert quarantined["file"] == Path(file).name
    assert pl.read_parquet(file)["id"][quarantined["row"]] == "o000007"


def test_a_table_that_has_grown_is_another_input_and_a_named_version_is_not(tmp_path: Path) -> None:
    write_table(tmp_path, orders(60))
    newest = write_project(tmp_path, OF_DELTA)
    rayforest.prepare(newest)
    key = read_manifest(tmp_path / "out/prepared").key
    write_table(tmp_path, orders(20, seed=5, first=60), mode="append")
    with pytest.raises(RefusedError):
        rayforest.prepare(newest)
    again = rayforest.prepare(newest, overrides=["data.source.version=0"])
    assert (again.resumed, read_manifest(tmp_path / "out/prepared").key) == (True, key)
    assert rayforest.prepare(newest, replace=True).rows_in == 80


def test_what_was_found_is_remembered_for_the_version_and_for_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second run opens no data file of the same version; columns that were added since are seen."""
    write_table(tmp_path, orders(60))
    project = write_project(tmp_path, OF_DELTA)
    rayforest.prepare(project)
    write_table(tmp_path, orders(0).with_columns(new=pl.lit(1)), mode="append", schema_mode="merge")
    with monkeypatch.context() as patched:
        patched.setattr("rayforest.tables.snapshots.read.parquet_footer", None)
        assert rayforest.prepare(project, overrides=["data.source.version=0"]).resumed
    with pytest.raises(RefusedError):
        rayforest.prepare(project)
    rayforest.prepare(project, replace=True, overrides=['features.new="new"'])


def test_the_plan_holds_what_the_log_says_and_workers_read_no_log(tmp_path: Path) -> None:
    table = write_table(tmp_path, orders(60), partition_by=["colour"])
    project = write_project(tmp_path, OF_DELTA)
    rayforest.prepare(project)
    version = Destination(open_store(tmp_path / "out/prepared")).current()
    entries = {file.path: file.entry for file in version.plan().inputs()}
    assert len(entries) == len(DeltaTable(table).file_uris())
    assert all('"values":{"colour":' in entry for entry in entries.values())


def test_rows_that_a_model_was_trained_on_are_known_in_later_versions_of_the_table(tmp_path: Path) -> None:
    write_table(tmp_path, orders(300))
    project = write_project(tmp_path, OF_DELTA)
    rayforest.run(project)
    write_table(tmp_path, orders(50, seed=9, first=300).with_columns(new=pl.lit(1)), mode="append", schema_mode="merge")
    rayforest.score(project, replace=True)
    parts = rayforest.read(tmp_path / "out/scored").collect().group_by("split").len()
    counts = dict(parts.iter_rows())
    assert counts.pop("new") == 50
    assert sum(counts.values()) == 300
    assert set(counts) == {"train", "valid", "test"}


# ---- init, check, the project file


def test_init_on_a_delta_folder_proposes_the_table_and_its_project_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = write_table(tmp_path, orders(200))
    write_table(tmp_path, orders(20, seed=4, first=200), mode="append")
    DeltaTable(table).delete("id < 'o000100'")
    file = tmp_path / "project.toml"
    monkeypatch.chdir(tmp_path)
    assert command("init", "table", "--target", "bought", "--out", file).code == 0
    text = " ".join(file.read_text().split())
    assert 'source = { delta = "table" } # its newest version, 2 now; version = 2 keeps to that one' in text
    assert 'name = "table"' in text
    report = rayforest.check(file)
    assert report.notes[0] == f"the newest version of the Delta table {table} is 2"
    assert rayforest.prepare(file).rows_in == 120


def test_init_on_a_folder_above_a_table_refuses_its_files(tmp_path: Path) -> None:
    table = write_table(tmp_path, orders(20))
    answer = command("init", tmp_path)
    assert answer.code == 2
    assert f'source = {{ delta = "{table}" }}' in answer.err


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ('{ delta = "t", iceberg = "t" }', "one table"),
        ("{ version = 3 }", "one table"),
        ('{ delta = "t", snapshot = 3 }', "version beside delta"),
        ('{ iceberg = "t", version = 3 }', "snapshot beside iceberg"),
        ('{ delta = "t", version = -1 }', "at least 0"),
        ('{ delta = "t", version = "3" }', "whole number"),
        ('{ delta = "t", verison = 3 }', "did you mean 'version'?"),
    ],
)
def test_wrong_tables_in_a_project_file_are_explained(tmp_path: Path, source: str, told: str) -> None:
    with pytest.raises(ConfigError) as refused:
        rayforest.load_project(write_project(tmp_path, PROJECT.replace('"raw"', source, 1)))
    assert told in str(refused.value)
    assert "source" in refused.value.what


def test_a_table_that_is_relative_to_the_project_file_is_found_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_table(tmp_path, orders(20))
    project = write_project(tmp_path, OF_DELTA)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert rayforest.check(project).files == 1


def test_a_score_source_may_be_a_table_of_its_own(tmp_path: Path) -> None:
    write_orders(tmp_path, orders(300))
    write_table(tmp_path, orders(30, seed=3, first=300))
    rayforest.run(write_project(tmp_path, score='source = { delta = "table", version = 0 }'))
    assert rayforest.read(tmp_path / "out/scored").collect().height == 30


def test_a_table_without_rows_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    table = write_table(tmp_path, orders(10))
    DeltaTable(table).delete()
    with pytest.raises(InputError, match="has no data files in version 1"):
        rayforest.prepare(write_project(tmp_path, OF_DELTA))
    assert not (tmp_path / "out").exists()
    assert pa.table(DeltaTable(table).scan()).num_rows == 0


def test_an_iceberg_table_is_prepared_as_it_was_in_a_snapshot(tmp_path: Path) -> None:
    table = new_catalog(tmp_path / "lake").create_table("shop.orders", orders(1).to_arrow().schema)
    for first in (0, 50):
        table.append(orders(50, seed=first, first=first).to_arrow().cast(table.schema().as_arrow()))
    metadata = table.metadata_location.removeprefix("file://")
    snapshot = table.history()[0].snapshot_id
    source = f'source = {{ iceberg = "{metadata}", snapshot = {snapshot} }}'
    project = write_project(tmp_path, PROJECT.replace('source = "raw"', source, 1))
    assert rayforest.prepare(project).rows_in == 50
    newest = rayforest.prepare(project, overrides=[f'data.source={{ iceberg = "{metadata}" }}'], replace=True)
    assert newest.rows_in == 100
    assert rows_of(tmp_path / "out/prepared")["id"].to_list() == [f"o{n:06}" for n in range(100)]

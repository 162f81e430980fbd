"""score knows which rows the model was trained on: a column, metrics by part, and headline metrics without them."""

from __future__ import annotations

import os
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn import metrics as sk
from small_projects import PROJECT, Ran, orders, write_orders, write_project

import rayforest
from rayforest.bundle import known_parts
from rayforest.bundle.known_parts import TrainingTables, training_json, training_tables
from rayforest.engine.plan import PlannedInput
from rayforest.formats import TRAINING
from rayforest.jobs.metrics_text import metric_lines
from rayforest.preparing.split import HashSplit
from rayforest.preparing.split_rule import SplitRule

SPLITS = {
    "by key": [],
    "by another key": ['split.key="customer"'],
    "by time": ['split.by="time"', 'data.time="at"'],
    "by an expression of time": ['split.by="time"', "data.time=\"at + INTERVAL '1' DAY\""],
}


@pytest.mark.parametrize("form", ["parquet", "csv"])
@pytest.mark.parametrize("split", SPLITS)
def test_scored_training_rows_have_the_part_that_prepare_gave_them(tmp_path: Path, split: str, form: str) -> None:
    write_orders(tmp_path, orders(600), files=3, form=form)
    project = rayforest.load_project(write_project(tmp_path, run="shard_rows = 130"), SPLITS[split])
    rayforest.run(project)
    prepared, out = (rayforest.read(project.stage(s)).collect() for s in ("prepared", "scored"))  # type: ignore[arg-type]
    assert out.columns == ["id", "prediction", "probability", "split"]
    assert out.select("id", "split").equals(prepared.select("id", "split"))


def test_rows_without_a_key_have_the_part_of_their_place(tmp_path: Path) -> None:
    write_orders(tmp_path, orders(500), files=2)
    text = PROJECT.replace('key = "id"\n', "")
    project = rayforest.load_project(write_project(tmp_path, text, run="shard_rows = 130"))
    rayforest.run(project)
    prepared, out = (rayforest.read(project.stage(s)).collect() for s in ("prepared", "scored"))  # type: ignore[arg-type]
    assert out["split"].equals(prepared["split"])


def test_headline_metrics_are_of_rows_that_the_model_was_not_trained_on(tmp_path: Path) -> None:
    frame = orders(400)
    noise = pl.Series("bought", np.random.default_rng(0).random(400) < 0.5)  # what is learned is learned by heart
    write_orders(tmp_path, frame.with_columns(noise))
    text = PROJECT.replace("num_leaves = [4, 12]", "num_leaves = 31")
    project = write_project(tmp_path, text, score='carry = ["bought"]')
    result = rayforest.run(project, overrides=["tune.space.min_data_in_leaf=2", "tune.metric=auc"]).scored
    out = rayforest.read(tmp_path / "out/scored").collect()
    areas = {p: sk.roc_auc_score(r["bought"], r["probability"]) for (p,), r in out.group_by("split")}
    assert areas["train"] > areas["test"] + 0.1
    assert result.metrics["auc"] == pytest.approx(areas["test"], abs=1e-2)
    by_part: Any = result.as_dict()["metrics_by_part"]
    assert {p: m["auc"] for p, m in by_part.items()} == pytest.approx(areas, abs=1e-2)
    assert result.as_dict()["metrics_of"] == ["test"]
    assert result.as_dict()["rows_by_part"] == dict(out["split"].value_counts().iter_rows())
    again = rayforest.score(project)
    assert again.resumed
    assert again.metrics == result.metrics
    assert again.as_dict()["metrics_by_part"] == by_part
    lines = list(metric_lines(result.as_dict()))
    assert lines[0] == f"metrics of rows that the model was not trained on ({by_part['test']['rows']:,} test):"
    assert [line.split()[0] for line in lines if line.startswith(("train", "valid", "test"))] == list(by_part)


def scored_with(ran: Ran, folder: Path, source: Path, *settings: str) -> tuple[rayforest.StageResult, pl.DataFrame]:
    where = [f'score.source="{source}"', f'score.destination="{folder}/scored"', *settings]
    result = rayforest.score(ran.folder / "project.toml", overrides=where)
    return result, rayforest.read(folder / "scored").collect()


def test_rows_of_other_files_are_new(ran: Ran, tmp_path: Path) -> None:
    source = Path(shutil.copytree(ran.folder / "raw", tmp_path / "raw"))  # Parquet is known by its contents
    (source / "part-002.parquet").rename(source / "renamed.parquet")
    orders(90, seed=9).write_parquet(source / "tonight.parquet")
    result, out = scored_with(ran, tmp_path, source)
    assert out["split"].tail(90).unique().to_list() == ["new"]
    before = rayforest.read(ran.project.stage("scored")).collect()
    assert out.head(1_200)["split"].equals(before["split"])
    fresh = out.filter(pl.col("split").is_in(["test", "new"]))
    assert result.as_dict()["metrics_of"] == ["test", "new"]
    assert result.as_dict()["rows"] == fresh.height
    assert result.metrics["accuracy"] == pytest.approx((fresh["prediction"] == fresh["bought"]).mean())


def test_a_source_without_training_files_has_no_split_and_all_its_rows_are_measured(ran: Ran, tmp_path: Path) -> None:
    orders(90, seed=9).write_parquet(tmp_path / "part-000.parquet")  # a name that training knows, other contents
    result, out = scored_with(ran, tmp_path, tmp_path / "part-000.parquet")
    assert "split" not in out.columns
    assert (result.as_dict()["metrics_of"], result.as_dict()["rows"]) == (["new"], 90)
    assert result.facts.notes == []


def test_a_csv_file_that_may_be_a_copy_of_a_training_file_is_neither(tmp_path: Path) -> None:
    write_orders(tmp_path, orders(300), files=2, form="csv")
    project = write_project(tmp_path)
    rayforest.run(project)
    os.utime(tmp_path / "raw/part-001.csv", (0, 0))
    result = rayforest.score(project, replace=True)
    out = rayforest.read(tmp_path / "out/scored").collect()
    assert out["split"].null_count() == 150
    assert set(out["split"].head(150)) == {"train", "valid", "test"}
    by_part: Any = result.as_dict()["metrics_by_part"]
    assert by_part["unknown"]["rows"] == 150
    assert result.as_dict()["metrics_of"] == ["test"]
    assert "may be copies" in str(result.facts.notes)


def test_a_repeated_key_has_the_part_of_its_key(tmp_path: Path) -> None:
    frame = orders(300)
    write_orders(tmp_path, pl.concat([frame, frame.head(60)]))
    rayforest.run(write_project(tmp_path))
    out = rayforest.read(tmp_path / "out/scored").collect()
    assert out["split"].tail(60).equals(out["split"].head(60))


def test_a_carried_column_named_split_keeps_its_name_and_that_is_said(tmp_path: Path) -> None:
    write_orders(tmp_path, orders(300).with_columns(split=pl.lit("mine")))
    result = rayforest.run(write_project(tmp_path, score='carry = ["split"]')).scored
    out = rayforest.read(tmp_path / "out/scored").collect()
    assert out.columns == ["id", "split", "prediction", "probability"]
    assert set(out["split"]) == {"mine"}
    assert result.facts.notes == ["the part of each row is no column: 'split' is a key or carried column"]
    assert list(result.as_dict()["metrics_by_part"]) == ["train", "valid", "test"]  # type: ignore[call-overload]


def test_without_test_rows_there_are_no_headline_metrics_and_that_is_said(tmp_path: Path) -> None:
    write_orders(tmp_path, orders(300))
    project = write_project(tmp_path, split="shares = [0.8, 0.2, 0]")
    result = rayforest.run(project).scored
    assert result.metrics == {}
    assert result.facts.notes == [
        "every row with a known target is one that the model was trained on, or may have been"
    ]
    assert list(result.as_dict()["metrics_by_part"]) == ["train", "valid"]  # type: ignore[call-overload]


def test_a_model_of_more_files_than_a_bundle_names_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    by_hash = HashSplit((0.7, 0.2, 0.1), 0)
    by_id = SplitRule(by_hash, ("id",))
    inputs = [PlannedInput(f"{i}.csv", i, "7", f"{i}-7") for i in range(4)]
    inputs.append(PlannedInput("a.parquet", 99, "7", "99-c0ffee"))

    def read_back(split: SplitRule) -> tuple[TrainingTables | None, str]:
        return TRAINING.read(training_json(split, inputs), "x", partial(training_tables, where="x"))

    tables, why = read_back(by_id)
    assert why == ""
    assert tables is not None
    asked = {
        ("3.csv", "3-7"): "read",
        ("raw/3.csv", "3-7"): "read",  # beside another folder's files, a path is longer
        ("3.csv", "3-8"): "unknown",
        ("raw/3.csv", "3-8"): "new",
        ("3.csv", "4-7"): "new",
        ("9.csv", "3-7"): "new",
        ("other.parquet", "99-c0ffee"): "read",
        ("a.parquet", "99-another"): "new",
    }
    assert {file: tables.knows(*file) for file in asked} == asked
    tables, _ = read_back(SplitRule(by_hash, ()))
    assert tables is not None
    assert tables.knows("raw/3.csv", "3-7") == "unknown"  # a row is known by its place
    monkeypatch.setattr(known_parts, "MAX_FILES", 4)
    tables, why = read_back(by_id)
    assert (tables, why) == (None, "the model was trained on 5 files, and a bundle names up to 4")


def test_categories_that_training_never_saw_are_counted_by_feature(ran: Ran, tmp_path: Path) -> None:
    colours = ["turquoise"] * 7 + [None] * 3 + [""] * 2 + ["mauve"] * 5 + ["red"] * 23
    frame = orders(40, seed=4).with_columns(colour=pl.Series(colours))
    frame = frame.with_columns(id=pl.when(pl.int_range(40) > 0).then("id"))  # the first row is quarantined
    frame.write_parquet(tmp_path / "a.parquet")
    result, _ = scored_with(ran, tmp_path, tmp_path / "a.parquet")
    assert result.as_dict()["unseen_categories"] == {"colour": 11}
    assert "categories that training never saw: colour in 11 rows" in list(metric_lines(result.as_dict()))
    again, _ = scored_with(ran, tmp_path, tmp_path / "a.parquet")
    assert again.resumed
    assert again.as_dict()["unseen_categories"] == {"colour": 11}
    rayforest.read(ran.project.stage("scored"))
    assert ran.result.scored.as_dict()["unseen_categories"] == {}

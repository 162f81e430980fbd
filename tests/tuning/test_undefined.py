"""A metric that the validation rows do not define is no score, and what was measured on which rows is always said."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from small_projects import Listener, Ran, tuned, write_project

import rayforest
from rayforest.errors import InputError
from rayforest.formats import TUNED_METRICS
from rayforest.jobs.metrics_text import metric_lines
from rayforest.stages.show import describe
from rayforest.tuning.outcome import Outcome
from rayforest.tuning.search import best_of
from rayforest.tuning.trial import TrialRecord

PROJECT = """
[project]
name = "events"
[data]
source = "events.csv"
key = "id"
target = "y"
time = "t"
[split]
by = "time"
[tune]
trials = 2
[tune.space]
num_iterations = 5
min_data_in_leaf = 5
[run]
executor = "in-process"
workers = 1
"""


def events(folder: Path, labels: list[object], *settings: str) -> rayforest.Project:
    """Rows in order of time with these labels, prepared."""
    rng = np.random.default_rng(24)
    rows = len(labels)
    frame = pl.DataFrame({"id": range(rows), "t": range(rows), "x": rng.random(rows).round(4), "y": labels})
    folder.mkdir(exist_ok=True)
    frame.write_csv(folder / "events.csv")
    project = rayforest.load_project(write_project(folder, PROJECT), settings)
    rayforest.prepare(project)
    return project


def early(rows: int, until: float, label: object = 1, other: object = 0) -> list[object]:
    """Every third of the earlier rows has the label, and none of the later ones."""
    return [label if i < rows * until and i % 3 == 0 else other for i in range(rows)]


@pytest.mark.parametrize(
    ("labels", "settings", "lacks"),
    [
        (early(400, 0.7), ["tune.metric=auc"], "label 1"),
        (early(400, 0.7), ["tune.metric=average_precision"], "label 1"),
        (early(400, 0.7, "yes", "no"), ["tune.metric=auc"], "label 'yes'"),
        (early(400, 0.7, "yes", "no"), ["tune.metric=auc", 'data.positive="yes"'], "label 'yes'"),
        (early(400, 0.7, 1, "false"), ["tune.metric=auc", 'data.target="y = 1"'], "label true"),
        ([i % 3 if i < 280 else i % 2 for i in range(400)], ["tune.metric=auc"], "label 2"),
        (
            [i % 3 if i < 280 else i % 2 for i in range(400)],
            ["tune.metric=auc", "data.positive=2"],
            "the positive label 2",
        ),
        ([i == 17 for i in range(5_000)], ["tune.metric=auc"], "label true"),
    ],
    ids=["auc", "average precision", "text", "positive", "sql", "three classes", "one of three", "one in 5,000"],
)
def test_a_metric_that_the_validation_rows_do_not_define_is_refused_before_any_training(
    tmp_path: Path, labels: list[object], settings: list[str], lacks: str
) -> None:
    if 'data.target="y = 1"' in settings:
        labels = [0 if label == "false" else label for label in labels]
    project = events(tmp_path, labels, *settings)
    with pytest.raises(InputError, match="is not defined on the valid part") as caught:
        rayforest.tune(project)
    assert caught.value.what.endswith(f"which has no row of {lacks}")
    assert "train " in caught.value.found
    assert "valid " in caught.value.found
    for way in ('tune.metric = "log_loss"', "split.shares", 'split.by = "hash"', "does not stratify"):
        assert way in caught.value.next_step
    assert not (tmp_path / "out/tuned").exists()
    said = Listener()
    result = rayforest.tune(tmp_path / "project.toml", overrides=[*settings, "tune.metric=log_loss"], reporter=said)
    assert np.isfinite(result.metrics["log_loss"])
    assert any(f"the valid part has no row of {lacks}" in message for message in said.messages)


def test_a_training_part_of_one_class_is_refused_with_what_the_parts_hold(tmp_path: Path) -> None:
    labels = [int(i >= 300 and i % 2) for i in range(400)]
    with pytest.raises(InputError, match="the target is constant in the training rows") as caught:
        rayforest.tune(events(tmp_path, list(labels)))
    assert "train 280 rows (70.0%), 0 to 279, labels 0 100.0%, 1 0.0%" in caught.value.found
    assert "split.by" in caught.value.next_step
    assert not (tmp_path / "out/tuned").exists()


def test_few_rows_of_a_label_are_said_before_the_search(tmp_path: Path) -> None:
    labels = [int(i % 3 == 0 if i < 280 else i in (290, 350)) for i in range(400)]
    said = Listener()
    result = rayforest.tune(events(tmp_path, list(labels), "tune.metric=auc"), reporter=said)
    note = "the valid part has only 1 row of label 1: its metrics hang on them"
    assert f"tune: {note}" in said.messages
    assert said.messages.index(f"tune: {note}") < next(i for i, m in enumerate(said.messages) if "trial 1/" in m)
    assert note in result.facts.notes  # type: ignore[operator]


def test_without_test_rows_the_metrics_are_those_of_the_validation_part_and_say_so(tmp_path: Path) -> None:
    project = events(tmp_path, [i % 3 for i in range(300)], "split.shares=[0.6, 0.4, 0]", "tune.metric=accuracy")
    result = rayforest.tune(project)
    _, found = tuned(project)
    assert "test" not in found
    assert found["evaluated_on"] == result.facts.evaluated_on == "valid"
    assert found["valid"] == result.metrics
    assert result.as_dict()["rows"] == 120
    assert result.facts.measured_on == "validation rows, which chose the model"
    assert describe(project.stage("tuned"))["metrics"]["evaluated_on"] == "valid"
    again = rayforest.tune(project)
    assert again.resumed
    assert (again.metrics, again.facts) == (result.metrics, result.facts)
    rayforest.export(project)
    assert json.loads((tmp_path / "out/bundle/metrics.json").read_text()) == found


def test_metrics_of_large_quantities_stand_apart_in_the_table_by_part() -> None:
    found = {"rows": 10, "rmse": 123456.789, "mae": 1.5}
    table = {"metrics_by_part": {"train": found, "test": found}, "metrics": {"rmse": 1.0}, "metrics_of": ["test"]}
    assert [line.split() for line in metric_lines(table)][-2:] == [
        ["train", "10", "123456.78900", "1.50000"],
        ["test", "10", "123456.78900", "1.50000"],
    ]


def test_with_test_rows_the_metrics_are_those_of_the_test_part(ran: Ran) -> None:
    result, (_, found) = ran.result.tuned, tuned(ran.project)
    assert found["evaluated_on"] == result.facts.evaluated_on == "test"
    assert found["test"] == result.metrics
    assert result.facts.measured_on == "test rows, which the search never saw"


def test_metrics_of_an_earlier_release_are_read() -> None:
    old = {
        "problem": {"kind": "binary", "metric": "auc", "labels": [0.0, 1.0]},
        "test": {"auc": 0.7},
        "valid": {"auc": 0.75},
        "best_trial": 1,
        "params": {"num_leaves": 4},
        "rounds": 3,
        "trials": 2,
    }
    found = TUNED_METRICS.take(old, "metrics.json", Outcome.from_document)
    assert (found.evaluated_on, found.metrics, found.best["auc"]) == ("test", {"auc": 0.7}, 0.75)
    assert TUNED_METRICS.take(found.as_dict(), "metrics.json", Outcome.from_document) == found


def test_a_trial_whose_score_is_not_finite_failed_and_the_others_go_on(tmp_path: Path) -> None:
    labels = [float(x) for x in np.random.default_rng(0).normal(size=300).round(3)]
    space = "tune.space.learning_rate={ choices = [0.1, 1e300] }"
    project = events(tmp_path, list(labels), "tune.metric=rmse", "tune.trials=8", space)
    said = Listener()
    result = rayforest.tune(project, reporter=said)
    records = [json.loads(path.read_text()) for path in sorted(tmp_path.glob("out/tuned/*/trials/*.json"))]
    failed = [record for record in records if record["params"]["learning_rate"] > 1]
    assert 0 < len(failed) < 8
    for record in failed:
        assert (record["score"], record["failed"]) == (None, "its rmse is no finite number")
    assert result.facts.failed_trials == len(failed)
    assert result.facts.best["params"]["learning_rate"] == 0.1  # type: ignore[index]
    assert sum("failed: its rmse is no finite number" in message for message in said.messages) == len(failed)


def test_without_one_finite_score_there_is_no_best_trial() -> None:
    records = [TrialRecord(i, {}, None, 1, 0.1, "", "its rmse is no finite number") for i in range(3)]
    with pytest.raises(InputError, match="no trial came to a score") as caught:
        best_of(records, higher_is_better=True)
    assert caught.value.found == "3 x its rmse is no finite number"


def test_a_target_that_lightgbm_cannot_hold_is_refused_and_not_clipped(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="values in the train part that LightGBM cannot hold") as caught:
        rayforest.tune(events(tmp_path, [f"{i % 7}{'0' * 39}" for i in range(300)]))
    assert "logarithm" in caught.value.next_step


def test_features_that_do_not_vary_and_a_constant_model_are_said(tmp_path: Path) -> None:
    project = events(
        tmp_path, [i % 2 for i in range(300)], 'features.x="x"', 'features.one="1"', 'features.no="x * NULL"'
    )
    said = Listener()
    result = rayforest.tune(project, reporter=said)
    note = "ignored, because they have one value in all training rows: one, no"
    assert f"tune: {note}" in said.messages
    assert note in result.facts.notes  # type: ignore[operator]
    other = events(tmp_path / "constant", [i % 2 for i in range(300)], 'features.one="x * 0"')
    notes = rayforest.tune(other).facts.notes
    assert notes == [
        "no feature varies in the training rows, so the model can only predict the same for every row",
        "the model is constant: it predicts the same for every row, whatever the features are",
    ]


def test_no_library_writes_to_the_users_terminal(tmp_path: Path) -> None:
    events(tmp_path, [i % 2 for i in range(300)], 'features.one="x * 0"')
    text = (tmp_path / "project.toml").read_text() + "[features]\none = 'x * 0'\n"
    (tmp_path / "project.toml").write_text(text)
    command = [sys.executable, "-m", "rayforest.jobs.cli", "run", str(tmp_path / "project.toml")]
    ran = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert ran.stdout == ""
    assert "no feature varies" in ran.stderr
    assert not [line for line in ran.stderr.splitlines() if "LightGBM]" in line or "Warning" in line]


def test_check_refuses_what_the_parts_do_not_define_before_and_after_prepare(tmp_path: Path) -> None:
    project = events(tmp_path / "prepared", early(400, 0.7), "tune.metric=auc")
    with pytest.raises(InputError, match="auc is not defined on the valid part, which has no row of label 1"):
        rayforest.check(project)
    fresh = project.model_copy(update={"base": tmp_path / "fresh"})
    shutil.copytree(tmp_path / "prepared", tmp_path / "fresh", ignore=shutil.ignore_patterns("out"))
    with pytest.raises(InputError, match="auc is not defined on the valid part, which has no row of label 1"):
        rayforest.check(fresh)
    assert not (tmp_path / "fresh/out").exists()


def test_check_tells_what_the_parts_hold_as_prepare_does(tmp_path: Path) -> None:
    path, plain = tmp_path / "project.toml", ["tune.metric=log_loss"]
    labels = [None if i == 3 else i % 2 for i in range(300)]
    project = events(tmp_path / "made", list(labels), *plain)
    shutil.copytree(tmp_path / "made", tmp_path, ignore=shutil.ignore_patterns("out"), dirs_exist_ok=True)
    before = rayforest.check(path, overrides=plain)
    assert "prepare quarantines 1 of 300 rows: the target is missing (1)" in before.notes
    assert before.parts == rayforest.prepare(project).facts.by_part
    rayforest.prepare(path, overrides=plain)
    after = rayforest.check(path, overrides=plain)
    assert (after.parts, after.notes) == (before.parts, before.notes)
    assert [fact["rows"] for fact in after.parts.values()] == [209, 45, 45]


def test_check_refuses_a_split_that_prepare_would_refuse(tmp_path: Path) -> None:
    events(tmp_path, [i % 2 for i in range(100)])
    by_half = ['data.time="CASE WHEN t < 60 THEN 1 ELSE 2 END"']
    with pytest.raises(InputError, match="a split by time does not divide rows of one time") as caught:
        rayforest.check(tmp_path / "project.toml", overrides=by_half)
    assert "split.shares = [0.6, 0.4, 0]" in caught.value.next_step


def test_check_of_a_few_rows_notes_what_they_lack(tmp_path: Path) -> None:
    events(tmp_path, [0] * 20)
    notes = rayforest.check(tmp_path / "project.toml", overrides=["project.root=elsewhere"]).notes
    assert any(note.startswith("tune would refuse these 20 rows: the target is constant") for note in notes)

"""What a scored row holds is the project's choice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from stored_types import rows, write_rows

import rayforest
from rayforest.bundle.outputs import Outputs
from rayforest.errors import ConfigError
from rayforest.metrics.problem import Problem
from rayforest.project.sections import ScoreSection

BINARY = Problem("binary", "auc", ("no", "yes"))
CLASSES = Problem("multiclass", "log_loss", (1.0, 2.0, 3.5))
QUANTITY = Problem("regression", "rmse")


def test_each_kind_of_problem_has_its_columns() -> None:
    everything = ScoreSection(outputs=("raw_score", "prediction", "probability"))
    names = [field.name for field in Outputs.of(everything, BINARY).schema()]
    assert names == ["raw_score", "prediction", "probability"]
    names = [field.name for field in Outputs.of(everything, CLASSES).schema()]
    raw_scores, probabilities = ([f"{name}_{c}" for c in ("1", "2", "3.5")] for name in ("raw_score", "probability"))
    assert names == [*raw_scores, "prediction", *probabilities]
    assert [field.name for field in Outputs.of(ScoreSection(), QUANTITY).schema()] == ["prediction"]


def test_columns_have_the_types_of_the_schema() -> None:
    rng = np.random.default_rng(0)
    for precision in ("float64", "float32"):
        for problem, width in ((BINARY, 1), (CLASSES, 3), (QUANTITY, 1)):
            wanted = ("prediction", "raw_score") if problem is QUANTITY else ("probability", "raw_score", "prediction")
            outputs = Outputs.of(ScoreSection(outputs=wanted, precision=precision), problem)  # type: ignore[arg-type]
            raw_score = rng.normal(size=(5, width))
            prediction = rng.random((5, width)) if width > 1 else rng.random(5)
            columns = outputs.columns(raw_score, prediction)
            assert [column.type for column in columns] == [field.type for field in outputs.schema()]
            assert all(len(column) == 5 for column in columns)


def test_the_threshold_decides_between_two_classes() -> None:
    outputs = Outputs.of(ScoreSection(threshold=0.3), BINARY)
    labels, _ = outputs.columns(np.zeros((4, 1)), np.array([0.1, 0.3, np.nextafter(0.3, 1), 0.9]))
    assert labels.to_pylist() == ["no", "no", "yes", "yes"]


def test_what_a_problem_does_not_have_is_refused() -> None:
    with pytest.raises(ConfigError, match="predicts a quantity"):
        Outputs.of(ScoreSection(outputs=("probability",)), QUANTITY)
    for problem in (CLASSES, QUANTITY):
        with pytest.raises(ConfigError, match="needs two classes"):
            Outputs.of(ScoreSection(threshold=0.5), problem)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ('score.outputs=["prediction", "prediction"]', "each output once"),
        ('score.outputs=["class"]', "score.outputs"),
        ("score.threshold=1.5", "score.threshold"),
        ('score.precision="float16"', "score.precision"),
        ('score.engine="gpu"', "score.engine"),
    ],
)
def test_wrong_settings_are_named(types_project: Path, setting: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        rayforest.load_project(types_project, [setting])
    assert message in str(caught.value)


def test_float32_is_the_rounded_score_and_accuracy_follows_the_threshold(types_project: Path, tmp_path: Path) -> None:
    source = write_rows(tmp_path / "new", rows(300, seed=4))
    outs = {}
    for precision in ("float64", "float32"):
        where = [f'score.source="{source}"', f'score.destination="{tmp_path}/{precision}"', 'score.carry=["bought"]']
        choice = [f"score.precision={precision}", "score.threshold=0.8"]
        everything = 'score.outputs=["prediction", "probability", "raw_score"]'
        result = rayforest.score(types_project, overrides=[*where, *choice, everything])
        outs[precision] = rayforest.read(tmp_path / precision).collect()
        out = outs[precision]
        assert result.metrics["accuracy"] == pytest.approx((out["prediction"].cast(pl.Boolean) == out["bought"]).mean())
    wide, narrow = outs["float64"], outs["float32"]
    assert wide["prediction"].equals(narrow["prediction"])
    assert (wide["prediction"] == (wide["probability"] > 0.8)).all()
    for name in ("probability", "raw_score"):
        assert narrow[name].dtype == pl.Float32
        assert wide[name].cast(pl.Float32).equals(narrow[name])


def test_another_threshold_or_precision_is_another_plan(types_project: Path, tmp_path: Path) -> None:
    source = write_rows(tmp_path / "new", rows(60, seed=4))
    where = [f'score.source="{source}"', f'score.destination="{tmp_path}/out"']
    rayforest.score(types_project, overrides=where)
    for setting in ("score.threshold=0.4", "score.precision=float32", 'score.outputs=["probability"]'):
        with pytest.raises(rayforest.errors.RefusedError):
            rayforest.score(types_project, overrides=[*where, setting])

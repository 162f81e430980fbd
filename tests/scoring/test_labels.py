"""What comes out as a prediction is the user's own label; a label that training never saw is counted, and as wrong."""

from __future__ import annotations

import datetime as dt
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn import metrics as sk
from small_projects import PROJECT, orders, write_orders, write_project

import rayforest
from rayforest.errors import InputError
from rayforest.metrics.exact import evaluate
from rayforest.metrics.problem import UNSEEN, Problem

ONE_FEATURE = re.sub(r"(?<=\[features\]\n)[^\[]*", 'x = "x"\n\n', PROJECT)


def ran(
    folder: Path, frame: pl.DataFrame, *settings: str, form: str = "parquet", text: str = PROJECT
) -> rayforest.RunResult:
    write_orders(folder, frame, form=form)
    return rayforest.run(write_project(folder, text), overrides=["data.target=label", *settings])


def scored(folder: Path) -> pl.DataFrame:
    return rayforest.read(folder / "out/scored").collect()


def problem_of(folder: Path) -> dict[str, Any]:
    (path,) = (p for p in rayforest.files(folder / "out/tuned") if p.endswith("metrics.json"))
    return json.loads(Path(path).read_text())["problem"]


TWO = {
    "1 and 2": ([1, 2], pl.Int64()),
    "-1 and 1": ([-1, 1], pl.Int64()),
    "halves": ([0.5, 1.5], pl.Float64()),
    "doubles": ([1.0, 2.0], pl.Float64()),
    "0 and 1": ([0, 1], pl.Int64()),
    "N and Y": (["N", "Y"], pl.String()),
    "no and yes, with blanks": (["no ", " yes"], pl.String()),
    "booleans": ([False, True], pl.Boolean()),
}


@pytest.mark.parametrize("form", ["parquet", "csv"])
@pytest.mark.parametrize("positive", [None, 0, 1], ids=["no positive", "the first is positive", "the second is"])
@pytest.mark.parametrize("name", TWO)
def test_a_prediction_is_the_users_own_label_in_its_own_type(
    tmp_path: Path, name: str, positive: int | None, form: str
) -> None:
    labels, dtype = TWO[name]
    if name == "doubles" and form == "csv":
        dtype = pl.Int64()  # text has no type of its own, and these are whole numbers
    frame = orders(300)
    drive = frame["spent"] > frame["spent"].median()
    frame = frame.drop("bought", "grade", "level", "spent").with_columns(
        label=pl.Series([labels[int(d)] for d in drive.to_list()])
    )
    settings = ["tune.metric=auc"]
    if positive is not None:
        settings.append(f"data.positive={json.dumps(labels[positive])}")
    result = ran(tmp_path, frame, *settings, form=form)
    out = scored(tmp_path)
    assert out["prediction"].dtype == dtype
    assert set(out["prediction"]) == set(labels)
    likelier = max(labels) if positive is None else labels[positive]
    assert ((out["prediction"] == likelier) == (out["probability"] > 0.5)).all()
    assert (out["prediction"] == frame["label"]).mean() > 0.75
    prepared = rayforest.read(tmp_path / "out/prepared").collect()
    assert prepared["target"].to_list() == frame["label"].to_list()
    assert result.tuned.metrics["auc"] > 0.8


def test_one_label_against_several_others_is_predicted_as_whether_it_is_that_one(tmp_path: Path) -> None:
    said: list[str] = []

    class Told:
        quiet = True

        def say(self, message: str) -> None:
            said.append(message)

        def progress(self, step: str, progress: object) -> None:
            pass

    write_orders(tmp_path, orders(400))
    settings = ["data.target=grade", 'data.positive="b"']
    result = rayforest.run(write_project(tmp_path), overrides=settings, reporter=Told())
    out = scored(tmp_path)
    assert out["prediction"].dtype == pl.Boolean
    assert problem_of(tmp_path)["labels"] == [False, True]
    assert problem_of(tmp_path)["positive"] == "b"
    told = "the positive label is told from 2 others, so a prediction says whether it is this one"
    assert f"tune: {told}" in said
    assert result.tuned.facts.notes == [told]


def in_time(labels: list[str], late: dict[int, str]) -> pl.DataFrame:
    """400 rows in the order of time; from row 330 on, some have a label that no earlier row has."""
    rng = np.random.default_rng(54)
    x = rng.random(400)
    chosen = [labels[int(v * len(labels))] for v in x]
    for row, label in late.items():
        chosen[row] = label
    times = [dt.datetime(2026, 1, 1) + dt.timedelta(hours=i) for i in range(400)]
    return pl.DataFrame({"id": range(400), "at": times, "x": x + rng.normal(0, 0.05, 400), "label": chosen})


BY_TIME = ['data.time="at"', 'split.by="time"']
LATE = dict.fromkeys(range(345, 400, 5), "only late")


@pytest.mark.parametrize("labels", [["a", "b"], ["red apple", "a/b", 'x"y']], ids=["binary", "multiclass"])
def test_a_label_that_training_never_saw_counts_as_wrong_and_is_said(tmp_path: Path, labels: list[str]) -> None:
    frame = in_time(labels, LATE)
    result = ran(tmp_path, frame, *BY_TIME, text=ONE_FEATURE)
    tuned, of_scored = result.tuned, scored(tmp_path)
    test = of_scored.filter(pl.int_range(pl.len()) >= 340)
    truth = frame["label"][340:]
    right = sk.accuracy_score(truth, test["prediction"])
    assert tuned.metrics["accuracy"] == pytest.approx(right)
    assert tuned.as_dict()["rows_with_unseen_label"] == 11
    assert tuned.facts.notes == ["11 test rows have a label that training never saw: they count as wrong"]
    names = sorted(labels, key=str.encode)
    if len(labels) == 2:
        shares = np.column_stack([1 - test["probability"], test["probability"]])
    else:
        shares = test.select(f"probability_{name}" for name in names).to_numpy()
    known = [np.clip(row[names.index(t)], 1e-300, 1) if t in names else np.finfo(float).eps
             for row, t in zip(shares, truth, strict=True)]  # fmt: skip
    assert tuned.metrics["log_loss"] == pytest.approx(-np.log(known).mean())
    areas = [sk.roc_auc_score(truth == name, shares[:, i]) for i, name in enumerate(names)]
    assert tuned.metrics["auc"] == pytest.approx(areas[1] if len(labels) == 2 else np.mean(areas))


@pytest.mark.parametrize(
    ("words", "wrong"),
    [({0: "no", 1: "yes"}, 300), ({0: "0", 1: "yes"}, None), ({0: "0", 1: ""}, 0)],
    ids=["all in words", "some in words", "missing is no label"],
)
def test_a_label_in_words_for_a_model_of_numbers_is_wrong_and_never_left_out(
    tmp_path: Path, words: dict[int, str], wrong: int | None
) -> None:
    numbers = orders(300).with_columns(label=pl.int_range(300) % 2)
    ran(tmp_path, numbers)
    write_orders(tmp_path / "later", numbers.with_columns(pl.col("label").replace_strict(words)))
    result = rayforest.score(
        tmp_path / "project.toml", overrides=["score.source=later/raw", "score.destination=scored"]
    )
    unseen = 150 if wrong is None else wrong
    assert result.rows_out == 300
    assert result.as_dict().get("rows_with_unseen_label", 0) == unseen
    assert result.as_dict()["rows"] == 300 - 150 * (words[1] == "")
    if unseen == 300:
        assert result.metrics["accuracy"] == 0


def test_a_target_of_a_type_that_is_not_read_is_refused_by_name_before_a_shard_is_scored(tmp_path: Path) -> None:
    numbers = orders(300).with_columns(label=pl.int_range(300) % 2)
    ran(tmp_path, numbers)
    write_orders(tmp_path / "later", numbers.with_columns(label=pl.concat_list("label")))
    settings = ["score.source=later/raw", "score.destination=scored"]
    for stage in (rayforest.check, rayforest.score):
        with pytest.raises(InputError, match=r"column 'label', of which the target is made, cannot be used"):
            stage(tmp_path / "project.toml", overrides=["data.target=label", *settings])
    assert not (tmp_path / "scored").exists()


@pytest.mark.parametrize("odd", ["much", math.inf], ids=["words", "infinite"])
def test_targets_that_are_no_quantities_are_in_no_metric_and_that_is_said(tmp_path: Path, odd: float | str) -> None:
    quantities = orders(300).with_columns(label=pl.int_range(300) * 0.5)
    ran(tmp_path, quantities, "tune.metric=mae")
    stored = pl.col("label").cast(pl.String) if isinstance(odd, str) else pl.col("label")
    missing = pl.when(pl.int_range(300) < 290).then(stored)
    later = pl.when(pl.int_range(300) < 20).then(pl.lit(odd)).otherwise(missing)
    write_orders(tmp_path / "later", quantities.with_columns(label=later))
    result = rayforest.score(
        tmp_path / "project.toml", overrides=["score.source=later/raw", "score.destination=scored"]
    )
    assert (result.rows_out, result.as_dict()["rows"]) == (300, 270)
    assert "20 rows have a target that is no quantity: no metric counts them" in result.facts.notes


def test_trials_are_compared_without_validation_rows_of_an_unknown_label_and_that_is_said(tmp_path: Path) -> None:
    frame = in_time(["a", "b"], {**LATE, 300: "early", 310: "another"})
    result = ran(tmp_path, frame, *BY_TIME, text=ONE_FEATURE).tuned
    assert result.facts.notes == [
        "2 valid rows have 2 labels that training never saw: they count as wrong; trials are compared without them",
        "11 test rows have a label that training never saw: they count as wrong",
    ]


def test_a_label_that_is_neither_of_two_is_not_the_negative_one() -> None:
    problem = Problem("binary", "auc", ("no", "yes"))
    encoded = problem.encode(pl.Series(["no", "yes", "maybe", None]))
    np.testing.assert_array_equal(encoded, [0, 1, UNSEEN, np.nan])
    found = evaluate(problem, np.array([0.2, 0.9, 0.1]), encoded[:3])
    assert found.metrics["accuracy"] == pytest.approx(2 / 3)
    assert (found.rows, found.rows_with_unseen_label) == (3, 1)
    # Half the squared distance over "no", "yes" and the third label.
    assert found.metrics["brier"] == pytest.approx((0.2**2 + 0.1**2 + (0.1**2 + 0.9**2 + 1) / 2) / 3)


def test_where_one_is_told_from_all_others_a_new_label_is_one_of_the_others() -> None:
    problem = Problem("binary", "auc", (False, True), "<30")
    np.testing.assert_array_equal(problem.encode(pl.Series(["<30", "NO", "new", None])), [1, 0, 0, np.nan])


@pytest.mark.parametrize(
    ("problem", "predictions", "labels", "undefined"),
    [
        (Problem("binary", "auc", (0.0, 1.0)), [0.2, 0.3], [0, 0], ("auc", "one class only in these rows")),
        (Problem("multiclass", "auc", ("a", "b", "c")), [[0.2, 0.3, 0.5]] * 2, [0, 1], ("auc", "1 of 3 classes have")),
        (Problem("regression", "rmse"), [1.0], [2.0], ("r2", "one row only")),
        (Problem("regression", "rmse"), [1.0, 2.0], [2.0, 2.0], ("r2", "the target is the same in all")),
        (Problem("regression", "rmse"), [1e200, 2.0], [-1e200, 2.0], ("rmse", "too large for a double")),
    ],
    ids=["one class", "a class is missing", "one row", "one value", "overflow"],
)
def test_a_metric_that_is_left_out_gives_its_reason(
    problem: Problem, predictions: list[Any], labels: list[float], undefined: tuple[str, str]
) -> None:
    found = evaluate(problem, np.array(predictions), np.array(labels, float))
    name, why = undefined
    assert name not in found.metrics
    assert found.undefined[name].startswith(why)
    assert all(np.isfinite(list(found.metrics.values())))


def test_each_baseline_is_the_constant_that_is_best_for_it(tmp_path: Path) -> None:
    write_orders(tmp_path, orders(500).with_columns(label=pl.col("spent").exp().clip(0, 1e6)))
    result = rayforest.run(write_project(tmp_path), overrides=["data.target=label", "tune.metric=mae"]).tuned
    prepared = rayforest.read(tmp_path / "out/prepared").collect()
    train, test = (prepared.filter(split=part)["target"].to_numpy() for part in ("train", "test"))
    assert result.metrics["baseline_mae"] == pytest.approx(np.abs(test - np.median(train)).mean())
    assert result.metrics["baseline_rmse"] == pytest.approx(np.sqrt(((test - train.mean()) ** 2).mean()))


@pytest.mark.parametrize(
    ("labels", "positive", "near"),
    [(["no", "Yes"], "yes", "Yes"), (["no", " yes"], "yes", " yes")],
    ids=["another case", "a blank before it"],
)
def test_a_positive_label_that_no_row_has_names_the_one_that_is_near(
    tmp_path: Path, labels: list[str], positive: str, near: str
) -> None:
    frame = orders(200).with_columns(label=pl.Series([labels[i % 2] for i in range(200)]))
    with pytest.raises(InputError, match="none of them has the positive label") as caught:
        ran(tmp_path, frame, f'data.positive="{positive}"')
    assert f"did you mean {near!r}?" in caught.value.next_step


def test_a_constant_model_is_said(tmp_path: Path) -> None:
    result = ran(tmp_path, orders(200).select("id", x=pl.lit(1.0), label="bought"), text=ONE_FEATURE)
    assert result.tuned.facts.notes == [
        "no feature varies in the training rows, so the model can only predict the same for every row",
        "the model is constant: it predicts the same for every row, whatever the features are",
    ]

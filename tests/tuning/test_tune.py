"""tune: every kind of target, a search that resumes and repeats itself, metrics that others compute alike."""

from __future__ import annotations

import gc
import json
import shutil
import weakref
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from sklearn import metrics as sk
from small_projects import Ran, orders, tuned, write_orders, write_project

import rayforest
from rayforest.errors import ConfigError, InputError
from rayforest.metrics.problem import find_problem
from rayforest.tuning import measured
from rayforest.tuning.dataset import PartRows, PreparedData, SequenceOfRows


def model_rows(project: rayforest.Project, part: str) -> tuple[np.ndarray, pl.Series]:
    """Model inputs and targets of a part, encoded here by hand."""
    out = rayforest.read(project.stage("prepared")).filter(pl.col("split") == part).collect()
    levels = sorted(
        rayforest.read(project.stage("prepared"))
        .filter(pl.col("split") == "train", pl.col("colour").is_not_null())
        .select("colour")
        .unique()
        .collect()["colour"],
        key=str.encode,
    )
    codes = [levels.index(c) if c in levels else np.nan for c in out["colour"]]
    others = out.select("amount", "ratio", "hour", "is_member").fill_null(np.nan).to_numpy()
    return np.column_stack([others[:, :2], codes, others[:, 2:]]), out["target"]


@pytest.mark.parametrize(
    ("settings", "kind", "labels"),
    [
        ({}, "binary", [False, True]),
        ({"data.target": "grade", "data.positive": "a"}, "binary", [False, True]),
        ({"data.target": "grade"}, "multiclass", ["a", "b", "c"]),
        ({"data.target": "level", "tune.metric": "accuracy"}, "multiclass", [3.0, 4.0, 5.0]),
        ({"data.target": "level"}, "regression", []),
        ({"data.target": "spent", "tune.metric": "mae"}, "regression", []),
        ({"data.target": "spent > 20", "tune.metric": "average_precision"}, "binary", [False, True]),
    ],
    ids=["boolean", "positive", "text", "whole numbers", "quantity", "mae", "sql"],
)
def test_metrics_are_those_that_scikit_learn_computes(
    tmp_path: Path, settings: dict[str, str], kind: str, labels: list[object]
) -> None:
    write_orders(tmp_path, orders(700))
    project = rayforest.load_project(write_project(tmp_path), [f'{k}="{v}"' for k, v in settings.items()])
    rayforest.prepare(project)
    result = rayforest.tune(project)
    booster, found = tuned(project)
    assert (found["problem"]["kind"], found["problem"]["labels"]) == (kind, labels)  # type: ignore[index]
    inputs, truth = model_rows(project, "test")
    predicted = np.asarray(booster.predict(inputs))
    if kind == "regression":
        expected = {
            "rmse": sk.root_mean_squared_error(truth, predicted),
            "mae": sk.mean_absolute_error(truth, predicted),
            "r2": sk.r2_score(truth, predicted),
        }
    elif kind == "binary":
        truth = truth == settings.get("data.positive", True)
        expected = {
            "auc": sk.roc_auc_score(truth, predicted),
            "average_precision": sk.average_precision_score(truth, predicted),
            "log_loss": sk.log_loss(truth, predicted),
            "accuracy": sk.accuracy_score(truth, predicted > 0.5),
            "brier": sk.brier_score_loss(truth, predicted),
        }
    else:
        chosen = np.array(labels)[predicted.argmax(axis=1)]
        expected = {
            "auc": sk.roc_auc_score(truth, predicted, multi_class="ovr", labels=labels),
            "log_loss": sk.log_loss(truth, predicted, labels=labels),
            "accuracy": sk.accuracy_score(truth, chosen),
        }
    assert {k: v for k, v in result.metrics.items() if not k.startswith("baseline")} == pytest.approx(expected)
    better = {k: v for k, v in result.metrics.items() if k in ("rmse", "log_loss")}
    assert all(v < result.metrics[f"baseline_{k}"] for k, v in better.items())


@pytest.mark.parametrize("target", ["bought", "grade", "spent"])
def test_many_held_out_rows_are_measured_shard_by_shard(
    tmp_path: Path, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_orders(tmp_path, orders(700))
    project = rayforest.load_project(write_project(tmp_path, run="shard_rows = 60"), [f'data.target="{target}"'])
    rayforest.prepare(project)
    few = rayforest.tune(project)
    shutil.rmtree(project.stage("tuned"))
    monkeypatch.setattr(measured, "MOST_ROWS_HERE", 0)
    many = rayforest.tune(project)
    expected = {k: v for k, v in few.metrics.items() if k != "baseline_mae"}
    assert many.metrics.keys() == expected.keys()
    for name, value in expected.items():
        to_a_bucket = name in ("auc", "average_precision")
        assert many.metrics[name] == pytest.approx(value, rel=0.02 if to_a_bucket else 1e-9), name
    assert measured.ABOUT_SUMS in many.facts.notes
    assert measured.ABOUT_SUMS not in few.facts.notes


def test_a_row_from_which_bins_are_made_does_not_keep_its_shard_in_memory(ran: Ran) -> None:
    data = PreparedData(ran.project.stage("prepared"))
    problem = find_problem(data.features.recipe, data.profile, None)
    rows = PartRows(data, "train", problem, list(data.manifest.data_paths()))
    matrix = weakref.ref(rows.load(0))
    row = SequenceOfRows(rows, 0)[3]
    rows.load(1)
    gc.collect()
    assert len(row) == len(data.features.names)
    assert matrix() is None


def test_the_validation_score_is_that_of_the_best_trial(ran: Ran) -> None:
    booster, found = tuned(ran.project)
    inputs, labels = model_rows(ran.project, "valid")
    assert found["valid"] == {"log_loss": pytest.approx(sk.log_loss(labels, booster.predict(inputs)))}
    trials = [json.loads(p.read_text()) for p in Path(ran.project.stage("tuned")).glob("*/trials/*.json")]
    assert found["valid"]["log_loss"] == min(t["score"] for t in trials)  # type: ignore[index]


class Stop(Exception):
    """Ends a search in the middle, as a kill does."""


class StopsAfter:
    quiet = True

    def __init__(self, trials: int) -> None:
        self.left = trials

    def say(self, message: str) -> None:
        if "trial " in message:
            self.left -= 1
            if not self.left:
                raise Stop

    def progress(self, step: str, progress: object) -> None:
        pass


def trial_records(project: rayforest.Project) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path(project.stage("tuned")).glob("*/trials/*.json")}


def params_and_models(records: dict[str, bytes]) -> dict[str, tuple[object, object]]:
    return {name: (json.loads(r)["params"], json.loads(r)["model"]) for name, r in records.items()}


def searched(folder: Path, prepared: Path, *settings: str, stop_after: int = 0) -> rayforest.Project:
    shutil.copytree(prepared, folder / "out/prepared", dirs_exist_ok=True)
    project = rayforest.load_project(write_project(folder), ["tune.trials=5", *settings])
    if stop_after:
        with pytest.raises(Stop):
            rayforest.tune(project, reporter=StopsAfter(stop_after))
    else:
        rayforest.tune(project)
    return project


def test_a_killed_search_goes_on_with_the_trials_that_it_would_have_made(ran: Ran, tmp_path: Path) -> None:
    prepared = Path(ran.project.stage("prepared"))
    whole = searched(tmp_path / "whole", prepared)
    searched(tmp_path / "killed", prepared, stop_after=3)
    project = rayforest.load_project(tmp_path / "killed/project.toml", ["tune.trials=5"])
    kept = trial_records(project)
    assert len(kept) == 3
    assert not (Path(project.stage("tuned")) / "current").exists()
    rayforest.tune(project)
    records = trial_records(project)
    assert {name: records[name] for name in kept} == kept  # not trained again
    assert params_and_models(records) == params_and_models(trial_records(whole))
    assert rayforest.tune(project).resumed


def test_the_search_proposes_the_same_trials_for_any_number_of_workers(ran: Ran, tmp_path: Path) -> None:
    prepared = Path(ran.project.stage("prepared"))
    one, four = (searched(tmp_path / str(n), prepared, f"run.workers={n}") for n in (1, 4))
    assert params_and_models(trial_records(one)) == params_and_models(trial_records(four))


class Hears(StopsAfter):
    """Keeps what a stage says, and stops after so many trials (0: never)."""

    def __init__(self, stop_after: int = 0) -> None:
        super().__init__(stop_after)
        self.said: list[str] = []

    def say(self, message: str) -> None:
        self.said.append(message)
        super().say(message)


def current_trials(project: rayforest.Project) -> dict[str, bytes]:
    folder = Path(next(iter(rayforest.files(project.stage("tuned"))))).parent
    return {path.name: path.read_bytes() for path in (folder / "trials").glob("*.json")}


@pytest.mark.parametrize(("more", "trials"), [("tune.trials=6", 6), ("tune.trials=3", 3), ("tune.budget_s=900", 5)])
def test_a_search_that_goes_further_keeps_the_trials_that_are_there(
    ran: Ran, tmp_path: Path, more: str, trials: int
) -> None:
    prepared, hears = Path(ran.project.stage("prepared")), Hears()
    project = searched(tmp_path / "longer", prepared)
    before = current_trials(project)
    path = tmp_path / "longer/project.toml"
    rayforest.tune(path, overrides=["tune.trials=5", more], replace=True, reporter=hears)
    records, kept = current_trials(project), min(trials, 5)
    assert len(records) == trials
    assert [records[n] for n in sorted(before)[:kept]] == [before[n] for n in sorted(before)[:kept]]  # the seconds too
    assert sum("found in the store" in message for message in hears.said) == kept
    whole = searched(tmp_path / "whole", prepared, more)
    assert params_and_models(records) == params_and_models(trial_records(whole))


def test_a_longer_search_that_was_killed_goes_on_where_both_left_off(ran: Ran, tmp_path: Path) -> None:
    prepared = Path(ran.project.stage("prepared"))
    project = searched(tmp_path, prepared)
    path, longer = tmp_path / "project.toml", ["tune.trials=8"]
    with pytest.raises(Stop):
        rayforest.tune(path, overrides=longer, replace=True, reporter=Hears(7))
    assert len(current_trials(project)) == 5  # readers see the shorter search
    hears = Hears()
    rayforest.tune(path, overrides=longer, reporter=hears)
    assert sum("found in the store" in message for message in hears.said) >= 7
    assert len(current_trials(project)) == 8


@pytest.mark.parametrize("other", ["project.seed=9", "tune.workers=3", "tune.space.lambda_l1=0.5"])
def test_trials_of_another_search_are_not_taken_over(ran: Ran, tmp_path: Path, other: str) -> None:
    prepared, hears = Path(ran.project.stage("prepared")), Hears()
    searched(tmp_path, prepared)
    overrides = ["tune.trials=5", other]
    rayforest.tune(tmp_path / "project.toml", overrides=overrides, replace=True, reporter=hears)
    assert not any("found in the store" in message for message in hears.said)


def prepared_at(folder: Path, frame: pl.DataFrame, *settings: str) -> rayforest.Project:
    write_orders(folder, frame)
    project = rayforest.load_project(write_project(folder), settings)
    rayforest.prepare(project)
    return project


@pytest.mark.parametrize(
    ("rows", "settings", "changed", "what"),
    [
        (60, (), {"bought": pl.lit(True)}, "the target is constant in the training rows"),
        (60, ('data.target="spent"',), {"spent": pl.lit(2.5)}, "the target is constant in the training rows"),
        (60, ('data.target="grade"', 'data.positive="A"'), {}, "the target is constant in the training rows"),
        (1, (), {}, "part has no rows"),
        (60, ("split.shares=[1, 0, 0]",), {}, "the valid part has no rows"),
        (60, ('data.target="id"', 'data.key="customer"'), {"customer": pl.int_range(60)}, "no row of the valid part"),
    ],
    ids=["constant class", "constant quantity", "positive never occurs", "one row", "no valid part", "labels unknown"],
)
def test_what_cannot_be_learned_is_an_input_error(
    tmp_path: Path, rows: int, settings: tuple[str, ...], changed: dict[str, pl.Expr], what: str
) -> None:
    project = prepared_at(tmp_path, orders(rows).with_columns(**changed), *settings)
    with pytest.raises(InputError, match=what):
        rayforest.tune(project)
    assert not (tmp_path / "out/tuned").exists()


def test_a_missing_target_is_named_with_what_to_do(tmp_path: Path) -> None:
    write_orders(tmp_path, orders(50))
    text = write_project(tmp_path).read_text().replace('target = "bought"\n', "")
    path = write_project(tmp_path, text)
    rayforest.prepare(path)
    with pytest.raises(ConfigError, match="tune needs a target") as caught:
        rayforest.tune(path)
    assert caught.value.next_step


@pytest.mark.parametrize(
    ("settings", "what", "next_step"),
    [
        (["tune.metric=rmse"], "", ""),
        (["data.target=grade", "tune.metric=rmse"], "tune.metric = 'rmse' does not fit a multiclass target", ""),
        (["data.target=spent", "tune.metric=auc"], "the target has over 1,000 different values", ""),
        (["tune.space.num_leafs=7"], "tune.space.num_leafs is no parameter of LightGBM", "did you mean 'num_leaves'?"),
        (["tune.space.objective=binary"], "tune.space.objective: rayforest sets this parameter itself", "leave it out"),
        (
            ["tune.space.random_state=1"],
            "tune.space.random_state: rayforest sets this parameter itself",
            "leave it out",
        ),
        (["tune.space.max_bin=[10, 20]"], "tune.space.max_bin cannot be searched", "fix it, for example max_bin = 255"),
        (["tune.space.lambda_l1=[2, 1]"], "tune.space.lambda_l1 is not a range", ""),
        (["tune.space.num_leaves=1"], "LightGBM refuses a trial", "correct [tune.space]"),
        (["tune.space.max_bin=1"], "LightGBM refuses a trial", "correct [tune.space]"),
    ],
)
def test_a_search_that_cannot_be_made_is_a_configuration_error(
    tmp_path: Path, settings: list[str], what: str, next_step: str
) -> None:
    project = prepared_at(tmp_path, orders(2_000 if "data.target=spent" in settings else 200), *settings)
    if not what:  # 0 and 1 may be a quantity
        assert "rmse" in rayforest.tune(project).metrics
        return
    with pytest.raises(ConfigError) as caught:
        rayforest.tune(project)
    assert caught.value.what.startswith(what)
    assert next_step in caught.value.next_step


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of prepared orders, which tests only read."""
    folder = tmp_path_factory.mktemp("space")
    prepared_at(folder, orders(200))
    return folder


def with_space(prepared: Path, folder: Path, *lines: str) -> rayforest.Project:
    """A project over a copy of the prepared orders, with this search space alone."""
    shutil.copytree(prepared, folder, dirs_exist_ok=True)
    text = (folder / "project.toml").read_text()
    before, _, rest = text.partition("[tune.space]\n")
    (folder / "project.toml").write_text("\n".join([before + "[tune.space]", *lines, rest[rest.index("[run]") :]]))
    return rayforest.load_project(folder / "project.toml")


def test_an_alias_of_lightgbm_stands_for_its_parameter(prepared: Path, tmp_path: Path) -> None:
    project = with_space(prepared, tmp_path, "eta = 0.3", "n_estimators = 7", "min_child_samples = [5, 20]")
    best = rayforest.tune(project).facts.best
    params = best["params"]  # type: ignore[index]
    assert (params["num_iterations"], params["learning_rate"]) == (7, 0.3)
    assert 5 <= params["min_data_in_leaf"] <= 20
    assert not {"eta", "n_estimators", "min_child_samples"} & params.keys()
    booster, _ = tuned(project)
    assert booster.current_iteration() == best["rounds"] <= 7  # type: ignore[index]
    assert "[learning_rate: 0.3]" in booster.model_to_string()


def test_an_override_replaces_the_parameter_of_the_file_whatever_its_name_there(prepared: Path, tmp_path: Path) -> None:
    file = tmp_path / "project.toml"
    with_space(prepared, tmp_path, "learning_rate = [0.01, 0.1]", "n_estimators = 7")
    overrides = ["tune.space.eta=0.3"]
    rayforest.check(file, overrides=overrides)
    assert not rayforest.tune(file, overrides=overrides).resumed
    assert "[learning_rate: 0.3]" in tuned(rayforest.load_project(file))[0].model_to_string()
    with_space(prepared, tmp_path, "n_estimators = 7", "eta = 0.3")
    assert rayforest.tune(file).resumed  # the same search: what --set replaced is no part of it
    with pytest.raises(ConfigError, match=r"tune.space.eta and tune.space.shrinkage_rate are two names"):
        rayforest.check(file, overrides=["tune.space.eta=0.1", "tune.space.shrinkage_rate=0.2"])


@pytest.mark.parametrize(
    ("lines", "what", "next_step"),
    [
        (
            ["eta = 0.3", "learning_rate = 0.1"],
            "tune.space.eta and tune.space.learning_rate are two names",
            "learning_rate",
        ),
        (
            ["n_estimators = 7", "num_trees = 9"],
            "tune.space.n_estimators and tune.space.num_trees are two names",
            "num_iter",
        ),
        (
            ["application = 'binary'"],
            "tune.space.application: rayforest sets this parameter itself (applic",
            "leave it out",
        ),
        (
            ["random_state = 3"],
            "tune.space.random_state: rayforest sets this parameter itself (random_s",
            "project.seed",
        ),
        (["n_jobs = 3"], "tune.space.n_jobs: rayforest sets this parameter itself (n_jobs is another", "run.workers"),
        (["metrics = 'auc'"], "tune.space.metrics: rayforest sets this parameter itself", "tune.metric"),
        (["n_iter_no_change = 5"], "tune.space.n_iter_no_change: rayforest sets this parameter itself", "50 rounds"),
        (["save_binary = true"], "tune.space.save_binary has no effect on a trial", "leave it out"),
        (["max_depht = 3"], "tune.space.max_depht is no parameter of LightGBM", "did you mean 'max_depth'?"),
        (["n_estimator = 3"], "tune.space.n_estimator is no parameter of LightGBM", "did you mean 'num_iterations'?"),
        (["zzz = 3"], "tune.space.zzz is no parameter of LightGBM", "list of parameters"),
        (["learning_rate = -0.1"], "LightGBM refuses a trial with learning_rate = -0.1", "[tune.space]: learning_rate"),
        (["num_leaves = [1, 9]"], "LightGBM refuses a trial with num_leaves = 1", "[tune.space]: num_leaves"),
        (["num_leaves = 'many'"], "LightGBM refuses a trial with num_leaves = 'many'", "[tune.space]: num_leaves"),
        (["num_leaves = 4.5"], "LightGBM refuses a trial with num_leaves = 4.5", "[tune.space]: num_leaves"),
        (["extra_trees = 'maybe'"], "LightGBM refuses a trial with extra_trees = 'maybe'", "[tune.space]: extra_trees"),
        (["boosting = { choices = ['gbdt', 'gbtd'] }"], "LightGBM refuses a trial with boosting = 'gbtd'", "boosting"),
        (
            ["monotone_constraints = [1, -1]"],
            "LightGBM refuses a trial with monotone_constraints = [1, -1]",
            "monotone",
        ),
        (
            ["is_unbalance = true", "scale_pos_weight = 2.0"],
            "LightGBM refuses a trial with values that",
            "do not go together",
        ),
        (
            ["boosting = { choices = ['gbdt', 'goss'] }"],
            "LightGBM refuses a trial with values that",
            "do not go together",
        ),
        (["n_estimators = 0"], "tune.space.n_estimators is not a number of boosting rounds", ""),
        (["n_estimators = [0, 10]"], "tune.space.n_estimators is not a number of boosting rounds", ""),
        (["learning_rate = inf"], "tune.space.learning_rate is no finite number", ""),
        (["max_bin = { choices = [[1]] }"], "tune.space.max_bin is not understood", ""),
    ],
)
def test_a_parameter_that_cannot_be_is_refused_before_the_first_trial_and_by_check(
    prepared: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], lines: list[str], what: str, next_step: str
) -> None:
    project = with_space(prepared, tmp_path, *lines)
    capfd.readouterr()
    for command in (rayforest.tune, rayforest.check):
        with pytest.raises(ConfigError) as caught:
            command(project)
        assert caught.value.what.startswith(what)
        assert next_step in caught.value.next_step
        assert "/LightGBM/" not in str(caught.value)
    assert not (tmp_path / "out/tuned").exists()
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "lines",
    [
        ["boosting = 'goss'"],
        ["data_sample_strategy = 'goss'"],
        ["boosting = 'rf'"],
        ["boosting = 'dart'", "num_iterations = 6"],
        ["zero_as_missing = true", "use_missing = true", "max_bin = 63"],
        ["monotone_constraints = [1, 0, 0, 0, -1]", "interaction_constraints = [[0, 1], [2, 3, 4]]"],
        ["linear_tree = true"],
    ],
    ids=lambda lines: lines[0].split(" ")[-1].strip("'"),
)
def test_ways_of_boosting_that_lightgbm_has_can_be_taken(prepared: Path, tmp_path: Path, lines: list[str]) -> None:
    rounds = [] if any("num_iterations" in line for line in lines) else ["num_iterations = 6"]
    result = rayforest.tune(with_space(prepared, tmp_path, *lines, *rounds))
    assert result.facts.best["rounds"] >= 1  # type: ignore[index]


def test_a_category_without_values_and_infinite_numbers_are_learned_from(tmp_path: Path) -> None:
    frame = orders(300).with_columns(
        colour=pl.lit(None, pl.String), amount=pl.when(pl.col("visits") == 0).then(np.inf).otherwise("amount")
    )
    write_orders(tmp_path, frame)
    result = rayforest.run(write_project(tmp_path))
    assert result.scored.rows_out == 300
    json.loads(next(Path(tmp_path).rglob("profile.json")).read_text(), parse_constant=pytest.fail)

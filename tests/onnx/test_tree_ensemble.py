"""LightGBM's scores in ONNX, bit for bit, on the models that stock converters get wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from rayforest.errors import ConfigError, InputError
from rayforest.onnx import check_parity, from_lightgbm, runtime_session
from rayforest.onnx.lightgbm_text import LightGBMModel, Missing, Tree, read_lightgbm
from rayforest.onnx.tree_ensemble import MAX_DEPTH

Floats = NDArray[np.float64]
QUIET = {"verbose": -1, "num_threads": 1, "min_data_in_leaf": 5, "min_data_per_group": 5, "cat_smooth": 1}


def table(rows: int = 600, seed: int = 0) -> tuple[Floats, Floats]:
    """Five columns on a grid of 0.1, so that values sit on thresholds, and a target."""
    rng = np.random.default_rng(seed)
    x = np.round(rng.normal(size=(rows, 5)), 1)
    return x, x[:, 0] + x[:, 1] * x[:, 2] + 0.1 * rng.normal(size=rows)


def train(x: Floats, y: Floats, rounds: int = 15, **params: Any) -> lightgbm.Booster:
    categorical = params.pop("categorical_feature", [])
    data = lightgbm.Dataset(x, y, categorical_feature=categorical, params={**QUIET, **params})
    return lightgbm.train({**QUIET, "objective": "regression", **params}, data, rounds)


def scores(model: onnx.ModelProto, x: Floats) -> tuple[Floats, Floats]:
    raw, prediction = runtime_session(model.SerializeToString()).run(["raw_score", "prediction"], {"features": x})
    return raw, prediction


def assert_exact(booster: lightgbm.Booster, x: Floats, **chosen: Any) -> None:
    raw, prediction = scores(from_lightgbm(booster, **chosen), x)
    expected = booster.predict(x, raw_score=True, **chosen)
    assert raw.dtype == prediction.dtype == np.float64
    assert raw.ndim == 2
    np.testing.assert_array_equal(raw.reshape(expected.shape).view(np.uint64), expected.view(np.uint64))
    predicted = booster.predict(x, **chosen)
    assert prediction.shape == predicted.shape
    # exp and log of two libraries differ in the last bits: 1e-15 relative is the promise
    np.testing.assert_allclose(prediction, predicted, rtol=1e-15, atol=5e-324)


def test_values_on_thresholds_score_the_same_bits() -> None:
    x, y = table()
    assert_exact(train(x, y, 100), x)


@pytest.mark.parametrize("missing", [{}, {"zero_as_missing": True}, {"use_missing": False}])
def test_missing_values_go_where_lightgbm_sends_them(missing: dict[str, bool]) -> None:
    x, y = table()
    x[::5, 0], x[::7, 1], x[::3, 2] = np.nan, 0.0, -0.0
    tiny = float(np.float32(1e-35))
    edges = [np.nan, np.inf, -np.inf, 0.0, -0.0, tiny, -tiny, np.nextafter(tiny, 1), 5e-324, -5e-324, 1e300, -1e300]
    rows = np.concatenate([x, np.repeat(np.array(edges)[:, None], 5, axis=1)])
    assert_exact(train(x, y, **missing), rows)


def test_a_feature_may_have_two_rules_for_missing_values_in_one_model() -> None:
    x, y = table()
    x[::5, 0], x[::7, 1] = np.nan, 0.0
    first = train(x, y, 5, zero_as_missing=True)
    both = lightgbm.train({**QUIET, "objective": "regression"}, lightgbm.Dataset(x, y), 5, init_model=first)
    kinds = {
        (int(f), int(m)) for t in read_lightgbm(both).trees for f, m in zip(t.split_feature, t.missing, strict=True)
    }
    assert len(kinds) > len({feature for feature, _ in kinds})
    assert_exact(both, x)


@pytest.mark.parametrize("width", [2, 10, 60, 1_000, 12_000])
def test_categories_of_any_width_with_codes_known_and_unknown(width: int) -> None:
    rng = np.random.default_rng(width)
    rows = max(2_000, 2 * width)
    x = np.stack([rng.integers(0, width, rows), rng.integers(0, width, rows), rng.normal(size=rows)], axis=1)
    effect = rng.normal(size=(2, width))
    y = effect[0][x[:, 0].astype(int)] + effect[1][x[:, 1].astype(int)] * x[:, 2]
    booster = train(x, y, 20, categorical_feature=[0, 1], max_cat_threshold=500, num_leaves=31, max_bin=20_000)
    assert sum(len(tree.categories) for tree in read_lightgbm(booster).trees) > 20
    unknown = [
        np.nan,
        -1.0,
        -0.5,
        0.5,
        width - 0.001,
        width + 1.0,
        2.0**31,
        2.0**63,
        -(2.0**63),
        1e300,
        np.inf,
        -np.inf,
    ]
    odd = np.array([[a, b, 0.3] for a in unknown for b in unknown])
    assert_exact(booster, np.concatenate([x[:2_000], odd]))


def test_the_best_iteration_and_chosen_iterations_are_those_of_predict() -> None:
    x, y = table()
    data = lightgbm.Dataset(x, y)
    valid = lightgbm.Dataset(x, y[::-1].copy(), reference=data)
    booster = lightgbm.train(
        {**QUIET, "objective": "regression"},
        data,
        30,
        valid_sets=[valid],
        callbacks=[lightgbm.early_stopping(5, verbose=False)],
        keep_training_booster=True,  # otherwise LightGBM drops the iterations after the best
    )
    assert 0 < booster.best_iteration < booster.current_iteration()
    for chosen in (None, 0, -1, 1, 2, 1_000):
        assert_exact(booster, x, num_iteration=chosen)


def test_a_random_forest_divides_by_the_iterations_that_it_uses() -> None:
    x, y = table()
    forest = {"boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.5, "objective": "binary", "sigmoid": 0.7}
    booster = train(x, (y > 0).astype(float), 12, **forest)
    assert_exact(booster, x)
    assert_exact(booster, x, num_iteration=5)


@pytest.mark.parametrize("boosting", ["gbdt", "dart"])
def test_leaf_models_of_linear_trees_are_exact(boosting: str) -> None:
    x, y = table(2_000)
    x[::9, 1] = np.nan
    booster = train(x, y, 15, linear_tree=True, boosting=boosting)
    tiny = float(np.float32(1e-35))
    edges = np.repeat(np.array([np.nan, np.inf, -np.inf, tiny, -tiny, 5e-324, 1e300, -1e300])[:, None], 5, axis=1)
    assert any(len(f) > 1 for tree in read_lightgbm(booster).trees if tree.linear for f in tree.linear.features)
    raw, _ = scores(from_lightgbm(booster), np.concatenate([x, edges]))
    np.testing.assert_array_equal(raw[:, 0], booster.predict(np.concatenate([x, edges]), raw_score=True))


def test_linear_trees_of_several_classes_are_exact() -> None:
    x, y = table(1_000)
    classes = np.digitize(y, [-1, 0, 1]).astype(float)
    assert_exact(train(x, classes, 8, objective="multiclass", num_class=4, linear_tree=True), x)


def test_models_without_a_split_give_their_constant() -> None:
    x, y = table()
    assert_exact(train(x, np.full(len(y), 2.5), 3), x)
    assert_exact(train(x, y, 3, min_data_in_leaf=10_000), x)


def test_categorical_splits_that_the_engine_would_merge_stay_apart() -> None:
    """onnxruntime merges a split with the one below on the same column where their true sides look the same to it.

    Below, they differ in the side of NaN alone. And behind merged splits, it took another leaf for a constant's.
    """
    none = np.zeros(0, dtype=np.int64)
    constant = Tree(none, np.zeros(0), none, none > 0, none, none, np.array([1.0]))
    alike = Tree(
        split_feature=np.array([0, 0, 1, 1]),
        threshold=np.zeros(4),
        missing=np.full(4, Missing.NAN),
        default_left=np.array([False, False, True, False]),
        left=np.array([2, 3, -1, -2]),
        right=np.array([1, -5, -3, -4]),
        leaf_value=np.array([0.5, 0.5, 0.25, 0.25, 2.0]),
        categories={0: np.array([0, 4]), 1: np.array([2, 4])},
    )
    model = LightGBMModel("custom", {}, 2, ("town", "age"), average=False, trees=(constant, alike))
    rows = np.array([[town, age] for town in range(5) for age in (-1.0, 1.0, np.nan)])
    raw, _ = scores(from_lightgbm(model), rows)
    expected = [*(0.5, 0.25, 0.5), *(2.0, 2.0, 2.0), *(0.5, 0.25, 0.25), *(2.0, 2.0, 2.0), *(0.5, 0.25, 0.5)]
    assert raw[:, 0].tolist() == [1.0] * 15
    assert raw[:, 1].tolist() == expected


def test_a_custom_objective_predicts_its_raw_score() -> None:
    x, y = table()

    def squared(predicted: Floats, data: lightgbm.Dataset) -> tuple[Floats, Floats]:
        return predicted - data.get_label(), np.ones_like(predicted)

    booster = train(x, y, 5, objective=squared)
    raw, prediction = scores(from_lightgbm(booster), x)
    np.testing.assert_array_equal(raw[:, 0], prediction)
    assert_exact(booster, x)


def test_predictions_hold_where_exp_leaves_the_range_of_double() -> None:
    x, y = table()
    y = np.abs(y)
    for objective in ("binary", "poisson", "cross_entropy", "cross_entropy_lambda"):
        label = (y > 0.5).astype(float) if objective != "poisson" else y
        booster = train(x, label, 10, objective=objective)
        for leaf, value in enumerate([-800.0, -745.1, -709.0, -36.8, -1e-17, 709.7, 709.78, 800.0]):
            booster.set_leaf_output(0, leaf, value)
        assert_exact(booster, x)


@pytest.mark.parametrize("classes", [1, 3])
def test_any_number_of_rows_a_call_gives_the_same_bits(classes: int) -> None:
    """onnxruntime has other code for one row, for few rows, and for many trees."""
    x, y = table(3_000)
    kind = {"objective": "multiclass", "num_class": classes} if classes > 1 else {}
    booster = train(x, np.digitize(y, [-0.5, 0.5]).astype(float) if kind else y, 400, num_leaves=4, **kind)
    session = runtime_session(from_lightgbm(booster).SerializeToString())
    expected = booster.predict(x, raw_score=True).reshape(len(x), classes)
    for rows in (1, 2, 49, 50, 51, 128, 129, 3_000):
        raw, prediction = session.run(["raw_score", "prediction"], {"features": x[:rows]})
        np.testing.assert_array_equal(raw, expected[:rows])
        assert len(prediction) == rows
    raw, prediction = session.run(["raw_score", "prediction"], {"features": x[:0]})
    assert raw.shape == (0, classes)
    assert len(prediction) == 0


def test_estimators_and_model_files_convert_as_their_booster(tmp_path: Path) -> None:
    x, y = table()
    estimator = lightgbm.LGBMRegressor(n_estimators=10, verbose=-1, n_jobs=1).fit(x, y)
    estimator.booster_.save_model(tmp_path / "model.txt")
    whole = from_lightgbm(estimator.booster_)
    assert from_lightgbm(estimator) == whole
    assert from_lightgbm(tmp_path / "model.txt") == whole
    assert from_lightgbm(str(tmp_path / "model.txt"), num_iteration=3) == from_lightgbm(estimator, num_iteration=3)


def test_the_model_passes_the_checker_and_shows_its_facts() -> None:
    x, y = table()
    model = from_lightgbm(train(x, y, 3))
    onnx.checker.check_model(model, full_check=True)
    facts = {prop.key: prop.value for prop in model.metadata_props}
    assert facts["objective"] == "regression"
    assert facts["n_trees"] == facts["n_iterations"] == "3"
    assert model.producer_name == "rayforest"


def test_what_is_not_a_trained_model_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not a LightGBM model"):
        from_lightgbm(object())
    with pytest.raises(ConfigError, match="LGBMClassifier is not fitted"):
        from_lightgbm(lightgbm.LGBMClassifier())
    with pytest.raises(InputError, match="cannot be read"):
        from_lightgbm(tmp_path / "absent.txt")
    x, y = table()
    other = train(x, y, 1).model_to_string().replace("objective=regression", "objective=of_the_future")
    (tmp_path / "other.txt").write_text(other)
    with pytest.raises(ConfigError, match="of_the_future"):
        from_lightgbm(tmp_path / "other.txt")


def test_a_tree_too_deep_for_the_engine_is_refused_and_the_deepest_allowed_is_exact() -> None:
    def chain(levels: int) -> LightGBMModel:
        splits = np.arange(levels)
        deeper = np.where(splits < levels - 1, splits + 1, ~levels)
        zeros = np.zeros(levels, dtype=np.int64)
        tree = Tree(zeros, splits.astype(float), zeros, zeros > 0, ~splits, deeper, np.arange(levels + 1.0))
        return LightGBMModel("regression", {}, 1, ("x",), average=False, trees=(tree,))

    raw, _ = scores(from_lightgbm(chain(MAX_DEPTH)), np.array([[5.5], [1e9], [-1.0]]))
    assert raw[:, 0].tolist() == [6.0, MAX_DEPTH, 0.0]
    with pytest.raises(ConfigError, match="too deep"):
        from_lightgbm(chain(MAX_DEPTH + 1))


def test_the_gate_agrees_with_these_tests() -> None:
    x, y = table()
    booster = train(x, y)
    evidence = check_parity(booster, from_lightgbm(booster), x)
    assert evidence.rows == len(x)
    assert evidence.bits_differing == 0
    assert evidence.raw_scores == evidence.rows + evidence.threshold_rows

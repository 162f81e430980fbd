"""LightGBM's models of every kind, through ONNX, against LightGBM and onnxruntime: equal in every bit."""

from __future__ import annotations

import lightgbm
import numpy as np
import pytest
from numpy.typing import NDArray
from random_models import COMBINATIONS, random_case

from rayforest.errors import ConfigError
from rayforest.forest import Forest
from rayforest.onnx import check_parity, from_lightgbm
from rayforest.onnx.lightgbm_text import read_lightgbm
from rayforest.onnx.parity_rows import threshold_rows


@pytest.mark.parametrize("seed", range(2 * COMBINATIONS))
def test_a_random_model_scores_the_same_bits_and_reaches_the_same_leaves(seed: int) -> None:
    case = random_case(seed)
    text = read_lightgbm(case.booster, num_iteration=case.num_iteration)
    model = from_lightgbm(text)
    if any(tree.linear for tree in text.trees):
        with pytest.raises(ConfigError, match="linear"):
            Forest.from_onnx(model)
        return
    forest = Forest.from_onnx(model)
    check_parity(case.booster, model, case.rows, num_iteration=case.num_iteration, also={"kernel": forest.raw_score})
    rows = np.concatenate([case.rows, threshold_rows(text, case.rows, max_splits=50)])
    leaves = case.booster.predict(rows, pred_leaf=True, num_iteration=case.num_iteration, num_threads=1)
    assert np.array_equal(forest.leaf_index(rows), leaves.reshape(len(rows), -1)), case.kind
    scores = forest.raw_score(rows)
    for row in range(0, len(rows), 40):
        one = rows[row : row + 1]
        assert np.array_equal(forest.leaf_index(one)[0], leaves.reshape(len(rows), -1)[row]), case.kind
        assert np.array_equal(forest.raw_score(one), scores[row : row + 1]), case.kind


def train(x: NDArray[np.float64], rounds: int, **params: object) -> lightgbm.Booster:
    y = np.random.default_rng(1).normal(size=len(x)) + np.argsort(np.argsort(x[:, 0])) / len(x)
    defaults = {"objective": "regression", "verbose": -1, "num_threads": 1, "min_data_in_leaf": 1, "min_data_in_bin": 1}
    return lightgbm.train(defaults | params, lightgbm.Dataset(x, y), rounds)


def assert_same_bits(booster: lightgbm.Booster, rows: NDArray[np.float64]) -> None:
    forest = Forest.from_onnx(from_lightgbm(booster))
    reference = booster.predict(rows, raw_score=True, num_threads=1)
    assert np.array_equal(forest.raw_score(rows)[:, 0], reference)
    assert np.array_equal(forest.leaf_index(rows), booster.predict(rows, pred_leaf=True, num_threads=1))


@pytest.mark.parametrize("leaves", [255, 2_040, 2_041, 6_000])
def test_trees_of_any_size_on_either_side_of_the_limit_of_bits(leaves: int) -> None:
    x = np.random.default_rng(0).normal(size=(9_000, 3))
    booster = train(x, 2, num_leaves=leaves, max_bin=9_000)
    assert booster.dump_model()["tree_info"][0]["num_leaves"] == leaves
    assert_same_bits(booster, np.concatenate([x[:700], np.full((1, 3), np.nan), np.full((1, 3), np.inf)]))


def test_thousands_of_thresholds_on_one_feature() -> None:
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(size=4_000), rng.normal(size=4_000) * 10.0 ** rng.uniform(-30, 30, 4_000)])[:, None]
    booster = train(x, 12, num_leaves=1_500, max_bin=8_000)
    cuts = len(Forest.from_onnx(from_lightgbm(booster)).packed.bins.cut)
    assert cuts > 5_000
    edges = np.concatenate([x, np.nextafter(x, np.inf), np.nextafter(x, -np.inf)])
    assert_same_bits(booster, edges)


def test_thousands_of_features_and_of_trees() -> None:
    x = np.random.default_rng(0).normal(size=(300, 3_000))
    assert_same_bits(train(x, 1_500, num_leaves=4, feature_fraction=0.05, bagging_fraction=0.5, bagging_freq=1), x)


@pytest.mark.parametrize("codes", [3, 8, 9, 1_000, 12_000])
def test_categories_known_unknown_fractional_and_missing(codes: int) -> None:
    rng = np.random.default_rng(codes)
    x = np.stack([rng.integers(0, codes, 6_000).astype(float), rng.normal(size=6_000)], axis=1)
    y = rng.normal(size=codes)[x[:, 0].astype(int)] * 3 + x[:, 1]
    params = {"objective": "regression", "verbose": -1, "num_threads": 1, "min_data_per_group": 1, "cat_smooth": 1.0}
    params |= {"max_cat_threshold": 3_000, "max_cat_to_onehot": 4}
    booster = lightgbm.train(params, lightgbm.Dataset(x, y, categorical_feature=[0]), 20)
    edges = [-2.0, -1.0, -0.5, -0.0, 0.5, codes - 1, codes - 0.5, codes, 1e9, 2.0**31, 2.0**63, -(2.0**63), 1e300]
    edges += [np.nan, np.inf, -np.inf]
    assert_same_bits(booster, np.concatenate([x[:500], [[edge, 0.1] for edge in edges]]))

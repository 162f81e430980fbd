"""The gate: one differing bit, and there is no model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lightgbm
import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import AttributeProto, numpy_helper

from rayforest.errors import InputError, ParityError
from rayforest.onnx import check_parity, from_lightgbm
from rayforest.onnx.lightgbm_text import read_lightgbm
from rayforest.onnx.parity_rows import threshold_rows

NO_ROWS = np.zeros((0, 3))
Change = Callable[[NDArray[Any]], NDArray[Any]]


@pytest.fixture(scope="module")
def booster() -> lightgbm.Booster:
    rng = np.random.default_rng(0)
    x = np.stack([rng.normal(size=800), rng.integers(0, 70, 800), rng.normal(size=800)], axis=1)
    x[::7, 0] = np.nan
    y = np.nan_to_num(x[:, 0]) + np.sin(x[:, 1]) + x[:, 2]
    params = {"verbose": -1, "num_threads": 1, "objective": "binary", "min_data_per_group": 1, "num_leaves": 12}
    data = lightgbm.Dataset(x, (y > 0).astype(float), categorical_feature=[1], feature_name=["age", "town", "amount"])
    return lightgbm.train(params, data, 10)


def changed(model: onnx.ModelProto, attribute: str, change: Change) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    trees = next(node for node in copy.graph.node if node.op_type == "TreeEnsemble")
    found = next(a for a in trees.attribute if a.name == attribute)
    if found.type == AttributeProto.INTS:
        found.ints[:] = change(np.array(found.ints)).tolist()
    else:
        found.t.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(found.t).copy()), attribute))
    return copy


def at(place: int, value: float) -> Change:
    def change(values: NDArray[Any]) -> NDArray[Any]:
        values[place] = value
        return values

    return change


def test_an_exact_model_passes_and_leaves_evidence(booster: lightgbm.Booster) -> None:
    evidence = check_parity(booster, from_lightgbm(booster), NO_ROWS).as_dict()
    assert evidence["rows"] == 0
    assert evidence["threshold_rows"] > 300
    assert evidence["bits_differing"] == 0
    assert evidence["max_relative_difference"] <= 1e-15
    assert evidence["engines"]["lightgbm"] == lightgbm.__version__


def test_a_threshold_one_double_off_is_found_and_named(booster: lightgbm.Booster) -> None:
    """In every split of the model: this is the smallest error that a converter can make."""
    model, text = from_lightgbm(booster), read_lightgbm(booster)
    splits = [(t, s) for t, tree in enumerate(text.trees) for s in range(len(tree.left)) if s not in tree.categories]
    first = np.cumsum([0, *(len(tree.left) for tree in text.trees)])
    for tree, split in splits:
        threshold = text.trees[tree].threshold[split]
        name = text.feature_names[text.trees[tree].split_feature[split]]
        for beside in (np.nextafter(threshold, np.inf), np.nextafter(threshold, -np.inf)):
            with pytest.raises(ParityError) as error:
                check_parity(booster, changed(model, "nodes_splits", at(first[tree] + split, beside)), NO_ROWS)
            assert f"tree {tree}, feature '{name}'" in error.value.found
            assert "the rows made at the model's thresholds" in error.value.found


def test_a_missing_value_on_the_wrong_side_is_found_in_every_split(booster: lightgbm.Booster) -> None:
    """In every split that a missing value can reach: below another split of the same feature it may not."""
    model, text = from_lightgbm(booster), read_lightgbm(booster)
    first, tested = 0, 0
    for number, tree in enumerate(text.trees):
        features_above: dict[int, set[int]] = {0: set()}
        for split, feature in enumerate(tree.split_feature.tolist()):
            for child in (tree.left[split], tree.right[split]):
                features_above[child] = features_above[split] | {feature}
            if split in tree.categories or feature in features_above[split]:
                continue
            sides = numpy_sides(model)
            sides[first + split] = 1 - sides[first + split]
            with pytest.raises(ParityError) as error:
                check_parity(booster, changed(model, "nodes_missing_value_tracks_true", lambda _, s=sides: s), NO_ROWS)
            assert f"tree {number}, feature '{text.feature_names[feature]}'" in error.value.found
            tested += 1
        first += len(tree.split_feature)
    assert tested > 20


def numpy_sides(model: onnx.ModelProto) -> NDArray[np.int64]:
    trees = next(node for node in model.graph.node if node.op_type == "TreeEnsemble")
    return np.array(next(a.ints for a in trees.attribute if a.name == "nodes_missing_value_tracks_true"))


def test_a_leaf_one_double_off_is_found_and_named(booster: lightgbm.Booster) -> None:
    model = changed(from_lightgbm(booster), "leaf_weights", lambda w: np.nextafter(w, np.inf))
    with pytest.raises(ParityError, match="raw scores") as error:
        check_parity(booster, model, NO_ROWS)
    assert "tree 0" in error.value.found


def test_thresholds_stored_as_float32_are_found(booster: lightgbm.Booster) -> None:
    narrow = changed(from_lightgbm(booster), "nodes_splits", lambda t: t.astype(np.float32).astype(np.float64))
    with pytest.raises(ParityError):
        check_parity(booster, narrow, NO_ROWS)


def test_a_wrong_set_of_categories_is_found(booster: lightgbm.Booster) -> None:
    def other(members: NDArray[Any]) -> NDArray[Any]:
        return np.where(np.isnan(members), members, members % 30 + 1)

    with pytest.raises(ParityError, match="raw scores") as error:
        check_parity(booster, changed(from_lightgbm(booster), "membership_values", other), NO_ROWS)
    assert "feature 'town'" in error.value.found


def test_a_wrong_link_is_found(booster: lightgbm.Booster) -> None:
    model = from_lightgbm(booster)
    next(node for node in model.graph.node if node.op_type == "Exp").op_type = "Sigmoid"
    with pytest.raises(ParityError, match="different predictions"):
        check_parity(booster, model, NO_ROWS)


def test_a_model_of_other_iterations_is_found(booster: lightgbm.Booster) -> None:
    with pytest.raises(ParityError) as error:
        check_parity(booster, from_lightgbm(booster, num_iteration=9), NO_ROWS)
    assert "9 trees, LightGBM uses 10" in error.value.found


def test_the_given_rows_are_compared_first_and_named_by_their_index(booster: lightgbm.Booster) -> None:
    text = read_lightgbm(booster)
    rows = np.zeros((5_000, 3))
    threshold = text.trees[0].threshold[0]
    rows[4_321, text.trees[0].split_feature[0]] = threshold
    model = changed(from_lightgbm(booster), "nodes_splits", at(0, np.nextafter(threshold, -np.inf)))
    with pytest.raises(ParityError) as error:
        check_parity(booster, model, rows)
    assert "row 4321 of the given rows" in error.value.found


def test_a_further_engine_is_held_to_the_same_bits(booster: lightgbm.Booster) -> None:
    model = from_lightgbm(booster)

    def right(rows: NDArray[np.float64]) -> NDArray[np.float64]:
        return booster.predict(rows, raw_score=True).reshape(-1, 1)

    assert "kernel" in check_parity(booster, model, NO_ROWS, also={"kernel": right}).engines
    with pytest.raises(ParityError, match="kernel and LightGBM"):
        check_parity(booster, model, NO_ROWS, also={"kernel": lambda rows: np.nextafter(right(rows), np.inf)})


def test_rows_of_another_width_are_refused(booster: lightgbm.Booster) -> None:
    with pytest.raises(InputError, match="do not fit"):
        check_parity(booster, from_lightgbm(booster), np.zeros((3, 4)))


def test_every_threshold_and_its_neighbours_are_among_the_rows(booster: lightgbm.Booster) -> None:
    text = read_lightgbm(booster)
    rows = threshold_rows(text, NO_ROWS)
    for tree in text.trees:
        for split in set(range(len(tree.left))) - set(tree.categories):
            column, threshold = rows[:, tree.split_feature[split]], tree.threshold[split]
            assert {threshold, np.nextafter(threshold, np.inf), np.nextafter(threshold, -np.inf)} <= set(column)

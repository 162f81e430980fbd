"""LightGBM's model text, whole and damaged."""

from __future__ import annotations

from pathlib import Path

import lightgbm
import numpy as np
import pytest

from rayforest.errors import InputError
from rayforest.onnx.lightgbm_text import Missing, parse_lightgbm_text, read_lightgbm


@pytest.fixture(scope="module")
def booster() -> lightgbm.Booster:
    rng = np.random.default_rng(0)
    x = np.stack([rng.normal(size=400), rng.integers(0, 70, 400), rng.normal(size=400) * 1e300], axis=1)
    x[::7, 0] = np.nan
    y = np.nan_to_num(x[:, 0]) + np.sin(x[:, 1]) + np.sign(x[:, 2])
    params = {"objective": "quantile", "verbose": -1, "num_threads": 1, "min_data_per_group": 1, "cat_smooth": 0.1}
    data = lightgbm.Dataset(x, y, categorical_feature=[1], feature_name=["a=b", "a b\u2028c", "ö"])
    return lightgbm.train(params, data, 4)


def test_thresholds_leaves_and_sets_are_those_of_the_dump(booster: lightgbm.Booster) -> None:
    model = parse_lightgbm_text(booster.model_to_string())
    assert (model.objective, model.n_outputs, model.n_features) == ("quantile", 1, 3)
    for tree, dumped in zip(model.trees, booster.dump_model()["tree_info"], strict=True):
        waiting = [dumped["tree_structure"]]
        while waiting:
            node = waiting.pop()
            if "leaf_value" in node:
                assert tree.leaf_value[node.get("leaf_index", 0)] == node["leaf_value"]
                continue
            split = node["split_index"]
            assert tree.split_feature[split] == node["split_feature"]
            if node["decision_type"] == "==":
                assert tree.categories[split].tolist() == sorted(map(int, node["threshold"].split("||")))
            else:
                assert tree.threshold[split] == pytest.approx(node["threshold"], rel=1e-15)
                assert Missing(tree.missing[split]).name.lower() == node["missing_type"].lower()
                assert tree.default_left[split] == node["default_left"]
            waiting += [node["left_child"], node["right_child"]]


def test_names_with_separators_of_other_kinds_survive(booster: lightgbm.Booster) -> None:
    assert parse_lightgbm_text(booster.model_to_string()).feature_names == tuple(booster.feature_name())


def test_line_ends_of_windows_are_read(booster: lightgbm.Booster) -> None:
    text = booster.model_to_string()
    crlf = parse_lightgbm_text(text.replace("\n", "\r\n"))
    assert crlf.feature_names == parse_lightgbm_text(text).feature_names
    np.testing.assert_array_equal(crlf.trees[-1].leaf_value, parse_lightgbm_text(text).trees[-1].leaf_value)


@pytest.mark.parametrize(
    ("whole", "damaged", "found"),
    [
        ("end of trees", "", "ends before"),
        ("max_feature_idx=2", "max_feature_idx=5", "3 feature names for 6 features"),
        ("num_tree_per_iteration=1", "num_tree_per_iteration=3", "4 trees, 3 an iteration"),
        ("num_tree_per_iteration=1", "", "no line num_tree_per_iteration="),
        ("Tree=1\n", "Tree=7\n", "tree 1 is named 7"),
        ("left_child=", "left_child=9 ", "tree 0 has arrays of unequal length"),
        ("threshold=", "threshold=twelve ", "twelve"),
    ],
)
def test_a_damaged_text_says_what_is_wrong(booster: lightgbm.Booster, whole: str, damaged: str, found: str) -> None:
    text = booster.model_to_string()
    assert whole in text
    with pytest.raises(InputError, match="damaged") as error:
        parse_lightgbm_text(text.replace(whole, damaged, 1))
    assert found in error.value.found


def test_a_tree_that_would_never_end_is_refused(booster: lightgbm.Booster) -> None:
    text = booster.model_to_string()
    line = next(line for line in text.split("\n") if line.startswith("left_child="))
    children = [int(c) for c in line.removeprefix("left_child=").split()]
    inner = next(i for i, child in enumerate(children) if child > 0)
    for value, found in ((inner, "not a tree"), (10_000, "not a tree"), (0, "not a tree")):
        changed = "left_child=" + " ".join(map(str, [*children[:inner], value, *children[inner + 1 :]]))
        with pytest.raises(InputError) as error:
            parse_lightgbm_text(text.replace(line, changed, 1))
        assert found in error.value.found


def test_a_model_file_that_is_no_text_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "model.txt").write_bytes(b"tree\n\xff\xfe")
    with pytest.raises(InputError, match=r"model\.txt is damaged"):
        read_lightgbm(tmp_path / "model.txt")

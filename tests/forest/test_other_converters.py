"""Tree operators as other converters write them, against onnxruntime: equal in every bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from random_ensembles import random_ensemble
from skl2onnx import to_onnx
from sklearn.ensemble import (
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    RandomForestClassifier,
    RandomForestRegressor,
)

from rayforest.errors import ConfigError, InputError
from rayforest.forest import Forest
from rayforest.onnx import from_lightgbm, runtime_session


def bits(scores: NDArray[Any]) -> NDArray[Any]:
    return np.ascontiguousarray(scores).view(f"u{scores.itemsize}")


def scores_of(model: onnx.ModelProto, rows: NDArray[Any]) -> NDArray[Any]:
    """The last output of onnxruntime: the scores; of one score for two classes, that of the second."""
    session = runtime_session(model.SerializeToString())
    found = session.run(None, {session.get_inputs()[0].name: rows})[-1]
    return np.asarray(found).reshape(len(rows), -1)


@pytest.mark.parametrize("seed", range(400))
def test_a_random_ensemble_scores_the_same_bits(seed: int) -> None:
    made = random_ensemble(seed)
    forest = Forest.from_onnx(made.model)
    ours, reference = forest.raw_score(made.rows), scores_of(made.model, made.rows)
    if ours.shape[1] == 1 and reference.shape[1] == 2:
        reference = reference[:, 1:]
    assert ours.dtype == np.float32
    assert np.array_equal(bits(ours), bits(reference)), made.words
    row_by_row = np.concatenate([forest.raw_score(made.rows[i : i + 1]) for i in range(50)])
    assert np.array_equal(bits(row_by_row), bits(reference[:50])), made.words


@pytest.mark.parametrize("seed", range(100))
def test_leaves_without_a_weight_for_every_target_are_right_or_refused(seed: int) -> None:
    made = random_ensemble(seed, full_leaves=False)
    try:
        forest = Forest.from_onnx(made.model)
    except ConfigError as error:
        refused = error.found
    else:
        refused = ""
    if refused:
        assert "no tree may add" in refused
        return
    ours, reference = forest.raw_score(made.rows), scores_of(made.model, made.rows)
    assert np.array_equal(bits(ours), bits(reference[:, -ours.shape[1] :])), made.words


@pytest.mark.parametrize(
    "estimator",
    [
        RandomForestRegressor(20, random_state=0, n_jobs=1),
        ExtraTreesRegressor(10, random_state=0, n_jobs=1),
        RandomForestClassifier(20, random_state=0, n_jobs=1),
    ],
    ids=lambda estimator: type(estimator).__name__,
)
def test_scikit_learns_forests_score_the_same_bits(estimator: Any) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3_000, 6)).astype(np.float32)
    y = np.digitize(x[:, 0] + x[:, 1] * x[:, 2], [-1, 0, 1]).astype(np.int64)
    estimator.fit(x, y)
    options = {id(estimator): {"zipmap": False}} if hasattr(estimator, "classes_") else None
    model = to_onnx(estimator, x[:1], options=options)
    assert np.array_equal(bits(Forest.from_onnx(model).raw_score(x)), bits(scores_of(model, x)))


def test_a_boosted_classifier_of_two_classes_has_one_score_before_its_link() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2_000, 4)).astype(np.float32)
    estimator = GradientBoostingClassifier(n_estimators=30, random_state=0).fit(x, x[:, 0] + x[:, 1] > 0)
    model = to_onnx(estimator, x[:1], options={id(estimator): {"zipmap": False}})
    forest = Forest.from_onnx(model)
    assert (forest.n_outputs, forest.post_transform) == (1, "LOGISTIC")
    probability = scores_of(model, x)[:, 1]
    assert np.allclose(1 / (1 + np.exp(-forest.raw_score(x)[:, 0])), probability, rtol=0, atol=2e-7)  # float32


def five(**changed: Any) -> onnx.ModelProto:
    """A TreeEnsemble of version 5: two trees, x0 <= 1 and x1 in {2, 3}."""
    attributes: dict[str, Any] = {
        "tree_roots": [0, 1],
        "nodes_featureids": [0, 1],
        "nodes_modes": numpy_helper.from_array(np.array([0, 6], dtype=np.uint8)),
        "nodes_splits": numpy_helper.from_array(np.array([1.0, 0.0])),
        "membership_values": numpy_helper.from_array(np.array([2.0, 3.0, np.nan])),
        "nodes_truenodeids": [0, 2],
        "nodes_falsenodeids": [1, 3],
        "nodes_trueleafs": [1, 1],
        "nodes_falseleafs": [1, 1],
        "leaf_targetids": [0, 0, 1, 1],
        "leaf_weights": numpy_helper.from_array(np.array([0.1, 0.2, 0.3, 0.4])),
        "n_targets": 2,
        "aggregate_function": 1,
        "post_transform": 0,
    }
    node = helper.make_node("TreeEnsemble", ["x"], ["y"], domain="ai.onnx.ml", **(attributes | changed))
    x = helper.make_tensor_value_info("x", TensorProto.DOUBLE, [None, 2])
    y = helper.make_tensor_value_info("y", TensorProto.DOUBLE, [None, 2])
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("ai.onnx.ml", 5)]
    return helper.make_model(helper.make_graph([node], "trees", [x], [y]), opset_imports=opsets, ir_version=10)


@pytest.mark.parametrize("depth", [500, 3_000])
def test_a_chain_as_deep_as_the_tree_has_leaves(depth: int) -> None:
    node = np.arange(depth)
    last = (node == depth - 1).astype(int)
    model = five(
        tree_roots=[0],
        nodes_featureids=[0] * depth,
        nodes_modes=numpy_helper.from_array(np.zeros(depth, dtype=np.uint8)),
        nodes_splits=numpy_helper.from_array(depth - node.astype(np.float64)),
        membership_values=numpy_helper.from_array(np.empty(0)),
        nodes_truenodeids=np.where(last, depth, node + 1),
        nodes_falsenodeids=node,
        nodes_trueleafs=last,
        nodes_falseleafs=[1] * depth,
        leaf_targetids=[0] * (depth + 1),
        leaf_weights=numpy_helper.from_array(np.random.default_rng(0).normal(size=depth + 1)),
    )
    rows = np.stack([np.arange(-1, depth + 2, 0.5)] * 2, axis=1)
    assert np.array_equal(Forest.from_onnx(model).raw_score(rows), scores_of(model, rows))


def test_a_set_of_values_on_a_feature_itself() -> None:
    values = [-1.0, 1.0, np.nextafter(2.0, 0), 2.0, np.nextafter(2.0, 3), 2.5, 3.0, 4.0, np.inf, -np.inf]
    rows = np.array([[a, b] for a in values for b in values])
    assert np.array_equal(Forest.from_onnx(five()).raw_score(rows), scores_of(five(), rows))


def test_leaves_are_numbered_in_each_tree() -> None:
    assert Forest.from_onnx(five()).leaf_index(np.array([[0.0, 2.0], [9.0, 9.0]])).tolist() == [[0, 0], [1, 1]]


@pytest.mark.parametrize(
    ("changed", "found"),
    [
        ({"nodes_truenodeids": [1, 2], "nodes_trueleafs": [0, 1]}, "hangs on two"),
        ({"nodes_truenodeids": [7, 2]}, "leaf 7"),
        ({"nodes_featureids": [0, 5]}, "column 5"),
        ({"leaf_targetids": [0, 0, 1]}, "one of 3"),
    ],
)
def test_damaged_trees_are_refused_with_what_is_wrong(changed: dict[str, Any], found: str) -> None:
    with pytest.raises(ConfigError) as refused:
        Forest.from_onnx(five(**changed))
    assert found in refused.value.found


def test_a_model_without_trees_and_one_with_a_scaler_are_refused_by_name() -> None:
    model = five()
    scaler = helper.make_node("Mul", ["x", "x"], ["scaled"])
    model.graph.node[0].input[0] = "scaled"
    model.graph.node.insert(0, scaler)
    with pytest.raises(ConfigError, match="Mul"):
        Forest.from_onnx(model)
    del model.graph.node[1]
    with pytest.raises(ConfigError, match="0 of them"):
        Forest.from_onnx(model)


def test_what_is_no_model_is_refused() -> None:
    with pytest.raises(InputError, match="not ONNX"):
        Forest.from_onnx(b"no model at all")
    with pytest.raises(InputError, match="cannot be read"):
        Forest.from_onnx("no/such/model.onnx")


def test_bytes_and_paths_are_read_like_the_model(tmp_path: Any) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(five().SerializeToString())
    rows = np.array([[0.0, 2.0]])
    assert (
        Forest.from_onnx(path).raw_score(rows).tolist() == Forest.from_onnx(path.read_bytes()).raw_score(rows).tolist()
    )


def test_a_pipeline_that_rounds_to_float32_first_is_rounded_here_too() -> None:
    import lightgbm

    rng = np.random.default_rng(0)
    x = rng.normal(size=(2_000, 3))
    booster = lightgbm.train({"verbose": -1, "num_threads": 1}, lightgbm.Dataset(x, x[:, 0]), 10)
    model = from_lightgbm(booster)
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT
    model.graph.input[0].name = "narrow"
    model.graph.node.insert(0, helper.make_node("Cast", ["narrow"], ["features"], to=TensorProto.DOUBLE))
    cuts = Forest.from_onnx(model).packed.bins.cut
    rows = np.repeat(cuts[np.isfinite(cuts)][:, None], 3, axis=1)
    reference = runtime_session(model.SerializeToString()).run(["raw_score"], {"narrow": rows.astype(np.float32)})[0]
    assert np.array_equal(Forest.from_onnx(model).raw_score(rows), reference)

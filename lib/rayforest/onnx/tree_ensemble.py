"""LightGBM -> ONNX, bit for bit.

TreeEnsemble of ai.onnx.ml 5 holds thresholds and leaves as doubles and, on one thread, adds the leaves in the order
of the trees, as LightGBM does; so the sums are equal in every bit. What LightGBM does before the trees is in
`tree_input`, leaf models are in `linear_leaves`, what follows the sum is in `objective`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import AttributeProto, helper, numpy_helper

from rayforest.errors import ConfigError
from rayforest.onnx.graph import ML_DOMAIN, Graph, double_matrix, double_vector
from rayforest.onnx.labels import append_label, check_labels
from rayforest.onnx.lightgbm_text import (
    Floats,
    Ints,
    LightGBMModel,
    LightGBMSource,
    LinearLeaves,
    Missing,
    Tree,
    read_lightgbm,
)
from rayforest.onnx.linear_leaves import append_linear_sum
from rayforest.onnx.objective import append_prediction
from rayforest.onnx.tree_input import Splits, append_tree_input

_LEQ, _MEMBER = 0, 6  # nodes_modes of TreeEnsemble
_SUM, _NO_TRANSFORM = 1, 0  # aggregate_function and post_transform
MAX_DEPTH = 5_000
"""onnxruntime loads a tree level by level on its stack, and dies of one between 10,000 and 20,000 levels deep."""


@dataclass(frozen=True)
class OutputNames:
    """Names of a graph's outputs."""

    raw_score: str
    """double [rows, n_outputs]"""
    prediction: str
    """double [rows] for one output, else [rows, n_outputs]"""


def from_lightgbm(
    booster: LightGBMSource, *, num_iteration: int | None = None, labels: Sequence[str | float] | None = None
) -> onnx.ModelProto:
    """Convert any LightGBM model to an ONNX model that scores the same bits.

    Input `features`: double [rows, n_features], the columns in the order of training, categories as LightGBM's codes,
    NaN for missing. Outputs: `raw_score`, double [rows, n_outputs], equal in every bit to `predict(raw_score=True)`;
    and `prediction`, double, in the shape of `Booster.predict`, within 1e-15 relative of it. With `labels`, what
    `Booster.predict` gives is called `probability`, double [rows, n_outputs], and `prediction` is the label, [rows]: of
    two labels the second where its probability is above 0.5, of several the likeliest. Holds for onnxruntime with one
    thread an operator (`rayforest.onnx.runtime_session`): with more, it adds the trees in another order.
    Leaf models of `linear_tree` are exact where LightGBM's compiler did not fuse multiply and add, as in its x86-64
    builds.

    Args:
        booster: a `lightgbm.Booster`, a fitted LGBM estimator, or the path of a model file.
        num_iteration: as in `Booster.predict`: None is the best iteration if there is one, else all.
        labels: of a classifier, in the order of its classes: texts, booleans or numbers. A model's text does not have
            them.

    Raises:
        ConfigError: not a fitted LightGBM model, or one whose predictions cannot be exact; says why. Or labels that are
            not one a class.
        InputError: the model file is missing or damaged.
    """
    model = read_lightgbm(booster, num_iteration=num_iteration)
    graph = Graph()
    if labels is None:
        append_trees(graph, model, "features", names=OutputNames("raw_score", "prediction"))
        single = model.n_outputs == 1
        outputs = [double_vector("prediction") if single else double_matrix("prediction", model.n_outputs)]
    else:
        check_labels(labels, model.n_outputs)
        raw_score = append_raw_score(graph, model, "features")
        probability = append_prediction(graph, model, raw_score)
        graph.add("Identity", raw_score, output="raw_score")
        graph.add("Identity", probability, output="probability")
        outputs = [
            double_matrix("probability", model.n_outputs),
            append_label(graph, "probability", labels, output="prediction"),
        ]
    return graph.model(
        "lightgbm",
        inputs=[double_matrix("features", model.n_features)],
        outputs=[double_matrix("raw_score", model.n_outputs), *outputs],
        doc="A LightGBM model; raw_score equals predict(raw_score=True) in every bit.",
        metadata=metadata(model),
    )


def metadata(model: LightGBMModel) -> dict[str, str]:
    """Facts of the model as properties that standard tools show."""
    return {
        "objective": model.objective,
        "n_outputs": str(model.n_outputs),
        "n_trees": str(len(model.trees)),
        "n_iterations": str(model.n_iterations),
        "feature_names": json.dumps(model.feature_names),
    }


def append_trees(graph: Graph, model: LightGBMModel, features: str, *, names: OutputNames | None = None) -> OutputNames:
    """Append a whole model to a graph that computes `features`, double [rows, n_features], and return its outputs'
    names.

    `names` fixes the outputs' names; without it they are made up.
    """
    raw_score = append_raw_score(graph, model, features)
    prediction = append_prediction(graph, model, raw_score)
    if model.n_outputs == 1:
        prediction = graph.add("Squeeze", prediction, graph.constant(np.array([1], dtype=np.int64)))
    if names is None:
        return OutputNames(raw_score, prediction)
    return OutputNames(
        graph.add("Identity", raw_score, output=names.raw_score),
        graph.add("Identity", prediction, output=names.prediction),
    )


def append_raw_score(graph: Graph, model: LightGBMModel, features: str) -> str:
    """Append the trees; return the name of the raw score, double [rows, n_outputs]."""
    for number, tree in enumerate(model.trees):
        if len(tree.left) >= MAX_DEPTH:
            _check_depth(tree, number)
    model = replace(model, trees=tuple(_with_split(tree) for tree in model.trees))
    tree_input, splits = append_tree_input(graph, model, features)
    if any(tree.linear for tree in model.trees):
        # Each tree names the leaf that a row falls into; the leaf's model is computed behind the trees.
        leaves = np.arange(sum(len(tree.leaf_value) for tree in model.trees), dtype=np.float64)
        ensemble = _ensemble(model, splits, leaves, targets=np.arange(len(model.trees)))
        leaf = graph.add("TreeEnsemble", tree_input, domain=ML_DOMAIN, **ensemble)
        return append_linear_sum(graph, model, features, leaf)
    values = np.concatenate([tree.leaf_value for tree in model.trees])
    ensemble = _ensemble(model, splits, values, targets=np.arange(len(model.trees)) % model.n_outputs)
    return graph.add("TreeEnsemble", tree_input, domain=ML_DOMAIN, **ensemble)


def _check_depth(tree: Tree, number: int) -> None:
    deepest = int(tree.levels().max()) + 1
    if deepest > MAX_DEPTH:
        raise ConfigError(
            f"tree {number} is too deep for onnxruntime, which would crash on it",
            expected=f"at most {MAX_DEPTH} levels",
            found=str(deepest),
            next_step="train with max_depth",
        )


def _with_split(tree: Tree) -> Tree:
    """TreeEnsemble has no tree without a split, so a constant gets one at which every value goes left.

    The operator's document asks for a split with one leaf on both sides, for which onnxruntime has code of its own; in
    version 1.32 it added another tree's leaf there, after it had merged splits. With two leaves it is a tree like
    others.
    """
    if len(tree.left):
        return tree
    linear = tree.linear
    if linear:
        linear = LinearLeaves(np.repeat(linear.constant, 2), linear.features * 2, linear.coefficients * 2)
    return Tree(
        split_feature=np.zeros(1, dtype=np.int64),
        threshold=np.array([np.inf]),
        missing=np.array([Missing.NAN]),
        default_left=np.ones(1, dtype=bool),
        left=np.array([~0]),
        right=np.array([~1]),
        leaf_value=np.repeat(tree.leaf_value, 2),
        linear=linear,
    )


def _ensemble(
    model: LightGBMModel, splits: Splits, leaf_weights: Floats, *, targets: Ints
) -> dict[str, AttributeProto]:
    """Attributes of a TreeEnsemble that gives double [rows, max(targets) + 1]; `targets` has one for each tree."""
    n_splits = [len(tree.left) for tree in model.trees]
    n_leaves = [len(tree.leaf_value) for tree in model.trees]
    first_split = np.cumsum([0, *n_splits[:-1]])
    first_leaf = np.cumsum([0, *n_leaves[:-1]])
    split_offset, leaf_offset = np.repeat(first_split, n_splits), np.repeat(first_leaf, n_splits)
    modes = np.full(len(splits.column), _LEQ, dtype=np.uint8)
    modes[list(splits.members)] = _MEMBER
    attributes = {
        "tree_roots": _ints("tree_roots", first_split),
        "nodes_featureids": _ints("nodes_featureids", splits.column),
        "nodes_modes": _tensor("nodes_modes", modes),
        "nodes_splits": _tensor("nodes_splits", splits.threshold),
        "nodes_missing_value_tracks_true": _ints("nodes_missing_value_tracks_true", splits.missing_is_true),
        "leaf_targetids": _ints("leaf_targetids", np.repeat(targets, n_leaves)),
        "leaf_weights": _tensor("leaf_weights", leaf_weights),
        "n_targets": helper.make_attribute("n_targets", int(targets.max()) + 1),
        "aggregate_function": helper.make_attribute("aggregate_function", _SUM),
        "post_transform": helper.make_attribute("post_transform", _NO_TRANSFORM),
    }
    for side, child in (
        ("true", np.concatenate([tree.left for tree in model.trees])),
        ("false", np.concatenate([tree.right for tree in model.trees])),
    ):
        is_leaf = child < 0
        where = np.where(is_leaf, ~child + leaf_offset, child + split_offset)
        attributes[f"nodes_{side}nodeids"] = _ints(f"nodes_{side}nodeids", where)
        attributes[f"nodes_{side}leafs"] = _ints(f"nodes_{side}leafs", is_leaf)
    if splits.members:
        values = np.concatenate(
            [[*splits.members[split], np.nan] for split in sorted(splits.members)]
        )  # NaN ends a set
        attributes["membership_values"] = _tensor("membership_values", values)
    return attributes


def _ints(name: str, values: NDArray[Any]) -> AttributeProto:
    return AttributeProto(name=name, type=AttributeProto.INTS, ints=values.astype(np.int64).tolist())


def _tensor(name: str, values: NDArray[Any]) -> AttributeProto:
    return AttributeProto(name=name, type=AttributeProto.TENSOR, t=numpy_helper.from_array(values, name))

"""Leaf models of `linear_tree` behind the trees.

LightGBM computes constant + c1 * x1 + c2 * x2 ... from left to right, or takes the plain leaf value where one of the
leaf's features is NaN, and adds the trees in order. The same operations in the same order give the same bits: each
leaf's terms lie in slots, a slot is one multiplication and one addition for all trees at once, and CumSum adds the
trees one by one.
"""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from rayforest.onnx.graph import Graph
from rayforest.onnx.lightgbm_text import Floats, Ints, LightGBMModel
from rayforest.onnx.tree_input import ZERO


def append_linear_sum(graph: Graph, model: LightGBMModel, features: str, leaf: str) -> str:
    """Append the leaf models and their sum.

    `features` is double [rows, n_features]; `leaf`, double [rows, trees], the leaf of each tree, counted over all
    trees. Returns the name of the raw score, double [rows, n_outputs].
    """
    constant, feature, coefficient = _slots(model)
    leaf_value = np.concatenate([tree.leaf_value for tree in model.trees])
    leaf = graph.add("Cast", leaf, to=TensorProto.INT64)
    x = _append_padded(graph, features)
    output = graph.add("Gather", graph.constant(constant), leaf)
    any_missing = ""
    for f, c in zip(feature.T, coefficient.T, strict=True):
        own = graph.add("GatherElements", x, graph.add("Gather", graph.constant(f), leaf), axis=1)
        term = graph.add("Mul", graph.add("Gather", graph.constant(c), leaf), own)
        output = graph.add("Add", output, term)
        missing = graph.add("IsNaN", own)
        any_missing = graph.add("Or", any_missing, missing) if any_missing else missing
    if any_missing:
        output = graph.add("Where", any_missing, graph.add("Gather", graph.constant(leaf_value), leaf), output)
    shape = graph.constant(np.array([0, model.n_iterations, model.n_outputs], dtype=np.int64))
    by_iteration = graph.add("Reshape", output, shape)
    running = graph.add("CumSum", by_iteration, graph.constant(np.int64(1)))
    total = graph.add("Gather", running, graph.constant(np.int64(-1)), axis=1)
    return graph.add("Add", total, graph.constant(0.0))  # LightGBM's sum begins at +0, so it is never -0


def _slots(model: LightGBMModel) -> tuple[Floats, Ints, Floats]:
    """Constant [leaves], feature and coefficient [leaves, slots]; a free slot adds 1 * -0.0, which changes no bit."""
    leaves = sum(len(tree.leaf_value) for tree in model.trees)
    widths = [len(f) for tree in model.trees if tree.linear for f in tree.linear.features]
    constant = np.concatenate([t.linear.constant if t.linear else t.leaf_value for t in model.trees])
    feature = np.full((leaves, max(widths)), model.n_features, dtype=np.int64)
    coefficient = np.ones(feature.shape)
    at = 0
    for tree in model.trees:
        for i in range(len(tree.leaf_value)):
            if tree.linear:
                n = len(tree.linear.features[i])
                feature[at, :n] = tree.linear.features[i]
                coefficient[at, :n] = tree.linear.coefficients[i]
            at += 1
    return constant, feature, coefficient


def _append_padded(graph: Graph, features: str) -> str:
    """The features as LightGBM reads them, |x| <= ZERO as 0, and a last column of -0.0."""
    tiny = graph.add("LessOrEqual", graph.add("Abs", features), graph.constant(ZERO))
    x = graph.add("Where", tiny, graph.constant(0.0), features)
    one_column = graph.constant(np.array([0, 0, 0, 1], dtype=np.int64))
    return graph.add("Pad", x, one_column, graph.constant(-0.0))

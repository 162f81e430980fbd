"""Where an ONNX model leaves LightGBM's path: the tree and the feature, for a row that scores differently.

Walks the TreeEnsemble of the ONNX model in Python, for one row, beside the path that LightGBM took.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from rayforest.onnx.lightgbm_text import Floats, Ints, LightGBMModel, Tree
from rayforest.onnx.runtime import runtime_session

_COMPARE = (np.less_equal, np.less, np.greater_equal, np.greater, np.equal, np.not_equal)  # by nodes_modes
_MEMBER = 6


def find_divergence(model: LightGBMModel, converted: onnx.ModelProto, row: Floats, leaves: Ints) -> str:
    """Name the first tree in which the ONNX model takes another path or holds another leaf value.

    Args:
        model: LightGBM's model.
        converted: the ONNX model with the input `features`.
        row: double [n_features], a row whose raw score differs.
        leaves: [trees] LightGBM's leaf of each tree for this row (`pred_leaf`).
    """
    nodes = [node for node in converted.graph.node if node.op_type == "TreeEnsemble"]
    if len(nodes) != 1:
        return "tree and feature unknown, since the ONNX model has no single TreeEnsemble of ai.onnx.ml 5"
    ensemble = _EnsembleNode.of(nodes[0])
    if len(ensemble.roots) != len(model.trees):
        return f"the ONNX model has {len(ensemble.roots)} trees, LightGBM uses {len(model.trees)}"
    values = _tree_input(converted, nodes[0].input[0], row)
    linear = any(tree.linear for tree in model.trees)
    first_leaf = 0
    for i, (tree, leaf) in enumerate(zip(model.trees, leaves.astype(int), strict=True)):
        turns, weight = ensemble.walk(i, values)
        expected = float(first_leaf + leaf) if linear else float(tree.leaf_value[leaf])
        if not (weight == expected or (np.isnan(weight) and np.isnan(expected))):
            return f"tree {i}, {_first_divergent_split(model, tree, leaf, turns)}"
        first_leaf += max(len(tree.leaf_value), 2)  # a constant has two leaves there
    return "every tree agrees, so the trees' leaf models or the order of the sum differ"


def _first_divergent_split(model: LightGBMModel, tree: Tree, leaf: int, turns: list[bool]) -> str:
    path = _path_to(tree, ~leaf)
    for (split, goes_left), turn in zip(path, turns, strict=False):
        if goes_left != turn:
            feature = int(tree.split_feature[split])
            return f"feature {model.feature_names[feature]!r} (column {feature}), split {split}"
    return f"no feature: the path agrees and the value of leaf {leaf} does not"


def _path_to(tree: Tree, child: int) -> list[tuple[int, bool]]:
    """The splits from the root to this child, each with whether it is left there."""
    path: list[tuple[int, bool]] = []
    while child != 0 and len(tree.left):
        is_left = bool((tree.left == child).any())
        child = int(np.flatnonzero((tree.left if is_left else tree.right) == child)[0])
        path.append((child, is_left))
    return path[::-1]


def _tree_input(converted: onnx.ModelProto, name: str, row: Floats) -> Floats:
    """The row as the trees see it, double [columns]."""
    if name == "features":
        return row
    opened = onnx.ModelProto()
    opened.CopyFrom(converted)
    opened.graph.output.append(helper.make_tensor_value_info(name, onnx.TensorProto.DOUBLE, None))
    session = runtime_session(opened.SerializeToString())
    return np.asarray(session.run([name], {"features": row[None]})[0][0], dtype=np.float64)


@dataclass(frozen=True, eq=False)
class _EnsembleNode:
    """Attributes of a TreeEnsemble, as its document names them."""

    roots: list[int]
    attributes: dict[str, Any]
    members: dict[int, set[float]]

    @classmethod
    def of(cls, node: onnx.NodeProto) -> _EnsembleNode:
        attributes: dict[str, Any] = {}
        for attribute in node.attribute:
            value = helper.get_attribute_value(attribute)
            attributes[attribute.name] = numpy_helper.to_array(value) if attribute.HasField("t") else value
        sets: list[set[float]] = [set()]
        for value in attributes.get("membership_values", ()):
            if np.isnan(value):
                sets.append(set())
            else:
                sets[-1].add(float(value))
        tests = np.flatnonzero(attributes["nodes_modes"] == _MEMBER).tolist()
        return cls(attributes["tree_roots"], attributes, dict(zip(tests, sets, strict=False)))

    def walk(self, tree: int, values: Floats) -> tuple[list[bool], float]:
        """Each turn, True for the true branch, and the weight of the leaf at the end."""
        a = self.attributes
        node, turns = self.roots[tree], list[bool]()
        while True:
            turns.append(self._test(node, float(values[a["nodes_featureids"][node]])))
            side = "true" if turns[-1] else "false"
            is_leaf, node = a[f"nodes_{side}leafs"][node], a[f"nodes_{side}nodeids"][node]
            if is_leaf:
                return turns, float(a["leaf_weights"][node])

    def _test(self, node: int, value: float) -> bool:
        a = self.attributes
        if np.isnan(value):
            return bool(a.get("nodes_missing_value_tracks_true", {node: 0})[node])
        if node in self.members:
            return value in self.members[node]
        return bool(_COMPARE[a["nodes_modes"][node]](value, a["nodes_splits"][node]))

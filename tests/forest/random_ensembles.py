"""Random ensembles in the operators that other converters write: every mode of test, aggregate and kind of weight."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

MODES = ("BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ")
AGGREGATES = ("SUM", "SUM", "AVERAGE", "MIN", "MAX")


@dataclass(frozen=True, eq=False)
class Ensemble:
    """A model with one tree operator, and rows to score."""

    model: onnx.ModelProto
    rows: NDArray[Any]
    words: str
    """For a failure's message."""


def random_ensemble(seed: int, *, full_leaves: bool = True) -> Ensemble:
    """A regressor for even seeds, a classifier for odd ones; in double for each third.

    Args:
        seed: gives the same ensemble again.
        full_leaves: every leaf has a weight for every target; otherwise some targets may get none.
    """
    rng = np.random.default_rng(seed)
    kind, double = ("regressor", "classifier")[seed % 2], seed // 2 % 3 == 0
    n_features, n_targets = int(rng.integers(1, 8)), int(rng.integers(1, 5))
    values = np.concatenate([rng.normal(size=12), [0.0, -0.0, 1.0, 2.0, 3.0]]).astype(np.float32)
    attributes = _nodes(rng, n_features, values, double=double)
    one_class = kind == "classifier" and n_targets == 2 and rng.random() < 0.5
    attributes |= _weights(rng, kind, attributes, n_targets, full=full_leaves, one_class=one_class, double=double)
    aggregate = AGGREGATES[rng.integers(len(AGGREGATES))]
    if kind == "regressor":
        attributes |= {"n_targets": n_targets, "aggregate_function": aggregate}
    else:
        attributes["classlabels_int64s"] = list(range(n_targets))
    n_base = n_targets if kind == "regressor" or n_targets > 2 else 1
    if rng.random() < 0.5 and not (kind == "classifier" and n_targets == 2 and not one_class):
        base = rng.normal(size=n_base)
        key, value = (
            ("base_values_as_tensor", numpy_helper.from_array(base, "base")) if double else ("base_values", base)
        )
        attributes[key] = value
    rows = rng.choice(np.concatenate([values, [np.nan, np.inf, -np.inf]]), size=(300, n_features))
    rows = np.where(rng.random(rows.shape) < 0.5, rows, rng.normal(size=rows.shape))
    return Ensemble(
        _model(kind, n_features, attributes, double=double),
        rows.astype(np.float64 if double else np.float32),
        f"seed {seed}: {kind}, {'double' if double else 'float'}, {n_targets} targets, {aggregate}",
    )


def _nodes(rng: np.random.Generator, n_features: int, values: NDArray[Any], *, double: bool) -> dict[str, Any]:
    modes = MODES if rng.random() < 0.5 else (MODES[rng.integers(len(MODES))],)
    names = ("treeids", "nodeids", "featureids", "modes", "values", "truenodeids", "falsenodeids")
    columns: dict[str, list[Any]] = {name: [] for name in names}
    for tree in range(rng.integers(1, 12)):
        first = len(columns["modes"])
        _grow(rng, columns, int(rng.integers(1, 6)), modes, n_features, values)
        grown = len(columns["modes"]) - first
        columns["treeids"] += [tree] * grown
        columns["nodeids"] += range(grown)
        for side in ("truenodeids", "falsenodeids"):
            columns[side][first:] = [max(child - first, 0) for child in columns[side][first:]]
    attributes: dict[str, Any] = {f"nodes_{name}": column for name, column in columns.items()}
    if rng.random() < 0.5:
        attributes["nodes_missing_value_tracks_true"] = rng.integers(0, 2, len(columns["modes"]))
    if double:
        splits = np.array(attributes.pop("nodes_values"), dtype=np.float64) + 1e-12
        attributes["nodes_values_as_tensor"] = numpy_helper.from_array(splits, "splits")
    return attributes


def _grow(
    rng: np.random.Generator,
    columns: dict[str, list[Any]],
    depth: int,
    modes: tuple[str, ...],
    n_features: int,
    values: NDArray[Any],
) -> int:
    node = len(columns["modes"])
    leaf = depth == 0 or (node > 0 and rng.random() < 0.15)
    columns["modes"].append("LEAF" if leaf else modes[rng.integers(len(modes))])
    columns["featureids"].append(0 if leaf else int(rng.integers(n_features)))
    columns["values"].append(0.0 if leaf else float(rng.choice(values)))
    columns["truenodeids"].append(0)
    columns["falsenodeids"].append(0)
    if not leaf:
        columns["truenodeids"][node] = _grow(rng, columns, depth - 1, modes, n_features, values)
        columns["falsenodeids"][node] = _grow(rng, columns, depth - 1, modes, n_features, values)
    return node


def _weights(
    rng: np.random.Generator,
    kind: str,
    nodes: dict[str, Any],
    n_targets: int,
    *,
    full: bool,
    one_class: bool,
    double: bool,
) -> dict[str, Any]:
    trees, ids, targets = [], [], []
    for tree, node, mode in zip(nodes["nodes_treeids"], nodes["nodes_nodeids"], nodes["nodes_modes"], strict=True):
        if mode != "LEAF":
            continue
        own = np.arange(1 if one_class else n_targets)
        if not full and not one_class:
            own = rng.choice(n_targets, size=int(rng.integers(1, n_targets + 1)), replace=False)
        trees += [tree] * len(own)
        ids += [node] * len(own)
        targets += own.tolist()
    prefix = {"regressor": "target", "classifier": "class"}[kind]
    weights = rng.normal(size=len(targets))
    values = {f"{prefix}_weights_as_tensor": numpy_helper.from_array(weights, "weights")} if double else {}
    values = values or {f"{prefix}_weights": weights}
    return {f"{prefix}_treeids": trees, f"{prefix}_nodeids": ids, f"{prefix}_ids": targets, **values}


def _model(kind: str, n_features: int, attributes: dict[str, Any], *, double: bool) -> onnx.ModelProto:
    scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, None)
    label = helper.make_tensor_value_info("label", TensorProto.INT64, None)
    outputs = [scores] if kind == "regressor" else [label, scores]
    node = helper.make_node(
        f"TreeEnsemble{kind.capitalize()}", ["x"], [o.name for o in outputs], domain="ai.onnx.ml", **attributes
    )
    x = helper.make_tensor_value_info("x", TensorProto.DOUBLE if double else TensorProto.FLOAT, [None, n_features])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(helper.make_graph([node], "trees", [x], outputs), opset_imports=opsets, ir_version=8)

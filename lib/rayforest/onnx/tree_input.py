"""From the rows of features to the matrix on which the trees split.

A split of TreeEnsemble compares one column with one threshold, and NaN goes where the split says. LightGBM asks for
more: zeros that count as missing, and categories. Both become columns in front of the trees: features as they are,
features whose zeros are NaN, and classes of categories (see `categories`), as far as a model uses them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from onnx import TensorProto

from rayforest.onnx.categories import ClassTable, pack_sets
from rayforest.onnx.graph import Graph
from rayforest.onnx.lightgbm_text import Bools, Floats, Ints, LightGBMModel, Missing

ZERO = float(np.float32(1e-35))
"""LightGBM's kZeroThreshold: |x| up to this is 0, for prediction as for training."""


@dataclass(frozen=True, eq=False)
class Splits:
    """Every split of every tree, one tree after the other, as TreeEnsemble takes it."""

    column: Ints
    """[splits] column of the tree input."""
    threshold: Floats
    """[splits] x <= threshold is true; 0 at a categorical split."""
    missing_is_true: Bools
    """[splits] where NaN goes."""
    members: dict[int, Ints]
    """Categorical splits only: the classes that are true, ascending."""


@dataclass(frozen=True, eq=False)
class _Flat:
    """The splits of all trees end to end, as LightGBM says them."""

    feature: Ints
    threshold: Floats
    missing: Ints
    default_left: Bools
    categories: dict[int, Ints]

    @classmethod
    def of(cls, model: LightGBMModel) -> _Flat:
        categories: dict[int, Ints] = {}
        start = 0
        for tree in model.trees:
            categories.update((start + split, codes) for split, codes in tree.categories.items())
            start += len(tree.split_feature)
        return cls(
            feature=np.concatenate([t.split_feature for t in model.trees]),
            threshold=np.concatenate([t.threshold for t in model.trees]),
            missing=np.concatenate([t.missing for t in model.trees]),
            default_left=np.concatenate([t.default_left for t in model.trees]),
            categories=categories,
        )


def append_tree_input(graph: Graph, model: LightGBMModel, features: str) -> tuple[str, Splits]:
    """Append what turns `features`, double [rows, n_features], into the tree input; return its name and the splits."""
    flat = _Flat.of(model)
    categorical = np.zeros(len(flat.feature), dtype=bool)
    categorical[list(flat.categories)] = True
    zero_is_missing = ~categorical & (flat.missing == Missing.ZERO)
    column = flat.feature.copy()
    parts: list[str] = []
    width = 0

    if (~categorical & ~zero_is_missing).any():
        parts.append(features)
        width = model.n_features
    if zero_is_missing.any():
        used, position = np.unique(flat.feature[zero_is_missing], return_inverse=True)
        parts.append(_append_zero_as_nan(graph, features, used, model.n_features))
        column[zero_is_missing] = width + position
        width += len(used)
    members: dict[int, Ints] = {}
    if flat.categories:
        tables = _pack(flat)
        parts.append(_append_classes(graph, features, tables))
        for splits, table in tables.values():
            column[splits] = width + table.group
            width += table.classes.shape[1]
            members.update(zip(splits.tolist(), table.members, strict=True))

    threshold, missing_is_true = _numerical_tests(flat)
    threshold[categorical] = 0.0
    missing_is_true[categorical] = False  # a class is never NaN
    tree_input = parts[0] if len(parts) == 1 else graph.add("Concat", *parts, axis=1)
    return tree_input, Splits(column, threshold, missing_is_true, members)


def _numerical_tests(flat: _Flat) -> tuple[Floats, Bools]:
    """Thresholds and sides of NaN that decide as LightGBM does on values it has not rounded to 0.

    LightGBM takes |x| <= ZERO for 0 before it compares. For a threshold outside [-ZERO, ZERO) that changes nothing;
    inside, all of [-ZERO, ZERO] goes where 0 goes, so the threshold moves to the end of that interval.
    """
    threshold = flat.threshold.copy()
    threshold[(threshold >= 0) & (threshold < ZERO)] = ZERO
    threshold[(threshold >= -ZERO) & (threshold < 0)] = np.nextafter(-ZERO, -np.inf)
    return threshold, np.where(flat.missing == Missing.NONE, threshold >= 0, flat.default_left)


def _append_zero_as_nan(graph: Graph, features: str, used: Ints, n_features: int) -> str:
    x = features if len(used) == n_features else graph.add("Gather", features, graph.constant(used), axis=1)
    is_zero = graph.add("LessOrEqual", graph.add("Abs", x), graph.constant(ZERO))
    return graph.add("Where", is_zero, graph.constant(float("nan")), x)


def _pack(flat: _Flat) -> dict[int, tuple[Ints, ClassTable]]:
    """Categorical feature -> its splits and their class table."""
    splits_of: dict[int, list[int]] = {}
    for split in sorted(flat.categories):
        splits_of.setdefault(int(flat.feature[split]), []).append(split)
    return {
        feature: (np.array(splits), pack_sets([flat.categories[s] for s in splits]))
        for feature, splits in sorted(splits_of.items())
    }


def _append_classes(graph: Graph, features: str, tables: dict[int, tuple[Ints, ClassTable]]) -> str:
    """Classes of all categorical features side by side, double [rows, groups].

    LightGBM truncates a code toward zero; NaN and negative codes are in no set, and so are codes beyond the largest.
    Bounding the code on both sides first keeps the cast to an integer defined for every double.
    """
    last_rows = np.array([[len(table.classes) - 1 for _, table in tables.values()]], dtype=np.float64)
    none = graph.constant(-1.0)  # Gather counts negative rows from the end: -1 is the last row too
    x = graph.add("Gather", features, graph.constant(np.array(list(tables), dtype=np.int64)), axis=1)
    x = graph.add("Where", graph.add("IsNaN", x), none, x)
    x = graph.add("Max", graph.add("Min", x, graph.constant(last_rows)), none)
    row = graph.add("Cast", x, to=TensorProto.INT64)
    classes = []
    for i, (_, table) in enumerate(tables.values()):
        own = graph.add("Gather", row, graph.constant(np.int64(i)), axis=1)
        classes.append(graph.add("Gather", graph.constant(table.classes), own, axis=0))
    return graph.add("Cast", graph.add("Concat", *classes, axis=1), to=TensorProto.DOUBLE)

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
    odd: Bools
    """Categorical splits only: on the second, fourth, ... level of their tree."""

    @classmethod
    def of(cls, model: LightGBMModel) -> _Flat:
        categories: dict[int, Ints] = {}
        odd: list[Bools] = []
        start = 0
        for tree in model.trees:
            categories.update((start + split, codes) for split, codes in tree.categories.items())
            odd.append(tree.levels() % 2 == 1 if tree.categories else np.zeros(len(tree.left), dtype=bool))
            start += len(tree.split_feature)
        return cls(
            feature=np.concatenate([t.split_feature for t in model.trees]),
            threshold=np.concatenate([t.threshold for t in model.trees]),
            missing=np.concatenate([t.missing for t in model.trees]),
            default_left=np.concatenate([t.default_left for t in model.trees]),
            categories=categories,
            odd=np.concatenate(odd),
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
        packed = _pack(flat)
        parts.append(_append_classes(graph, features, packed))
        for part in packed:
            column[part.splits] = width + part.table.group
            width += part.table.classes.shape[1]
            members.update(zip(part.splits.tolist(), part.table.members, strict=True))

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


@dataclass(frozen=True, eq=False)
class _PackedSplits:
    """Categorical splits of one feature, and their classes."""

    feature: int
    splits: Ints
    table: ClassTable


def _pack(flat: _Flat) -> list[_PackedSplits]:
    """Pack the sets of each feature, apart for the odd and the even levels of the trees.

    A split and the one below it so never test the same column. onnxruntime 1.32 merges two such splits into one where
    the trees on their true sides have the same splits and leaves, and does not see where these send NaN elsewhere.
    """
    splits_of: dict[tuple[int, bool], list[int]] = {}
    for split in sorted(flat.categories):
        splits_of.setdefault((int(flat.feature[split]), bool(flat.odd[split])), []).append(split)
    return [
        _PackedSplits(feature, np.array(splits), pack_sets([flat.categories[s] for s in splits]))
        for (feature, _), splits in sorted(splits_of.items())
    ]


def _append_classes(graph: Graph, features: str, packed: list[_PackedSplits]) -> str:
    """Classes of all categorical features side by side, double [rows, groups].

    LightGBM truncates a code toward zero; NaN and negative codes are in no set, and so are codes beyond the largest.
    Bounding the code on both sides first keeps the cast to an integer defined for every double.
    """
    last_rows = np.array([[len(part.table.classes) - 1 for part in packed]], dtype=np.float64)
    none = graph.constant(-1.0)  # Gather counts negative rows from the end: -1 is the last row too
    x = graph.add("Gather", features, graph.constant(np.array([part.feature for part in packed])), axis=1)
    x = graph.add("Where", graph.add("IsNaN", x), none, x)
    x = graph.add("Max", graph.add("Min", x, graph.constant(last_rows)), none)
    row = graph.add("Cast", x, to=TensorProto.INT64)
    classes = []
    for i, part in enumerate(packed):
        own = graph.add("Gather", row, graph.constant(np.int64(i)), axis=1)
        classes.append(graph.add("Gather", graph.constant(part.table.classes), own, axis=0))
    return graph.add("Cast", graph.add("Concat", *classes, axis=1), to=TensorProto.DOUBLE)

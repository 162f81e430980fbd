"""The tree operators of ai.onnx.ml as an `Ensemble`.

TreeEnsemble of version 5, and TreeEnsembleRegressor and TreeEnsembleClassifier of versions 1 and 3, which other
converters write. Where the standard is vague, onnxruntime's reading counts (`tree_ensemble_attribute.h`,
`tree_ensemble_aggregator.h`); where that contradicts the standard, the model is refused.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import AttributeProto, numpy_helper

from rayforest.errors import ConfigError
from rayforest.forest.ensemble import Aggregate, Bools, Ensemble, Floats, InputColumn, Ints, Mode
from rayforest.forest.input_nodes import TreeInput, read_tree_input

_POST_TRANSFORMS = ("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT")
_FLOAT, _DOUBLE = np.dtype(np.float32), np.dtype(np.float64)


def read_ensemble(model: onnx.ModelProto) -> Ensemble:
    """The one tree ensemble of a model, with what the model does before it.

    Raises:
        ConfigError: there is none or there are several; it cannot be read; or a value called `raw_score` is computed
            from more than the trees.
    """
    nodes = [node for node in model.graph.node if node.op_type in _READERS and node.domain == "ai.onnx.ml"]
    if len(nodes) != 1:
        raise _refused("a model with one tree ensemble", f"{len(nodes)} of them")
    node = nodes[0]
    _refuse_leaf_models(model, node)
    return _READERS[node.op_type](node, read_tree_input(model, node.input[0]))


def _refused(expected: str, found: str) -> ConfigError:
    return ConfigError(
        "the tree kernel cannot read the tree ensemble",
        expected=expected,
        found=found,
        next_step="score this model with onnxruntime",
    )


def _refuse_leaf_models(model: onnx.ModelProto, ensemble: onnx.NodeProto) -> None:
    """`raw_score` of a model of ours is what the trees add up, unless the leaves hold linear models."""
    if "raw_score" not in {output.name for output in model.graph.output}:
        return
    producer = {name: node for node in model.graph.node for name in node.output}
    node = producer.get("raw_score")
    while node is not None and node.op_type == "Identity":
        node = producer.get(node.input[0])
    if node is not ensemble:
        raise _refused("trees whose leaves are numbers", "leaves that hold linear models (linear_tree)")


class _Attributes:
    """A node's attributes as arrays."""

    def __init__(self, node: onnx.NodeProto) -> None:
        self._by_name: dict[str, AttributeProto] = {a.name: a for a in node.attribute}

    def __contains__(self, name: str) -> bool:
        return name in self._by_name

    def ints(self, name: str) -> Ints:
        found = self._by_name.get(name)
        return np.array(found.ints if found is not None else [], dtype=np.int64)

    def floats(self, name: str) -> Floats:
        """The attribute of floats, or the tensor beside it (`..._as_tensor`)."""
        found, tensor = self._by_name.get(name), self._by_name.get(f"{name}_as_tensor")
        if found is not None and found.type == AttributeProto.TENSOR:
            tensor = found
        if tensor is not None:
            return numpy_helper.to_array(tensor.t).astype(np.float64).reshape(-1)
        return np.array(found.floats if found is not None else [], dtype=np.float32).astype(np.float64)

    def tensor(self, name: str) -> NDArray[Any]:
        found = self._by_name.get(name)
        return numpy_helper.to_array(found.t).reshape(-1) if found is not None else np.empty(0)

    def strings(self, name: str) -> list[str]:
        found = self._by_name.get(name)
        return [s.decode() for s in found.strings] if found is not None else []

    def int(self, name: str, default: int) -> int:
        found = self._by_name.get(name)
        return int(found.i) if found is not None else default

    def string(self, name: str, default: str) -> str:
        found = self._by_name.get(name)
        return found.s.decode() if found is not None else default


def _columns(tree_input: TreeInput, column: Ints) -> tuple[InputColumn, ...]:
    used = int(column.max(initial=0)) + 1
    columns = tree_input.columns
    if columns is None:
        columns = tuple(InputColumn(i) for i in range(tree_input.n_features or used))
    if used > len(columns) or column.min(initial=0) < 0:
        raise _refused(f"tests of {len(columns)} columns", f"a test of column {used - 1}")
    return columns


def _read_v5(node: onnx.NodeProto, tree_input: TreeInput) -> Ensemble:
    given = _Attributes(node)
    modes = given.tensor("nodes_modes").astype(np.uint8)
    weights = given.tensor("leaf_weights")
    if weights.dtype not in {_FLOAT, _DOUBLE}:
        raise _refused("weights of float or double", f"weights of {weights.dtype}")
    members = given.floats("membership_values")
    ends = np.flatnonzero(np.isnan(members))
    member_nodes = np.flatnonzero(modes == Mode.MEMBER)
    if len(ends) < len(member_nodes):  # the last set may lack its end
        ends = np.append(ends, len(members))
    if len(ends) < len(member_nodes):
        raise _refused(f"{len(member_nodes)} sets of members", f"{len(ends)}")
    starts = np.concatenate([[0], ends + 1])

    children, highest = {}, {"node": len(modes), "leaf": len(weights)}
    for side in ("true", "false"):
        ids, is_leaf = given.ints(f"nodes_{side}nodeids"), given.ints(f"nodes_{side}leafs") != 0
        for kind, chosen in (("leaf", ids[is_leaf]), ("node", ids[~is_leaf])):
            if len(chosen) and not 0 <= chosen.min() <= chosen.max() < highest[kind]:
                raise _refused(f"children among {highest[kind]} of kind {kind}", f"{kind} {chosen.max()}")
        children[side] = np.where(is_leaf, ~ids, ids)
    roots = given.ints("tree_roots")
    targets = given.ints("leaf_targetids")
    missing = given.ints("nodes_missing_value_tracks_true") != 0
    column = given.ints("nodes_featureids")
    post_transform = given.int("post_transform", 0)
    dtype = weights.dtype
    _check_lengths(
        len(modes),
        column,
        given.tensor("nodes_splits"),
        children["true"],
        children["false"],
        missing if len(missing) else modes,
    )
    _check_lengths(len(weights), targets)
    return Ensemble(
        columns=_columns(tree_input, column),
        n_features=tree_input.n_features,
        float32_input=tree_input.float32,
        roots=roots,
        column=column,
        mode=modes,
        threshold=given.floats("nodes_splits"),
        members={int(n): members[starts[i] : ends[i]] for i, n in enumerate(member_nodes)},
        missing_is_true=missing if len(missing) else np.zeros(len(modes), dtype=bool),
        if_true=children["true"],
        if_false=children["false"],
        n_leaves=len(weights),
        leaf_number=None,
        weight_leaf=np.arange(len(weights)),
        weight_target=targets,
        weight=weights.astype(np.float64),
        n_targets=given.int("n_targets", 1),
        aggregate=Aggregate(given.int("aggregate_function", Aggregate.SUM)),
        base_values=np.zeros(given.int("n_targets", 1)),
        must_score=np.zeros(given.int("n_targets", 1), dtype=bool),
        post_transform=_POST_TRANSFORMS[post_transform] if 0 <= post_transform < 5 else str(post_transform),
        sum_dtype=dtype,
        output_dtype=dtype,
    )


def _check_lengths(expected: int, *arrays: NDArray[Any]) -> None:
    for array in arrays:
        if len(array) != expected:
            raise _refused(f"attributes of one length, {expected}", f"one of {len(array)}")


def _read_regressor(node: onnx.NodeProto, tree_input: TreeInput) -> Ensemble:
    given = _Attributes(node)
    n_targets = given.int("n_targets", 1)
    base = given.floats("base_values")
    base = base if len(base) else np.zeros(n_targets)
    _check_lengths(n_targets, base)
    aggregate = Aggregate[given.string("aggregate_function", "SUM")]
    return _read_v3(given, tree_input, "target", base, aggregate, must_score=base != 0)


def _read_classifier(node: onnx.NodeProto, tree_input: TreeInput) -> Ensemble:
    """Scores of the classes. Two classes of which only one has weights are one score, and the sign tells them apart."""
    given = _Attributes(node)
    n_classes = len(given.strings("classlabels_strings")) or len(given.ints("classlabels_int64s"))
    base, ids = given.floats("base_values"), np.unique(given.ints("class_ids"))
    must_score = np.zeros(n_classes, dtype=bool)
    if n_classes <= 2 and len(ids) == 1:
        if len(base) > 1 or (base.any() and ids[0] != 0):
            raise _refused("one base value for one score, that of the first class", f"{len(base)}")
        base = base if len(base) else np.zeros(1)
        return _read_v3(given, tree_input, "class", base, Aggregate.SUM, must_score[:1], first_target=int(ids[0]))
    if n_classes == 2:
        if base.any():
            raise _refused("no base values, or weights of one class only", "two classes with weights and base values")
        base, must_score[1] = np.zeros(2), True
    base = base if len(base) else np.zeros(n_classes)
    return _read_v3(given, tree_input, "class", base, Aggregate.SUM, must_score)


def _read_v3(
    given: _Attributes,
    tree_input: TreeInput,
    weights: str,
    base_values: Floats,
    aggregate: Aggregate,
    must_score: Bools,
    *,
    first_target: int = 0,
) -> Ensemble:
    names = given.strings("nodes_modes")
    tree, node_id = given.ints("nodes_treeids"), given.ints("nodes_nodeids")
    column = given.ints("nodes_featureids")
    threshold = given.floats("nodes_values")
    missing = given.ints("nodes_missing_value_tracks_true") == 1
    _check_lengths(len(names), tree, node_id, column, threshold, missing if len(missing) else tree)
    is_leaf = np.array([name == "LEAF" for name in names])
    modes = {f"BRANCH_{mode.name}": mode for mode in Mode if mode is not Mode.MEMBER}
    if unknown := sorted(set(names) - set(modes) - {"LEAF"}):
        raise _refused(f"tests {', '.join(modes)}", unknown[0])

    begins = np.flatnonzero(np.diff(tree, prepend=tree[:1] - 1)) if len(tree) else np.empty(0, dtype=np.int64)
    if len(np.unique(tree[begins])) != len(begins):
        raise _refused("the nodes of each tree side by side", "a tree in several pieces")
    place = _NodePositions(tree, node_id)
    own = np.where(is_leaf, ~(np.cumsum(is_leaf) - 1), np.cumsum(~is_leaf) - 1)  # node, or ~leaf
    split = np.flatnonzero(~is_leaf)
    children = {
        side: own[place.of(tree[split], given.ints(f"nodes_{side}nodeids")[split])] for side in ("true", "false")
    }
    weight_at = place.of(given.ints(f"{weights}_treeids"), given.ints(f"{weights}_nodeids"))
    used = is_leaf[weight_at]  # old converters gave weights to inner nodes too; they count for nothing
    wide = given.floats(f"{weights}_weights")
    target = given.ints(f"{weights}_ids") - first_target
    _check_lengths(len(weight_at), wide, target)
    in_order = np.argsort(weight_at[used], kind="stable")
    return Ensemble(
        columns=_columns(tree_input, column[split]),
        n_features=tree_input.n_features,
        float32_input=tree_input.float32,
        roots=own[begins],
        column=column[split],
        mode=np.array([modes[names[i]] for i in split], dtype=np.uint8),
        threshold=threshold[split],
        members={},
        missing_is_true=missing[split] if len(missing) else np.zeros(len(split), dtype=bool),
        if_true=children["true"],
        if_false=children["false"],
        n_leaves=int(is_leaf.sum()),
        leaf_number=node_id[is_leaf],
        weight_leaf=~own[weight_at[used]][in_order],
        weight_target=target[used][in_order],
        weight=wide[used][in_order],
        n_targets=len(base_values),
        aggregate=aggregate,
        base_values=base_values,
        must_score=must_score,
        post_transform=given.string("post_transform", "NONE"),
        sum_dtype=_FLOAT if tree_input.float32 else _DOUBLE,
        output_dtype=_FLOAT,
    )


class _NodePositions:
    """Where the node (tree, id) stands in the list of nodes."""

    def __init__(self, tree: Ints, node_id: Ints) -> None:
        self._order = np.lexsort((node_id, tree))
        self._keys = np.stack([tree[self._order], node_id[self._order]], axis=1)
        if len(tree) and (np.diff(self._keys, axis=0) == 0).all(axis=1).any():
            raise _refused("one node an id", "two nodes of one tree with the same id")
        self._dense = {(int(t), int(n)): int(i) for (t, n), i in zip(self._keys, self._order, strict=True)}

    def of(self, tree: Ints, node_id: Ints) -> Ints:
        try:
            found = [self._dense[key] for key in zip(tree.tolist(), node_id.tolist(), strict=True)]
        except KeyError as error:
            raise _refused("children and weights of nodes that exist", f"(tree, node) {error.args[0]}") from None
        return np.array(found, dtype=np.int64)


_READERS = {
    "TreeEnsemble": _read_v5,
    "TreeEnsembleRegressor": _read_regressor,
    "TreeEnsembleClassifier": _read_classifier,
}

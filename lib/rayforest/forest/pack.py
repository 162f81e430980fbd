"""An ensemble as the kernel walks it.

A tree of up to `LARGEST_BIT_TREE` leaves is a bit for each leaf, eight to a plane. Every test, wherever it stands,
clears the leaves below its first child where it fails; the lowest bit that is left is the leaf that a row reaches
(QuickScorer: Lucchese et al., SIGIR 2015; with a vector of rows: Ye et al., RapidScorer, KDD 2018). Tests need no
order, so they are sorted by plane: a plane of many rows stays in registers while all its tests pass by, and nothing is
gathered from memory. The first child is the one with fewer leaves, which touches fewer planes.

Larger trees are walked node by node, all rows of a tile one level at a time; and so are all trees where there are only
a few rows, one row through all trees at a time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rayforest.errors import ConfigError
from rayforest.forest.binning import Bins, ByteTests, Int32s, Questions, bin_tests
from rayforest.forest.ensemble import Aggregate, Bools, Ensemble, Floats, Ints
from rayforest.forest.layout import TILE

LARGEST_BIT_TREE = 255 * 8
"""Leaves; planes are counted in a byte."""
UNROLLED = 8
"""Comparisons that every plane has at least, so that the kernel need not ask: most planes have one or two more."""


class Trees(NamedTuple):
    """What the kernel needs of the trees. Offsets into byte columns are in bytes: column x TILE."""

    trees: int
    first_plane: Int32s
    """[trees + 1] planes of eight leaves; none for a tree that is too large."""
    first_test: Int32s
    """[planes + 1]"""
    first_set_test: Int32s
    """[planes] comparisons stand before tests of sets."""
    test_column: Int32s
    """[tests] offset."""
    test_byte: NDArray[np.int8]
    """[tests] cut or bit."""
    test_mask: NDArray[np.int8]
    """[tests] leaves of the plane that stay where the test fails."""

    levels: Int32s
    """[trees] steps that surely end in a leaf."""
    most_levels: int
    first_slot: Ints
    """[trees] the root."""
    slot: Ints
    """First child << 32 | column << 9 | is a set << 8 | byte. A leaf leads to itself."""
    slot_leaf: Int32s
    """[slots] place of the leaf in its tree."""

    first_leaf: Ints
    """[trees + 1]"""
    leaf_number: Int32s
    """[leaves] for `leaf_index`."""
    first_weights: Int32s
    """[trees + 1] a tree has one row of weights for each target that it adds to."""
    weights_target: Int32s
    """[rows of weights]"""
    weights_at: Ints
    """[rows of weights] where they begin among the weights, which stand by place of the leaf."""


@dataclass(frozen=True, eq=False)
class Packed:
    """A forest ready for the kernel."""

    bins: Bins
    trees: Trees
    weight: NDArray[np.floating[Any]]
    """float32 or float64, as the sums are."""


def pack(ensemble: Ensemble) -> Packed:
    """Pack an ensemble.

    Raises:
        ConfigError: the nodes are no trees, or the ensemble is larger than the format.
    """
    questions = Questions.of(ensemble)
    shape = _Shape.of(ensemble, questions)
    bins, tests = bin_tests(ensemble, questions, shape.yes_first)
    if len(bins.column_base) >= 1 << 22 or len(shape.place_leaf) >= 1 << 31:
        raise ConfigError(
            "the tree ensemble is too large for the tree kernel", next_step="score this model with onnxruntime"
        )
    rows, weight = _weights(ensemble, shape)
    parts: dict[str, NDArray[Any]] = _planes(shape, tests) | _walks(shape, tests) | rows
    return Packed(
        bins,
        Trees(
            trees=len(ensemble.roots),
            most_levels=int(shape.levels.max(initial=0)),
            **parts,
            first_leaf=shape.first_leaf,
            leaf_number=_leaf_numbers(ensemble, shape).astype(np.int32),
        ),
        weight.astype(ensemble.sum_dtype),
    )


def _leaf_numbers(ensemble: Ensemble, shape: _Shape) -> Ints:
    """[places]"""
    if ensemble.leaf_number is not None:
        return ensemble.leaf_number[shape.place_leaf]
    first = shape.first_leaf[:-1]
    lowest = np.minimum.reduceat(shape.place_leaf, first) if len(first) else first
    in_tree: Ints = shape.place_leaf - np.repeat(lowest, np.diff(shape.first_leaf))
    return in_tree


@dataclass(frozen=True, eq=False)
class _Shape:
    """Where nodes and leaves stand in their trees. A leaf that hangs on two nodes has two places."""

    tree: Ints
    """[nodes] -1 for nodes that no root leads to."""
    parent: Ints
    """[nodes] -1 for roots."""
    yes_first: Bools
    """[nodes] the first child is the answer yes."""
    first: Ints
    """[nodes] child with fewer leaves, which stands first."""
    second: Ints
    """[nodes]"""
    start: Ints
    """[nodes] place, counted over all trees, of the first leaf below."""
    middle: Ints
    """[nodes] place of the first leaf below the second child."""
    order: Ints
    """Nodes by tree and level, from the root."""
    levels: Ints
    """[trees]"""
    first_leaf: Ints
    """[trees + 1]"""
    place_leaf: Ints
    """[places] the leaf of the ensemble."""
    root_is_leaf: Bools
    """[trees]"""

    @classmethod
    def of(cls, ensemble: Ensemble, questions: Questions) -> _Shape:
        n_nodes, roots = len(ensemble.column), ensemble.roots
        _check_trees(n_nodes, roots, questions)
        tree, parent = np.full(n_nodes, -1), np.full(n_nodes, -1)
        levels = np.zeros(len(roots), dtype=np.int64)
        by_level: list[Ints] = []
        level = roots[roots >= 0]
        tree[level] = np.flatnonzero(roots >= 0)
        while len(level):
            by_level.append(level)
            levels[tree[level]] = len(by_level)
            below = np.stack([questions.yes[level], questions.no[level]], axis=1)
            above = np.repeat(level, 2)[below.reshape(-1) >= 0]
            level = below[below >= 0]
            tree[level], parent[level] = tree[above], above

        n_leaves = np.ones(n_nodes + 1, dtype=np.int64)  # the last one serves leaves
        for level in reversed(by_level):
            n_leaves[level] = n_leaves[_or_last(questions.yes[level])] + n_leaves[_or_last(questions.no[level])]
        n_yes, n_no = n_leaves[_or_last(questions.yes)], n_leaves[_or_last(questions.no)]
        yes_first = n_yes <= n_no
        first = np.where(yes_first, questions.yes, questions.no)
        second = np.where(yes_first, questions.no, questions.yes)

        in_tree = np.where(roots >= 0, n_leaves[_or_last(roots)], 1)
        first_leaf = np.concatenate([[0], np.cumsum(in_tree)])
        start, middle = np.zeros(n_nodes, dtype=np.int64), np.zeros(n_nodes, dtype=np.int64)
        place_leaf = np.zeros(first_leaf[-1], dtype=np.int64)
        start[roots[roots >= 0]] = first_leaf[:-1][roots >= 0]
        place_leaf[first_leaf[:-1][roots < 0]] = ~roots[roots < 0]
        for level in by_level:
            middle[level] = start[level] + np.minimum(n_yes[level], n_no[level])
            for child, place in ((first[level], start[level]), (second[level], middle[level])):
                start[child[child >= 0]] = place[child >= 0]
                place_leaf[place[child < 0]] = ~child[child < 0]
        reached = np.concatenate([*by_level, np.empty(0, dtype=np.int64)])
        order = reached[np.argsort(tree[reached], kind="stable")]
        return cls(
            tree, parent, yes_first, first, second, start, middle, order, levels, first_leaf, place_leaf, roots < 0
        )


def _or_last(child: Ints) -> Ints:
    """Every leaf as -1, the last place of an array."""
    return np.maximum(child, -1)


def _check_trees(n_nodes: int, roots: Ints, questions: Questions) -> None:
    """Every node hangs on at most one other: then what a root leads to is a tree."""
    children = np.concatenate([questions.yes, questions.no, roots])
    nodes = children[children >= 0]
    if len(nodes) and (nodes.max() >= n_nodes or np.bincount(nodes).max() > 1):
        raise ConfigError(
            "the tree kernel cannot read the tree ensemble",
            expected="trees, in which every node hangs on one other",
            found="a node that hangs on two, or that does not exist",
            next_step="score this model with onnxruntime",
        )


def _bit_trees(shape: _Shape) -> Bools:
    """[trees] small enough for bits."""
    return np.diff(shape.first_leaf) <= LARGEST_BIT_TREE


def _planes(shape: _Shape, tests: ByteTests) -> dict[str, NDArray[Any]]:
    bits = _bit_trees(shape)
    n_planes = np.where(bits, (np.diff(shape.first_leaf) + 7) // 8, 0)
    first_plane = np.concatenate([[0], np.cumsum(n_planes)])
    node = shape.order[bits[shape.tree[shape.order]]]
    offset = shape.first_leaf[shape.tree[node]]
    start, end = shape.start[node] - offset, shape.middle[node] - offset
    lowest, highest = start // 8, (end - 1) // 8
    count = highest - lowest + 1
    node, start, end = (np.repeat(a, count) for a in (node, start, end))
    own = np.repeat(lowest, count) + np.arange(len(node)) - np.repeat(np.cumsum(count) - count, count)
    low, high = np.maximum(start - 8 * own, 0), np.minimum(end - 8 * own, 8)
    mask = ~((1 << high) - (1 << low)) & 0xFF
    plane = first_plane[shape.tree[node]] + own
    column, byte, is_set = tests.column[node], tests.byte[node], tests.is_set[node]

    all_planes = np.arange(first_plane[-1])
    few = np.maximum(UNROLLED - np.bincount(plane[~is_set], minlength=len(all_planes)), 0)
    none = np.zeros(few.sum(), dtype=np.int64)  # tests that always pass
    plane, column, is_set = (
        np.append(a, b) for a, b in ((plane, np.repeat(all_planes, few)), (column, none), (is_set, none > 0))
    )
    byte, mask = np.append(byte, none + 127), np.append(mask, none + 0xFF)

    order = np.lexsort((column, is_set, plane))
    first_test = np.searchsorted(plane[order], np.arange(first_plane[-1] + 1))
    n_compared = np.bincount(plane[~is_set], minlength=len(all_planes))
    return {
        "first_plane": first_plane.astype(np.int32),
        "first_test": first_test.astype(np.int32),
        "first_set_test": (first_test[:-1] + n_compared).astype(np.int32),
        "test_column": (column[order] * TILE).astype(np.int32),
        "test_byte": byte[order].astype(np.uint8).view(np.int8),
        "test_mask": mask[order].astype(np.uint8).view(np.int8),
    }


def _walks(shape: _Shape, tests: ByteTests) -> dict[str, NDArray[Any]]:
    node = shape.order
    n_nodes = np.bincount(shape.tree[node], minlength=len(shape.levels))
    size = 2 * n_nodes + 1
    first_slot = np.cumsum(size) - size
    in_tree = np.arange(len(node)) - (np.cumsum(n_nodes) - n_nodes)[shape.tree[node]]
    pair = np.full(len(shape.tree) + 1, -1)
    pair[node] = first_slot[shape.tree[node]] + 1 + 2 * in_tree
    parent = shape.parent[node]
    is_root = parent < 0
    is_second = ~is_root & (shape.second[parent] == node)
    at = np.where(is_root, first_slot[shape.tree[node]], pair[parent] + is_second)

    slot, leaf = np.arange(size.sum()) << 32 | 127, np.zeros(size.sum(), dtype=np.int32)
    byte = tests.byte[node].astype(np.int64) & 0xFF
    slot[at] = pair[node] << 32 | tests.column[node] << 9 | tests.is_set[node].astype(np.int64) << 8 | byte
    for child, place, side in ((shape.first, shape.start, 0), (shape.second, shape.middle, 1)):
        ends = node[child[node] < 0]
        leaf[pair[ends] + side] = place[ends] - shape.first_leaf[shape.tree[ends]]
    return {
        "levels": shape.levels.astype(np.int32),
        "first_slot": first_slot,
        "slot": slot,
        "slot_leaf": leaf,
    }


def _weights(ensemble: Ensemble, shape: _Shape) -> tuple[dict[str, NDArray[Any]], Floats]:
    """Weights by place of the leaf, a row for each tree and target; a leaf without a weight there adds nothing."""
    n_places = np.diff(shape.first_leaf)
    order = np.argsort(ensemble.weight_leaf, kind="stable")
    counts = np.bincount(ensemble.weight_leaf, minlength=ensemble.n_leaves)
    own = counts[shape.place_leaf]
    place = np.repeat(np.arange(len(shape.place_leaf)), own)
    begin = (np.cumsum(counts) - counts)[shape.place_leaf]
    which = order[np.repeat(begin, own) + np.arange(len(place)) - np.repeat(np.cumsum(own) - own, own)]
    tree = np.repeat(np.arange(len(n_places)), n_places)[place]
    target = ensemble.weight_target[which]
    if len(target) and not 0 <= target.min() <= target.max() < ensemble.n_targets:
        raise ConfigError(
            "a leaf of the tree ensemble adds to a target that does not exist",
            expected=f"targets from 0 to {ensemble.n_targets - 1}",
            found=f"targets from {target.min()} to {target.max()}",
            next_step="convert the model again: no engine can score this one",
        )
    row, of_weight = np.unique(tree * ensemble.n_targets + target, return_inverse=True)
    in_tree = n_places[row // ensemble.n_targets]
    full = np.bincount(of_weight.reshape(-1), minlength=len(row)) >= in_tree
    if not np.isin(np.flatnonzero(ensemble.must_score), row[full] % ensemble.n_targets).all():
        raise ConfigError(
            "the tree kernel cannot read the tree ensemble",
            expected="a tree in which every leaf adds to the target, for targets with a base value and for two classes",
            found="rows to whose score no tree may add",
            next_step="score this model with onnxruntime",
        )
    size = (in_tree + 7) // 8 * 8
    at = np.cumsum(size) - size
    fill = {Aggregate.MIN: np.inf, Aggregate.MAX: -np.inf}.get(ensemble.aggregate, 0.0)
    weight: Floats = np.full(size.sum(), fill)
    index = at[of_weight] + place - shape.first_leaf[tree]
    if len(index) and np.bincount(index).max() > 1:
        raise ConfigError(
            "a leaf of the tree ensemble has two weights for one target", next_step="score this model with onnxruntime"
        )
    weight[index] = ensemble.weight[which]
    rows = {
        "first_weights": np.searchsorted(row, np.arange(len(n_places) + 1) * ensemble.n_targets).astype(np.int32),
        "weights_target": (row % ensemble.n_targets).astype(np.int32),
        "weights_at": at.astype(np.int64),
    }
    return rows, weight

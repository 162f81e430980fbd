"""The tree kernel: tiles of rows to bytes, bytes to leaves, leaves to sums. Imported only to compile it.

Everything here runs on one thread and calls nothing: no Python, no allocator, no runtime of Numba. So the compiled code
needs none of them either (see `compiling`). A row's result depends on that row alone. All memory comes by its address:
an integer is passed for nothing, and an array costs a test for negative indices wherever it is used.
"""

# ruff: noqa: PLR0912  intrinsics have typed signatures; a call in a loop would cost more than a branch

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numba import njit, types
from numba.np.unsafe import ndarray

from rayforest.forest.addresses import (
    array_maker,
    float32_at,
    float64_at,
    float64s,
    int8_at,
    int8s,
    int32_at,
    int32s,
    int64_at,
    int64s,
    strided_float32,
    strided_float64,
    uint8_at,
)
from rayforest.forest.binning import Bins
from rayforest.forest.lanes import (
    fill,
    keep_inside,
    keep_up_to,
    load,
    lowest_bit,
    ones64,
    ones256,
    store_places,
    where_any,
)
from rayforest.forest.layout import (
    ADDRESS,
    IS_FLOAT32,
    STRIDE,
    TILE,
    VALIDITY,
    VALIDITY_BIT,
    CallLayout,
)
from rayforest.forest.pack import UNROLLED, Trees

_LAYOUT_FIELDS, _BIN_FIELDS, _TREE_FIELDS = len(CallLayout._fields), len(Bins._fields), len(Trees._fields)
_bare: Any = partial(njit, error_model="numpy", _nrt=False, no_cpython_wrapper=True, no_cfunc_wrapper=True)
"""Compiles without what Python would need to call it, and without Numba's reference counts."""
to_fixed_tuple: Any = ndarray.to_fixed_tuple
_inlined: Callable[[Callable[..., Any]], Callable[..., Any]] = _bare(forceinline=True)


@_inlined
def _read_column(
    base: int, columns: int, feature: int, row: int, rows: int, to_float32: int, zero: float, x: Any
) -> None:
    """Values of one feature as float64, missing ones as NaN."""
    stride = int64_at(columns, 5 * feature + STRIDE)
    address = base + int64_at(columns, 5 * feature + ADDRESS) + row * stride
    if int64_at(columns, 5 * feature + IS_FLOAT32):
        if stride == 4:
            for i in range(rows):
                x[i] = float32_at(address, i)
        else:
            for i in range(rows):
                x[i] = strided_float32(address, i, stride)
    elif stride == 8:
        for i in range(rows):
            x[i] = float64_at(address, i)
    else:
        for i in range(rows):
            x[i] = strided_float64(address, i, stride)
    if to_float32 and not int64_at(columns, 5 * feature + IS_FLOAT32):
        for i in range(rows):
            x[i] = np.float32(x[i])
    validity = int64_at(columns, 5 * feature + VALIDITY)
    if validity != 0:
        bit = int64_at(columns, 5 * feature + VALIDITY_BIT) + row
        for i in range(rows):
            x[i] = x[i] if (uint8_at(validity, (bit + i) >> 3) >> ((bit + i) & 7)) & 1 else np.nan
    if zero >= 0:
        for i in range(rows):
            x[i] = np.nan if abs(x[i]) <= zero else x[i]


@_inlined
def _find_codes(bins: Any, s: int, rows: int, x: Any, code: Any) -> None:
    """How many cuts lie below each value: the grid's cell first, then the comparisons that are left."""
    low, scale, top = float64_at(bins.grid_low, s), float64_at(bins.grid_scale, s), float64_at(bins.grid_top, s)
    if uint8_at(bins.by_bits, s):
        bits = x.view(np.int64)
        for i in range(rows):
            at = (np.float64(bits[i] >> 32) - low) * scale
            at = at if at > 0 else 0.0
            code[i] = np.int32(at if at < top else top)
    else:
        for i in range(rows):
            at = (x[i] - low) * scale
            at = at if at > 0 else 0.0
            code[i] = np.int32(at if at < top else top)
    cell, cut = bins.cell + 4 * int64_at(bins.first_cell, s), bins.cut + 8 * int64_at(bins.first_cut, s)
    step = 1 << (int32_at(bins.steps, s) - 1)
    for i in range(rows):
        below = int32_at(cell, code[i])
        code[i] = below + step * (float64_at(cut, below + step - 1) < x[i])
    while step > 1:
        step >>= 1
        for i in range(rows):
            code[i] += step * (float64_at(cut, code[i] + step - 1) < x[i])
    nan_code = int32_at(bins.nan_code, s)
    for i in range(rows):
        code[i] = nan_code if x[i] != x[i] else code[i]


@_inlined
def _write_bytes(bins: Any, s: int, rows: int, code: Any, tile: Any, stride: int) -> None:
    """All byte columns of a source from its codes, `stride` bytes from one column to the next."""
    first, first_set, end = (
        int32_at(bins.first_column, s),
        int32_at(bins.first_set_column, s),
        int32_at(bins.first_column, s + 1),
    )
    nan_code = int32_at(bins.nan_code, s)
    for column in range(first, first_set):
        base, flip, nan = (
            int32_at(bins.column_base, column) + 128,
            int8_at(bins.column_flip, column),
            int8_at(bins.column_nan, column),
        )
        own = tile[column * stride :]
        for i in range(rows):
            byte = np.int8(min(max(code[i] - base, np.int32(-128)), np.int32(127))) ^ flip
            own[i] = nan if code[i] == nan_code else byte
    width, sets = end - first_set, bins.sets + int64_at(bins.first_set, s)
    for k in range(width):
        own = tile[(first_set + k) * stride :]
        for i in range(rows):
            own[i] = uint8_at(sets, np.int64(code[i]) * width + k)


@_inlined
def _make_bytes(
    layout: Any, bins: Any, base: int, columns: int, row: int, rows: int, x: Any, code: Any, tile: Any, stride: int
) -> None:
    """All byte columns of some rows."""
    for s in range(bins.sources):
        feature, zero = int32_at(bins.feature, s), float64_at(bins.zero_bound, s)
        _read_column(base, columns, feature, row, rows, layout.to_float32, zero, x)
        _find_codes(bins, s, rows, x, code)
        _write_bytes(bins, s, rows, code, tile, stride)


@_inlined
def _compare(kept: Any, trees: Any, test: int, tile: Any, row: int) -> Any:
    """Clear the leaves that this comparison rules out."""
    column = load(tile, int32_at(trees.test_column, test) + row, kept)
    return keep_up_to(
        kept, column, fill(int8_at(trees.test_byte, test), kept), fill(int8_at(trees.test_mask, test), kept)
    )


@_inlined
def _look_up(kept: Any, trees: Any, test: int, tile: Any, row: int) -> Any:
    """Clear the leaves that this test of a set rules out."""
    column = load(tile, int32_at(trees.test_column, test) + row, kept)
    return keep_inside(
        kept, column, fill(int8_at(trees.test_byte, test), kept), fill(int8_at(trees.test_mask, test), kept)
    )


@_inlined
def _pass_tests(ones: Any, trees: Any, tree: int, tile: Any, row: int, place: Any) -> None:
    """The lowest leaf that all tests leave, for as many rows as `ones` has lanes."""
    first, end = int32_at(trees.first_plane, tree), int32_at(trees.first_plane, tree + 1)
    left, plane = ones, fill(np.int8(0), ones)
    for p in range(end - 1, first - 1, -1):
        kept = ones
        test, first_set = int32_at(trees.first_test, p), int32_at(trees.first_set_test, p)
        for t in range(test, test + UNROLLED):
            kept = _compare(kept, trees, t, tile, row)
        for t in range(test + UNROLLED, first_set):
            kept = _compare(kept, trees, t, tile, row)
        for t in range(first_set, int32_at(trees.first_test, p + 1)):
            kept = _look_up(kept, trees, t, tile, row)
        left = where_any(kept, kept, left)
        plane = where_any(kept, fill(np.int8(p - first), ones), plane)
    store_places(place, row, plane, lowest_bit(left))


@_inlined
def _child(slot: int, value: Any) -> Any:
    """Where a walker goes from a slot, given the byte that the slot asks for."""
    value, byte = np.int32(value), np.int32(np.int8(slot))
    second = (value & byte) == 0 if (slot >> 8) & 1 else value > byte
    return (slot >> 32) + second


@_inlined
def _walk_tile(trees: Any, tree: int, tile: Any, rows: int, at: Any, place: Any) -> None:
    """Walk from the root to leaves, a level of all rows at a time."""
    at[:rows] = int64_at(trees.first_slot, tree)
    for _ in range(int32_at(trees.levels, tree)):
        moved = False
        for i in range(rows):
            slot = int64_at(trees.slot, at[i])
            to = _child(slot, tile[np.uint64(((slot >> 9) & 0x3FFFFF) * TILE + i)])
            moved |= to != at[i]
            at[i] = to
        if not moved:
            break
    for i in range(rows):
        place[i] = int32_at(trees.slot_leaf, at[i])


@_inlined
def _walk_row(trees: Any, row: Any, at: Any, walker: Any) -> None:
    """Walk one row through all trees, a level at a time; who stands at a leaf leaves the list of walkers."""
    for i in range(trees.trees):
        at[i], walker[i] = int64_at(trees.first_slot, i), i
    walking = trees.trees
    while walking > 0:
        left = 0
        for w in range(walking):
            tree = np.uint64(walker[w])
            slot = int64_at(trees.slot, at[tree])
            to = _child(slot, row[np.uint64((slot >> 9) & 0x3FFFFF)])
            walker[left] = tree
            left += to != at[tree]
            at[tree] = to
        walking = left


@_inlined
def _add(aggregate: int, weight: Any, place: Any, rows: int, sums: Any, first: Any) -> None:
    """Aggregate a weight for each row, by place of its leaf, from `sums[first]` on.

    The index is unsigned, so that no sign is tested.
    """
    if aggregate == 2:
        for i in range(rows):
            sums[first + np.uint64(i)] = min(sums[first + np.uint64(i)], weight[np.uint32(place[i])])
    elif aggregate == 3:
        for i in range(rows):
            sums[first + np.uint64(i)] = max(sums[first + np.uint64(i)], weight[np.uint32(place[i])])
    else:
        for i in range(rows):
            sums[first + np.uint64(i)] += weight[np.uint32(place[i])]


@_inlined
def _add_tree(
    layout: Any, trees: Any, tree: int, weight: Any, place: Any, rows: int, sums: Any, first: int, stride: int
) -> None:
    """Aggregate a tree's weights for each row; a target's sums begin at `first + target * stride`."""
    for k in range(int32_at(trees.first_weights, tree), int32_at(trees.first_weights, tree + 1)):
        target, own = int32_at(trees.weights_target, k), weight[int64_at(trees.weights_at, k) :]
        _add(layout.aggregate, own, place, rows, sums, np.uint64(first + target * stride))


@_inlined
def _number_leaves(trees: Any, tree: int, place: Any, rows: int, leaf_number: Any) -> None:
    """Write the number of each row's leaf in a tree."""
    first = int64_at(trees.first_leaf, tree)
    for i in range(rows):
        leaf_number[i * trees.trees + tree] = int32_at(trees.leaf_number, first + place[i])


def define(name: str) -> Any:
    """The kernel for weights and sums of this type, float32 or float64; compiled.

    It aggregates the weights of the leaves that rows reach, tree by tree, and takes seven numbers:

    - layout_at: address of a `CallLayout` and what follows it;
    - base, columns: address from which the table of features counts, and address of the table, see `ADDRESS`;
    - rows;
    - out_at: address of [rows, targets], overwritten;
    - leaves_at: address of int32 [rows, trees], overwritten with the number of each leaf; 0 where nobody asks;
    - scratch: address of the memory that the layout cuts into parts.
    """
    real = getattr(types, name)
    reals = array_maker(real)
    compiled: Callable[[Callable[..., None]], Any] = _bare(types.void(*[types.int64] * 7))

    @compiled
    def score(layout_at: int, base: int, columns: int, rows: int, out_at: int, leaves_at: int, scratch: int) -> None:
        bins_at = layout_at + 8 * _LAYOUT_FIELDS
        trees_at = bins_at + 8 * _BIN_FIELDS
        layout = CallLayout(*to_fixed_tuple(int64s(layout_at, _LAYOUT_FIELDS), _LAYOUT_FIELDS))
        bins = Bins(*to_fixed_tuple(int64s(bins_at, _BIN_FIELDS), _BIN_FIELDS))
        trees = Trees(*to_fixed_tuple(int64s(trees_at, _TREE_FIELDS), _TREE_FIELDS))
        weight, out = reals(layout.weight, 1 << 48), reals(out_at, rows * layout.targets)
        leaf_number = int32s(leaves_at, rows * trees.trees)
        x, code = float64s(scratch + layout.value, TILE), int32s(scratch + layout.code, TILE)
        tile, place = int8s(scratch + layout.tile, bins.columns * TILE), int32s(scratch + layout.place, TILE)
        at, walker = int64s(scratch + layout.at, max(TILE, trees.trees)), int32s(scratch + layout.walker, trees.trees)
        sums = reals(scratch + layout.sums, layout.targets * TILE)
        initial = real(np.inf if layout.aggregate == 2 else -np.inf if layout.aggregate == 3 else 0.0)
        if rows <= layout.few_rows:
            out[:] = initial
            for row in range(rows):
                _make_bytes(layout, bins, base, columns, row, 1, x, code, tile, 1)
                _walk_row(trees, tile, at, walker)
                for tree in range(trees.trees):
                    place[0] = int32_at(trees.slot_leaf, at[tree])
                    _add_tree(layout, trees, tree, weight, place, 1, out, row * layout.targets, 1)
                    if leaves_at:
                        _number_leaves(trees, tree, place, 1, leaf_number[row * trees.trees :])
            return
        for row in range(0, rows, TILE):
            count = min(TILE, rows - row)
            _make_bytes(layout, bins, base, columns, row, count, x, code, tile, TILE)
            sums[:] = initial
            for tree in range(trees.trees):
                if int32_at(trees.first_plane, tree) == int32_at(trees.first_plane, tree + 1):
                    _walk_tile(trees, tree, tile, count, at, place)
                elif count > TILE // 2:
                    _pass_tests(ones256(), trees, tree, tile, 0, place)
                else:
                    for part in range(0, count, 64):
                        _pass_tests(ones64(), trees, tree, tile, part, place)
                _add_tree(layout, trees, tree, weight, place, count, sums, 0, TILE)
                if leaves_at:
                    _number_leaves(trees, tree, place, count, leaf_number[row * trees.trees :])
            for target in range(layout.targets):
                for i in range(count):
                    out[(row + i) * layout.targets + target] = sums[target * TILE + i]

    return score

"""The tree kernel: tiles of rows to bytes, bytes to leaves, leaves to sums. Compiled by Numba, cached on disk.

Everything here runs without the GIL and on one thread. A row's result depends on that row alone. The arrays of `Bins`
and `Trees` come as addresses: an integer is passed for nothing, and an array costs a reference count and a test for
negative indices wherever it is used.
"""

# ruff: noqa: ARG001, PLR0912  intrinsics have typed signatures; a call in a loop would cost more than a branch

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, types
from numba.np.unsafe import ndarray

from rayforest.forest.binning import Bins
from rayforest.forest.lanes import (
    fill,
    intrinsic,
    keep_inside,
    keep_up_to,
    load,
    lowest_bit,
    ones64,
    ones256,
    store_places,
    where_any,
)
from rayforest.forest.pack import TILE, UNROLLED, Trees

ADDRESS, STRIDE, IS_FLOAT32, VALIDITY, VALIDITY_BIT = range(5)
"""Columns of the table that says where features lie: address of the first value; bytes from one value to the next;
1 for float32, 0 for float64; address of Arrow's bitmap of values that are there, or 0; the first value's bit in it."""

FEW_ROWS = 4
"""Up to here, a row through all trees at a time is faster than a vector of rows."""

_BIN_FIELDS, _TREE_FIELDS = len(Bins._fields), len(Trees._fields)
_LINE = 64  # bytes of a cache line, and of the widest vector
to_fixed_tuple: Any = ndarray.to_fixed_tuple
_inlined = njit(nogil=True, error_model="numpy", forceinline=True)


def _reader(kind: Any) -> Any:
    """What reads the item of this type at `address + stride * index`."""

    def read(typing: Any, address: Any, index: Any, stride: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            at = builder.add(arguments[0], builder.mul(arguments[1], arguments[2]))
            return builder.load(builder.inttoptr(at, context.get_value_type(kind).as_pointer()), align=1)

        return kind(types.int64, types.int64, types.int64), code

    return intrinsic(read)


_strided_float64, _strided_float32 = map(_reader, (types.float64, types.float32))


def _item_reader(kind: Any) -> Any:
    """What reads `array[index]` of an array of this type at an address."""

    def read(typing: Any, address: Any, index: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            array = builder.inttoptr(arguments[0], context.get_value_type(kind).as_pointer())
            return builder.load(builder.gep(array, [arguments[1]]))

        return kind(types.int64, types.int64), code

    return intrinsic(read)


_uint8, _int8, _int32, _int64, _float32, _float64 = map(
    _item_reader, (types.uint8, types.int8, types.int32, types.int64, types.float32, types.float64)
)


@_inlined
def _read_column(columns: Any, feature: int, row: int, rows: int, to_float32: bool, zero: float, x: Any) -> None:
    """Values of one feature as float64, missing ones as NaN."""
    stride = columns[feature, STRIDE]
    address = columns[feature, ADDRESS] + row * stride
    if columns[feature, IS_FLOAT32]:
        if stride == 4:
            for i in range(rows):
                x[i] = _float32(address, i)
        else:
            for i in range(rows):
                x[i] = _strided_float32(address, i, stride)
    elif stride == 8:
        for i in range(rows):
            x[i] = _float64(address, i)
    else:
        for i in range(rows):
            x[i] = _strided_float64(address, i, stride)
    if to_float32 and not columns[feature, IS_FLOAT32]:
        for i in range(rows):
            x[i] = np.float32(x[i])
    validity = columns[feature, VALIDITY]
    if validity != 0:
        bit = columns[feature, VALIDITY_BIT] + row
        for i in range(rows):
            x[i] = x[i] if (_uint8(validity, (bit + i) >> 3) >> ((bit + i) & 7)) & 1 else np.nan
    if zero >= 0:
        for i in range(rows):
            x[i] = np.nan if abs(x[i]) <= zero else x[i]


@_inlined
def _find_codes(bins: Any, s: int, rows: int, x: Any, code: Any) -> None:
    """How many cuts lie below each value: the grid's cell first, then the comparisons that are left."""
    low, scale, top = _float64(bins.grid_low, s), _float64(bins.grid_scale, s), _float64(bins.grid_top, s)
    if _uint8(bins.by_bits, s):
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
    cell, cut = bins.cell + 4 * _int64(bins.first_cell, s), bins.cut + 8 * _int64(bins.first_cut, s)
    step = 1 << (_int32(bins.steps, s) - 1)
    for i in range(rows):
        below = _int32(cell, code[i])
        code[i] = below + step * (_float64(cut, below + step - 1) < x[i])
    while step > 1:
        step >>= 1
        for i in range(rows):
            code[i] += step * (_float64(cut, code[i] + step - 1) < x[i])
    nan_code = _int32(bins.nan_code, s)
    for i in range(rows):
        code[i] = nan_code if x[i] != x[i] else code[i]


@_inlined
def _write_bytes(bins: Any, s: int, rows: int, code: Any, tile: Any) -> None:
    """All byte columns of a source from its codes."""
    first, first_set, end = (
        _int32(bins.first_column, s),
        _int32(bins.first_set_column, s),
        _int32(bins.first_column, s + 1),
    )
    nan_code = _int32(bins.nan_code, s)
    for column in range(first, first_set):
        base, flip, nan = (
            _int32(bins.column_base, column) + 128,
            _int8(bins.column_flip, column),
            _int8(bins.column_nan, column),
        )
        own = tile[column * TILE :]
        for i in range(rows):
            byte = np.int8(min(max(code[i] - base, np.int32(-128)), np.int32(127))) ^ flip
            own[i] = nan if code[i] == nan_code else byte
    width, sets = end - first_set, bins.sets + _int64(bins.first_set, s)
    for k in range(width):
        own = tile[(first_set + k) * TILE :]
        for i in range(rows):
            own[i] = _uint8(sets, np.int64(code[i]) * width + k)


@_inlined
def _compare(kept: Any, trees: Any, test: int, tile: Any, row: int) -> Any:
    """Clear the leaves that this comparison rules out."""
    column = load(tile, _int32(trees.test_column, test) + row, kept)
    return keep_up_to(kept, column, fill(_int8(trees.test_byte, test), kept), fill(_int8(trees.test_mask, test), kept))


@_inlined
def _look_up(kept: Any, trees: Any, test: int, tile: Any, row: int) -> Any:
    """Clear the leaves that this test of a set rules out."""
    column = load(tile, _int32(trees.test_column, test) + row, kept)
    return keep_inside(kept, column, fill(_int8(trees.test_byte, test), kept), fill(_int8(trees.test_mask, test), kept))


@_inlined
def _pass_tests(ones: Any, trees: Any, tree: int, tile: Any, row: int, place: Any) -> None:
    """The lowest leaf that all tests leave, for as many rows as `ones` has lanes."""
    first, end = _int32(trees.first_plane, tree), _int32(trees.first_plane, tree + 1)
    left, plane = ones, fill(np.int8(0), ones)
    for p in range(end - 1, first - 1, -1):
        kept = ones
        test, first_set = _int32(trees.first_test, p), _int32(trees.first_set_test, p)
        for t in range(test, test + UNROLLED):
            kept = _compare(kept, trees, t, tile, row)
        for t in range(test + UNROLLED, first_set):
            kept = _compare(kept, trees, t, tile, row)
        for t in range(first_set, _int32(trees.first_test, p + 1)):
            kept = _look_up(kept, trees, t, tile, row)
        left = where_any(kept, kept, left)
        plane = where_any(kept, fill(np.int8(p - first), ones), plane)
    store_places(place, row, plane, lowest_bit(left))


@_inlined
def _walk(trees: Any, levels: int, tile: Any, row: int, next_row: int, count: int, at: Any) -> None:
    """Walk from slots to leaves, a level of all walkers at a time: rows in one tree, or one row in many trees.

    Walker i is at slot `at[i]` with the tile's row `row + i * next_row`.
    """
    for _ in range(levels):
        moved = False
        for i in range(count):
            slot = _int64(trees.slot, at[i])
            column = (slot >> 9) & 0x3FFFFF
            value, byte = np.int32(tile[np.uint64(column * TILE + row + i * next_row)]), np.int32(np.int8(slot))
            second = (value & byte) == 0 if (slot >> 8) & 1 else value > byte
            to = (slot >> 32) + second
            moved |= to != at[i]
            at[i] = to
        if not moved:
            break


@_inlined
def _add(aggregate: int, weight: Any, place: Any, rows: int, sums: Any) -> None:
    """Aggregate a weight for each row, by place of its leaf."""
    if aggregate == 2:
        for i in range(rows):
            sums[i] = min(sums[i], weight[np.uint32(place[i])])
    elif aggregate == 3:
        for i in range(rows):
            sums[i] = max(sums[i], weight[np.uint32(place[i])])
    else:
        for i in range(rows):
            sums[i] += weight[np.uint32(place[i])]


@_inlined
def _aligned(size: int) -> Any:
    """Bytes that begin at a cache line."""
    made = np.empty(size + _LINE, dtype=np.int8)
    return made[-made.ctypes.data % _LINE :]


@njit(nogil=True, error_model="numpy", cache=True)
def score(
    columns: Any,
    to_float32: bool,
    bins_at: Any,
    trees_at: Any,
    weight: Any,
    aggregate: int,
    initial: float,
    out: Any,
    leaf_number: Any,
) -> None:
    """Aggregate the weights of the leaves that rows reach, tree by tree.

    Args:
        columns: int64 [features, 5], see `ADDRESS`.
        to_float32: values are rounded to float32 first.
        bins_at: int64, the fields of `Bins`, arrays by their address.
        trees_at: int64, the fields of `Trees`, arrays by their address.
        weight: float32 or float64 [weights], see `Trees`.
        aggregate: a value of `Aggregate`; the average is summed here.
        initial: the aggregate of no leaf.
        out: [rows, targets] of the weights' type, overwritten.
        leaf_number: int32 [rows, trees], overwritten with the number of each leaf; [0, 0] where nobody asks.
    """
    bins = Bins(*to_fixed_tuple(bins_at, _BIN_FIELDS))
    trees = Trees(*to_fixed_tuple(trees_at, _TREE_FIELDS))
    x, code, tile = np.empty(TILE), np.empty(TILE, np.int32), _aligned(bins.columns * TILE)
    at, place = np.empty(max(TILE, trees.trees), np.int64), np.empty(TILE, np.int32)
    sums = np.empty((out.shape[1], TILE), out.dtype)
    for row in range(0, len(out), TILE):
        rows = min(TILE, len(out) - row)
        for s in range(bins.sources):
            _read_column(columns, _int32(bins.feature, s), row, rows, to_float32, _float64(bins.zero_bound, s), x)
            _find_codes(bins, s, rows, x, code)
            _write_bytes(bins, s, rows, code, tile)
        sums[:] = initial
        if rows <= FEW_ROWS and not len(leaf_number):
            for i in range(rows):
                for tree in range(trees.trees):
                    at[tree] = _int64(trees.first_slot, tree)
                _walk(trees, trees.most_levels, tile, i, 0, trees.trees, at)
                for tree in range(trees.trees):
                    place[0] = _int32(trees.slot_leaf, at[tree])
                    for k in range(_int32(trees.first_weights, tree), _int32(trees.first_weights, tree + 1)):
                        own = weight[_int64(trees.weights_at, k) :]
                        _add(aggregate, own, place, 1, sums[_int32(trees.weights_target, k), i:])
        else:
            for tree in range(trees.trees):
                if _int32(trees.first_plane, tree) == _int32(trees.first_plane, tree + 1):
                    at[:rows] = _int64(trees.first_slot, tree)
                    _walk(trees, _int32(trees.levels, tree), tile, 0, 1, rows, at)
                    for i in range(rows):
                        place[i] = _int32(trees.slot_leaf, at[i])
                elif rows > TILE // 2:
                    _pass_tests(ones256(), trees, tree, tile, 0, place)
                else:
                    for part in range(0, rows, 64):
                        _pass_tests(ones64(), trees, tree, tile, part, place)
                for k in range(_int32(trees.first_weights, tree), _int32(trees.first_weights, tree + 1)):
                    own = weight[_int64(trees.weights_at, k) :]
                    _add(aggregate, own, place, rows, sums[_int32(trees.weights_target, k)])
                if len(leaf_number):
                    first = _int64(trees.first_leaf, tree)
                    for i in range(rows):
                        leaf_number[row + i, tree] = _int32(trees.leaf_number, first + place[i])
        for target in range(out.shape[1]):
            for i in range(rows):
                out[row + i, target] = sums[target, i]

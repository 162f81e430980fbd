"""The tree kernel: tiles of rows to bytes, bytes to leaves, leaves to sums. Compiled by Numba, cached on disk.

Everything here runs without the GIL and on one thread. A row's result depends on that row alone.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit, types
from numba.extending import intrinsic
from numpy.typing import NDArray

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
from rayforest.forest.pack import TILE

_LINE = 64  # bytes of a cache line, and of the widest vector
_compiled = njit(nogil=True, error_model="numpy", cache=True)
_inlined = njit(nogil=True, error_model="numpy", forceinline=True)  # a call would pass some 200 arguments


class Columns(NamedTuple):
    """Where the features lie in memory, one entry a feature."""

    address: NDArray[np.int64]
    """Of the first value."""
    stride: NDArray[np.int64]
    """Bytes from one value to the next."""
    is_float32: NDArray[np.bool_]
    """Else float64."""
    validity: NDArray[np.int64]
    """Address of Arrow's bitmap of values that are there, or 0."""
    validity_bit: NDArray[np.int64]
    """The first value's bit in it."""


def _read(llvm_type: Any) -> Any:
    """What reads a value of this type at an address."""

    @intrinsic
    def read(typing: Any, address: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            pointer = context.get_value_type(llvm_type).as_pointer()
            return builder.load(builder.inttoptr(arguments[0], pointer), align=1)

        return llvm_type(types.int64), code

    return read


@intrinsic
def _item(typing: Any, array: Any, index: Any) -> Any:
    """`array[index]` without the test for negative indices, which costs as much as the rest of a short loop."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        return builder.load(builder.gep(data, [arguments[1]]))

    return array.dtype(array, types.intp), code


_read_double, _read_float, _read_byte = _read(types.float64), _read(types.float32), _read(types.uint8)


@_inlined
def _read_column(columns: Columns, feature: int, row: int, rows: int, to_float32: bool, zero: float, x: Any) -> None:
    """Values of one feature as float64, missing ones as NaN."""
    stride = columns.stride[feature]
    address = columns.address[feature] + row * stride
    if columns.is_float32[feature]:
        if stride == 4:
            for i in range(rows):
                x[i] = _read_float(address + 4 * i)
        else:
            for i in range(rows):
                x[i] = _read_float(address + stride * i)
    elif stride == 8:
        for i in range(rows):
            x[i] = _read_double(address + 8 * i)
    else:
        for i in range(rows):
            x[i] = _read_double(address + stride * i)
    if to_float32 and not columns.is_float32[feature]:
        for i in range(rows):
            x[i] = np.float32(x[i])
    if columns.validity[feature] != 0:
        bit = columns.validity_bit[feature] + row
        for i in range(rows):
            byte = _read_byte(columns.validity[feature] + ((bit + i) >> 3))
            x[i] = x[i] if (byte >> ((bit + i) & 7)) & 1 else np.nan
    if zero >= 0:
        for i in range(rows):
            x[i] = np.nan if abs(x[i]) <= zero else x[i]


@_inlined
def _find_codes(bins: Any, s: int, rows: int, x: Any, code: Any) -> None:
    """How many cuts lie below each value: the grid's cell first, then the comparisons that are left."""
    low, scale, top = bins.grid_low[s], bins.grid_scale[s], bins.grid_top[s]
    if bins.by_bits[s]:
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
    cell, cut = bins.cell[bins.first_cell[s] :], bins.cut[bins.first_cut[s] :]
    step = 1 << (bins.steps[s] - 1)
    for i in range(rows):
        below = _item(cell, code[i])
        code[i] = below + step * (_item(cut, below + step - 1) < x[i])
    while step > 1:
        step >>= 1
        for i in range(rows):
            code[i] += step * (_item(cut, code[i] + step - 1) < x[i])
    nan_code = bins.nan_code[s]
    for i in range(rows):
        code[i] = nan_code if x[i] != x[i] else code[i]


@_inlined
def _write_bytes(bins: Any, s: int, rows: int, code: Any, tile: Any) -> None:
    """All byte columns of a source from its codes."""
    nan_code = bins.nan_code[s]
    for column in range(bins.first_column[s], bins.first_set_column[s]):
        base, flip, nan = bins.column_base[column] + 128, bins.column_flip[column], bins.column_nan[column]
        own = tile[column * TILE :]
        for i in range(rows):
            byte = np.int8(min(max(code[i] - base, np.int32(-128)), np.int32(127))) ^ flip
            own[i] = nan if code[i] == nan_code else byte
    first, width = bins.first_set_column[s], bins.first_column[s + 1] - bins.first_set_column[s]
    sets = bins.sets[bins.first_set[s] :]
    for k in range(width):
        own = tile[(first + k) * TILE :]
        for i in range(rows):
            own[i] = _item(sets, code[i] * width + k)


@_inlined
def _pass_tests(ones: Any, trees: Any, tree: int, tile: Any, row: int, place: Any) -> None:
    """The lowest leaf that all tests leave, for as many rows as `ones` has lanes."""
    first, end = _item(trees.first_plane, tree), _item(trees.first_plane, tree + 1)
    left = ones
    plane = fill(ones, np.int8(0))
    for p in range(end - 1, first - 1, -1):
        kept = ones
        set_test = _item(trees.first_set_test, p)
        for t in range(_item(trees.first_test, p), set_test):
            column = load(ones, tile, _item(trees.test_column, t) + row)
            cut, mask = fill(ones, _item(trees.test_byte, t)), fill(ones, _item(trees.test_mask, t))
            kept = keep_up_to(kept, column, cut, mask)
        for t in range(set_test, _item(trees.first_test, p + 1)):
            column = load(ones, tile, _item(trees.test_column, t) + row)
            bit, mask = fill(ones, _item(trees.test_byte, t)), fill(ones, _item(trees.test_mask, t))
            kept = keep_inside(kept, column, bit, mask)
        left = where_any(kept, kept, left)
        plane = where_any(kept, fill(ones, np.int8(p - first)), plane)
    store_places(place, row, plane, lowest_bit(left))


@_inlined
def _walk(trees: Any, tree: int, tile: Any, rows: int, at: Any, place: Any) -> None:
    """The place of the leaf that each row reaches, one level of the tree at a time."""
    for i in range(rows):
        at[i] = trees.first_slot[tree]
    for _ in range(trees.levels[tree]):
        moved = False
        for i in range(rows):
            slot = _item(trees.slot, at[i])
            column = (slot >> 9) & 0x3FFFFF
            value, byte = np.int32(_item(tile, column * TILE + i)), np.int32(np.int8(slot))
            second = (value & byte) == 0 if (slot >> 8) & 1 else value > byte
            to = (slot >> 32) + second
            moved |= to != at[i]
            at[i] = to
        if not moved:
            break
    for i in range(rows):
        place[i] = _item(trees.slot_leaf, at[i])


@_inlined
def _aligned(size: int) -> Any:
    """Bytes that begin at a cache line."""
    made = np.empty(size + _LINE, dtype=np.int8)
    return made[-made.ctypes.data % _LINE :]


@_inlined
def _add(aggregate: int, weight: Any, place: Any, rows: int, sums: Any) -> None:
    if aggregate == 2:
        for i in range(rows):
            sums[i] = min(sums[i], _item(weight, place[i]))
    elif aggregate == 3:
        for i in range(rows):
            sums[i] = max(sums[i], _item(weight, place[i]))
    else:
        for i in range(rows):
            sums[i] += _item(weight, place[i])


@_compiled
def score(
    columns: Columns,
    to_float32: bool,
    bins: Any,
    trees: Any,
    aggregate: int,
    initial: float,
    out: Any,
    leaf_number: Any,
) -> None:
    """Aggregate the weights of the leaves that rows reach, tree by tree.

    Args:
        columns: the features.
        to_float32: values are rounded to float32 first.
        bins: a `Bins`.
        trees: a `Trees`.
        aggregate: a value of `Aggregate`; the average is summed here.
        initial: the aggregate of no leaf.
        out: [rows, targets] of the weights' type, overwritten.
        leaf_number: int32 [rows, trees], overwritten with the number of each leaf; [0, 0] where nobody asks.
    """
    x, code, tile = np.empty(TILE), np.empty(TILE, np.int32), _aligned(len(bins.column_base) * TILE)
    at, place = np.empty(TILE, np.int64), np.empty(TILE, np.int32)
    sums = np.empty((out.shape[1], TILE), out.dtype)
    for row in range(0, len(out), TILE):
        rows = min(TILE, len(out) - row)
        for s in range(len(bins.feature)):
            _read_column(columns, bins.feature[s], row, rows, to_float32, bins.zero_bound[s], x)
            _find_codes(bins, s, rows, x, code)
            _write_bytes(bins, s, rows, code, tile)
        sums[:] = initial
        for tree in range(len(trees.levels)):
            if trees.first_slot[tree] >= 0:
                _walk(trees, tree, tile, rows, at, place)
            elif rows > TILE // 2:
                _pass_tests(ones256(), trees, tree, tile, 0, place)
            else:
                for part in range(0, rows, 64):
                    _pass_tests(ones64(), trees, tree, tile, part, place)
            for k in range(trees.first_weights[tree], trees.first_weights[tree + 1]):
                _add(aggregate, trees.weight[trees.weights_at[k] :], place, rows, sums[trees.weights_target[k]])
            if len(leaf_number):
                first = trees.first_leaf[tree]
                for i in range(rows):
                    leaf_number[row + i, tree] = _item(trees.leaf_number, first + place[i])
        for target in range(out.shape[1]):
            for i in range(rows):
                out[row + i, target] = sums[target, i]

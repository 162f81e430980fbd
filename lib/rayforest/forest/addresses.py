"""Memory by its address, as Numba values: items, items at a distance, and arrays that own nothing."""

# ruff: noqa: ARG001  intrinsics have typed signatures

from __future__ import annotations

from typing import Any

from numba import types
from numba.np import arrayobj

from rayforest.forest.lanes import intrinsic

make_array: Any = arrayobj.make_array
populate_array: Any = arrayobj.populate_array


def _reader(kind: Any) -> Any:
    """What reads the item of this type at `address + stride * index`."""

    def read(typing: Any, address: Any, index: Any, stride: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            at = builder.add(arguments[0], builder.mul(arguments[1], arguments[2]))
            return builder.load(builder.inttoptr(at, context.get_value_type(kind).as_pointer()), align=1)

        return kind(types.int64, types.int64, types.int64), code

    return intrinsic(read)


strided_float64, strided_float32 = map(_reader, (types.float64, types.float32))


def _item_reader(kind: Any) -> Any:
    """What reads `array[index]` of an array of this type at an address."""

    def read(typing: Any, address: Any, index: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            array = builder.inttoptr(arguments[0], context.get_value_type(kind).as_pointer())
            return builder.load(builder.gep(array, [arguments[1]]))

        return kind(types.int64, types.int64), code

    return intrinsic(read)


uint8_at, int8_at, int32_at, int64_at, float32_at, float64_at = map(
    _item_reader, (types.uint8, types.int8, types.int32, types.int64, types.float32, types.float64)
)


def array_maker(kind: Any) -> Any:
    """What makes an array of this type and of `size` items of the memory at an address."""
    array = types.Array(kind, 1, "C")

    def make(typing: Any, address: Any, size: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            made = make_array(array)(context, builder)
            width = context.get_constant(types.intp, context.get_abi_sizeof(context.get_data_type(kind)))
            data = builder.inttoptr(arguments[0], context.get_data_type(kind).as_pointer())
            populate_array(made, data, [arguments[1]], [width], width, None)
            return made._getvalue()

        return array(types.int64, types.int64), code

    return intrinsic(make)


int8s, int32s, int64s, float64s = map(array_maker, (types.int8, types.int32, types.int64, types.float64))

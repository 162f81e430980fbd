"""Vectors of bytes as Numba values: one lane a row.

Numba has no vector types, and LLVM does not find these loops by itself. A value of type `Lanes(n)` is an LLVM vector of
n bytes, and the few operations below are an LLVM instruction or two each; LLVM lowers them to what the CPU has, from
AVX-512 (64 bytes an instruction) down to SSE2 and NEON (16).
"""

# ruff: noqa: ARG001, ARG005  Numba calls intrinsics with all arguments, and looks at their names

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba.extending
from llvmlite import ir
from numba import types

_BYTE, _INT, _BIT = ir.IntType(8), ir.IntType(32), ir.IntType(1)


def intrinsic(define: Callable[..., Any]) -> Any:
    """Numba's decorator of functions that return a signature and what emits LLVM code."""
    return numba.extending.intrinsic(define)


class Lanes(types.Type):
    """The Numba type of a vector of signed bytes."""

    def __init__(self, count: int) -> None:
        self.count = count
        super().__init__(f"Lanes({count})")

    @property
    def vector(self) -> Any:
        """The LLVM type."""
        return ir.VectorType(_BYTE, self.count)

    def every(self, value: int) -> Any:
        """A constant with this value in every lane."""
        return ir.Constant(self.vector, [value] * self.count)


@numba.extending.register_model(Lanes)
class _LanesModel(numba.extending.models.PrimitiveModel):
    def __init__(self, manager: Any, lanes: Lanes) -> None:
        super().__init__(manager, lanes, lanes.vector)  # type: ignore[no-untyped-call]


def _ones(count: int) -> Any:
    lanes = Lanes(count)

    def ones(typing: Any) -> Any:
        return lanes(), lambda context, builder, signature, arguments: lanes.every(-1)

    return intrinsic(ones)


ones64, ones256 = _ones(64), _ones(256)
"""All bits of all lanes. With AVX-512, 64 lanes are one register, and 256 are four, which share the loads of a test."""


def _address(context: Any, builder: Any, signature: Any, arguments: Any, vector: Any) -> Any:
    """Where a vector lies in the array of the first argument, the second argument's items behind its begin."""
    data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
    return builder.bitcast(builder.gep(data, [arguments[1]]), vector.as_pointer())


@intrinsic
def load(typing: Any, array: Any, offset: Any, like: Lanes) -> Any:
    """Bytes of an int8 array from `offset` on, as many as `like` has lanes."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.load(_address(context, builder, signature, arguments, like.vector), align=1)

    return like(array, types.intp, like), code


@intrinsic
def store_places(typing: Any, array: Any, offset: Any, plane: Lanes, bit: Lanes) -> Any:
    """Write 8 * plane + bit, both unsigned, to an int32 array from `offset` on."""
    wide = ir.VectorType(_INT, plane.count)

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        eightfold = builder.shl(builder.zext(arguments[2], wide), ir.Constant(wide, [3] * plane.count))
        places = builder.add(eightfold, builder.zext(arguments[3], wide))
        builder.store(places, _address(context, builder, signature, arguments, wide), align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, plane, bit), code


@intrinsic
def fill(typing: Any, byte: Any, like: Lanes) -> Any:
    """A byte in every lane."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        undefined = ir.Constant(like.vector, ir.Undefined)
        first = builder.insert_element(undefined, arguments[0], _INT(0))
        return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(_INT, like.count), [0] * like.count))

    return like(types.int8, like), code


def _keep(passes: Callable[[Any, Lanes, Any, Any], Any]) -> Any:
    """Kept lanes as they are where a test passes, and with a mask's bits only where it fails."""

    def keep(typing: Any, kept: Lanes, column: Lanes, byte: Lanes, mask: Lanes) -> Any:
        def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            kept_, column_, byte_, mask_ = arguments
            passed = builder.sext(passes(builder, kept, column_, byte_), kept.vector)
            return builder.and_(kept_, builder.or_(mask_, passed))

        return kept(kept, kept, kept, kept), code

    return intrinsic(keep)


keep_up_to = _keep(lambda builder, lanes, column, cut: builder.icmp_signed("<=", column, cut))
keep_inside = _keep(
    lambda builder, lanes, column, bit: builder.icmp_signed("!=", builder.and_(column, bit), lanes.every(0))
)


@intrinsic
def where_any(typing: Any, bits: Lanes, chosen: Lanes, otherwise: Lanes) -> Any:
    """`chosen` where any of the bits is set, `otherwise` elsewhere."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        bits_, chosen_, otherwise_ = arguments
        return builder.select(builder.icmp_signed("!=", bits_, bits.every(0)), chosen_, otherwise_)

    return bits(bits, bits, bits), code


@intrinsic
def lowest_bit(typing: Any, bits: Lanes) -> Any:
    """The number of each lane's lowest set bit, 0 to 7; no lane may be 0."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        name = f"llvm.cttz.v{bits.count}i8"
        kind = ir.FunctionType(bits.vector, [bits.vector, _BIT])
        function = builder.module.globals.get(name) or ir.Function(builder.module, kind, name)
        return builder.call(function, [arguments[0], _BIT(1)])

    return bits(bits), code

"""Vectors of bytes as Numba values: one lane a row.

Numba has no vector types, and LLVM does not find these loops by itself. A value of type `Lanes(n)` is an LLVM vector of
n bytes, and the few operations below are one LLVM instruction or two each; LLVM lowers them to what the CPU has, from
AVX-512 (64 bytes an instruction) down to SSE2 or NEON (16).
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic, models, register_model

_BYTE, _INT, _BIT = ir.IntType(8), ir.IntType(32), ir.IntType(1)


class Lanes(types.Type):
    """The Numba type of a vector of signed bytes."""

    def __init__(self, count: int) -> None:
        self.count = count
        super().__init__(f"Lanes({count})")


@register_model(Lanes)
class _LanesModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, lanes: Lanes) -> None:
        super().__init__(manager, lanes, _vector(lanes))


def _vector(lanes: Lanes) -> ir.VectorType:
    return ir.VectorType(_BYTE, lanes.count)


def _repeated(lanes: Lanes, value: int) -> ir.Constant:
    return ir.Constant(_vector(lanes), [value] * lanes.count)


def _address(context: Any, builder: Any, array_type: Any, array: Any, offset: Any, lanes: Lanes) -> Any:
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [offset]), _vector(lanes).as_pointer())


def _and_keep(builder: Any, lanes: Lanes, kept: Any, passed: Any, mask: Any) -> Any:
    """kept & (passed ? all bits : mask)."""
    return builder.and_(kept, builder.or_(mask, builder.sext(passed, _vector(lanes))))


@intrinsic
def ones64(typing: Any) -> Any:
    """64 lanes with all bits set: with AVX-512 one register."""
    lanes = Lanes(64)
    return lanes(), lambda context, builder, signature, arguments: _repeated(lanes, -1)


@intrinsic
def ones256(typing: Any) -> Any:
    """256 lanes with all bits set: with AVX-512 four registers, which share the loads of a test."""
    lanes = Lanes(256)
    return lanes(), lambda context, builder, signature, arguments: _repeated(lanes, -1)


@intrinsic
def fill(typing: Any, like: Lanes, byte: Any) -> Any:
    """A byte in every lane, as wide as `like`."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        undefined = ir.Constant(_vector(like), ir.Undefined)
        first = builder.insert_element(undefined, arguments[1], _INT(0))
        return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(_INT, like.count), [0] * like.count))

    return like(like, types.int8), code


@intrinsic
def load(typing: Any, like: Lanes, array: Any, offset: Any) -> Any:
    """Bytes of an int8 array from `offset` on, as wide as `like`."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        address = _address(context, builder, signature.args[1], arguments[1], arguments[2], like)
        return builder.load(address, align=1)

    return like(like, array, types.intp), code


@intrinsic
def store_places(typing: Any, array: Any, offset: Any, plane: Lanes, bit: Lanes) -> Any:
    """Write 8 * plane + bit, both unsigned, to an int32 array from `offset` on."""
    wide = ir.VectorType(_INT, plane.count)

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        address = builder.bitcast(builder.gep(data, [arguments[1]]), wide.as_pointer())
        eightfold = builder.shl(builder.zext(arguments[2], wide), ir.Constant(wide, [3] * plane.count))
        builder.store(builder.add(eightfold, builder.zext(arguments[3], wide)), address, align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, plane, bit), code


@intrinsic
def keep_up_to(typing: Any, kept: Lanes, column: Lanes, cut: Lanes, mask: Lanes) -> Any:
    """Kept & (mask where column > cut)."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kept_, column_, cut_, mask_ = arguments
        return _and_keep(builder, kept, kept_, builder.icmp_signed("<=", column_, cut_), mask_)

    return kept(kept, kept, kept, kept), code


@intrinsic
def keep_inside(typing: Any, kept: Lanes, column: Lanes, bit: Lanes, mask: Lanes) -> Any:
    """Kept & (mask where column & bit == 0)."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kept_, column_, bit_, mask_ = arguments
        inside = builder.icmp_signed("!=", builder.and_(column_, bit_), _repeated(kept, 0))
        return _and_keep(builder, kept, kept_, inside, mask_)

    return kept(kept, kept, kept, kept), code


@intrinsic
def where_any(typing: Any, bits: Lanes, chosen: Lanes, otherwise: Lanes) -> Any:
    """`chosen` where any of the bits is set, `otherwise` elsewhere."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        bits_, chosen_, otherwise_ = arguments
        return builder.select(builder.icmp_signed("!=", bits_, _repeated(bits, 0)), chosen_, otherwise_)

    return bits(bits, bits, bits), code


@intrinsic
def lowest_bit(typing: Any, bits: Lanes) -> Any:
    """The number of each lane's lowest set bit, 0 to 7; no lane may be 0."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        vector, name = _vector(bits), f"llvm.cttz.v{bits.count}i8"
        function = builder.module.globals.get(name)
        if function is None:
            function = ir.Function(builder.module, ir.FunctionType(vector, [vector, _BIT]), name)
        return builder.call(function, [arguments[0], _BIT(1)])

    return bits(bits), code

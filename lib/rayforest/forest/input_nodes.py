"""What stands between a model's input and its trees, read as one function of one feature for each column.

Understands the nodes that `rayforest.onnx` writes (zeros that count as missing, categories) and the casts that other
converters write. Everything else is refused by name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum, auto

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from rayforest.errors import ConfigError
from rayforest.forest.ensemble import Floats, InputColumn


@dataclass(frozen=True)
class TreeInput:
    """The matrix on which the trees split."""

    columns: tuple[InputColumn, ...] | None
    """None: the features as they are, whatever their number."""
    n_features: int | None
    float32: bool
    """Values are rounded to float32 on the way."""


class _State(Enum):
    """How far a column has come through a chain of nodes."""

    VALUE = auto()
    MAGNITUDE = auto()
    IS_ZERO = auto()
    IS_MISSING = auto()
    CODE = auto()
    """Missing is -1."""
    CAPPED = auto()
    BOUNDED = auto()
    ROW = auto()
    """Truncated to an integer."""


@dataclass(frozen=True)
class _Part:
    """A column on its way."""

    column: InputColumn
    state: _State = _State.VALUE
    last: int = 0
    """The code at which it was capped."""


@dataclass(frozen=True)
class _Matrix:
    parts: tuple[_Part, ...] | None
    """None: the input's columns as they are."""
    float32: bool = False


_Constant = NDArray[np.generic]


def read_tree_input(model: onnx.ModelProto, name: str) -> TreeInput:
    """Read the nodes that lead to the value called `name`.

    Raises:
        ConfigError: the model has several inputs, one that is no matrix of floats, or nodes that are not understood.
    """
    reader = _Reader(model)
    matrix = reader.read(name)
    if matrix.parts is None:
        return TreeInput(None, reader.n_features, matrix.float32)
    if unfinished := [p.state.name for p in matrix.parts if p.state is not _State.VALUE]:
        raise _refused(f"columns left as {unfinished[0]}")
    return TreeInput(tuple(p.column for p in matrix.parts), reader.n_features, matrix.float32)


def _refused(found: str) -> ConfigError:
    return ConfigError(
        "the tree kernel cannot read what the model does before its trees",
        expected="one matrix of float or double, and the nodes that rayforest.onnx.from_lightgbm writes",
        found=found,
        next_step="score this model with onnxruntime",
    )


class _Reader:
    def __init__(self, model: onnx.ModelProto) -> None:
        graph = model.graph
        self._constants: dict[str, _Constant] = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
        inputs = [i for i in graph.input if i.name not in self._constants]
        if len(inputs) != 1:
            raise _refused(f"{len(inputs)} inputs")
        self._input = inputs[0]
        tensor = self._input.type.tensor_type
        if tensor.elem_type not in {TensorProto.FLOAT, TensorProto.DOUBLE} or len(tensor.shape.dim) not in {0, 2}:
            kind = helper.tensor_dtype_to_string(tensor.elem_type) if tensor.elem_type else "no tensor"
            raise _refused(f"an input of {kind} with {len(tensor.shape.dim)} dimensions")
        width = tensor.shape.dim[1].dim_value if len(tensor.shape.dim) == 2 else 0
        self.n_features: int | None = width or None
        self._float32 = tensor.elem_type == TensorProto.FLOAT
        self._producer = {name: node for node in graph.node for name in node.output}
        self._read: dict[str, _Matrix] = {}

    def read(self, name: str) -> _Matrix:
        if name == self._input.name:
            return _Matrix(None, self._float32)
        if name not in self._read:
            node = self._producer.get(name)
            step = _STEPS.get(node.op_type) if node is not None and node.domain in {"", "ai.onnx"} else None
            if node is None or step is None:
                raise _refused(f"the operator {node.op_type}" if node is not None else f"a value {name!r} of no node")
            made = step(self, node)
            if made is None:
                raise _refused(f"the operator {node.op_type} in another place")
            self._read[name] = made
        return self._read[name]

    def constant(self, name: str) -> _Constant | None:
        node = self._producer.get(name)
        if node is not None and node.op_type == "Constant" and node.attribute[0].name == "value":
            return numpy_helper.to_array(node.attribute[0].t)
        return self._constants.get(name)

    def scalar(self, name: str) -> float | None:
        constant = self.constant(name)
        return None if constant is None or constant.size != 1 else float(constant.reshape(()))

    def parts(self, name: str, state: _State) -> tuple[_Part, ...] | None:
        """The columns of a value, if all of them have come as far as `state`."""
        matrix = self.read(name)
        parts = matrix.parts
        if parts is None:
            if self.n_features is None:
                return None
            parts = tuple(_Part(InputColumn(i)) for i in range(self.n_features))
        return parts if all(p.state is state for p in parts) else None

    def is_float32(self, name: str) -> bool:
        return self.read(name).float32


def _advance(source: _State, target: _State) -> Callable[[_Reader, onnx.NodeProto], _Matrix | None]:
    """A node of one input that carries each column on."""

    def step(reader: _Reader, node: onnx.NodeProto) -> _Matrix | None:
        parts = reader.parts(node.input[0], source)
        if parts is None:
            return None
        return _Matrix(tuple(replace(p, state=target) for p in parts), reader.is_float32(node.input[0]))

    return step


def _identity(reader: _Reader, node: onnx.NodeProto) -> _Matrix:
    return reader.read(node.input[0])


def _cast(reader: _Reader, node: onnx.NodeProto) -> _Matrix | None:
    to = helper.get_node_attr_value(node, "to")
    matrix = reader.read(node.input[0])
    if to == TensorProto.INT64:
        return _advance(_State.BOUNDED, _State.ROW)(reader, node)
    if to == TensorProto.DOUBLE:  # exact from everything that comes here
        return matrix
    return replace(matrix, float32=True) if to == TensorProto.FLOAT and matrix.parts is None else None


def _concat(reader: _Reader, node: onnx.NodeProto) -> _Matrix | None:
    if helper.get_node_attr_value(node, "axis") not in {1, -1}:
        return None
    parts: list[_Part] = []
    for name in node.input:
        own = reader.parts(name, _State.VALUE)
        if own is None:
            return None
        parts += own
    return _Matrix(tuple(parts), any(reader.is_float32(name) for name in node.input))


def _gather(reader: _Reader, node: onnx.NodeProto) -> _Matrix | None:
    axis = next((a.i for a in node.attribute if a.name == "axis"), 0)
    table, chosen = reader.constant(node.input[0]), reader.constant(node.input[1])
    if table is not None and axis == 0 and table.ndim == 2:
        return _look_up(reader, node.input[1], table)
    if chosen is None or axis != 1:
        return None
    state = _State.ROW if chosen.ndim == 0 else _State.VALUE
    parts = reader.parts(node.input[0], state)
    if parts is None:
        return None
    taken = tuple(parts[int(i)] for i in np.atleast_1d(chosen))
    return _Matrix(taken, reader.is_float32(node.input[0]))


def _look_up(reader: _Reader, row: str, table: _Constant) -> _Matrix | None:
    """Rows of a table of classes: each of its columns is a class of the one feature."""
    parts = reader.parts(row, _State.ROW)
    if parts is None or len(parts) != 1 or parts[0].last != len(table) - 1:
        return None
    classes: Floats = table.astype(np.float64)
    columns = (replace(parts[0].column, classes=np.ascontiguousarray(c)) for c in classes.T)
    return _Matrix(tuple(_Part(c) for c in columns), reader.is_float32(row))


def _less_or_equal(reader: _Reader, node: onnx.NodeProto) -> _Matrix | None:
    bound, parts = reader.scalar(node.input[1]), reader.parts(node.input[0], _State.MAGNITUDE)
    if bound is None or parts is None:
        return None
    zeros = tuple(replace(p, column=replace(p.column, zero_bound=bound), state=_State.IS_ZERO) for p in parts)
    return _Matrix(zeros, reader.is_float32(node.input[0]))


def _where(reader: _Reader, node: onnx.NodeProto) -> _Matrix | None:
    """NaN where a value is zero; or -1 where it is missing."""
    condition, chosen, otherwise = node.input
    constant, values = reader.scalar(chosen), reader.parts(otherwise, _State.VALUE)
    for state, expected, result in (
        (_State.IS_ZERO, np.nan, _State.VALUE),
        (_State.IS_MISSING, -1.0, _State.CODE),
    ):
        tested = reader.parts(condition, state)
        if tested is None or values is None or constant is None or not np.array_equal(constant, expected, True):
            continue
        if [t.column.feature for t in tested] == [v.column.feature for v in values]:
            made = tuple(replace(t, state=result) for t in tested)
            return _Matrix(made, reader.is_float32(otherwise))
    return None


def _min(reader: _Reader, node: onnx.NodeProto) -> _Matrix | None:
    parts, last = reader.parts(node.input[0], _State.CODE), reader.constant(node.input[1])
    if parts is None or last is None or last.size != len(parts):
        return None
    capped = tuple(replace(p, state=_State.CAPPED, last=int(n)) for p, n in zip(parts, last.reshape(-1), strict=True))
    return _Matrix(capped, reader.is_float32(node.input[0]))


def _max(reader: _Reader, node: onnx.NodeProto) -> _Matrix | None:
    return _advance(_State.CAPPED, _State.BOUNDED)(reader, node) if reader.scalar(node.input[1]) == -1.0 else None


_STEPS: dict[str, Callable[[_Reader, onnx.NodeProto], _Matrix | None]] = {
    "Identity": _identity,
    "Cast": _cast,
    "Concat": _concat,
    "Gather": _gather,
    "Abs": _advance(_State.VALUE, _State.MAGNITUDE),
    "IsNaN": _advance(_State.VALUE, _State.IS_MISSING),
    "LessOrEqual": _less_or_equal,
    "Where": _where,
    "Min": _min,
    "Max": _max,
}

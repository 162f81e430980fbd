"""How values of the feature language stand in an ONNX graph, and the nodes that every operation is built from.

Of shape [rows, 1], or a constant: numbers as double with NaN for null, strings with '' for null, timestamps as int64
microseconds with the smallest int64 for null, booleans as two tensors, "is true" and "is false", both false for null.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, TypeAlias

import numpy as np
from onnx import numpy_helper

from rayforest.kinds import Kind
from rayforest.onnx.graph import ML_DOMAIN, Graph
from rayforest.sql.nodes import EARLIEST_MICROS, LATEST_MICROS, Literal

NULL_MICROS = -(2**63)
"""The null of a timestamp in the graph."""


@dataclass(frozen=True)
class Truth:
    """A boolean as the names of two tensors that are never both true."""

    yes: str
    no: str


Value: TypeAlias = str | Truth


class ValueNodes:
    """Appends nodes to a graph; equal nodes are made once, also across expressions."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._made: dict[tuple[object, ...], str] = {}

    def op(self, op_type: str, *inputs: str, **attributes: Any) -> str:
        """The output of a node with these inputs, which may have been made before."""
        key = (op_type, inputs, repr(sorted(attributes.items())))
        if key not in self._made:
            self._made[key] = self.graph.add(op_type, *inputs, **attributes)
        return self._made[key]

    def double(self, value: float) -> str:
        return self.graph.constant(np.float64(value))

    def integer(self, value: int) -> str:
        return self.graph.constant(np.int64(value))

    def text(self, value: str) -> str:
        return self.graph.constant(np.array(value, dtype=object))

    def boolean(self, value: bool) -> str:
        return self.graph.constant(np.bool_(value))

    def all(self, *conditions: str) -> str:
        return reduce(lambda left, right: self.op("And", left, right), conditions)

    def any(self, *conditions: str) -> str:
        return reduce(lambda left, right: self.op("Or", left, right), conditions)

    def opposite(self, condition: str) -> str:
        return self.op("Not", condition)

    def null(self, kind: Kind) -> str:
        """The null of a kind that stands in one tensor."""
        match kind:
            case Kind.NUMBER:
                return self.double(float("nan"))
            case Kind.STRING:
                return self.text("")
            case _:
                return self.integer(NULL_MICROS)

    def is_null(self, value: Value, kind: Kind) -> str:
        if isinstance(value, Truth):
            return self.opposite(self.any(value.yes, value.no))
        return self.op("IsNaN", value) if kind is Kind.NUMBER else self.op("Equal", value, self.null(kind))

    def choose(self, condition: str, value: Value, otherwise: Value) -> Value:
        """The value where the condition is true."""
        if isinstance(value, Truth) and isinstance(otherwise, Truth):
            return Truth(
                self._choose_truth(condition, value.yes, otherwise.yes),
                self._choose_truth(condition, value.no, otherwise.no),
            )
        assert isinstance(value, str)  # noqa: S101  the typed tree has one kind on both sides
        assert isinstance(otherwise, str)  # noqa: S101
        return self.where(condition, value, otherwise)

    def where(self, condition: str, value: str, otherwise: str) -> str:
        return self.op("Where", condition, value, otherwise)

    def _choose_truth(self, condition: str, value: str, otherwise: str) -> str:
        # onnxruntime's Where takes no booleans.
        return self.any(self.all(condition, value), self.all(self.opposite(condition), otherwise))

    def looked_up(self, value: str, keys: Sequence[str | float], codes: Sequence[float], default: float) -> str:
        """The double code of a string or a double; at least one key."""
        tensors = {
            "keys_tensor": np.array(keys, dtype=object if isinstance(keys[0], str) else np.float64),
            "values_tensor": np.array(codes, dtype=np.float64),
            "default_tensor": np.array([default], dtype=np.float64),
        }
        attributes = {name: numpy_helper.from_array(array, name) for name, array in tensors.items()}
        return self.graph.add("LabelEncoder", value, domain=ML_DOMAIN, **attributes)

    def column(self, name: str, kind: Kind) -> Value:
        """The value of a raw column, whose input has that name."""
        if kind is Kind.BOOLEAN:
            zero = self.double(0)
            return Truth(self.op("Greater", self.op("Abs", name), zero), self.op("Equal", name, zero))
        return self.in_calendar(name) if kind is Kind.TIMESTAMP else name

    def in_calendar(self, micros: str, *conditions: str) -> str:
        """Microseconds where they lie in the years 1 to 9999 and all the conditions hold, else null."""
        late_enough = self.op("LessOrEqual", self.integer(EARLIEST_MICROS), micros)
        early_enough = self.op("LessOrEqual", micros, self.integer(LATEST_MICROS))
        return self.where(self.all(late_enough, early_enough, *conditions), micros, self.integer(NULL_MICROS))

    def unsigned_zero(self, number: str) -> str:
        """The number with 0.0 for -0.0. onnxruntime takes an addition of 0 out, and its Where loses the sign anyway."""
        return self.where(self.op("Equal", number, self.double(0)), self.double(0), number)

    def literal(self, node: Literal) -> Value:
        if node.kind is Kind.BOOLEAN:
            return Truth(self.boolean(node.value is True), self.boolean(node.value is False))
        match node.value:
            case None:
                return self.null(node.kind)
            case str():
                return self.text(node.value)
            case _:
                return self.double(node.value) if node.kind is Kind.NUMBER else self.integer(int(node.value))

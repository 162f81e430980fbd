"""An ONNX graph under construction: nodes and constants with unique names."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import AttributeProto, TensorProto, ValueInfoProto, helper, numpy_helper

OPSET = 21
"""Version of the standard operators that our graphs ask for."""
ML_OPSET = 5
"""Version of ai.onnx.ml: the first with TreeEnsemble, and with it categorical splits and trees in double."""
ML_DOMAIN = "ai.onnx.ml"
IR_VERSION = 10
"""Format of the file that goes with these operator versions; onnxruntime 1.23 reads it."""


class Graph:
    """Collects nodes in topological order. Every name begins with `prefix`, so that graphs can be joined.

    The operators used must exist in ai.onnx `OPSET` and ai.onnx.ml `ML_OPSET`.
    """

    def __init__(self, prefix: str = "") -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[TensorProto] = []
        self._prefix = prefix
        self._constants: dict[tuple[str, tuple[int, ...], bytes], str] = {}

    def add(self, op_type: str, *inputs: str, output: str | None = None, domain: str = "", **attributes: Any) -> str:
        """Append a node with one output and return the output's name (made up, unless `output` is given).

        An attribute may be an `AttributeProto` made before; the keyword is then ignored.
        """
        output = output or f"{self._prefix}{op_type}_{len(self.nodes)}"
        node = helper.make_node(op_type, list(inputs), [output], name=f"{output}_node", domain=domain)
        for name, value in attributes.items():
            made = value if isinstance(value, AttributeProto) else helper.make_attribute(name, value)
            node.attribute.append(made)
        self.nodes.append(node)
        return output

    def constant(self, value: NDArray[Any] | np.generic | float) -> str:
        """A constant of the value's dtype (a float is a double); equal constants are stored once."""
        array = np.ascontiguousarray(value) if np.ndim(value) else np.asarray(value)
        stored = array.astype(np.str_) if array.dtype == object else array  # an object array's bytes are addresses
        key = (array.dtype.str, array.shape, stored.tobytes())
        if key not in self._constants:
            name = f"{self._prefix}constant_{len(self._constants)}"
            self._constants[key] = name
            self.initializers.append(numpy_helper.from_array(array, name))
        return self._constants[key]

    def model(
        self,
        name: str,
        inputs: list[ValueInfoProto],
        outputs: list[ValueInfoProto],
        *,
        doc: str = "",
        metadata: dict[str, str] | None = None,
    ) -> onnx.ModelProto:
        """The finished model, with rayforest as the producer and `metadata` as its properties."""
        graph = helper.make_graph(self.nodes, name, inputs, outputs, initializer=self.initializers, doc_string=doc)
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(ML_DOMAIN, ML_OPSET)]
        model = helper.make_model(
            graph,
            opset_imports=opsets,
            ir_version=IR_VERSION,
            producer_name="rayforest",
            producer_version=version("rayforest"),
        )
        helper.set_model_props(model, metadata or {})
        return model


def double_matrix(name: str, columns: int) -> ValueInfoProto:
    """A double value of shape [rows, columns]."""
    return helper.make_tensor_value_info(name, TensorProto.DOUBLE, ["rows", columns])


def double_vector(name: str) -> ValueInfoProto:
    """A double value of shape [rows]."""
    return helper.make_tensor_value_info(name, TensorProto.DOUBLE, ["rows"])

"""From the probabilities of classes to the user's own label, as graph nodes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, ValueInfoProto, helper

from rayforest.errors import ConfigError
from rayforest.onnx.graph import Graph

THRESHOLD = 0.5
"""Of two classes, the second one is predicted where its probability is above this."""


def append_label(graph: Graph, probability: str, labels: Sequence[str | float], *, output: str) -> ValueInfoProto:
    """Append the choice of a label, `output` of shape [rows], and describe it.

    Args:
        graph: computes `probability`.
        probability: double [rows, 1], of the second of two labels, or [rows, labels]; the first of equal ones wins.
        labels: all texts, all booleans, or all numbers: int64, or double where one is a float.
        output: name of the label.
    """
    values = label_values(labels)
    first_axis = graph.constant(np.array([1], dtype=np.int64))
    if len(labels) > 2:
        chosen = graph.add("ArgMax", probability, axis=1, keepdims=0)
        graph.add("Gather", graph.constant(values), chosen, output=output)
    else:
        is_second = graph.add("Squeeze", graph.add("Greater", probability, graph.constant(THRESHOLD)), first_axis)
        if values.dtype == np.bool_:
            graph.add("Identity" if values[1] else "Not", is_second, output=output)
        else:
            chosen = graph.add("Cast", is_second, to=TensorProto.INT64)
            graph.add("Gather", graph.constant(values), chosen, output=output)
    return helper.make_tensor_value_info(output, _TYPES[values.dtype.kind], ["rows"])


_TYPES = {
    "O": TensorProto.STRING,
    "b": TensorProto.BOOL,
    "i": TensorProto.INT64,
    "f": TensorProto.DOUBLE,
}


def label_values(labels: Sequence[str | float]) -> NDArray[Any]:
    """Labels as an array: objects for text, bool, int64, or float64 where one is a float."""
    if isinstance(labels[0], str):
        return np.array(labels, dtype=object)
    if isinstance(labels[0], bool):
        return np.array(labels, dtype=np.bool_)
    return np.array(labels, dtype=np.int64 if all(isinstance(label, int) for label in labels) else np.float64)


def check_labels(labels: Sequence[str | float], outputs: int) -> None:
    """Refuse labels that are not those of so many outputs.

    Raises:
        ConfigError: one output has two labels, several have one each.
    """
    expected = 2 if outputs == 1 else outputs
    if len(labels) != expected or len(set(labels)) < len(labels):
        raise ConfigError(
            "the labels do not fit the model's classes",
            expected=f"{expected} labels that differ",
            found=f"{len(set(labels))} of them",
            next_step="give each class one label, in the order of the model's classes",
        )

"""From raw scores to predictions by the model's own operators, whichever engine added up the trees."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx

from rayforest.errors import BundleError
from rayforest.onnx.graph import double_matrix
from rayforest.onnx.runtime import predicted_output, runtime_session

Array = npt.NDArray[np.float64]

ROWS_A_CALL = 8_192
"""Rows of one call: what lies between the operators stays in the cache."""
_LANES = 16
"""onnxruntime computes the exponential of several doubles at once, and with another function, which may differ in the
last bit, of those that are left over. Rows are filled up to a multiple of this, so that none are left over, and a row's
prediction does not depend on its place."""


class Link:
    """The part of a model of `rayforest.onnx` behind the trees. Safe to share between threads."""

    def __init__(self, trees: onnx.ModelProto) -> None:
        """Cut it out of a model with the outputs `raw_score` and `probability`, or `prediction` without labels.

        Raises:
            BundleError: the model has other outputs.
        """
        self._output = predicted_output(trees)
        model = _behind_the_trees(trees, self._output)
        self._session = runtime_session(model.SerializeToString()) if model.graph.node else None

    def __call__(self, raw_score: Array) -> Array:
        """Predictions as `Booster.predict` gives them.

        Args:
            raw_score: float64 [rows, outputs].

        Returns:
            float64 [rows] for one output, else [rows, outputs].
        """
        rows = len(raw_score)
        if self._session is None:
            return raw_score[:, 0] if raw_score.shape[1] == 1 else raw_score
        parts = []
        for start in range(0, rows, ROWS_A_CALL):
            part = np.ascontiguousarray(raw_score[start : start + ROWS_A_CALL])
            if spare := -len(part) % _LANES:
                part = np.concatenate([part, np.zeros((spare, part.shape[1]))])
            parts.append(self._session.run([self._output], {"raw_score": part})[0])
        if not parts:
            return np.empty(0 if raw_score.shape[1] == 1 else (0, raw_score.shape[1]))
        found = np.concatenate(parts)[:rows]
        return found if raw_score.shape[1] > 1 else found.reshape(rows)


def _behind_the_trees(trees: onnx.ModelProto, wanted: str) -> onnx.ModelProto:
    """A model from `raw_score`, double [rows, outputs], to the output `wanted`."""
    graph = trees.graph
    outputs = {output.name: output for output in graph.output}
    producer = {name: node for node in graph.node for name in node.output}
    if not {"raw_score", wanted} <= outputs.keys() <= producer.keys():
        raise BundleError(
            "the bundle's model has no raw score",
            expected=f"the outputs raw_score and {wanted}",
            found=", ".join(outputs),
            next_step="run: rayforest export PROJECT --replace",
        )
    same = {"raw_score"}  # names of one value
    node = producer["raw_score"]
    while node.op_type == "Identity":
        same.add(node.input[0])
        node = producer[node.input[0]]
    needed, waiting = set[str](), [wanted]
    while waiting:
        name = waiting.pop()
        if name not in needed and name not in same and name in producer:
            needed.add(name)
            waiting += producer[name].input
    nodes = []
    for node in graph.node:  # they stand in an order in which they can be computed
        if needed.intersection(node.output):
            kept = onnx.NodeProto()
            kept.CopyFrom(node)
            kept.input[:] = ["raw_score" if name in same else name for name in node.input]
            nodes.append(kept)
    read = {name for node in nodes for name in node.input}
    n_outputs = outputs["raw_score"].type.tensor_type.shape.dim[1].dim_value
    link = onnx.helper.make_graph(
        nodes,
        "link",
        [double_matrix("raw_score", n_outputs)],
        [outputs[wanted]],
        initializer=[tensor for tensor in graph.initializer if tensor.name in read],
    )
    return onnx.helper.make_model(link, opset_imports=trees.opset_import, ir_version=trees.ir_version)

"""onnxruntime, with the one set of options under which the trees are exact."""

from __future__ import annotations

import onnx
import onnxruntime

from rayforest.errors import BundleError
from rayforest.process_settings import ONNXRUNTIME_THREADS

KNOWN_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml"})
"""Domains of operators that are part of the ONNX standard; custom ones would run code that the file does not show."""

_TREE_INPUT_BYTES = 1 << 20  # stays in a core's own cache


def runtime_session(model_bytes: bytes) -> onnxruntime.InferenceSession:
    """A session on the CPU whose sums are LightGBM's in every bit, run after run.

    It computes on one thread, for the sake of the bits. Run one session a process or a thread, on `rows_a_call` rows at
    once.

    Raises:
        BundleError: the model holds what `check_safe` refuses.
    """
    check_safe(model_bytes)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = ONNXRUNTIME_THREADS
    options.inter_op_num_threads = ONNXRUNTIME_THREADS
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 3  # errors only; they are raised as well
    return onnxruntime.InferenceSession(model_bytes, options, providers=["CPUExecutionProvider"])


def rows_a_call(model: onnx.ModelProto) -> int:
    """How many rows to give a session at once: 8,192, and down to 256 where the trees' input is wide.

    Many categorical splits make hundreds or thousands of columns in front of the trees (see `categories`). Their
    matrix is read fastest while it is small, the more so where other processes use the memory's bandwidth.
    """
    columns = 1
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.name == "nodes_featureids":
                columns = max(columns, max(attribute.ints, default=0) + 1)
    return max(256, min(8_192, _TREE_INPUT_BYTES // (8 * columns)))


def predicted_output(model: onnx.ModelProto) -> str:
    """The output that holds what `Booster.predict` gives: `probability` of a model that gives labels too."""
    return "probability" if any(output.name == "probability" for output in model.graph.output) else "prediction"


def check_safe(model_bytes: bytes) -> None:
    """Refuse, before any engine loads the model, what reaches outside the file.

    Raises:
        BundleError: not an ONNX model; tensors stored in other files; operators or functions outside the standard
        domains.
    """
    try:
        model = onnx.load_from_string(model_bytes)
    except Exception as error:  # protobuf's DecodeError, whose module depends on its version
        raise BundleError(
            "the ONNX model cannot be read", found=str(error), next_step="convert it again with rayforest.onnx"
        ) from error
    if not model.HasField("graph"):
        raise BundleError("the ONNX model has no graph", next_step="convert it again with rayforest.onnx")
    domains = {opset.domain for opset in model.opset_import} | {function.domain for function in model.functions}
    for graph in (model.graph, *model.functions):
        domains |= _check_nodes(graph.node)
    for graph in (model.graph, *(info.initialization for info in model.training_info)):
        _check_graph_tensors(graph)
    if foreign := domains - KNOWN_DOMAINS:
        raise BundleError(
            "the ONNX model uses operators outside the standard",
            expected="the domains ai.onnx and ai.onnx.ml only",
            found=", ".join(sorted(foreign)),
            next_step="convert it again with rayforest.onnx",
        )


def _check_graph_tensors(graph: onnx.GraphProto) -> None:
    for tensor in graph.initializer:
        _check_tensor(tensor)
    for sparse in graph.sparse_initializer:
        _check_tensor(sparse.values)
        _check_tensor(sparse.indices)


def _check_nodes(nodes: object) -> set[str]:
    """The domains of the nodes, and of those inside their branches and loops."""
    domains: set[str] = set()
    for node in nodes:  # type: ignore[attr-defined]
        domains.add(node.domain)
        for attribute in node.attribute:
            for tensor in (attribute.t, *attribute.tensors):
                _check_tensor(tensor)
            for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
                _check_tensor(sparse.values)
                _check_tensor(sparse.indices)
            for graph in (attribute.g, *attribute.graphs):
                _check_graph_tensors(graph)
                domains |= _check_nodes(graph.node)
    return domains


def _check_tensor(tensor: onnx.TensorProto) -> None:
    if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
        raise BundleError(
            "the ONNX model keeps tensors in other files",
            expected="a model in one file",
            found=f"external data for {tensor.name!r}",
            next_step="save it with save_as_external_data=False",
        )

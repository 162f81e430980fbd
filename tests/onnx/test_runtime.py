"""What a model may not hold before an engine loads it."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from rayforest.errors import BundleError
from rayforest.onnx import check_safe, rows_a_call, runtime_session


def identity(domain: str = "", initializer: TensorProto | None = None) -> onnx.ModelProto:
    x, y = (helper.make_tensor_value_info(n, TensorProto.DOUBLE, ["rows"]) for n in "xy")
    nodes = [helper.make_node("Identity", ["x"], ["y"], domain=domain)]
    graph = helper.make_graph(nodes, "identity", [x], [y], initializer=[initializer] if initializer else [])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def external() -> TensorProto:
    tensor = numpy_helper.from_array(np.zeros(2), "weights")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../etc/hostname")
    return tensor


def test_a_model_in_one_file_with_standard_operators_is_run() -> None:
    session = runtime_session(identity().SerializeToString())
    assert session.run(None, {"x": np.array([1.5])})[0].tolist() == [1.5]
    options = session.get_session_options()
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (1, 1)


def test_data_outside_the_file_is_refused_wherever_it_hides() -> None:
    hidden = identity()
    inside = helper.make_graph([helper.make_node("Constant", [], ["c"], value=external())], "inside", [], [])
    hidden.graph.node.append(helper.make_node("If", ["x"], ["z"], then_branch=inside, else_branch=inside))
    for model in (identity(initializer=external()), hidden):
        with pytest.raises(BundleError, match="other files"):
            check_safe(model.SerializeToString())


def test_operators_outside_the_standard_are_refused_wherever_they_hide() -> None:
    hidden = identity()
    inside = helper.make_graph([helper.make_node("Run", [], ["c"], domain="com.example")], "inside", [], [])
    hidden.graph.node.append(helper.make_node("If", ["x"], ["z"], then_branch=inside, else_branch=inside))
    function = identity()
    body = [helper.make_node("Identity", ["a"], ["b"])]
    opset = helper.make_opsetid("", 21)
    function.functions.append(helper.make_function("com.example", "Run", ["a"], ["b"], body, [opset]))
    for model in (identity(domain="com.example"), hidden, function):
        with pytest.raises(BundleError, match="outside the standard") as error:
            check_safe(model.SerializeToString())
        assert "com.example" in error.value.found


@pytest.mark.parametrize("content", [b"", b"not a model", b"\x08\x0a"])
def test_what_is_not_a_model_is_refused(content: bytes) -> None:
    with pytest.raises(BundleError):
        check_safe(content)


def test_wide_tree_inputs_are_given_in_smaller_portions() -> None:
    narrow = helper.make_node("TreeEnsemble", ["x"], ["z"], domain="ai.onnx.ml", nodes_featureids=[0, 39])
    wide = helper.make_node("TreeEnsemble", ["x"], ["z"], domain="ai.onnx.ml", nodes_featureids=[0, 6_999])
    for node, rows in ((None, 8_192), (narrow, 3_276), (wide, 256)):
        model = identity()
        model.graph.node.extend([node] if node else [])
        assert rows_a_call(model) == rows

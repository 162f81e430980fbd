"""scikit-learn pipelines that hold LightGBM estimators -> ONNX, with exact trees.

skl2onnx converts the pipeline; what it does with the rest is its own. It refuses to emit ai.onnx.ml 5, without which
trees are not exact, so each LightGBM estimator is a placeholder node during its conversion, and becomes trees
afterwards.
"""

from __future__ import annotations

from typing import Any

import onnx
import skl2onnx
from onnx import TensorProto, helper

from rayforest.errors import ConfigError
from rayforest.onnx.graph import ML_DOMAIN, ML_OPSET
from rayforest.onnx.placeholders import PLACEHOLDER_DOMAIN, Placeholder, lightgbm_as_placeholders

_OLDEST_OPSET = 18  # ReduceMax takes its axes as an input from here on
_ENDED_OPERATORS = {"TreeEnsembleClassifier", "TreeEnsembleRegressor"}


def to_onnx(
    model: Any,
    X: Any = None,
    name: str | None = None,
    initial_types: Any = None,
    target_opset: int | dict[str, int] | None = None,
    options: dict[Any, Any] | None = None,
    **others: Any,
) -> onnx.ModelProto:
    """`skl2onnx.to_onnx`, with its arguments and outputs, for models that hold LGBMClassifier, -Regressor or -Ranker.

    The trees compute in double, whatever flows into them. Where the columns reach them as double (`X` of float64, or
    `DoubleTensorType`, and steps that keep double), raw scores equal LightGBM's in every bit; predictions and
    probabilities lie within 1e-15 relative, and the 1 - p of a binary classifier within 1e-15. Where skl2onnx feeds
    float32, the trees are exact for the values rounded to float32, which is what LightGBM sees if its pipeline is given
    float32 too; a float64 value beside a threshold may then fall on its other side. Outputs are double where the trees'
    input is double, otherwise float32, to which predictions and probabilities are rounded at the end.

    ZipMap, which skl2onnx puts behind a classifier unless `zipmap` says otherwise, holds float32 only. So by default
    the probabilities of a classifier with double inputs are `output_probability`, double [rows, classes] in the order
    of `classes_`; with float32 inputs they are skl2onnx's sequence of maps.

    The result asks for ai.onnx.ml 5, also where `target_opset` asks for less. Run it with
    `rayforest.onnx.runtime_session`: with several threads onnxruntime adds the trees in another order.

    Args:
        model: any model that skl2onnx converts, or an LGBM estimator alone.
        X: rows of the training set, from which input types are inferred; or give `initial_types`.
        name: of the graph.
        initial_types: skl2onnx's list of input names and types.
        target_opset: at least 18.
        options: skl2onnx's options; LGBMClassifier has zipmap, nocl, output_class_labels and raw_scores.
        others: skl2onnx's remaining arguments.

    Raises:
        ConfigError: a LightGBM estimator that is not fitted or cannot be exact; another tree ensemble in the same
            pipeline, whose operators ended with ai.onnx.ml 5; an opset before 18; zipmap=True with double inputs.
    """
    main_opset = target_opset.get("") if isinstance(target_opset, dict) else target_opset
    if main_opset is not None and main_opset < _OLDEST_OPSET:
        raise ConfigError(
            "the target opset is too old",
            expected=f"{_OLDEST_OPSET} or newer",
            found=str(main_opset),
            next_step=f"leave target_opset out, or give {_OLDEST_OPSET}",
        )
    with lightgbm_as_placeholders(model) as found:
        converted = skl2onnx.to_onnx(model, X, name, initial_types, target_opset, options, **others)
    _replace_double_maps(converted, asked_for=_asks_for_maps(options))
    return _replace_placeholders(converted, found)


def _replace_double_maps(converted: onnx.ModelProto, *, asked_for: bool) -> None:
    """Give the probabilities themselves where ZipMap would have to hold doubles, which no runtime takes."""
    outputs = {output.name: output for output in converted.graph.output}
    for node in converted.graph.node:
        output = outputs.get(node.output[0]) if node.op_type == "ZipMap" else None
        if output is None or _mapped_type(output) != TensorProto.DOUBLE:
            continue
        if asked_for:
            raise ConfigError(
                "ZipMap holds float32 only, and the model's inputs are double",
                expected='zipmap=False or zipmap="columns", which are exact; or float32 inputs',
                next_step="leave zipmap out of the options: the probabilities then are double [rows, classes]",
            )
        (labels,) = (attribute for attribute in node.attribute if attribute.name.startswith("classlabels"))
        classes = len(labels.strings) or len(labels.ints)
        output.CopyFrom(helper.make_tensor_value_info(output.name, TensorProto.DOUBLE, [None, classes]))
        node.CopyFrom(helper.make_node("Identity", list(node.input), list(node.output), name=node.name))


def _mapped_type(output: onnx.ValueInfoProto) -> int:
    return output.type.sequence_type.elem_type.map_type.value_type.tensor_type.elem_type


def _asks_for_maps(options: dict[Any, Any] | None) -> bool:
    chosen = (options or {}).values()
    tables = [options or {}, *(value for value in chosen if isinstance(value, dict))]
    return any(table.get("zipmap") is True for table in tables)


def _replace_placeholders(converted: onnx.ModelProto, found: list[Placeholder]) -> onnx.ModelProto:
    graph = converted.graph
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        if node.domain != PLACEHOLDER_DOMAIN:
            nodes.append(node)
            continue
        made = found[helper.get_node_attr_value(node, "number")].expand(node, f"{node.output[0]}_")
        nodes += made.nodes
        graph.initializer.extend(made.initializers)
    del graph.node[:]
    graph.node.extend(nodes)
    versions = {opset.domain: opset.version for opset in converted.opset_import if opset.domain != PLACEHOLDER_DOMAIN}
    if found:
        if ended := sorted({node.op_type for node in nodes} & _ENDED_OPERATORS):
            raise ConfigError(
                "the pipeline holds another tree ensemble beside LightGBM's",
                expected="operators of ai.onnx.ml 5, the first version in which LightGBM's trees are exact",
                found=f"{', '.join(ended)}, which that version no longer has",
                next_step="convert the parts on their own",
            )
        versions |= {ML_DOMAIN: ML_OPSET, "": max(versions.get("", 0), _OLDEST_OPSET)}
    del converted.opset_import[:]
    converted.opset_import.extend(helper.make_opsetid(domain, version) for domain, version in versions.items())
    onnx.checker.check_model(converted)
    return converted

"""Features in the graph: raw columns in, the feature matrix and the scores out, in standard ONNX operators.

Inputs are the raw columns that the features read, each [rows, 1] and named as the column: numbers and booleans double
with NaN for null (integers beyond 2^53 have no place), timestamps int64 microseconds UTC with the smallest int64 for
null, strings with '' for null.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import onnx
from onnx import TensorProto, ValueInfoProto, helper

from rayforest.errors import ConfigError
from rayforest.kinds import Kind
from rayforest.onnx.expression_nodes import compile_expression, inexpressible_in
from rayforest.onnx.graph import Graph, double_matrix
from rayforest.onnx.value_nodes import Truth, Value, ValueNodes
from rayforest.sql.expression import Expression
from rayforest.sql.nodes import Call, Column, Op, distinct_nodes

_PREFIX = "features/"
_TREES_PREFIX = "trees/"
_MATRIX = "features"
"""The tree model's input, and the output of `feature_model`."""
SCORES = ("raw_score", "probability", "prediction")
"""Outputs of models; a quantity has no probability, but a name that depends on that would help nobody."""
_TENSOR_TYPES = {
    Kind.NUMBER: TensorProto.DOUBLE,
    Kind.BOOLEAN: TensorProto.DOUBLE,
    Kind.STRING: TensorProto.STRING,
    Kind.TIMESTAMP: TensorProto.INT64,
}
_DOC = "Raw columns in, one input each; see the inputs' types for how a null is written."
_TRANSCENDENTAL = (Op.EXP, Op.LN, Op.POWER)


def inexpressible(expression: Expression) -> list[str]:
    """What in the expression the graph cannot do exactly, in words, sorted; empty when it can do all of it."""
    found = {inexpressible_in(node) for node in distinct_nodes(expression.root) if isinstance(node, Call)}
    return sorted(name for name in found if name)


def approximate(expression: Expression) -> list[str]:
    """The functions in the expression whose last bits may differ between Polars and onnxruntime, sorted.

    EXP by up to 2 ulp, LN by up to 1 and LOG with it by up to 2, each measured over three million arguments with
    onnxruntime 1.32 and Polars 2.1 on x86-64 Linux. There POWER agreed in every bit, because both call the C library's
    pow; nothing promises that elsewhere.
    """
    calls = (node for node in distinct_nodes(expression.root) if isinstance(node, Call))
    return sorted({call.op.value for call in calls if call.op in _TRANSCENDENTAL})


def feature_model(features: Mapping[str, Expression], categories: Mapping[str, Sequence[str]]) -> onnx.ModelProto:
    """A model from raw columns to one output `features`, double [rows, n_features], in the given order.

    Args:
        features: expressions by feature name. Booleans become 1, 0 and NaN.
        categories: for each categorical feature its fitted categories in code order, as `category_text` writes them.
            Values that are not among them, and nulls, become NaN.

    Raises:
        ConfigError: an expression that the graph cannot compute exactly, a text or timestamp feature that is not
            categorical, features that read no column, or a raw column that has the name of the output.
    """
    graph = Graph(_PREFIX)
    inputs = _append_features(graph, features, categories, output=_MATRIX)
    outputs = [double_matrix(_MATRIX, len(features))]
    _check_names(inputs, outputs)
    return graph.model("features", inputs, outputs, doc=_DOC)


def full_model(
    features: Mapping[str, Expression], categories: Mapping[str, Sequence[str]], trees: onnx.ModelProto
) -> onnx.ModelProto:
    """The feature graph with a tree model behind it: raw columns in, the tree model's outputs out.

    Args:
        features: as for `feature_model`, in the order of the tree model's columns.
        categories: as for `feature_model`.
        trees: a model of `from_lightgbm`: input `features`, double [rows, n_features]. Its properties are kept.

    Raises:
        ConfigError: as for `feature_model`; or the tree model takes another number of features.
    """
    wanted = trees.graph.input[0].type.tensor_type.shape.dim[1].dim_value
    if wanted != len(features):
        raise ConfigError(
            "the tree model does not fit the features",
            expected=f"{wanted} features",
            found=f"{len(features)} features",
            next_step="give the features that the trees were trained on, in their order",
        )
    graph = Graph(_PREFIX)
    inputs = _append_features(graph, features, categories, output=_PREFIX + "matrix")
    outputs = list(trees.graph.output)
    refuse_names(value.name for value in inputs)
    _check_names(inputs, outputs)
    kept = {value.name: value.name for value in outputs} | {trees.graph.input[0].name: _PREFIX + "matrix", "": ""}
    for initializer in trees.graph.initializer:
        renamed = onnx.TensorProto.FromString(initializer.SerializeToString())
        renamed.name = _TREES_PREFIX + initializer.name
        graph.initializers.append(renamed)
    for node in trees.graph.node:
        moved = onnx.NodeProto.FromString(node.SerializeToString())
        moved.name = _TREES_PREFIX + node.name
        moved.input[:] = [kept.get(name, _TREES_PREFIX + name) for name in node.input]
        moved.output[:] = [kept.get(name, _TREES_PREFIX + name) for name in node.output]
        graph.nodes.append(moved)
    properties = {entry.key: entry.value for entry in trees.metadata_props}
    return graph.model("features_and_trees", inputs, outputs, doc=_DOC, metadata=properties)


def _append_features(
    graph: Graph, features: Mapping[str, Expression], categories: Mapping[str, Sequence[str]], *, output: str
) -> list[ValueInfoProto]:
    """Append the nodes of all features, the matrix as `output`; the raw columns that they read, sorted by name."""
    for name, expression in features.items():
        if found := inexpressible(expression):
            raise ConfigError(
                f"features.{name}: the ONNX graph cannot compute {', '.join(found)} exactly",
                next_step='write it another way, or set export.graph = "trees" to compute features outside the graph',
            )
    columns = _columns_read(features)
    if not columns:
        raise ConfigError(
            "no feature reads a column",
            expected="at least one column in [features]",
            next_step="write a feature over a column; constants tell a model nothing",
        )
    nodes = ValueNodes(graph)
    values = {name: nodes.column(name, kind) for name, kind in columns.items()}
    first = next(iter(columns))
    shape = nodes.op("Shape", first)
    numbers = []
    for name, expression in features.items():
        value = compile_expression(nodes, expression.root, values)
        fitted = categories.get(name)
        number = _as_number(nodes, name, expression.kind, value, fitted)
        # A constant has no rows of its own.
        constant = not expression.columns or (fitted is not None and not fitted)
        numbers.append(nodes.op("Expand", number, shape) if constant else number)
    graph.add("Concat", *numbers, output=output, axis=1)
    return [
        helper.make_tensor_value_info(name, _TENSOR_TYPES[kind], ["rows", 1]) for name, kind in sorted(columns.items())
    ]


def _columns_read(features: Mapping[str, Expression]) -> dict[str, Kind]:
    nodes = (node for expression in features.values() for node in distinct_nodes(expression.root))
    return {node.name: node.kind for node in nodes if isinstance(node, Column)}


def _as_number(nodes: ValueNodes, name: str, kind: Kind, value: Value, fitted: Sequence[str] | None) -> str:
    """A feature as the double that the trees take: itself, or the code of its category."""
    if kind is Kind.TIMESTAMP or (kind is Kind.STRING and fitted is None):
        raise ConfigError(
            f"features.{name} is a {kind}, which trees cannot take",
            expected="a number, a boolean or, when categorical, a string",
            next_step="list a string under features.categorical; make a number of a timestamp: EXTRACT(hour FROM ...)",
        )
    if fitted is not None and not fitted:  # no category was seen: LabelEncoder cannot be empty
        value = nodes.double(math.nan)
    elif isinstance(value, Truth):
        codes = {text: code for code, text in enumerate(fitted or ("false", "true"))}
        yes, no = (nodes.double(codes.get(text, math.nan)) for text in ("true", "false"))
        value = nodes.where(value.yes, yes, nodes.where(value.no, no, nodes.double(math.nan)))
    elif fitted is not None:
        keys = fitted if kind is Kind.STRING else [float(text) for text in fitted]
        value = nodes.looked_up(value, keys, range(len(fitted)), math.nan)
    else:
        value = nodes.unsigned_zero(value)
    return value


def refuse_names(columns: Iterable[str]) -> None:
    """Refuse columns that cannot be inputs of a graph with scores.

    Raises:
        ConfigError: a column has the name of an output, or begins as the graph's own values do.
    """
    for name in columns:
        if name in SCORES or name.startswith((_PREFIX, _TREES_PREFIX)):
            raise ConfigError(
                f"the column {name!r} cannot be an input of the ONNX model",
                expected=f"another name than {', '.join(SCORES)}, not under {_PREFIX} or {_TREES_PREFIX}",
                next_step='rename the column, leave it out of [features], or set export.graph = "trees"',
            )


def _check_names(inputs: Sequence[ValueInfoProto], outputs: Sequence[ValueInfoProto]) -> None:
    names = [value.name for value in outputs]
    for value in inputs:
        if value.name in names:
            raise ConfigError(
                f"the column {value.name!r} cannot be an input of the ONNX model",
                expected=f"another name than {', '.join(names)}",
                next_step='rename the column, or set export.graph = "trees"',
            )

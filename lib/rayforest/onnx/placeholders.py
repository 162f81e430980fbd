"""LightGBM's estimators as placeholder nodes of skl2onnx, and the nodes that take their place."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import lightgbm
import numpy as np
import onnx
import skl2onnx
from numpy.typing import NDArray
from onnx import TensorProto
from skl2onnx import _parse, _supported_operators
from skl2onnx.common import _registration
from skl2onnx.common.data_types import DoubleTensorType
from skl2onnx.common.shape_calculator import (
    calculate_linear_classifier_output_shapes,
    calculate_linear_regressor_output_shapes,
)
from sklearn.base import BaseEstimator
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline

from rayforest.errors import ConfigError
from rayforest.onnx.graph import Graph
from rayforest.onnx.lightgbm_text import LightGBMModel, read_lightgbm
from rayforest.onnx.tree_ensemble import append_trees

PLACEHOLDER_DOMAIN = "rayforest.placeholder"
_REGISTRY_LOCK = threading.Lock()  # skl2onnx's registries are global


@dataclass(frozen=True, eq=False)
class Placeholder:
    """A fitted estimator that stands in the converted graph as one node."""

    model: LightGBMModel
    output_type: int
    classes: NDArray[Any] | None
    """Labels of a classifier; None for a regressor or ranker."""
    raw_scores: bool
    """A classifier's second output: raw scores instead of probabilities."""

    def expand(self, node: onnx.NodeProto, prefix: str) -> Graph:
        """The nodes that compute the placeholder's outputs."""
        graph = Graph(prefix)
        scores = append_trees(graph, self.model, graph.add("Cast", node.input[0], to=TensorProto.DOUBLE))
        prediction = scores.prediction
        if self.model.n_outputs == 1:
            prediction = graph.add("Unsqueeze", prediction, graph.constant(np.array([1], dtype=np.int64)))
        if self.classes is None:
            graph.add("Cast", prediction, to=self.output_type, output=node.output[0])
            return graph
        if self.model.n_outputs == 1:
            negative = graph.add("Sub", graph.constant(1.0), prediction)
            prediction = graph.add("Concat", negative, prediction, axis=1)
        chosen = graph.add("ArgMax", prediction, axis=1, keepdims=0)  # the first of equal ones, as numpy.argmax
        graph.add("Gather", graph.constant(self.classes), chosen, output=node.output[0])
        second = prediction
        if self.raw_scores:
            second = scores.raw_score
            if self.model.n_outputs == 1:  # skl2onnx's own classifiers give both signs
                second = graph.add("Concat", graph.add("Neg", second), second, axis=1)
        graph.add("Cast", second, to=self.output_type, output=node.output[1])
        return graph


def _class_labels(estimator: Any, model: LightGBMModel, *, numbers: bool) -> NDArray[Any]:
    classes = np.asarray(estimator.classes_)
    if model.objective == "custom" or model.n_outputs != (1 if len(classes) <= 2 else len(classes)):
        raise ConfigError(
            "the LGBMClassifier has no class probabilities",
            expected="one probability a class",
            found=f"objective {model.objective!r} with {model.n_outputs} outputs for {len(classes)} classes",
            next_step="export its booster_ with rayforest.onnx.from_lightgbm, which gives raw scores",
        )
    if numbers:
        return np.arange(len(classes))
    if classes.dtype.kind in "OUS":
        return classes.astype(np.str_).astype(object)
    if not np.array_equal(classes, classes.astype(np.int64)):
        raise ConfigError(
            "class labels in ONNX are whole numbers or strings",
            found=f"labels of {classes.dtype}",
            next_step="train on such labels, or give the option nocl for the classes' numbers",
        )
    return classes.astype(np.int64)


@contextmanager
def lightgbm_as_placeholders(pipeline: Any) -> Iterator[list[Placeholder]]:
    """Let skl2onnx convert LightGBM's estimators to placeholder nodes, and then put back what it had registered.

    Yields the list of placeholders, which grows while skl2onnx converts; a node's attribute `number` is its place in
    it.
    """
    found: list[Placeholder] = []
    raw_scored = _calibrated_on_raw_scores(pipeline)

    def convert(scope: Any, operator: Any, container: Any) -> None:
        estimator = operator.raw_operator
        model = read_lightgbm(estimator)
        classes, raw_scores = None, False
        if isinstance(estimator, lightgbm.LGBMClassifier):
            chosen = container.get_options(estimator, {"nocl": False, "raw_scores": False})
            classes = _class_labels(estimator, model, numbers=bool(chosen["nocl"]))
            raw_scores = bool(chosen["raw_scores"]) or id(estimator) in raw_scored
        is_double = isinstance(operator.outputs[-1].type, DoubleTensorType)
        found.append(Placeholder(model, TensorProto.DOUBLE if is_double else TensorProto.FLOAT, classes, raw_scores))
        container.add_node(
            "TreeEnsemble",  # the name that white_op and black_op know
            operator.inputs[0].full_name,
            [output.full_name for output in operator.outputs],
            op_domain=PLACEHOLDER_DOMAIN,
            op_version=1,
            name=scope.get_unique_operator_name("LightGBM"),
            number=len(found) - 1,
        )

    registries = (
        _supported_operators.sklearn_operator_name_map,
        _parse.sklearn_parsers_map,
        _registration._converter_pool,
        _registration._shape_calculator_pool,
    )
    with _REGISTRY_LOCK:
        before = [dict(registry) for registry in registries]
        try:
            _register(convert)
            yield found
        finally:
            for registry, contents in zip(registries, before, strict=True):
                registry.clear()
                registry.update(contents)


def _register(convert: Any) -> None:
    classifier, regressor = _classifier_outputs, _regressor_outputs
    register = skl2onnx.update_registered_converter
    for base, shapes, options in (
        (lightgbm.LGBMClassifier, classifier, _CLASSIFIER_OPTIONS),
        (lightgbm.LGBMRegressor, regressor, None),
        (lightgbm.LGBMRanker, regressor, None),
    ):
        for kind in _with_subclasses(base):
            register(kind, f"Rayforest{base.__name__}", shapes, convert, options=options)
    if FrozenEstimator not in _supported_operators.sklearn_operator_name_map:
        register(FrozenEstimator, "RayforestFrozen", classifier, _convert_frozen, options=_CLASSIFIER_OPTIONS)


_CLASSIFIER_OPTIONS: dict[str, list[Any]] = {
    "zipmap": [True, False, "columns"],
    "nocl": [True, False],
    "output_class_labels": [False, True],
    "raw_scores": [True, False],
}
if not hasattr(lightgbm.LGBMClassifier, "decision_function"):
    # skl2onnx calibrates raw scores where it may, scikit-learn where the classifier has decision_function.
    del _CLASSIFIER_OPTIONS["raw_scores"]


def _classifier_outputs(operator: Any) -> None:
    calculate_linear_classifier_output_shapes(operator)
    _keep_double(operator)


def _regressor_outputs(operator: Any) -> None:
    calculate_linear_regressor_output_shapes(operator)
    _keep_double(operator)


def _keep_double(operator: Any) -> None:
    """skl2onnx's parser takes the type of the output from the pipeline's first column, which may be a narrower one."""
    scores = operator.outputs[-1]
    if isinstance(operator.inputs[0].type, DoubleTensorType):
        scores.set_type(DoubleTensorType(scores.type.shape))


def _with_subclasses(kind: type) -> Iterator[type]:
    yield kind
    below: type
    for below in kind.__subclasses__():
        yield from _with_subclasses(below)


def _convert_frozen(scope: Any, operator: Any, container: Any) -> None:
    """A frozen classifier is the classifier inside; scikit-learn calibrates fitted models in this form."""
    inside = operator.raw_operator.estimator
    if not isinstance(_last_step(inside), lightgbm.LGBMClassifier):
        raise ConfigError(
            "skl2onnx does not convert FrozenEstimator",
            expected="one that holds an LGBMClassifier, or a pipeline that ends in one",
            found=type(_last_step(inside)).__name__,
            next_step="convert the estimator that it holds",
        )
    for registry in (scope, container):
        registry.add_options(id(inside), {"zipmap": False})
    outputs = _parse._parse_sklearn(scope, inside, operator.inputs)
    for made, wanted in zip(outputs, operator.outputs, strict=True):
        name = scope.get_unique_operator_name("Frozen")
        container.add_node("Identity", made.full_name, wanted.full_name, name=name)


def _last_step(estimator: Any) -> Any:
    while isinstance(estimator, Pipeline | FrozenEstimator):
        estimator = estimator.steps[-1][1] if isinstance(estimator, Pipeline) else estimator.estimator
    return estimator


def _calibrated_on_raw_scores(value: Any) -> set[int]:
    """Ids of the classifiers whose decision_function a CalibratedClassifierCV reads.

    skl2onnx asks the calibrated estimator for raw scores, but its converter of pipelines does not pass that on.
    """
    if isinstance(value, dict):
        return _calibrated_on_raw_scores(list(value.values()))
    if isinstance(value, list | tuple):
        return set[int]().union(*map(_calibrated_on_raw_scores, value))
    if not isinstance(value, BaseEstimator):
        return set()
    ids = _calibrated_on_raw_scores(list(vars(value).values()))
    for calibrated in getattr(value, "calibrated_classifiers_", ()):
        last = _last_step(calibrated.estimator)
        if hasattr(last, "decision_function"):
            ids.add(id(last))
        ids |= _calibrated_on_raw_scores(calibrated.estimator)
    return ids

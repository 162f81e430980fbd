"""LightGBM's objectives: from the raw score to the prediction, as graph nodes.

Source of the formulas: `ConvertOutput` in LightGBM's `src/objective/*.hpp`. They are written so that the result lies
within 1e-15 relative of LightGBM's, which the plain operators do not give: onnxruntime's Sigmoid is 23 ulp off, its
ReduceSum adds in another order than LightGBM's softmax, and log(1 + e) loses the small e.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from rayforest.errors import ConfigError
from rayforest.onnx.graph import Graph
from rayforest.onnx.lightgbm_text import LightGBMModel

_IDENTITY = {"huber", "fair", "custom", "lambdarank", "rank_xendcg"}
_IDENTITY_OR_SQUARE = {"regression", "regression_l1", "quantile", "mape"}  # squared with reg_sqrt


def append_prediction(graph: Graph, model: LightGBMModel, raw_score: str) -> str:
    """Append the link to `raw_score`, double [rows, n_outputs]; return the prediction's name, of the same shape.

    Raises:
        ConfigError: the objective is not one that LightGBM 4 trains.
    """
    score = raw_score
    if model.average:  # random forest: the raw score is the sum, the link takes the mean
        score = graph.add("Div", score, graph.constant(float(model.n_iterations)))
    link = _link(model)
    return link(graph, score) if link else score


def _link(model: LightGBMModel) -> Callable[[Graph, str], str] | None:
    """What appends the objective's link; None where the prediction is the score."""
    name, arguments = model.objective, model.objective_arguments
    links = {
        "poisson": _exp,
        "gamma": _exp,
        "tweedie": _exp,
        "cross_entropy": _sigmoid,
        "cross_entropy_lambda": _log_one_plus_exp,
        "multiclass": _softmax,
    }
    if name in _IDENTITY:
        return None
    if name in _IDENTITY_OR_SQUARE:
        return _signed_square if "sqrt" in arguments else None
    if name in {"binary", "multiclassova"}:
        return partial(_sigmoid, steepness=float(arguments["sigmoid"]))
    if name in links:
        return links[name]
    raise ConfigError(
        f"the objective {name!r} has no known link, so its predictions could not be exact",
        expected="an objective of LightGBM 4, or a custom one, whose prediction is the raw score",
        next_step="train with one of these, and please report this if LightGBM itself trained the model",
    )


def _exp(graph: Graph, x: str) -> str:
    return graph.add("Exp", x)


def _signed_square(graph: Graph, x: str) -> str:
    """reg_sqrt: sign(x) * x * x, multiplied from the left."""
    return graph.add("Mul", graph.add("Mul", graph.add("Sign", x), x), x)


def _sigmoid(graph: Graph, x: str, steepness: float = 1.0) -> str:
    """1 / (1 + exp(-s x))."""
    one = graph.constant(1.0)
    power = graph.add("Mul", graph.constant(-steepness), x)
    return graph.add("Div", one, graph.add("Add", one, graph.add("Exp", power)))


def _log_one_plus_exp(graph: Graph, x: str) -> str:
    """log1p(e) for e = exp(x): log(u) * (e / (u - 1)) with u = 1 + e, which undoes the rounding of u (Kahan)."""
    one = graph.constant(1.0)
    e = graph.add("Exp", x)
    u = graph.add("Add", one, e)
    undo = graph.add("Div", e, graph.add("Sub", u, one))
    undo = graph.add("Where", graph.add("IsInf", e), one, undo)
    long_form = graph.add("Mul", graph.add("Log", u), undo)
    return graph.add("Where", graph.add("Equal", u, one), e, long_form)


def _softmax(graph: Graph, x: str) -> str:
    """exp(x - max) over its sum, added from the first class to the last as LightGBM does."""
    class_axis = graph.constant(np.array([1], dtype=np.int64))
    e = graph.add("Exp", graph.add("Sub", x, graph.add("ReduceMax", x, class_axis, keepdims=1)))
    running = graph.add("CumSum", e, graph.constant(np.int64(1)))
    total = graph.add("Gather", running, graph.constant(np.array([-1], dtype=np.int64)), axis=1)
    return graph.add("Div", e, total)

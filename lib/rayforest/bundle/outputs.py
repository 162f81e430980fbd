"""What the model says of a row, as the columns that the project asks for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from rayforest.errors import ConfigError
from rayforest.features.recipe import Recipe
from rayforest.kinds import Kind
from rayforest.metrics.problem import REGRESSION_METRICS, Labels, Problem
from rayforest.onnx.labels import THRESHOLD, label_values
from rayforest.project.sections import CLASS_METRICS, Metric, ScoreSection

Array = npt.NDArray[np.float64]
Output = Literal["prediction", "probability", "raw_score"]


@dataclass(frozen=True)
class Outputs:
    """The columns of scored rows that come from the model."""

    problem: Problem
    wanted: tuple[Output, ...]
    """In the order of the columns."""
    threshold: float
    """Of a binary problem: the positive class where the probability is above it."""
    precision: Literal["float64", "float32"]
    """Of all columns but labels; float32 is rounded from float64."""

    @classmethod
    def of(cls, section: ScoreSection, problem: Problem) -> Outputs:
        """The outputs that a project asks for; without a wish, prediction and, for classes, probability.

        Raises:
            ConfigError: the problem has no such output, or no threshold.
        """
        regression = problem.kind == "regression"
        default: tuple[Output, ...] = ("prediction",) if regression else ("prediction", "probability")
        wanted = section.outputs or default
        if regression and "probability" in wanted:
            raise ConfigError(
                "score.outputs asks for a probability, and the model predicts a quantity",
                expected="prediction or raw_score",
                next_step='take "probability" out of score.outputs',
            )
        if section.threshold is not None and problem.kind != "binary":
            raise ConfigError(
                f"score.threshold needs two classes; the model is one of {problem.kind}",
                expected="no threshold: a row's class is the likeliest one" if not regression else "no threshold",
                next_step="take score.threshold out",
            )
        threshold = THRESHOLD if section.threshold is None else section.threshold
        return cls(problem, wanted, threshold, section.precision)

    def schema(self) -> list[pa.Field]:
        """Names and types of the columns."""
        return [pa.field(name, kind) for output in self.wanted for name, kind in self._fields(output)]

    def columns(self, raw_score: Array, prediction: Array) -> list[pa.Array]:
        """The columns that `schema` names.

        Args:
            raw_score: float64 [rows, outputs].
            prediction: float64 [rows] or [rows, classes], as `Booster.predict` gives them.
        """
        columns = []
        for output in self.wanted:
            if output == "prediction" and self.problem.kind != "regression":
                columns.append(self._labels(prediction))
                continue
            values = raw_score if output == "raw_score" else prediction
            kind = self._float()
            columns += [pa.array(v.astype(kind.to_pandas_dtype(), copy=False), kind) for v in _by_output(values)]
        return columns

    def _fields(self, output: Output) -> list[tuple[str, pa.DataType]]:
        problem = self.problem
        if output == "prediction":
            return [
                (
                    "prediction",
                    self._float() if problem.kind == "regression" else pa.array(label_values(problem.labels)).type,
                )
            ]
        if problem.kind == "multiclass":
            return [(f"{output}_{text}", self._float()) for text in label_texts(problem.labels)]
        return [(str(output), self._float())]

    @property
    def _label_values(self) -> pa.Array:
        return pa.array(label_values(self.problem.labels))

    def _float(self) -> pa.DataType:
        return pa.float64() if self.precision == "float64" else pa.float32()

    def _labels(self, prediction: Array) -> pa.Array:
        classes = prediction > self.threshold if self.problem.kind == "binary" else prediction.argmax(axis=1)
        labels = self._label_values
        return labels.take(pa.array(classes.astype(np.int8 if len(labels) < 128 else np.int64)))


def possible_outputs(section: ScoreSection, recipe: Recipe, metric: Metric | None) -> list[str]:
    """Names that output columns may take before a model says what it is of; one that ends in * stands for many.

    Without a metric, a target of numbers may turn out to be a quantity or of two classes.
    """
    target, quantity = recipe.target_expression, metric in REGRESSION_METRICS
    labels = target is not None and target.kind is Kind.STRING and recipe.positive is None
    several = labels or (recipe.positive is None and metric in CLASS_METRICS)
    names: list[str] = []
    for output in section.outputs or (("prediction",) if quantity else ("prediction", "probability")):
        names.append(output)
        if several and output != "prediction":
            names.append(f"{output}_*")
    return names


def _by_output(values: Array) -> list[Array]:
    """One contiguous array an output."""
    if values.ndim == 1:
        return [values]
    return [np.ascontiguousarray(values[:, output]) for output in range(values.shape[1])]


def label_texts(labels: Labels) -> list[str]:
    """Labels as they stand in the names of columns."""
    return [
        label if isinstance(label, str) else str(int(label)) if float(label).is_integer() else repr(label)
        for label in labels
    ]

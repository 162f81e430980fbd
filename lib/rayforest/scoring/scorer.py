"""A loaded bundle and raw rows to predictions: features in Polars, trees in onnxruntime."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from rayforest.data.contract import Contract, Verdicts, check_rows
from rayforest.data.raw import RawBatch
from rayforest.onnx.runtime import runtime_session
from rayforest.scoring.bundle import Bundle, load_bundle
from rayforest.training.dataset import encode_features

Array = npt.NDArray[np.float64]

ROWS_A_CALL = 4_096
"""Rows of one onnxruntime call: large enough to pay for the call, small enough for the cache."""


@dataclass(frozen=True)
class Scores:
    """What the model says of rows that passed the contract."""

    predictions: Array
    """[rows] or [rows, classes], as `Booster.predict` gives them."""
    columns: dict[str, pa.Array]
    """`prediction`, and `probability` or `probability_<label>`."""


class Scorer:
    """A bundle ready to score. Safe to share between threads."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self.session = runtime_session(bundle.read(bundle.trees))
        self.features = [name for name, _ in bundle.recipe.features]

    def judge(self, contract: Contract, batch: RawBatch) -> tuple[pl.DataFrame, pl.DataFrame, Verdicts]:
        """Typed raw columns, feature values, and which rows fail the contract."""
        recipe = self.bundle.recipe
        typed, verdicts = check_rows(contract, batch.table)
        features = typed.select(recipe.feature_values())
        if recipe.unseen == "quarantine":
            for name, categories in self.bundle.categories.items():
                known = features[name].is_in(pl.Series(categories, dtype=pl.String).implode())
                verdicts.fail(~known, f"{name} is a category that training never saw")
        return typed, features, verdicts

    def score(self, features: pl.DataFrame) -> Scores:
        """Predictions of feature rows."""
        matrix = encode_features(features, self.features, self.bundle.categories)
        parts = [
            self.session.run(["prediction"], {"features": np.ascontiguousarray(matrix[i : i + ROWS_A_CALL])})[0]
            for i in range(0, max(len(matrix), 1), ROWS_A_CALL)
        ]
        predictions = np.concatenate(parts)
        return Scores(predictions, self._columns(predictions))

    def _columns(self, predictions: Array) -> dict[str, pa.Array]:
        problem = self.bundle.problem
        if problem.kind == "regression":
            return {"prediction": pa.array(predictions)}
        if problem.kind == "binary":
            classes = (predictions > 0.5).astype(np.int64)
            return {"prediction": self._labels(classes), "probability": pa.array(predictions)}
        columns = {"prediction": self._labels(predictions.argmax(axis=1))}
        for place, name in enumerate(probability_names(problem.labels)):
            columns[name] = pa.array(np.ascontiguousarray(predictions[:, place]))
        return columns

    def _labels(self, classes: npt.NDArray[np.int64]) -> pa.Array:
        return pa.array(list(self.bundle.problem.labels), label_type(self.bundle.problem.labels)).take(
            pa.array(classes)
        )


def score_schema(bundle: Bundle) -> list[pa.Field]:
    """Types of the columns that `Scorer.score` gives."""
    problem = bundle.problem
    if problem.kind == "regression":
        return [pa.field("prediction", pa.float64())]
    probabilities = ["probability"] if problem.kind == "binary" else probability_names(problem.labels)
    return [pa.field("prediction", label_type(problem.labels)), *(pa.field(n, pa.float64()) for n in probabilities)]


def label_type(labels: tuple[str, ...] | tuple[float, ...]) -> pa.DataType:
    """Arrow type of labels: text, int64 for whole numbers, float64 for others."""
    if isinstance(labels[0], str):
        return pa.string()
    return pa.int64() if all(float(label).is_integer() for label in labels) else pa.float64()


def probability_names(labels: tuple[str, ...] | tuple[float, ...]) -> list[str]:
    """Column names of a multiclass problem's probabilities."""
    texts = [label if isinstance(label, str) else f"{label:g}" for label in labels]
    return [f"probability_{text}" for text in texts]


@lru_cache(maxsize=2)
def scorer_of(location: str, digest: str) -> Scorer:
    """The scorer of a bundle, kept by the worker process under the bundle's SHA-256."""
    return Scorer(load_bundle(location, expected=digest))

"""Metrics on held-out rows, beside the best that one can do without a model.

A row whose label training never saw is of none of the model's classes, and the model gives its true class no
probability. It counts as wrong in `accuracy`; in `log_loss` its probability is 0, clipped to the smallest step of a
double above 1 (2.2e-16), as scikit-learn clips; `brier` takes half the squared distance over all classes, its own
included; in `auc` and `average_precision` it is one of the others to every class.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from rayforest.metrics.problem import UNSEEN, Problem

Array = npt.NDArray[np.float64]

SMALLEST_PROBABILITY = float(np.finfo(np.float64).eps)
"""What `log_loss` takes for a smaller one, as scikit-learn does."""

ONE_CLASS = "one class only in these rows"
NOT_FINITE = "too large for a double"


@dataclass(frozen=True)
class Evaluation:
    """Metrics, the rows that they are of, and why others are missing."""

    metrics: dict[str, float] = field(default_factory=dict)
    undefined: dict[str, str] = field(default_factory=dict)
    """Metric that these rows do not define -> why."""
    rows: int = 0
    rows_with_unseen_label: int = 0
    """Of them, those whose label training never saw; see the module for how they count."""

    def as_dict(self) -> dict[str, Any]:
        """All but the metrics, for JSON."""
        table: dict[str, Any] = {"rows": self.rows}
        if self.rows_with_unseen_label:
            table["rows_with_unseen_label"] = self.rows_with_unseen_label
        if self.undefined:
            table["undefined"] = self.undefined
        return table

    @classmethod
    def of(cls, found: dict[str, float | str], rows: int, unseen: int = 0) -> Evaluation:
        """Sort what was found into metrics and, where it is a text or no finite number, reasons."""
        metrics, undefined = {}, {}
        for name, value in found.items():
            if isinstance(value, str):
                undefined[name] = value
            elif np.isfinite(value):
                metrics[name] = float(value)
            else:
                undefined[name] = NOT_FINITE
        return cls(metrics, undefined, rows, unseen)


def evaluate(problem: Problem, predictions: Array, labels: Array) -> Evaluation:
    """Metrics of predictions.

    Args:
        problem: says what predictions and labels are.
        predictions: float64; [rows] probabilities of the positive label or quantities, [rows, classes] probabilities.
        labels: float64 [rows], encoded by the problem; `UNSEEN` where training never saw the label.

    Returns:
        binary: auc, average_precision, log_loss, accuracy, brier. multiclass: auc (one against the rest, mean over
        classes), log_loss, accuracy. regression: rmse, mae, r2. A metric that these rows do not define (the AUC of a
        single class) has its reason instead.
    """
    rows = len(labels)
    if not rows:
        return Evaluation()
    with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is said in another way
        if problem.kind == "regression":
            return Evaluation.of(_regression(predictions, labels), rows)
        measure = _binary if problem.kind == "binary" else _multiclass
        found = measure(problem, predictions, labels)
    return Evaluation.of(found, rows, int((labels == UNSEEN).sum()))


def baseline(problem: Problem, training: Array, labels: Array) -> dict[str, float]:
    """What the best constant reaches, found on the training rows.

    Returns:
        baseline_log_loss and baseline_accuracy of the training shares of the labels; baseline_rmse of the training
        mean, the constant with the least squared error, and baseline_mae of the training median, the one with the least
        absolute error.
    """
    if problem.kind == "regression":
        with np.errstate(over="ignore", invalid="ignore"):
            constants = {"rmse": training.mean(), "mae": np.median(training)}
        reached = {
            name: evaluate(problem, np.full(len(labels), constant), labels).metrics.get(name)
            for name, constant in constants.items()
        }
    else:
        shares = np.bincount(training.astype(np.int64), minlength=len(problem.labels)) / len(training)
        predictions = np.full(len(labels), shares[1]) if problem.kind == "binary" else np.tile(shares, (len(labels), 1))
        found = evaluate(problem, predictions, labels).metrics
        reached = {name: found.get(name) for name in ("log_loss", "accuracy")}
    return {f"baseline_{name}": value for name, value in reached.items() if value is not None}


def own_probability(problem: Problem, predictions: Array, labels: Array) -> Array:
    """The probability that the model gives to the true label of each row, [rows]; 0 for one that it does not know."""
    if problem.kind == "binary":
        own = np.where(labels == 1, predictions, 1 - predictions)
    else:
        own = predictions[np.arange(len(labels)), np.maximum(labels, 0).astype(np.int64)]
    return np.where(labels == UNSEEN, 0.0, own)


def losses(problem: Problem, predictions: Array, labels: Array) -> Array:
    """The log loss of each row, [rows]."""
    return -np.log(np.clip(own_probability(problem, predictions, labels), SMALLEST_PROBABILITY, 1.0))


def _regression(predictions: Array, labels: Array) -> dict[str, float | str]:
    error = predictions - labels
    squares, spread = float(np.sum(error**2)), float(np.sum((labels - labels.mean()) ** 2))
    why = "one row only" if len(labels) == 1 else "the target is the same in all of these rows"
    return {
        "rmse": float(np.sqrt(squares / len(labels))),
        "mae": float(np.mean(np.abs(error))),
        "r2": 1 - squares / spread if spread > 0 else why,
    }


def _binary(problem: Problem, predictions: Array, labels: Array) -> dict[str, float | str]:
    from sklearn.metrics import average_precision_score, roc_auc_score

    positive, unseen = labels == 1, labels == UNSEEN
    squares = np.where(unseen, (predictions**2 + (1 - predictions) ** 2 + 1) / 2, (predictions - positive) ** 2)
    both = 0 < positive.sum() < len(labels)
    return {
        "log_loss": float(losses(problem, predictions, labels).mean()),
        "accuracy": float(np.mean(((predictions > 0.5) == positive) & ~unseen)),
        "brier": float(squares.mean()),
        "auc": float(roc_auc_score(positive, predictions)) if both else ONE_CLASS,
        "average_precision": float(average_precision_score(positive, predictions)) if both else ONE_CLASS,
    }


def _multiclass(problem: Problem, predictions: Array, labels: Array) -> dict[str, float | str]:
    from sklearn.metrics import roc_auc_score

    present = [c for c in range(len(problem.labels)) if 0 < (labels == c).sum() < len(labels)]
    areas = [float(roc_auc_score(labels == c, predictions[:, c])) for c in present]
    return {
        "log_loss": float(losses(problem, predictions, labels).mean()),
        "accuracy": float(np.mean(predictions.argmax(axis=1) == labels)),
        "auc": float(np.mean(areas)) if len(areas) == len(problem.labels) else missing_classes(len(present), problem),
    }


def missing_classes(present: int, problem: Problem) -> str:
    """Why the mean of all classes' AUCs is not defined for rows of so many of them."""
    if present < 2:
        return ONE_CLASS
    return f"{len(problem.labels) - present:,} of {len(problem.labels):,} classes have no row here"


def gather(parts: Iterable[tuple[Array, Array]]) -> tuple[Array, Array]:
    """Predictions and labels of all shards, one after the other."""
    pairs = list(parts)
    return np.concatenate([p for p, _ in pairs]), np.concatenate([y for _, y in pairs])


def model_is_constant(model: str) -> bool:
    """Whether no tree of a LightGBM model text has a split, so that every row gets the same prediction."""
    leaves = re.findall(r"^num_leaves=(\d+)$", model, flags=re.MULTILINE)
    return all(number == "1" for number in leaves)

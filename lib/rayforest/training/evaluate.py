"""Metrics on held-out rows, beside the best that one can do without a model."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from rayforest.training.problem import Problem

Array = npt.NDArray[np.float64]


def evaluate(problem: Problem, predictions: Array, labels: Array) -> dict[str, float]:
    """Metrics of predictions.

    Args:
        problem: says what predictions and labels are.
        predictions: float64; [rows] probabilities of the positive label or quantities, [rows, classes] probabilities.
        labels: float64 [rows], encoded by the problem.

    Returns:
        binary: auc, average_precision, log_loss, accuracy, brier. multiclass: auc (one against the rest, mean over
        classes), log_loss, accuracy. regression: rmse, mae, r2. A metric that these rows do not define (the AUC of a
        single class) is left out.
    """
    if not len(labels):
        return {}
    if problem.kind == "regression":
        return _regression(predictions, labels)
    if problem.kind == "binary":
        return _binary(predictions, labels)
    return _multiclass(problem, predictions, labels)


def baseline(problem: Problem, training: Array, labels: Array) -> dict[str, float]:
    """What the prior reaches: the training mean, or the training shares of the labels, for every row."""
    if problem.kind in {"regression", "binary"}:
        predictions = np.full(len(labels), training.mean())
    else:
        shares = np.bincount(training.astype(np.int64), minlength=len(problem.labels)) / len(training)
        predictions = np.tile(shares, (len(labels), 1))
    reached = evaluate(problem, predictions, labels)
    return {f"baseline_{name}": reached[name] for name in ("log_loss", "accuracy", "rmse", "mae") if name in reached}


def _regression(predictions: Array, labels: Array) -> dict[str, float]:
    error = predictions - labels
    metrics = {"rmse": float(np.sqrt(np.mean(error**2))), "mae": float(np.mean(np.abs(error)))}
    spread = float(np.sum((labels - labels.mean()) ** 2))
    if spread > 0:
        metrics["r2"] = 1 - float(np.sum(error**2)) / spread
    return metrics


def _binary(predictions: Array, labels: Array) -> dict[str, float]:
    from sklearn.metrics import average_precision_score, brier_score_loss, log_loss, roc_auc_score

    metrics = {
        "log_loss": float(log_loss(labels, predictions, labels=[0, 1])),
        "accuracy": float(np.mean((predictions > 0.5) == (labels == 1))),
        "brier": float(brier_score_loss(labels, predictions, pos_label=1)),
    }
    if 0 < labels.sum() < len(labels):
        metrics["auc"] = float(roc_auc_score(labels, predictions))
        metrics["average_precision"] = float(average_precision_score(labels, predictions))
    return metrics


def _multiclass(problem: Problem, predictions: Array, labels: Array) -> dict[str, float]:
    from sklearn.metrics import log_loss, roc_auc_score

    classes = range(len(problem.labels))
    metrics = {
        "log_loss": float(log_loss(labels, predictions, labels=list(classes))),
        "accuracy": float(np.mean(predictions.argmax(axis=1) == labels)),
    }
    areas = [
        float(roc_auc_score(labels == c, predictions[:, c])) for c in classes if 0 < (labels == c).sum() < len(labels)
    ]
    if len(areas) == len(problem.labels):
        metrics["auc"] = float(np.mean(areas))
    return metrics


def gather(parts: Iterable[tuple[Array, Array]]) -> tuple[Array, Array]:
    """Predictions and labels of all shards, one after the other."""
    pairs = list(parts)
    return np.concatenate([p for p, _ in pairs]), np.concatenate([y for _, y in pairs])

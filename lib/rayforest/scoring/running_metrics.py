"""Metrics over shards without the rows: small sums that merge.

Log loss, accuracy and errors are sums. The area under the ROC curve comes from counts of the raw score in buckets 1/64
of a logit wide; two rows in one bucket count as a tie, so the area is an
approximation; tests hold it to the exact one.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from rayforest.training.problem import Problem

Array = npt.NDArray[np.float64]

BUCKETS_A_LOGIT = 64
_LARGEST_LOGIT = 40
_LARGEST_BUCKET = _LARGEST_LOGIT * BUCKETS_A_LOGIT


@dataclass
class RunningMetrics:
    """Sums over the rows whose target is known."""

    rows: int = 0
    sums: Counter[str] = field(default_factory=Counter)
    curves: dict[int, dict[int, list[int]]] = field(default_factory=dict)
    """For each class: bucket of its score -> [rows of other classes, rows of this class]."""
    threshold: float = 0.5
    """Of a binary problem: the positive class where the probability is above it."""

    def update(self, problem: Problem, predictions: Array, labels: Array) -> None:
        """Add rows: predictions as `evaluate` takes them, labels encoded, NaN where unknown."""
        known = ~np.isnan(labels)
        predictions, labels = predictions[known], labels[known]
        self.rows += len(labels)
        if not len(labels):
            return
        if problem.kind == "regression":
            error = predictions - labels
            self._add(squared_error=float(error @ error), absolute_error=float(np.abs(error).sum()))
            return
        if problem.kind == "binary":
            positive = labels == 1
            right = (predictions > self.threshold) == positive
            own = np.where(positive, predictions, 1 - predictions)
            self._count(1, predictions, positive)
        else:
            right = predictions.argmax(axis=1) == labels
            own = predictions[np.arange(len(labels)), labels.astype(np.int64)]
            for label in range(len(problem.labels)):
                self._count(label, predictions[:, label], labels == label)
        own = np.clip(own, np.finfo(np.float64).eps, 1.0)
        self._add(right=float(right.sum()), log_loss=float(-np.log(own).sum()))

    def merge(self, other: RunningMetrics) -> None:
        """Add another shard's sums."""
        self.rows += other.rows
        self._add(**other.sums)
        for label, curve in other.curves.items():
            mine = self.curves.setdefault(label, {})
            for bucket, (without, within) in curve.items():
                counts = mine.setdefault(bucket, [0, 0])
                counts[0] += without
                counts[1] += within

    def metrics(self, problem: Problem) -> dict[str, float]:
        """The metrics of all rows so far; empty where no target was known."""
        if not self.rows:
            return {}
        if problem.kind == "regression":
            return {
                "rmse": math.sqrt(self.sums["squared_error"] / self.rows),
                "mae": self.sums["absolute_error"] / self.rows,
            }
        metrics = {"log_loss": self.sums["log_loss"] / self.rows, "accuracy": self.sums["right"] / self.rows}
        areas = [area for curve in self.curves.values() if (area := _area(curve)) is not None]
        if areas and len(areas) == len(self.curves):
            metrics["auc"] = float(np.mean(areas))
        return metrics

    def to_json(self) -> bytes:
        """JSON bytes for a sidecar."""
        curves = {
            str(label): [[bucket, *counts] for bucket, counts in sorted(curve.items())]
            for label, curve in self.curves.items()
        }
        return json.dumps({"rows": self.rows, "sums": dict(self.sums), "curves": curves}).encode()

    @classmethod
    def from_json(cls, text: bytes) -> RunningMetrics:
        """Read what `to_json` wrote."""
        table = json.loads(text)
        curves = {
            int(label): {bucket: [without, within] for bucket, without, within in curve}
            for label, curve in table["curves"].items()
        }
        return cls(table["rows"], Counter(table["sums"]), curves)

    def _add(self, **sums: float) -> None:
        for name, value in sums.items():
            self.sums[name] += value  # type: ignore[assignment]  # a Counter adds floats as well

    def _count(self, label: int, share: Array, within: npt.NDArray[np.bool_]) -> None:
        clipped = np.clip(share, 1e-300, 1 - 2**-53)
        logit = np.clip(np.log(clipped) - np.log1p(-clipped), -_LARGEST_LOGIT, _LARGEST_LOGIT)
        places = np.floor(logit * BUCKETS_A_LOGIT).astype(np.int64) + _LARGEST_BUCKET
        counts = np.bincount(places * 2 + within, minlength=2 * (2 * _LARGEST_BUCKET + 1)).reshape(-1, 2)
        curve = self.curves.setdefault(label, {})
        for place in np.flatnonzero(counts.any(axis=1)).tolist():
            without, inside = counts[place].tolist()
            both = curve.setdefault(place - _LARGEST_BUCKET, [0, 0])
            both[0] += without
            both[1] += inside


def _area(curve: dict[int, list[int]]) -> float | None:
    """Area under the ROC curve (Mann-Whitney U with ties as halves); None where only one class occurs."""
    below, wins = 0, 0.0
    positives = sum(within for _, within in curve.values())
    negatives = sum(without for without, _ in curve.values())
    if not positives or not negatives:
        return None
    for _, (without, within) in sorted(curve.items()):
        wins += within * (below + without / 2)
        below += without
    return wins / (positives * negatives)

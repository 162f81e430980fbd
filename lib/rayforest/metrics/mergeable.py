"""Metrics over shards without the rows: small sums that merge.

Log loss, accuracy and errors are sums. The area under the ROC curve comes from counts of the raw score in buckets 1/64
of a logit wide; two rows in one bucket count as a tie, so the area is an
approximation; tests hold it to the exact one.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from rayforest.formats import Document
from rayforest.metrics.exact import ONE_CLASS, Evaluation, losses, missing_classes
from rayforest.metrics.problem import UNSEEN, Problem

Array = npt.NDArray[np.float64]

BUCKETS_A_LOGIT = 64
_LARGEST_LOGIT = 40
_LARGEST_BUCKET = _LARGEST_LOGIT * BUCKETS_A_LOGIT


@dataclass
class RunningMetrics:
    """Sums over the rows whose target is known."""

    rows: int = 0
    unseen: int = 0
    """Rows whose label training never saw: of none of the classes, as `evaluate` counts them."""
    sums: Counter[str] = field(default_factory=Counter)
    curves: dict[int, dict[int, list[int]]] = field(default_factory=dict)
    """For each class: bucket of its score -> [rows of other classes, rows of this class]."""
    threshold: float = 0.5
    """Of a binary problem: the positive class where the probability is above it."""
    with_curves: bool = True
    """Whether scores are counted; without, there is no area, and many classes cost little."""

    def update(self, problem: Problem, predictions: Array, labels: Array) -> None:
        """Add rows: predictions as `evaluate` takes them, labels encoded, NaN where unknown."""
        known = ~np.isnan(labels)
        predictions, labels = predictions[known], labels[known]
        self.rows += len(labels)
        if not len(labels):
            return
        if problem.kind == "regression":
            with np.errstate(over="ignore", invalid="ignore"):
                error = predictions - labels
                self._add(squared_error=float(np.sum(error**2)), absolute_error=float(np.abs(error).sum()))
            return
        self.unseen += int((labels == UNSEEN).sum())
        if problem.kind == "binary":
            positive = labels == 1
            right = ((predictions > self.threshold) == positive) & (labels != UNSEEN)
            if self.with_curves:
                self._count(1, predictions, positive)
        else:
            right = predictions.argmax(axis=1) == labels
            for label in range(len(problem.labels) if self.with_curves else 0):
                self._count(label, predictions[:, label], labels == label)
        self._add(right=float(right.sum()), log_loss=float(losses(problem, predictions, labels).sum()))

    def merge(self, other: RunningMetrics) -> None:
        """Add another shard's sums."""
        self.rows += other.rows
        self.unseen += other.unseen
        self._add(**other.sums)
        for label, curve in other.curves.items():
            mine = self.curves.setdefault(label, {})
            for bucket, (without, within) in curve.items():
                counts = mine.setdefault(bucket, [0, 0])
                counts[0] += without
                counts[1] += within

    def metrics(self, problem: Problem) -> dict[str, float]:
        """The metrics of all rows so far; empty where no target was known."""
        return self.evaluation(problem).metrics

    def evaluation(self, problem: Problem) -> Evaluation:
        """The same, with the rows that they are of and the reasons of those that are missing."""
        if not self.rows:
            return Evaluation()
        if problem.kind == "regression":
            squared, absolute = self.sums["squared_error"] / self.rows, self.sums["absolute_error"] / self.rows
            return Evaluation.of({"rmse": math.sqrt(squared), "mae": absolute}, self.rows)
        areas = [area for curve in self.curves.values() if (area := _area(curve)) is not None]
        auc: float | str = float(np.mean(areas)) if areas and len(areas) == len(self.curves) else ONE_CLASS
        if isinstance(auc, str) and problem.kind == "multiclass":
            auc = missing_classes(len(areas), problem)
        found = {"log_loss": self.sums["log_loss"] / self.rows, "accuracy": self.sums["right"] / self.rows, "auc": auc}
        return Evaluation.of(found, self.rows, self.unseen)

    def average_precision(self) -> float | None:
        """Of a binary problem, ties as in the area; None where only one class occurs."""
        found, above, positives = 0.0, 0, 0
        for _, (without, within) in sorted(self.curves.get(1, {}).items(), reverse=True):
            above, positives = above + without + within, positives + within
            found += within * positives / above
        return found / positives if 0 < positives < above else None

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        curves = {
            str(label): [[bucket, *counts] for bucket, counts in sorted(curve.items())]
            for label, curve in self.curves.items()
        }
        return {"rows": self.rows, "unseen": self.unseen, "sums": dict(self.sums), "curves": curves}

    @classmethod
    def from_dict(cls, table: Mapping[str, Any]) -> RunningMetrics:
        """Read what `as_dict` gave."""
        curves = {
            int(label): {bucket: [without, within] for bucket, without, within in curve}
            for label, curve in table["curves"].items()
        }
        return cls(table["rows"], table["unseen"], Counter(table["sums"]), curves)

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


def scored_metrics(document: Document) -> dict[str, Any]:
    """metrics.json of scored tables: what was found under `metrics`, beside what there is to say of it."""
    return {"metrics": dict(document)} if document.version == 1 else dict(document.having(["metrics"]))


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

"""What `evaluate` and `baseline` find, but from sums over shards: held-out rows are in the memory of no process.

All are exact but the areas (auc, average_precision), which are to within a bucket of scores; see `mergeable`. There is
no median of the training rows without the rows, and so no `baseline_mae`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from rayforest.metrics.exact import ONE_CLASS, SMALLEST_PROBABILITY, Evaluation
from rayforest.metrics.mergeable import RunningMetrics
from rayforest.metrics.problem import UNSEEN, Problem

Array = npt.NDArray[np.float64]


@dataclass
class Moments:
    """Mean and spread of quantities, merged without loss (Chan, Golub, LeVeque: "Updating Formulae and a Pairwise
    Algorithm for Computing Sample Variances", 1979).
    """

    rows: int = 0
    mean: float = 0.0
    squares: float = 0.0
    """Sum of the squared distances from the mean."""

    @classmethod
    def of(cls, values: Array) -> Moments:
        """Those of float64 [rows]."""
        if not len(values):
            return cls()
        with np.errstate(over="ignore", invalid="ignore"):
            mean = float(values.mean())
            return cls(len(values), mean, float(np.sum((values - mean) ** 2)))

    def merge(self, other: Moments) -> None:
        """Add those of other rows."""
        rows = self.rows + other.rows
        if not other.rows:
            return
        apart = other.mean - self.mean
        self.mean += apart * other.rows / rows
        self.squares += other.squares + apart**2 * self.rows * other.rows / rows
        self.rows = rows


@dataclass
class HeldOut:
    """Sums over the held-out rows of some shards, and over the labels of their training rows."""

    running: RunningMetrics = field(default_factory=RunningMetrics)
    brier: float = 0.0
    """Sum over the rows, of a binary problem."""
    classes: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    """Held-out rows by class number."""
    quantities: Moments = field(default_factory=Moments)
    training_classes: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    training_quantities: Moments = field(default_factory=Moments)

    @classmethod
    def of(cls, problem: Problem, predictions: Array, labels: Array, training: Array) -> HeldOut:
        """Those of one shard.

        Args:
            problem: says what predictions and labels are.
            predictions: of the held-out rows, as `evaluate` takes them.
            labels: of the held-out rows, encoded; `UNSEEN` where training never saw the label.
            training: labels of the training rows, encoded.
        """
        found = cls()
        found.running.update(problem, predictions, labels)
        if problem.kind == "regression":
            found.quantities, found.training_quantities = Moments.of(labels), Moments.of(training)
            return found
        found.classes, found.training_classes = (_counts(problem, values) for values in (labels, training))
        if problem.kind == "binary" and len(labels):
            unseen = (predictions**2 + (1 - predictions) ** 2 + 1) / 2
            found.brier = float(np.where(labels == UNSEEN, unseen, (predictions - labels) ** 2).sum())
        return found

    def merge(self, other: HeldOut) -> None:
        """Add those of other shards."""
        self.running.merge(other.running)
        self.brier += other.brier
        self.quantities.merge(other.quantities)
        self.training_quantities.merge(other.training_quantities)
        self.classes = _added(self.classes, other.classes)
        self.training_classes = _added(self.training_classes, other.training_classes)

    def evaluation(self, problem: Problem) -> Evaluation:
        """What `evaluate` finds for all held-out rows."""
        found = self.running.evaluation(problem)
        metrics, undefined, rows = dict(found.metrics), dict(found.undefined), self.running.rows
        if not rows:
            return found
        if problem.kind == "regression":
            if self.quantities.squares > 0:
                metrics["r2"] = 1 - self.running.sums["squared_error"] / self.quantities.squares
            else:
                undefined["r2"] = "one row only" if rows == 1 else "the target is the same in all of these rows"
        elif problem.kind == "binary":
            metrics["brier"] = self.brier / rows
            precision = self.running.average_precision()
            if precision is None:
                undefined["average_precision"] = ONE_CLASS
            else:
                metrics["average_precision"] = precision
        return Evaluation(metrics, undefined, rows, self.running.unseen)

    def baseline(self, problem: Problem) -> dict[str, float]:
        """What `baseline` finds, `baseline_mae` left out."""
        rows = self.running.rows
        if not rows:
            return {}
        if problem.kind == "regression":
            apart = self.quantities.mean - self.training_quantities.mean
            found = math.sqrt(self.quantities.squares / rows + apart**2)
            return {"baseline_rmse": found} if math.isfinite(found) else {}
        shares = self.training_classes / self.training_classes.sum()
        likeliest = int(shares[1] > 0.5) if problem.kind == "binary" else int(shares.argmax())
        lost = -np.log(np.clip(shares, SMALLEST_PROBABILITY, 1.0)) @ self.classes
        lost -= self.running.unseen * math.log(SMALLEST_PROBABILITY)
        return {"baseline_log_loss": float(lost / rows), "baseline_accuracy": float(self.classes[likeliest] / rows)}


def _counts(problem: Problem, labels: Array) -> npt.NDArray[np.int64]:
    return np.bincount(labels[labels != UNSEEN].astype(np.int64), minlength=len(problem.labels))


def _added(mine: npt.NDArray[np.int64], others: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    return mine + others if len(mine) and len(others) else mine if len(mine) else others

"""What is learned of the scored rows, shard by shard, and what a user is told of it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from rayforest.bundle.known_parts import KNOWN_PARTS, UNKNOWN, measured
from rayforest.formats import Document
from rayforest.metrics.exact import Evaluation
from rayforest.metrics.mergeable import RunningMetrics
from rayforest.metrics.problem import Problem

Array = npt.NDArray[np.float64]


@dataclass
class Totals:
    """Sums over scored rows, which merge."""

    threshold: float = 0.5
    rows: Counter[str] = field(default_factory=Counter)
    """By part; without any where no part is known."""
    metrics: dict[str, RunningMetrics] = field(default_factory=dict)
    """Of the rows with a target, by part."""
    unseen_categories: Counter[str] = field(default_factory=Counter)
    """Rows by feature: those whose category training never saw."""
    unreadable_targets: int = 0
    """Rows whose target is there and no quantity."""

    def add(self, problem: Problem, parts: pl.Series | str, predictions: Array, labels: Array | None) -> None:
        """Add scored rows.

        Args:
            problem: what the model predicts.
            parts: of each row, null where it is not known; or the one that all have.
            predictions: as `evaluate` takes them.
            labels: encoded, NaN where unknown; None where the rows have no target.
        """
        if isinstance(parts, str):
            groups = [(parts, np.ones(len(predictions), bool))]
        else:
            named = parts.fill_null(UNKNOWN)
            groups = [(part, (named == part).to_numpy()) for part in named.unique(maintain_order=True)]
        for part, rows in groups:
            self.rows[part] += int(rows.sum())
            if labels is not None and not np.isnan(labels[rows]).all():
                self.of_part(part).update(problem, predictions[rows], labels[rows])

    def of_part(self, part: str) -> RunningMetrics:
        """The metric sums of a part."""
        return self.metrics.setdefault(part, RunningMetrics(threshold=self.threshold))

    def merge(self, other: Totals) -> None:
        """Add another shard's sums."""
        self.rows.update(other.rows)
        self.unseen_categories.update(other.unseen_categories)
        self.unreadable_targets += other.unreadable_targets
        for part, metrics in other.metrics.items():
            self.of_part(part).merge(metrics)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for a sidecar."""
        table: dict[str, Any] = {
            "rows": dict(self.rows),
            "metrics": {part: metrics.as_dict() for part, metrics in self.metrics.items()},
            "unseen_categories": dict(self.unseen_categories),
        }
        if self.unreadable_targets:
            table["unreadable_targets"] = self.unreadable_targets
        return table

    @classmethod
    def from_document(cls, table: Document) -> Totals:
        """Read a sidecar."""
        if "metrics" not in table:  # of the first release: the sums of all rows, without their parts
            sums = RunningMetrics.from_dict({"unseen": 0, **table})
            return cls(rows=Counter({UNKNOWN: sums.rows}), metrics={UNKNOWN: sums})
        return cls(
            rows=Counter(table["rows"]),
            metrics={part: RunningMetrics.from_dict(sums) for part, sums in table["metrics"].items()},
            unseen_categories=Counter(table["unseen_categories"]),
            unreadable_targets=table.get("unreadable_targets", 0),
        )

    def document(self, problem: Problem, not_known: str) -> dict[str, Any]:
        """Plain values for metrics.json: metrics of the rows that the model was not trained on, and those of each part.

        Args:
            problem: what the model predicts.
            not_known: why the parts of rows are not known, all rows being in one; '' where they are.
        """
        by_part = {part: self.metrics[part].evaluation(problem) for part in KNOWN_PARTS if part in self.metrics}
        of = [UNKNOWN] if not_known else measured(by_part)
        all_of = RunningMetrics(threshold=self.threshold)
        for part in of:
            if part in self.metrics:
                all_of.merge(self.metrics[part])
        found = all_of.evaluation(problem)
        table: dict[str, Any] = {"metrics": found.metrics}
        if by_part:
            table |= found.as_dict()
        if not not_known:
            table["rows_by_part"] = {part: self.rows[part] for part in KNOWN_PARTS if self.rows[part]}
            if by_part:
                table["metrics_of"] = of
                table["metrics_by_part"] = {part: e.metrics | e.as_dict() for part, e in by_part.items()}
        table["unseen_categories"] = dict(sorted(self.unseen_categories.items()))
        table["notes"] = _notes(by_part, of, not_known)
        if self.unreadable_targets:
            rows = "1 row has" if self.unreadable_targets == 1 else f"{self.unreadable_targets:,} rows have"
            table["notes"].append(f"{rows} a target that is no quantity: no metric counts them")
        return table


def _notes(by_part: dict[str, Evaluation], of: list[str], not_known: str) -> list[str]:
    if not by_part:
        return []
    if not_known:
        return [f"whether the model was trained on these rows is not known: {not_known}"]
    notes = []
    if not of:
        notes.append("every row with a known target is one that the model was trained on, or may have been")
    if UNKNOWN in by_part:
        notes.append(
            "unknown are rows of files that may be copies of what the model was trained on, and rows without a time"
        )
    return notes

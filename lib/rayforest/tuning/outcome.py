"""metrics.json of a tuned version: what was found, on which rows it was measured, and why some of it is missing.

The key `evaluated_on` names the part under which the metrics stand: "test", rows that the search never saw, or "valid",
rows that chose the model, where there are no test rows. A document without it was written by a release that said "test"
for both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from rayforest.formats import Document
from rayforest.metrics.exact import Evaluation
from rayforest.metrics.problem import Problem
from rayforest.stages.result import Facts
from rayforest.tuning.trial import TrialRecord

WHICH_ROWS = {"test": "test rows, which the search never saw", "valid": "validation rows, which chose the model"}


@dataclass(frozen=True)
class Outcome:
    """A finished search."""

    problem: Problem
    evaluated_on: Literal["test", "valid"]
    metrics: dict[str, float]
    """Of the best model on that part, beside the baselines."""
    of_rows: dict[str, Any]
    """How many rows these are, and which metrics they do not define: `Evaluation.as_dict`."""
    best: Mapping[str, Any]
    """trial, params, rounds, and the score that chose it by its name."""
    trials: int
    failed_trials: int = 0
    notes: Sequence[str] = field(default_factory=list)

    @classmethod
    def of(
        cls,
        problem: Problem,
        part: Literal["test", "valid"],
        found: Evaluation,
        baselines: Mapping[str, float],
        trials: Sequence[TrialRecord],
        best: TrialRecord,
        notes: Sequence[str],
    ) -> Outcome:
        """Put together what tune found."""
        return cls(
            problem,
            part,
            found.metrics | dict(baselines),
            found.as_dict(),
            {"trial": best.number, "params": best.params, "rounds": best.rounds, problem.score_name: best.score},
            len(trials),
            sum(trial.score is None for trial in trials),
            notes,
        )

    def as_dict(self) -> dict[str, Any]:
        """Plain values for metrics.json."""
        score = {self.problem.score_name: self.best[self.problem.score_name]}
        return {
            "problem": self.problem.as_dict(),
            "evaluated_on": self.evaluated_on,
            **({"test": self.metrics, "valid": score} if self.evaluated_on == "test" else {"valid": self.metrics}),
            f"of_{self.evaluated_on}": self.of_rows,
            "score": score,
            "notes": list(self.notes),
            "best_trial": self.best["trial"],
            "params": self.best["params"],
            "rounds": self.best["rounds"],
            "trials": self.trials,
            "failed_trials": self.failed_trials,
        }

    @classmethod
    def from_document(cls, table: Document) -> Outcome:
        """Read metrics.json, also that of earlier releases."""
        part = table.get("evaluated_on", "test")
        best = {"trial": table["best_trial"], "params": table["params"], "rounds": table["rounds"]}
        return cls(
            Problem.from_dict(table["problem"]),
            part,
            table[part],
            table.get(f"of_{part}", {}),
            best | table.get("score", table["valid"]),
            table["trials"],
            table.get("failed_trials", 0),
            table.get("notes", []),
        )

    def facts(self) -> TunedFacts:
        """What is told of it."""
        return TunedFacts(
            metrics=self.metrics,
            of_rows=self.of_rows,
            evaluated_on=self.evaluated_on,
            measured_on=WHICH_ROWS[self.evaluated_on],
            notes=list(self.notes),
            trials=self.trials,
            best=dict(self.best),
            failed_trials=self.failed_trials,
        )


@dataclass(frozen=True, kw_only=True)
class TunedFacts(Facts):
    """What came of a search; `metrics` are of the best model, beside baselines, on the part `evaluated_on`."""

    of_rows: dict[str, Any]
    """How many rows these are, and which metrics they do not define: `Evaluation.as_dict`."""
    evaluated_on: Literal["test", "valid"]
    measured_on: str
    """The same in words."""
    notes: list[str]
    trials: int
    best: dict[str, Any]
    """trial, params, rounds, and the score that chose it by its name."""
    failed_trials: int = 0

    def as_dict(self) -> dict[str, object]:
        """The stage's own keys of the JSON object of --json."""
        return {
            **self.of_rows,
            "evaluated_on": self.evaluated_on,
            "measured_on": self.measured_on,
            "notes": self.notes,
            "trials": self.trials,
            "best": self.best,
        } | ({"failed_trials": self.failed_trials} if self.failed_trials else {})

"""How a step is carried out, and what its result may be accepted by."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from rayforest.engine.manifest import Manifest
from rayforest.errors import UnfinishedError

_SHOWN_REASONS = 5


@dataclass(frozen=True, slots=True)
class Policy:
    """What a user may change between two runs of the same plan: no byte of a result depends on it."""

    retries: int = 3
    """Further attempts at a shard that failed, except where the user's input is at fault."""
    timeout_s: float | None = None
    """Seconds for one attempt; see `Executor.stream`."""
    error_budget: float | None = None
    """Quarantined rows that a step may have: a share of all planned rows if it is a float below 1, a count otherwise.
    Rows of earlier, interrupted runs count; None allows any number."""

    def judge(
        self, quarantined: int, *, planned: int, seen: int, reasons: Mapping[str, int], outcome: str = ""
    ) -> None:
        """Refuse more quarantined rows than the error budget allows.

        Args:
            quarantined: rows, of all runs of the plan.
            planned: rows of the plan.
            seen: rows read so far.
            reasons: rows by why they were quarantined.
            outcome: what the refusal means for the result.

        Raises:
            UnfinishedError: the budget is exceeded.
        """
        if self.error_budget is None:
            return
        share = isinstance(self.error_budget, float) and self.error_budget < 1
        allowed = self.error_budget * planned if share else self.error_budget
        if quarantined <= allowed:
            return
        shown = Counter(reasons).most_common(_SHOWN_REASONS)
        dominating = ", ".join(f"{reason} ({count:,})" for reason, count in shown)
        raise UnfinishedError(
            "more rows were quarantined than the error budget allows; " + (outcome or "nothing was published"),
            expected=f"at most {allowed:,.0f} of {planned:,} rows (error_budget = {self.error_budget:g})",
            found=f"{quarantined:,} of {seen:,} rows" + (" so far" if seen < planned else "") + f": {dominating}",
            next_step="correct the input or the rules, or allow more of them (data.on_bad_row, data.error_budget)",
        )

    def accept(self, manifest: Manifest) -> None:
        """Judge a published result by the same budget: it may have become tighter since.

        Raises:
            UnfinishedError: the budget is exceeded. The result stays as it is, for a run that allows it.
        """
        self.judge(
            manifest.rows_quarantined,
            planned=manifest.rows_in,
            seen=manifest.rows_in,
            reasons=manifest.reasons,
            outcome=f"the result that stands in {manifest.store.uri} was not changed",
        )

"""What a stage tells while it works and what it returns; the command line, Python callers and tests share it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from rayforest.engine.progress import Progress


class Reporter(Protocol):
    """Where a stage tells what it does. Texts never hold a value of a user's row."""

    quiet: bool
    """Whether what worker processes print is kept from the user's terminal."""

    def say(self, message: str) -> None:
        """One sentence for people."""

    def progress(self, step: str, progress: Progress) -> None:
        """How far a step over shards is."""


class Silent:
    """Tells nothing: the default of the Python API."""

    quiet = True

    def say(self, message: str) -> None:
        """Nothing."""

    def progress(self, step: str, progress: Progress) -> None:
        """Nothing."""


@dataclass(frozen=True)
class StageResult:
    """What a stage did."""

    command: str
    destination: str
    """Folder or URI."""
    seconds: float
    rows_in: int | None = None
    rows_out: int | None = None
    rows_quarantined: int | None = None
    shards: int | None = None
    resumed: bool = False
    """Whether all of it was already there."""
    metrics: dict[str, float] = field(default_factory=dict)
    reasons: dict[str, int] = field(default_factory=dict)
    """Quarantined rows by reason, the most frequent first."""
    details: dict[str, object] = field(default_factory=dict)
    """Further facts of this stage, for people and logs."""

    def as_dict(self) -> dict[str, object]:
        """The JSON object of --json."""
        fields = {
            "command": self.command,
            "destination": self.destination,
            "rows_in": self.rows_in,
            "rows_out": self.rows_out,
            "rows_quarantined": self.rows_quarantined,
            "shards": self.shards,
            "seconds": round(self.seconds, 3),
            "resumed": self.resumed,
        }
        table: dict[str, object] = {k: v for k, v in fields.items() if v is not None}
        if self.metrics:
            table["metrics"] = self.metrics
        if self.reasons:
            table["quarantine_reasons"] = self.reasons
        return table | self.details

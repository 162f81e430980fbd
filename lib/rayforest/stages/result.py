"""What a stage tells while it works and what it returns; the command line, Python callers and tests share it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

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


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What a stage tells of its result besides rows and shards; each stage has its own kind."""

    metrics: dict[str, float] = field(default_factory=dict)
    """By name; see the stage for the rows that they are measured on."""

    def as_dict(self) -> dict[str, object]:
        """The stage's own keys of the JSON object of --json."""
        return {}


FactsT_co = TypeVar("FactsT_co", bound=Facts, covariant=True)


@dataclass(frozen=True, kw_only=True)
class StageResult(Generic[FactsT_co]):
    """What a stage did."""

    command: str
    destination: str
    """Folder or URI."""
    seconds: float
    rows_in: int | None = None
    """Rows, in all shards; these four are None where a stage has no shards."""
    rows_out: int | None = None
    rows_quarantined: int | None = None
    shards: int | None = None
    resumed: bool = False
    """Whether all of it was already there."""
    reasons: dict[str, int] = field(default_factory=dict)
    """Quarantined rows by reason, the most frequent first."""
    facts: FactsT_co

    @property
    def metrics(self) -> dict[str, float]:
        """Metrics by name."""
        return self.facts.metrics

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
        return table | self.facts.as_dict()

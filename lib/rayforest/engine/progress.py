"""How far a step is, as numbers."""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class Progress:
    """A step at one moment. Rows and shards include those of earlier, interrupted runs."""

    step: str
    """The empty text is the main step."""
    shards: int
    done: int
    resumed: int
    """Of those done: finished before this run began."""
    failed: int
    """Shards that failed and wait for another attempt, or were set aside."""
    rows: int
    """In the plan."""
    rows_in: int
    rows_out: int
    rows_quarantined: int
    bytes_out: int
    seconds: float
    """Since this run of the step began."""
    rows_per_second: float
    """Of this run; 0 before its first shard."""
    seconds_left: float | None
    """At that pace; None before there is one."""

    @property
    def left(self) -> int:
        return self.shards - self.done

    def as_dict(self) -> dict[str, object]:
        """A JSON event."""
        return {"event": "progress", **asdict(self), "left": self.left}

    def __str__(self) -> str:
        """One line of a log."""
        parts = [f"{self.done:,} of {self.shards:,} shards", f"{self.rows_in:,} rows"]
        if self.rows_per_second:
            parts.append(f"{self.rows_per_second:,.0f} rows/s")
        if self.rows_quarantined:
            parts.append(f"{self.rows_quarantined:,} quarantined")
        if self.failed:
            parts.append(f"{self.failed:,} failed")
        if self.seconds_left is not None and self.left:
            parts.append(f"{_duration(self.seconds_left)} left")
        return (f"{self.step}: " if self.step else "") + ", ".join(parts)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"

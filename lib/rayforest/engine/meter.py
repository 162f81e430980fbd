"""What a run counts for Prometheus, by stage and project, and who counts it.

Counts are taken in the driver, from the record of each shard that this run finished: a shard that was tried three times
has one record, and one that another run finished has that run's name in it, so every row is counted once. There are no
labels of runs, shards or nodes: each new value of a label is a new series for ever.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from rayforest.engine.record import Record

LABELS = ("stage", "project")


@dataclass(frozen=True, slots=True)
class Measure:
    """A metric."""

    name: str
    """As the code has it; Ray exports it as `ray_` and this name."""
    what: str
    goes_down: bool = False
    """A gauge; others are counters, which begin at 0 with each driver."""


ROWS = Measure("rayforest_rows_total", "Rows of input that shards of the main step have accounted for")
QUARANTINED = Measure("rayforest_rows_quarantined_total", "Rows of these that were quarantined")
SHARDS = Measure("rayforest_shards_total", "Shards of the main step that came to their record")
BYTES = Measure("rayforest_bytes_total", "Bytes of data files that these shards have written")
SECONDS = Measure("rayforest_seconds_total", "Seconds that workers took for finished shards, of all steps")
FAILED = Measure("rayforest_attempts_failed_total", "Attempts at shards that failed, of all steps")
LEFT = Measure("rayforest_shards_left", "Shards of the main step that are not finished", goes_down=True)
MEASURES = (ROWS, QUARANTINED, SHARDS, BYTES, SECONDS, FAILED, LEFT)


class Meter(Protocol):
    """Where numbers go."""

    def add(self, measure: Measure, amount: float, labels: Mapping[str, str]) -> None:
        """Count on, by more than 0."""

    def set(self, measure: Measure, value: float, labels: Mapping[str, str]) -> None:
        """Say how it stands."""


class NoMeter:
    """Nobody asks."""

    def add(self, measure: Measure, amount: float, labels: Mapping[str, str]) -> None:
        """Nothing."""

    def set(self, measure: Measure, value: float, labels: Mapping[str, str]) -> None:
        """Nothing."""


@dataclass(frozen=True, slots=True)
class StepMeter:
    """Counts one step of a stage."""

    meter: Meter
    labels: Mapping[str, str]
    is_main: bool
    """The steps before it read the same rows."""

    def finished(self, record: Record, run: str) -> None:
        """A shard came to its record while a run worked on it; nothing is counted of what another run has done."""
        if record.work is None or record.work.run != run:
            return
        amounts = {SECONDS: record.work.seconds}
        if self.is_main:
            amounts |= {ROWS: record.rows_in, QUARANTINED: record.rows_quarantined, SHARDS: 1, BYTES: record.bytes}
        for measure, amount in amounts.items():
            if amount > 0:
                self.meter.add(measure, amount, self.labels)

    def failed(self) -> None:
        """An attempt failed."""
        self.meter.add(FAILED, 1, self.labels)

    def left(self, shards: int) -> None:
        """So many are to be done."""
        if self.is_main:
            self.meter.set(LEFT, shards, self.labels)

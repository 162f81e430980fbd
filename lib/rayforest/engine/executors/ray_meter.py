"""Metrics through Ray's own: each node's agent exports them for Prometheus, whether or not there is a dashboard."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rayforest.engine.meter import LABELS, Measure


class RayMeter:
    """Counters and gauges of the Ray that this process is connected to; for one connection.

    No histograms: Ray's agent keeps their buckets and makes up their sums from these.
    """

    def __init__(self) -> None:
        self._known: dict[Measure, Any] = {}

    def add(self, measure: Measure, amount: float, labels: Mapping[str, str]) -> None:
        """See `Meter`."""
        self._of(measure).inc(amount, dict(labels))

    def set(self, measure: Measure, value: float, labels: Mapping[str, str]) -> None:
        """See `Meter`."""
        self._of(measure).set(value, dict(labels))

    def _of(self, measure: Measure) -> Any:
        from ray.util.metrics import Counter, Gauge

        if measure not in self._known:
            kind = Gauge if measure.goes_down else Counter
            self._known[measure] = kind(measure.name, description=measure.what, tag_keys=LABELS)
        return self._known[measure]

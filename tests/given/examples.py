"""How many examples a generated test tries: few in the suite, and many times as many in `make fuzz`."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

TIMES = int(os.environ.get("RAYFOREST_EXAMPLES_TIMES", "1"))
"""Above 1 the examples are others in each run."""


def examples(count: int) -> settings:
    """So many, the same in every run, and no clock: a busy machine fails no test."""
    checks = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.filter_too_much]
    return settings(
        max_examples=count * TIMES,
        derandomize=TIMES == 1,
        deadline=None,
        database=None,
        suppress_health_check=[*checks, HealthCheck.data_too_large],
    )

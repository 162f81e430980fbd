"""What all areas share: one thread for the native libraries, and the place of the real data sets."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

# The same examples in every run, and no clock: a busy machine fails no test.
settings.register_profile("rayforest", derandomize=True, deadline=None, database=None)
settings.load_profile("rayforest")

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("POLARS_MAX_THREADS", "1")


def shared_data() -> Path | None:
    """The folder of real data sets: RAYFOREST_DATA, else `../shared/data` beside the checkout."""
    given = os.environ.get("RAYFOREST_DATA")
    folder = Path(given) if given else Path(__file__).parents[2] / "shared" / "data"
    return folder if folder.is_dir() else None


def shared_files(pattern: str) -> list[Path]:
    """Files of the real data sets, for parametrised tests; none where the data is absent."""
    folder = shared_data()
    return sorted(path for path in folder.glob(pattern) if path.is_file()) if folder else []


@pytest.fixture(autouse=True)
def _no_cluster_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """`auto` must not find a cluster that the user's shell names."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)

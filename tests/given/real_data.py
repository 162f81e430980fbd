"""Public data sets, which some tests read besides generated files, where they are present."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def shared_data() -> Path:
    """The folder of the data sets, which may not exist: RAYFOREST_DATA, else `../shared/data` beside the checkout."""
    beside = Path(__file__).parents[3] / "shared" / "data"
    return Path(os.environ.get("RAYFOREST_DATA") or beside)


def shared_files(pattern: str) -> list[Path]:
    """Files of the data sets, for parametrised tests; none where the data is absent."""
    return sorted(path for path in shared_data().glob(pattern) if path.is_file())


needs_shared_data = pytest.mark.skipif(
    not shared_data().is_dir(), reason="RAYFOREST_DATA names no folder of public data sets"
)

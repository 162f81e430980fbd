"""The real data sets, where they are present."""

from __future__ import annotations

import os
from pathlib import Path


def shared_data() -> Path | None:
    """The folder of real data sets: RAYFOREST_DATA, else `../shared/data` beside the checkout."""
    given = os.environ.get("RAYFOREST_DATA")
    folder = Path(given) if given else Path(__file__).parents[3] / "shared" / "data"
    return folder if folder.is_dir() else None


def shared_files(pattern: str) -> list[Path]:
    """Files of the real data sets, for parametrised tests; none where the data is absent."""
    folder = shared_data()
    return sorted(path for path in folder.glob(pattern) if path.is_file()) if folder else []

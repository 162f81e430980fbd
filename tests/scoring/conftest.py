"""One small project with a column of every type, run to its end once; the tests only read it."""

from __future__ import annotations

from pathlib import Path

import pytest
from stored_types import PROJECT, rows, write_rows

import rayforest


@pytest.fixture(scope="session")
def types_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project file; ROOT/bundle stands beside it."""
    folder = tmp_path_factory.mktemp("types")
    write_rows(folder / "raw", rows(900))
    path = folder / "project.toml"
    path.write_text(PROJECT, encoding="utf-8")
    for stage in (rayforest.prepare, rayforest.tune, rayforest.export):
        stage(path)
    return path
